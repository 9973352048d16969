/* SPDX-License-Identifier: MIT */
/*
 * Description: no memory while a form is made: whichever allocation fails, the answer is -ENOMEM (or -E2BIG: a
 * set could not grow) or the same form, never a
 * crash, nor a form of which a part is missing.
 */
#include "tests/unit/grammar/grammar_rows.h"

#include "base/num.h"
#include "grammar/constraint.h"

/* ---- the allocation that fails ---- */

static long n_allocations, failing = -1; /* by number; -1: none */

#ifdef __SANITIZE_ADDRESS__ /* has its own */
#define FAILS 0
#elif defined(__SANITIZE_THREAD__)
#define FAILS 0
#else
#define FAILS 1
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);

static bool fails(void)
{
	return n_allocations++ == failing;
}

void *malloc(size_t n)
{
	return fails() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
	return fails() ? NULL : __libc_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
	return fails() ? NULL : __libc_realloc(p, n);
}
#endif

/* ---- forms ---- */

static void get_byte(void *arg, uint32_t id, struct vocab_token *ret)
{
	static uint8_t bytes[256];

	(void)arg;
	if (id < 256)
		bytes[id] = (uint8_t)id;
	*ret = id < 256 ? (struct vocab_token){ &bytes[id], 1, false, false }
			: (struct vocab_token){ (const uint8_t *)"<eos>", 5, true, true };
}

/* Every allocation of making @ask fails once. */
static void try_all(const struct constraint_ask *ask, struct vocab *v, const char *what)
{
	struct constraint *c = NULL;
	struct err err = { 0 };
	size_t bytes;
	long n;

	failing = -1;
	n_allocations = 0;
	if (constraint_create(ask, v, &c, &err))
		fail_msg("%s: %s", what, err.text);
	n = n_allocations;
	bytes = constraint_bytes(c);
	constraint_put(c);
	for (long i = 0; i < n; i++) {
		int rc;

		n_allocations = 0;
		failing = i;
		c = NULL;
		err_clear(&err);
		rc = constraint_create(ask, v, &c, &err);
		failing = -1;
		if (rc && rc != -ENOMEM && rc != -E2BIG)
			fail_msg("%s: without allocation %ld of %ld: %d: %s", what, i, n, rc,
				 err.text);
		if (!rc && constraint_bytes(c) != bytes)
			fail_msg("%s: without allocation %ld of %ld: another form", what, i, n);
		constraint_put(c);
	}
}

static void test_schemas(void **state)
{
	static const char *const all[] = {
		"{\"allOf\": [{\"type\": [\"object\", \"null\"], \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": true},"
		" \"required\": [\"a\"]}, {\"type\": \"object\", \"properties\": {\"a\": {\"minimum\": 3}, \"c\": {\"enum\": [1, null]}},"
		" \"required\": [\"c\"], \"additionalProperties\": {\"type\": \"string\"}}]}",
		"{\"$ref\": \"#/$defs/x\", \"anyOf\": [{\"const\": 1}, {\"enum\": [2, 3]}], \"$defs\": {\"x\": {\"anyOf\": "
		"[{\"type\": \"integer\"}, {\"type\": \"number\"}]}}}",
		"{\"oneOf\": [{\"type\": \"object\", \"properties\": {\"k\": {\"const\": \"a\"}}, \"required\": [\"k\"]},"
		" {\"type\": \"object\", \"properties\": {\"k\": {\"const\": \"b\"}}, \"required\": [\"k\"]}]}",
		"{\"type\": \"object\", \"patternProperties\": {\"^x\": {\"type\": \"integer\"}}, \"additionalProperties\": false}",
		"{\"type\": \"array\", \"items\": {\"allOf\": [{\"items\": false}, {\"items\": {\"type\": \"null\"}}]}, \"maxItems\": 3}",
		"{\"type\": \"string\", \"pattern\": \"^a{2,9}(b|c)$\"}",
		"{\"type\": \"string\", \"format\": \"date-time\"}",
		"{\"type\": \"string\", \"pattern\": \"^a+b?$\", \"format\": \"hostname\", \"maxLength\": 4}",
		"{\"type\": \"number\", \"multipleOf\": 0.5, \"minimum\": -2.5, \"maximum\": 700000}",
		"{\"type\": \"array\", \"uniqueItems\": true, \"items\": {\"enum\": [\"a\", \"b\", 1, 1.0, 7], \"pattern\": \"a\","
		" \"maximum\": 3}}",
	};
	struct vocab *v;

	assert_int_equal(vocab_create(257, get_byte, NULL, NULL, &v), 0);
	for (size_t i = 0; FAILS && i < ARRAY_LEN(all); i++) {
		struct constraint_ask ask = { .form = FORM_SCHEMA,
					      .schema = parse_json(all[i]),
					      .strict = true,
					      .before = BEFORE_MAY_THINK };

		try_all(&ask, v, all[i]);
		json_object_put(ask.schema);
	}
	vocab_destroy(v);
}

static void test_calls(void **state)
{
	struct json_object *tools = parse_json(
		"[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": "
		"{\"a\": {\"type\": \"string\"}, \"b\": {\"enum\": [1, \"x\"]}, \"c\": {\"type\": \"array\"}}, \"required\": [\"a\"]}}},"
		"{\"name\": \"g\", \"strict\": false, \"parameters\": {\"properties\": {}}}, {\"name\": \"h\", \"parameters\": false},"
		"{\"name\": \"i\"}]");
	struct vocab *v;

	assert_int_equal(vocab_create(257, get_byte, NULL, NULL, &v), 0);
	for (int form = 0; FAILS && form < CALL_UNKNOWN; form++) {
		struct constraint_ask ask = { .form = FORM_CALLS,
					      .tools = tools,
					      .call_form = (enum call_form)form,
					      .before = form == CALL_HARMONY ? BEFORE_CHANNELS
									     : BEFORE_NOTHING };

		try_all(&ask, v, "calls");
	}
	json_object_put(tools);
	vocab_destroy(v);
}

static void test_others(void **state)
{
	static const struct constraint_ask all[] = {
		{ .form = FORM_OBJECT, .before = BEFORE_THINKING },
		{ .form = FORM_GBNF,
		  .text = "root ::= a+ \"x\"\na ::= [a-z]{2,3} | \"\\u00e9\"\n",
		  .n = 43 },
		{ .form = FORM_REGEX, .text = "(a|b)*[^c]{3}", .n = 13 },
	};
	struct vocab *v;

	assert_int_equal(vocab_create(257, get_byte, NULL, NULL, &v), 0);
	for (size_t i = 0; FAILS && i < ARRAY_LEN(all); i++)
		try_all(&all[i], v, "a form");
	vocab_destroy(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_schemas),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
