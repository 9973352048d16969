/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_attr.c: what stands behind a dot or in brackets: items, slices, methods.
 *
 * As the sandbox has it, methods that change a list or a dict are there but refuse to be called, and
 * names of Python's own machinery are undefined. Methods of texts: jinja_method.c. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct jv undefined(const struct jstr *name)
{
	return (struct jv){ .type = J_UNDEF, .s = (struct jstr *)name };
}

/* ---- methods of lists, tuples, ranges ---- */

static struct jv list_count(struct jinja *j, struct jv self, const struct jargs *a)
{
	struct jv arg, item;
	struct jcursor c;
	jint n = 0;

	jargs_bind(j, a, "count", "-", &arg);
	jcursor_init(j, &c, &self);
	while (jcursor_next(j, &c, &item))
		n += jv_equal(j, &item, &arg);
	return jv_int(n);
}

static struct jv list_index(struct jinja *j, struct jv self, const struct jargs *a)
{
	struct jv arg[3], item;
	struct jcursor c;

	jargs_bind(j, a, "index", "-/-,-", arg);
	if (arg[1].type != J_MISSING)
		jinja_fail(j, -EINVAL, "index() with a range is not supported");
	jcursor_init(j, &c, &self);
	for (jint i = 0; jcursor_next(j, &c, &item); i++)
		if (jv_equal(j, &item, &arg[0]))
			return jv_int(i);
	jinja_fail(j, -EINVAL, "index(): the value is not there");
}

static struct jv list_copy(struct jinja *j, struct jv self, const struct jargs *a)
{
	jargs_bind(j, a, "copy", "", NULL);
	return jv_list(jv_to_list(j, &self));
}

static struct jv refused(struct jinja *j, struct jv self, const struct jargs *a)
{
	jinja_fail(j, -EINVAL, "a template cannot change a value of type %s", jv_type_name(&self));
}

static const struct jmethod_row list_methods[] = {
	{ "count", list_count, false }, { "index", list_index, false },
	{ "copy", list_copy, false },	{ "append", refused, true },
	{ "clear", refused, true },	{ "extend", refused, true },
	{ "insert", refused, true },	{ "pop", refused, true },
	{ "remove", refused, true },	{ "reverse", refused, true },
	{ "sort", refused, true },
};
static const struct jmethod_row tuple_methods[] = {
	{ "count", list_count, false },
	{ "index", list_index, false },
};

/* ---- methods of dicts ---- */

static struct jv view(struct jinja *j, struct jv self, const struct jargs *a, int what)
{
	struct jview *v = jinja_alloc(j, sizeof(*v));

	jargs_bind(j, a, "keys, values or items", "", NULL);
	v->d = self.d;
	v->what = what;
	return (struct jv){ .type = J_VIEW, .view = v };
}

static struct jv dict_keys(struct jinja *j, struct jv self, const struct jargs *a)
{
	return view(j, self, a, VIEW_KEYS);
}

static struct jv dict_values(struct jinja *j, struct jv self, const struct jargs *a)
{
	return view(j, self, a, VIEW_VALUES);
}

static struct jv dict_items(struct jinja *j, struct jv self, const struct jargs *a)
{
	return view(j, self, a, VIEW_ITEMS);
}

static struct jv dict_get(struct jinja *j, struct jv self, const struct jargs *a)
{
	struct jv arg[2], *found;

	jargs_bind(j, a, "get", "-/-", arg);
	found = jdict_get(j, self.d, &arg[0]);
	if (found)
		return *found;
	return arg[1].type == J_MISSING ? JV_NONE : arg[1];
}

static struct jv dict_copy(struct jinja *j, struct jv self, const struct jargs *a)
{
	jargs_bind(j, a, "copy", "", NULL);
	return self; /* nothing changes a dict, so itself will do */
}

static const struct jmethod_row dict_methods[] = {
	{ "get", dict_get, false },	 { "items", dict_items, false },
	{ "keys", dict_keys, false },	 { "values", dict_values, false },
	{ "copy", dict_copy, false },	 { "clear", refused, true },
	{ "pop", refused, true },	 { "popitem", refused, true },
	{ "setdefault", refused, true }, { "update", refused, true },
};

/* ---- cycler ---- */

static struct jv cycler_next(struct jinja *j, struct jv self, const struct jargs *a)
{
	struct jcycler *c = self.cycler;
	struct jv v = c->items->v[c->at];

	jargs_bind(j, a, "next", "", NULL);
	c->at = (c->at + 1) % c->items->n;
	return v;
}

static struct jv cycler_reset(struct jinja *j, struct jv self, const struct jargs *a)
{
	jargs_bind(j, a, "reset", "", NULL);
	self.cycler->at = 0;
	return JV_NONE;
}

static const struct jmethod_row cycler_methods[] = {
	{ "next", cycler_next, false },
	{ "reset", cycler_reset, false },
};

/* ---- attributes ---- */

static const struct jmethod_row *find(const struct jmethod_row *rows, size_t n,
				      const struct jstr *name)
{
	for (size_t i = 0; i < n; i++)
		if (jstr_is(name, rows[i].name))
			return &rows[i];
	return NULL;
}

static const struct jmethod_row *method_of(const struct jv *v, const struct jstr *name)
{
	switch (v->type) {
	case J_STR:
		return jstr_method(name);
	case J_LIST:
		return find(list_methods, COUNT(list_methods), name);
	case J_TUPLE:
	case J_RANGE:
		return find(tuple_methods, COUNT(tuple_methods), name);
	case J_DICT:
		return find(dict_methods, COUNT(dict_methods), name);
	case J_CYCLER:
		return find(cycler_methods, COUNT(cycler_methods), name);
	default:
		return NULL;
	}
}

static struct jv macro_attr(struct jinja *j, const struct jnode *n, const struct jstr *name)
{
	unsigned first = n->op == N_CALL ? 2 : 1;
	struct jlist *l = jlist_new(j, 0);

	if (jstr_is(name, "name"))
		return n->name ? jv_str((struct jstr *)n->name) : JV_NONE;
	if (jstr_is(name, "catch_kwargs"))
		return jv_bool(n->wants_kwargs);
	if (jstr_is(name, "catch_varargs"))
		return jv_bool(n->wants_args);
	if (jstr_is(name, "caller"))
		return jv_bool(n->wants_caller);
	if (!jstr_is(name, "arguments"))
		return undefined(name);
	for (unsigned i = first; i < n->n; i++)
		jlist_add(j, l, jv_str((struct jstr *)n->kid[i]->name));
	return jv_tuple(l);
}

static struct jv number_attr(const struct jv *v, const struct jstr *name)
{
	if (jstr_is(name, "real"))
		return v->type == J_FLOAT ? *v : jv_int(jv_as_int(v));
	if (jstr_is(name, "imag"))
		return v->type == J_FLOAT ? jv_float(0) : jv_int(0);
	return undefined(name);
}

static struct jv block_attr(struct jinja *j, const struct jstr *name)
{
	const struct jnode *block = jinja_find_block(j->root, name);

	return block ? (struct jv){ .type = J_BLOCK, .block = block } : undefined(name);
}

/* What is neither a method nor an item. */
static struct jv other_attr(struct jinja *j, const struct jv *v, const struct jstr *name)
{
	struct jv key = jv_str((struct jstr *)name), *found;

	switch (v->type) {
	case J_BOOL:
	case J_INT:
	case J_FLOAT:
		return number_attr(v, name);
	case J_TUPLE:
		if (v->l->group && jstr_is(name, "grouper"))
			return v->l->v[0];
		return v->l->group && jstr_is(name, "list") ? v->l->v[1] : undefined(name);
	case J_RANGE:
		if (jstr_is(name, "start"))
			return jv_int(v->range->start);
		if (jstr_is(name, "stop"))
			return jv_int(v->range->stop);
		return jstr_is(name, "step") ? jv_int(v->range->step) : undefined(name);
	case J_NAMESPACE:
		found = jdict_get(j, v->d, &key);
		return found ? *found : undefined(name);
	case J_LOOP:
		return jloop_attr(j, v->loop, name);
	case J_MACRO:
		return macro_attr(j, v->macro->node, name);
	case J_CYCLER:
		return jstr_is(name, "current") ? v->cycler->items->v[v->cycler->at]
						: undefined(name);
	case J_SELF:
		return block_attr(j, name);
	default:
		return undefined(name);
	}
}

static bool bind_method(struct jinja *j, const struct jv *v, const struct jstr *name,
			struct jv *ret)
{
	const struct jmethod_row *row = method_of(v, name);
	struct jmethod *m;

	if (!row)
		return false;
	*ret = undefined(name);
	if (!row->changes) {
		m = jinja_alloc(j, sizeof(*m));
		m->self = *v;
		m->row = row;
		*ret = (struct jv){ .type = J_METHOD, .method = m };
	}
	return true;
}

struct jv jv_attr(struct jinja *j, const struct jv *v, const struct jstr *name)
{
	struct jv r, key = jv_str((struct jstr *)name), *found;

	if (v->type == J_UNDEF)
		jv_fail_undefined(j, v);
	if (bind_method(j, v, name, &r))
		return r;
	if (v->type == J_DICT) {
		found = jdict_get(j, v->d, &key);
		return found ? *found : undefined(name);
	}
	return other_attr(j, v, name);
}

/* ---- items ---- */

size_t jslice_resolve(struct jinja *j, const struct jslice *s, size_t n, jint *ret_start,
		      jint *ret_stop, jint *ret_step)
{
	jint len = (jint)n, step = 1, start, stop, count;

	if (s->step.type != J_NONE)
		step = jarg_int(j, &s->step, "the step of a slice");
	if (!step)
		jinja_fail(j, -EINVAL, "the step of a slice is 0");
	start = step > 0 ? 0 : len - 1;
	stop = step > 0 ? len : -1;
	if (s->start.type != J_NONE) {
		start = jarg_int(j, &s->start, "the start of a slice");
		start = start < 0 ? start + len : start;
		start = start < 0 ? (step < 0 ? -1 : 0) : start;
		start = start >= len ? (step < 0 ? len - 1 : len) : start;
	}
	if (s->stop.type != J_NONE) {
		stop = jarg_int(j, &s->stop, "the stop of a slice");
		stop = stop < 0 ? stop + len : stop;
		stop = stop < 0 ? (step < 0 ? -1 : 0) : stop;
		stop = stop >= len ? (step < 0 ? len - 1 : len) : stop;
	}
	if ((step > 0 && stop <= start) || (step < 0 && stop >= start))
		count = 0;
	else /* no sum with the step: it may be as large as there are numbers */
		count = (stop - start + (step > 0 ? -1 : 1)) / step + 1;
	*ret_start = start;
	*ret_stop = stop;
	*ret_step = step;
	return (size_t)count;
}

static struct jv slice_list(struct jinja *j, const struct jv *v, const struct jslice *s)
{
	jint start, stop, step;
	size_t n = jslice_resolve(j, s, v->l->n, &start, &stop, &step);
	struct jlist *l = jlist_new(j, n);

	for (size_t i = 0; i < n; i++)
		jlist_add(j, l, v->l->v[(size_t)(start + (jint)i * step)]);
	return v->type == J_LIST ? jv_list(l) : jv_tuple(l);
}

static struct jv range_item(struct jinja *j, const struct jrange *r, const struct jv *key)
{
	struct jrange *cut;
	jint i, stop, step;

	if (key->type == J_SLICE) {
		cut = jinja_alloc(j, sizeof(*cut));
		cut->n = jslice_resolve(j, key->slice, r->n, &i, &stop, &step);
		if (step > INT32_MAX || step < -INT32_MAX || r->step > INT64_MAX ||
		    r->step < -INT64_MAX)
			jinja_fail(j, -EINVAL, "range(): a number is too large");
		cut->start = r->start + i * r->step;
		cut->step = r->step * step;
		cut->stop = r->start + stop * r->step;
		return (struct jv){ .type = J_RANGE, .range = cut };
	}
	i = jv_as_int(key);
	i = i < 0 ? i + (jint)r->n : i;
	return i < 0 || i >= (jint)r->n ? JV_UNDEF : jv_int(r->start + i * r->step);
}

static bool is_index(const struct jv *key)
{
	return key->type == J_INT || key->type == J_BOOL;
}

/* True where @v has an item for @key in Python's sense. */
static bool item(struct jinja *j, const struct jv *v, const struct jv *key, struct jv *ret)
{
	struct jv *found;

	switch (v->type) {
	case J_LIST:
	case J_TUPLE:
		if (key->type == J_SLICE)
			*ret = slice_list(j, v, key->slice);
		else if (is_index(key))
			*ret = jv_index(j, v->l, jv_as_int(key));
		else
			return false;
		return ret->type != J_UNDEF || is_index(key);
	case J_DICT:
		if (!jv_hashable(key))
			return false;
		found = jdict_get(j, v->d, key);
		if (found)
			*ret = *found;
		return found != NULL;
	case J_STR:
		if (key->type != J_SLICE && !is_index(key))
			return false;
		*ret = jstr_subscript(j, v->s, key);
		return true;
	case J_RANGE:
		if (key->type != J_SLICE && !is_index(key))
			return false;
		*ret = range_item(j, v->range, key);
		return true;
	default:
		return false;
	}
}

struct jv jv_item(struct jinja *j, const struct jv *v, const struct jv *key)
{
	struct jv r;

	if (v->type == J_UNDEF)
		jv_fail_undefined(j, v);
	if (item(j, v, key, &r))
		return r;
	if (key->type != J_STR)
		return JV_UNDEF;
	if (bind_method(j, v, key->s, &r))
		return r;
	return v->type == J_DICT ? undefined(key->s) : other_attr(j, v, key->s);
}

struct jv jv_path(struct jinja *j, struct jv v, const struct jpath *path, const struct jv *fallback)
{
	for (size_t i = 0; i < path->n; i++) {
		v = jv_item(j, &v, &path->part[i]);
		if (v.type == J_UNDEF && fallback && fallback->type != J_MISSING &&
		    fallback->type != J_NONE)
			v = *fallback;
	}
	return v;
}
