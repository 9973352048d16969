/* SPDX-License-Identifier: MIT */
/* daemon/grammar/form_cache.c: see form_cache.h. A list, what was used last in front. */
#include "grammar/form_cache.h"

#include <errno.h>
#include <pthread.h>
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

struct kept {
	struct kept *prev, *next;
	struct key key;
	struct constraint *constraint;
	struct matcher *idle[FORM_CACHE_IDLE];
	unsigned n_idle;
	size_t bytes; /* all of it */
};

struct form_cache {
	pthread_mutex_t lock;
	struct kept *first, *last;
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
	f->counts.bytes += n;
}

static void drop_idle(struct form_cache *f, struct kept *e)
{
	struct matcher *m = e->idle[--e->n_idle];
	size_t n = matcher_used_bytes(m);

	e->bytes -= n;
	f->counts.bytes -= n;
	f->counts.matchers--;
	matcher_destroy(m);
}

static void drop(struct form_cache *f, struct kept *e)
{
	while (e->n_idle)
		drop_idle(f, e);
	take_out(f, e);
	f->counts.bytes -= e->bytes;
	f->counts.forms--;
	constraint_put(e->constraint);
	free(e->key.bytes);
	free(e);
}

/* Until the bound holds: what was used last goes last, and of it idle matchers first. */
static void shrink(struct form_cache *f)
{
	while ((f->counts.bytes > f->max_bytes || f->counts.forms > FORM_CACHE_FORMS) && f->last) {
		if (f->last->n_idle)
			drop_idle(f, f->last);
		else
			drop(f, f->last);
	}
}

void form_cache_destroy(struct form_cache *f)
{
	if (!f)
		return;
	while (f->last)
		drop(f, f->last);
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

/* Keeps @c under @k, whose bytes it takes over where it does. Another was as fast: that one stays. */
static void keep(struct form_cache *f, struct key *k, struct constraint *c)
{
	struct kept *e = calloc(1, sizeof(*e));

	pthread_mutex_lock(&f->lock);
	f->counts.compiled++;
	if (e && !find(f, k)) {
		e->key = *k;
		k->bytes = NULL;
		e->constraint = constraint_hold(c);
		put_first(f, e);
		f->counts.forms++;
		add_bytes(f, e, sizeof(*e) + e->key.n + constraint_bytes(c));
		shrink(f);
		e = NULL;
	}
	pthread_mutex_unlock(&f->lock);
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
			keep(f, &k, *ret);
	}
	free(k.bytes);
	return rc;
}

/* ---- matchers ---- */

int form_cache_matcher(struct form_cache *f, const struct constraint *c, struct matcher **ret)
{
	struct matcher *m = NULL;
	struct kept *e;

	pthread_mutex_lock(&f->lock);
	e = of_constraint(f, c);
	if (e && e->n_idle) {
		size_t n;

		m = e->idle[--e->n_idle];
		n = matcher_used_bytes(m);
		e->bytes -= n;
		f->counts.bytes -= n;
		f->counts.matchers--;
	}
	pthread_mutex_unlock(&f->lock);
	if (!m)
		return constraint_matcher(c, ret);
	matcher_begin(m);
	*ret = m;
	return 0;
}

void form_cache_give_back(struct form_cache *f, const struct constraint *c, struct matcher *m)
{
	struct matcher_counts n;
	struct kept *e;

	if (!m)
		return;
	matcher_take_counts(m, &n);
	pthread_mutex_lock(&f->lock);
	f->counts.masks += n.masks;
	f->counts.masks_cached += n.masks_cached;
	e = matcher_is_whole(m) ? of_constraint(f, c) : NULL;
	if (e && e->n_idle < FORM_CACHE_IDLE) {
		e->idle[e->n_idle++] = m;
		f->counts.matchers++;
		add_bytes(f, e, matcher_used_bytes(m));
		shrink(f);
		m = NULL;
	}
	pthread_mutex_unlock(&f->lock);
	matcher_destroy(m);
}

void form_cache_get_counts(struct form_cache *f, struct form_cache_counts *ret)
{
	pthread_mutex_lock(&f->lock);
	*ret = f->counts;
	pthread_mutex_unlock(&f->lock);
}
