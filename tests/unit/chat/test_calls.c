/* SPDX-License-Identifier: MIT */
/*
 * Description: reasoning, content and calls in a model's text, the same for every cutting of it.
 *
 * tests/data/toolcalls/rows.json is our own, toolcalls/cases.json of SHARED the wide set. Each text
 * is fed whole, in pieces of one to nine bytes and in two pieces cut at every place. Hostile texts
 * are such as make a parser that begins anew at each marker take quadratic time or memory.
 */
#include "tests/unit/chat/chat_rows.h"

#include <errno.h>

#include "base/num.h"
#include "chat/calls.h"
#include "chat/calls_json.h"

#define TOOLS                                                                              \
	"[{\"type\": \"function\", \"function\": {\"name\": \"lookup\", \"parameters\": {" \
	"\"type\": \"object\", \"properties\": {\"word\": {\"type\": \"string\"}, "        \
	"\"n\": {\"type\": \"integer\"}, \"deep\": {\"type\": [\"boolean\", \"null\"]}}}}}]"

struct found {
	char *text[2]; /* reasoning, content */
	size_t n[2];
	struct json_object *calls;
	char *arguments;
	size_t n_arguments;
	bool open;
};

/* Room for @n bytes and a NUL: powers of two, so that small pieces do not move a long text each. */
static size_t room_for(size_t n)
{
	size_t room = 64;

	while (room <= n)
		room *= 2;
	return room;
}

static void append(char **p, size_t *n, const char *text, size_t len)
{
	if (!*p || room_for(*n) < room_for(*n + len))
		*p = realloc(*p, room_for(*n + len));
	memcpy(*p + *n, text, len);
	*n += len;
	(*p)[*n] = '\0';
}

static void take(struct found *f, const struct calls_delta *d)
{
	struct json_object *call;

	if (d->kind <= CALLS_CONTENT) {
		assert_true(d->n > 0 && !f->open);
		append(&f->text[d->kind], &f->n[d->kind], d->text, d->n);
	} else if (d->kind == CALLS_BEGIN) {
		assert_true(!f->open && d->call == json_object_array_length(f->calls));
		assert_true(strlen(d->id) > 0 && d->name[d->name_n] == '\0');
		call = json_object_new_object();
		json_object_object_add(call, "id", json_object_new_string(d->id));
		json_object_object_add(call, "name",
				       json_object_new_string_len(d->name, (int)d->name_n));
		json_object_array_add(f->calls, call);
		f->n_arguments = 0;
		f->open = true;
	} else if (d->kind == CALLS_ARGUMENTS) {
		assert_true(f->open);
		append(&f->arguments, &f->n_arguments, d->text, d->n);
	} else {
		assert_true(f->open);
		f->open = false;
		call = json_object_array_get_idx(f->calls, d->call);
		assert_int_equal(json_kind_of(f->arguments, f->n_arguments), JSON_OBJECT);
		json_object_object_add(
			call, "arguments",
			json_object_new_string_len(f->arguments, (int)f->n_arguments));
	}
}

static void done(struct found *f)
{
	free(f->text[0]);
	free(f->text[1]);
	free(f->arguments);
	json_object_put(f->calls);
}

static enum calls_format format_named(const char *name)
{
	enum calls_format f = 0;

	while (f < CALLS_FORMATS && strcmp(calls_format_name(f), name))
		f++;
	assert_true(f < CALLS_FORMATS);
	return f;
}

/* @first bytes, then pieces of @step. */
static struct found parse(const struct calls_options *o, const char *text, size_t n, size_t first,
			  size_t step)
{
	struct found f = { .calls = json_object_new_array() };
	const struct calls_delta *d;
	struct calls *c;
	size_t at = 0, n_d;

	assert_int_equal(calls_create(o, &c, NULL), 0);
	for (size_t len = first; at < n; at += len, len = step) {
		len = len < n - at ? len : n - at;
		assert_int_equal(calls_feed(c, text + at, len, &d, &n_d), 0);
		for (size_t i = 0; i < n_d; i++)
			take(&f, &d[i]);
	}
	assert_int_equal(calls_finish(c, &d, &n_d), 0);
	for (size_t i = 0; i < n_d; i++)
		take(&f, &d[i]);
	assert_false(f.open);
	calls_destroy(c);
	return f;
}

static bool same_text(const struct found *f, unsigned kind, struct json_object *want)
{
	size_t n = (size_t)json_object_get_string_len(want);

	return f->n[kind] == n && (!n || !memcmp(f->text[kind], json_object_get_string(want), n));
}

/* Arguments of rows are text or an object; what json-c reads from them is compared. */
static bool same_call(struct json_object *got, struct json_object *want)
{
	struct json_object *a = member(want, "arguments"), *b;
	bool same = !strcmp(text_member(got, "name"), text_member(want, "name"));

	if (json_object_is_type(a, json_type_string))
		return same && json_object_equal(a, member(got, "arguments")) &&
		       (!member(want, "id") ||
			json_object_equal(member(got, "id"), member(want, "id")));
	b = json_of(text_member(got, "arguments"));
	same = same && json_object_equal(a, b);
	json_object_put(b);
	return same &&
	       (!member(want, "id") || json_object_equal(member(got, "id"), member(want, "id")));
}

static bool same_found(const struct found *f, struct json_object *want)
{
	struct json_object *calls = member(want, "tool_calls");
	size_t n = json_object_array_length(calls);

	if (!same_text(f, 0, member(want, "reasoning_content")) ||
	    !same_text(f, 1, member(want, "content")) || json_object_array_length(f->calls) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!same_call(json_object_array_get_idx(f->calls, i),
			       json_object_array_get_idx(calls, i)))
			return false;
	return true;
}

static void check_cut(const struct calls_options *o, struct json_object *row, const char *text,
		      size_t n, size_t first, size_t step)
{
	struct found f = parse(o, text, n, first, step);

	if (!same_found(&f, member(row, "expected")))
		fail_msg("%s, cut at %zu and then in pieces of %zu:\n%.300s\nreasoning %s\n"
			 "content %s\ncalls %s",
			 calls_format_name(o->format), first, step, text,
			 f.text[0] ? f.text[0] : "", f.text[1] ? f.text[1] : "",
			 json_object_to_json_string(f.calls));
	done(&f);
}

static void check_row(struct json_object *row, const char *key, struct json_object *tools)
{
	struct json_object *s = member(row, key);
	const char *text = json_object_get_string(s);
	size_t n = (size_t)json_object_get_string_len(s);
	const struct calls_options o = {
		.format = format_named(text_member(row, "format")),
		.tools = tools,
		.thinking_start = json_object_get_boolean(member(row, "thinking_start")),
		.id_seed = 1,
	};

	check_cut(&o, row, text, n, n, n);
	for (size_t step = 1; step < 10; step++)
		check_cut(&o, row, text, n, step, step);
	for (size_t first = 1; first < n; first++)
		check_cut(&o, row, text, n, first, n);
}

static void rows_of_our_own(void **state)
{
	char path[DATA_PATH];
	struct json_object *rows = read_json(fixture("toolcalls/rows.json", path));
	struct json_object *tools = json_of(TOOLS);
	size_t n = json_object_array_length(rows);

	assert_true(n > 10);
	for (size_t i = 0; i < n; i++)
		check_row(json_object_array_get_idx(rows, i), "text", tools);
	json_object_put(rows);
	json_object_put(tools);
}

static void cases(void **state)
{
	char path[DATA_PATH];
	struct json_object *rows = read_json(fixture("toolcalls/cases.json", path));
	size_t n = json_object_array_length(rows);

	for (size_t i = 0; i < n; i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);

		check_row(row, "model_output_text", member(row, "tools"));
	}
	json_object_put(rows);
}

/* Every published template's form, and those that have none that is known. */
static void forms(void **state)
{
	static const struct {
		const char *name, *format;
	} all[] = {
		{ "Qwen-Qwen3-0.6B", "hermes" },
		{ "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "hermes" },
		{ "Qwen3-Coder", "qwen3_xml" },
		{ "Qwen3.5-4B", "qwen3_xml" },
		{ "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "qwen3_xml" },
		{ "GLM-4.6", "glm" },
		{ "MiniMax-M2", "minimax_m2" },
		{ "deepseek-ai-DeepSeek-V3.1", "deepseek_v3.1" },
		{ "moonshotai-Kimi-K2", "kimi_k2" },
		{ "Kimi-K2-Thinking", "kimi_k2" },
		{ "openai-gpt-oss-120b", "harmony" },
		{ "MiniMax-M3", NULL },
		{ "sluice", NULL },
		{ "meta-llama-Llama-3.2-3B-Instruct", NULL },
		{ "google-gemma-4-31B-it", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		char name[128], path[DATA_PATH], *text;
		bool told;
		size_t n;

		snprintf(name, sizeof(name), "templates/%s.jinja", all[i].name);
		text = read_text(fixture(name, path), &n);
		assert_string_equal(calls_format_name(calls_format_of(text, n, &told)),
				    all[i].format ? all[i].format : "hermes");
		if (told != !!all[i].format)
			fail_msg("%s: %s", all[i].name, told ? "told" : "not told");
		free(text);
	}
}

static void told_in_words(void **state)
{
	struct json_object *tools = json_of(TOOLS), *out, *m;
	struct json_object *in = json_of(
		"[{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", "
		"\"content\": \"x\", \"tool_calls\": [{\"function\": {\"name\": \"lookup\", "
		"\"arguments\": \"{\\\"n\\\": 1}\"}}]}, {\"role\": \"tool\", \"content\": \"7\"}]");

	assert_int_equal(calls_tell(in, tools, &out, NULL), 0);
	assert_int_equal(json_object_array_length(out), 4);
	m = json_object_array_get_idx(out, 0);
	assert_string_equal(text_member(m, "role"), "system");
	assert_non_null(strstr(text_member(m, "content"), "\"name\":\"lookup\""));
	m = json_object_array_get_idx(out, 2);
	assert_string_equal(
		text_member(m, "content"),
		"x\n<tool_call>\n{\"name\": \"lookup\", \"arguments\": {\"n\": 1}}\n</tool_call>");
	assert_null(member(m, "tool_calls"));
	m = json_object_array_get_idx(out, 3);
	assert_string_equal(text_member(m, "role"), "user");
	assert_string_equal(text_member(m, "content"), "<tool_response>\n7\n</tool_response>");
	json_object_put(out);
	json_object_put(in);

	in = json_of("[{\"role\": \"system\", \"content\": \"Be kind.\"}]");
	assert_int_equal(calls_tell(in, tools, &out, NULL), 0);
	assert_int_equal(json_object_array_length(out), 1);
	m = json_object_array_get_idx(out, 0);
	assert_memory_equal(text_member(m, "content"), "Be kind.\n\nYou can call", 22);
	json_object_put(out);
	json_object_put(in);
	in = json_of("[1]");
	assert_int_equal(calls_tell(in, tools, &out, NULL), -EINVAL);
	json_object_put(in);
	json_object_put(tools);
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Begin, a unit many times, an end: all of it must come out again, in time. */
static const struct {
	const char *format, *begin, *unit, *end;
} hostile[] = {
	{ "hermes", "", "<tool_call>{", "" },
	{ "hermes", "", "<tool_call>{\"name\": \"", "" },
	{ "hermes", "<tool_call>{\"name\": \"", "<tool_call>{\\\"", "" },
	{ "hermes", "<tool_call>{\"arguments\":", "[", "" },
	{ "hermes", "", "<tool_call>  \n ", "" },
	{ "qwen3_xml", "", "<function=lookup><parameter=word>", "" },
	{ "qwen3_xml", "", "<tool_call><function=lookup><parameter=word>",
	  "</parameter><parameter=" },
	{ "qwen3_xml", "<function=lookup><parameter=a>", "<function=lookup><parameter=b>x",
	  "</parameter></parameter><parameter=x></parameter><parameter=\n" },
	{ "qwen3_xml", "<function=lookup><parameter=a>", "</parameter>   ", "" },
	{ "qwen3_xml", "", "<function=", "" },
	{ "glm", "", "<tool_call>lookup\n<arg_key>", "" },
	{ "glm", "", "<tool_call>lookup\n<arg_key>a</arg_key><arg_value>", "" },
	{ "minimax_m2", "", "<minimax:tool_call><invoke name=\"lookup\"><parameter name=\"a\">",
	  "" },
	{ "minimax_m2", "", "<minimax:tool_call><invoke name=\">", "" },
	{ "deepseek_v3.1", "", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "" },
	{ "kimi_k2", "", "<|tool_calls_section_begin|><|tool_call_begin|>", "" },
	{ "kimi_k2", "",
	  "<|tool_calls_section_begin|><|tool_call_begin|>a<|tool_call_argument_begin|>{\"", "" },
};

static void long_texts(void **state)
{
	enum { SIZE = 1 << 19 };
	struct json_object *tools = json_of(TOOLS);

	for (unsigned i = 0; i < 2 * ARRAY_LEN(hostile); i++) {
		const struct calls_options o = {
			.format = format_named(hostile[i / 2].format),
			.tools = tools,
			.thinking_start = i & 1,
		};
		char *text = NULL;
		struct found f;
		size_t n = 0;
		double t;

		append(&text, &n, hostile[i / 2].begin, strlen(hostile[i / 2].begin));
		while (n < SIZE)
			append(&text, &n, hostile[i / 2].unit, strlen(hostile[i / 2].unit));
		append(&text, &n, hostile[i / 2].end, strlen(hostile[i / 2].end));
		t = cpu_seconds();
		f = parse(&o, text, n, n / 3, n / 7);
		t = cpu_seconds() - t;
		if (t > 5)
			fail_msg("%s, %s: %.1f s", hostile[i / 2].format, hostile[i / 2].unit, t);
		if (!(i & 1)) { /* no byte is lost */
			assert_int_equal(f.n[1], n);
			assert_memory_equal(f.text[1], text, n);
		}
		done(&f);
		free(text);
	}
	json_object_put(tools);
}

/* Many calls in a thought that goes on behind them. */
static void thought_of_calls(void **state)
{
	static const char *const units[] = {
		"<tool_call><function=lookup><parameter=word>x</parameter></function></tool_call>\n",
		"<function=lookup>\n</function>",
	};
	struct json_object *tools = json_of(TOOLS);

	for (unsigned i = 0; i < ARRAY_LEN(units); i++) {
		const struct calls_options o = { .format = CALLS_QWEN3_XML,
						 .tools = tools,
						 .thinking_start = true };
		char *text = NULL;
		size_t n = 0;
		double t = cpu_seconds();
		struct found f;

		while (n < 1 << 19)
			append(&text, &n, units[i], strlen(units[i]));
		append(&text, &n, "no</think>yes", 13);
		f = parse(&o, text, n, n, n);
		assert_true(cpu_seconds() - t < 5);
		assert_int_equal(f.n[0], n - 11);
		assert_string_equal(f.text[1], "yes");
		assert_int_equal(json_object_array_length(f.calls), 0);
		done(&f);
		f = parse(&o, text, n - 13, 100, 1000);
		assert_true(json_object_array_length(f.calls) > 5000);
		done(&f);
		free(text);
	}
	json_object_put(tools);
}

/* Content is given out up to whole characters, and a text without end is not kept. */
static void streams(void **state)
{
	const struct calls_options o = { .format = CALLS_HERMES };
	const struct calls_delta *d;
	struct calls *c;
	size_t n;

	assert_int_equal(calls_create(&o, &c, NULL), 0);
	calls_feed(c, "a\xc3", 2, &d, &n);
	assert_int_equal(n, 1);
	assert_int_equal(d[0].n, 1);
	calls_feed(c, "\xa9\xf0\x9f", 3, &d, &n);
	assert_int_equal(d[0].n, 2);
	calls_feed(c, "x", 1, &d, &n); /* it was no character after all */
	assert_int_equal(d[0].n, 3);
	calls_finish(c, &d, &n);
	calls_destroy(c);
}

/* A call of each form, and what begins one. */
static const struct {
	enum calls_format format;
	const char *call, *start;
} written[] = {
	{ CALLS_HERMES,
	  "<tool_call>\n{\"name\": \"lookup\", \"arguments\": {\"n\": 1}}\n</tool_call>",
	  "<tool_call>" },
	{ CALLS_QWEN3_XML,
	  "<tool_call>\n<function=lookup>\n<parameter=n>\n1\n</parameter>\n</function>\n</tool_call>",
	  "<tool_call>" },
	{ CALLS_GLM,
	  "<tool_call>lookup\n<arg_key>n</arg_key>\n<arg_value>1</arg_value>\n</tool_call>",
	  "<tool_call>" },
	{ CALLS_MINIMAX_M2,
	  "<minimax:tool_call>\n<invoke name=\"lookup\">\n<parameter name=\"n\">1</parameter>\n"
	  "</invoke>\n</minimax:tool_call>",
	  "<minimax:tool_call>" },
	{ CALLS_DEEPSEEK_V31,
	  "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>lookup<｜tool▁sep｜>{\"n\": 1}<｜tool▁call▁end｜>"
	  "<｜tool▁calls▁end｜>",
	  "<｜tool▁calls▁begin｜>" },
	{ CALLS_KIMI_K2,
	  "<|tool_calls_section_begin|><|tool_call_begin|>functions.lookup:0"
	  "<|tool_call_argument_begin|>{\"n\": 1}<|tool_call_end|><|tool_calls_section_end|>",
	  "<|tool_calls_section_begin|>" },
	{ CALLS_HARMONY,
	  "<|channel|>commentary to=functions.lookup <|constrain|>json<|message|>{\"n\": 1}<|call|>",
	  "" },
};

/* Held to calls, or to calls and JSON, and cut at any byte: the calls that are whole, and no content. */
static void forced_and_cut(void **state)
{
	struct json_object *tools = json_of(TOOLS);

	for (unsigned i = 0; i < 2 * ARRAY_LEN(written); i++) {
		const struct calls_options o = { .format = written[i / 2].format,
						 .tools = tools,
						 .calls_only = i % 2,
						 .json_or_calls = i % 2 == 0,
						 .id_seed = 1 };
		char two[1024];
		const char *call = written[i / 2].call;
		size_t one = strlen(call), n;

		n = (size_t)snprintf(two, sizeof(two), "%s\n%s", call, call);
		if (o.format == CALLS_HARMONY && o.json_or_calls)
			n = one; /* which ends the answer */
		for (size_t len = 1; len <= n; len++)
			for (size_t step = 1; step <= len; step = step * 3 + 1) {
				struct found f = parse(&o, two, len, step, step);
				size_t calls = json_object_array_length(f.calls);

				if (f.n[1] || f.n[0] || calls > 2 || (len >= one && !calls))
					fail_msg("%s: %.*s: content %s, %zu calls",
						 calls_format_name(o.format), (int)len, two,
						 f.text[1] ? f.text[1] : "", calls);
				done(&f);
			}
	}
	json_object_put(tools);
}

/* The JSON text that stands in the place of calls: content to the last byte, markers within it too. */
static void json_and_cut(void **state)
{
	static const char text[] = " {\"a\": \"<tool_call>\", \"b\": \"<";
	struct json_object *tools = json_of(TOOLS);

	for (unsigned i = 0; i < ARRAY_LEN(written); i++) {
		const struct calls_options o = { .format = written[i].format,
						 .tools = tools,
						 .json_or_calls = true };

		for (size_t len = 1; len < sizeof(text); len++)
			for (size_t step = 1; step < 9; step++) {
				struct found f = parse(&o, text, len, step, step);

				if (f.n[1] != len || memcmp(f.text[1], text, len))
					fail_msg("%s: '%.*s' became '%s'",
						 calls_format_name(o.format), (int)len, text,
						 f.text[1] ? f.text[1] : "");
				done(&f);
			}
	}
	json_object_put(tools);
}

/* The beginning of a marker at the end of a free answer is text. */
static void free_and_cut(void **state)
{
	struct json_object *tools = json_of(TOOLS);

	for (unsigned i = 0; i < ARRAY_LEN(written); i++) {
		const struct calls_options o = { .format = written[i].format, .tools = tools };

		for (size_t len = 0; len <= strlen(written[i].start); len++)
			for (size_t step = 1; step < 9; step++) {
				char text[64];
				size_t n = (size_t)snprintf(text, sizeof(text), "1 <2 %.*s",
							    (int)len, written[i].start);
				struct found f = parse(&o, text, n, step, step);

				if (f.n[1] != n || memcmp(f.text[1], text, n))
					fail_msg("%s: '%s' became '%s'",
						 calls_format_name(o.format), text,
						 f.text[1] ? f.text[1] : "");
				done(&f);
			}
	}
	json_object_put(tools);
}

static void wrong_tools(void **state)
{
	static const char *const all[] = { "{}", "[1]", "[{\"function\": {}}]",
					   "[{\"function\": {\"name\": 1}}]" };

	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		struct calls_options o = { .tools = json_of(all[i]) };
		struct err err = { 0 };
		struct calls *c = NULL;

		assert_int_equal(calls_create(&o, &c, &err), -EINVAL);
		assert_true(err.text[0]);
		json_object_put(o.tools);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_of_our_own), cmocka_unit_test(cases),
		cmocka_unit_test(forms),	   cmocka_unit_test(told_in_words),
		cmocka_unit_test(long_texts),	   cmocka_unit_test(thought_of_calls),
		cmocka_unit_test(streams),	   cmocka_unit_test(wrong_tools),
		cmocka_unit_test(forced_and_cut),  cmocka_unit_test(free_and_cut),
		cmocka_unit_test(json_and_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
