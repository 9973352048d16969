/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_merge.c: two flat schemas that both have to hold, as one: allOf, what stands
 * beside $ref, arms with their surroundings. And whether two schemas exclude each other.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "grammar/schema.h"
#include "grammar/schema_impl.h"

/* {"allOf": [a, b]}, kept by whoever it is put into. */
static struct json_object *both(struct schema *s, struct json_object *a, struct json_object *b)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	schema_put(s, list, NULL, json_object_get(a));
	schema_put(s, list, NULL, json_object_get(b));
	schema_put(s, o, "allOf", list);
	return o;
}

static bool is_false(struct json_object *o)
{
	return json_object_is_type(o, json_type_boolean) && !json_object_get_boolean(o);
}

/* Of a list that was to be made: 0 where it was not. */
static size_t length(struct json_object *list)
{
	return list ? json_object_array_length(list) : 0;
}

/* Type @i of a string or a list; NULL behind the last. */
static const char *type_at(struct json_object *t, size_t i)
{
	if (json_object_is_type(t, json_type_array)) {
		struct json_object *e =
			i < json_object_array_length(t) ? json_object_array_get_idx(t, i) : NULL;
		const char *text = json_object_get_string(e);

		return i < json_object_array_length(t) ? text ? text : "" : NULL;
	}
	return i ? NULL : json_object_get_string(t);
}

static void add_type(struct schema *s, struct json_object *list, const char *name)
{
	for (size_t i = 0; i < length(list); i++)
		if (!strcmp(type_at(list, i), name))
			return;
	schema_put(s, list, NULL, schema_made(s, json_object_new_string(name)));
}

static size_t n_types(struct json_object *t)
{
	return json_object_is_type(t, json_type_array) ? json_object_array_length(t) : 1;
}

static struct json_object *meet_types(struct schema *s, struct json_object *a,
				      struct json_object *b)
{
	struct json_object *out = json_object_new_array();
	const char *x, *y;

	if (!schema_spend(s, (uint64_t)n_types(a) * n_types(b)))
		return out;
	for (size_t i = 0; (x = type_at(a, i)); i++)
		for (size_t j = 0; (y = type_at(b, j)); j++) {
			bool number = (!strcmp(x, "number") && !strcmp(y, "integer")) ||
				      (!strcmp(x, "integer") && !strcmp(y, "number"));

			if (number || !strcmp(x, y))
				add_type(s, out, number ? "integer" : x);
		}
	return out;
}

/* What comparing a value costs at most, in values; counted up to @most. */
static uint64_t weight(struct json_object *v, uint64_t most)
{
	uint64_t n = 1;

	if (json_object_is_type(v, json_type_string))
		n += (uint64_t)json_object_get_string_len(v) / 64;
	if (json_object_is_type(v, json_type_array))
		for (size_t i = 0; n < most && i < json_object_array_length(v); i++)
			n += weight(json_object_array_get_idx(v, i), most - n);
	if (json_object_is_type(v, json_type_object)) {
		json_object_object_foreach(v, k, x)
		{
			(void)k;
			if (n < most)
				n += weight(x, most - n);
		}
	}
	return n;
}

static bool listed(struct schema *s, struct json_object *list, struct json_object *v)
{
	if (!schema_spend(s, json_object_array_length(list) * weight(v, SCHEMA_MAX_WORK)))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (json_object_equal(json_object_array_get_idx(list, i), v))
			return true;
	return false;
}

/* Of two arrays: what both hold, or what either does. */
static struct json_object *lists(struct schema *s, struct json_object *a, struct json_object *b,
				 bool common)
{
	struct json_object *out = json_object_new_array();

	if (!schema_spend(s, json_object_array_length(a) + json_object_array_length(b)))
		return out;
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		struct json_object *v = json_object_array_get_idx(a, i);

		if (!common || listed(s, b, v))
			schema_put(s, out, NULL, json_object_get(v));
	}
	for (size_t i = 0; !common && i < json_object_array_length(b); i++) {
		struct json_object *v = json_object_array_get_idx(b, i);

		if (!listed(s, a, v))
			schema_put(s, out, NULL, json_object_get(v));
	}
	return out;
}

/* A property that only one side names, under what the other says of names it does not have. */
static struct json_object *under(struct schema *s, struct json_object *additional,
				 struct json_object *p)
{
	if (!additional || (json_object_is_type(additional, json_type_boolean) &&
			    json_object_get_boolean(additional)))
		return json_object_get(p);
	return is_false(additional) ? schema_made(s, json_object_new_boolean(false))
				    : both(s, additional, p);
}

static struct json_object *properties(struct schema *s, struct json_object *a,
				      struct json_object *b)
{
	struct json_object *x = schema_get(a, "properties"), *y = schema_get(b, "properties");
	struct json_object *more_a = schema_get(a, "additionalProperties"),
			   *more_b = schema_get(b, "additionalProperties");
	struct json_object *out = json_object_new_object(), *other;
	uint64_t n = json_object_is_type(x, json_type_object) ? json_object_object_length(x) : 0;

	n += json_object_is_type(y, json_type_object) ? json_object_object_length(y) : 0;
	if (!schema_spend(s, n))
		return out;
	if (json_object_is_type(x, json_type_object)) {
		json_object_object_foreach(x, k, v)
		{
			other = schema_get(y, k);
			schema_put(s, out, k, other ? both(s, v, other) : under(s, more_b, v));
		}
	}
	if (json_object_is_type(y, json_type_object)) {
		json_object_object_foreach(y, k, v)
		{
			if (!schema_get(x, k))
				schema_put(s, out, k, under(s, more_a, v));
		}
	}
	return out;
}

/* Each arm of the one list with each of the other. */
static struct json_object *arms(struct schema *s, const char *key, struct json_object *a,
				struct json_object *b)
{
	struct json_object *out = json_object_new_array();

	if (!schema_spend(s, json_object_array_length(a)))
		return out;
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		struct json_object *other = json_object_new_object(), *pair;

		schema_put(s, other, key, json_object_get(b));
		pair = both(s, json_object_array_get_idx(a, i), other);
		json_object_put(other);
		schema_put(s, out, NULL, pair);
	}
	return out;
}

static bool is_number(struct json_object *v)
{
	return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
}

/* Keywords of which the larger or the smaller value counts. */
static int bound(const char *key)
{
	static const char *const largest[] = { "minimum", "exclusiveMinimum", "minLength",
					       "minItems", "minProperties" };
	static const char *const smallest[] = { "maximum", "exclusiveMaximum", "maxLength",
						"maxItems", "maxProperties" };

	for (size_t i = 0; i < ARRAY_LEN(largest); i++)
		if (!strcmp(key, largest[i]))
			return 1;
	for (size_t i = 0; i < ARRAY_LEN(smallest); i++)
		if (!strcmp(key, smallest[i]))
			return -1;
	return 0;
}

static bool is_note(const char *key)
{
	static const char *const notes[] = { "title",	 "description", "default",
					     "examples", "$defs",	"definitions",
					     "$schema",	 "$id",		"$comment" };

	for (size_t i = 0; i < ARRAY_LEN(notes); i++)
		if (!strcmp(key, notes[i]))
			return true;
	return false;
}

/* A keyword that both have: the one that stands for both in *ret (a new reference), or none. */
static int meet(struct schema *s, const char *k, struct json_object *a, struct json_object *b,
		struct json_object **ret)
{
	bool arrays = json_object_is_type(a, json_type_array) &&
		      json_object_is_type(b, json_type_array);
	int by = bound(k);

	*ret = NULL;
	if (json_object_equal(a, b) || is_note(k)) {
		*ret = json_object_get(a);
	} else if (by && is_number(a) && is_number(b)) {
		bool larger = json_object_get_double(a) > json_object_get_double(b);

		*ret = json_object_get(larger == (by > 0) ? a : b);
	} else if (!strcmp(k, "type")) {
		*ret = meet_types(s, a, b);
	} else if (!strcmp(k, "required") && arrays) {
		*ret = lists(s, a, b, false);
	} else if (!strcmp(k, "enum") && arrays) {
		*ret = lists(s, a, b, true);
	} else if (!strcmp(k, "const")) {
		return 0; /* two constants */
	} else if (!strcmp(k, "items") || !strcmp(k, "additionalProperties") ||
		   !strcmp(k, "propertyNames")) {
		*ret = is_false(a) || is_false(b) ? schema_made(s, json_object_new_boolean(false))
						  : both(s, a, b);
	} else if ((!strcmp(k, "anyOf") || !strcmp(k, "oneOf")) && arrays) {
		*ret = arms(s, k, a, b);
		return strcmp(k, "oneOf") ? 0 : schema_cannot(s, "oneOf", "twice, within allOf");
	} else if (!strcmp(k, "uniqueItems")) {
		*ret = schema_made(s, json_object_new_boolean(true));
	} else {
		*ret = json_object_get(a);
		return schema_cannot(s, k, "two of them have to hold at once");
	}
	return 0;
}

int schema_merge(struct schema *s, struct json_object *a, struct json_object *b,
		 struct json_object **ret)
{
	struct json_object *out, *v, *w;
	int rc = 0;

	*ret = NULL;
	if (!a || !b || is_false(a) || is_false(b))
		return 0;
	if (json_object_is_type(a, json_type_boolean) ||
	    json_object_is_type(b, json_type_boolean)) {
		*ret = json_object_is_type(a, json_type_boolean) ? b : a;
		return 0;
	}
	if (!schema_spend(s, (uint64_t)json_object_object_length(a) +
				     (uint64_t)json_object_object_length(b) + 1))
		return ir_error(s->ir);
	out = schema_keep(s, json_object_new_object());
	if (!out)
		return ir_error(s->ir);
	json_object_object_foreach(a, k, x)
	{
		if (rc || !strcmp(k, "properties"))
			continue;
		v = json_object_get(x);
		if (json_object_object_get_ex(b, k, &w)) {
			json_object_put(v);
			rc = meet(s, k, x, w, &v);
			if (!rc && !v)
				return ir_error(s->ir);
		}
		schema_put(s, out, k, v);
	}
	json_object_object_foreach(b, l, y)
	{
		if (strcmp(l, "properties") && !json_object_object_get_ex(a, l, NULL))
			schema_put(s, out, l, json_object_get(y));
	}
	if (schema_get(a, "properties") || schema_get(b, "properties"))
		schema_put(s, out, "properties", properties(s, a, b));
	*ret = out;
	return rc ? rc : ir_error(s->ir);
}

/* ---- do they exclude each other? ---- */

/* Every value that @o allows is in the returned list (borrowed or kept). NULL: not known. */
static struct json_object *all_values(struct schema *s, struct json_object *o)
{
	struct json_object *list;

	if (schema_get(o, "enum"))
		return schema_get(o, "enum");
	if (!json_object_object_get_ex(o, "const", &list))
		return NULL;
	o = json_object_new_array();
	schema_put(s, o, NULL, json_object_get(list));
	return schema_keep(s, o);
}

static bool types_exclude(struct schema *s, struct json_object *a, struct json_object *b)
{
	struct json_object *x = schema_get(a, "type"), *y = schema_get(b, "type"), *both_of;
	bool none;

	if (!x || !y)
		return false;
	both_of = meet_types(s, x, y);
	none = !length(both_of);
	json_object_put(both_of);
	return none;
}

static bool values_exclude(struct schema *s, struct json_object *a, struct json_object *b)
{
	struct json_object *x = all_values(s, a), *y = all_values(s, b), *common;
	bool none;

	if (!json_object_is_type(x, json_type_array) || !json_object_is_type(y, json_type_array))
		return false;
	common = lists(s, x, y, true);
	none = !length(common);
	json_object_put(common);
	return none;
}

bool schema_requires(struct json_object *o, const char *name)
{
	struct json_object *list = schema_get(o, "required");

	if (!json_object_is_type(list, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(list, i));

		if (text && !strcmp(text, name))
			return true;
	}
	return false;
}

static size_t n_required(struct json_object *o)
{
	struct json_object *list = schema_get(o, "required");

	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

static bool objects_only(struct json_object *o)
{
	const char *type = json_object_get_string(schema_get(o, "type"));

	return type && !strcmp(type, "object");
}

/* A property that @a requires and that @b has not, or has with other values. */
static bool property_excludes(struct schema *s, struct json_object *a, struct json_object *b)
{
	struct json_object *mine = schema_get(a, "properties"),
			   *theirs = schema_get(b, "properties");
	bool closed = is_false(schema_get(b, "additionalProperties"));

	if (ir_error(s->ir) || !objects_only(a) || !objects_only(b) ||
	    !json_object_is_type(mine, json_type_object))
		return false;
	json_object_object_foreach(mine, k, p)
	{
		struct json_object *q = schema_get(theirs, k);

		if (!schema_spend(s, 1 + n_required(a)) || !schema_requires(a, k))
			continue;
		if (!q && closed)
			return true;
		if (q && schema_requires(b, k) &&
		    (types_exclude(s, p, q) || values_exclude(s, p, q)))
			return true;
	}
	return false;
}

bool schema_disjoint(struct schema *s, struct json_object *a, struct json_object *b)
{
	if (schema_flat(s, a, 0, &a) || schema_flat(s, b, 0, &b))
		return false;
	if (!a || !b || is_false(a) || is_false(b))
		return true;
	return types_exclude(s, a, b) || values_exclude(s, a, b) || property_excludes(s, a, b) ||
	       property_excludes(s, b, a);
}
