/* SPDX-License-Identifier: MIT */
/*
 * tests/fuzz/fuzz_template.c: libFuzzer target: any template with any variables.
 *
 * The input is the template, a NUL, and JSON: an object of variables, or a list of messages that goes
 * through the normaliser. What must hold: it ends within its limits; a failure has a sentence; what is
 * rendered is UTF-8, and the spans of trusted bytes are in order and within it. One thread.
 */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "base/utf8.h"
#include "chat/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(int rc, struct rendered *r, const struct template_error *err)
{
	uint32_t cp;

	if (rc) {
		assert(rc < 0 && (err->err.text[0] || err->raised));
		return;
	}
	for (size_t i = 0, n; i < r->n; i += n) {
		n = utf8_decode((const uint8_t *)r->text + i, r->n - i, &cp);
		assert(n);
	}
	for (size_t i = 0; i < r->n_trusted; i++) {
		assert(r->trusted[i].begin < r->trusted[i].end && r->trusted[i].end <= r->n);
		assert(!i || r->trusted[i - 1].end < r->trusted[i].begin);
	}
	rendered_done(r);
}

static void chat(const char *source, size_t len, struct json_object *messages,
		 const struct template_options *o)
{
	struct chat_input in = { .messages = messages, .add_generation_prompt = true };
	struct chat_template *c = NULL;
	struct template_error err = { 0 };
	struct rendered r = { 0 };

	if (chat_template_make(source, len, "<s>", "</s>", &c, &err.err))
		return;
	check(chat_render(c, &in, o, &r, &err), &r, &err);
	in.continue_final = true;
	err = (struct template_error){ 0 };
	check(chat_render(c, &in, o, &r, &err), &r, &err);
	chat_template_destroy(c);
}

static void plain(const char *source, size_t len, struct json_object *vars,
		  const struct template_options *o)
{
	struct template_error err = { 0 };
	struct rendered r = { 0 };
	struct template *t = NULL;
	int rc = template_compile(source, len, &t, &err.err);

	if (!rc)
		rc = template_render(t, vars, o, &r, &err);
	check(rc, &r, &err);
	template_destroy(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct template_options o = { .limits = { .steps = 200000, .bytes = 16u << 20 } };
	const char *source = (const char *)data;
	size_t n = strnlen(source, len);
	struct json_tokener *t = json_tokener_new_ex(500);
	struct json_object *vars = NULL;

	if (n < len)
		vars = json_tokener_parse_ex(t, source + n + 1, (int)(len - n - 1));
	if (json_object_is_type(vars, json_type_array))
		chat(source, n, vars, &o);
	else
		plain(source, n, json_object_is_type(vars, json_type_object) ? vars : NULL, &o);
	json_object_put(vars);
	json_tokener_free(t);
	return 0;
}
