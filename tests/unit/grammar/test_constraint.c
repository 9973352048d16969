/* SPDX-License-Identifier: MIT */
/*
 * Description: whole answers: thoughts, channels, calls of tools around and instead of a form.
 *
 * Texts are put to the constraint's matcher as tokens of one byte, control tokens (<|channel|> and
 * others) as tokens of their own.
 */
#include "tests/unit/grammar/grammar_rows.h"

#include "base/num.h"
#include "grammar/constraint.h"

static const char *const controls[] = { "<|channel|>", "<|message|>", "<|start|>", "<|end|>" };

static void get_token(void *arg, uint32_t id, struct vocab_token *ret)
{
	static uint8_t bytes[256];

	if (id < 256) {
		bytes[id] = (uint8_t)id;
		*ret = (struct vocab_token){ &bytes[id], 1, false, false };
	} else if (id < 256 + ARRAY_LEN(controls)) {
		const char *text = controls[id - 256];

		*ret = (struct vocab_token){ (const uint8_t *)text, strlen(text), true, false };
	} else {
		*ret = (struct vocab_token){ (const uint8_t *)"<eos>", 5, true, true };
	}
}

static struct constraint *make(const struct constraint_ask *ask, int want, struct err *err)
{
	struct constraint *c = NULL;
	struct vocab *v;
	int rc;

	assert_int_equal(vocab_create(257 + ARRAY_LEN(controls), get_token, NULL, NULL, &v), 0);
	rc = constraint_create(ask, v, &c, err);
	if (rc != want)
		fail_msg("%d, not %d: %s", rc, want, err->text);
	vocab_destroy(v); /* the constraint holds it */
	return c;
}

static uint32_t next_token(const char **text)
{
	for (uint32_t i = 0; i < ARRAY_LEN(controls); i++)
		if (!strncmp(*text, controls[i], strlen(controls[i]))) {
			*text += strlen(controls[i]);
			return 256 + i;
		}
	return (unsigned char)*(*text)++;
}

/* Each token must be allowed by its mask, and where the text may end the end must be. */
static enum verdict put(const struct constraint *c, const char *text)
{
	const uint32_t end = 256 + ARRAY_LEN(controls);
	const uint64_t *bits;
	struct matcher *m;
	enum verdict v = ACCEPTED;

	assert_int_equal(constraint_matcher(c, &m), 0);
	while (*text && v == ACCEPTED) {
		uint32_t id = next_token(&text);
		bool allowed;

		assert_int_equal(matcher_mask(m, &bits), 0);
		allowed = bits[id / 64] >> id % 64 & 1;
		assert_int_equal(matcher_token(m, id) == 0, allowed);
		v = allowed ? ACCEPTED : REJECTED;
	}
	assert_int_equal(matcher_mask(m, &bits), 0);
	assert_int_equal(bits[end / 64] >> end % 64 & 1, matcher_accepts(m));
	if (v == ACCEPTED && !matcher_accepts(m))
		v = INCOMPLETE;
	matcher_destroy(m);
	return v;
}

struct line {
	enum verdict want;
	const char *text;
};

static void check(const struct constraint_ask *ask, const struct line *lines, size_t n)
{
	struct err err = { 0 };
	struct constraint *c = make(ask, 0, &err);

	for (size_t i = 0; i < n; i++)
		if (put(c, lines[i].text) != lines[i].want)
			fail_msg("%s: not verdict %d", lines[i].text, lines[i].want);
	constraint_put(c);
}

#define CHECK(ask, ...)                                  \
	check(ask, (const struct line[]){ __VA_ARGS__ }, \
	      ARRAY_LEN(((const struct line[]){ __VA_ARGS__ })))

static void thoughts(void **state)
{
	struct constraint_ask ask = { .form = FORM_REGEX, .text = "yes|no", .n = 6 };

	CHECK(&ask, { ACCEPTED, "yes" }, { INCOMPLETE, "y" }, { REJECTED, "<think>" });
	ask.before = BEFORE_THINKING;
	CHECK(&ask, { ACCEPTED, "hm <</think>\n\nyes" }, { INCOMPLETE, "yes" },
	      { INCOMPLETE, "a </thin </think> " }, { REJECTED, "a</think>a" },
	      { REJECTED, "a</think>yes</think>" }, { REJECTED, "a<|end|>" });
	ask.before = BEFORE_MAY_THINK;
	CHECK(&ask, { ACCEPTED, "no" }, { ACCEPTED, "<think>\nyes?</think>no" }, { REJECTED, "a" },
	      { INCOMPLETE, "<think>no" });
	ask.before = BEFORE_CHANNELS;
	CHECK(&ask,
	      { ACCEPTED, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>"
			  "final<|message|>yes" },
	      { ACCEPTED, "<|channel|>final<|message|>no" }, { REJECTED, "yes" },
	      { REJECTED, "<|channel|>analysis<|message|>hm<|end|>yes" });
}

static struct json_object *tools(bool strict)
{
	static const char text[] =
		"[{\"type\": \"function\", \"function\": {\"name\": \"look\", \"parameters\": {\"type\": "
		"\"object\", \"properties\": {\"w\": {\"type\": \"string\"}, \"n\": {\"type\": "
		"\"integer\"}, \"k\": {\"type\": \"string\", \"enum\": [\"a\", \"b\"]}}, \"required\": "
		"[\"w\"], \"additionalProperties\": false}}}, {\"name\": \"stop\"}]";
	struct json_object *o = parse_json(text), *f;

	json_object_object_get_ex(json_object_array_get_idx(o, 0), "function", &f);
	json_object_object_add(f, "strict", json_object_new_boolean(strict));
	return o;
}

#define LOOK \
	"<tool_call>\n{\"name\": \"look\", \"arguments\": {\"w\": \"x\", \"n\": 3}}\n</tool_call>"
#define STOP "<tool_call>\n{\"name\": \"stop\", \"arguments\": {\"any\": [1]}}\n</tool_call>"

static void forced_calls(void **state)
{
	struct constraint_ask ask = { .form = FORM_CALLS, .tools = tools(false) };

	CHECK(&ask, { ACCEPTED, LOOK }, { ACCEPTED, STOP "\n" LOOK "\n" LOOK }, { REJECTED, "hm" },
	      { REJECTED, "<tool_call>\n{\"name\": \"other" },
	      { REJECTED, "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"n\"" },
	      { INCOMPLETE, "<tool_call>\n{\"name\": \"look\"" });
	ask.one_call = true;
	ask.only = "stop";
	CHECK(&ask, { ACCEPTED, STOP }, { REJECTED, STOP "\n" }, { REJECTED, LOOK });
	ask.before = BEFORE_THINKING;
	CHECK(&ask, { ACCEPTED, "so: " LOOK "</think>\n" STOP });
	json_object_put(ask.tools);
}

static void calls_in_free_text(void **state)
{
	struct constraint_ask ask = { .form = FORM_FREE, .tools = tools(true) };

	CHECK(&ask, { ACCEPTED, "" }, { ACCEPTED, "just <tool text" },
	      { ACCEPTED, "first " LOOK " then " STOP }, { INCOMPLETE, "a <tool_call>" },
	      { REJECTED, "a <tool_call>x" }, { REJECTED, LOOK " and <tool_call>{" });
	json_object_put(ask.tools);
}

#define XML_LOOK                                                                     \
	"<tool_call>\n<function=look>\n<parameter=w>\nany <b>\ntext\n</parameter>\n" \
	"<parameter=n>\n12\n</parameter>\n<parameter=k>\nb\n</parameter>\n</function>\n</tool_call>"

static void calls_in_xml(void **state)
{
	struct constraint_ask ask = { .form = FORM_CALLS,
				      .tools = tools(true),
				      .call_form = CALL_QWEN_XML };

	CHECK(&ask, { ACCEPTED, XML_LOOK },
	      { ACCEPTED, "<tool_call>\n<function=stop>\n</function>\n</tool_call>\n" XML_LOOK },
	      { REJECTED, "<tool_call>\n<function=look>\n</" },
	      { REJECTED, "<tool_call>\n<function=look>\n<parameter=n" },
	      { REJECTED, "<tool_call>\n<function=look>\n<parameter=w>\n\n</parameter>\n"
			  "<parameter=n>\nx" },
	      { REJECTED, "<tool_call>\n<function=look>\n<parameter=w>\n\n</parameter>\n"
			  "<parameter=k>\nc" });
	json_object_put(ask.tools);
}

/* What may be a string stands bare, references lead into the tool's own parameters. */
static void values_in_xml(void **state)
{
	struct constraint_ask ask = { .form = FORM_CALLS, .call_form = CALL_QWEN_XML };

	ask.tools = parse_json(
		"[{\"name\": \"t\", \"parameters\": {\"type\": \"object\", \"properties\": {"
		"\"k\": {\"$ref\": \"#/$defs/kind\"}, \"m\": {\"anyOf\": [{\"type\": \"string\"}, "
		"{\"type\": \"null\"}]}, \"e\": {\"enum\": [\"on\", 2]}, \"o\": {\"anyOf\": "
		"[{\"$ref\": \"#/$defs/kind\"}, {\"type\": \"integer\"}]}}, \"$defs\": {\"kind\": "
		"{\"type\": \"string\", \"enum\": [\"a\", \"b\"]}}}}]");
#define P(key, value) "<tool_call>\n<function=t>\n<parameter=" key ">\n" value "\n</parameter>\n"
#define END	      "</function>\n</tool_call>"
	CHECK(&ask, { ACCEPTED, P("k", "a") END }, { REJECTED, P("k", "\"a\"") },
	      { REJECTED, P("k", "c") }, { ACCEPTED, P("m", "some text") END },
	      { ACCEPTED, P("m", "null") END }, { ACCEPTED, P("e", "on") END },
	      { ACCEPTED, P("e", "2") END }, { REJECTED, P("e", "\"on\"") },
	      { ACCEPTED, P("o", "b") END }, { ACCEPTED, P("o", "12") END },
	      { REJECTED, P("o", "x") });
	json_object_put(ask.tools);
	ask.call_form = CALL_HERMES;
	ask.tools = parse_json("[{\"name\": \"t\", \"parameters\": {\"$defs\": {\"n\": {\"type\": "
			       "\"integer\"}}, \"type\": \"object\", \"properties\": {\"n\": "
			       "{\"$ref\": \"#/$defs/n\"}}}}]");
	CHECK(&ask, { ACCEPTED, "<tool_call>\n{\"name\": \"t\", \"arguments\": {\"n\": 4}}\n"
				"</tool_call>" });
	json_object_put(ask.tools);
}

static void form_or_calls(void **state)
{
	struct constraint_ask ask = { .form = FORM_OBJECT, .tools = tools(false) };

	CHECK(&ask, { ACCEPTED, "{\"a\": 1}" }, { ACCEPTED, LOOK }, { REJECTED, "[" },
	      { REJECTED, "{}" LOOK });
	json_object_put(ask.tools);
}

static void refusals(void **state)
{
	struct constraint_ask ask = { .form = FORM_CALLS, .tools = tools(false), .only = "none" };
	struct err err = { 0 };

	make(&ask, -EINVAL, &err);
	assert_non_null(strstr(err.text, "none"));
	err_clear(&err);
	ask.call_form = CALL_UNKNOWN;
	make(&ask, -ENOTSUP, &err);
	json_object_put(ask.tools);
	err_clear(&err);
	ask = (struct constraint_ask){ .form = FORM_CALLS, .only = NULL };
	ask.tools =
		parse_json("[{\"name\": \"t\", \"strict\": true, \"parameters\": {\"not\": {}}}]");
	make(&ask, -ENOTSUP, &err);
	if (!strstr(err.text, "tool t: not cannot be held"))
		fail_msg("%s", err.text);
	json_object_put(ask.tools);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thoughts),	      cmocka_unit_test(forced_calls),
		cmocka_unit_test(calls_in_free_text), cmocka_unit_test(calls_in_xml),
		cmocka_unit_test(values_in_xml),      cmocka_unit_test(form_or_calls),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
