/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/calls_form.c: calls of tools as a model's family writes them and calls.h of daemon/chat
 * reads them: forced ones, and free text in which a call, once begun, is held to its tool's
 * parameters. See constraint.h. Each form is that of the family's own chat template:
 *
 *	hermes		<tool_call>\n{"name": "NAME", "arguments": {...}}\n</tool_call>
 *	qwen xml	<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>
 *	glm		<tool_call>NAME\n<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>\n</tool_call>
 *	minimax		<minimax:tool_call>\n<invoke name="NAME">\n<parameter name="KEY">VALUE</parameter>\n</invoke>
 *			\n</minimax:tool_call>, <invoke> once for each call
 *	deepseek, kimi	BEGIN CALL NAME SEPARATOR {...} END, once for each call within a section
 *	harmony		a message to functions.NAME, one: its end ends the answer
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "grammar/constraint_impl.h"
#include "grammar/schema.h"
#include "grammar/text.h"

#define NAME_MAX_BYTES 400 /* who reads calls takes 512 with what stands around a name */

struct json_object *making_function(struct json_object *tool)
{
	struct json_object *f = jsonc_member(tool, "function");

	return f ? f : tool;
}

static const char *name_of(struct json_object *f)
{
	return json_object_get_string(jsonc_member(f, "name"));
}

/* {@key: @value}, taken over. NULL: no memory, now or for @value. */
static struct json_object *with_member(const char *key, struct json_object *value)
{
	struct json_object *o = value ? json_object_new_object() : NULL;

	if (o && !json_object_object_add(o, key, value))
		return o;
	json_object_put(o);
	json_object_put(value);
	return NULL;
}

struct json_object *making_any_object(void)
{
	return with_member("type", json_object_new_string("object"));
}

/* {"allOf": [p, {"type": "object"}]}: arguments are an object whatever else @p would allow. NULL: no memory. */
static struct json_object *as_object(struct json_object *p)
{
	struct json_object *type = jsonc_member(p, "type"), *all, *object;

	if (json_object_is_type(p, json_type_boolean) && !json_object_get_boolean(p))
		return json_object_new_boolean(false);
	if (!p || json_object_is_type(p, json_type_boolean))
		return making_any_object();
	if (json_object_is_type(type, json_type_string) &&
	    !strcmp(json_object_get_string(type), "object"))
		return jsonc_hold(p);
	all = json_object_new_array();
	object = all ? making_any_object() : NULL;
	if (object && !json_object_array_add(all, object)) {
		if (!json_object_array_add(all, p)) {
			jsonc_hold(p);
			return with_member("allOf", all);
		}
		object = NULL; /* it is in the list */
	}
	json_object_put(object);
	json_object_put(all);
	return NULL;
}

int making_parameters(struct making *m, struct json_object *f, ir_node *ret)
{
	const struct schema_options o = { .strict = json_object_get_boolean(
						  jsonc_member(f, "strict")) };
	struct json_object *p = jsonc_member(f, "parameters"), *object = as_object(p);
	int rc = object ? schema_node(m->ir, p ? p : object, object, &o, ret, m->err) : -ENOMEM;

	json_object_put(object);
	return rc ? err_prefix(m->err, rc, "the parameters of tool %.64s", name_of(f)) : 0;
}

bool making_name_fits(const char *name, const char *not_in_name)
{
	size_t n = strlen(name);
	const char *space = " \n\r\t\f\v";

	return n && n <= NAME_MAX_BYTES && !strpbrk(name, not_in_name) && !strchr(space, name[0]) &&
	       !strchr(space, name[n - 1]);
}

static int check_name(struct making *m, struct json_object *f, const char *not_in_name)
{
	if (making_name_fits(name_of(f), not_in_name))
		return 0;
	return err_set(m->err, -ENOTSUP,
		       "tool %.64s: such a name cannot be written in this model's form of calls",
		       name_of(f));
}

/* ---- one call of each form, behind what all of them begin with ---- */

static int hermes_call(struct making *m, struct json_object *f, ir_node *ret)
{
	const char *name = name_of(f);
	struct ir *ir = m->ir;
	ir_node blank = ir_rep(ir, ir_string(ir, " "), 0, 1), arguments = ir_fail();
	int rc = making_parameters(m, f, &arguments);

	if (!rc)
		*ret = IR_SEQ_OF(ir, ir_string(ir, "\n{\"name\":"), blank, ir_string(ir, "\""),
				 json_content(ir, name, strlen(name)), ir_string(ir, "\","), blank,
				 ir_string(ir, "\"arguments\":"), blank, arguments,
				 ir_string(ir, "}\n"));
	return rc;
}

static int qwen_function(struct making *m, struct json_object *f, const char *begin,
			 const char *end, ir_node *ret)
{
	const struct xml_form form = {
		.call = begin,
		.name_end = ">\n",
		.key = "<parameter=",
		.key_end = ">\n",
		.value_end = "</parameter>",
		.parameter_end = "\n",
		.call_end = end,
		.not_in_name = ">\n<",
		.own_line = true,
		.python = true,
	};

	return making_xml_call(m, &form, f, ret);
}

static int qwen_call(struct making *m, struct json_object *f, ir_node *ret)
{
	return qwen_function(m, f, "\n<function=", "</function>\n", ret);
}

/* <function=NAME> without <tool_call> before it is read as a call too. */
static int qwen_bare_call(struct making *m, struct json_object *f, ir_node *ret)
{
	return qwen_function(m, f, "", "</function>", ret);
}

static int glm_call(struct making *m, struct json_object *f, ir_node *ret)
{
	static const struct xml_form form = {
		.call = "",
		.name_end = "\n",
		.key = "<arg_key>",
		.key_end = "</arg_key>",
		.value = "<arg_value>",
		.value_end = "</arg_value>",
		.parameter_end = "\n",
		.call_end = "",
		.not_in_name = "\n<",
	};

	return making_xml_call(m, &form, f, ret);
}

static int minimax_call(struct making *m, struct json_object *f, ir_node *ret)
{
	static const struct xml_form form = {
		.call = "\n<invoke name=\"",
		.name_end = "\">\n",
		.key = "<parameter name=\"",
		.key_end = "\">",
		.value_end = "</parameter>",
		.parameter_end = "\n",
		.call_end = "</invoke>",
		.not_in_name = "\"\n",
	};

	return making_xml_call(m, &form, f, ret);
}

static int deepseek_call(struct making *m, struct json_object *f, ir_node *ret)
{
	ir_node arguments = ir_fail();
	int rc = check_name(m, f, "\n<");

	rc = rc ? rc : making_parameters(m, f, &arguments);
	if (!rc)
		*ret = IR_SEQ_OF(m->ir, making_mark(m, "<｜tool▁call▁begin｜>"),
				 ir_string(m->ir, name_of(f)), making_mark(m, "<｜tool▁sep｜>"),
				 arguments, making_mark(m, "<｜tool▁call▁end｜>"));
	return rc;
}

static int kimi_call(struct making *m, struct json_object *f, ir_node *ret)
{
	struct ir *ir = m->ir;
	ir_node number = IR_ALT_OF(ir, ir_string(ir, "0"),
				   IR_SEQ_OF(ir, ir_byte_range(ir, '1', '9'),
					     ir_rep(ir, ir_byte_range(ir, '0', '9'), 0, 3)));
	ir_node arguments = ir_fail();
	int rc = check_name(m, f, "\n<");

	rc = rc ? rc : making_parameters(m, f, &arguments);
	if (!rc)
		*ret = IR_SEQ_OF(ir, making_mark(m, "<|tool_call_begin|>"),
				 ir_string(ir, "functions."), ir_string(ir, name_of(f)),
				 ir_string(ir, ":"), number,
				 making_mark(m, "<|tool_call_argument_begin|>"), arguments,
				 making_mark(m, "<|tool_call_end|>"));
	return rc;
}

/* The recipient stands behind the channel, as the model writes it, or in the role, as its template does. */
static int harmony_call(struct making *m, struct json_object *f, ir_node *ret)
{
	struct ir *ir = m->ir;
	ir_node to = IR_SEQ_OF(ir, ir_string(ir, " to=functions."), ir_string(ir, name_of(f)));
	ir_node channel = IR_SEQ_OF(ir, making_mark(m, "<|channel|>"), ir_string(ir, "commentary"));
	ir_node kind = IR_SEQ_OF(ir, ir_string(ir, " "),
				 IR_ALT_OF(ir, ir_empty(), making_mark(m, "<|constrain|>")),
				 ir_string(ir, "json"));
	ir_node arguments = ir_fail();
	int rc = check_name(m, f, " \n\r\t<");

	rc = rc ? rc : making_parameters(m, f, &arguments);
	if (!rc)
		*ret = IR_SEQ_OF(
			ir, IR_ALT_OF(ir, IR_SEQ_OF(ir, channel, to), IR_SEQ_OF(ir, to, channel)),
			kind, making_mark(m, "<|message|>"), arguments, making_mark(m, "<|call|>"));
	return rc;
}

/* ---- all tools ---- */

typedef int (*call_fn)(struct making *m, struct json_object *f, ir_node *ret);

static const struct call_row {
	call_fn call;
	const char *begin, *end; /* around each call, or around all of a section */
	bool section;
	const char *section_end; /* before @end */
	call_fn bare;		 /* behind @bare_mark, which begins a call too; NULL: none */
	const char *bare_mark;
} rows[] = {
	[CALL_HERMES] = { .call = hermes_call, .begin = "<tool_call>", .end = "</tool_call>" },
	[CALL_QWEN_XML] = { qwen_call, "<tool_call>", "</tool_call>", .bare = qwen_bare_call,
			    .bare_mark = "<function=" },
	[CALL_GLM] = { .call = glm_call, .begin = "<tool_call>", .end = "</tool_call>" },
	[CALL_MINIMAX] = { minimax_call, "<minimax:tool_call>", "</minimax:tool_call>",
			   .section = true, .section_end = "\n" },
	[CALL_DEEPSEEK] = { deepseek_call, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
			    .section = true, .section_end = "" },
	[CALL_KIMI] = { kimi_call, "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
			.section = true, .section_end = "" },
	[CALL_HARMONY] = { .call = harmony_call },
};

/* A call of any of the tools. */
static int any_call(struct making *m, call_fn call, ir_node *ret)
{
	const struct constraint_ask *ask = m->ask;
	struct ir_list all = { 0 };
	int rc = 0;

	for (size_t i = 0; !rc && i < json_object_array_length(ask->tools); i++) {
		struct json_object *f = making_function(json_object_array_get_idx(ask->tools, i));
		const char *name = name_of(f);
		ir_node one = ir_fail();

		if (!name || (ask->only && strcmp(ask->only, name)))
			continue;
		rc = call(m, f, &one);
		ir_push(m->ir, &all, one);
	}
	if (!rc && !all.n)
		rc = err_set(m->err, -EINVAL,
			     ask->only ? "there is no tool %.64s" : "there are no tools",
			     ask->only);
	*ret = ir_alt(m->ir, all.nodes, all.n);
	ir_list_done(&all);
	return rc;
}

static int check_form(struct making *m)
{
	if ((size_t)m->ask->call_form < ARRAY_LEN(rows) && m->ask->tools)
		return 0;
	return err_set(m->err, m->ask->tools ? -ENOTSUP : -EINVAL,
		       m->ask->tools
			       ? "calls cannot be held in the form that this model writes them"
			       : "there are no tools");
}

int making_harmony_call(struct making *m, ir_node *ret)
{
	int rc = check_form(m);

	return rc ? rc : any_call(m, harmony_call, ret);
}

static ir_node rule_of(struct ir *ir, ir_node node)
{
	uint32_t rule = ir_rule(ir, NULL, 0);

	ir_rule_set(ir, rule, node);
	return ir_ref(ir, rule);
}

/* Free text in which calls may be, each with @rest behind it, which is more of the same. */
static int free_calls(struct making *m, const struct call_row *row, ir_node block, ir_node *ret)
{
	struct ir *ir = m->ir;
	uint32_t rest = ir_rule(ir, NULL, 0);
	struct mark marks[2] = { { row->begin, IR_SEQ_OF(ir, block, ir_ref(ir, rest)) } };
	size_t n = 1;
	ir_node bare = ir_fail(), text;
	int rc = 0;

	if (row->bare) {
		rc = any_call(m, row->bare, &bare);
		marks[n++] = (struct mark){ row->bare_mark,
					    IR_SEQ_OF(ir, rule_of(ir, bare), ir_ref(ir, rest)) };
	}
	if (rc)
		return rc;
	text = making_text(m, marks, n, true);
	ir_rule_set(ir, rest, m->ask->one_call ? ir_empty() : text);
	*ret = text;
	return 0;
}

int making_calls(struct making *m, bool any_text, ir_node *ret)
{
	const struct constraint_ask *ask = m->ask;
	struct ir *ir = m->ir;
	const struct call_row *row;
	ir_node call = ir_fail(), begin, block;
	uint32_t more;
	int rc = check_form(m);

	if (rc)
		return rc;
	row = &rows[ask->call_form];
	rc = any_call(m, row->call, &call);
	if (rc)
		return rc;
	call = rule_of(ir, call);
	begin = making_mark(m, row->begin);
	if (row->section)
		block = IR_SEQ_OF(ir, ir_rep(ir, call, 1, ask->one_call ? 1 : IR_UNBOUNDED),
				  ir_string(ir, row->section_end), making_mark(m, row->end));
	else
		block = IR_SEQ_OF(ir, call, making_mark(m, row->end));
	if (any_text)
		return free_calls(m, row, block, ret);
	/* behind a call: the end, or another */
	more = ir_rule(ir, NULL, 0);
	if (!row->section && !ask->one_call)
		ir_rule_set(ir, more,
			    IR_ALT_OF(ir, ir_empty(),
				      IR_SEQ_OF(ir, ir_string(ir, "\n"), begin, block,
						ir_ref(ir, more))));
	else
		ir_rule_set(ir, more, ir_empty());
	*ret = IR_SEQ_OF(ir, making_gap(m), begin, block, ir_ref(ir, more));
	return 0;
}
