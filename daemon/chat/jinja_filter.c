/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_filter.c: filters on texts and single values. Those on numbers are in
 * jinja_filter_number.c, those on sequences in jinja_filter_list.c and jinja_filter_lazy.c, tojson in
 * jinja_json.c. All names of Jinja2 exist; random, urlize, wordwrap and striptags are refused where
 * they are used. See jinja.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/jinja_run.h"

/* A text method on what str() makes of a value. */
static struct jv method(struct jinja *j, const char *name, const struct jv *v,
			const struct jargs *a)
{
	struct jv word = jv_text(j, name), self = jv_str(jv_to_str(j, v));

	return jstr_method(word.s)->call(j, self, a);
}

#define AS_METHOD(name)                         \
	FILTER(name)                            \
	{                                       \
		return method(j, #name, &v, a); \
	}
AS_METHOD(upper)
AS_METHOD(lower)
AS_METHOD(capitalize)

FILTER(trim)
{
	struct jv chars;

	jargs_bind(j, a, "trim", "/chars", &chars);
	return method(j, "strip", &v, &(struct jargs){ .v = &chars, .n = jv_given(&chars) });
}

FILTER(center)
{
	struct jv width;

	jargs_bind(j, a, "center", "/width", &width);
	if (width.type == J_MISSING)
		width = jv_int(80);
	return method(j, "center", &v, &(struct jargs){ .v = &width, .n = 1 });
}

FILTER(replace)
{
	struct jv arg[3];

	jargs_bind(j, a, "replace", "old,new/count", arg);
	arg[0] = jv_str(jv_to_str(j, &arg[0]));
	arg[1] = jv_str(jv_to_str(j, &arg[1]));
	return method(j, "replace", &v,
		      &(struct jargs){ .v = arg, .n = jv_given(&arg[2]) ? 3 : 2 });
}

FILTER(string)
{
	jargs_bind(j, a, "string", "", NULL);
	return jv_str(jv_to_str(j, &v));
}

static bool splits_title(uint32_t cp)
{
	return cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' ||
	       unicode_is(cp, CLASS_SPACE);
}

/* Words as the filter sees them; str.title() sees others. */
FILTER(title)
{
	struct jstr *s = jv_to_str(j, &v);
	bool first = true;
	struct jbuf b;
	unsigned n;

	jargs_bind(j, a, "title", "", NULL);
	jbuf_init(&b, j);
	for (size_t i = 0; i < s->n; i += n) {
		uint32_t cp = unicode_at(s->p, i, s->n, &n), out[3];
		unsigned k;

		if (splits_title(cp)) {
			jbuf_bytes(&b, s, i, i + n);
			first = true;
			continue;
		}
		if (!first) { /* the rest of a word at once: its last sigma may be final */
			size_t end = i;

			while (end < s->n && !splits_title(unicode_at(s->p, end, s->n, &k)))
				end += k;
			jbuf_str(&b, jstr_case(j, jstr_slice(j, s, i, end), CASE_LOWER));
			n = (unsigned)(end - i);
			continue;
		}
		k = unicode_case(cp, CASE_UPPER, out);
		for (unsigned m = 0; m < k; m++)
			jbuf_char(&b, out[m], jstr_trusted_at(s, i));
		first = false;
	}
	return jv_str(jbuf_done(&b));
}

FILTER(indent)
{
	struct jv arg[3], newline = jv_text(j, "\n"), lines;
	struct jstr *in, *s = jarg_str(j, &v, "what to indent");
	struct jbuf b;
	size_t i;

	jargs_bind(j, a, "indent", "/width,first,blank", arg);
	jbuf_init(&b, j);
	if (arg[0].type == J_MISSING)
		arg[0] = jv_int(4);
	if (arg[0].type == J_STR) {
		in = arg[0].s;
	} else {
		struct jv space = jv_text(j, " ");

		in = jv_binary(j, '*', &space, &arg[0]).s;
	}
	if (s->safe)
		in = jstr_escape(j, in);
	v = jv_binary(j, '+', &v, &newline);
	lines = method(j, "splitlines", &v, &(struct jargs){ 0 });
	for (i = 0; i < lines.l->n; i++) {
		if (i)
			jbuf_text(&b, "\n");
		if ((i || jv_truth(j, &arg[1])) &&
		    (lines.l->v[i].s->n || !i || jv_truth(j, &arg[2])))
			jbuf_str(&b, in);
		jbuf_str(&b, lines.l->v[i].s);
	}
	return jv_str(jbuf_done(&b));
}

FILTER(truncate)
{
	struct jstr *s, *end;
	size_t n;
	jint length = 255, leeway = 5, chars, keep;
	struct jv arg[4], cut, parts, sep[2];
	struct jbuf b;

	jargs_bind(j, a, "truncate", "/length,killwords,end,leeway", arg);
	if (arg[0].type != J_MISSING)
		length = jarg_int(j, &arg[0], "a length");
	if (jv_given(&arg[3]))
		leeway = jarg_int(j, &arg[3], "a leeway");
	end = arg[2].type == J_MISSING ? jv_text(j, "...").s : jarg_str(j, &arg[2], "an end");
	chars = (jint)jstr_chars(end);
	if (length < chars || leeway < 0)
		jinja_fail(j, -EINVAL, "truncate: the length is less than the end's");
	if (jv_sized(&v, j, &n) && (jint)n - length <= leeway) /* no sum: it may overflow */
		return v;
	s = jarg_str(j, &v, "what to truncate");
	keep = length - chars;
	cut = jv_str(jstr_slice(j, s, 0, jstr_offset(s, (size_t)keep)));
	if (!jv_truth(j, &arg[1])) {
		sep[0] = jv_text(j, " ");
		sep[1] = jv_int(1);
		parts = method(j, "rsplit", &cut, &(struct jargs){ .v = sep, .n = 2 });
		cut = parts.l->v[0];
	}
	jbuf_init(&b, j);
	jbuf_str(&b, cut.s);
	jbuf_str(&b, end);
	return jv_str(jbuf_done(&b));
}

FILTER(wordcount)
{
	struct jstr *s = jv_to_str(j, &v);
	bool inside = false;
	jint words = 0;
	unsigned n;

	jargs_bind(j, a, "wordcount", "", NULL);
	for (size_t i = 0; i < s->n; i += n) {
		uint32_t cp = unicode_at(s->p, i, s->n, &n);
		bool word = cp == '_' || unicode_is(cp, CLASS_ALPHA) ||
			    unicode_is(cp, CLASS_NUMERIC) || unicode_is(cp, CLASS_DIGIT);

		words += word && !inside;
		inside = word;
	}
	return jv_int(words);
}

FILTER(format)
{
	struct jstr *s = jv_to_str(j, &v);
	struct jlist *l = jlist_new(j, a->n);
	struct jdict *d = jdict_new(j);
	struct jv args;

	if (a->n && a->n_kw)
		jinja_fail(j, -EINVAL, "format: arguments by place and by name at once");
	for (size_t i = 0; i < a->n; i++)
		jlist_add(j, l, a->v[i]);
	for (size_t i = 0; i < a->n_kw; i++)
		jdict_set(j, d, jv_str((struct jstr *)a->kw[i].name), a->kw[i].value);
	args = a->n_kw ? jv_dict(d) : jv_tuple(l);
	return jv_str(jstr_percent(j, s, &args));
}

/* ---- HTML and URLs ---- */

FILTER(escape)
{
	jargs_bind(j, a, "escape", "", NULL);
	return jv_str(jstr_escape(j, jv_to_str(j, &v)));
}

FILTER(forceescape)
{
	struct jstr *s = jv_to_str(j, &v);

	jargs_bind(j, a, "forceescape", "", NULL);
	s = jstr_slice(j, s, 0, s->n);
	s->safe = false;
	return jv_str(jstr_escape(j, s));
}

FILTER(safe)
{
	struct jstr *s = jv_to_str(j, &v);

	jargs_bind(j, a, "safe", "", NULL);
	s = jstr_slice(j, s, 0, s->n);
	s->safe = true;
	return jv_str(s);
}

static void add_quoted(struct jbuf *b, const struct jstr *s, bool query)
{
	char out[4];

	for (size_t i = 0; i < s->n; i++) {
		uint8_t c = (uint8_t)s->p[i];

		if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
		    (c && strchr("_.-~", c)) || (c == '/' && !query)) {
			jbuf_bytes(b, s, i, i + 1);
		} else if (c == ' ' && query) {
			jbuf_text(b, "+");
		} else {
			snprintf(out, sizeof(out), "%%%02X", c);
			jbuf_add(b, out, 3, jstr_trusted_at(s, i));
		}
	}
}

FILTER(urlencode)
{
	struct jcursor c;
	struct jv item;
	struct jbuf b;

	jargs_bind(j, a, "urlencode", "", NULL);
	jbuf_init(&b, j);
	if (v.type == J_STR || !jv_iterable(&v)) {
		add_quoted(&b, jv_to_str(j, &v), false);
		return jv_str(jbuf_done(&b));
	}
	if (v.type == J_DICT) {
		struct jview view = { v.d, VIEW_ITEMS };
		struct jv all = { .type = J_VIEW, .view = &view };

		v = jv_list(jv_to_list(j, &all));
	}
	jcursor_init(j, &c, &v);
	for (size_t i = 0; jcursor_next(j, &c, &item); i++) {
		struct jlist *pair = jv_to_list(j, &item);

		if (pair->n != 2)
			jinja_fail(j, -EINVAL, "urlencode: an item is no pair");
		if (i)
			jbuf_text(&b, "&");
		add_quoted(&b, jv_to_str(j, &pair->v[0]), true);
		jbuf_text(&b, "=");
		add_quoted(&b, jv_to_str(j, &pair->v[1]), true);
	}
	return jv_str(jbuf_done(&b));
}

FILTER(xmlattr)
{
	struct jv space;
	struct jbuf b;
	bool any = false;

	jargs_bind(j, a, "xmlattr", "/autospace", &space);
	if (v.type != J_DICT)
		jinja_fail(j, -EINVAL, "xmlattr takes a dict");
	jbuf_init(&b, j);
	for (size_t i = 0; i < v.d->n; i++) {
		const struct jentry *e = &v.d->v[i];

		if (e->value.type == J_NONE || e->value.type == J_UNDEF)
			continue;
		jarg_str(j, &e->key, "an attribute's name");
		for (size_t k = 0; k < e->key.s->n; k++)
			if (strchr(" \t\n\r\f\v/>=", e->key.s->p[k]) || !e->key.s->p[k])
				jinja_fail(j, -EINVAL, "xmlattr: an invalid attribute's name");
		if (any || space.type == J_MISSING || jv_truth(j, &space))
			jbuf_text(&b, " ");
		any = true;
		jbuf_str(&b, jstr_escape(j, e->key.s));
		jbuf_text(&b, "=\"");
		jbuf_str(&b, jstr_escape(j, jv_to_str(j, &e->value)));
		jbuf_text(&b, "\"");
	}
	return jv_str(jbuf_done(&b));
}

FILTER(pprint)
{
	struct jbuf b;
	struct jstr *s;

	jargs_bind(j, a, "pprint", "", NULL);
	jbuf_init(&b, j);
	if (v.type == J_DICT) { /* in order of keys, its one difference where all fits a line */
		struct jlist *items = jlist_new(j, v.d->n);
		struct jv *keys = jinja_alloc(j, v.d->n * sizeof(*keys) + 1);
		struct jdict *d = jdict_new(j);

		for (size_t i = 0; i < v.d->n; i++) {
			jlist_add(j, items, jv_int((jint)i));
			keys[i] = v.d->v[i].key;
		}
		jv_sort(j, items, keys, false);
		for (size_t i = 0; i < v.d->n; i++)
			jdict_set(j, d, v.d->v[(size_t)items->v[i].i].key,
				  v.d->v[(size_t)items->v[i].i].value);
		for (size_t i = 0; i < d->n; i++)
			if (d->v[i].value.type == J_DICT && d->v[i].value.d->n > 1)
				jinja_fail(j, -EINVAL, "pprint of dicts in dicts is not supported");
		v = jv_dict(d);
	}
	jv_write_repr(j, &b, &v);
	s = jbuf_done(&b);
	if (jstr_chars(s) > 80)
		jinja_fail(j, -EINVAL, "pprint of more than one line is not supported");
	return jv_str(s);
}

/* ---- any value ---- */

FILTER(default)
{
	struct jv arg[2];

	jargs_bind(j, a, "default", "/default_value,boolean", arg);
	if (v.type != J_UNDEF && !(jv_truth(j, &arg[1]) && !jv_truth(j, &v)))
		return v;
	return arg[0].type == J_MISSING ? jv_text(j, "") : arg[0];
}

FILTER(attr)
{
	struct jv name;

	jargs_bind(j, a, "attr", "name", &name);
	jarg_str(j, &name, "an attribute's name");
	if (v.type == J_DICT) { /* only what it has by itself, no keys */
		struct jv empty = jv_dict(jdict_new(j));

		return jv_attr(j, &empty, name.s).type == J_METHOD ? jv_attr(j, &v, name.s)
								   : JV_UNDEF;
	}
	return jv_attr(j, &v, name.s);
}

FILTER(refused)
{
	jinja_fail(j, -EINVAL, "random, urlize, wordwrap and striptags are not supported");
}

static const struct jfilter filters[] = {
	FILTER_ROW(upper),
	FILTER_ROW(lower),
	FILTER_ROW(capitalize),
	FILTER_ROW(trim),
	FILTER_ROW(center),
	FILTER_ROW(replace),
	FILTER_ROW(string),
	FILTER_ROW(title),
	FILTER_ROW(indent),
	FILTER_ROW(truncate),
	FILTER_ROW(wordcount),
	FILTER_ROW(format),
	FILTER_ROW(escape),
	{ "e", filter_escape },
	FILTER_ROW(forceescape),
	FILTER_ROW(safe),
	FILTER_ROW(urlencode),
	FILTER_ROW(xmlattr),
	FILTER_ROW(pprint),
	FILTER_ROW(default),
	{ "d", filter_default },
	FILTER_ROW(attr),
	FILTER_ROW(tojson),
	{ "random", filter_refused },
	{ "urlize", filter_refused },
	{ "wordwrap", filter_refused },
	{ "striptags", filter_refused },
};

const struct jfilter *jfilter_named(const struct jfilter *rows, size_t n, const struct jstr *name)
{
	for (size_t i = 0; i < n; i++)
		if (jstr_is(name, rows[i].name))
			return &rows[i];
	return NULL;
}

const struct jfilter *jinja_filter(const struct jstr *name)
{
	const struct jfilter *found =
		jfilter_named(filters, sizeof(filters) / sizeof(filters[0]), name);

	found = found ? found : jinja_filter_number(name);
	found = found ? found : jinja_filter_list(name);
	return found ? found : jinja_filter_lazy(name);
}

struct jv jinja_apply_filter(struct jinja *j, const struct jstr *name, struct jv v,
			     const struct jargs *a)
{
	const struct jfilter *f = jinja_filter(name);

	if (!f)
		jinja_fail(j, -EINVAL, "there is no filter '%.*s'",
			   (int)(name->n < 100 ? name->n : 100), name->p);
	return f->call(j, v, a);
}
