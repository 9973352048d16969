/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_value.c: values as they are (const, enum), and the rules that all schemas
 * share: white space, strings, numbers, any value.
 */
#include <errno.h>
#include <string.h>

#include "grammar/schema_impl.h"

#define MAX_DIGITS 20 /* before the point, and behind it: a number comes to an end */

ir_node schema_text(struct schema *s, const char *text, size_t n)
{
	struct ir *ir = s->ir;

	return IR_SEQ_OF(ir, ir_string(ir, "\""), json_content(ir, text, n), ir_string(ir, "\""));
}

static ir_node comma(struct schema *s)
{
	return IR_SEQ_OF(s->ir, ir_string(s->ir, ","), schema_shared(s, SHARED_SPACE));
}

static ir_node array_value(struct schema *s, struct json_object *v, unsigned depth)
{
	struct ir_list parts = { 0 };
	ir_node node;

	ir_push(s->ir, &parts, ir_string(s->ir, "["));
	ir_push(s->ir, &parts, schema_shared(s, SHARED_SPACE));
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		if (i)
			ir_push(s->ir, &parts, comma(s));
		ir_push(s->ir, &parts, schema_value(s, json_object_array_get_idx(v, i), depth + 1));
	}
	if (json_object_array_length(v))
		ir_push(s->ir, &parts, schema_shared(s, SHARED_SPACE));
	ir_push(s->ir, &parts, ir_string(s->ir, "]"));
	node = ir_seq(s->ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

static ir_node object_value(struct schema *s, struct json_object *v, unsigned depth)
{
	struct ir_list parts = { 0 };
	bool any = false;
	ir_node node;

	ir_push(s->ir, &parts, ir_string(s->ir, "{"));
	ir_push(s->ir, &parts, schema_shared(s, SHARED_SPACE));
	json_object_object_foreach(v, k, x)
	{
		if (any)
			ir_push(s->ir, &parts, comma(s));
		any = true;
		ir_push(s->ir, &parts, schema_text(s, k, strlen(k)));
		ir_push(s->ir, &parts, ir_string(s->ir, ":"));
		ir_push(s->ir, &parts, ir_rep(s->ir, ir_string(s->ir, " "), 0, 1));
		ir_push(s->ir, &parts, schema_value(s, x, depth + 1));
	}
	if (any)
		ir_push(s->ir, &parts, schema_shared(s, SHARED_SPACE));
	ir_push(s->ir, &parts, ir_string(s->ir, "}"));
	node = ir_seq(s->ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

ir_node schema_value(struct schema *s, struct json_object *value, unsigned depth)
{
	if (depth > GRAMMAR_MAX_DEPTH) {
		ir_set_error(s->ir, -E2BIG);
		return ir_fail();
	}
	switch (json_object_get_type(value)) {
	case json_type_string:
		return schema_text(s, json_object_get_string(value),
				   (size_t)json_object_get_string_len(value));
	case json_type_array:
		return array_value(s, value, depth);
	case json_type_object:
		return object_value(s, value, depth);
	default: /* a number keeps the digits that it was written with */
		return ir_string(s->ir, value ? schema_digits(s, value) : "null");
	}
}

/* ---- what all share ---- */

/* Nothing, a blank, or one or two line ends with up to twenty blanks behind them. */
static ir_node space(struct ir *ir)
{
	ir_node blank = IR_ALT_OF(ir, ir_string(ir, " "), ir_string(ir, "\t"));

	return IR_ALT_OF(
		ir, ir_empty(), ir_string(ir, " "),
		IR_SEQ_OF(ir, ir_rep(ir, ir_string(ir, "\n"), 1, 2), ir_rep(ir, blank, 0, 20)));
}

static ir_node integer(struct ir *ir)
{
	ir_node digit = ir_byte_range(ir, '0', '9');

	return IR_SEQ_OF(ir, ir_rep(ir, ir_string(ir, "-"), 0, 1),
			 IR_ALT_OF(ir, ir_string(ir, "0"),
				   IR_SEQ_OF(ir, ir_byte_range(ir, '1', '9'),
					     ir_rep(ir, digit, 0, MAX_DIGITS - 1))));
}

static ir_node number(struct ir *ir)
{
	ir_node digit = ir_byte_range(ir, '0', '9');
	ir_node e = IR_ALT_OF(ir, ir_string(ir, "e"), ir_string(ir, "E"));
	ir_node sign = IR_ALT_OF(ir, ir_string(ir, "-"), ir_string(ir, "+"));
	ir_node fraction = IR_SEQ_OF(ir, ir_string(ir, "."), ir_rep(ir, digit, 1, MAX_DIGITS));
	ir_node exponent = IR_SEQ_OF(ir, e, ir_rep(ir, sign, 0, 1), ir_rep(ir, digit, 1, 2));

	return IR_SEQ_OF(ir, integer(ir), ir_rep(ir, fraction, 0, 1), ir_rep(ir, exponent, 0, 1));
}

/* open ( item ("," item)* )? close, with space where it may be. */
static ir_node list(struct schema *s, const char *open, ir_node item, const char *close)
{
	struct ir *ir = s->ir;
	ir_node more = ir_rep(ir, IR_SEQ_OF(ir, comma(s), item), 0, IR_UNBOUNDED);
	ir_node some = IR_SEQ_OF(ir, item, more, schema_shared(s, SHARED_SPACE));

	return IR_SEQ_OF(ir, ir_string(ir, open), schema_shared(s, SHARED_SPACE),
			 ir_rep(ir, some, 0, 1), ir_string(ir, close));
}

static ir_node make(struct schema *s, enum shared what)
{
	struct ir *ir = s->ir;

	switch (what) {
	case SHARED_SPACE:
		return space(ir);
	case SHARED_TAIL:
		return json_tail(ir);
	case SHARED_STRING:
		return IR_SEQ_OF(ir, ir_string(ir, "\""), schema_shared(s, SHARED_TAIL));
	case SHARED_INTEGER:
		return integer(ir);
	case SHARED_NUMBER:
		return number(ir);
	case SHARED_ARRAY:
		return list(s, "[", schema_shared(s, SHARED_ANY), "]");
	case SHARED_OBJECT:
		return list(s, "{",
			    IR_SEQ_OF(ir, schema_shared(s, SHARED_STRING), ir_string(ir, ":"),
				      ir_rep(ir, ir_string(ir, " "), 0, 1),
				      schema_shared(s, SHARED_ANY)),
			    "}");
	default:
		return IR_ALT_OF(ir, schema_shared(s, SHARED_OBJECT),
				 schema_shared(s, SHARED_ARRAY), schema_shared(s, SHARED_STRING),
				 schema_shared(s, SHARED_NUMBER), ir_string(ir, "true"),
				 ir_string(ir, "false"), ir_string(ir, "null"));
	}
}

ir_node schema_shared(struct schema *s, enum shared what)
{
	if (!s->shared[what]) {
		uint32_t rule = ir_rule(s->ir, NULL, 0);

		s->shared[what] = rule + 1;
		ir_rule_set(s->ir, rule, make(s, what));
	}
	return ir_ref(s->ir, s->shared[what] - 1);
}
