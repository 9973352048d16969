/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_filter_list.c: filters on sequences. Those that are generators in Jinja2 (map,
 * select, reject, selectattr, rejectattr, unique, batch, slice, items, reverse) are generators here
 * too: they work item by item, fail only where the item is asked for, and are used up once.
 */
#include <errno.h>

#include "chat/jinja_run.h"

#define FILTER(name) \
	static struct jv filter_##name(struct jinja *j, struct jv v, const struct jargs *a)

static bool given(const struct jv *v)
{
	return v->type != J_MISSING && v->type != J_NONE;
}

/* "a.0.b": names, and numbers where a part is all digits. */
struct jpath jinja_path(struct jinja *j, const struct jv *v)
{
	struct jpath path = { 0 };
	struct jlist *l = jlist_new(j, 0);
	size_t from = 0;
	jint i;

	if (!given(v))
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

static struct jv ignore_case(struct jinja *j, struct jv v, bool sensitive)
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
		key = ignore_case(j, jv_path(j, item, &path, NULL), jv_truth(j, &arg[0]));
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

	if (!given(attribute) || attribute->type != J_STR) {
		struct jpath path = jinja_path(j, attribute);

		jlist_add(j, key, ignore_case(j, jv_path(j, *item, &path, NULL), sensitive));
		return jv_list(key);
	}
	for (size_t at = 0; at <= attribute->s->n; at++) {
		struct jpath path;
		struct jv part;

		if (at < attribute->s->n && attribute->s->p[at] != ',')
			continue;
		part = jv_str(jstr_slice(j, attribute->s, from, at));
		path = jinja_path(j, &part);
		jlist_add(j, key, ignore_case(j, jv_path(j, *item, &path, NULL), sensitive));
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
		keys[i] = ignore_case(j, by_value ? e->value : e->key, jv_truth(j, &arg[0]));
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
		keys[i] = ignore_case(j, jv_path(j, l->v[i], &path, &arg[1]), sensitive);
	jv_sort(j, l, keys, false);
	for (size_t i = 0; i < l->n; i++) {
		struct jv shown = jv_path(j, l->v[i], &path, &arg[1]);
		struct jv key = ignore_case(j, shown, sensitive);

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

/* ---- generators ---- */

static struct jv generator(struct jinja *j, struct jv v, const struct jargs *a,
			   bool (*next)(struct jinja *, struct jiter *, struct jv *))
{
	struct jiter *it = jinja_alloc(j, sizeof(*it));

	it->next = next;
	it->value = v;
	it->args = *a;
	it->fallback = JV_MISSING;
	return (struct jv){ .type = J_ITER, .iter = it };
}

/* Where a generator begins when its first item is asked for; false: there are none. */
static bool begin(struct jinja *j, struct jiter *it)
{
	it->started = true;
	if (!jv_truth(j, &it->value)) {
		it->from = (struct jcursor){ .v = JV_UNDEF };
		return false;
	}
	jcursor_init(j, &it->from, &it->value);
	return true;
}

static struct jv take_first(struct jargs *a)
{
	struct jv v = a->n ? a->v[0] : JV_MISSING;

	if (a->n) {
		a->v++;
		a->n--;
	}
	return v;
}

static void map_begin(struct jinja *j, struct jiter *it)
{
	struct jv arg[2];

	if (!begin(j, it))
		return;
	it->by_path = !it->args.n && it->args.n_kw;
	if (it->by_path) {
		jargs_bind(j, &it->args, "map", "attribute/default", arg);
		it->path = jinja_path(j, &arg[0]);
		it->fallback = arg[1];
		return;
	}
	if (!it->args.n)
		jinja_fail(j, -EINVAL, "map takes a filter");
	it->fallback = take_first(&it->args); /* the filter's name */
	jarg_str(j, &it->fallback, "map's filter");
}

static bool map_next(struct jinja *j, struct jiter *it, struct jv *ret)
{
	struct jv item;

	if (!it->started)
		map_begin(j, it);
	if (!jcursor_next(j, &it->from, &item))
		return false;
	*ret = it->by_path ? jv_path(j, item, &it->path, &it->fallback)
			   : jinja_apply_filter(j, it->fallback.s, item, &it->args);
	return true;
}

FILTER(map)
{
	return generator(j, v, a, map_next);
}

static void select_begin(struct jinja *j, struct jiter *it)
{
	struct jv path;

	if (!begin(j, it))
		return;
	if (it->by_path) {
		path = take_first(&it->args);
		if (path.type == J_MISSING)
			jinja_fail(j, -EINVAL, "selectattr and rejectattr take an attribute");
		it->path = jinja_path(j, &path);
	}
	it->fallback = take_first(&it->args); /* the test's name */
	if (it->fallback.type != J_MISSING)
		jarg_str(j, &it->fallback, "a test's name");
}

static bool select_next(struct jinja *j, struct jiter *it, struct jv *ret)
{
	if (!it->started)
		select_begin(j, it);
	while (jcursor_next(j, &it->from, ret)) {
		struct jv v = it->by_path ? jv_path(j, *ret, &it->path, NULL) : *ret;
		bool is = it->fallback.type == J_MISSING
				  ? jv_truth(j, &v)
				  : jinja_apply_test(j, it->fallback.s, v, &it->args);

		if (is == it->wants)
			return true;
	}
	return false;
}

static struct jv selection(struct jinja *j, struct jv v, const struct jargs *a, bool by_path,
			   bool wants)
{
	struct jv g = generator(j, v, a, select_next);

	g.iter->by_path = by_path;
	g.iter->wants = wants;
	return g;
}

FILTER(select)
{
	return selection(j, v, a, false, true);
}

FILTER(reject)
{
	return selection(j, v, a, false, false);
}

FILTER(selectattr)
{
	return selection(j, v, a, true, true);
}

FILTER(rejectattr)
{
	return selection(j, v, a, true, false);
}

static bool unique_next(struct jinja *j, struct jiter *it, struct jv *ret)
{
	if (!it->started) {
		it->started = true;
		it->seen = jdict_new(j);
		jcursor_init(j, &it->from, &it->value);
	}
	while (jcursor_next(j, &it->from, ret)) {
		struct jv key = ignore_case(j, jv_path(j, *ret, &it->path, NULL), it->wants);

		if (jdict_get(j, it->seen, &key))
			continue;
		jdict_set(j, it->seen, key, JV_NONE);
		return true;
	}
	return false;
}

FILTER(unique)
{
	struct jv g = generator(j, v, a, unique_next), arg[2];

	jargs_bind(j, a, "unique", "/case_sensitive,attribute", arg);
	g.iter->wants = jv_truth(j, &arg[0]);
	g.iter->path = jinja_path(j, &arg[1]);
	return g;
}

static bool batch_next(struct jinja *j, struct jiter *it, struct jv *ret)
{
	struct jlist *l = jlist_new(j, 0);
	struct jv item;

	if (!it->started) {
		it->started = true;
		jcursor_init(j, &it->from, &it->value);
	}
	while ((!l->n || l->n != it->n) && jcursor_next(j, &it->from, &item))
		jlist_add(j, l, item);
	if (!l->n)
		return false;
	while (given(&it->fallback) && l->n < it->n)
		jlist_add(j, l, it->fallback);
	*ret = jv_list(l);
	return true;
}

FILTER(batch)
{
	struct jv g = generator(j, v, a, batch_next), arg[2];
	jint n;

	jargs_bind(j, a, "batch", "linecount/fill_with", arg);
	n = jarg_int(j, &arg[0], "batch's count");
	if (n < 1 || n > (jint)j->max_bytes)
		jinja_fail(j, -EINVAL, "batch: the count is out of range");
	g.iter->n = (size_t)n;
	g.iter->fallback = arg[1];
	return g;
}

static bool slice_next(struct jinja *j, struct jiter *it, struct jv *ret)
{
	struct jlist *l = jlist_new(j, 0);
	size_t each, extra;

	if (!it->started) {
		it->started = true;
		it->list = jv_to_list(j, &it->value);
	}
	if (it->m == it->n)
		return false;
	each = it->list->n / it->n;
	extra = it->list->n % it->n;
	for (size_t k = 0; k < each + (it->m < extra); k++)
		jlist_add(j, l, it->list->v[it->m * each + (it->m < extra ? it->m : extra) + k]);
	if (given(&it->fallback) && it->m >= extra)
		jlist_add(j, l, it->fallback);
	it->m++;
	*ret = jv_list(l);
	return true;
}

FILTER(slice)
{
	struct jv g = generator(j, v, a, slice_next), arg[2];
	jint n;

	jargs_bind(j, a, "slice", "slices/fill_with", arg);
	n = jarg_int(j, &arg[0], "slice's count");
	if (n < 1 || n > (jint)j->max_bytes)
		jinja_fail(j, -EINVAL, "slice: the count is out of range");
	g.iter->n = (size_t)n;
	g.iter->fallback = arg[1];
	return g;
}

static bool items_next(struct jinja *j, struct jiter *it, struct jv *ret)
{
	if (!it->started) {
		struct jview *view;

		it->started = true;
		it->from = (struct jcursor){ .v = JV_UNDEF };
		if (it->value.type != J_UNDEF) {
			if (it->value.type != J_DICT)
				jinja_fail(j, -EINVAL, "items of a value of type %s",
					   jv_type_name(&it->value));
			view = jinja_alloc(j, sizeof(*view));
			view->d = it->value.d;
			view->what = VIEW_ITEMS;
			it->from.v = (struct jv){ .type = J_VIEW, .view = view };
		}
	}
	return jcursor_next(j, &it->from, ret);
}

FILTER(items)
{
	jargs_bind(j, a, "items", "", NULL);
	return generator(j, v, a, items_next);
}

static bool reverse_next(struct jinja *j, struct jiter *it, struct jv *ret)
{
	if (!it->list->n)
		return false;
	*ret = it->list->v[--it->list->n];
	return true;
}

FILTER(reverse)
{
	struct jslice back = { JV_NONE, JV_NONE, jv_int(-1) };
	struct jv key = { .type = J_SLICE, .slice = &back }, g;

	jargs_bind(j, a, "reverse", "", NULL);
	if (v.type == J_STR)
		return jstr_subscript(j, v.s, &key);
	if (v.type == J_ITER) { /* which cannot be walked backwards: a list then */
		struct jlist *l = jv_to_list(j, &v), *r = jlist_new(j, l->n);

		while (l->n)
			jlist_add(j, r, l->v[--l->n]);
		return jv_list(r);
	}
	g = generator(j, v, a, reverse_next);
	g.iter->list = jv_to_list(j, &v);
	return g;
}

#define ROW(name)                    \
	{                            \
#name, filter_##name \
	}
const struct jfilter *jinja_filter_list(const struct jstr *name)
{
	static const struct jfilter all[] = {
		ROW(length),	 { "count", filter_length },
		ROW(list),	 ROW(first),
		ROW(last),	 ROW(join),
		ROW(sum),	 ROW(min),
		ROW(max),	 ROW(sort),
		ROW(dictsort),	 ROW(groupby),
		ROW(map),	 ROW(select),
		ROW(reject),	 ROW(selectattr),
		ROW(rejectattr), ROW(unique),
		ROW(batch),	 ROW(slice),
		ROW(items),	 ROW(reverse),
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (jstr_is(name, all[i].name))
			return &all[i];
	return NULL;
}
