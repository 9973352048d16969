/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_filter_list.c: filters on sequences that look at all of them at once, and paths to
 * attributes. Generators are in jinja_filter_lazy.c.
 */
#include <errno.h>

#include "chat/jinja_run.h"

struct jpath jinja_path(struct jinja *j, const struct jv *v)
{
	struct jpath path = { 0 };
	struct jlist *l = jlist_new(j, 0);
	size_t from = 0;
	jint i;

	if (!jv_given(v))
		return path;
	if (v->type != J_STR) {
		jlist_add(j, l, *v);
		return (struct jpath){ l->v, l->n };
	}
	for (size_t at = 0; at <= v->s->n; at++) {
		struct jstr *part;
		bool digits;

		if (at < v->s->n && v->s->p[at] != '.')
			continue;
		part = jstr_slice(j, v->s, from, at);
		digits = part->n != 0;
		for (size_t k = 0; k < part->n; k++)
			digits &= part->p[k] >= '0' && part->p[k] <= '9';
		if (digits && jint_parse(j, part, 10, &i))
			jlist_add(j, l, jv_int(i));
		else
			jlist_add(j, l, jv_str(part));
		from = at + 1;
	}
	return (struct jpath){ l->v, l->n };
}

struct jv jv_ignore_case(struct jinja *j, struct jv v, bool sensitive)
{
	if (sensitive || v.type != J_STR)
		return v;
	return jv_str(jstr_case(j, v.s, CASE_LOWER));
}

/* ---- at once ---- */

FILTER(length)
{
	size_t n;

	jargs_bind(j, a, "length", "", NULL);
	if (!jv_sized(&v, j, &n))
		jinja_fail(j, -EINVAL, "a value of type %s has no length", jv_type_name(&v));
	return jv_int((jint)n);
}

FILTER(list)
{
	jargs_bind(j, a, "list", "", NULL);
	return jv_list(jv_to_list(j, &v));
}

FILTER(first)
{
	struct jcursor c;
	struct jv item;

	jargs_bind(j, a, "first", "", NULL);
	jcursor_init(j, &c, &v);
	return jcursor_next(j, &c, &item) ? item : JV_UNDEF;
}

FILTER(last)
{
	struct jlist *l;

	jargs_bind(j, a, "last", "", NULL);
	if (v.type == J_ITER)
		jinja_fail(j, -EINVAL, "a generator has no last item");
	l = jv_to_list(j, &v);
	return l->n ? l->v[l->n - 1] : JV_UNDEF;
}

FILTER(join)
{
	struct jv arg[2], item;
	struct jpath path;
	struct jcursor c;
	struct jstr *sep;
	struct jbuf b;

	jargs_bind(j, a, "join", "/d,attribute", arg);
	sep = arg[0].type == J_MISSING ? jv_text(j, "").s : jv_to_str(j, &arg[0]);
	path = jinja_path(j, &arg[1]);
	jbuf_init(&b, j);
	jcursor_init(j, &c, &v);
	for (size_t i = 0; jcursor_next(j, &c, &item); i++) {
		item = jv_path(j, item, &path, NULL);
		if (i)
			jbuf_str(&b, sep);
		jv_write(j, &b, &item);
	}
	return jv_str(jbuf_done(&b));
}

FILTER(sum)
{
	struct jv arg[2], item;
	struct jpath path;
	struct jcursor c;

	jargs_bind(j, a, "sum", "/attribute,start", arg);
	path = jinja_path(j, &arg[0]);
	if (arg[1].type == J_MISSING)
		arg[1] = jv_int(0);
	if (arg[1].type == J_STR)
		jinja_fail(j, -EINVAL, "sum does not join texts");
	jcursor_init(j, &c, &v);
	while (jcursor_next(j, &c, &item)) {
		item = jv_path(j, item, &path, NULL);
		arg[1] = jv_binary(j, '+', &arg[1], &item);
	}
	return arg[1];
}

static struct jv extreme(struct jinja *j, struct jv v, const struct jargs *a, bool most)
{
	struct jv arg[2], item, best = JV_UNDEF, best_key = JV_UNDEF, key;
	struct jpath path;
	struct jcursor c;

	jargs_bind(j, a, most ? "max" : "min", "/case_sensitive,attribute", arg);
	path = jinja_path(j, &arg[1]);
	jcursor_init(j, &c, &v);
	for (size_t i = 0; jcursor_next(j, &c, &item); i++) {
		key = jv_ignore_case(j, jv_path(j, item, &path, NULL), jv_truth(j, &arg[0]));
		if (i && !(most ? jv_less(j, &best_key, &key, false)
				: jv_less(j, &key, &best_key, false)))
			continue;
		best = item;
		best_key = key;
	}
	return best;
}

FILTER(min)
{
	return extreme(j, v, a, false);
}

FILTER(max)
{
	return extreme(j, v, a, true);
}

/* ---- in order ---- */

/* Keys of several attributes, "a,b.c", as lists. */
static struct jv sort_key(struct jinja *j, const struct jv *item, const struct jv *attribute,
			  bool sensitive)
{
	struct jlist *key = jlist_new(j, 1);
	size_t from = 0;

	if (!jv_given(attribute) || attribute->type != J_STR) {
		struct jpath path = jinja_path(j, attribute);

		jlist_add(j, key, jv_ignore_case(j, jv_path(j, *item, &path, NULL), sensitive));
		return jv_list(key);
	}
	for (size_t at = 0; at <= attribute->s->n; at++) {
		struct jpath path;
		struct jv part;

		if (at < attribute->s->n && attribute->s->p[at] != ',')
			continue;
		part = jv_str(jstr_slice(j, attribute->s, from, at));
		path = jinja_path(j, &part);
		jlist_add(j, key, jv_ignore_case(j, jv_path(j, *item, &path, NULL), sensitive));
		from = at + 1;
	}
	return jv_list(key);
}

FILTER(sort)
{
	struct jlist *l;
	struct jv arg[3], *keys;

	jargs_bind(j, a, "sort", "/reverse,case_sensitive,attribute", arg);
	l = jv_to_list(j, &v);
	keys = jinja_alloc(j, l->n * sizeof(*keys) + 1);
	for (size_t i = 0; i < l->n; i++)
		keys[i] = sort_key(j, &l->v[i], &arg[2], jv_truth(j, &arg[1]));
	jv_sort(j, l, keys, jv_truth(j, &arg[0]));
	return jv_list(l);
}

static struct jv pair(struct jinja *j, struct jv x, struct jv y)
{
	struct jlist *l = jlist_new(j, 2);

	jlist_add(j, l, x);
	jlist_add(j, l, y);
	return jv_tuple(l);
}

FILTER(dictsort)
{
	struct jlist *l = jlist_new(j, 0);
	bool by_value = false;
	struct jv arg[3], *keys;

	jargs_bind(j, a, "dictsort", "/case_sensitive,by,reverse", arg);
	if (v.type == J_UNDEF)
		jv_fail_undefined(j, &v);
	if (v.type != J_DICT)
		jinja_fail(j, -EINVAL, "dictsort of a value of type %s", jv_type_name(&v));
	if (arg[1].type != J_MISSING) {
		by_value = jstr_is(jarg_str(j, &arg[1], "by"), "value");
		if (!by_value && !jstr_is(arg[1].s, "key"))
			jinja_fail(j, -EINVAL, "dictsort is by key or value");
	}
	keys = jinja_alloc(j, v.d->n * sizeof(*keys) + 1);
	for (size_t i = 0; i < v.d->n; i++) {
		const struct jentry *e = &v.d->v[i];

		jlist_add(j, l, pair(j, e->key, e->value));
		keys[i] = jv_ignore_case(j, by_value ? e->value : e->key, jv_truth(j, &arg[0]));
	}
	jv_sort(j, l, keys, jv_truth(j, &arg[2]));
	return jv_list(l);
}

FILTER(groupby)
{
	struct jlist *l, *out = jlist_new(j, 0), *group = NULL;
	struct jv arg[3], *keys, last = JV_UNDEF;
	struct jpath path;
	bool sensitive;

	jargs_bind(j, a, "groupby", "attribute/default,case_sensitive", arg);
	path = jinja_path(j, &arg[0]);
	sensitive = jv_truth(j, &arg[2]);
	l = jv_to_list(j, &v);
	keys = jinja_alloc(j, l->n * sizeof(*keys) + 1);
	for (size_t i = 0; i < l->n; i++)
		keys[i] = jv_ignore_case(j, jv_path(j, l->v[i], &path, &arg[1]), sensitive);
	jv_sort(j, l, keys, false);
	for (size_t i = 0; i < l->n; i++) {
		struct jv shown = jv_path(j, l->v[i], &path, &arg[1]);
		struct jv key = jv_ignore_case(j, shown, sensitive);

		if (!group || !jv_equal(j, &last, &key)) {
			struct jv g;

			group = jlist_new(j, 0);
			g = pair(j, shown, jv_list(group));
			g.l->group = true;
			jlist_add(j, out, g);
			last = key;
		}
		jlist_add(j, group, l->v[i]);
	}
	return jv_list(out);
}

const struct jfilter *jinja_filter_list(const struct jstr *name)
{
	static const struct jfilter all[] = {
		FILTER_ROW(length),   { "count", filter_length },
		FILTER_ROW(list),     FILTER_ROW(first),
		FILTER_ROW(last),     FILTER_ROW(join),
		FILTER_ROW(sum),      FILTER_ROW(min),
		FILTER_ROW(max),      FILTER_ROW(sort),
		FILTER_ROW(dictsort), FILTER_ROW(groupby),
	};

	return jfilter_named(all, sizeof(all) / sizeof(all[0]), name);
}
