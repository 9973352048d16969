/* SPDX-License-Identifier: MIT */
/* Description: JSON by json-c: what is no JSON, integers beyond 64 bits with all their digits, counts of values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "base/num.h"

static int parse_n(const char *text, size_t n, struct json_object **ret)
{
	const char *why;
	size_t at;

	*ret = NULL;
	return jsonc_parse(text, n, 8, ret, &at, &why);
}

/* What @text becomes when it is written again. */
static void written(const char *text, const char *want)
{
	struct json_object *o;
	char *again;

	assert_int_equal(parse_n(text, strlen(text), &o), 0);
	again = jsonc_take_text(o);
	assert_string_equal(again, want);
	free(again);
}

static void test_values(void **state)
{
	written("{\"a\": [1, -2, true, null, \"x\\\"]\"]}", "{\"a\":[1,-2,true,null,\"x\\\"]\"]}");
	written(" 7 ", "7");
	written("1.50e2", "1.50e2");
	written("[0,-0.5,0e1,\"it's NaN, 00 1.\"]", "[0,-0.5,0e1,\"it's NaN, 00 1.\"]");
	written("18446744073709551615", "18446744073709551615");
	written("-9223372036854775808", "-9223372036854775808");
}

static void test_wide_integers(void **state)
{
	static const char big[] = "123456789012345678901234567890123456789012345678901234567890";
	struct json_object *o;

	written("18446744073709551616", "18446744073709551616");
	written("-9223372036854775809", "-9223372036854775809");
	written("{\"a\":[18446744073709551616,-99999999999999999999,\"18446744073709551616\"],"
		"\"18446744073709551616\":1}",
		"{\"a\":[18446744073709551616,-99999999999999999999,\"18446744073709551616\"],"
		"\"18446744073709551616\":1}");
	written(big, big);
	/* of other numbers nothing is changed, and strings are no numbers */
	written("[1.18446744073709551616,18446744073709551616.5,1e0,18446744073709551616e2]",
		"[1.18446744073709551616,18446744073709551616.5,1e0,18446744073709551616e2]");
	written("{\"\\\"18446744073709551616\\\\\":18446744073709551616}",
		"{\"\\\"18446744073709551616\\\\\":18446744073709551616}");
	assert_int_equal(parse_n(big, strlen(big), &o), 0);
	assert_string_equal(jsonc_digits(o), big);
	assert_true(json_object_get_double(o) == 123456789012345678901234567890123456789e21);
	json_object_put(o);
	assert_int_equal(parse_n("[7,7.5,1e5]", 11, &o), 0);
	for (size_t i = 0; i < 3; i++)
		assert_null(jsonc_digits(json_object_array_get_idx(o, i)));
	json_object_put(o);
}

static void test_no_json(void **state)
{
	static const char *const all[] = { "",
					   "{",
					   "[1,",
					   "nul",
					   "1 2",
					   "{\"a\":18446744073709551616",
					   "[18446744073709551616",
					   "18446744073709551616x",
					   "[18446744073709551616 1]",
					   "{18446744073709551616:1}",
					   "[[[[[[[[[1]]]]]]]]]",
					   "\"\xff\"",
					   "{'a':1}",
					   "[NaN]",
					   "[Infinity]",
					   "[-Infinity]",
					   "[00]",
					   "[-01]",
					   "[1.]",
					   "[-1.e5]",
					   "[18446744073709551616.]",
					   "NaN",
					   "\"a\nb\"",
					   "{\"\x01\":1}",
					   "\"\xc3\xa9\x1f\"" };
	struct json_object *o;

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		assert_int_equal(parse_n(all[i], strlen(all[i]), &o), -EINVAL);
	assert_int_equal(parse_n("1\0x", 3, &o), -EINVAL);
	assert_int_equal(parse_n("[18446744073709551616\0]", 23, &o), -EINVAL);
}

static void test_why(void **state)
{
	struct json_object *o;
	const char *why;
	size_t at;

	assert_int_equal(jsonc_parse("{\"a\": \xc3\xa9}", 9, 8, &o, &at, &why), -EINVAL);
	assert_int_equal(at, 6);
	assert_null(strstr(why, "utf"));
	assert_int_equal(jsonc_parse("{\"a\": \"\xc3\"}", 10, 8, &o, &at, &why), -EINVAL);
	assert_non_null(strstr(why, "utf"));
}

/* What is no ASCII in strings, names too, whichever json-c is there (0.18 refuses it where it is strict). */
static void test_characters(void **state)
{
	static const char text[] =
		"{\"gr\xc3\xbc\xc3\x9f\x65\":[\"\\\"\xe2\x82\xac\\\\\",\"\xf0\x9f\x98\x80z\","
		"18446744073709551616,\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\"]}";
	static const char *const bad[] = { "\xff",
					   "\x80",
					   "\xc3",
					   "\xc0\xaf",
					   "\xe0\x9f\xbf",
					   "\xed\xa0\x80",
					   "\xf4\x90\x80\x80",
					   "\xf0\x9f\x98",
					   "\xf8\x88\x80\x80\x80" };
	struct json_object *o;
	const char *why;
	size_t at;

	written(text, text);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char one[64];
		int n = snprintf(one, sizeof(one), "[\"\xc3\xa9%sx\"]", bad[i]);

		assert_int_equal(jsonc_parse(one, (size_t)n, 8, &o, &at, &why), -EINVAL);
		assert_int_equal(at, 4);
		assert_non_null(strstr(why, "utf"));
		/* another fault behind it is told, where it is in the text */
		n = snprintf(one, sizeof(one), "[\"\xc3\xa9%sx\",]", bad[i]);
		assert_int_equal(jsonc_parse(one, (size_t)n, 8, &o, &at, &why), -EINVAL);
		assert_int_equal(at, n - 1);
		assert_null(strstr(why, "utf"));
	}
	/* cut off within a character */
	assert_int_equal(jsonc_parse("[\"\xc3", 3, 8, &o, &at, &why), -EINVAL);
}

static void test_counts(void **state)
{
	assert_int_equal(jsonc_values("[1,\"a,[{\",{}]", 13), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),	cmocka_unit_test(test_wide_integers),
		cmocka_unit_test(test_no_json), cmocka_unit_test(test_why),
		cmocka_unit_test(test_counts),	cmocka_unit_test(test_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
