/* SPDX-License-Identifier: MIT */
/*
 * Description: forced and strict calls in every family's form, against the parser that reads them: what
 * the constraint lets come is read as calls of the tools with arguments that fit, and what the
 * family's own template writes is let come and read back.
 */
#include "tests/unit/grammar/grammar_rows.h"

#include "base/num.h"
#include "chat/calls.h"
#include "chat/template.h"
#include "grammar/constraint.h"

static const struct family {
	enum call_form form;
	enum calls_format format;
	const char *name, *template;
	const char *begin, *end; /* of the calls in what the template writes */
} forms[] = {
	{ CALL_HERMES, CALLS_HERMES, "hermes", "Qwen-Qwen3-0.6B", "<tool_call>", "</tool_call>" },
	{ CALL_QWEN_XML, CALLS_QWEN3_XML, "qwen xml", "Qwen3-Coder", "<tool_call>",
	  "</tool_call>" },
	{ CALL_GLM, CALLS_GLM, "glm", "GLM-4.6", "<tool_call>", "</tool_call>" },
	{ CALL_MINIMAX, CALLS_MINIMAX_M2, "minimax", "MiniMax-M2", "<minimax:tool_call>",
	  "</minimax:tool_call>" },
	{ CALL_DEEPSEEK, CALLS_DEEPSEEK_V31, "deepseek", "deepseek-ai-DeepSeek-V3.1",
	  "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>" },
	{ CALL_KIMI, CALLS_KIMI_K2, "kimi", "moonshotai-Kimi-K2", "<|tool_calls_section_begin|>",
	  "<|tool_calls_section_end|>" },
	{ CALL_HARMONY, CALLS_HARMONY, "harmony", "openai-gpt-oss-120b", " to=functions.",
	  "<|call|>" },
};

/* ---- a vocabulary of bytes, and of control tokens where they are wanted ---- */

static const char *const controls[] = { "<tool_call>",
					"</tool_call>",
					"<arg_key>",
					"</arg_key>",
					"<arg_value>",
					"</arg_value>",
					"<minimax:tool_call>",
					"</minimax:tool_call>",
					"<｜tool▁calls▁begin｜>",
					"<｜tool▁calls▁end｜>",
					"<｜tool▁call▁begin｜>",
					"<｜tool▁call▁end｜>",
					"<｜tool▁sep｜>",
					"<|tool_calls_section_begin|>",
					"<|tool_calls_section_end|>",
					"<|tool_call_begin|>",
					"<|tool_call_argument_begin|>",
					"<|tool_call_end|>",
					"<|start|>",
					"<|channel|>",
					"<|message|>",
					"<|constrain|>",
					"<|call|>",
					"<|end|>",
					"<|return|>",
					"</think>" };

#define N_CONTROLS ARRAY_LEN(controls)

static void get_token(void *arg, uint32_t id, struct vocab_token *ret)
{
	static uint8_t bytes[256];

	if (id < 256) {
		bytes[id] = (uint8_t)id;
		*ret = (struct vocab_token){ &bytes[id], 1, false, false };
	} else if (id == 256) {
		*ret = (struct vocab_token){ (const uint8_t *)"<eos>", 5, true, true };
	} else {
		const char *text = controls[id - 257];

		*ret = (struct vocab_token){ (const uint8_t *)text, strlen(text), true, false };
	}
}

static struct vocab *vocabulary(bool control)
{
	struct vocab *v;

	assert_int_equal(vocab_create(257 + (control ? N_CONTROLS : 0), get_token, NULL, NULL, &v),
			 0);
	return v;
}

/* ---- what the parser reads ---- */

struct read {
	unsigned n;
	char name[64][64];
	struct out arguments[64];
	struct out content, reasoning;
};

static void read_done(struct read *r)
{
	for (unsigned i = 0; i < r->n; i++)
		free(r->arguments[i].p);
	free(r->content.p);
	free(r->reasoning.p);
}

static void take(struct read *r, const struct calls_delta *d, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (d[i].kind == CALLS_CONTENT)
			put_bytes(&r->content, d[i].text, d[i].n);
		if (d[i].kind == CALLS_REASONING)
			put_bytes(&r->reasoning, d[i].text, d[i].n);
		if (d[i].kind == CALLS_BEGIN && r->n < 64)
			snprintf(r->name[r->n++], 64, "%s", d[i].name);
		if (d[i].kind == CALLS_ARGUMENTS)
			put_bytes(&r->arguments[r->n - 1], d[i].text, d[i].n);
	}
}

static void read_text(const struct family *f, struct json_object *tools, const char *text, size_t n,
		      struct read *r)
{
	const struct calls_options o = { .format = f->format, .tools = tools, .id_seed = 1 };
	const struct calls_delta *d;
	struct err err = { 0 };
	struct calls *c;
	size_t n_d;

	memset(r, 0, sizeof(*r));
	assert_int_equal(calls_create(&o, &c, &err), 0);
	for (size_t i = 0; i < n;) {
		size_t piece = 1 + (i * 7 + n) % 9, left = n - i;

		piece = piece < left ? piece : left;
		assert_int_equal(calls_feed(c, text + i, piece, &d, &n_d), 0);
		take(r, d, n_d);
		i += piece;
	}
	assert_int_equal(calls_finish(c, &d, &n_d), 0);
	take(r, d, n_d);
	calls_destroy(c);
}

/* ---- walks ---- */

static uint64_t state = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 11) % n);
}

/* What may close something, or look as if it did. */
static const char *const pieces[] = { "</parameter>",
				      "</parameter>\n",
				      "</arg_value>",
				      "</arg_value>\n",
				      "\"",
				      "\"",
				      "</tool_call>",
				      "<tool_call>",
				      "<function=",
				      "</function>",
				      "\n",
				      "}",
				      "<arg_key>k",
				      "</think>",
				      "<|end|>",
				      "<|call|>",
				      "é🎈",
				      "5",
				      "null",
				      "True",
				      "\n</parameter>\n<parameter=n>\nx",
				      "<|start|>assistant to=functions.",
				      "</parameter>\n</function>\n</tool_call>" };

static bool allowed(struct matcher *m, uint32_t id)
{
	const uint64_t *bits;

	assert_int_equal(matcher_mask(m, &bits), 0);
	return bits[id / 64] >> id % 64 & 1;
}

static bool try_token(struct matcher *m, uint32_t id, struct out *text)
{
	char byte = (char)id;

	if (!allowed(m, id) || matcher_token(m, id))
		return false;
	if (id < 256)
		put_bytes(text, &byte, 1);
	else
		put_bytes(text, controls[id - 257], strlen(controls[id - 257]));
	return true;
}

/* One token of those that may come; false: the text ends here. */
static bool walk_on(struct matcher *m, uint32_t n_tokens, struct out *text)
{
	const uint64_t *bits;
	uint32_t ids[512], n = 0, wide = 0;

	assert_int_equal(matcher_mask(m, &bits), 0);
	for (uint32_t id = 0; id < n_tokens; id++) {
		bool may = bits[id / 64] >> id % 64 & 1;

		wide += may && id < 256;
		/* in free text whole characters, as a model's text has them */
		if (may && id != 256)
			ids[n++] = id;
	}
	if (matcher_accepts(m) && (!n || !random_below(20)))
		return false;
	if (!n)
		fail_msg("nothing may come behind %.400s", text->p);
	if (wide > 90 && !random_below(3)) {
		const char *p = pieces[random_below(ARRAY_LEN(pieces))];

		while (*p && try_token(m, (unsigned char)*p, text))
			p++;
		/* a character that was begun is brought to its end by what the automaton allows */
		return true;
	}
	for (unsigned tries = 0; wide > 200 && tries < 200; tries++) {
		uint32_t id = ids[random_below(n)];

		if (id >= 256 || (id >= 0x20 && id < 0x7f) || id == '\n')
			return try_token(m, id, text);
	}
	return try_token(m, ids[random_below(n)], text);
}

/* 1: the walk came to an end; 0: it grew too long. */
static bool walk(const struct constraint *c, bool control, struct out *text)
{
	uint32_t n_tokens = 257 + (control ? (uint32_t)N_CONTROLS : 0);
	struct matcher *m;
	bool more = true;

	assert_int_equal(constraint_matcher(c, &m), 0);
	put_bytes(text, "", 0);
	while (more && text->n < 1500)
		more = walk_on(m, n_tokens, text);
	matcher_destroy(m);
	return !more;
}

static struct json_object *function_named(struct json_object *tools, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(tools); i++) {
		struct json_object *f = json_object_array_get_idx(tools, i), *inner;

		inner = jsonc_member(f, "function");
		f = inner ? inner : f;
		if (!strcmp(json_object_get_string(jsonc_member(f, "name")), name))
			return f;
	}
	return NULL;
}

/* Each call is of a tool, and of a strict one the arguments are an instance of its schema. */
static void check_calls(const struct family *f, struct json_object *tools, const struct read *r,
			const struct out *text)
{
	for (unsigned i = 0; i < r->n; i++) {
		struct json_object *tool = function_named(tools, r->name[i]), *p;
		struct err err = { 0 };
		struct program *program;
		struct json_object *value;
		char *again;

		if (!tool)
			fail_msg("%s: a call of %s: %s", f->name, r->name[i], text->p);
		p = jsonc_member(tool, "parameters");
		if (!p || !json_object_get_boolean(jsonc_member(tool, "strict")))
			continue;
		program = schema_program(p, true, 0, &err);
		/* written anew: within tags strings have escapes that they would do without elsewhere */
		value = parse_json(r->arguments[i].p);
		again = write_json(value, 2);
		if (put_text(program, again, strlen(again)) != ACCEPTED)
			fail_msg("%s: arguments %s do not fit %s, of %s", f->name,
				 r->arguments[i].p, json_object_to_json_string(p), text->p);
		free(again);
		json_object_put(value);
		program_destroy(program);
	}
}

struct tally {
	unsigned walks, finished, calls, refused;
};

/* @tools forced, one call (0) or several (1), and in free text (2). */
static void check_walks(const struct family *f, struct json_object *tools, bool control, unsigned n,
			unsigned from, unsigned to, struct tally *t)
{
	for (unsigned k = from; k < to; k++) {
		struct constraint_ask ask = { .form = k == 2 ? FORM_FREE : FORM_CALLS,
					      .tools = tools,
					      .call_form = f->form,
					      .one_call = k == 0,
					      .before = f->form == CALL_HARMONY ? BEFORE_CHANNELS
										: BEFORE_NOTHING };
		struct vocab *v = vocabulary(control);
		struct err err = { 0 };
		struct constraint *c = NULL;
		int rc = constraint_create(&ask, v, &c, &err);

		vocab_destroy(v);
		if (rc) {
			if (rc != -ENOTSUP && rc != -E2BIG)
				fail_msg("%s: %d: %s: %s", f->name, rc, err.text,
					 json_object_to_json_string(tools));
			t->refused++;
			continue;
		}
		for (unsigned i = 0; i < n; i++) {
			struct out text = { 0 };
			struct read r;

			t->walks++;
			if (walk(c, control, &text)) {
				t->finished++;
				read_text(f, tools, text.p, text.n, &r);
				check_calls(f, tools, &r, &text);
				t->calls += r.n;
				if (k < 2 && (r.content.n || !r.n || (!k && r.n != 1)))
					fail_msg("%s: %u calls and content %s, of %s", f->name, r.n,
						 r.content.p ? r.content.p : "", text.p);
				read_done(&r);
			}
			free(text.p);
		}
		constraint_put(c);
	}
}

#define TOOLS                                                                                                             \
	"[{\"type\": \"function\", \"function\": {\"name\": \"look\", \"description\": \"x\", \"strict\": true, "         \
	"\"parameters\": {\"type\": \"object\", \"properties\": {\"where\": {\"type\": "                                  \
	"\"string\"}, \"n\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 30}, \"kind\": "                        \
	"{\"enum\": [\"a\", \"5\", \"</parameter>\"]}, \"mixed\": {\"enum\": [\"on\", \"7\", 7, "                         \
	"null, true]}, \"o\": {\"type\": \"object\", \"properties\": {\"t\": {\"type\": "                                 \
	"\"string\", \"maxLength\": 3}}, \"required\": [\"t\"], \"additionalProperties\": false}, "                       \
	"\"l\": {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/i\"}, \"maxItems\": 3}, "                           \
	"\"b\": {\"type\": \"boolean\"}, \"s\": {\"type\": [\"string\", \"null\"]}, \"u\": "                              \
	"{\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"null\"}]}}, \"required\": [\"where\", "                       \
	"\"n\"], \"additionalProperties\": false, \"$defs\": {\"i\": {\"type\": \"integer\", "                            \
	"\"maximum\": 9}}}}}, {\"name\": \"stop\", \"description\": \"y\", \"strict\": true, \"parameters\": {\"type\": " \
	"\"object\", \"properties\": {}, \"additionalProperties\": false}}]"

static void walks_are_read_as_calls(void **unused)
{
	struct json_object *tools = parse_json(TOOLS);

	for (size_t i = 0; i < ARRAY_LEN(forms); i++)
		for (unsigned control = 0; control < 2; control++) {
			struct tally t = { 0 };

			check_walks(&forms[i], tools, control, 8, 0, 3, &t);
			if (t.refused || t.finished * 2 < t.walks || t.calls < t.walks / 4)
				fail_msg("%s: %u walks, %u finished, %u calls, %u refused",
					 forms[i].name, t.walks, t.finished, t.calls, t.refused);
		}
	json_object_put(tools);
}

/* Every schema of the fixtures as what a strict tool takes, or as one of its parameters. */
static void walks_over_schemas(void **unused)
{
	struct json_object *rows = read_rows("schemas/cases.json");
	struct tally all[ARRAY_LEN(forms)] = { { 0 } };
	const char *more = getenv("WALKS"); /* of each schema in each form */
	unsigned walks = more ? (unsigned)atoi(more) : 1;

	for (size_t r = 0; r < json_object_array_length(rows); r++) {
		struct json_object *row = json_object_array_get_idx(rows, r);
		struct json_object *schema = jsonc_member(row, "schema"), *tools, *f, *p, *props;
		const char *type = json_object_get_string(jsonc_member(schema, "type"));

		if (jsonc_member(row, "error") || !json_object_is_type(schema, json_type_object) ||
		    jsonc_member(row, "refuse_ok"))
			continue;
		tools = parse_json("[{\"name\": \"t\", \"strict\": true}]");
		f = json_object_array_get_idx(tools, 0);
		p = jsonc_hold(schema);
		if (!type || strcmp(type, "object")) {
			/* references lead to the top */
			if (strstr(json_object_to_json_string(schema), "$ref")) {
				json_object_put(p);
				json_object_put(tools);
				continue;
			}
			p = parse_json("{\"type\": \"object\", \"required\": [\"v\"], "
				       "\"additionalProperties\": false}");
			props = json_object_new_object();
			json_object_object_add(props, "v", jsonc_hold(schema));
			json_object_object_add(p, "properties", props);
			json_object_put(schema);
		}
		json_object_object_add(f, "parameters", p);
		for (size_t i = 0; i < ARRAY_LEN(forms); i++)
			check_walks(&forms[i], tools, r & 1, walks, (unsigned)(r + i) % 3,
				    (unsigned)(r + i) % 3 + 1, &all[i]);
		json_object_put(tools);
	}
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		print_message("%s: %u walks, %u finished, %u calls; %u refused\n", forms[i].name,
			      all[i].walks, all[i].finished, all[i].calls, all[i].refused);
		assert_true(all[i].finished > 20);
	}
	json_object_put(rows);
}

#define REFERRED                                                                           \
	"[{\"name\": \"t\", \"strict\": true, \"parameters\": {\"$ref\": \"#/$defs/p\", "  \
	"\"$defs\": {\"p\": {\"type\": \"object\", \"properties\": {\"s\": {\"$ref\": "    \
	"\"#/$defs/a%20b\"}, \"e\": {\"type\": \"string\", \"enum\": [\"5\", 1]}, \"i\": " \
	"{\"$ref\": \"#/$defs/l/anyOf/0\"}, \"n\": {\"type\": \"integer\", \"enum\": [7, " \
	"\"7\"]}}, \"required\": [\"s\", \"e\", \"i\", \"n\"], "                           \
	"\"additionalProperties\": false}, \"a b\": {\"type\": \"string\"}, \"l\": "       \
	"{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}}}}]"

/* Who writes and who reads follow the same references, and a type beside values names which of them. */
static void referred(void **unused)
{
	struct json_object *tools = parse_json(REFERRED);

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		struct tally t = { 0 };

		check_walks(&forms[i], tools, i & 1, 24, 0, 1, &t);
		if (t.refused || t.finished < 4)
			fail_msg("%s: %u finished, %u refused", forms[i].name, t.finished,
				 t.refused);
	}
	json_object_put(tools);
}

/* Arms of strings that lead to themselves: no nodes come of them, and yet they have an end. */
static void arms_without_end(void **unused)
{
	struct json_object *tools = parse_json(
		"[{\"name\": \"t\", \"parameters\": {\"type\": \"object\", \"required\": "
		"[\"x\"], \"properties\": {\"x\": {\"$ref\": \"#/$defs/a\"}}, \"$defs\": {\"a\": "
		"{\"anyOf\": []}}}}]");
	struct json_object *arms = jsonc_follow(tools, "#/0/parameters/$defs/a/anyOf");

	for (unsigned i = 0; i < 50; i++)
		json_object_array_add(arms, parse_json("{\"$ref\": \"#/$defs/a\"}"));
	for (unsigned i = 1; i < 4; i++) {
		struct constraint_ask ask = { .form = FORM_CALLS,
					      .tools = tools,
					      .call_form = forms[i].form };
		struct vocab *v = vocabulary(false);
		struct constraint *c = NULL;
		struct err err = { 0 };

		assert_int_equal(constraint_create(&ask, v, &c, &err), -E2BIG);
		assert_non_null(strstr(err.text, "too many arms"));
		vocab_destroy(v);
	}
	json_object_put(tools);
}

/* ---- what templates write ---- */

static struct json_object *conversation(void)
{
	static const char text[] =
		"[{\"role\": \"user\", \"content\": \"Go.\"}, {\"role\": \"assistant\", "
		"\"content\": \"\", \"tool_calls\": [{\"id\": \"abc123XY1\", \"type\": "
		"\"function\", \"function\": {\"name\": \"look\", \"arguments\": {\"where\": "
		"\"Bergen,\\n \\\"naïve\\\" <b> 🎈\", \"n\": 12, \"kind\": \"5\", \"mixed\": "
		"true, \"o\": {\"t\": \"x\"}, \"l\": [1, 9], \"b\": false, \"s\": null, \"u\": "
		"3}}}, {\"id\": \"abc123XY2\", \"type\": \"function\", \"function\": {\"name\": "
		"\"stop\", \"arguments\": {}}}]}]";

	return parse_json(text);
}

static char *rendered_by(const char *name, struct json_object *messages, struct json_object *tools)
{
	const struct chat_input in = { .messages = messages, .tools = tools };
	char path[DATA_PATH], file[128], *source, *text;
	struct template_error te = { 0 };
	struct chat_template *t;
	struct rendered r;
	struct err err = { 0 };
	size_t n;

	snprintf(file, sizeof(file), "templates/%s.jinja", name);
	assert_int_equal(chat_template_read(fixture(file, path), &source, &n, &err), 0);
	assert_int_equal(chat_template_make(source, n, "", "", &t, &err), 0);
	if (chat_render(t, &in, NULL, &r, &te))
		fail_msg("%s: %s", name, te.err.text);
	text = strdup(r.text);
	rendered_done(&r);
	chat_template_destroy(t);
	free(source);
	return text;
}

/* The calls in what a template wrote behind the user's words: a copy. */
static char *calls_of(const struct family *f, const char *text)
{
	const char *from = strstr(text, "Go."), *to;

	assert_non_null(from);
	from = strstr(from, f->begin);
	assert_non_null(from);
	to = from;
	for (const char *at = from; (at = strstr(at, f->end)); at++)
		to = at + strlen(f->end);
	return strndup(from, (size_t)(to - from));
}

static uint32_t next_token(const char **text, bool control)
{
	for (uint32_t i = 0; control && i < N_CONTROLS; i++)
		if (!strncmp(*text, controls[i], strlen(controls[i]))) {
			*text += strlen(controls[i]);
			return 257 + i;
		}
	return (unsigned char)*(*text)++;
}

static void let_come(const struct family *f, struct json_object *tools, const char *text,
		     bool control)
{
	const struct constraint_ask ask = { .form = FORM_CALLS,
					    .tools = tools,
					    .call_form = f->form,
					    .before = f->form == CALL_HARMONY ? BEFORE_CHANNELS
									      : BEFORE_NOTHING };
	struct vocab *v = vocabulary(control);
	const char *at = text;
	struct constraint *c;
	struct err err = { 0 };
	struct matcher *m;

	if (constraint_create(&ask, v, &c, &err))
		fail_msg("%s: %s", f->name, err.text);
	assert_int_equal(constraint_matcher(c, &m), 0);
	while (*at) {
		const char *before = at;

		if (matcher_token(m, next_token(&at, control)))
			fail_msg("%s: not let come: %.60s of %s", f->name, before, text);
	}
	if (!matcher_accepts(m))
		fail_msg("%s: not the end: %s", f->name, text);
	matcher_destroy(m);
	constraint_put(c);
	vocab_destroy(v);
}

static void templates_are_let_come(void **unused)
{
	struct json_object *tools, *messages, *want, *got, *list;
	char path[DATA_PATH];

	fixture("templates/GLM-4.6.jinja", path); /* skips the test without them */
	tools = parse_json(TOOLS);
	messages = conversation();
	list = jsonc_member(json_object_array_get_idx(messages, 1), "tool_calls");
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		const struct family *f = &forms[i];
		char *text = rendered_by(f->template, messages, tools), *calls;
		struct read r;

		calls = calls_of(f, text);
		for (unsigned control = 0; control < 2; control++)
			let_come(f, tools, calls, control);
		read_text(f, tools, calls, strlen(calls), &r);
		/* harmony's template writes the first alone: the model ends at its call */
		assert_int_equal(r.n, f->form == CALL_HARMONY ? 1 : 2);
		for (unsigned k = 0; k < r.n; k++) {
			want = jsonc_member(json_object_array_get_idx(list, k), "function");
			got = parse_json(r.arguments[k].p);
			assert_string_equal(r.name[k],
					    json_object_get_string(jsonc_member(want, "name")));
			if (!json_object_equal(got, jsonc_member(want, "arguments")))
				fail_msg("%s: %s", f->name, r.arguments[k].p);
			json_object_put(got);
		}
		read_done(&r);
		free(calls);
		free(text);
	}
	json_object_put(messages);
	json_object_put(tools);
}

/* ---- what a form cannot say ---- */

static void refused_names(void **unused)
{
	static const struct {
		enum call_form form;
		const char *tools, *said;
	} rows[] = {
		{ CALL_QWEN_XML, "[{\"name\": \"a>b\"}]", "cannot be written" },
		{ CALL_MINIMAX, "[{\"name\": \"a\\\"b\"}]", "cannot be written" },
		{ CALL_GLM, "[{\"name\": \" a\"}]", "cannot be written" },
		{ CALL_KIMI, "[{\"name\": \"a\\nb\"}]", "cannot be written" },
		{ CALL_DEEPSEEK, "[{\"name\": \"\"}]", "cannot be written" },
		{ CALL_HARMONY, "[{\"name\": \"a b\"}]", "cannot be written" },
		{ CALL_GLM,
		  "[{\"name\": \"a\", \"parameters\": {\"type\": \"object\", \"properties\": "
		  "{\"<k\": {}}, \"required\": [\"<k\"]}}]",
		  "parameter <k: such a name" },
		{ CALL_MINIMAX,
		  "[{\"name\": \"a\", \"strict\": true, \"parameters\": {\"type\": \"object\", "
		  "\"properties\": {\"k\": {\"type\": \"string\", \"pattern\": \"x\"}}}}]",
		  "pattern cannot be held in this model's form" },
		{ CALL_GLM,
		  "[{\"name\": \"a\", \"strict\": true, \"parameters\": {\"type\": \"object\", "
		  "\"properties\": {\"k\": {\"anyOf\": [{\"type\": \"string\"}, {\"type\": "
		  "\"integer\", \"maximum\": 3}]}}}}]",
		  "a string beside values of other kinds" },
		{ CALL_QWEN_XML,
		  "[{\"name\": \"a\", \"strict\": true, \"parameters\": {\"type\": \"object\", "
		  "\"anyOf\": [{\"required\": [\"k\"]}], \"properties\": {\"k\": {}}}}]",
		  "anyOf of the parameters" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct constraint_ask ask = { .form = FORM_CALLS,
						    .tools = parse_json(rows[i].tools),
						    .call_form = rows[i].form };
		struct vocab *v = vocabulary(false);
		struct constraint *c = NULL;
		struct err err = { 0 };

		assert_int_equal(constraint_create(&ask, v, &c, &err), -ENOTSUP);
		if (!strstr(err.text, rows[i].said))
			fail_msg("row %zu: %s", i, err.text);
		json_object_put(ask.tools);
		vocab_destroy(v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walks_are_read_as_calls),
		cmocka_unit_test(walks_over_schemas),
		cmocka_unit_test(referred),
		cmocka_unit_test(arms_without_end),
		cmocka_unit_test(templates_are_let_come),
		cmocka_unit_test(refused_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
