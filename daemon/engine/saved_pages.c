/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/saved_pages.c: which pages of the cache and of states an ask of saved.h holds: those of a
 * sequence that is kept, while they are written; free ones for what a file has, until the prefix tree takes them.
 * Engine thread, between steps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/engine_private.h"
#include "engine/reuse.h"
#include "engine/saved_private.h"

static uint64_t tenant_of(const struct engine *e, const struct saved_ask *a)
{
	return e->config.prefix_share ? 0 : a->tenant;
}

static const char no_room[] =
	"there is no room now: those who compute, or are saved or restored, have the pages; "
	"try again later, or give more (sluiced --prefix-cache)";

/* Room for what @a->text has. False: no memory. */
static bool take_lists(struct engine *e, struct saved_ask *a)
{
	uint64_t states = (uint64_t)a->text.n_points * seq_state_pages(e->seqs);

	a->n_pages = e->plan.kv_bytes ? (uint32_t)div_ceil(a->text.n, KV_BLOCK) : 0;
	a->pages = calloc(a->n_pages + states + 1, sizeof(*a->pages));
	a->parts = calloc(a->n_pages + states + 1, sizeof(*a->parts));
	return a->pages && a->parts;
}

static void add_page(struct engine *e, struct saved_ask *a)
{
	void *memory = seq_page_memory(e->seqs, a->pages[a->n_parts]);

	a->parts[a->n_parts++] = (struct iovec){ memory, seq_page_bytes(e->seqs) };
}

/* A state's pages, the last of which it may not fill; @to: for all of them, or NULL. */
static void add_state(struct engine *e, struct saved_ask *a, void *to)
{
	uint64_t left = seq_state_bytes(e->seqs);

	for (uint32_t i = 0; i < seq_state_pages(e->seqs); i++) {
		uint64_t n = u64_min(left, seq_page_bytes(e->seqs));

		if (!to)
			add_page(e, a);
		else
			a->parts[a->n_parts++].iov_base = to;
		a->parts[a->n_parts - 1].iov_len = n;
		left -= n;
	}
}

/* The last page may be written on by others behind the last position: a copy is still. */
static bool copy_tail(struct saved_ask *a)
{
	struct iovec *last = a->n_pages ? &a->parts[a->n_pages - 1] : NULL;

	if (!last || a->text.n % KV_BLOCK == 0)
		return true;
	a->tail = malloc(last->iov_len);
	if (!a->tail)
		return false;
	memcpy(a->tail, last->iov_base, last->iov_len);
	last->iov_base = a->tail;
	return true;
}

/*
 * Are there @n pages for @a besides those that others hold already? Together they leave as many as the
 * context has, for a sequence that is alone; one that is the only one may have what there is, since the pool may
 * hold no more than one context, and who computes waits for one file at most. Counted until @a ends.
 */
static bool count_pages(struct engine *e, struct saved_ask *a, uint64_t n)
{
	struct saver *s = e->saver;
	uint64_t alone = e->plan.kv_bytes ? div_ceil(e->config.n_ctx, KV_BLOCK) : 0;

	if (s->n_held && s->n_held + n + alone > seq_pool_pages(e->seqs)->n)
		return false;
	s->n_held += (uint32_t)n;
	a->n_counted = (uint32_t)n;
	return true;
}

static void hold(struct engine *e, struct saved_ask *a, const struct prefix_match *m,
		 const struct prefix_on_way *way)
{
	uint32_t states = seq_state_pages(e->seqs);

	prefix_get(m, a->ids, a->n_pages ? a->pages : NULL);
	for (uint32_t i = 0; i < a->n_pages; i++)
		add_page(e, a);
	for (uint32_t i = 0; i < a->text.n_points; i++) {
		memcpy(a->pages + a->n_parts, way[i].pages, states * sizeof(*a->pages));
		a->points[i] = (struct saved_point){ way[i].at, way[i].kind };
		add_state(e, a, NULL);
	}
	for (a->n_held = 0; a->n_held < a->n_parts; a->n_held++)
		page_hold(seq_pool_pages(e->seqs), a->pages[a->n_held]);
}

/* What is kept of a place's newest sequence; false: nothing. */
static bool find_kept(struct engine *e, const struct saved_ask *a, struct prefix_match *ret)
{
	const struct active *place = &e->active[a->place];

	if (!place->n_ids || place->tenant != tenant_of(e, a))
		return false;
	/* one token is always left: one more than there are is asked for */
	place->ids[place->n_ids] = 0;
	prefix_find(e->prefixes, place->tenant, place->ids, place->n_ids + 1, true, ret);
	return ret->n > 0;
}

/* Says why nothing is kept of a place that requests may have used. */
static void fail_kept(struct engine *e, struct saved_ask *a)
{
	const struct active *place = &e->active[a->place];

	if (place->n_ids && place->tenant == tenant_of(e, a) && place->n_ids < REUSE_LEAST)
		err_set(&a->err, -ENOENT,
			"this slot's sequence has %u tokens: fewer than %d are not kept",
			place->n_ids, REUSE_LEAST);
	saved_fail(e, a, -ENOENT, "nothing is kept of this slot's sequence");
}

void saved_hold(struct engine *e, struct saved_ask *a)
{
	struct prefix_on_way way[SAVED_POINTS_MAX];
	struct prefix_match m;

	if (!find_kept(e, a, &m)) {
		fail_kept(e, a);
		return;
	}
	a->text.n_points = m.point ? prefix_points(&m, way, SAVED_POINTS_MAX) : 0;
	a->text.n = a->n_tokens = m.n;
	a->text.ids = a->ids = calloc(m.n, sizeof(*a->ids));
	a->text.points = a->points = calloc(a->text.n_points + 1, sizeof(*a->points));
	if (!a->ids || !a->points || !take_lists(e, a)) {
		saved_fail(e, a, -ENOMEM, "no memory");
		return;
	}
	if (!count_pages(e, a,
			 a->n_pages + (uint64_t)a->text.n_points * seq_state_pages(e->seqs))) {
		saved_fail(e, a, -EBUSY, no_room);
		return;
	}
	hold(e, a, &m, way);
	if (copy_tail(a))
		saved_to_files(e, a, STAGE_WRITE);
	else
		saved_fail(e, a, -ENOMEM, "no memory");
}

void saved_forget(struct engine *e, struct saved_ask *a)
{
	struct active *place = &e->active[a->place];
	struct prefix_match m;

	if (find_kept(e, a, &m))
		a->n_tokens = prefix_forget(e->prefixes, &m);
	if (place->tenant == tenant_of(e, a))
		place->n_ids = 0;
	saved_finish(e, a);
}

/*
 * Pages for what a file holds: all that is not used gives way, since somebody asked for it. The last
 * point is worth most. Nothing gives way in vain. False: there is no room for one.
 */
static bool make_room(struct engine *e, struct saved_ask *a)
{
	uint32_t states = seq_state_pages(e->seqs);
	uint64_t most = seq_pool_pages(e->seqs)->n_free + prefix_can_free(e->prefixes);

	for (a->skipped = 0;; a->skipped++) {
		uint64_t n = a->n_pages + (uint64_t)(a->text.n_points - a->skipped) * states;

		if (n <= most && count_pages(e, a, n))
			return reuse_make_free(e, (uint32_t)n);
		if (a->skipped + 1 >= a->text.n_points)
			return false;
	}
}

static void take_pages(struct engine *e, struct saved_ask *a, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		a->pages[a->n_held++] = seq_take_page(e->seqs);
}

void saved_take(struct engine *e, struct saved_ask *a)
{
	a->text = a->file.text;
	if (!take_lists(e, a) || !(a->tail = malloc(seq_page_bytes(e->seqs)))) {
		saved_fail(e, a, -ENOMEM, "no memory");
		return;
	}
	if (!make_room(e, a)) {
		saved_fail(e, a, -EBUSY, no_room);
		return;
	}
	take_pages(e, a, a->n_pages);
	for (uint32_t i = 0; i < a->n_pages; i++)
		add_page(e, a);
	for (uint32_t i = 0; i < a->text.n_points; i++) {
		if (i >= a->skipped)
			take_pages(e, a, seq_state_pages(e->seqs));
		/* pages are listed as they are held: those of skipped ones have no place there */
		add_state(e, a, a->tail);
	}
	for (uint32_t i = a->n_pages, at = a->n_parts - (a->n_held - a->n_pages); i < a->n_held;
	     i++, at++)
		a->parts[at].iov_base = seq_page_memory(e->seqs, a->pages[i]);
	saved_to_files(e, a, STAGE_FILL);
}

static enum prefix_kind kind_of(const struct saved_point *p)
{
	return p->kind <= PREFIX_SYSTEM ? (enum prefix_kind)p->kind : PREFIX_OLD;
}

void saved_add(struct engine *e, struct saved_ask *a)
{
	struct active *place = &e->active[a->place];
	uint64_t tenant = tenant_of(e, a);
	uint32_t states = seq_state_pages(e->seqs);
	int rc = prefix_add(e->prefixes, tenant, a->text.ids, a->text.n, a->pages, true);

	a->n_held = a->n_pages; /* the others are taken over */
	for (uint32_t i = a->skipped, at = a->n_pages; i < a->text.n_points; i++, at += states) {
		const struct saved_point *p = &a->text.points[i];
		int failed = prefix_adopt_point(e->prefixes, tenant, a->text.ids, p->at, kind_of(p),
						a->pages + at);

		rc = rc ? rc : failed;
	}
	if (rc) {
		saved_fail(e, a, rc, "no memory");
		return;
	}
	if (!place->request) {
		memcpy(place->ids, a->text.ids, a->text.n * sizeof(*place->ids));
		place->n_ids = a->text.n;
		place->tenant = tenant;
	}
	a->n_tokens = a->text.n;
	saved_finish(e, a);
}
