/* SPDX-License-Identifier: MIT */
/*
 * Description: grammars that are hostile or large, counters, limits, and masks against every token.
 *
 * A mask must be what trying each token's bytes one by one gives, in each place of a text, and so
 * must it be where a walk takes short cuts: slices, counters far from their bounds, tokens longer than
 * the short trie's, memory that ran full.
 */
#include "tests/unit/grammar/grammar_rows.h"

#include <time.h>

#include "base/num.h"

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* a busy machine does not count */
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct program *gbnf(const char *text)
{
	struct program *p = NULL;
	struct err err = { 0 };

	if (grammar_gbnf(text, strlen(text), &p, &err))
		fail_msg("%.200s: %s", text, err.text);
	return p;
}

static struct program *regex(const char *text)
{
	struct program *p = NULL;
	struct err err = { 0 };

	if (grammar_regex(text, strlen(text), &p, &err))
		fail_msg("%.200s: %s", text, err.text);
	return p;
}

static struct program *schema(const char *text)
{
	struct json_object *o = parse_json(text);
	struct err err = { 0 };
	struct program *p = schema_program(o, true, 0, &err);

	json_object_put(o);
	return p;
}

/* ---- regular expressions ---- */

static void expressions(void **state)
{
	static const struct {
		const char *regex, *accepted, *rejected; /* each with blanks between */
	} rows[] = {
		{ "a|bc*", "a b bc bccc", "ab c bca" },
		{ "^(?:x|y){2,3}$", "xx yxy", "x xxxx xz" },
		{ "[^a-c]+?", "d xyz é", "a dxa" },
		{ "(?<year>\\d{4})-\\d\\d", "2026-11", "226-11 2026-1" },
		{ "\\w+@\\w+\\.(com|org)", "a_1@b.org", "a@b.net @b.com" },
		{ "[\\]\\-\\\\]+[a-]", "]-\\a --", "a ]" },
		{ "\\u00e9\\x41\\u{1F388}", "éA🎈", "eA" },
		{ "a{,3}", "a{,3}", "aaa" },
		{ ".é.", "aéa 🎈é🎈", "é aé" },
		{ "(a*)*b", "b aaab", "a ba" },
		/* what some dialects take for white space is neither \\S nor [^\\s] */
		{ "[^\\s]|\\S{2}", "a aé", "\u00a0 \u2003 a\u3000" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct program *p = regex(rows[i].regex);

		for (unsigned k = 0; k < 2; k++) {
			char *list = strdup(k ? rows[i].rejected : rows[i].accepted), *save;

			for (char *w = strtok_r(list, " ", &save); w;
			     w = strtok_r(NULL, " ", &save))
				if ((put_text(p, w, strlen(w)) == ACCEPTED) == k)
					fail_msg("%s %s %s", rows[i].regex,
						 k ? "accepts" : "rejects", w);
			free(list);
		}
		program_destroy(p);
	}
}

static void expressions_refused(void **state)
{
	static const struct {
		const char *regex;
		int rc;
	} rows[] = {
		{ "(a", -EINVAL },	{ "a)", -EINVAL },	 { "[a", -EINVAL },
		{ "*a", -EINVAL },	{ "a**", -EINVAL },	 { "a{3,2}", -EINVAL },
		{ "[b-a]", -EINVAL },	{ "\\", -EINVAL },	 { "\\q", -EINVAL },
		{ "\\xg0", -EINVAL },	{ "\xff", -EINVAL },	 { "(?=a)b", -ENOTSUP },
		{ "(a)\\1", -ENOTSUP }, { "\\bword", -ENOTSUP }, { "a^b", -ENOTSUP },
		{ "\\p{L}", -ENOTSUP }, { "(?i)a", -ENOTSUP },	 { "[]", -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct program *p = NULL;
		struct err err = { 0 };
		int rc = grammar_regex(rows[i].regex, strlen(rows[i].regex), &p, &err);

		if (rc != rows[i].rc || !err.text[0])
			fail_msg("%s: %d %s", rows[i].regex, rc, err.text);
	}
}

/* ---- limits ---- */

static char *repeated(const char *part, size_t n)
{
	size_t len = strlen(part);
	char *text = malloc(n * len + 1);

	for (size_t i = 0; i < n; i++)
		memcpy(text + i * len, part, len);
	text[n * len] = '\0';
	return text;
}

static void deep_texts_are_refused(void **state)
{
	static const char *const parts[] = { "(", "((a)", "[", "a|", "a?", "\\", "{", "a{9}" };
	double began = seconds();

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		char *text = repeated(parts[i], 60000), *rule = malloc(600000);
		struct program *p = NULL;
		struct err err = { 0 };

		sprintf(rule, "root ::= %s", text);
		grammar_regex(text, strlen(text), &p, &err);
		program_destroy(p);
		p = NULL;
		grammar_gbnf(rule, strlen(rule), &p, &err);
		program_destroy(p);
		free(text);
		free(rule);
	}
	assert_true(seconds() - began < 20.0);
}

/* 60,000 rules that lead to each other, in the worst order for who goes through them again. */
static void long_chains_of_rules(void **state)
{
	size_t n = 20000, at = 0;
	char *text = malloc(n * 64);
	struct program *p;
	double began = seconds();

	for (size_t i = 0; i < n; i++)
		at += (size_t)sprintf(text + at, "r%zu ::= \"x\"? r%zu\n", i * 7919 % n,
				      (i * 7919 % n) + 1);
	sprintf(text + at, "r%zu ::= \"end\"\nroot ::= r0\n", n);
	p = gbnf(text);
	assert_int_equal(put_text(p, "xxend", 5), ACCEPTED);
	program_destroy(p);
	free(text);
	assert_true(seconds() - began < 10.0);
}

static void counters_are_no_copies(void **state)
{
	struct program *p = schema("{\"type\": \"string\", \"maxLength\": 65536}");
	char *text = repeated("x", 65540);

	assert_true(p->n_code < 200);
	text[0] = text[65537] = '"';
	assert_int_equal(put_text(p, text, 65538), ACCEPTED);
	text[65537] = 'x';
	text[65538] = '"';
	assert_int_equal(put_text(p, text, 65539), REJECTED);
	free(text);
	program_destroy(p);
	p = gbnf("root ::= ([a-z]{2,900000} \"-\"){3,800000}");
	assert_true(p->n_code < 20);
	assert_int_equal(put_text(p, "abc-de-fgh-", 11), ACCEPTED);
	assert_int_equal(put_text(p, "abc-de-", 7), INCOMPLETE);
	assert_int_equal(put_text(p, "abc-d-", 6), REJECTED);
	program_destroy(p);
}

static void nesting_has_an_end(void **state)
{
	struct program *p = schema("{}");
	char *text = repeated("[", 60000);
	double began = seconds();

	assert_int_equal(put_text(p, text, 60000), REJECTED);
	assert_int_equal(put_text(p, text, 500), INCOMPLETE);
	assert_true(seconds() - began < 5.0);
	program_destroy(p);
	free(text);
}

static void large_schemas(void **state)
{
	static const char call[] = "{\"name\": \"tool_99\", \"arguments\": {\"path\": \"/\"}}";
	size_t at = 0;
	char *text = malloc(1 << 20);
	struct program *p;
	double began = seconds();

	/* a hundred tools, and descriptions with any text */
	at += (size_t)sprintf(text, "{\"anyOf\": [");
	for (unsigned i = 0; i < 100; i++)
		at += (size_t)sprintf(
			text + at,
			"%s{\"type\": \"object\", \"description\": \"\\\"*/ ::= [\\u0000(\", "
			"\"properties\": {\"name\": {\"const\": \"tool_%u\"}, \"arguments\": "
			"{\"type\": \"object\", \"properties\": {\"path\": {\"type\": \"string\"}, "
			"\"n\": {\"type\": \"integer\", \"minimum\": 0}, \"deep\": {\"type\": "
			"\"boolean\"}}, \"required\": [\"path\"], \"additionalProperties\": false}}, "
			"\"required\": [\"name\", \"arguments\"], \"additionalProperties\": false}",
			i ? ", " : "", i);
	sprintf(text + at, "]}");
	p = schema(text);
	assert_int_equal(put_text(p, call, strlen(call)), ACCEPTED);
	program_destroy(p);
	assert_true(seconds() - began < 2.0);
	p = schema("{\"type\": \"object\", \"properties\": {}, \"additionalProperties\": false}");
	assert_int_equal(put_text(p, "{}", 2), ACCEPTED);
	program_destroy(p);
	free(text);
}

/* Arms that multiply must come to an end soon. */
static void schemas_that_explode(void **state)
{
	char *text = malloc(1 << 16);
	struct json_object *o;
	struct err err = { 0 };
	size_t at = (size_t)sprintf(text, "{\"allOf\": [");
	double began = seconds();

	for (unsigned i = 0; i < 30; i++)
		at += (size_t)sprintf(
			text + at,
			"%s{\"anyOf\": [{\"properties\": {\"a%u\": {}}, \"minLength\": 1},"
			" {\"properties\": {\"b%u\": {}}}]}",
			i ? ", " : "", i, i);
	sprintf(text + at, "]}");
	o = parse_json(text);
	program_destroy(schema_program(o, true, 1, &err));
	json_object_put(o);
	free(text);
	assert_true(seconds() - began < 20.0);
}

/* Lists that are compared with each other, and arms that multiply what stands beside them. */
static void schemas_that_cost(void **state)
{
	size_t at = 0;
	char *text = malloc(4 << 20);
	struct json_object *o;
	struct err err = { 0 };
	double began = seconds();

	at += (size_t)sprintf(text, "{\"allOf\": [");
	for (unsigned k = 0; k < 2; k++) {
		at += (size_t)sprintf(text + at, "%s{\"enum\": [0", k ? ", " : "");
		for (unsigned i = 0; i < 40000; i++)
			at += (size_t)sprintf(text + at, ", %u", 2 * i + k + 1);
		at += (size_t)sprintf(text + at, "]}");
	}
	sprintf(text + at, "]}");
	o = parse_json(text);
	assert_null(schema_program(o, true, -E2BIG, &err));
	json_object_put(o);
	at = (size_t)sprintf(text, "{\"properties\": {\"x\": {}");
	for (unsigned i = 0; i < 5000; i++)
		at += (size_t)sprintf(text + at, ", \"p%u\": {}", i);
	at += (size_t)sprintf(text + at, "}, \"anyOf\": [{}");
	for (unsigned i = 0; i < 5000; i++)
		at += (size_t)sprintf(text + at, ", {\"minLength\": %u}", i);
	sprintf(text + at, "]}");
	o = parse_json(text);
	err_clear(&err);
	assert_null(schema_program(o, true, -E2BIG, &err));
	json_object_put(o);
	free(text);
	assert_true(seconds() - began < 20.0);
}

/* Digits behind a bound's come to an end, also where a bound has very many. */
static void fractions_end(void **state)
{
	struct program *p = schema("{\"type\": \"number\", \"exclusiveMinimum\": 0}");
	char *zeros = repeated("0", 200);

	memcpy(zeros, "0.", 2);
	assert_int_equal(put_text(p, zeros, 200), REJECTED);
	assert_int_equal(put_text(p, "0.001", 5), ACCEPTED);
	program_destroy(p);
	p = schema("{\"type\": \"number\", \"minimum\": 1.234567890123456789e-38}");
	assert_int_equal(put_text(p, "0.5", 3), ACCEPTED);
	assert_int_equal(put_text(p, "0.0", 3), INCOMPLETE);
	program_destroy(p);
	free(zeros);
}

static void ambiguous_grammars(void **state)
{
	struct program *p =
		gbnf("root ::= \"a\" root | \"a\" root \"b\" | \"a\" root \"b\" \"b\" | "
		     "\"\"");
	char *text = repeated("a", 5000);
	struct matcher *m;
	double began = seconds();

	assert_int_equal(put_text(p, text, 200), ACCEPTED);
	/* the stacks grow with the square of the text: an error in the end, and said */
	assert_int_equal(matcher_create(p, NULL, &m), 0);
	assert_int_equal(matcher_bytes(m, text, 5000), -E2BIG);
	matcher_destroy(m);
	program_destroy(p);
	free(text);
	assert_true(seconds() - began < 10.0);
}

/* ---- masks ---- */

struct words {
	char **words;
	uint32_t n, room;
};

static void add_word(struct words *w, const char *b, size_t n)
{
	for (uint32_t i = 0; i < w->n; i++)
		if (strlen(w->words[i]) == n && !memcmp(w->words[i], b, n))
			return;
	if (w->n == w->room) {
		w->room = w->room ? 2 * w->room : 256;
		w->words = realloc(w->words, w->room * sizeof(*w->words));
	}
	w->words[w->n++] = strndup(b, n);
}

static void get_word(void *arg, uint32_t id, struct vocab_token *ret)
{
	const struct words *w = arg;

	if (id == w->n) { /* behind the others: the end */
		*ret = (struct vocab_token){ (const uint8_t *)"<end>", 5, true, true };
		return;
	}
	ret->bytes = (const uint8_t *)w->words[id];
	ret->n = strlen(w->words[id]);
}

/* Every byte, and pieces of @text of up to 6 bytes, and some long ones. */
static struct vocab *make_vocab(struct words *w, const char *text)
{
	static const char *const more[] = {
		"the",
		" and",
		"é",
		"über",
		"日本",
		"🎈",
		"\", \"",
		"\":",
		"}]",
		"0123456789",
		"                                        ",
		"-----------------------------------",
		"a longer piece of text, of more than thirty bytes",
		"\n    ",
		"\\u00e9",
		"\\n",
	};
	struct vocab *v;
	size_t n = strlen(text);

	for (unsigned b = 1; b < 256; b++)
		add_word(w, (const char[]){ (char)b }, 1);
	for (size_t i = 0; i < ARRAY_LEN(more); i++)
		add_word(w, more[i], strlen(more[i]));
	for (size_t i = 0; i < n; i++)
		for (size_t k = 2; k <= 6 && i + k <= n; k++)
			add_word(w, text + i, k);
	assert_int_equal(vocab_create(w->n + 1, get_word, w, NULL, &v), 0);
	return v;
}

static void compare_mask(const struct program *p, struct matcher *m, const struct words *w,
			 const char *text, size_t at)
{
	const uint64_t *bits;
	struct matcher *one;

	assert_int_equal(matcher_mask(m, &bits), 0);
	assert_int_equal(matcher_create(p, NULL, &one), 0);
	for (uint32_t id = 0; id <= w->n; id++) {
		const char *b = id < w->n ? w->words[id] : "";
		bool want;

		matcher_begin(one);
		assert_int_equal(matcher_bytes(one, text, at), at);
		want = id < w->n ? (unsigned char)b[0] != VOCAB_CONTROL &&
					   matcher_bytes(one, b, strlen(b)) == (long)strlen(b)
				 : matcher_accepts(one);
		if (want != (bits[id / 64] >> id % 64 & 1))
			fail_msg("behind %zu bytes of %s: token '%s' should%s be allowed", at, text,
				 b, want ? "" : " not");
	}
	matcher_destroy(one);
}

static void check_masks(struct program *p, const char *text)
{
	struct words w = { 0 };
	struct vocab *v = make_vocab(&w, text);
	struct matcher *m;

	assert_int_equal(matcher_create(p, v, &m), 0);
	for (size_t i = 0;; i++) {
		compare_mask(p, m, &w, text, i);
		if (i == strlen(text))
			break;
		if (matcher_bytes(m, text + i, 1) != 1)
			fail_msg("%s: rejected at %zu", text, i);
	}
	matcher_destroy(m);
	vocab_destroy(v);
	for (uint32_t i = 0; i < w.n; i++)
		free(w.words[i]);
	free(w.words);
	program_destroy(p);
}

static void masks(void **state)
{
	check_masks(gbnf("root ::= [a-z]+ (\" \" [a-z]+){0,3} \".\""), "some words.");
	check_masks(gbnf("root ::= [^<]* \"</end>\""), "a 🎈 é ! text</end>");
	check_masks(gbnf("root ::= . . .?"), "é🎈a");
	check_masks(gbnf("root ::= (.{3})* \"x\""), "abcüx");
	check_masks(regex("([0-9]{1,3}\\.){3}[0-9]{1,3}"), "10.255.0.1");
	check_masks(
		schema("{\"type\": \"object\", \"properties\": {\"name\": {\"type\": "
		       "\"string\"}, \"n\": {\"type\": [\"integer\", \"null\"]}}, \"required\": "
		       "[\"name\"], \"additionalProperties\": false}"),
		"{\"name\": \"Zoë \\u00e9\\n\", \"n\": -12}");
	check_masks(schema("{}"), "{\"a\": [1.5e3, true, \"x\\\"y\"],\n    \"b\": {}}");
}

static void masks_of_counted_strings(void **state)
{
	check_masks(schema("{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 7}"),
		    "\"ab é c\"");
	check_masks(schema("{\"type\": \"string\", \"minLength\": 60, \"maxLength\": 70}"),
		    "\"a longer piece of text, of more than thirty bytes, and some more of it\"");
	check_masks(schema("{\"type\": \"string\", \"maxLength\": 90}"),
		    "\"the end of this text is near, and nearer with each of its characters\"");
	check_masks(schema("{\"type\": \"array\", \"items\": {\"enum\": [0, 1]}, \"minItems\": 36, "
			   "\"maxItems\": 40}"),
		    "[0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1]");
}

/* A text so long that states are forgotten, and found again, on the way. */
static void memory_is_bounded(void **state)
{
	struct program *p =
		schema("{\"type\": \"string\", \"minLength\": 10, \"maxLength\": 90000}");
	char *text = repeated("some text ", 6000);
	struct words w = { 0 };
	struct vocab *v = make_vocab(&w, "some text");
	struct matcher_counts counts;
	const uint64_t *bits;
	struct matcher *m;

	text[0] = '"';
	assert_int_equal(matcher_create(p, v, &m), 0);
	for (size_t i = 0; i + 60 < 60000; i += 60) {
		assert_int_equal(matcher_bytes(m, text + i, 60), 60);
		assert_int_equal(matcher_mask(m, &bits), 0);
		assert_int_equal(bits['"' / 64] >> ('"' - 1) % 64 & 1, 1);
	}
	matcher_get_counts(m, &counts);
	assert_true(counts.collections > 0 && counts.masks_cached > 500);
	matcher_destroy(m);
	vocab_destroy(v);
	for (uint32_t i = 0; i < w.n; i++)
		free(w.words[i]);
	free(w.words);
	free(text);
	program_destroy(p);
}

static void tokens(void **state)
{
	struct program *p = gbnf("root ::= \"ab\" \"c\"?");
	struct words w = { 0 };
	struct vocab *v = make_vocab(&w, "abc");
	struct matcher *m;

	assert_int_equal(matcher_create(p, v, &m), 0);
	assert_int_equal(matcher_token(m, 'b' - 1), -EINVAL);
	assert_int_equal(matcher_token(m, 'a' - 1), 0);
	assert_int_equal(matcher_token(m, w.n), -EINVAL); /* the end: not yet */
	assert_int_equal(matcher_token(m, 'a' - 1), -EINVAL);
	assert_int_equal(matcher_token(m, 'b' - 1), 0);
	assert_true(matcher_accepts(m) && !matcher_ended(m));
	assert_int_equal(matcher_token(m, w.n), 1);
	assert_int_equal(matcher_token(m, 'c' - 1), 0);
	assert_true(matcher_ended(m));
	matcher_destroy(m);
	vocab_destroy(v);
	for (uint32_t i = 0; i < w.n; i++)
		free(w.words[i]);
	free(w.words);
	program_destroy(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expressions),
		cmocka_unit_test(expressions_refused),
		cmocka_unit_test(deep_texts_are_refused),
		cmocka_unit_test(long_chains_of_rules),
		cmocka_unit_test(counters_are_no_copies),
		cmocka_unit_test(nesting_has_an_end),
		cmocka_unit_test(large_schemas),
		cmocka_unit_test(schemas_that_explode),
		cmocka_unit_test(schemas_that_cost),
		cmocka_unit_test(fractions_end),
		cmocka_unit_test(ambiguous_grammars),
		cmocka_unit_test(masks),
		cmocka_unit_test(masks_of_counted_strings),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
