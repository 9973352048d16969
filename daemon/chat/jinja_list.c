/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_list.c: lists and dicts, as Python has them: hashing, walking, sorting. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

/* ---- lists ---- */

struct jlist *jlist_new(struct jinja *j, size_t cap)
{
	struct jlist *l = jinja_alloc(j, sizeof(*l));

	if (cap > j->max_bytes / sizeof(*l->v))
		jinja_fail(j, -E2BIG, "it takes more than %zu bytes of memory", j->max_bytes);
	l->v = cap ? jinja_alloc(j, cap * sizeof(*l->v)) : NULL;
	l->cap = cap;
	return l;
}

void jlist_add(struct jinja *j, struct jlist *l, struct jv v)
{
	jinja_charge(j, 1);
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;

		l->v = jinja_grow(j, l->v, l->cap * sizeof(*l->v), cap * sizeof(*l->v));
		l->cap = cap;
	}
	l->v[l->n++] = v;
}

struct jv jv_index(struct jinja *j, const struct jlist *l, jint i)
{
	if (i < 0)
		i += (jint)l->n;
	return i < 0 || i >= (jint)l->n ? JV_UNDEF : l->v[i];
}

/* ---- dicts ---- */

bool jv_hashable(const struct jv *v)
{
	switch (v->type) {
	case J_LIST:
	case J_DICT:
	case J_VIEW:
	case J_NAMESPACE:
	case J_SLICE:
		return false;
	case J_TUPLE:
		for (size_t i = 0; i < v->l->n; i++)
			if (!jv_hashable(&v->l->v[i]))
				return false;
		return true;
	default:
		return true;
	}
}

static uint32_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdu;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53u;
	return (uint32_t)(x >> 32);
}

static uint32_t hash(struct jinja *j, const struct jv *v)
{
	uint64_t h = 0xcbf29ce484222325u;

	switch (v->type) {
	case J_STR:
		for (size_t i = 0; i < v->s->n; i++)
			h = (h ^ (uint8_t)v->s->p[i]) * 0x100000001b3u;
		return mix(h);
	case J_BOOL:
	case J_INT:
	case J_FLOAT: { /* what is equal has the same hash */
		double f = jv_as_float(v);

		f = f == 0 ? 0 : f;
		memcpy(&h, &f, sizeof(h));
		return mix(h);
	}
	case J_TUPLE:
		jinja_enter(j);
		for (size_t i = 0; i < v->l->n; i++)
			h = (h ^ hash(j, &v->l->v[i])) * 0x100000001b3u;
		j->depth--;
		return mix(h);
	case J_NONE:
	case J_UNDEF:
		return mix(v->type);
	default:
		return mix((uint64_t)(uintptr_t)v->l);
	}
}

struct jdict *jdict_new(struct jinja *j)
{
	return jinja_alloc(j, sizeof(struct jdict));
}

static bool key_is(struct jinja *j, const struct jentry *e, uint32_t h, const struct jv *key)
{
	return e->hash == h && (jv_same(&e->key, key) || jv_equal(j, &e->key, key));
}

/* The entry of @key, or NULL. */
static struct jentry *find(struct jinja *j, const struct jdict *d, const struct jv *key, uint32_t h)
{
	if (!d->slots) {
		for (size_t i = 0; i < d->n; i++)
			if (key_is(j, &d->v[i], h, key))
				return &d->v[i];
		return NULL;
	}
	for (size_t at = h & (d->n_slots - 1);; at = (at + 1) & (d->n_slots - 1)) {
		jinja_charge(j, 1);
		if (!d->slots[at])
			return NULL;
		if (key_is(j, &d->v[d->slots[at] - 1], h, key))
			return &d->v[d->slots[at] - 1];
	}
}

static void index_entry(struct jinja *j, struct jdict *d, size_t i)
{
	size_t at = d->v[i].hash & (d->n_slots - 1);

	while (d->slots[at]) {
		jinja_charge(j, 1);
		at = (at + 1) & (d->n_slots - 1);
	}
	d->slots[at] = (uint32_t)i + 1;
}

static void grow(struct jinja *j, struct jdict *d)
{
	size_t cap = d->cap ? 2 * d->cap : 8;

	if (cap > UINT32_MAX / 4)
		jinja_fail(j, -E2BIG, "a dict is too large");
	d->v = jinja_grow(j, d->v, d->cap * sizeof(*d->v), cap * sizeof(*d->v));
	d->cap = cap;
	if (cap < 16)
		return;
	d->n_slots = 2 * cap;
	d->slots = jinja_alloc(j, d->n_slots * sizeof(*d->slots));
	for (size_t i = 0; i < d->n; i++)
		index_entry(j, d, i);
}

static uint32_t key_hash(struct jinja *j, const struct jv *key)
{
	if (!jv_hashable(key))
		jinja_fail(j, -EINVAL, "a value of type %s cannot be a key", jv_type_name(key));
	return hash(j, key);
}

void jdict_set(struct jinja *j, struct jdict *d, struct jv key, struct jv value)
{
	uint32_t h = key_hash(j, &key);
	struct jentry *e = find(j, d, &key, h);

	jinja_charge(j, 1);
	if (e) {
		e->value = value;
		return;
	}
	if (d->n == d->cap)
		grow(j, d);
	d->v[d->n++] = (struct jentry){ key, value, h };
	if (d->slots)
		index_entry(j, d, d->n - 1);
}

struct jv *jdict_get(struct jinja *j, const struct jdict *d, const struct jv *key)
{
	uint32_t h = key_hash(j, key);
	struct jentry *e = find(j, d, key, h);

	return e ? &e->value : NULL;
}

struct jv *jdict_text(struct jinja *j, const struct jdict *d, const char *key)
{
	struct jv k = jv_text(j, key);

	return jdict_get(j, d, &k);
}

/* ---- walking ---- */

bool jv_iterable(const struct jv *v)
{
	switch (v->type) {
	case J_UNDEF:
	case J_STR:
	case J_LIST:
	case J_TUPLE:
	case J_DICT:
	case J_RANGE:
	case J_VIEW:
	case J_ITER:
	case J_LOOP:
		return true;
	default:
		return false;
	}
}

void jcursor_init(struct jinja *j, struct jcursor *c, const struct jv *v)
{
	if (!jv_iterable(v) || v->type == J_LOOP)
		jinja_fail(j, -EINVAL, "a value of type %s has no items to go through",
			   jv_type_name(v));
	*c = (struct jcursor){ .v = *v };
}

static bool next_char(struct jinja *j, struct jcursor *c, struct jv *ret)
{
	const struct jstr *s = c->v.s;
	unsigned n;

	if (c->i >= s->n)
		return false;
	unicode_at(s->p, c->i, s->n, &n);
	*ret = jv_str(jstr_slice(j, s, c->i, c->i + n));
	ret->s->safe = false;
	c->i += n;
	return true;
}

static bool next_of_view(struct jinja *j, struct jcursor *c, struct jv *ret)
{
	const struct jview *view = c->v.view;
	struct jlist *pair;

	if (c->i >= view->d->n)
		return false;
	if (view->what == VIEW_KEYS) {
		*ret = view->d->v[c->i].key;
	} else if (view->what == VIEW_VALUES) {
		*ret = view->d->v[c->i].value;
	} else {
		pair = jlist_new(j, 2);
		jlist_add(j, pair, view->d->v[c->i].key);
		jlist_add(j, pair, view->d->v[c->i].value);
		*ret = jv_tuple(pair);
	}
	c->i++;
	return true;
}

bool jcursor_next(struct jinja *j, struct jcursor *c, struct jv *ret)
{
	bool more = false;

	jinja_charge(j, 1);
	switch (c->v.type) {
	case J_STR:
		return next_char(j, c, ret);
	case J_LIST:
	case J_TUPLE:
		if (c->i >= c->v.l->n)
			return false;
		*ret = c->v.l->v[c->i++];
		return true;
	case J_DICT:
		if (c->i >= c->v.d->n)
			return false;
		*ret = c->v.d->v[c->i++].key;
		return true;
	case J_RANGE:
		if (c->i >= c->v.range->n)
			return false;
		*ret = jv_int(c->v.range->start + c->v.range->step * (jint)c->i++);
		return true;
	case J_VIEW:
		return next_of_view(j, c, ret);
	case J_ITER:
		jinja_enter(j);
		more = c->v.iter->next(j, c->v.iter, ret);
		j->depth--;
		return more;
	default:
		return false;
	}
}

struct jlist *jv_to_list(struct jinja *j, const struct jv *v)
{
	struct jlist *l = jlist_new(j, 0);
	struct jcursor c;
	struct jv item;

	jcursor_init(j, &c, v);
	while (jcursor_next(j, &c, &item))
		jlist_add(j, l, item);
	return l;
}

bool jv_sized(const struct jv *v, struct jinja *j, size_t *ret)
{
	switch (v->type) {
	case J_UNDEF:
		*ret = 0;
		return true;
	case J_STR:
		*ret = jstr_chars(v->s);
		return true;
	case J_LIST:
	case J_TUPLE:
		*ret = v->l->n;
		return true;
	case J_DICT:
		*ret = v->d->n;
		return true;
	case J_RANGE:
		*ret = v->range->n;
		return true;
	case J_VIEW:
		*ret = v->view->d->n;
		return true;
	case J_LOOP: {
		struct jv n = jloop_attr(j, v->loop, jv_text(j, "length").s);

		*ret = (size_t)n.i;
		return true;
	}
	default:
		return false;
	}
}

/* ---- sorting: stable, by merging runs of doubling length ---- */

struct keyed {
	struct jv item, key;
};

static void merge(struct jinja *j, const struct keyed *from, struct keyed *to, size_t a, size_t b,
		  size_t end, bool reverse)
{
	size_t x = a, y = b;

	for (size_t i = a; i < end; i++) {
		bool second;

		jinja_charge(j, 1);
		if (x == b || y == end)
			second = x == b;
		else if (reverse) /* equal ones keep their order there too */
			second = jv_less(j, &from[x].key, &from[y].key, false);
		else
			second = jv_less(j, &from[y].key, &from[x].key, false);
		to[i] = second ? from[y++] : from[x++];
	}
}

void jv_sort(struct jinja *j, struct jlist *items, struct jv *keys, bool reverse)
{
	size_t n = items->n;
	struct keyed *a, *b, *swap;

	if (n < 2)
		return;
	a = jinja_alloc(j, n * sizeof(*a));
	b = jinja_alloc(j, n * sizeof(*b));
	for (size_t i = 0; i < n; i++)
		a[i] = (struct keyed){ items->v[i], keys ? keys[i] : items->v[i] };
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t at = 0; at < n; at += 2 * width) {
			size_t mid = at + width < n ? at + width : n;
			size_t end = at + 2 * width < n ? at + 2 * width : n;

			merge(j, a, b, at, mid, end, reverse);
		}
		swap = a;
		a = b;
		b = swap;
	}
	for (size_t i = 0; i < n; i++)
		items->v[i] = a[i].item;
}
