/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_flat.c: a schema without $ref and allOf: what it refers to and what else has to hold,
 * merged into one. See schema_impl.h.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "grammar/schema.h"
#include "grammar/schema_impl.h"

#define MAX_HOPS 64 /* of references to references */

int schema_resolve(struct schema *s, struct json_object *ref, struct json_object **ret)
{
	const char *text = json_object_get_string(ref);
	struct json_object *o;

	if (!json_object_is_type(ref, json_type_string))
		return schema_error(s, -EINVAL, "$ref must be a string");
	if (text[0] != '#')
		return schema_error(s, -EINVAL,
				    "$ref %.100s leads out of the schema: nothing is fetched",
				    text);
	if (text[1] && text[1] != '/')
		return schema_error(s, -EINVAL, "$ref %.100s: only pointers (#/...) are known",
				    text);
	o = jsonc_follow(s->root, text);
	if (!json_object_is_type(o, json_type_object) && !json_object_is_type(o, json_type_boolean))
		return schema_error(s, -EINVAL, "$ref %.100s leads to no schema", text);
	*ret = o;
	return 0;
}

struct json_object *schema_without(struct schema *s, struct json_object *o, const char *key)
{
	struct json_object *copy;

	if (!schema_spend(s, (uint64_t)json_object_object_length(o) + 1))
		return NULL;
	copy = json_object_new_object();
	json_object_object_foreach(o, k, v)
	{
		if (strcmp(k, key))
			schema_put(s, copy, k, json_object_get(v));
	}
	copy = schema_keep(s, copy);
	return ir_error(s->ir) ? NULL : copy;
}

bool schema_is_bare(struct json_object *o)
{
	static const char *const notes[] = { "$ref",	 "title", "description", "default",
					     "examples", "$defs", "definitions", "$comment",
					     "$schema",	 "$id",	  "deprecated",	 "readOnly",
					     "writeOnly" };

	json_object_object_foreach(o, k, v)
	{
		bool note = false;

		(void)v;
		for (size_t i = 0; i < ARRAY_LEN(notes); i++)
			note |= !strcmp(k, notes[i]);
		if (!note)
			return false;
	}
	return true;
}

/* Does the first stand before the second? Properties keep the order in which they are written. */
static bool stands_before(struct json_object *o, const char *first, const char *second)
{
	json_object_object_foreach(o, k, v)
	{
		(void)v;
		if (!strcmp(k, first))
			return true;
		if (!strcmp(k, second))
			return false;
	}
	return false;
}

static int flat_ref(struct schema *s, struct json_object *schema, unsigned hops,
		    struct json_object **ret)
{
	struct json_object *to, *rest;
	int rc = schema_resolve(s, schema_get(schema, "$ref"), &to);

	rc = rc ? rc : schema_flat(s, to, hops + 1, &to);
	if (rc || schema_is_bare(schema)) {
		*ret = to;
		return rc;
	}
	rest = schema_without(s, schema, "$ref");
	if (!rest)
		return ir_error(s->ir);
	rc = schema_flat(s, rest, hops + 1, &rest);
	if (rc || !stands_before(schema, "properties", "$ref"))
		return rc ? rc : schema_merge(s, to, rest, ret);
	return schema_merge(s, rest, to, ret);
}

static int flat_all(struct schema *s, struct json_object *schema, unsigned hops,
		    struct json_object **ret)
{
	struct json_object *all = schema_get(schema, "allOf"),
			   *own = schema_without(s, schema, "allOf");
	struct json_object *sum = NULL, *part;
	bool own_first = stands_before(schema, "properties", "allOf");
	size_t n;
	int rc;

	if (!json_object_is_type(all, json_type_array) || !json_object_array_length(all))
		return schema_error(s, -EINVAL, "allOf must be an array of schemas");
	if (!own)
		return ir_error(s->ir);
	n = json_object_array_length(all);
	rc = schema_flat(s, own, hops + 1, &own);
	for (size_t i = 0; !rc && i <= n && !ir_error(s->ir); i++) {
		bool is_own = own_first ? i == 0 : i == n;

		part = is_own ? own : json_object_array_get_idx(all, own_first ? i - 1 : i);
		if (!part)
			return schema_error(s, -EINVAL, "allOf must be an array of schemas");
		rc = is_own ? 0 : schema_flat(s, part, hops + 1, &part);
		if (!rc && i)
			rc = schema_merge(s, sum, part, &sum);
		else
			sum = part;
		if (!sum)
			break;
	}
	*ret = sum;
	return rc ? rc : ir_error(s->ir);
}

int schema_flat(struct schema *s, struct json_object *schema, unsigned hops,
		struct json_object **ret)
{
	*ret = schema;
	if (!schema || ir_error(s->ir))
		return ir_error(s->ir);
	if (json_object_is_type(schema, json_type_boolean))
		return 0;
	if (!json_object_is_type(schema, json_type_object))
		return schema_error(s, -EINVAL, "a schema must be an object, true or false");
	if (hops > MAX_HOPS)
		return schema_error(s, -EINVAL, "$ref or allOf lead on without an end");
	if (schema_has(schema, "$ref"))
		return flat_ref(s, schema, hops, ret);
	return schema_has(schema, "allOf") ? flat_all(s, schema, hops, ret) : 0;
}

int schema_target(struct json_object *root, struct json_object *schema, struct json_object **ret,
		  struct err *err)
{
	struct schema s = { .root = root, .err = err };
	int rc = 0;

	for (unsigned hops = 0; !rc && schema_has(schema, "$ref"); hops++)
		rc = hops < MAX_HOPS ? schema_resolve(&s, schema_get(schema, "$ref"), &schema)
				     : schema_error(&s, -EINVAL, "$ref leads on without an end");
	*ret = schema;
	return rc;
}
