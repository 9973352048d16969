/* SPDX-License-Identifier: MIT */
/*
 * Description: templates of publishers and small ones against Jinja2's own renderings, byte for byte.
 *
 * tests/data/templates/rows.json is our own; the wide sets (21 published templates with 82
 * conversations, 568 constructs) lie in SHARED. Of the group "rare" a row may be refused, never
 * rendered otherwise.
 */
#include "tests/unit/chat/chat_rows.h"

static struct json_object *open_rows(const char *name)
{
	char path[DATA_PATH];

	return read_json(fixture(name, path));
}

static void rows_of_our_own(void **state)
{
	struct json_object *rows = open_rows("templates/rows.json");
	size_t n = json_object_array_length(rows);

	assert_true(n > 20);
	for (size_t i = 0; i < n; i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		const char *bad = check_vars_row(row);

		if (bad)
			fail_msg("row %zu, %.200s: %s", i, text_member(row, "template"), bad);
	}
	json_object_put(rows);
}

static void constructs(void **state)
{
	struct json_object *rows = open_rows("templates/constructs.json");
	size_t n = json_object_array_length(rows), bad = 0, refused = 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		const char *why = check_vars_row(row);

		if (why && !strcmp(text_member(row, "group"), "rare") &&
		    !strncmp(why, "fails: ", 7)) {
			refused++;
			continue;
		}
		if (why)
			print_error("row %zu, %.200s: %s\n", i, text_member(row, "template"), why);
		bad += why != NULL;
	}
	print_message("%zu rows, %zu rare ones refused\n", n, refused);
	assert_int_equal(bad, 0);
	assert_true(n >= 568 && refused <= 12);
	json_object_put(rows);
}

/* A copy of the row's kwargs without what is a field of its own, and that field. */
static struct json_object *take_kwargs(struct json_object *row, bool *prompt)
{
	struct json_object *copy = NULL, *p = NULL;

	assert_int_equal(json_object_deep_copy(member(row, "kwargs"), &copy, NULL), 0);
	*prompt = json_object_object_get_ex(copy, "add_generation_prompt", &p) &&
		  json_object_get_boolean(p);
	json_object_object_del(copy, "add_generation_prompt");
	return copy;
}

static const char *check_case(const struct chat_template *c, struct json_object *row, bool raw)
{
	struct tm now = frozen();
	const struct template_options o = { .now = &now };
	struct template_error err = { 0 };
	struct chat_input in = { .messages = member(row, "messages"),
				 .tools = member(row, "tools"),
				 .raw = raw };
	struct rendered r = { 0 };
	const char *bad;
	int rc;

	in.kwargs = take_kwargs(row, &in.add_generation_prompt);
	rc = chat_render(c, &in, &o, &r, &err);
	bad = difference(row, rc, &r, &err);
	rendered_done(&r);
	json_object_put(in.kwargs);
	return bad;
}

/* Every row as transformers renders it, and those that need no tidying with the normaliser too. */
static void published(void **state)
{
	struct json_object *rows = open_rows("templates/cases.json");
	size_t n = json_object_array_length(rows), bad = 0, tidy = 0;
	struct chat_template *c = NULL;
	const char *name = "";

	for (size_t i = 0; i < n; i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		const char *why;

		if (strcmp(name, text_member(row, "template"))) {
			char below[300], path[DATA_PATH];
			struct err err = { 0 };
			size_t len;
			char *source;

			name = text_member(row, "template");
			snprintf(below, sizeof(below), "templates/%s", name);
			source = read_text(fixture(below, path), &len);
			chat_template_destroy(c);
			c = NULL;
			if (chat_template_make(source, len, NULL, NULL, &c, &err))
				fail_msg("%s: %s", name, err.text);
			free(source);
		}
		why = check_case(c, row, true);
		if (!why && !member(row, "normalised")) {
			why = check_case(c, row, false);
			tidy++;
		}
		if (why)
			print_error("%s, %s: %s\n", name, text_member(row, "case"), why);
		bad += why != NULL;
	}
	chat_template_destroy(c);
	json_object_put(rows);
	print_message("%zu rows, %zu of them with the normaliser too\n", n, tidy);
	assert_int_equal(bad, 0);
	assert_true(n >= 1722);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_of_our_own),
		cmocka_unit_test(constructs),
		cmocka_unit_test(published),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
