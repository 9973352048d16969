/* SPDX-License-Identifier: MIT */
/*
 * Description: JSON schemas and GBNF grammars with texts that must, may not or cannot yet be written.
 *
 * tests/data/schemas are our own rows, schemas/cases.json and grammars.json of SHARED the wide sets.
 * A schema marked refuse_ok may be refused by name; what is not refused is held like the others. The
 * strict form is tested; what it refuses must compile without strict.
 */
#include "tests/unit/grammar/grammar_rows.h"

static struct json_object *get(struct json_object *row, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(row, key, &v);
	return v;
}

static const char *name_of(struct json_object *row)
{
	return json_object_get_string(get(row, "name"));
}

static size_t length(struct json_object *list)
{
	return list ? json_object_array_length(list) : 0;
}

/* Texts of a list, as they are or as JSON in four ways: how many have another verdict. */
static size_t check_list(struct json_object *row, const struct program *p, const char *key,
			 bool texts, bool accepted)
{
	struct json_object *list = get(row, key);
	size_t bad = 0;

	for (size_t i = 0; i < length(list); i++)
		for (unsigned k = 0; k < (texts ? 1 : 4); k++) {
			struct json_object *v = json_object_array_get_idx(list, i);
			char *text = texts ? strdup(json_object_get_string(v)) : write_json(v, k);
			bool got = put_text(p, text, strlen(text)) == ACCEPTED;

			if (got != accepted)
				print_error("%s: %s %.200s\n", name_of(row),
					    got ? "accepts" : "rejects", text);
			bad += got != accepted;
			free(text);
		}
	return bad;
}

static size_t check_schema(struct json_object *row, size_t *refused)
{
	struct json_object *schema = get(row, "schema");
	struct err err = { 0 };
	struct program *p;
	size_t bad = 0;

	if (get(row, "error")) {
		p = schema_program(schema, true, 1, &err);
		if (p)
			print_error("%s: is no error\n", name_of(row));
		program_destroy(p);
		return p != NULL;
	}
	p = schema_program(schema, true, 1, &err);
	if (!p) {
		++*refused;
		print_message("refused: %s: %s\n", name_of(row), err.text);
		program_destroy(schema_program(schema, false, 0, &err));
		return !get(row, "refuse_ok");
	}
	bad += check_list(row, p, "valid", false, true);
	bad += check_list(row, p, "invalid", false, false);
	bad += check_list(row, p, "invalid_text", true, false);
	program_destroy(p);
	return bad;
}

static void check_schemas(const char *file, size_t least, size_t most_refused)
{
	struct json_object *rows = read_rows(file);
	size_t bad = 0, refused = 0;

	for (size_t i = 0; i < length(rows); i++)
		bad += check_schema(json_object_array_get_idx(rows, i), &refused);
	print_message("%zu schemas, %zu refused\n", length(rows), refused);
	assert_int_equal(bad, 0);
	assert_true(length(rows) >= least && refused <= most_refused);
	json_object_put(rows);
}

static void schemas_of_our_own(void **state)
{
	check_schemas("schemas/rows.json", 20, 3);
}

static void schemas(void **state)
{
	check_schemas("schemas/cases.json", 120, 8);
}

static size_t check_strings(struct json_object *row, const struct program *p, const char *key,
			    enum verdict want)
{
	static const char *const words[] = { "accepted", "incomplete", "rejected" };
	struct json_object *list = get(row, key);
	size_t bad = 0;

	for (size_t i = 0; i < length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		const char *text = json_object_get_string(v);
		enum verdict got = put_text(p, text, (size_t)json_object_get_string_len(v));

		if (got != want)
			print_error("%s: %.200s is %s, not %s\n", name_of(row), text, words[got],
				    words[want]);
		bad += got != want;
	}
	return bad;
}

static size_t check_grammar(struct json_object *row)
{
	struct json_object *g = get(row, "grammar");
	struct program *p = NULL;
	struct err err = { 0 };
	size_t bad = 0;
	int rc = grammar_gbnf(json_object_get_string(g), (size_t)json_object_get_string_len(g), &p,
			      &err);

	if (get(row, "error")) {
		if (!rc)
			print_error("%s: is no error\n", name_of(row));
		program_destroy(p);
		return rc != -EINVAL || !err.text[0];
	}
	if (rc) {
		print_error("%s: %s\n", name_of(row), err.text);
		return 1;
	}
	bad += check_strings(row, p, "accepted", ACCEPTED);
	bad += check_strings(row, p, "prefix", INCOMPLETE);
	bad += check_strings(row, p, "rejected", REJECTED);
	program_destroy(p);
	return bad;
}

static void check_grammars(const char *file, size_t least)
{
	struct json_object *rows = read_rows(file);
	size_t bad = 0;

	for (size_t i = 0; i < length(rows); i++)
		bad += check_grammar(json_object_array_get_idx(rows, i));
	assert_int_equal(bad, 0);
	assert_true(length(rows) >= least);
	json_object_put(rows);
}

static void grammars_of_our_own(void **state)
{
	check_grammars("schemas/grammar_rows.json", 8);
}

static void grammars(void **state)
{
	check_grammars("schemas/grammars.json", 36);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(schemas_of_our_own),
		cmocka_unit_test(schemas),
		cmocka_unit_test(grammars_of_our_own),
		cmocka_unit_test(grammars),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
