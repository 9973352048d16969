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
	rc = schema_node(m->ir, p, p, &o, ret, m->err);
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

#define MAX_ARMS_DEPTH 8

/* What may stand between the tags of a parameter, as the reader of calls takes it. */
struct xml_values {
	struct json_object *root; /* of references: the tool's parameters */
	bool strict;
	bool any_text;	     /* a string that is not told further: free text */
	struct ir_list list; /* values of other kinds */
};

static bool may_be_string(struct json_object *schema)
{
	static const char *const others[] = { "properties", "additionalProperties",
					      "items",	    "prefixItems",
					      "minimum",    "maximum",
					      "required" };
	struct json_object *type = jsonc_member(schema, "type");
	bool list = json_object_is_type(type, json_type_array);

	if (json_object_is_type(type, json_type_string))
		return !strcmp(json_object_get_string(type), "string");
	for (size_t i = 0; list && i < json_object_array_length(type); i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(type, i));

		if (text && !strcmp(text, "string"))
			return true;
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (jsonc_member(schema, others[i]))
			return false;
	return !list; /* nothing said: strings too */
}

/* A value as it is: texts bare, all else as JSON. */
static int xml_constant(struct making *m, struct xml_values *x, struct json_object *v)
{
	const struct schema_options o = { .strict = false };
	struct json_object *constant;
	ir_node node;
	int rc = 0;

	if (json_object_is_type(v, json_type_string)) {
		node = ir_text(m->ir, json_object_get_string(v),
			       (size_t)json_object_get_string_len(v));
	} else {
		constant = json_object_new_object();
		json_object_object_add(constant, "const", jsonc_hold(v));
		rc = schema_node(m->ir, constant, constant, &o, &node, m->err);
		json_object_put(constant);
	}
	if (!rc)
		ir_push(m->ir, &x->list, node);
	return rc;
}

static int xml_string(struct making *m, struct xml_values *x, struct json_object *schema)
{
	static const char *const keys[] = { "pattern", "format", "minLength", "maxLength" };

	x->any_text = true;
	for (size_t i = 0; x->strict && i < 4; i++)
		if (jsonc_member(schema, keys[i]))
			return err_set(m->err, -ENOTSUP,
				       "%s cannot be held in this model's form of calls", keys[i]);
	return 0;
}

static int xml_collect(struct making *m, struct xml_values *x, struct json_object *schema,
		       unsigned depth)
{
	const struct schema_options o = { .strict = x->strict };
	struct json_object *list, *v;
	ir_node node;
	int rc = schema_target(x->root, schema, &schema, m->err);

	if (rc)
		return rc;
	list = jsonc_member(schema, "enum");
	if (json_object_object_get_ex(schema, "const", &v))
		return xml_constant(m, x, v);
	if (json_object_is_type(list, json_type_array)) {
		for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
			rc = xml_constant(m, x, json_object_array_get_idx(list, i));
		return rc;
	}
	list = jsonc_member(schema, "anyOf");
	list = list ? list : jsonc_member(schema, "oneOf");
	v = jsonc_member(schema, "allOf");
	list = list || !json_object_is_type(v, json_type_array) || json_object_array_length(v) != 1
		       ? list
		       : v;
	if (json_object_is_type(list, json_type_array) && depth < MAX_ARMS_DEPTH) {
		for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
			rc = xml_collect(m, x, json_object_array_get_idx(list, i), depth + 1);
		return rc;
	}
	if (may_be_string(schema))
		return xml_string(m, x, schema);
	rc = schema_node(m->ir, x->root, schema, &o, &node, m->err);
	if (!rc)
		ir_push(m->ir, &x->list, node);
	return rc;
}

static int xml_value(struct making *m, struct json_object *root, bool strict,
		     struct json_object *schema, ir_node close, ir_node *ret)
{
	struct xml_values x = { .root = root, .strict = strict };
	int rc = xml_collect(m, &x, schema, 0);

	if (!rc && x.any_text)
		*ret = making_until(m, "\n</parameter>\n", close, false);
	else if (!rc)
		*ret = IR_SEQ_OF(m->ir, ir_alt(m->ir, x.list.nodes, x.list.n),
				 ir_string(m->ir, "\n</parameter>\n"), close);
	ir_list_done(&x.list);
	return rc;
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
	bool strict = json_object_get_boolean(jsonc_member(f, "strict"));
	ir_node whole;
	int rc = strict ? parameters(m, f, &whole) : 0; /* can all of it be held? */

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
		rc = xml_value(m, p, strict, schemas[n], rest, &value);
		if (rc)
			return err_prefix(m->err, rc, "parameter %.64s of tool %.64s", names[n],
					  name);
		one = IR_SEQ_OF(ir, ir_string(ir, "<parameter="), ir_string(ir, names[n]),
				ir_string(ir, ">\n"), value);
		rest = schema_requires(p, names[n]) ? one : IR_ALT_OF(ir, one, rest);
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
