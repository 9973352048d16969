/* SPDX-License-Identifier: MIT */
/* daemon/grammar/schema.c: see schema_impl.h. JSON Schema 2020-12; docs/structured-output.md. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "grammar/program.h"
#include "grammar/schema.h"
#include "grammar/schema_impl.h"

/* Types, as bits. */
enum {
	T_NULL = 1,
	T_BOOLEAN = 2,
	T_INTEGER = 4,
	T_NUMBER = 8,
	T_STRING = 16,
	T_ARRAY = 32,
	T_OBJECT = 64,
	T_ALL = 127
};

static const struct {
	const char *name;
	unsigned bits;
} types[] = {
	{ "null", T_NULL },	  { "boolean", T_BOOLEAN },
	{ "integer", T_INTEGER }, { "number", T_INTEGER | T_NUMBER },
	{ "string", T_STRING },	  { "array", T_ARRAY },
	{ "object", T_OBJECT },
};

/* Keywords that say something about one type, held by its file. */
static const struct {
	const char *name;
	unsigned type;
} typed[] = {
	{ "properties", T_OBJECT },
	{ "required", T_OBJECT },
	{ "additionalProperties", T_OBJECT },
	{ "patternProperties", T_OBJECT },
	{ "minProperties", T_OBJECT },
	{ "maxProperties", T_OBJECT },
	{ "propertyNames", T_OBJECT },
	{ "items", T_ARRAY },
	{ "prefixItems", T_ARRAY },
	{ "minItems", T_ARRAY },
	{ "maxItems", T_ARRAY },
	{ "uniqueItems", T_ARRAY },
	{ "contains", T_ARRAY },
	{ "minLength", T_STRING },
	{ "maxLength", T_STRING },
	{ "pattern", T_STRING },
	{ "format", T_STRING },
	{ "minimum", T_NUMBER | T_INTEGER },
	{ "maximum", T_NUMBER | T_INTEGER },
	{ "exclusiveMinimum", T_NUMBER | T_INTEGER },
	{ "exclusiveMaximum", T_NUMBER | T_INTEGER },
	{ "multipleOf", T_NUMBER | T_INTEGER },
};

/* What no automaton of this kind holds. */
static const char *const never[] = {
	"not",
	"if",
	"then",
	"else",
	"dependentRequired",
	"dependentSchemas",
	"dependencies",
	"unevaluatedProperties",
	"unevaluatedItems",
	"contains",
	"minContains",
	"maxContains",
	"$dynamicRef",
	"$recursiveRef",
	"additionalItems",
};

int schema_error(struct schema *s, int code, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(s->err, code, "%s", text);
}

int schema_cannot(struct schema *s, const char *keyword, const char *why)
{
	if (!s->o.strict)
		return 0;
	return schema_error(s, -ENOTSUP, "%.60s cannot be held%s%s", keyword, why ? ": " : "",
			    why ? why : "");
}

bool schema_spend(struct schema *s, uint64_t n)
{
	s->work += n;
	if (s->work > SCHEMA_MAX_WORK)
		ir_set_error(s->ir, -E2BIG);
	return ir_goes_on(s->ir);
}

struct json_object *schema_get(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (!json_object_is_type(o, json_type_object))
		return NULL;
	json_object_object_get_ex(o, key, &v);
	return v;
}

bool schema_has(struct json_object *o, const char *key)
{
	return json_object_object_get_ex(o, key, NULL);
}

static bool is_whole(double d)
{
	return isfinite(d) && trunc(d) == d;
}

int schema_size(struct schema *s, struct json_object *o, const char *key, uint32_t *ret)
{
	struct json_object *v = schema_get(o, key);
	double d;

	if (!schema_has(o, key))
		return 0;
	if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
		return schema_error(s, -EINVAL, "%s must be an integer from 0 on", key);
	d = json_object_get_double(v);
	if (d < 0.0 || !is_whole(d))
		return schema_error(s, -EINVAL, "%s must be an integer from 0 on", key);
	*ret = d > GRAMMAR_MAX_COUNT ? GRAMMAR_MAX_COUNT : (uint32_t)d;
	return 0;
}

struct json_object *schema_keep(struct schema *s, struct json_object *o)
{
	if (!o || json_object_array_length(s->made) >= SCHEMA_MAX_MADE ||
	    json_object_array_add(s->made, o)) {
		ir_set_error(s->ir, o ? -E2BIG : -ENOMEM);
		json_object_put(o);
		return NULL;
	}
	return o;
}

void schema_put(struct schema *s, struct json_object *o, const char *key, struct json_object *v)
{
	if (o && !(key ? json_object_object_add(o, key, v) : json_object_array_add(o, v)))
		return;
	json_object_put(v);
	ir_set_error(s->ir, -ENOMEM);
}

struct json_object *schema_made(struct schema *s, struct json_object *o)
{
	if (!o)
		ir_set_error(s->ir, -ENOMEM);
	return o;
}

const char *schema_digits(struct schema *s, struct json_object *v)
{
	const char *text = json_object_to_json_string(v);

	if (text)
		return text;
	ir_set_error(s->ir, -ENOMEM);
	return "0";
}

/* ---- what is left to do ---- */

int schema_ref(struct schema *s, struct json_object *schema, ir_node *ret)
{
	const struct name *e = names_find(&s->rules, &schema, sizeof(schema));
	uint32_t rule;
	void *q;

	if (json_object_is_type(schema, json_type_boolean)) {
		*ret = json_object_get_boolean(schema) ? schema_shared(s, SHARED_ANY) : ir_fail();
		return 0;
	}
	if (!json_object_is_type(schema, json_type_object))
		return schema_error(s, -EINVAL, "a schema must be an object, true or false");
	if (e) {
		*ret = ir_ref(s->ir, e->value);
		return 0;
	}
	if (s->depth >= GRAMMAR_MAX_DEPTH)
		return schema_error(s, -E2BIG, "schemas nest deeper than %d", GRAMMAR_MAX_DEPTH);
	if (s->n_rules++ >= SCHEMA_MAX_RULES)
		return schema_error(s, -E2BIG, "more than %d schemas in one", SCHEMA_MAX_RULES);
	if (s->n_todo == s->room_todo) {
		s->room_todo = s->room_todo ? s->room_todo * 2 : 32;
		q = realloc(s->todo, s->room_todo * sizeof(*s->todo));
		if (!q)
			return -ENOMEM;
		s->todo = q;
	}
	rule = ir_rule(s->ir, NULL, 0);
	if (!names_add(&s->rules, &schema, sizeof(schema), rule))
		return -ENOMEM;
	s->todo[s->n_todo].schema = schema;
	s->todo[s->n_todo].rule = rule;
	s->todo[s->n_todo++].depth = s->depth + 1;
	*ret = ir_ref(s->ir, rule);
	return ir_error(s->ir);
}

/* ---- types ---- */

static int type_bits(struct schema *s, struct json_object *type, unsigned *ret)
{
	const char *text = json_object_get_string(type);

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (json_object_is_type(type, json_type_string) && !strcmp(text, types[i].name)) {
			*ret |= types[i].bits;
			return 0;
		}
	return schema_error(s, -EINVAL, "type %.40s is none of JSON Schema's",
			    text ? text : "null");
}

/* The types that a schema names, or those that its keywords are about. */
static int find_types(struct schema *s, struct json_object *o, unsigned *ret)
{
	struct json_object *type = schema_get(o, "type");
	unsigned bits = 0;
	int rc = 0;

	if (json_object_is_type(type, json_type_array)) {
		for (size_t i = 0; !rc && i < json_object_array_length(type); i++)
			rc = type_bits(s, json_object_array_get_idx(type, i), &bits);
	} else if (schema_has(o, "type")) {
		rc = type_bits(s, type, &bits);
	} else {
		for (size_t i = 0; i < ARRAY_LEN(typed); i++)
			bits |= schema_has(o, typed[i].name) ? typed[i].type : 0;
		bits = bits ? bits : T_ALL;
	}
	*ret = bits;
	return rc;
}

static unsigned value_bit(struct json_object *v)
{
	switch (json_object_get_type(v)) {
	case json_type_boolean:
		return T_BOOLEAN;
	case json_type_int:
		return T_INTEGER;
	case json_type_double:
		return is_whole(json_object_get_double(v)) ? T_INTEGER : T_NUMBER;
	case json_type_string:
		return T_STRING;
	case json_type_array:
		return T_ARRAY;
	case json_type_object:
		return T_OBJECT;
	default:
		return T_NULL;
	}
}

/* ---- const and enum ---- */

static bool is_in(struct json_object *v, struct json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (json_object_equal(v, json_object_array_get_idx(list, i)))
			return true;
	return false;
}

static int check_keywords(struct schema *s, struct json_object *o)
{
	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		if (schema_has(o, never[i])) {
			int rc = schema_cannot(s, never[i], NULL);

			if (rc)
				return rc;
		}
	return 0;
}

int schema_values(struct schema *s, struct json_object *o, struct json_object **ret)
{
	struct json_object *list = schema_get(o, "enum"), *left;
	unsigned bits = 0;
	int rc = check_keywords(s, o);

	*ret = NULL;
	rc = rc ? rc : find_types(s, o, &bits);
	if (rc || !(schema_has(o, "const") || schema_has(o, "enum")))
		return rc;
	/* without a type the keywords say something of values of theirs alone */
	bits = schema_has(o, "type") ? bits : T_ALL;
	if (schema_has(o, "enum") && !json_object_is_type(list, json_type_array))
		return schema_error(s, -EINVAL, "enum must be an array");
	left = schema_made(s, json_object_new_array());
	if (schema_has(o, "const")) {
		struct json_object *v = schema_get(o, "const");

		if ((bits & value_bit(v)) && (!list || is_in(v, list)))
			schema_put(s, left, NULL, json_object_get(v));
		list = NULL;
	}
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);

		if (bits & value_bit(v))
			schema_put(s, left, NULL, json_object_get(v));
	}
	rc = ir_error(s->ir);
	rc = rc ? rc : schema_fits(s, o, left, ret);
	json_object_put(left);
	return rc;
}

static int values(struct schema *s, struct json_object *o, ir_node *ret)
{
	struct ir_list all = { 0 };
	struct json_object *list = NULL;
	int rc = schema_values(s, o, &list);

	for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
		ir_push(s->ir, &all, schema_value(s, json_object_array_get_idx(list, i), 0));
	*ret = ir_alt(s->ir, all.nodes, all.n);
	ir_list_done(&all);
	json_object_put(list);
	return rc;
}

/* ---- one schema ---- */

static int by_type(struct schema *s, struct json_object *o, ir_node *ret)
{
	ir_node part[6] = { 0 };
	unsigned bits = 0;
	int rc = find_types(s, o, &bits);

	if (rc)
		return rc;
	if (schema_has(o, "const") || schema_has(o, "enum"))
		return values(s, o, ret);
	if (bits & T_NULL)
		part[0] = ir_string(s->ir, "null");
	if (bits & T_BOOLEAN)
		part[1] = IR_ALT_OF(s->ir, ir_string(s->ir, "true"), ir_string(s->ir, "false"));
	if (bits & (T_INTEGER | T_NUMBER))
		rc = schema_number(s, o, !(bits & T_NUMBER), &part[2]);
	if (!rc && (bits & T_STRING))
		rc = schema_string(s, o, &part[3]);
	if (!rc && (bits & T_ARRAY))
		rc = schema_array(s, o, &part[4]);
	if (!rc && (bits & T_OBJECT))
		rc = schema_object(s, o, &part[5]);
	*ret = ir_alt(s->ir, part, 6);
	return rc;
}

/* The arms of oneOf must exclude each other, as any of them will do for the automaton. */
static int check_one(struct schema *s, struct json_object *arms)
{
	size_t n = json_object_array_length(arms);

	if (n > 64)
		return schema_cannot(s, "oneOf", "of more than 64 arms");
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (!schema_disjoint(s, json_object_array_get_idx(arms, i),
					     json_object_array_get_idx(arms, j)))
				return schema_cannot(s, "oneOf",
						     "its arms are not seen to exclude each other");
	return 0;
}

/* One of the arms, each together with what stands beside them. */
static int arms_of(struct schema *s, struct json_object *o, const char *key, ir_node *ret)
{
	struct json_object *arms = schema_get(o, key), *rest, *one;
	struct ir_list all = { 0 };
	bool bare;
	int rc = 0;

	if (!json_object_is_type(arms, json_type_array) || !json_object_array_length(arms))
		return schema_error(s, -EINVAL, "%s must be an array of schemas", key);
	if (!strcmp(key, "oneOf"))
		rc = check_one(s, arms);
	rest = schema_without(s, o, key);
	if (rc || !rest)
		return rc ? rc : ir_error(s->ir);
	bare = schema_is_bare(rest);
	for (size_t i = 0; !rc && !ir_error(s->ir) && i < json_object_array_length(arms); i++) {
		ir_node node = ir_fail();

		one = json_object_array_get_idx(arms, i);
		if (!one)
			rc = schema_error(s, -EINVAL, "%s must be an array of schemas", key);
		if (!rc && !bare) {
			rc = schema_flat(s, one, 0, &one);
			rc = rc ? rc : schema_merge(s, rest, one, &one);
		}
		if (!rc && one)
			rc = schema_ref(s, one, &node);
		ir_push(s->ir, &all, node);
	}
	*ret = ir_alt(s->ir, all.nodes, all.n);
	ir_list_done(&all);
	return rc;
}

static int compile(struct schema *s, struct json_object *schema, ir_node *ret)
{
	struct json_object *o;
	int rc;

	/* a bare reference is the rule of what it names, so that what recurs does not grow */
	if (schema_has(schema, "$ref") && schema_is_bare(schema)) {
		unsigned depth = s->depth;

		rc = schema_resolve(s, schema_get(schema, "$ref"), &o);
		rc = rc ? rc : schema_flat(s, o, 0, &(struct json_object *){ NULL });
		s->depth = 0; /* nesting begins anew */
		rc = rc ? rc : schema_ref(s, o, ret);
		s->depth = depth;
		return rc;
	}
	rc = schema_flat(s, schema, 0, &o);
	if (rc)
		return rc;
	*ret = ir_fail();
	if (!o || json_object_is_type(o, json_type_boolean))
		return o ? schema_ref(s, o, ret) : 0;
	rc = check_keywords(s, o);
	if (rc)
		return rc;
	if (schema_has(o, "anyOf"))
		return arms_of(s, o, "anyOf", ret);
	if (schema_has(o, "oneOf"))
		return arms_of(s, o, "oneOf", ret);
	return by_type(s, o, ret);
}

static int compile_all(struct schema *s)
{
	int rc = 0;

	while (s->n_todo && !rc) {
		struct json_object *schema = s->todo[--s->n_todo].schema;
		uint32_t rule = s->todo[s->n_todo].rule;
		ir_node node = ir_fail();

		s->depth = s->todo[s->n_todo].depth;
		rc = compile(s, schema, &node);
		ir_rule_set(s->ir, rule, node);
		rc = rc ? rc : ir_error(s->ir);
	}
	return rc;
}

int schema_node(struct ir *ir, struct json_object *root, struct json_object *schema,
		const struct schema_options *o, ir_node *ret, struct err *err)
{
	struct schema s = { .ir = ir, .root = root, .o = *o, .err = err };
	int rc;

	s.made = json_object_new_array();
	rc = s.made ? schema_ref(&s, schema, ret) : -ENOMEM;
	rc = rc ? rc : compile_all(&s);
	if (rc == -E2BIG && err && !err->text[0])
		err_set(err, rc, "the schema is too large");
	grammar_say(rc, err);
	names_done(&s.rules);
	free(s.todo);
	json_object_put(s.made);
	return rc;
}

int grammar_schema(struct json_object *schema, const struct schema_options *o, struct program **ret,
		   struct err *err)
{
	struct ir *ir = NULL;
	ir_node node = ir_fail();
	int rc = ir_create(&ir);

	rc = rc ? rc : schema_node(ir, schema, schema, o, &node, err);
	rc = rc ? rc : program_of_node(ir, node, ret, err);
	grammar_say(rc, err);
	ir_destroy(ir);
	return rc;
}
