/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_fits.c: which values of enum and const are left by what stands beside them: types, lengths,
 * patterns and formats of strings (by the program that those alone would be), bounds and multiples of numbers
 * (by their digits). What is beside lists and objects is not tried on them.
 */
#include <errno.h>
#include <string.h>

#include "grammar/matcher.h"
#include "grammar/program.h"
#include "grammar/schema_impl.h"

struct fits {
	struct schema *s;
	struct json_object *o;
	struct program *strings; /* NULL with string_known: no string fits */
	struct matcher *m;
	bool string_known;
};

static int make_string(struct schema *s, const void *arg, ir_node *ret)
{
	struct json_object *const *o = arg;

	s->ir->guard = 0; /* as json-c spells it */
	return schema_string(s, *o, ret);
}

static bool says_any(struct json_object *o, const char *const *keywords, const char **ret)
{
	for (; *keywords; keywords++)
		if (schema_has(o, *keywords)) {
			*ret = *keywords;
			return true;
		}
	return false;
}

static int string_fits(struct fits *f, struct json_object *v, bool *ret)
{
	static const char *const keywords[] = { "minLength", "maxLength", "pattern", "format",
						NULL };
	const struct schema_part part = { make_string, &f->o };
	const char *text = json_object_to_json_string_ext(
		v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	int rc = 0;

	*ret = true;
	if (!says_any(f->o, keywords, &(const char *){ NULL }))
		return 0;
	if (!f->string_known) {
		rc = schema_part_program(f->s, &part, &f->strings);
		if (!rc && f->strings)
			rc = matcher_create(f->strings, NULL, &f->m);
		f->string_known = !rc;
	}
	*ret = false;
	if (rc || !f->strings)
		return rc;
	if (!text)
		return -ENOMEM;
	if (!schema_spend(f->s, 1 + strlen(text) / 16))
		return ir_error(f->s->ir);
	matcher_begin(f->m);
	*ret = matcher_bytes(f->m, text, strlen(text)) == (long)strlen(text) &&
	       matcher_accepts(f->m);
	return 0;
}

/* Keywords of lists or objects: true where there are none; else they are left out, or refused. */
static int nothing_beside(struct fits *f, const char *const *keywords)
{
	const char *keyword;

	if (!says_any(f->o, keywords, &keyword))
		return 0;
	return schema_cannot(f->s, keyword, "it stands beside lists or objects of enum or const");
}

static int value_fits(struct fits *f, struct json_object *v, bool *ret)
{
	static const char *const lists[] = { "items",	 "prefixItems", "minItems",
					     "maxItems", "uniqueItems", NULL };
	static const char *const objects[] = { "properties",	       "required",
					       "additionalProperties", "patternProperties",
					       "minProperties",	       "maxProperties",
					       "propertyNames",	       NULL };

	*ret = true;
	switch (json_object_get_type(v)) {
	case json_type_string:
		return string_fits(f, v, ret);
	case json_type_int:
	case json_type_double:
		return schema_number_fits(f->s, f->o, v, ret);
	case json_type_array:
		return nothing_beside(f, lists);
	case json_type_object:
		return nothing_beside(f, objects);
	default:
		return 0;
	}
}

int schema_fits(struct schema *s, struct json_object *o, struct json_object *list,
		struct json_object **ret)
{
	struct fits f = { .s = s, .o = o };
	struct json_object *out = schema_made(s, json_object_new_array());
	int rc = ir_error(s->ir);

	for (size_t i = 0; !rc && i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		bool fits = false;

		rc = value_fits(&f, v, &fits);
		if (!rc && fits)
			schema_put(s, out, NULL, json_object_get(v));
		rc = rc ? rc : ir_error(s->ir);
	}
	matcher_destroy(f.m);
	program_destroy(f.strings);
	if (rc)
		json_object_put(out);
	else
		*ret = out;
	return rc;
}
