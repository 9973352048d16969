/* SPDX-License-Identifier: MIT */
/*
 * tools/batch_result.c: see batch.h: what a line asks, and the lines of results. An answer's JSON goes
 * into its line as the daemon wrote it. Pure; one thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "tools/batch.h"
#include "tools/json_input.h"

/* Paths of the daemon that answer one JSON object for another. */
static const char *const urls[] = {
	"/v1/chat/completions",	     "/v1/completions", "/v1/responses", "/v1/messages",
	"/v1/messages/count_tokens", "/completion",	"/infill",
};

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v = jsonc_member(o, key);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

/* As a line's name: a text of 1 to BATCH_NAME_MAX bytes and no NUL, which would cut it. */
static char *name_of(struct json_object *o)
{
	struct json_object *v = jsonc_member(o, "custom_id");
	const char *text = text_of(o, "custom_id");
	size_t n = text ? strlen(text) : 0;

	if (!n || n > BATCH_NAME_MAX || n != (size_t)json_object_get_string_len(v))
		return NULL;
	return strdup(text);
}

char *batch_custom_id(const char *text, size_t n)
{
	struct json_object *o = NULL;
	struct err err = { 0 };
	char *id;

	if (input_json_object(text, n, &o, &err))
		return NULL;
	id = name_of(o);
	json_object_put(o);
	return id;
}

/* ---- what a line asks ---- */

static bool fault(struct batch_fault *f, const char *code, const char *sentence)
{
	f->code = code;
	err_set(&f->err, 0, "%s", sentence);
	return false;
}

static bool check(struct batch_ask *a, struct batch_fault *f)
{
	struct json_object *body = jsonc_member(a->object, "body");
	const char *method = text_of(a->object, "method"), *url = text_of(a->object, "url");
	char *name = name_of(a->object);

	free(name);
	if (!name)
		return fault(f, "missing_custom_id", "custom_id is not a text of 1 byte to 64 KiB");
	if (method && strcmp(method, "POST") != 0)
		return fault(f, "invalid_method", "method is not POST");
	for (size_t i = 0; url && i < ARRAY_LEN(urls); i++)
		if (!strcmp(url, urls[i]))
			a->url = urls[i];
	if (!a->url)
		return fault(f, "invalid_url", "url is none that a batch can ask");
	if (!json_object_is_type(body, json_type_object))
		return fault(f, "invalid_body", "body is not an object");
	if (json_object_get_boolean(jsonc_member(body, "stream")))
		return fault(f, "invalid_body", "body.stream: a batch has no streams");
	a->body = json_object_to_json_string_ext(body, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE);
	return a->body || fault(f, "no_memory", "out of memory");
}

bool batch_ask_parse(const char *text, size_t n, struct batch_ask *ret,
		     struct batch_fault *ret_fault)
{
	struct err err = { 0 };

	*ret = (struct batch_ask){ 0 };
	*ret_fault = (struct batch_fault){ 0 };
	if (n > BATCH_LINE_MAX)
		return fault(ret_fault, "line_too_long", "the line is too long");
	if (input_json_object(text, n, &ret->object, &err))
		return fault(ret_fault, "invalid_json", err.text);
	return check(ret, ret_fault);
}

/* ---- results ---- */

static struct json_object *head(const struct batch_line *l)
{
	struct json_object *o = json_object_new_object();
	char number[16], id[48];
	uint64_t hash;

	snprintf(number, sizeof(number), "%u", l->number);
	hash = l->custom_id ? hash64(l->custom_id, strlen(l->custom_id), 0)
			    : hash64(number, strlen(number), 1);
	snprintf(id, sizeof(id), "batch_req_%016llx", (unsigned long long)hash);
	json_object_object_add(o, "id", json_object_new_string(id));
	json_object_object_add(o, "custom_id",
			       l->custom_id ? json_object_new_string(l->custom_id) : NULL);
	return o;
}

char *batch_result_fault(const struct batch_line *l, const struct batch_fault *f)
{
	struct json_object *o = head(l), *error = json_object_new_object();

	json_object_object_add(error, "code", json_object_new_string(f->code));
	json_object_object_add(error, "message", json_object_new_string(f->err.text));
	json_object_object_add(error, "line", json_object_new_int64(l->number));
	json_object_object_add(o, "response", NULL);
	json_object_object_add(o, "error", error);
	return jsonc_take_text(o);
}

/* Prompt and answer tokens, under the names of the API that was asked. */
static void count_tokens(struct json_object *body, uint64_t ret[2])
{
	static const char *const names[2][2] = { { "prompt_tokens", "input_tokens" },
						 { "completion_tokens", "output_tokens" } };
	struct json_object *usage = jsonc_member(body, "usage");

	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < 2; k++) {
			int64_t n = json_object_get_int64(jsonc_member(usage, names[i][k]));

			ret[i] += n > 0 ? (uint64_t)n : 0;
		}
}

/* Newlines can only stand between the values of JSON. */
static void join_lines(char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] == '\n' || text[i] == '\r')
			text[i] = ' ';
}

static char *answer_line(const struct batch_line *l, const struct http_reply *r)
{
	struct json_object *id = json_object_new_string(r->request_id);
	struct bytes all = { 0 };
	char *first = jsonc_take_text(head(l)), status[96];
	size_t at;
	int rc = first ? 0 : -ENOMEM;

	/* ..."custom_id":"x"} without its end */
	if (!rc)
		rc = bytes_put(&all, first, strlen(first) - 1);
	snprintf(status, sizeof(status),
		 ",\"response\":{\"status_code\":%u,\"request_id\":", r->status);
	if (!rc)
		rc = bytes_put(&all, status, strlen(status));
	if (!rc)
		rc = bytes_put(&all, json_object_to_json_string(id),
			       strlen(json_object_to_json_string(id)));
	if (!rc)
		rc = bytes_put(&all, ",\"body\":", 8);
	at = all.n;
	if (!rc)
		rc = bytes_put(&all, r->body.data, r->body.n);
	if (!rc)
		join_lines(all.data + at, all.n - at);
	if (!rc)
		rc = bytes_put(&all, "},\"error\":null}", 15);
	json_object_put(id);
	free(first);
	if (rc)
		bytes_done(&all);
	return all.data;
}

/* Could batch_resume() read it? And is it no answer of status 200 then? */
static bool is_readable(const char *result, bool *ret_failed)
{
	size_t n = strlen(result);
	uint32_t line;
	char *id;

	if (n > BATCH_LINE_MAX || batch_result_parse(result, n, &id, &line, ret_failed))
		return false;
	free(id);
	return true;
}

char *batch_result_answer(const struct batch_line *l, const struct http_reply *r,
			  uint64_t ret_tokens[2], bool *ret_failed)
{
	struct json_object *body = NULL;
	struct batch_fault f = { .code = "invalid_answer" };
	struct err err = { 0 };
	char *line;

	*ret_failed = true;
	if (!r->body.n || memchr(r->body.data, 0, r->body.n) ||
	    input_json_object(r->body.data, r->body.n, &body, &err)) {
		err_set(&f.err, 0, "the answer of status %u is no JSON object", r->status);
		return batch_result_fault(l, &f);
	}
	count_tokens(body, ret_tokens);
	line = answer_line(l, r);
	json_object_put(body);
	if (!line || is_readable(line, ret_failed))
		return line;
	*ret_failed = true;
	free(line);
	err_set(&f.err, 0, "the answer is too large, or nests too deep, to be kept");
	return batch_result_fault(l, &f);
}

int batch_result_parse(const char *text, size_t n, char **ret_id, uint32_t *ret_line,
		       bool *ret_failed)
{
	struct json_object *o = NULL, *error, *response, *ignored;
	struct err err = { 0 };
	int64_t line;

	if (input_json_object(text, n, &o, &err))
		return -EINVAL;
	error = jsonc_member(o, "error");
	response = jsonc_member(o, "response");
	line = json_object_get_int64(jsonc_member(error, "line"));
	*ret_id = name_of(o);
	*ret_line = line > 0 && line <= UINT32_MAX ? (uint32_t)line : 0;
	*ret_failed = error || json_object_get_int64(jsonc_member(response, "status_code")) != 200;
	/* both keys stand in every line of ours */
	n = json_object_object_get_ex(o, "response", &ignored) &&
	    json_object_object_get_ex(o, "error", &ignored) && (*ret_id || *ret_line);
	json_object_put(o);
	if (n)
		return 0;
	free(*ret_id);
	*ret_id = NULL;
	return -EINVAL;
}
