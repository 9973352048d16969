/* SPDX-License-Identifier: MIT */
/*
 * tests/fuzz/render_rows.c: our side of diff_jinja.py: lines of {"template", "vars"} on standard input,
 * a line of {"rendered"} or {"error"} for each on standard output. The clock is the fixtures'.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/jsonc.h"
#include "chat/template.h"

static struct json_object *render(struct json_object *row, const struct template_options *o)
{
	struct json_object *source = NULL, *vars = NULL, *out = json_object_new_object();
	struct template_error err = { 0 };
	struct template *t = NULL;
	struct rendered r = { 0 };
	int rc;

	json_object_object_get_ex(row, "template", &source);
	json_object_object_get_ex(row, "vars", &vars);
	rc = template_compile(json_object_get_string(source),
			      (size_t)json_object_get_string_len(source), &t, &err.err);
	if (!rc)
		rc = template_render(t, vars, o, &r, &err);
	if (rc)
		json_object_object_add(out, "error", json_object_new_string(err.err.text));
	else
		json_object_object_add(out, "rendered",
				       json_object_new_string_len(r.text, (int)r.n));
	rendered_done(&r);
	template_destroy(t);
	return out;
}

int main(void)
{
	struct tm now = {
		.tm_year = 126, .tm_mon = 2, .tm_mday = 5, .tm_hour = 14, .tm_min = 7, .tm_sec = 9
	};
	const struct template_options o = { .now = &now };
	char *line = NULL;
	size_t room = 0;

	timegm(&now);
	while (getline(&line, &room, stdin) > 0) {
		struct json_object *row = json_tokener_parse(line), *out = render(row, &o);

		puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PLAIN));
		json_object_put(out);
		json_object_put(row);
	}
	free(line);
	return 0;
}
