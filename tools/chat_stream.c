/* SPDX-License-Identifier: MIT */
/*
 * tools/chat_stream.c: see chat.h: server-sent events of OpenAI's chat completions ("data: " and JSON, an
 * empty line behind each), as the daemon writes them. Pure.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/chat.h"
#include "tools/json_input.h"

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v = jsonc_member(o, key);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static uint32_t count_of(struct json_object *o, const char *key)
{
	int64_t n = json_object_get_int64(jsonc_member(o, key));

	return n < 0 ? 0 : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static double number_of(struct json_object *o, const char *key)
{
	double x = json_object_get_double(jsonc_member(o, key));

	return isfinite(x) && x > 0 ? x : 0;
}

static void take_figures(struct json_object *o, struct stream_figures *f)
{
	struct json_object *usage = jsonc_member(o, "usage"), *times = jsonc_member(o, "timings");

	if (usage) {
		f->n_prompt = count_of(usage, "prompt_tokens");
		f->n_answer = count_of(usage, "completion_tokens");
		f->n_cached =
			count_of(jsonc_member(usage, "prompt_tokens_details"), "cached_tokens");
	}
	if (times) {
		f->rate = number_of(times, "predicted_per_second");
		f->prompt_ms = number_of(times, "prompt_ms");
	}
}

static void say(stream_fn fn, void *arg, int kind, const char *text)
{
	struct stream_event e = { .text = text };

	e.kind = kind;
	if (text && *text)
		fn(arg, &e);
}

static void take_choice(struct json_object *c, struct stream_figures *f, stream_fn fn, void *arg)
{
	struct json_object *delta = jsonc_member(c, "delta"), *calls;
	const char *reasoning = text_of(delta, "reasoning_content");
	const char *finish = text_of(c, "finish_reason");

	say(fn, arg, STREAM_REASONING, reasoning ? reasoning : text_of(delta, "reasoning"));
	say(fn, arg, STREAM_CONTENT, text_of(delta, "content"));
	calls = jsonc_member(delta, "tool_calls");
	for (size_t i = 0;
	     json_object_is_type(calls, json_type_array) && i < json_object_array_length(calls);
	     i++) {
		struct json_object *call =
			jsonc_member(json_object_array_get_idx(calls, i), "function");

		say(fn, arg, STREAM_CALL, text_of(call, "name"));
		say(fn, arg, STREAM_CALL, text_of(call, "arguments"));
	}
	if (finish)
		snprintf(f->finish, sizeof(f->finish), "%s", finish);
}

static void take_object(struct json_object *o, struct stream_figures *f, stream_fn fn, void *arg)
{
	struct json_object *choices = jsonc_member(o, "choices"), *error = jsonc_member(o, "error");
	struct json_object *progress = jsonc_member(o, "prompt_progress");
	const char *message = text_of(error, "message");

	if (error)
		say(fn, arg, STREAM_ERROR, message ? message : "the daemon failed");
	if (progress) {
		struct stream_event e = { .kind = STREAM_PROGRESS,
					  .n_read = count_of(progress, "processed"),
					  .n_prompt = count_of(progress, "total") };

		fn(arg, &e);
	}
	take_figures(o, f);
	if (json_object_is_type(choices, json_type_array) && json_object_array_length(choices))
		take_choice(json_object_array_get_idx(choices, 0), f, fn, arg);
}

/* One event, without the empty line. True: it is the last. */
static bool take_event(const char *text, size_t n, struct stream_figures *f, stream_fn fn,
		       void *arg)
{
	struct json_object *o = NULL;
	struct err ignored = { 0 };
	char *data;

	if (n < 6 || memcmp(text, "data: ", 6) != 0) /* a comment: the daemon is alive */
		return false;
	if (n >= 12 && !memcmp(text + 6, "[DONE]", 6)) {
		say(fn, arg, STREAM_END, "end");
		return true;
	}
	data = strndup(text + 6, n - 6); /* with a NUL behind it */
	if (data && !input_json_object(data, strlen(data), &o, &ignored)) {
		take_object(o, f, fn, arg);
		json_object_put(o);
	}
	free(data);
	return false;
}

bool stream_take(struct bytes *body, struct stream_figures *f, stream_fn fn, void *arg)
{
	size_t at = 0;
	bool ended = false;
	char *end;

	while (!ended && at < body->n && (end = memmem(body->data + at, body->n - at, "\n\n", 2))) {
		ended = take_event(body->data + at, (size_t)(end - body->data) - at, f, fn, arg);
		at = (size_t)(end - body->data) + 2;
	}
	bytes_drop(body, at);
	return ended;
}
