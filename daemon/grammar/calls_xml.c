/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/calls_xml.c: a call whose parameters stand between tags, each value as who reads it
 * takes it (daemon/chat/calls_types.h): what its schema says a string may be stands bare, everything
 * else as JSON. Which of them a text is follows from the text, so where strings and other kinds
 * are allowed side by side a strict schema is held only where no text can be taken for the wrong one.
 * See constraint_impl.h.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "grammar/constraint_impl.h"
#include "grammar/schema.h"

#define MAX_ARMS_DEPTH 8
#define MAX_PARAMETERS 256
#define MAX_LOOKS      10000 /* of one parameter: arms and what references lead to */

struct values {
	struct making *m;
	const struct xml_form *x;
	struct json_object *root; /* of references: the tool's parameters */
	bool strict;
	bool any_text;	     /* a string that is not told further: free text */
	bool others;	     /* values of other kinds may come */
	bool bound;	     /* ... and not every one of their kind */
	struct ir_list list; /* values of other kinds */
	unsigned looked;     /* schemas */
	struct {
		const char *p;
		size_t n;
	} texts[1024]; /* strings that may come as they are */
	size_t n_texts;
};

/* ---- what a schema says ---- */

/* Members that say something of a value; those that no automaton holds were refused before. */
static bool is_keyword(const char *key)
{
	static const char *const all[] = {
		"type",
		"enum",
		"const",
		"properties",
		"required",
		"additionalProperties",
		"items",
		"prefixItems",
		"patternProperties",
		"minProperties",
		"maxProperties",
		"propertyNames",
		"minItems",
		"maxItems",
		"uniqueItems",
		"minLength",
		"maxLength",
		"pattern",
		"format",
		"minimum",
		"maximum",
		"exclusiveMinimum",
		"multipleOf",
		"exclusiveMaximum",
		"anyOf",
		"oneOf",
		"allOf",
		"$ref",
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (!strcmp(key, all[i]))
			return true;
	return false;
}

/* A keyword beside @but, or NULL. */
static const char *other_member(struct json_object *o, const char *const *but)
{
	if (!json_object_is_type(o, json_type_object))
		return NULL;
	json_object_object_foreach(o, k, v)
	{
		bool counts = is_keyword(k);

		(void)v;
		for (size_t i = 0; but[i]; i++)
			counts &= strcmp(k, but[i]) != 0;
		if (counts)
			return k;
	}
	return NULL;
}

static int cannot(struct values *v, const char *keyword)
{
	if (!v->strict)
		return 0;
	return err_set(v->m->err, -ENOTSUP, "%.60s cannot be held in this model's form of calls",
		       keyword);
}

static bool names_type(struct json_object *schema, const char *name)
{
	struct json_object *type = jsonc_member(schema, "type");
	bool list = json_object_is_type(type, json_type_array);

	if (json_object_is_type(type, json_type_string))
		return !strcmp(json_object_get_string(type), name);
	for (size_t i = 0; list && i < json_object_array_length(type); i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(type, i));

		if (text && !strcmp(text, name))
			return true;
	}
	return false;
}

static bool may_be_string(struct json_object *schema)
{
	static const char *const others[] = { "properties", "additionalProperties",
					      "items",	    "prefixItems",
					      "minimum",    "maximum",
					      "required" };

	if (jsonc_member(schema, "type"))
		return names_type(schema, "string");
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (jsonc_member(schema, others[i]))
			return false;
	return true; /* nothing said: strings too */
}

/* ---- values ---- */

/* Would who reads it take this text for something else where that is allowed? */
static bool looks_otherwise(const char *text, size_t n)
{
	while (n && strchr(" \n\r\t", *text) && *text) {
		text++;
		n--;
	}
	if (!n)
		return false;
	if (strchr("{[-0123456789", *text) && *text)
		return true;
	return (n >= 4 && (!strncasecmp(text, "true", 4) || !strncasecmp(text, "null", 4) ||
			   !strncasecmp(text, "none", 4))) ||
	       (n >= 5 && !strncasecmp(text, "false", 5));
}

/* Does the schema's type, where it names one, name this value's? */
static bool type_holds(struct json_object *schema, struct json_object *value)
{
	static const char *const names[] = {
		[json_type_null] = "null",     [json_type_boolean] = "boolean",
		[json_type_double] = "number", [json_type_int] = "integer",
		[json_type_object] = "object", [json_type_array] = "array",
		[json_type_string] = "string",
	};
	enum json_type type = json_object_get_type(value);

	if (!jsonc_member(schema, "type") || names_type(schema, names[type]))
		return true;
	if (type == json_type_double) { /* 1.0 is an integer */
		double d = json_object_get_double(value);

		return isfinite(d) && d == trunc(d) && names_type(schema, "integer");
	}
	return type == json_type_int && names_type(schema, "number");
}

/* A value of an enum or a const as it is: strings for later, all else as JSON. */
static int constant(struct values *v, struct json_object *schema, struct json_object *value)
{
	const struct schema_options o = { .strict = false };
	struct making *m = v->m;
	struct json_object *wrapped;
	ir_node node;
	int rc;

	if (!type_holds(schema, value))
		return 0;
	if (json_object_is_type(value, json_type_string)) {
		if (v->n_texts == ARRAY_LEN(v->texts))
			return err_set(m->err, -E2BIG, "a parameter has too many values");
		v->texts[v->n_texts].p = json_object_get_string(value);
		v->texts[v->n_texts++].n = (size_t)json_object_get_string_len(value);
		return 0;
	}
	v->others = v->bound = true;
	wrapped = json_object_new_object();
	rc = wrapped && !json_object_object_add(wrapped, "const", value) ? 0 : -ENOMEM;
	if (!rc) {
		jsonc_hold(value);
		rc = schema_node(m->ir, wrapped, wrapped, &o, &node, m->err);
	}
	json_object_put(wrapped);
	if (rc)
		return rc;
	ir_push(m->ir, &v->list, node);
	if (v->x->python && json_object_is_type(value, json_type_boolean))
		ir_push(m->ir, &v->list,
			ir_string(m->ir, json_object_get_boolean(value) ? "True" : "False"));
	if (v->x->python && !value)
		ir_push(m->ir, &v->list, ir_string(m->ir, "None"));
	return 0;
}

static int string(struct values *v, struct json_object *schema)
{
	static const char *const bare[] = { "type", NULL };
	const char *key = other_member(schema, bare);

	v->any_text = true;
	if (!names_type(schema, "string") ||
	    json_object_is_type(jsonc_member(schema, "type"), json_type_array))
		v->others = true;
	return key ? cannot(v, key) : 0;
}

/* Anything but strings. */
static int other(struct values *v, struct json_object *schema)
{
	static const char *const bare[] = { "type", NULL };
	const struct schema_options o = { .strict = v->strict };
	struct making *m = v->m;
	ir_node node;
	int rc = schema_node(m->ir, v->root, schema, &o, &node, m->err);

	if (rc)
		return rc;
	v->others = true;
	v->bound |= other_member(schema, bare) != NULL;
	ir_push(m->ir, &v->list, node);
	if (v->x->python && names_type(schema, "boolean")) {
		ir_push(m->ir, &v->list, ir_string(m->ir, "True"));
		ir_push(m->ir, &v->list, ir_string(m->ir, "False"));
	}
	if (v->x->python && names_type(schema, "null"))
		ir_push(m->ir, &v->list, ir_string(m->ir, "None"));
	return 0;
}

/* The list of anyOf, oneOf, or of an allOf of one; NULL: none. */
static struct json_object *arms_of(struct json_object *schema, const char **ret_key)
{
	static const char *const keys[] = { "anyOf", "oneOf", "allOf" };

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct json_object *list = jsonc_member(schema, keys[i]);

		*ret_key = keys[i];
		if (json_object_is_type(list, json_type_array) &&
		    (i < 2 || json_object_array_length(list) == 1))
			return list;
	}
	return NULL;
}

static int collect(struct values *v, struct json_object *schema, unsigned depth)
{
	struct json_object *target, *list, *value;
	const char *beside[] = { "$ref", NULL, NULL }, *key;
	int rc;

	/* strings make no nodes, so nothing below ends what has grown too large */
	if (!ir_goes_on(v->m->ir))
		return ir_error(v->m->ir);
	if (++v->looked > MAX_LOOKS)
		return err_set(v->m->err, -E2BIG, "a parameter's schema has too many arms");
	rc = schema_target(v->root, schema, &target, v->m->err);
	if (rc)
		return rc;
	if (target != schema) {
		/* what stands beside a reference is held where the whole is no string */
		key = other_member(schema, beside);
		if (key && !may_be_string(target) && !jsonc_member(target, "enum"))
			return other(v, schema);
		rc = key ? cannot(v, key) : 0;
		schema = target;
	}
	list = jsonc_member(schema, "enum");
	beside[0] = "type";
	beside[1] = "enum";
	if (!rc && json_object_object_get_ex(schema, "const", &value)) {
		beside[1] = "const";
		key = other_member(schema, beside);
		rc = key ? cannot(v, key) : 0;
		return rc ? rc : constant(v, schema, value);
	}
	if (!rc && json_object_is_type(list, json_type_array)) {
		key = other_member(schema, beside);
		rc = key ? cannot(v, key) : 0;
		for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
			rc = constant(v, schema, json_object_array_get_idx(list, i));
		return rc;
	}
	list = arms_of(schema, &beside[0]);
	beside[1] = NULL;
	if (!rc && list && depth < MAX_ARMS_DEPTH) {
		key = other_member(schema, beside);
		rc = key ? cannot(v, key) : 0;
		for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
			rc = collect(v, json_object_array_get_idx(list, i), depth + 1);
		return rc;
	}
	if (rc)
		return rc;
	return may_be_string(schema) ? string(v, schema) : other(v, schema);
}

/* Does the text hold what ends a value? */
static bool holds_end(const struct values *v, size_t i)
{
	return memmem(v->texts[i].p, v->texts[i].n, v->x->value_end, strlen(v->x->value_end));
}

/* Any text up to the end tag, or one of the values and the end tag; then @rest. */
static int value_of(struct values *v, ir_node rest, ir_node *ret)
{
	struct ir *ir = v->m->ir;
	const struct xml_form *x = v->x;
	ir_node end = making_mark(v->m, x->value_end);

	if (v->any_text && v->others && v->bound && v->strict)
		return err_set(v->m->err, -ENOTSUP,
			       "a string beside values of other kinds cannot be held in this "
			       "model's form of calls");
	rest = IR_SEQ_OF(ir, ir_string(ir, x->parameter_end), rest);
	if (v->any_text) {
		*ret = making_until(v->m, x->value_end, rest, false);
		return 0;
	}
	for (size_t i = 0; i < v->n_texts; i++)
		if (!holds_end(v, i) &&
		    !(v->others && looks_otherwise(v->texts[i].p, v->texts[i].n)))
			ir_push(ir, &v->list, ir_text(ir, v->texts[i].p, v->texts[i].n));
	*ret = IR_SEQ_OF(ir, ir_alt(ir, v->list.nodes, v->list.n),
			 ir_string(ir, x->own_line ? "\n" : ""), end, rest);
	return 0;
}

/* ---- parameters ---- */

struct parameter {
	const char *name;
	struct json_object *schema; /* NULL: any */
	bool required;
};

struct parameters {
	struct json_object *root, *object; /* the same without a reference */
	bool strict;
	struct parameter all[MAX_PARAMETERS];
	size_t n;
};

/* What stands at the top of the parameters and says more than which there are and what they are. */
static int check_top(struct making *m, const struct parameters *p)
{
	static const char *const known[] = { "type", "properties", "required",
					     "additionalProperties", NULL };
	static const char *const reference[] = { "$ref", NULL };
	const char *key = other_member(p->object, known);

	if (!key && p->root != p->object)
		key = other_member(p->root, reference);
	if (!key || !p->strict)
		return 0;
	return err_set(m->err, -ENOTSUP,
		       "%.60s of the parameters cannot be held in this model's form of calls", key);
}

static int add_parameter(struct making *m, struct parameters *p, const struct xml_form *x,
			 const char *name, struct json_object *schema)
{
	bool required = schema_requires(p->object, name);

	/* what cannot be written is not offered */
	if (!making_name_fits(name, x->not_in_name))
		return required ? err_set(m->err, -ENOTSUP,
					  "parameter %.64s: such a name cannot be written in this "
					  "model's form of calls",
					  name)
				: 0;
	if (json_object_is_type(schema, json_type_boolean) && !json_object_get_boolean(schema) &&
	    !required)
		return 0;
	if (p->n == MAX_PARAMETERS)
		return err_set(m->err, -E2BIG, "more than %d parameters", MAX_PARAMETERS);
	p->all[p->n++] = (struct parameter){ name, schema, required };
	return 0;
}

/* The declared ones, in their order, then those that are only required. */
static int list_parameters(struct making *m, struct parameters *p, const struct xml_form *x)
{
	struct json_object *props = jsonc_member(p->object, "properties");
	struct json_object *more = jsonc_member(p->object, "additionalProperties");
	struct json_object *required = jsonc_member(p->object, "required");
	bool list = json_object_is_type(required, json_type_array);
	int rc = 0;

	if (json_object_is_type(props, json_type_object)) {
		json_object_object_foreach(props, k, v)
		{
			rc = rc ? rc : add_parameter(m, p, x, k, v);
		}
	}
	for (size_t i = 0; list && !rc && i < json_object_array_length(required); i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(required, i));

		if (name && !(json_object_is_type(props, json_type_object) &&
			      json_object_object_get_ex(props, name, NULL)))
			rc = add_parameter(m, p, x, name, more);
	}
	return rc;
}

static int parameter_value(struct making *m, const struct parameters *p, const struct xml_form *x,
			   const struct parameter *one, ir_node rest, ir_node *ret)
{
	struct values v = { .m = m, .x = x, .root = p->root, .strict = p->strict };
	int rc = 0;

	if (!one->schema || json_object_is_type(one->schema, json_type_boolean))
		v.any_text = !one->schema || json_object_get_boolean(one->schema);
	else
		rc = collect(&v, one->schema, 0);
	rc = rc ? rc : value_of(&v, rest, ret);
	ir_list_done(&v.list);
	return rc;
}

static ir_node rule_of(struct ir *ir, ir_node node)
{
	uint32_t rule = ir_rule(ir, NULL, 0);

	ir_rule_set(ir, rule, node);
	return ir_ref(ir, rule);
}

/* From the last parameter to the first: each that need not be there may be left out. */
static int write_parameters(struct making *m, const struct parameters *p, const struct xml_form *x,
			    ir_node *ret)
{
	struct ir *ir = m->ir;
	ir_node rest = ir_string(ir, x->call_end);

	for (size_t i = p->n; i-- > 0;) {
		ir_node one, value = ir_fail();
		int rc;

		rest = rule_of(ir, rest);
		rc = parameter_value(m, p, x, &p->all[i], rest, &value);
		if (rc)
			return err_prefix(m->err, rc, "parameter %.64s", p->all[i].name);
		one = IR_SEQ_OF(
			ir, making_mark(m, x->key), ir_string(ir, p->all[i].name),
			making_mark(m, x->key_end),
			x->value ? IR_SEQ_OF(ir, ir_string(ir, "\n"), making_mark(m, x->value))
				 : ir_empty(),
			value);
		rest = p->all[i].required ? one : IR_ALT_OF(ir, one, rest);
	}
	*ret = rest;
	return 0;
}

int making_xml_call(struct making *m, const struct xml_form *x, struct json_object *f, ir_node *ret)
{
	struct parameters p = { .root = jsonc_member(f, "parameters"),
				.strict = json_object_get_boolean(jsonc_member(f, "strict")) };
	const char *name = json_object_get_string(jsonc_member(f, "name"));
	ir_node whole, rest = ir_fail();
	int rc = 0;

	if (!making_name_fits(name, x->not_in_name))
		return err_set(m->err, -ENOTSUP,
			       "tool %.64s: such a name cannot be written in this model's form of "
			       "calls",
			       name);
	if (p.strict) /* can all of it be held, whatever the form? */
		rc = making_parameters(m, f, &whole);
	if (rc)
		return rc;
	p.object = p.root;
	m->ir->guard = '/'; /* no string within a value ends it */
	rc = p.root ? schema_target(p.root, p.root, &p.object, m->err) : 0;
	rc = rc ? rc : check_top(m, &p);
	rc = rc ? rc : list_parameters(m, &p, x);
	rc = rc ? rc : write_parameters(m, &p, x, &rest);
	m->ir->guard = 0;
	if (rc)
		return err_prefix(m->err, rc, "tool %.64s", name);
	*ret = IR_SEQ_OF(m->ir, ir_string(m->ir, x->call), ir_string(m->ir, name),
			 ir_string(m->ir, x->name_end), rest);
	return 0;
}
