/* SPDX-License-Identifier: MIT */
/* Description: reasoning, content and calls as each HTTP API words them, streamed and whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serve/http_private.h"

#define ANSWER                                                                                                              \
	"I think.</think>\n\nI look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Pa\\\"ris\"}}\n" \
	"</tool_call>\n<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>"

static const char tools[] =
	"[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\","
	"\"properties\":{\"city\":{\"type\":\"string\"}}}}},{\"type\":\"function\",\"function\":{\"name\":\"get_time\"}}]";

/* A request whose one choice wrote @text, in pieces of @cut bytes; its output. */
static struct json_object *events;

static void run(const struct http_form *form, bool stream, size_t cut, bool one_call)
{
	static struct http http = { .model = (char *)"demo" };
	struct http_route route = { .form = form };
	struct http_call call = { .route = &route };
	struct choice choice = { .n_prompt = 7, .n_tokens = 9 };
	struct http_request r = { .http = &http,
				  .route = &route,
				  .call = &call,
				  .choices = &choice,
				  .n_choices = 1,
				  .name = "resp_abc" };
	size_t n = strlen(ANSWER);
	char *at;

	call.json = json_object_new_object();
	call.gen = (struct generation){ .n = 1,
					.chat = true,
					.stream = stream,

					.calls_format = CALLS_HERMES,
					.thinking_open = true,
					.one_call = one_call,
					.tools = json_tokener_parse(tools) };
	assert_true(sink_start(&r, &choice));
	if (stream && form->begin)
		form->begin(&r);
	for (size_t i = 0; i < n; i += cut)
		sink_piece(&r, &choice, ANSWER + i, i + cut < n ? cut : n - i);
	choice.finish = FINISH_STOP;
	sink_finish(&r, &choice);
	choice.done = true;
	form->finish(&r, &choice);
	form->end(&r);
	assert_int_equal(r.fault.status, 0);
	events = json_object_new_array();
	if (!stream)
		json_object_array_add(events, json_tokener_parse(r.out.data));
	for (at = stream ? r.out.data : NULL; at && (at = strstr(at, "data: ")); at += 6)
		if (at[6] == '{')
			json_object_array_add(events, json_tokener_parse(at + 6));
	sink_done(&choice);
	json_object_put(call.json);
	json_object_put(call.gen.tools);
	buf_done(&r.out);
}

static void done(void)
{
	json_object_put(events);
}

/* The text at a path "a.b.0.c" of @o; "" where there is none. */
static const char *at(struct json_object *o, const char *path)
{
	char copy[128], *save = NULL;

	strcpy(copy, path);
	for (char *p = strtok_r(copy, ".", &save); p && o; p = strtok_r(NULL, ".", &save)) {
		if (json_object_is_type(o, json_type_array))
			o = json_object_array_get_idx(o, (size_t)atoi(p));
		else
			o = get(o, p);
	}
	return o ? json_object_get_string(o) : "";
}

static struct json_object *event(size_t i)
{
	return json_object_array_get_idx(events, i);
}

/* The texts at @path of all events, one after the other. */
static const char *joined(const char *path)
{
	static char all[1024];

	all[0] = '\0';
	for (size_t i = 0; i < json_object_array_length(events); i++)
		strcat(all, at(event(i), path));
	return all;
}

static void openai_whole(void **state)
{
	run(&chat_form, false, 5, false);
	assert_string_equal(at(event(0), "choices.0.finish_reason"), "tool_calls");
	assert_string_equal(at(event(0), "choices.0.message.reasoning_content"), "I think.");
	assert_string_equal(at(event(0), "choices.0.message.tool_calls.0.function.name"),
			    "get_weather");
	assert_string_equal(at(event(0), "choices.0.message.tool_calls.0.function.arguments"),
			    "{\"city\": \"Pa\\\"ris\"}");
	assert_string_equal(at(event(0), "choices.0.message.tool_calls.1.function.name"),
			    "get_time");
	assert_non_null(strstr(at(event(0), "choices.0.message.content"), "I look."));
	assert_string_equal(at(event(0), "usage.total_tokens"), "16");
	done();
	run(&chat_form, false, 5, true);
	assert_string_equal(at(event(0), "choices.0.message.tool_calls.1.function.name"), "");
	done();
}

static void openai_stream(void **state)
{
	for (size_t cut = 1; cut < 60; cut += 7) {
		run(&chat_form, true, cut, false);
		assert_string_equal(at(event(0), "choices.0.delta.role"), "assistant");
		assert_string_equal(joined("choices.0.delta.reasoning_content"), "I think.");
		assert_string_equal(joined("choices.0.delta.tool_calls.0.function.name"),
				    "get_weatherget_time");
		assert_string_equal(joined("choices.0.delta.tool_calls.0.function.arguments"),
				    "{\"city\": \"Pa\\\"ris\"}{}");
		assert_string_equal(joined("choices.0.finish_reason"), "tool_calls");
		done();
	}
}

static void anthropic(void **state)
{
	run(&messages_form, false, 9, false);
	assert_string_equal(at(event(0), "stop_reason"), "tool_use");
	assert_string_equal(at(event(0), "content.0.thinking"), "I think.");
	assert_string_equal(at(event(0), "content.1.type"), "text");
	assert_string_equal(at(event(0), "content.2.name"), "get_weather");
	assert_string_equal(at(event(0), "content.2.input.city"), "Pa\"ris");
	assert_string_equal(at(event(0), "content.3.name"), "get_time");
	done();
	run(&messages_form, true, 9, false);
	assert_string_equal(joined("delta.thinking"), "I think.");
	assert_string_equal(joined("delta.partial_json"), "{\"city\": \"Pa\\\"ris\"}{}");
	assert_string_equal(joined("content_block.name"), "get_weatherget_time");
	assert_string_equal(joined("delta.stop_reason"), "tool_use");
	assert_string_equal(joined("message.role"), "assistant");
	done();
}

static void responses(void **state)
{
	struct json_object *last;
	unsigned items = 0;

	run(&responses_form, true, 9, false);
	last = event(json_object_array_length(events) - 1);
	assert_string_equal(at(last, "type"), "response.completed");
	assert_string_equal(at(last, "response.output.0.type"), "reasoning");
	assert_string_equal(at(last, "response.output.2.arguments"), "{\"city\": \"Pa\\\"ris\"}");
	for (size_t i = 0; i < json_object_array_length(events); i++) {
		char path[64];

		assert_int_equal(atoi(at(event(i), "sequence_number")), i);
		if (strcmp(at(event(i), "type"), "response.output_item.done"))
			continue;
		snprintf(path, sizeof(path), "response.output.%u", items++);
		assert_string_equal(at(event(i), "item"), at(last, path));
	}
	assert_int_equal(items, 4);
	done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(openai_whole),
		cmocka_unit_test(openai_stream),
		cmocka_unit_test(anthropic),
		cmocka_unit_test(responses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
