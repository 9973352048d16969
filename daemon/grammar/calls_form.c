/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/calls_form.c: calls of tools in the form that a model's family writes them (calls.h of
 * daemon/chat reads them): forced ones, and free text in which a call, once begun, is held to its
 * tool's parameters. See constraint.h.
 *
 *	hermes		<tool_call>\n{"name": "NAME", "arguments": {...}}\n</tool_call>
 *	qwen xml	<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>
 */
#include <errno.h>
#include <string.h>

#include "base/jsonc.h"
#include "grammar/constraint_impl.h"
#include "grammar/schema.h"
#include "grammar/text.h"

static struct json_object *function_of(struct json_object *tool)
{
	struct json_object *f = jsonc_member(tool, "function");

	return f ? f : tool;
}

/* What the tool takes; an object of its own where it does not say. */
static int parameters(struct making *m, struct json_object *f, ir_node *ret)
{
	const struct schema_options o = { .strict = json_object_get_boolean(
						  jsonc_member(f, "strict")) };
	struct json_object *p = jsonc_member(f, "parameters");
	int rc;

	p = p ? jsonc_hold(p) : json_tokener_parse("{\"type\": \"object\"}");
	rc = schema_node(m->ir, p, &o, ret, m->err);
	json_object_put(p);
	if (rc)
		return err_prefix(m->err, rc, "the parameters of tool %.64s",
				  json_object_get_string(jsonc_member(f, "name")));
	return 0;
}

/* ---- hermes ---- */

static int hermes_call(struct making *m, struct json_object *f, ir_node *ret)
{
	const char *name = json_object_get_string(jsonc_member(f, "name"));
	struct ir *ir = m->ir;
	ir_node blank = ir_rep(ir, ir_string(ir, " "), 0, 1), arguments;
	int rc = parameters(m, f, &arguments);

	if (!rc)
		*ret = IR_SEQ_OF(ir, ir_string(ir, "\n{\"name\":"), blank, ir_string(ir, "\""),
				 json_content(ir, name, strlen(name)), ir_string(ir, "\","), blank,
				 ir_string(ir, "\"arguments\":"), blank, arguments,
				 ir_string(ir, "}\n"), making_mark(m, "</tool_call>"));
	return rc;
}

/* ---- qwen xml ---- */

static bool is_text(struct json_object *schema)
{
	struct json_object *type = jsonc_member(schema, "type");

	return json_object_is_type(type, json_type_string) &&
	       !strcmp(json_object_get_string(type), "string");
}

/* A value as it stands between the tags: texts bare, all else as JSON. */
static int xml_value(struct making *m, struct json_object *schema, ir_node close, ir_node *ret)
{
	const struct schema_options loose = { .strict = false };
	struct json_object *list = jsonc_member(schema, "enum");
	struct ir_list all = { 0 };
	ir_node value;
	int rc;

	if (is_text(schema) && json_object_is_type(list, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *v = json_object_array_get_idx(list, i);

			if (json_object_is_type(v, json_type_string))
				ir_push(m->ir, &all,
					ir_text(m->ir, json_object_get_string(v),
						(size_t)json_object_get_string_len(v)));
		}
		value = ir_alt(m->ir, all.nodes, all.n);
		ir_list_done(&all);
		*ret = IR_SEQ_OF(m->ir, value, ir_string(m->ir, "\n</parameter>\n"), close);
		return 0;
	}
	if (is_text(schema)) {
		*ret = making_until(m, "\n</parameter>\n", close, false);
		return 0;
	}
	rc = schema_node(m->ir, schema, &loose, &value, m->err);
	if (!rc)
		*ret = IR_SEQ_OF(m->ir, value, ir_string(m->ir, "\n</parameter>\n"), close);
	return rc;
}

static bool is_required(struct json_object *parameters_of, const char *name)
{
	struct json_object *list = jsonc_member(parameters_of, "required");

	if (!json_object_is_type(list, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(list, i));

		if (text && !strcmp(text, name))
			return true;
	}
	return false;
}

/* Strict parameters are checked as a whole; what strings say beyond their type is not held here. */
static int xml_strict(struct making *m, struct json_object *f, struct json_object *props)
{
	static const char *const keys[] = { "pattern", "format", "minLength", "maxLength" };
	ir_node whole;
	int rc;

	if (!json_object_get_boolean(jsonc_member(f, "strict")))
		return 0;
	rc = parameters(m, f, &whole);
	if (rc || !props)
		return rc;
	json_object_object_foreach(props, name, schema)
	{
		for (size_t i = 0; i < 4; i++)
			if (is_text(schema) && jsonc_member(schema, keys[i]))
				return err_set(m->err, -ENOTSUP,
					       "%s cannot be held in this model's form of calls "
					       "(parameter %.64s)",
					       keys[i], name);
	}
	return 0;
}

static int xml_call(struct making *m, struct json_object *f, ir_node *ret)
{
	struct json_object *p = jsonc_member(f, "parameters");
	struct json_object *props = jsonc_member(p, "properties");
	const char *name = json_object_get_string(jsonc_member(f, "name"));
	struct ir *ir = m->ir;
	struct json_object *schemas[256];
	const char *names[256];
	size_t n = 0;
	ir_node rest =
		IR_SEQ_OF(ir, ir_string(ir, "</function>\n"), making_mark(m, "</tool_call>"));
	int rc = xml_strict(m, f, props);

	if (rc)
		return rc;
	if (json_object_is_type(props, json_type_object)) {
		json_object_object_foreach(props, k, v)
		{
			if (n == 256)
				return err_set(m->err, -E2BIG, "tool %.64s has too many parameters",
					       name);
			names[n] = k;
			schemas[n++] = v;
		}
	}
	while (n-- > 0) {
		uint32_t rule = ir_rule(ir, NULL, 0);
		ir_node one, value;

		ir_rule_set(ir, rule, rest);
		rest = ir_ref(ir, rule);
		rc = xml_value(m, schemas[n], rest, &value);
		if (rc)
			return err_prefix(m->err, rc, "parameter %.64s of tool %.64s", names[n],
					  name);
		one = IR_SEQ_OF(ir, ir_string(ir, "<parameter="), ir_string(ir, names[n]),
				ir_string(ir, ">\n"), value);
		rest = is_required(p, names[n]) ? one : IR_ALT_OF(ir, one, rest);
	}
	*ret = IR_SEQ_OF(ir, ir_string(ir, "\n<function="), ir_string(ir, name),
			 ir_string(ir, ">\n"), rest);
	return 0;
}

/* ---- all tools ---- */

int making_calls(struct making *m, bool any_text, ir_node *ret)
{
	const struct constraint_ask *ask = m->ask;
	struct ir_list all = { 0 };
	struct ir *ir = m->ir;
	uint32_t call = ir_rule(ir, NULL, 0), more = ir_rule(ir, NULL, 0);
	ir_node again;
	int rc = 0;

	if (ask->call_form == CALL_UNKNOWN)
		return err_set(m->err, -ENOTSUP,
			       "calls cannot be held in the form that this model writes them");
	for (size_t i = 0; !rc && i < json_object_array_length(ask->tools); i++) {
		struct json_object *f = function_of(json_object_array_get_idx(ask->tools, i));
		const char *name = json_object_get_string(jsonc_member(f, "name"));
		ir_node one = ir_fail();

		if (!name || (ask->only && strcmp(ask->only, name)))
			continue;
		rc = ask->call_form == CALL_HERMES ? hermes_call(m, f, &one) : xml_call(m, f, &one);
		ir_push(ir, &all, one);
	}
	if (!rc && !all.n)
		rc = err_set(m->err, -EINVAL,
			     ask->only ? "there is no tool %.64s" : "there are no tools",
			     ask->only);
	ir_rule_set(ir, call, ir_alt(ir, all.nodes, all.n));
	ir_list_done(&all);
	/* behind a call: the end, or (free text and) another */
	if (any_text && !ask->one_call)
		again = making_until(m, "<tool_call>",
				     IR_SEQ_OF(ir, ir_ref(ir, call), ir_ref(ir, more)), true);
	else if (ask->one_call)
		again = ir_empty();
	else
		again = IR_ALT_OF(ir, ir_empty(),
				  IR_SEQ_OF(ir, ir_string(ir, "\n"), making_mark(m, "<tool_call>"),
					    ir_ref(ir, call), ir_ref(ir, more)));
	ir_rule_set(ir, more, again);
	if (any_text)
		*ret = making_until(m, "<tool_call>",
				    IR_SEQ_OF(ir, ir_ref(ir, call), ir_ref(ir, more)), true);
	else
		*ret = IR_SEQ_OF(ir, making_mark(m, "<tool_call>"), ir_ref(ir, call),
				 ir_ref(ir, more));
	return rc;
}
