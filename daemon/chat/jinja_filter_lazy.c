/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_filter_lazy.c: filters on sequences that are generators in Jinja2, and here too: they
 * work item by item, fail only where the item is asked for, and are used up once.
 */
#include <errno.h>

#include "chat/jinja_run.h"

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
		struct jv key = jv_ignore_case(j, jv_path(j, *ret, &it->path, NULL), it->wants);

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

/* A generator of lists: how many, or of how many items, and what fills up those that are too short. */
static struct jv lists(struct jinja *j, struct jv v, const struct jargs *a, const char *name,
		       const char *names, const char *what,
		       bool (*next)(struct jinja *, struct jiter *, struct jv *))
{
	struct jv g = generator(j, v, a, next), arg[2];
	jint n;

	jargs_bind(j, a, name, names, arg);
	n = jarg_int(j, &arg[0], what);
	if (n < 1 || n > (jint)j->max_bytes)
		jinja_fail(j, -EINVAL, "%s: the count is out of range", name);
	g.iter->n = (size_t)n;
	g.iter->fallback = arg[1];
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
	while (jv_given(&it->fallback) && l->n < it->n)
		jlist_add(j, l, it->fallback);
	*ret = jv_list(l);
	return true;
}

FILTER(batch)
{
	return lists(j, v, a, "batch", "linecount/fill_with", "batch's count", batch_next);
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
	if (jv_given(&it->fallback) && it->m >= extra)
		jlist_add(j, l, it->fallback);
	it->m++;
	*ret = jv_list(l);
	return true;
}

FILTER(slice)
{
	return lists(j, v, a, "slice", "slices/fill_with", "slice's count", slice_next);
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

const struct jfilter *jinja_filter_lazy(const struct jstr *name)
{
	static const struct jfilter all[] = {
		FILTER_ROW(map),	FILTER_ROW(select),	FILTER_ROW(reject),
		FILTER_ROW(selectattr), FILTER_ROW(rejectattr), FILTER_ROW(unique),
		FILTER_ROW(batch),	FILTER_ROW(slice),	FILTER_ROW(items),
		FILTER_ROW(reverse),
	};

	return jfilter_named(all, sizeof(all) / sizeof(all[0]), name);
}
