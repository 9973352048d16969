/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_types.c: see calls_types.h.
 *
 * Schemas are a client's: references are followed to a depth, and all of a request's tools have one
 * budget of steps, beyond which a value may be anything.
 */
#include "chat/calls_types.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/jsonc.h"
#include "chat/calls_json.h"

#define DEPTH_MAX 8
#define HOPS_MAX  64 /* of references to references */
#define STEPS_MAX 1000000u

int bytes_room(struct bytes *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 256;
	char *p;

	if (b->cap - b->n >= more)
		return 0;
	while (cap - b->n < more)
		cap *= 2;
	p = realloc(b->p, cap);
	if (!p)
		return -ENOMEM;
	b->p = p;
	b->cap = cap;
	return 0;
}

int bytes_add(struct bytes *b, const char *p, size_t n)
{
	if (!n)
		return 0;
	if (bytes_room(b, n))
		return -ENOMEM;
	memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

/* ---- schemas ---- */

struct reader {
	struct json_object *root;
	unsigned *steps; /* left, of all tools together */
};

static unsigned kind_of_value(struct json_object *v)
{
	switch (json_object_get_type(v)) {
	case json_type_null:
		return JSON_NULL;
	case json_type_boolean:
		return JSON_BOOLEAN;
	case json_type_int:
		return JSON_INTEGER;
	case json_type_double: { /* 1.0 is an integer */
		double d = json_object_get_double(v);

		return isfinite(d) && d == trunc(d) ? JSON_NUMBER | JSON_INTEGER : JSON_NUMBER;
	}
	case json_type_object:
		return JSON_OBJECT;
	case json_type_array:
		return JSON_ARRAY;
	default:
		return JSON_STRING;
	}
}

static unsigned type_named(struct json_object *name)
{
	static const struct {
		const char *name;
		unsigned kinds;
	} all[] = {
		{ "null", JSON_NULL },	     { "boolean", JSON_BOOLEAN },
		{ "integer", JSON_INTEGER }, { "number", JSON_NUMBER | JSON_INTEGER },
		{ "object", JSON_OBJECT },   { "array", JSON_ARRAY },
		{ "string", JSON_STRING },
	};
	const char *text =
		json_object_is_type(name, json_type_string) ? json_object_get_string(name) : "";

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(all[i].name, text))
			return all[i].kinds;
	return 0;
}

/* Spends @n steps; false: they have run out. */
static bool spend(const struct reader *r, size_t n)
{
	*r->steps = n < *r->steps ? *r->steps - (unsigned)n : 0;
	return *r->steps;
}

/* What a schema's reference leads to; NULL: it has none, or it leads nowhere. */
static struct json_object *follow(const struct reader *r, struct json_object *schema)
{
	struct json_object *ref = jsonc_member(schema, "$ref");

	if (!json_object_is_type(ref, json_type_string) ||
	    !spend(r, 1 + (size_t)json_object_get_string_len(ref) / 8))
		return NULL;
	return jsonc_follow(r->root, json_object_get_string(ref));
}

/* The object's schema, behind references to it, as it is when calls are held to it. NULL: none. */
static struct json_object *parameters_of(const struct reader *r)
{
	struct json_object *o = r->root;

	for (unsigned hops = 0; o && json_object_object_get_ex(o, "$ref", NULL); hops++)
		o = hops < HOPS_MAX ? follow(r, o) : NULL;
	return o;
}

static unsigned types(const struct reader *r, struct json_object *schema, unsigned depth);

static unsigned any_of(const struct reader *r, struct json_object *list, unsigned depth)
{
	size_t n = json_object_array_length(list);
	unsigned out = 0;

	for (size_t i = 0; i < n; i++)
		out |= types(r, json_object_array_get_idx(list, i), depth + 1);
	return out;
}

static unsigned listed_types(const struct reader *r, struct json_object *type)
{
	unsigned out = 0;

	if (json_object_is_type(type, json_type_array) && !spend(r, json_object_array_length(type)))
		return JSON_ANY;
	if (!json_object_is_type(type, json_type_array))
		return type_named(type);
	for (size_t i = 0; i < json_object_array_length(type); i++)
		out |= type_named(json_object_array_get_idx(type, i));
	return out;
}

static unsigned listed_values(const struct reader *r, struct json_object *schema)
{
	struct json_object *list = jsonc_member(schema, "enum");
	unsigned out = 0;

	if (!json_object_is_type(list, json_type_array))
		return kind_of_value(jsonc_member(schema, "const"));
	if (!spend(r, json_object_array_length(list)))
		return JSON_ANY;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		out |= kind_of_value(json_object_array_get_idx(list, i));
	return out;
}

/* What a schema says itself, without its reference. */
static unsigned types_said(const struct reader *r, struct json_object *schema, unsigned depth)
{
	struct json_object *v;
	unsigned out = JSON_ANY;

	if (json_object_object_get_ex(schema, "type", &v))
		out &= listed_types(r, v);
	v = jsonc_member(schema, "anyOf");
	if (json_object_is_type(v, json_type_array))
		out &= any_of(r, v, depth);
	v = jsonc_member(schema, "oneOf");
	if (json_object_is_type(v, json_type_array))
		out &= any_of(r, v, depth);
	v = jsonc_member(schema, "allOf");
	if (json_object_is_type(v, json_type_array))
		for (size_t i = 0; i < json_object_array_length(v); i++)
			out &= types(r, json_object_array_get_idx(v, i), depth + 1);
	if (json_object_object_get_ex(schema, "enum", NULL) ||
	    json_object_object_get_ex(schema, "const", NULL))
		out &= listed_values(r, schema);
	return out;
}

static unsigned types(const struct reader *r, struct json_object *schema, unsigned depth)
{
	unsigned out = JSON_ANY;

	if (depth > DEPTH_MAX)
		return out;
	for (unsigned hops = 0; hops < HOPS_MAX; hops++) {
		if (!json_object_is_type(schema, json_type_object) || !spend(r, 1))
			break;
		out &= types_said(r, schema, depth);
		schema = follow(r, schema);
	}
	return out;
}

/* ---- tools ---- */

static int by_bytes(const char *a, size_t an, const char *b, size_t bn)
{
	int c = memcmp(a, b, an < bn ? an : bn);

	return c ? c : (an > bn) - (an < bn);
}

static int by_property(const void *a, const void *b)
{
	const struct tool_property *x = a, *y = b;

	return by_bytes(x->name, x->n, y->name, y->n);
}

static int by_tool(const void *a, const void *b)
{
	const struct tool *x = a, *y = b;
	int c = by_bytes(x->name, x->n, y->name, y->n);

	return c ? c : (x->order > y->order) - (x->order < y->order);
}

/* The names of properties lie behind the tool's own, in one piece. */
static int tool_make(struct tool *t, struct json_object *function, unsigned *steps)
{
	struct json_object *name = jsonc_member(function, "name"), *o;
	struct json_object *root = jsonc_member(function, "parameters");
	struct reader r = { .root = root, .steps = steps };
	struct json_object *parameters = parameters_of(&r);
	size_t room, n = 0;
	char *at;

	t->n = (size_t)json_object_get_string_len(name);
	room = t->n + 1;
	o = jsonc_member(parameters, "properties");
	if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, value)
		{
			(void)value;
			room += strlen(key) + 1;
			n++;
		}
	}
	t->name = malloc(room);
	t->properties = calloc(n ? n : 1, sizeof(*t->properties));
	if (!t->name || !t->properties)
		return -ENOMEM;
	memcpy(t->name, json_object_get_string(name), t->n + 1);
	at = t->name + t->n + 1;
	if (n) {
		json_object_object_foreach(o, key, value)
		{
			struct tool_property *p = &t->properties[t->n_properties++];

			p->name = at;
			p->n = strlen(key);
			p->types = (uint8_t)types(&r, value, 0);
			memcpy(at, key, p->n + 1);
			at += p->n + 1;
		}
	}
	qsort(t->properties, t->n_properties, sizeof(*t->properties), by_property);
	t->others = JSON_ANY;
	if (json_object_is_type(parameters, json_type_object) &&
	    json_object_object_get_ex(parameters, "additionalProperties", &o))
		t->others = (uint8_t)types(&r, o, 0);
	return 0;
}

int toolbox_make(struct json_object *tools, struct toolbox *ret, struct err *err)
{
	struct toolbox b = { 0 };
	unsigned steps = STEPS_MAX;
	size_t n;

	*ret = b;
	if (!tools)
		return 0;
	if (!json_object_is_type(tools, json_type_array))
		return err_set(err, -EINVAL, "tools is not an array");
	n = json_object_array_length(tools);
	b.tools = calloc(n ? n : 1, sizeof(*b.tools));
	if (!b.tools)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(tools, i);
		struct json_object *function = jsonc_member(o, "function");
		int rc;

		function = function ? function : o;
		b.n++;
		b.tools[i].order = i;
		rc = json_object_is_type(jsonc_member(function, "name"), json_type_string)
			     ? tool_make(&b.tools[i], function, &steps)
			     : err_set(err, -EINVAL, "tools[%zu] has no name", i);
		if (rc) {
			toolbox_done(&b);
			return rc;
		}
	}
	qsort(b.tools, b.n, sizeof(*b.tools), by_tool);
	*ret = b;
	return 0;
}

void toolbox_done(struct toolbox *b)
{
	for (size_t i = 0; i < b->n; i++) {
		free(b->tools[i].name);
		free(b->tools[i].properties);
	}
	free(b->tools);
	*b = (struct toolbox){ 0 };
}

const struct tool *toolbox_find(const struct toolbox *b, const char *name, size_t n)
{
	size_t lo = 0, hi = b->n;

	while (lo < hi) { /* the first of the name */
		size_t mid = lo + (hi - lo) / 2;

		if (by_bytes(b->tools[mid].name, b->tools[mid].n, name, n) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == b->n || by_bytes(b->tools[lo].name, b->tools[lo].n, name, n))
		return NULL;
	return &b->tools[lo];
}

/* ---- values ---- */

int string_json(struct bytes *b, const char *text, size_t n)
{
	static const char hex[] = "0123456789abcdef", from[] = "\"\\\b\f\n\r\t",
			  into[] = "\"\\bfnrt";

	if (bytes_room(b, n + 2))
		return -ENOMEM;
	b->p[b->n++] = '"';
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		const char *at = c ? strchr(from, c) : NULL;

		if (bytes_room(b, n - i + 7))
			return -ENOMEM;
		if (at) {
			b->p[b->n++] = '\\';
			b->p[b->n++] = into[at - from];
		} else if (c < 0x20 || c == 0x7f) {
			memcpy(b->p + b->n, "\\u00", 4);
			b->p[b->n + 4] = hex[c >> 4];
			b->p[b->n + 5] = hex[c & 15];
			b->n += 6;
		} else {
			b->p[b->n++] = (char)c;
		}
	}
	b->p[b->n++] = '"';
	return 0;
}

static bool is_word(const char *text, size_t n, const char *word)
{
	return n == strlen(word) && !memcmp(text, word, n);
}

/* A number without a fraction, "3.0" or "1e2", as the integer it is; false: it is none. */
static bool whole(const char *text, size_t n, char ret[400])
{
	char copy[400], *end;
	double v;

	if (n >= sizeof(copy))
		return false;
	memcpy(copy, text, n);
	copy[n] = '\0';
	v = strtod(copy, &end);
	if (*end || !isfinite(v) || v != floor(v))
		return false;
	snprintf(ret, 400, "%.0f", v == 0 ? 0.0 : v);
	return true;
}

int value_json(struct bytes *b, const struct tool *tool, const char *key, size_t key_n,
	       const char *value, size_t n)
{
	const struct tool_property want = { .name = key, .n = key_n }, *p = NULL;
	unsigned can = JSON_ANY;
	const char *t = value;
	size_t len = n;
	enum json_kind k;
	char digits[400];

	if (tool) {
		p = tool->n_properties ? bsearch(&want, tool->properties, tool->n_properties,
						 sizeof(want), by_property)
				       : NULL;
		can = p ? p->types : tool->others;
	}
	if (!(can & ~(unsigned)JSON_STRING))
		return string_json(b, value, n);
	for (; len && json_space(*t); t++)
		len--;
	while (len && json_space(t[len - 1]))
		len--;
	if ((can & JSON_NULL) && (is_word(t, len, "null") || is_word(t, len, "None")))
		return bytes_add(b, "null", 4);
	if ((can & JSON_BOOLEAN) && len == 4 && !strncasecmp(t, "true", 4))
		return bytes_add(b, "true", 4);
	if ((can & JSON_BOOLEAN) && len == 5 && !strncasecmp(t, "false", 5))
		return bytes_add(b, "false", 5);
	k = json_kind_of(t, len);
	if (k == JSON_NUMBER && !(can & JSON_NUMBER) && (can & JSON_INTEGER) &&
	    whole(t, len, digits))
		return bytes_add(b, digits, strlen(digits));
	if (k & can & (JSON_INTEGER | JSON_NUMBER | JSON_OBJECT | JSON_ARRAY))
		return bytes_add(b, t, len);
	return string_json(b, value, n);
}
