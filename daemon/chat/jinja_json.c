/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_json.c: JSON to values, and values to JSON as Python's json.dumps writes it.
 *
 * What comes in has no trust of its own, but for the texts of variables that the caller vouches for
 * and the names of roles, which templates paste into control tokens. Texts must be UTF-8. See jinja.h.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "base/utf8.h"
#include "chat/jinja_run.h"

static bool is_utf8(const char *p, size_t n)
{
	uint32_t cp;

	for (size_t i = 0, k; i < n; i += k) {
		if ((uint8_t)p[i] < 0x80) {
			k = 1;
			continue;
		}
		k = utf8_decode((const uint8_t *)p + i, n - i, &cp);
		if (!k)
			return false;
	}
	return true;
}

static struct jv text(struct jinja *j, const char *p, size_t n, bool trusted)
{
	jinja_charge(j, 1 + n / 64);
	if (!is_utf8(p, n)) {
		j->raised = true;
		jinja_fail(j, -EINVAL, "a text of the input is not valid UTF-8");
	}
	return jv_str(jstr_new(j, p, n, trusted));
}

static bool is_role(const char *p, size_t n)
{
	static const char *const roles[] = { "system", "developer", "user", "assistant", "tool" };

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (strlen(roles[i]) == n && !memcmp(roles[i], p, n))
			return true;
	return false;
}

static struct jv number(struct jinja *j, struct json_object *o)
{
	int64_t i = json_object_get_int64(o);

	if (i == INT64_MAX) /* or beyond */
		return jv_int((jint)json_object_get_uint64(o));
	return jv_int(i);
}

/* With a point, or too long to be whole here. */
static struct jv real(struct json_object *o)
{
	const char *digits = jsonc_digits(o);
	size_t sign = digits && *digits == '-';
	jint i = 0;

	if (!digits || strlen(digits) - sign > 38) /* 10^38 has its place in 127 bits */
		return jv_float(json_object_get_double(o));
	for (const char *at = digits + sign; *at; at++)
		i = i * 10 + (*at - '0');
	return jv_int(sign ? -i : i);
}

static struct jv object(struct jinja *j, struct json_object *o, bool trusted)
{
	struct jdict *d = jdict_new(j);

	json_object_object_foreach(o, key, value)
	{
		bool role = !strcmp(key, "role") && json_object_is_type(value, json_type_string) &&
			    is_role(json_object_get_string(value),
				    (size_t)json_object_get_string_len(value));

		jdict_set(j, d, text(j, key, strlen(key), false),
			  jv_from_json(j, value, trusted || role));
	}
	return jv_dict(d);
}

static struct jv array(struct jinja *j, struct json_object *o, bool trusted)
{
	size_t n = json_object_array_length(o);
	struct jlist *l = jlist_new(j, n);

	for (size_t i = 0; i < n; i++)
		jlist_add(j, l, jv_from_json(j, json_object_array_get_idx(o, i), trusted));
	return jv_list(l);
}

struct jv jv_from_json(struct jinja *j, struct json_object *o, bool trusted)
{
	struct jv v = JV_NONE;

	jinja_enter(j);
	switch (json_object_get_type(o)) {
	case json_type_null:
		break;
	case json_type_boolean:
		v = jv_bool(json_object_get_boolean(o));
		break;
	case json_type_double:
		v = real(o);
		break;
	case json_type_int:
		v = number(j, o);
		break;
	case json_type_string:
		v = text(j, json_object_get_string(o), (size_t)json_object_get_string_len(o),
			 trusted);
		break;
	case json_type_array:
		v = array(j, o, trusted);
		break;
	case json_type_object:
		v = object(j, o, trusted);
		break;
	}
	j->depth--;
	return v;
}

/* ---- json.dumps ---- */

struct dump {
	struct jinja *j;
	struct jbuf b;
	bool ascii, sorted;
	struct jstr *indent; /* one level; NULL: all in one line */
	struct jstr *comma, *colon;
	unsigned level;
};

static void write_escape(struct dump *d, uint32_t cp, bool trusted)
{
	static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	char out[16];

	for (const char *e = names; *e; e += 2)
		if ((uint8_t)*e == cp) {
			snprintf(out, sizeof(out), "\\%c", e[1]);
			jbuf_add(&d->b, out, 2, trusted);
			return;
		}
	if (cp >= 0x10000)
		snprintf(out, sizeof(out), "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
			 0xdc00 + ((cp - 0x10000) & 0x3ff));
	else
		snprintf(out, sizeof(out), "\\u%04x", cp);
	jbuf_add(&d->b, out, strlen(out), trusted);
}

static void write_text(struct dump *d, const struct jstr *s)
{
	size_t plain = 0;
	unsigned n;

	jbuf_text(&d->b, "\"");
	for (size_t i = 0; i < s->n; i += n) {
		uint32_t cp = (uint8_t)s->p[i];

		n = 1;
		if (cp >= 0x80)
			cp = unicode_at(s->p, i, s->n, &n);
		if (cp >= 0x20 && cp != '"' && cp != '\\' && !(d->ascii && cp >= 0x7f))
			continue;
		jbuf_bytes(&d->b, s, plain, i);
		write_escape(d, cp, jstr_trusted_at(s, i));
		plain = i + n;
	}
	jbuf_bytes(&d->b, s, plain, s->n);
	jbuf_text(&d->b, "\"");
}

static void write_plain(struct dump *d, const struct jv *v)
{
	char out[48];

	if (v->type == J_NONE)
		jbuf_text(&d->b, "null");
	else if (v->type == J_BOOL)
		jbuf_text(&d->b, v->truth ? "true" : "false");
	else if (v->type == J_INT)
		jbuf_add(&d->b, out, jint_text(v->i, out), true);
	else if (isnan(v->f))
		jbuf_text(&d->b, "NaN");
	else if (isinf(v->f))
		jbuf_text(&d->b, v->f < 0 ? "-Infinity" : "Infinity");
	else
		jbuf_add(&d->b, out, jfloat_text(v->f, out), true);
}

static void new_line(struct dump *d)
{
	if (!d->indent)
		return;
	jbuf_text(&d->b, "\n");
	for (unsigned i = 0; i < d->level; i++)
		jbuf_str(&d->b, d->indent);
}

static void write_json(struct dump *d, const struct jv *v);

static void write_array(struct dump *d, const struct jlist *l)
{
	jbuf_text(&d->b, "[");
	d->level++;
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			jbuf_str(&d->b, d->comma);
		new_line(d);
		write_json(d, &l->v[i]);
	}
	d->level--;
	if (l->n)
		new_line(d);
	jbuf_text(&d->b, "]");
}

static void write_key(struct dump *d, const struct jv *key)
{
	if (key->type == J_STR) {
		write_text(d, key->s);
		return;
	}
	if (key->type != J_NONE && !jv_is_number(key))
		jinja_fail(d->j, -EINVAL, "a value of type %s is no key of JSON",
			   jv_type_name(key));
	jbuf_text(&d->b, "\"");
	write_plain(d, key);
	jbuf_text(&d->b, "\"");
}

static void write_object(struct dump *d, const struct jdict *o)
{
	struct jlist *order = NULL;
	struct jv *keys = NULL;

	if (d->sorted) {
		order = jlist_new(d->j, o->n);
		keys = jinja_alloc(d->j, o->n * sizeof(*keys) + 1);
		for (size_t i = 0; i < o->n; i++) {
			jlist_add(d->j, order, jv_int((jint)i));
			keys[i] = o->v[i].key;
		}
		jv_sort(d->j, order, keys, false);
	}
	jbuf_text(&d->b, "{");
	d->level++;
	for (size_t i = 0; i < o->n; i++) {
		const struct jentry *e = &o->v[order ? (size_t)order->v[i].i : i];

		if (i)
			jbuf_str(&d->b, d->comma);
		new_line(d);
		write_key(d, &e->key);
		jbuf_str(&d->b, d->colon);
		write_json(d, &e->value);
	}
	d->level--;
	if (o->n)
		new_line(d);
	jbuf_text(&d->b, "}");
}

static void write_json(struct dump *d, const struct jv *v)
{
	jinja_enter(d->j);
	switch (v->type) {
	case J_NONE:
	case J_BOOL:
	case J_INT:
	case J_FLOAT:
		write_plain(d, v);
		break;
	case J_STR:
		write_text(d, v->s);
		break;
	case J_LIST:
	case J_TUPLE:
		write_array(d, v->l);
		break;
	case J_DICT:
		write_object(d, v->d);
		break;
	default:
		jinja_fail(d->j, -EINVAL, "a value of type %s cannot be written as JSON",
			   jv_type_name(v));
	}
	d->j->depth--;
}

static struct jstr *indent_of(struct jinja *j, const struct jv *v)
{
	struct jbuf b;
	jint n;

	if (v->type == J_MISSING || v->type == J_NONE)
		return NULL;
	if (v->type == J_STR)
		return v->s;
	n = jarg_int(j, v, "indent");
	if (n > 1000)
		jinja_fail(j, -EINVAL, "an indent of more than 1000");
	jbuf_init(&b, j);
	for (jint i = 0; i < n; i++)
		jbuf_text(&b, " ");
	return jbuf_done(&b);
}

static void take_separators(struct dump *d, struct jv *v)
{
	struct jlist *pair;

	d->comma = jv_text(d->j, d->indent ? "," : ", ").s;
	d->colon = jv_text(d->j, ": ").s;
	if (v->type == J_MISSING || v->type == J_NONE)
		return;
	pair = jv_to_list(d->j, v);
	if (pair->n != 2)
		jinja_fail(d->j, -EINVAL, "separators are two texts");
	d->comma = jarg_str(d->j, &pair->v[0], "a separator");
	d->colon = jarg_str(d->j, &pair->v[1], "a separator");
}

struct jv filter_tojson(struct jinja *j, struct jv v, const struct jargs *a)
{
	struct dump d = { .j = j };
	struct jv arg[4];

	jargs_bind(j, a, "tojson", "/ensure_ascii,indent,separators,sort_keys", arg);
	d.ascii = jv_truth(j, &arg[0]);
	d.indent = indent_of(j, &arg[1]);
	d.sorted = jv_truth(j, &arg[3]);
	take_separators(&d, &arg[2]);
	jbuf_init(&d.b, j);
	write_json(&d, &v);
	return jv_str(jbuf_done(&d.b));
}
