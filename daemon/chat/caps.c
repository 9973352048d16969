/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/caps.c: what a chat template can do, found by rendering small conversations whose
 * words are then looked for in the text, or whose renderings are compared. See caps.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "chat/caps.h"

#define USER "{\"role\":\"user\",\"content\":\"probe_user\"}"
#define CALL(n)                                                                                 \
	"{\"id\":\"call0000" n "\",\"type\":\"function\",\"function\":{\"name\":\"probe_call" n \
	"\","
#define OBJECT	 "\"arguments\":{\"key\":\"probe_value\"}}}"
#define TEXT	 "\"arguments\":\"{\\\"key\\\":\\\"probe_value\\\"}\"}}"
#define ASKED(c) "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[" c "]}"
#define TOLD(n)                                                                               \
	"{\"role\":\"tool\",\"tool_call_id\":\"call0000" n "\",\"name\":\"probe_call" n "\"," \
	"\"content\":\"probe_result\"}"
#define TOOLS                                                                                \
	"[{\"type\":\"function\",\"function\":{\"name\":\"probe_tool\",\"description\":"     \
	"\"a probe\",\"parameters\":{\"type\":\"object\",\"properties\":{\"key\":{\"type\":" \
	"\"string\",\"description\":\"a key\"}},\"required\":[\"key\"]}}}]"

/* The text of a conversation given as JSON, malloc'd; NULL where the template fails. */
static char *render(const struct chat_template *c, const char *messages, const char *tools,
		    const char *kwargs)
{
	const struct template_options o = { .limits = { .steps = 2000000, .bytes = 32u << 20 } };
	struct chat_input in = { .add_generation_prompt = true, .raw = true };
	struct template_error err = { 0 };
	struct rendered r = { 0 };

	in.messages = json_tokener_parse(messages);
	in.tools = tools ? json_tokener_parse(tools) : NULL;
	in.kwargs = kwargs ? json_tokener_parse(kwargs) : NULL;
	if (chat_render(c, &in, &o, &r, &err))
		r = (struct rendered){ 0 };
	json_object_put(in.messages);
	json_object_put(in.tools);
	json_object_put(in.kwargs);
	free(r.trusted);
	return r.text;
}

/* Whether the conversation renders and shows @word (and, if not NULL, @other). */
static bool shows(const struct chat_template *c, const char *messages, const char *tools,
		  const char *kwargs, const char *word, const char *other)
{
	char *text = render(c, messages, tools, kwargs);
	bool found = text && strstr(text, word) && (!other || strstr(text, other));

	free(text);
	return found;
}

static bool differ(const struct chat_template *c, const char *messages, const char *kwargs,
		   const char *others)
{
	char *a = render(c, messages, NULL, kwargs), *b = render(c, messages, NULL, others);
	bool different = a && b && strcmp(a, b);

	free(a);
	free(b);
	return different;
}

void chat_caps_probe(const struct chat_template *c, struct chat_caps *ret)
{
	static const char call[] = "[" USER "," ASKED(CALL("1") OBJECT) "," TOLD("1") "]";
	static const char text_call[] = "[" USER "," ASKED(CALL("1") TEXT) "," TOLD("1") "]";
	static const char two[] =
		"[" USER
		"," ASKED(CALL("1") OBJECT "," CALL("2") OBJECT) "," TOLD("1") "," TOLD("2") "]";
	static const char typed[] = "[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
				    "\"text\":\"probe_part\"}]}]";
	static const char thought[] = "[" USER
				      ",{\"role\":\"assistant\",\"content\":\"probe_answer\","
				      "\"reasoning_content\":\"probe_thought\"}," USER "]";
	char *part = render(c, typed, NULL, NULL);

	*ret = (struct chat_caps){
		.system = shows(c, "[{\"role\":\"system\",\"content\":\"probe_system\"}," USER "]",
				NULL, NULL, "probe_system", NULL),
		.tools = shows(c, "[" USER "]", TOOLS, NULL, "probe_tool", NULL),
		.tool_calls = shows(c, call, TOOLS, NULL, "probe_call1", "probe_value"),
		.parallel_tool_calls = shows(c, two, TOOLS, NULL, "probe_call1", "probe_call2"),
		.tool_responses = shows(c, call, TOOLS, NULL, "probe_result", NULL),
		.string_content = shows(c, "[" USER "]", NULL, NULL, "probe_user", NULL),
		.typed_content = part && strstr(part, "probe_part") && !strstr(part, "'text'") &&
				 !strstr(part, "\"text\""),
		.thinking_switch = differ(c, "[" USER "]",
					  "{\"enable_thinking\":true,\"thinking\":true}",
					  "{\"enable_thinking\":false,\"thinking\":false}"),
		.reasoning_effort = differ(c, "[" USER "]", "{\"reasoning_effort\":\"low\"}",
					   "{\"reasoning_effort\":\"high\"}"),
		.preserve_reasoning = shows(c, thought, NULL,
					    "{\"preserve_thinking\":true,\"clear_thinking\":false}",
					    "probe_thought", NULL),
	};
	ret->object_arguments = ret->tool_calls && !shows(c, text_call, TOOLS, NULL, "probe_call1",
							  "\"key\": \"probe_value\"");
	free(part);
}
