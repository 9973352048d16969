/* SPDX-License-Identifier: MIT */
/* Description: what requests of the same form share: nothing compiled twice, masks as before, bounds, threads. */
#include "tests/unit/grammar/grammar_rows.h"

#include <pthread.h>

#include "base/num.h"
#include "grammar/constraint.h"
#include "grammar/form_cache.h"

#define N_VOCAB 257 /* one token a byte, and the end */

static void get_token(void *arg, uint32_t id, struct vocab_token *ret)
{
	static uint8_t bytes[256];

	if (id < 256) {
		bytes[id] = (uint8_t)id;
		*ret = (struct vocab_token){ &bytes[id], 1, false, false };
	} else {
		*ret = (struct vocab_token){ (const uint8_t *)"<eos>", 5, true, true };
	}
}

static struct vocab *vocab;

static int make_vocabulary(void **state)
{
	return vocab_create(N_VOCAB, get_token, NULL, NULL, &vocab);
}

static int drop_vocabulary(void **state)
{
	vocab_destroy(vocab);
	return 0;
}

static struct form_cache *cache_of(size_t max_bytes)
{
	struct form_cache *f;

	assert_int_equal(form_cache_create(max_bytes, &f), 0);
	return f;
}

static struct constraint *get(struct form_cache *f, uint64_t tenant,
			      const struct constraint_ask *ask)
{
	struct constraint *c;
	struct err err = { 0 };

	if (form_cache_get(f, tenant, ask, vocab, &c, &err))
		fail_msg("%s", err.text);
	return c;
}

/* Writes @text; the masks on the way, and at its end, go to @masks where that is not NULL. */
static void write_text(struct matcher *m, const char *text, uint64_t (*masks)[5], bool same)
{
	for (size_t i = 0;; i++) {
		const uint64_t *bits;

		assert_int_equal(matcher_mask(m, &bits), 0);
		if (masks && same)
			assert_memory_equal(masks[i], bits, sizeof(masks[i]));
		else if (masks)
			memcpy(masks[i], bits, sizeof(masks[i]));
		if (!text[i])
			return;
		assert_int_equal(matcher_token(m, (unsigned char)text[i]), 0);
	}
}

static void every_byte_counts(void **state)
{
	struct json_object *schema = parse_json("{\"type\": \"integer\", \"maximum\": 5}"),
			   *other = parse_json("{\"type\": \"integer\", \"maximum\": 6}"),
			   *tools = parse_json("[{\"name\": \"a\"}, {\"name\": \"b\"}]");
	const struct constraint_ask asks[] = {
		{ .form = FORM_SCHEMA, .schema = schema, .call_form = CALL_UNKNOWN },
		{ .form = FORM_SCHEMA, .schema = other, .call_form = CALL_UNKNOWN },
		{ .form = FORM_SCHEMA,
		  .schema = schema,
		  .strict = true,
		  .call_form = CALL_UNKNOWN },
		{ .form = FORM_SCHEMA,
		  .schema = schema,
		  .before = BEFORE_THINKING,
		  .call_form = CALL_UNKNOWN },
		{ .form = FORM_SCHEMA, .schema = schema, .call_form = CALL_HERMES },
		{ .form = FORM_SCHEMA, .schema = schema, .tools = tools },
		{ .form = FORM_REGEX, .text = "a", .n = 1 },
		{ .form = FORM_REGEX, .text = "a|b", .n = 3 },
		{ .form = FORM_GBNF, .text = "root ::= \"a\"", .n = 12 },
		{ .form = FORM_OBJECT },
		{ .form = FORM_CALLS, .tools = tools },
		{ .form = FORM_CALLS, .tools = tools, .one_call = true },
		{ .form = FORM_CALLS, .tools = tools, .only = "a" },
		{ .form = FORM_CALLS, .tools = tools, .only = "b" },
	};
	struct form_cache *f = cache_of(1 << 20);
	struct constraint *all[2 * ARRAY_LEN(asks)];
	struct form_cache_counts n;

	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		all[i] = get(f, i / ARRAY_LEN(asks), &asks[i % ARRAY_LEN(asks)]);
		for (unsigned k = 0; k < i; k++)
			assert_ptr_not_equal(all[i], all[k]);
	}
	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		struct constraint *again = get(f, i / ARRAY_LEN(asks), &asks[i % ARRAY_LEN(asks)]);

		assert_ptr_equal(again, all[i]);
		constraint_put(again);
		constraint_put(all[i]);
	}
	form_cache_get_counts(f, &n);
	assert_int_equal(n.compiled, ARRAY_LEN(all));
	assert_int_equal(n.found, ARRAY_LEN(all));
	assert_int_equal(n.forms, ARRAY_LEN(all));
	form_cache_destroy(f);
	json_object_put(schema);
	json_object_put(other);
	json_object_put(tools);
}

static void refused_forms(void **state)
{
	const struct constraint_ask ask = { .form = FORM_REGEX, .text = "(", .n = 1 };
	struct form_cache *f = cache_of(1 << 20);
	struct form_cache_counts n;

	for (unsigned i = 0; i < 2; i++) {
		struct constraint *c;
		struct err err = { 0 };

		assert_int_equal(form_cache_get(f, 0, &ask, vocab, &c, &err), -EINVAL);
		assert_true(err.text[0]);
	}
	form_cache_get_counts(f, &n);
	assert_int_equal(n.compiled + n.found + n.forms + n.bytes, 0);
	form_cache_destroy(f);
}

static void masks_are_there(void **state)
{
	static const char text[] =
		"{\"name\": \"Zoe of the seven rivers\", \"tags\": [\"a\", \"b\"]}";
	struct json_object *schema = parse_json(
		"{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\", \"maxLength\": "
		"40}, \"tags\": {\"type\": \"array\", \"items\": {\"type\": \"string\"}}}, \"required\": "
		"[\"name\", \"tags\"]}");
	const struct constraint_ask ask = { .form = FORM_SCHEMA, .schema = schema };
	struct form_cache *f = cache_of(8 << 20);
	uint64_t masks[sizeof(text)][5];
	struct form_cache_counts n, before;

	for (unsigned i = 0; i < 3; i++) {
		struct constraint *c = get(f, 0, &ask);
		struct matcher *m, *beside;

		assert_int_equal(form_cache_matcher(f, c, &m), 0);
		write_text(m, text, masks, i);
		form_cache_get_counts(f, &before);
		assert_int_equal(before.matchers, 0);
		form_cache_give_back(f, c, m);
		form_cache_get_counts(f, &n);
		assert_int_equal(n.matchers, 1);
		assert_int_equal(n.masks - before.masks, sizeof(text));
		if (i)
			assert_int_equal(n.masks_cached - before.masks_cached, sizeof(text));
		/* in the midst of a text */
		assert_int_equal(form_cache_matcher(f, c, &m), 0);
		write_text(m, "{\"name\": \"Z\\u0", NULL, false);
		assert_int_equal(form_cache_matcher(f, c, &beside), 0);
		write_text(beside, text, masks, true);
		matcher_destroy(beside);
		form_cache_give_back(f, c, m);
		constraint_put(c);
	}
	assert_int_equal(n.compiled, 1);
	form_cache_destroy(f);
	json_object_put(schema);
}

/* A matcher that forgot its first state begins again, and one that an error ended does not. */
static void what_is_no_use(void **state)
{
	static const char ambiguous[] =
		"root ::= \"a\" root | \"a\" root \"b\" | \"a\" root \"b\" \"b\" | \"\"";
	const struct constraint_ask counted = { .form = FORM_REGEX,
						.text = ".{10,90000}",
						.n = 11 },
				    bad = { .form = FORM_GBNF,
					    .text = ambiguous,
					    .n = sizeof(ambiguous) - 1 };
	struct form_cache *f = cache_of(1 << 30); /* it has touched all of its memory */
	struct constraint *c = get(f, 0, &counted);
	struct form_cache_counts n;
	struct matcher *m;
	uint64_t masks[4][5];
	char text[30001];
	int rc = 0;

	memset(text, 'a', 30000);
	text[30000] = '\0';
	assert_int_equal(form_cache_matcher(f, c, &m), 0);
	write_text(m, "abc", masks, false);
	write_text(m, text, NULL, false);
	form_cache_give_back(f, c, m);
	form_cache_get_counts(f, &n);
	assert_int_equal(n.matchers, 1);
	assert_int_equal(form_cache_matcher(f, c, &m), 0);
	write_text(m, "abc", masks, true);
	form_cache_give_back(f, c, m);
	constraint_put(c);
	c = get(f, 0, &bad);
	assert_int_equal(form_cache_matcher(f, c, &m), 0);
	for (unsigned i = 0; i < 5000 && !rc; i++)
		rc = matcher_token(m, 'a');
	assert_int_equal(rc, -E2BIG);
	form_cache_give_back(f, c, m);
	constraint_put(c);
	form_cache_get_counts(f, &n);
	assert_int_equal(n.matchers, 1);
	form_cache_destroy(f);
}

/* Forms without end: the bound holds, and what others hold lives on. */
static void many_forms(void **state)
{
	const size_t bound = 3 << 20;
	struct form_cache *f = cache_of(bound);
	struct constraint *first = NULL;
	struct form_cache_counts n;
	struct matcher *m, *of_first = NULL;
	bool shrunk = false;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < 1500; i++) {
		char text[64];
		size_t len = (size_t)snprintf(text, sizeof(text), "[a-c]{%u}(x|y{1,%u})", 1 + i % 7,
					      i + 1);
		const struct constraint_ask ask = { .form = FORM_REGEX, .text = text, .n = len };
		struct constraint *c = get(f, i % 3, &ask);

		if (!i) {
			first = constraint_hold(c);
			assert_int_equal(form_cache_matcher(f, c, &of_first), 0);
		} else if (i % 3) {
			assert_int_equal(form_cache_matcher(f, c, &m), 0);
			write_text(m, "a", NULL, false);
			form_cache_give_back(f, c, m);
		}
		constraint_put(c);
		form_cache_get_counts(f, &n);
		assert_true(n.bytes <= bound && n.forms <= FORM_CACHE_FORMS);
		shrunk |= n.bytes < bytes;
		bytes = n.bytes;
	}
	assert_true(shrunk);
	write_text(of_first, "ax", NULL, false);
	form_cache_give_back(f, first, of_first); /* its form is kept no longer: nor is it */
	assert_int_equal(constraint_matcher(first, &m), 0);
	form_cache_destroy(f);
	write_text(m, "ay", NULL, false);
	matcher_destroy(m);
	constraint_put(first);
}

/* A form that is larger than the bound is made all the same, and not kept. */
static void too_large(void **state)
{
	const struct constraint_ask ask = { .form = FORM_REGEX, .text = "(abc|abd)+", .n = 10 };
	struct form_cache *f = cache_of(64);
	struct constraint *c = get(f, 0, &ask);
	struct form_cache_counts n;
	struct matcher *m;

	assert_int_equal(form_cache_matcher(f, c, &m), 0);
	write_text(m, "abcabd", NULL, false);
	form_cache_give_back(f, c, m);
	form_cache_get_counts(f, &n);
	assert_int_equal(n.bytes + n.forms + n.matchers, 0);
	constraint_put(c);
	form_cache_destroy(f);
}

/* "|", of @n words of their own. */
static char *many_words(unsigned n)
{
	char *text = malloc(n * 8 + 1), *at = text;

	for (unsigned i = 0; i < n; i++)
		at += sprintf(at, "%s%06u", i ? "|" : "", i * 7919 % 1000000);
	return text;
}

static bool is_kept(struct form_cache *f, uint64_t tenant, const char *text)
{
	const struct constraint_ask ask = { .form = FORM_REGEX, .text = text, .n = strlen(text) };
	struct form_cache_counts before, after;

	form_cache_get_counts(f, &before);
	constraint_put(get(f, tenant, &ask));
	form_cache_get_counts(f, &after);
	return after.found != before.found;
}

/* Neither one large form, nor many small ones, nor warm matchers of one tenant cost another its own. */
static void tenants(void **state)
{
	const char small[] = "(yes|no)!", other[] = "[a-z]{1,40}";
	const struct constraint_ask ask = { .form = FORM_REGEX,
					    .text = other,
					    .n = sizeof(other) - 1 };
	struct form_cache *f = cache_of(8 << 20);
	char *large = many_words(40000);
	struct form_cache_counts n;
	struct matcher *all[FORM_CACHE_IDLE];
	struct constraint *c;

	assert_false(is_kept(f, 1, small));
	assert_false(is_kept(f, 2, large));
	assert_false(is_kept(f, 2, large)); /* more than a share */
	assert_true(is_kept(f, 1, small));
	for (unsigned i = 0; i < 2 * FORM_CACHE_FORMS; i++) {
		char text[32];

		snprintf(text, sizeof(text), "tiny%u", i);
		assert_false(is_kept(f, 2, text));
	}
	form_cache_get_counts(f, &n);
	assert_int_equal(n.forms, FORM_CACHE_FORMS);
	assert_true(is_kept(f, 1, small));
	assert_true(is_kept(f, 2, "tiny511"));
	assert_false(is_kept(f, 2, "tiny0"));
	c = get(f, 2, &ask);
	for (unsigned i = 0; i < FORM_CACHE_IDLE; i++)
		assert_int_equal(form_cache_matcher(f, c, &all[i]), 0);
	for (unsigned i = 0; i < FORM_CACHE_IDLE; i++) {
		write_text(all[i], "abc", NULL, false);
		form_cache_give_back(f, c, all[i]);
	}
	form_cache_get_counts(f, &n);
	assert_int_equal(n.forms, FORM_CACHE_FORMS); /* its own matchers went */
	assert_true(n.matchers > 1 && n.matchers < FORM_CACHE_IDLE && n.bytes <= 8 << 20);
	assert_true(is_kept(f, 1, small));
	constraint_put(c);
	form_cache_destroy(f);
	free(large);
}

static int failed;

static bool writes_abc(struct matcher *m)
{
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t *bits;

		if (matcher_mask(m, &bits) || !(bits['a' / 64] >> ('a' + i) % 64 & 1) ||
		    matcher_token(m, 'a' + i))
			return false;
	}
	return true;
}

static void *client(void *arg)
{
	static const char *const forms[] = { "[a-c]*", "a(b|c)*", "ab?c?", "abc|abcd", "a.*" };
	struct form_cache *f = arg;
	struct matcher *m;

	for (unsigned i = 0; i < 200; i++) {
		const char *text = forms[i % ARRAY_LEN(forms)];
		const struct constraint_ask ask = { .form = FORM_REGEX,
						    .text = text,
						    .n = strlen(text) };
		struct constraint *c;
		struct err err = { 0 };

		/* cmocka's checks are for its own thread */
		if (form_cache_get(f, 0, &ask, vocab, &c, &err))
			return &failed;
		if (form_cache_matcher(f, c, &m))
			return &failed;
		if (!writes_abc(m))
			return &failed;
		form_cache_give_back(f, c, m);
		constraint_put(c);
	}
	return NULL;
}

static void many_threads(void **state)
{
	struct form_cache *f = cache_of(5 << 20);
	pthread_t threads[4];
	struct form_cache_counts n;

	for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, client, f), 0);
	for (unsigned i = 0; i < ARRAY_LEN(threads); i++) {
		void *why;

		pthread_join(threads[i], &why);
		assert_null(why);
	}
	form_cache_get_counts(f, &n);
	assert_int_equal(n.compiled + n.found, 800);
	assert_int_equal(n.masks, 2400);
	assert_true(n.compiled < 400);
	form_cache_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_counts), cmocka_unit_test(refused_forms),
		cmocka_unit_test(masks_are_there),   cmocka_unit_test(what_is_no_use),
		cmocka_unit_test(many_forms),	     cmocka_unit_test(too_large),
		cmocka_unit_test(tenants),	     cmocka_unit_test(many_threads),
	};

	return cmocka_run_group_tests(tests, make_vocabulary, drop_vocabulary);
}
