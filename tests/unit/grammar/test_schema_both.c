/* SPDX-License-Identifier: MIT */
/*
 * Description: schemas whose keywords have to hold together: patterns, formats and lengths, multiples and bounds,
 * values of an enum beside keywords of their types, and different values in a list.
 */
#include "tests/unit/grammar/grammar_rows.h"

#include "base/num.h"

static const struct {
	const char *schema, *accepted, *rejected; /* each with blanks between */
} rows[] = {
	/* strings */
	{ "{\"type\": \"string\", \"pattern\": \"^[a-z]+$\", \"minLength\": 2, \"maxLength\": 4}",
	  "\"ab\" \"abcd\"", "\"a\" \"abcde\" \"aB\" \"\"" },
	{ "{\"pattern\": \"^[a-z]+$\", \"minLength\": 3, \"type\": \"string\"}",
	  "\"abc\" \"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\"", "\"ab\" \"abC\"" },
	{ "{\"type\": \"string\", \"pattern\": \"\\u00e9\", \"maxLength\": 3}",
	  "\"a\u00e9b\" \"a\\u00e9b\" \"\\ud83c\\udf88\u00e9\U0001F388\" \"\\\"\\\"\u00e9\"",
	  "\"a\u00e9bc\" \"abc\" \"\\\"\\\"\\\"\u00e9\"" },
	{ "{\"type\": \"string\", \"pattern\": \"^..$\", \"maxLength\": 1}", NULL, NULL },
	{ "{\"anyOf\": [{\"type\": \"string\", \"pattern\": \"^..$\", \"maxLength\": 1}, {\"type\": \"null\"}]}",
	  "null", "\"a\" \"ab\"" },
	{ "{\"type\": \"string\", \"pattern\": \"[^\\\\s\\\\S]\", \"maxLength\": 9}", NULL, NULL },
	{ "{\"type\": \"string\", \"format\": \"date\", \"pattern\": \"^20\"}", "\"2026-12-01\"",
	  "\"1999-12-01\" \"2026-13-01\" \"20\"" },
	{ "{\"type\": \"string\", \"format\": \"email\", \"pattern\": \"@example\\\\.com$\", \"maxLength\": 14}",
	  "\"ab@example.com\"", "\"abc@example.com\" \"ab@example.org\"" },
	{ "{\"type\": \"string\", \"format\": \"ipv4\", \"minLength\": 9, \"maxLength\": 9}",
	  "\"127.0.0.1\" \"10.10.1.1\"", "\"10.0.0.1\" \"127.0.0.10\" \"127.0.0.a\"" },
	{ "{\"allOf\": [{\"type\": \"string\", \"pattern\": \"^x\"}, {\"maxLength\": 2}]}",
	  "\"x\" \"xy\"", "\"xyz\" \"y\"" },
	{ "{\"type\": \"object\", \"propertyNames\": {\"pattern\": \"^k\", \"maxLength\": 2}, \"additionalProperties\": true}",
	  "{\"k\":1,\"kk\":2}", "{\"kkk\":1} {\"x\":1}" },
	/* numbers */
	{ "{\"type\": \"number\", \"multipleOf\": 0.01, \"minimum\": 0, \"exclusiveMaximum\": 10000}",
	  "0.01 12.5 0 9999.99", "12.345 -1 10000 1e1" },
	{ "{\"type\": \"integer\", \"multipleOf\": 5, \"minimum\": 0}", "0 5 10 1000000005",
	  "-5 7 1000000001 05" },
	{ "{\"type\": \"integer\", \"multipleOf\": 7, \"exclusiveMaximum\": -7}", "-14 -700",
	  "-7 0 7 -15" },
	{ "{\"type\": \"number\", \"multipleOf\": 0.5}", "0.5 -0.5 1 10.5 100 -3.0 0.0",
	  "0.25 2.50 1e1 .5 0.7" },
	{ "{\"type\": \"number\", \"multipleOf\": 2.5, \"maximum\": 10}", "2.5 5 7.5 10 -10 -12.5",
	  "3 0.5 12.5" },
	{ "{\"type\": \"integer\", \"multipleOf\": 2.5}", "5 -10 0", "2 2.5 3" },
	{ "{\"type\": \"number\", \"multipleOf\": 25e-2, \"minimum\": 0.3}", "0.5 0.75 1.25",
	  "0.25 0 0.3" },
	{ "{\"type\": \"integer\", \"multipleOf\": 3}", "99999999999999999999",
	  "999999999999999999999" },
	/* values */
	{ "{\"enum\": [1, 2, 2.5, \"a\", \"bbb\", null, [1]], \"minimum\": 2, \"maxLength\": 2}",
	  "2 2.5 \"a\" null [1]", "1 \"bbb\"" },
	{ "{\"enum\": [1, 2, 3, 4], \"type\": \"integer\", \"exclusiveMinimum\": 1, \"exclusiveMaximum\": 4, \"multipleOf\": 1.5}",
	  "3", "1 2 4" },
	{ "{\"enum\": [0.1, 0.3, 0.35, -0.3, 3e-1], \"multipleOf\": 0.1}", "0.1 0.3 -0.3 3e-1",
	  "0.35" },
	{ "{\"enum\": [\"ab\", \"a/b\", \"<\u00e9\\n\", \"\U0001F388\"], \"pattern\": \"[/\\n]\", \"maxLength\": 3}",
	  "\"a/b\" \"<\u00e9\\n\"", "\"ab\" \"\U0001F388\"" },
	{ "{\"enum\": [\"\U0001F388\", \"\u00e9\u00e9\"], \"maxLength\": 1}",
	  "\"\U0001F388\" \"\\ud83c\\udf88\"", "\"\u00e9\u00e9\"" },
	{ "{\"enum\": [\"2026-12-01\", \"today\"], \"format\": \"date\"}", "\"2026-12-01\"",
	  "\"today\"" },
	{ "{\"const\": 5, \"minimum\": 6}", NULL, NULL },
	{ "{\"const\": \"x\", \"type\": \"string\", \"minLength\": 1}", "\"x\"", "\"\"" },
	{ "{\"allOf\": [{\"enum\": [1, 5, 9]}, {\"minimum\": 4}, {\"maximum\": 8}]}", "5", "1 9" },
	/* numbers of properties */
	{ "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"null\"}, \"b\": true, \"c\": true},"
	  " \"additionalProperties\": false, \"minProperties\": 1}",
	  "{\"a\":null} {\"c\":1} {\"a\":null,\"b\":2,\"c\":3}", "{} {\"b\":1,\"b\":1}" },
	{ "{\"type\": \"object\", \"properties\": {\"a\": {}, \"b\": {}, \"c\": {}, \"d\": {}}, \"required\": [\"c\"],"
	  " \"additionalProperties\": false, \"minProperties\": 2, \"maxProperties\": 3}",
	  "{\"a\":1,\"c\":1} {\"c\":1,\"d\":1} {\"a\":1,\"b\":1,\"c\":1} {\"b\":1,\"c\":1,\"d\":1}",
	  "{\"c\":1} {\"a\":1,\"b\":1} {\"a\":1,\"b\":1,\"c\":1,\"d\":1} {}" },
	{ "{\"type\": \"object\", \"properties\": {\"a\": {}, \"b\": {}}, \"maxProperties\": 2, \"additionalProperties\": true}",
	  "{} {\"a\":1} {\"x\":1,\"y\":2} {\"a\":1,\"b\":1} {\"b\":1,\"x\":1}",
	  "{\"a\":1,\"b\":1,\"x\":1} {\"x\":1,\"y\":1,\"z\":1} {\"b\":1,\"x\":1,\"y\":1}" },
	{ "{\"type\": \"object\", \"properties\": {\"a\": {}}, \"minProperties\": 1, \"additionalProperties\": true}",
	  "{\"a\":1} {\"x\":1} {\"a\":1,\"x\":1}", "{}" },
	{ "{\"type\": \"object\", \"properties\": {\"a\": {}, \"b\": {}}, \"additionalProperties\": false, \"minProperties\": 3}",
	  NULL, NULL },
	{ "{\"type\": \"object\", \"properties\": {\"a\": {}}, \"required\": [\"a\"], \"maxProperties\": 0}",
	  NULL, NULL },
	/* different values */
	{ "{\"type\": \"array\", \"items\": {\"enum\": [\"a\", \"b\", 1, 1.0, true]}, \"uniqueItems\": true, \"minItems\": 2}",
	  "[\"a\",\"b\"] [1,true] [\"b\",true,1,\"a\"]",
	  "[\"a\"] [] [\"a\",\"a\"] [1,1.0] [1,1] [\"b\",true,1,\"a\",\"a\"] [\"c\",\"a\"]" },
	{ "{\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/c\"}, \"uniqueItems\": true, \"maxItems\": 2,"
	  " \"$defs\": {\"c\": {\"enum\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15], \"minimum\": 1}}}",
	  "[] [15] [1,15] [15,1]", "[0] [1,1] [1,2,3]" },
};

static void put_all(const struct program *p, const char *schema, const char *texts, bool want)
{
	char *list = strdup(texts), *save;

	for (char *w = strtok_r(list, " ", &save); w; w = strtok_r(NULL, " ", &save))
		if ((put_text(p, w, strlen(w)) == ACCEPTED) != want)
			fail_msg("%s: %s is%s accepted", schema, w, want ? " not" : "");
	free(list);
}

static void together(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct json_object *o = parse_json(rows[i].schema);
		bool none = !rows[i].accepted;
		struct err err = { 0 };
		struct program *p = schema_program(o, true, none ? -EINVAL : 0, &err);

		if (!none) {
			put_all(p, rows[i].schema, rows[i].accepted, true);
			put_all(p, rows[i].schema, rows[i].rejected, false);
		}
		program_destroy(p);
		json_object_put(o);
	}
}

/* What has too many states is refused with its keyword, or left out. */
static void too_much(void **state)
{
	static const struct {
		const char *schema, *said, *loose;
	} all[] = {
		{ "{\"type\": \"string\", \"pattern\": \"^\\\\S.*$\", \"maxLength\": 5000}",
		  "maxLength cannot be held: beside such a pattern", "\"ab\"" },
		{ "{\"type\": \"string\", \"pattern\": \"(a|b).{14}c\", \"minLength\": 3}",
		  "minLength cannot be held: beside such a pattern", "\"a12345678901234c\"" },
		{ "{\"type\": \"number\", \"multipleOf\": 999, \"minimum\": 0}",
		  "multipleOf cannot be held: beside such bounds", "1" },
		{ "{\"type\": \"object\", \"properties\": {\"a\": {}}, \"additionalProperties\": true, \"minProperties\": 2}",
		  "minProperties cannot be held: above 1, of names", "{\"x\":1,\"x\":1}" },
		{ "{\"type\": \"object\", \"minProperties\": 2}", "minProperties cannot be held",
		  "{}" },
		{ "{\"type\": \"number\", \"multipleOf\": 0.3333}", "multipleOf cannot be held",
		  "1" },
		{ "{\"type\": \"array\", \"uniqueItems\": true, \"items\": {\"enum\": [0,1,2,3,4,5,6,7,8,9,10]}}",
		  "uniqueItems cannot be held: but of a few values", "[1,1]" },
		{ "{\"type\": \"array\", \"uniqueItems\": true, \"items\": {\"enum\": [[1], 2]}}",
		  "uniqueItems cannot be held", "[2,2]" },
		{ "{\"enum\": [[1], [1, 2]], \"maxItems\": 1}", "maxItems cannot be held",
		  "[1,2]" },
		{ "{\"type\": \"array\", \"uniqueItems\": true, \"items\": {\"enum\": [1, 2], \"not\": {\"const\": 1}}}",
		  "not cannot be held", "[1,2]" },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct json_object *o = parse_json(all[i].schema);
		struct err err = { 0 };
		struct program *p = schema_program(o, true, -ENOTSUP, &err);

		if (!strstr(err.text, all[i].said))
			fail_msg("%s: %s", all[i].schema, err.text);
		p = schema_program(o, false, 0, &err);
		put_all(p, all[i].schema, all[i].loose, true);
		program_destroy(p);
		json_object_put(o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(together),
		cmocka_unit_test(too_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
