/* SPDX-License-Identifier: MIT */
/*
 * Description: compilations that are taken back, or take too long, end within 50 ms of the thread's own time.
 */
#include "tests/unit/grammar/grammar_rows.h"

#include <pthread.h>
#include <time.h>

#include "base/num.h"
#include "grammar/constraint.h"
#include "grammar/stop.h"

#define MOST_NS 50000000u

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t)) /* of a thread that has just ended */
		return UINT64_MAX;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static char *repeat(const char *head, const char *piece, size_t times, const char *tail)
{
	size_t n = strlen(head), len = strlen(piece);
	char *text = malloc(n + times * len + strlen(tail) + 1);

	memcpy(text, head, n);
	for (size_t i = 0; i < times; i++, n += len)
		memcpy(text + n, piece, len);
	strcpy(text + n, tail);
	return text;
}

static void byte_token(void *arg, uint32_t id, struct vocab_token *ret)
{
	static uint8_t all[256];

	all[id] = (uint8_t)id;
	*ret = (struct vocab_token){ &all[id], 1, false, id == 0 };
}

/* A vocabulary as large as published ones, of words that share beginnings. */
static void word_token(void *arg, uint32_t id, struct vocab_token *ret)
{
	static _Thread_local char word[24];

	snprintf(word, sizeof(word), "%s%u", id % 3 ? " the" : "x", id * 2654435761u);
	*ret = (struct vocab_token){ (uint8_t *)word, strlen(word), false, false };
}

/* What takes long. */
struct slow {
	const char *name;
	enum form form;
	char *text;
	struct json_object *schema;
	bool vocabulary;
};

struct run {
	const struct slow *slow;
	struct vocab *v;
	struct grammar_stop stop;
	_Atomic bool unwanted, ended;
	int rc;
	struct err err;
	uint64_t end_ns;
};

static void *compile(void *arg)
{
	struct run *r = arg;
	const struct slow *s = r->slow;
	const struct constraint_ask ask = { .form = s->form,
					    .text = s->text,
					    .n = s->text ? strlen(s->text) : 0,
					    .schema = s->schema,
					    .strict = true,
					    .call_form = CALL_UNKNOWN,
					    .stop = &r->stop };
	struct constraint *c = NULL;
	struct vocab *v = NULL;

	r->stop.unwanted = &r->unwanted;
	if (s->vocabulary)
		r->rc = vocab_create(150000, word_token, NULL, &r->stop, &v);
	else
		r->rc = constraint_create(&ask, r->v, &c, &r->err);
	r->end_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
	atomic_store(&r->ended, true);
	vocab_destroy(v);
	constraint_put(c);
	return NULL;
}

/* Takes it back after so much of its own time; *ret_late: how much it took after that. */
static int run_for(const struct slow *s, struct vocab *v, uint64_t after_ns, bool cancel,
		   uint64_t *ret_ns)
{
	struct run r = { .slow = s, .v = v };
	uint64_t at = 0;
	clockid_t clock;
	pthread_t t;

	if (!cancel && after_ns)
		r.stop.deadline_ns = now_ns() + after_ns;
	assert_int_equal(pthread_create(&t, NULL, compile, &r), 0);
	pthread_getcpuclockid(t, &clock);
	while (cancel && at < after_ns && !atomic_load(&r.ended)) {
		const struct timespec nap = { .tv_nsec = 200000 };

		nanosleep(&nap, NULL);
		if (!atomic_load(&r.ended))
			at = cpu_ns(clock);
	}
	if (cancel)
		atomic_store(&r.unwanted, true);
	pthread_join(t, NULL);
	*ret_ns = r.end_ns > at ? r.end_ns - at : 0;
	if (r.rc == -ETIME && !strstr(r.err.text, "too long") && !s->vocabulary)
		fail_msg("%s: %s", s->name, r.err.text);
	return r.rc;
}

static struct json_object *merged_schema(void)
{
	char *text = repeat("{\"type\": \"object\", \"allOf\": [{}",
			    ", {\"properties\": {\"a\": {\"type\": \"string\"}, \"b\": {\"anyOf\": "
			    "[{\"type\": \"null\"}, {\"type\": \"integer\"}]}}}",
			    1500, "]}");
	struct json_object *o = parse_json(text);

	free(text);
	return o;
}

static struct json_object *wide_schema(void)
{
	char *text = repeat("{\"enum\": [\"a\"", ", \"abcdefghijklmnop\"", 60000, "]}");
	struct json_object *o = parse_json(text);

	free(text);
	return o;
}

/* Each pattern with its length is a product of automata. */
static struct json_object *long_schema(void)
{
	char *text = repeat(
		"{\"anyOf\": [{\"type\": \"null\"}",
		", {\"type\": \"string\", \"pattern\": \"(a|[^b]){3,9}.\", \"maxLength\": 40}", 300,
		"]}");
	struct json_object *o = parse_json(text);

	free(text);
	return o;
}

static void taken_back(void **unused)
{
	struct slow all[] = {
		{ .name = "gbnf",
		  .form = FORM_GBNF,
		  .text = repeat("root ::= \"x\"", " | [a-z]{3,7} \"abc\"", 60000, "") },
		{ .name = "classes",
		  .form = FORM_GBNF,
		  .text = repeat("root ::= \"x\"", " | [^a-f] [^x]", 20000, "") },
		{ .name = "regex",
		  .form = FORM_REGEX,
		  .text = repeat("x", "|(?:ab[c-e]{2,9}|\\w+)", 40000, "") },
		{ .name = "merging", .form = FORM_SCHEMA, .schema = merged_schema() },
		{ .name = "values", .form = FORM_SCHEMA, .schema = wide_schema() },
		{ .name = "products", .form = FORM_SCHEMA, .schema = long_schema() },
		{ .name = "vocabulary", .vocabulary = true },
	};
	struct vocab *v;

	assert_int_equal(vocab_create(256, byte_token, NULL, NULL, &v), 0);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		uint64_t whole, late;
		int rc = run_for(&all[i], v, 0, false, &whole);

		for (unsigned k = 1; k < 8; k += 4) {
			int cut = run_for(&all[i], v, whole * k / 8, true, &late);

			/* where it was over before that was seen it is what it was */
			if (cut != -ECANCELED && cut != rc)
				fail_msg("%s: %d, not cancelled", all[i].name, cut);
			if (late > MOST_NS)
				fail_msg("%s: %.1f ms of %.1f after it was taken back", all[i].name,
					 (double)late / 1e6, (double)whole / 1e6);
		}
		assert_int_equal(run_for(&all[i], v, 1, false, &late),
				 whole > MOST_NS / 10 ? -ETIME : rc);
		print_message("%s: %.1f ms\n", all[i].name, (double)whole / 1e6);
		free(all[i].text);
		json_object_put(all[i].schema);
	}
	vocab_destroy(v);
}

/* Depth and size have limits of their own, whoever asks. */
static void limits(void **unused)
{
	struct constraint_ask ask = { .form = FORM_REGEX, .call_form = CALL_UNKNOWN };
	char *deep = repeat("", "(", 60000, ""), *large = repeat("", "a", (4u << 20) + 1, "");
	struct constraint *c = NULL;
	struct vocab *v;

	assert_int_equal(vocab_create(256, byte_token, NULL, NULL, &v), 0);
	for (unsigned k = 0; k < 4; k++) {
		struct err err = { 0 };

		ask.form = k & 1 ? FORM_GBNF : FORM_REGEX;
		ask.text = k & 2 ? large : deep;
		ask.n = strlen(ask.text);
		if (k == 1) /* a rule in front of its groups */
			memcpy(deep, "root ::= ", 9);
		if (constraint_create(&ask, v, &c, &err) != -E2BIG)
			fail_msg("%u: %s", k, err.text);
		assert_true(err.text[0]);
	}
	free(deep);
	free(large);
	vocab_destroy(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken_back),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
