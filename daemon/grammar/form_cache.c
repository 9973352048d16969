/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/form_cache.c: see form_cache.h. A list, what was used last in front; who holds
 * the most gives first, so that no tenant's forms drive out another's.
 */
#include "grammar/form_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/jsonc.h"
#include "grammar/matcher.h"

struct key {
	uint64_t hash;
	size_t n;
	uint8_t *bytes;
};

struct tenant {
	struct tenant *next;
	uint64_t id;
	size_t bytes; /* of its forms, of which there is one at least */
	uint32_t n_forms;
};

struct idle {
	struct idle *next;
	struct matcher *m;
	size_t bytes;
};

struct kept {
	struct kept *prev, *next;
	struct tenant *tenant;
	struct key key;
	struct constraint *constraint;
	struct idle *idle; /* given back last, first */
	unsigned n_idle;
	size_t bytes; /* all of it */
};

/* What is freed without the lock: unmapping takes long, and the event loop may wait for it. */
struct gone {
	struct idle *idle;
	struct kept *kept;
};

struct form_cache {
	pthread_mutex_t lock;
	struct kept *first, *last;
	struct tenant *tenants;
	size_t max_bytes;
	struct form_cache_counts counts;
};

int form_cache_create(size_t max_bytes, struct form_cache **ret)
{
	struct form_cache *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->max_bytes = max_bytes;
	pthread_mutex_init(&f->lock, NULL);
	*ret = f;
	return 0;
}

/* ---- keys ---- */

/* One part of a key: its length, or that there is none, and its bytes. */
static void put(struct key *k, const void *bytes, size_t n)
{
	uint64_t size = bytes ? n : UINT64_MAX;

	if (k->bytes) {
		memcpy(k->bytes + k->n, &size, sizeof(size));
		if (bytes && n)
			memcpy(k->bytes + k->n + sizeof(size), bytes, n);
	}
	k->n += sizeof(size) + (bytes ? n : 0);
}

static void put_json(struct key *k, struct json_object *o)
{
	size_t n = 0;
	const char *text = o ? json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &n)
			     : NULL;

	put(k, text, n);
}

static void put_all(struct key *k, uint64_t tenant, const struct constraint_ask *ask,
		    const struct vocab *v)
{
	const struct {
		uint64_t tenant;
		const struct vocab *v; /* the constraint holds it: no other gets its address */
		uint64_t flags;
	} head = { tenant, v,
		   (uint64_t)ask->form | (uint64_t)ask->call_form << 8 |
			   (uint64_t)ask->before << 16 | (uint64_t)ask->strict << 24 |
			   (uint64_t)ask->one_call << 25 };

	k->n = 0;
	put(k, &head, sizeof(head));
	put_json(k, ask->schema);
	put(k, ask->text, ask->n);
	put_json(k, ask->tools);
	put(k, ask->only, ask->only ? strlen(ask->only) : 0);
}

/* 0 or -ENOMEM. The caller frees key.bytes. */
static int key_init(struct key *k, uint64_t tenant, const struct constraint_ask *ask,
		    const struct vocab *v)
{
	*k = (struct key){ 0 };
	put_all(k, tenant, ask, v);
	k->bytes = malloc(k->n);
	if (!k->bytes)
		return -ENOMEM;
	put_all(k, tenant, ask, v);
	k->hash = hash64(k->bytes, k->n, 0);
	return 0;
}

/* ---- the list; the lock is held ---- */

static void take_out(struct form_cache *f, struct kept *e)
{
	*(e->prev ? &e->prev->next : &f->first) = e->next;
	*(e->next ? &e->next->prev : &f->last) = e->prev;
	e->prev = e->next = NULL;
}

static void put_first(struct form_cache *f, struct kept *e)
{
	e->next = f->first;
	*(f->first ? &f->first->prev : &f->last) = e;
	f->first = e;
}

static struct kept *find(struct form_cache *f, const struct key *k)
{
	for (struct kept *e = f->first; e; e = e->next) {
		if (e->key.hash != k->hash || e->key.n != k->n ||
		    memcmp(e->key.bytes, k->bytes, k->n))
			continue;
		take_out(f, e);
		put_first(f, e);
		return e;
	}
	return NULL;
}

static struct kept *of_constraint(struct form_cache *f, const struct constraint *c)
{
	struct kept *e = f ? f->first : NULL;

	while (e && e->constraint != c)
		e = e->next;
	return e;
}

static void add_bytes(struct form_cache *f, struct kept *e, size_t n)
{
	e->bytes += n;
	e->tenant->bytes += n;
	f->counts.bytes += n;
}

static void sub_bytes(struct form_cache *f, struct kept *e, size_t n)
{
	e->bytes -= n;
	e->tenant->bytes -= n;
	f->counts.bytes -= n;
}

static struct idle *take_idle(struct form_cache *f, struct kept *e, struct idle **link)
{
	struct idle *i = *link;

	*link = i->next;
	e->n_idle--;
	f->counts.matchers--;
	sub_bytes(f, e, i->bytes);
	return i;
}

/* The one that was used longest ago. */
static void drop_idle(struct form_cache *f, struct kept *e, struct gone *gone)
{
	struct idle **link = &e->idle, *i;

	while ((*link)->next)
		link = &(*link)->next;
	i = take_idle(f, e, link);
	i->next = gone->idle;
	gone->idle = i;
}

/* The tenant @id with one form more; NULL: no memory. */
static struct tenant *enter(struct form_cache *f, uint64_t id)
{
	struct tenant *t = f->tenants;

	while (t && t->id != id)
		t = t->next;
	if (!t) {
		t = calloc(1, sizeof(*t));
		if (!t)
			return NULL;
		t->id = id;
		t->next = f->tenants;
		f->tenants = t;
	}
	t->n_forms++;
	return t;
}

static void leave(struct form_cache *f, struct tenant *t)
{
	struct tenant **link = &f->tenants;

	if (--t->n_forms)
		return;
	while (*link != t)
		link = &(*link)->next;
	*link = t->next;
	free(t);
}

static void drop(struct form_cache *f, struct kept *e, struct gone *gone)
{
	while (e->n_idle)
		drop_idle(f, e, gone);
	sub_bytes(f, e, e->bytes);
	leave(f, e->tenant);
	take_out(f, e);
	f->counts.forms--;
	e->next = gone->kept;
	gone->kept = e;
}

/* What the tenant that holds the most used longest ago. */
static struct kept *least_wanted(const struct form_cache *f, bool by_bytes)
{
	const struct tenant *most = f->tenants;
	struct kept *e = f->last;

	for (const struct tenant *t = most; t; t = t->next)
		if (by_bytes ? t->bytes > most->bytes : t->n_forms > most->n_forms)
			most = t;
	while (e && e->tenant != most)
		e = e->prev;
	return e;
}

/* What one form may take at the cost of others. */
static size_t share(const struct form_cache *f)
{
	return f->max_bytes / FORM_CACHE_SHARE;
}

/* Until the bound holds. @e: what has just grown, and gives first where it is large. */
static void shrink(struct form_cache *f, struct kept *e, struct gone *gone)
{
	while (f->counts.bytes > f->max_bytes && e->n_idle && e->bytes > share(f))
		drop_idle(f, e, gone);
	while (f->first && (f->counts.bytes > f->max_bytes || f->counts.forms > FORM_CACHE_FORMS)) {
		e = least_wanted(f, f->counts.bytes > f->max_bytes);
		if (e->n_idle)
			drop_idle(f, e, gone);
		else
			drop(f, e, gone);
	}
}

/* The lock is not held. */
static void bury(struct gone *gone)
{
	struct idle *i;
	struct kept *e;

	while ((i = gone->idle)) {
		gone->idle = i->next;
		matcher_destroy(i->m);
		free(i);
	}
	while ((e = gone->kept)) {
		gone->kept = e->next;
		constraint_put(e->constraint);
		free(e->key.bytes);
		free(e);
	}
}

void form_cache_destroy(struct form_cache *f)
{
	struct gone gone = { 0 };

	if (!f)
		return;
	while (f->last)
		drop(f, f->last, &gone);
	bury(&gone);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* ---- forms ---- */

static struct constraint *look_up(struct form_cache *f, const struct key *k)
{
	struct constraint *c = NULL;
	struct kept *e;

	pthread_mutex_lock(&f->lock);
	e = find(f, k);
	if (e) {
		c = constraint_hold(e->constraint);
		f->counts.found++;
	}
	pthread_mutex_unlock(&f->lock);
	return c;
}

/*
 * Keeps @c under @k, whose bytes it takes over where it does: not what is too large. Another was as fast:
 * that one stays.
 */
static void keep(struct form_cache *f, uint64_t tenant, struct key *k, struct constraint *c)
{
	const size_t bytes = sizeof(struct kept) + k->n + constraint_bytes(c);
	struct kept *e = bytes <= share(f) ? calloc(1, sizeof(*e)) : NULL;
	struct gone gone = { 0 };

	pthread_mutex_lock(&f->lock);
	f->counts.compiled++;
	if (e && !find(f, k) && (e->tenant = enter(f, tenant))) {
		e->key = *k;
		k->bytes = NULL;
		e->constraint = constraint_hold(c);
		put_first(f, e);
		f->counts.forms++;
		add_bytes(f, e, bytes);
		shrink(f, e, &gone);
		e = NULL;
	}
	pthread_mutex_unlock(&f->lock);
	bury(&gone);
	free(e);
}

int form_cache_get(struct form_cache *f, uint64_t tenant, const struct constraint_ask *ask,
		   struct vocab *v, struct constraint **ret, struct err *err)
{
	struct key k;
	int rc = key_init(&k, tenant, ask, v);

	if (rc)
		return rc;
	*ret = look_up(f, &k);
	if (!*ret) {
		rc = constraint_create(ask, v, ret, err);
		if (!rc)
			keep(f, tenant, &k, *ret);
	}
	free(k.bytes);
	return rc;
}

/* ---- matchers ---- */

int form_cache_matcher(struct form_cache *f, const struct constraint *c, struct matcher **ret)
{
	struct matcher *m = NULL;
	struct idle *i = NULL;
	struct kept *e;

	pthread_mutex_lock(&f->lock);
	e = of_constraint(f, c);
	if (e && e->n_idle)
		i = take_idle(f, e, &e->idle);
	pthread_mutex_unlock(&f->lock);
	if (i) {
		m = i->m;
		free(i);
		matcher_begin(m);
		if (matcher_is_whole(m)) {
			*ret = m;
			return 0;
		}
		matcher_destroy(m);
	}
	return constraint_matcher(c, ret);
}

/* @m for the next request; NULL: it is not kept. */
static struct idle *idle_of(const struct form_cache *f, struct matcher *m)
{
	const size_t bytes = matcher_used_bytes(m);
	struct idle *i = matcher_is_whole(m) && bytes <= share(f) ? malloc(sizeof(*i)) : NULL;

	if (i)
		*i = (struct idle){ .m = m, .bytes = bytes + sizeof(*i) };
	return i;
}

void form_cache_give_back(struct form_cache *f, const struct constraint *c, struct matcher *m)
{
	struct matcher_counts n;
	struct gone gone = { 0 };
	struct kept *e;
	struct idle *i;

	if (!m)
		return;
	matcher_take_counts(m, &n);
	i = idle_of(f, m);
	pthread_mutex_lock(&f->lock);
	f->counts.masks += n.masks;
	f->counts.masks_cached += n.masks_cached;
	e = i ? of_constraint(f, c) : NULL;
	if (e && e->n_idle < FORM_CACHE_IDLE) {
		i->next = e->idle;
		e->idle = i;
		e->n_idle++;
		f->counts.matchers++;
		add_bytes(f, e, i->bytes);
		shrink(f, e, &gone);
		i = NULL;
		m = NULL;
	}
	pthread_mutex_unlock(&f->lock);
	bury(&gone);
	free(i);
	matcher_destroy(m);
}

void form_cache_get_counts(struct form_cache *f, struct form_cache_counts *ret)
{
	pthread_mutex_lock(&f->lock);
	*ret = f->counts;
	pthread_mutex_unlock(&f->lock);
}
