/* SPDX-License-Identifier: MIT */
/* daemon/engine/reuse.c: see reuse.h. */
#include "engine/reuse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/engine_private.h"

#define NEIGHBOURS 8 /* stops nearer than so many tokens are one */

/* prefix_config.piece: control tokens are those that have a text only where it is asked for. */
static bool piece(void *arg, uint32_t id, const char **ret_bytes, size_t *ret_n)
{
	const struct engine *e = arg;
	const char *ignored;

	*ret_n = tokenizer_piece(e->tokenizer, id, true, ret_bytes);
	return *ret_n && !tokenizer_piece(e->tokenizer, id, false, &ignored);
}

int reuse_create(struct engine *e)
{
	struct prefix_config c = { .pages = seq_pool_pages(e->seqs),
				   .has_cache = e->plan.kv_bytes > 0,
				   .state_pages = seq_state_pages(e->seqs),
				   .piece = piece,
				   .arg = e };

	/* on a device keys, values and states lie there */
	if (e->device_dense && e->config.prefix_cache != PREFIX_CACHE_OFF)
		engine_add_fallback(e,
				    "--device: what requests have read lies on the device, so no "
				    "prompt goes on from an earlier one (--prefix-cache)");
	if (e->config.prefix_cache == PREFIX_CACHE_OFF || e->device_dense)
		return 0;
	e->reuse_pages = calloc(e->config.n_ctx / KV_BLOCK + 2, sizeof(*e->reuse_pages));
	if (!e->reuse_pages)
		return -ENOMEM;
	return prefix_tree_create(&c, &e->prefixes);
}

void reuse_destroy(struct engine *e)
{
	prefix_tree_destroy(e->prefixes);
	free(e->reuse_pages);
}

bool reuse_make_free(struct engine *e, uint32_t n)
{
	if (seq_pool_pages(e->seqs)->n_free >= n)
		return true;
	return e->prefixes && prefix_make_free(e->prefixes, n, PREFIX_FOR_LIFE, 0, PREFIX_OLD);
}

static bool has_state(const struct engine *e)
{
	return seq_state_pages(e->seqs) > 0;
}

static uint64_t tenant_of(const struct engine *e, const struct active *a)
{
	return e->config.prefix_share ? 0 : a->request->tenant;
}

/* ---- where prompts stop ---- */

/* In order; of neighbours the first stands for both, and what is too near to the beginning is left out. */
static void add_stop(struct reuse *u, uint32_t at, enum prefix_kind kind, uint32_t least)
{
	uint32_t i = u->n_stops;

	if (at < least || u->n_stops == REUSE_STOPS)
		return;
	while (i && u->stops[i - 1].at > at)
		i--;
	if (i && at - u->stops[i - 1].at < NEIGHBOURS) {
		if (kind > u->stops[i - 1].kind)
			u->stops[i - 1].kind = kind;
		return;
	}
	memmove(&u->stops[i + 1], &u->stops[i], (u->n_stops - i) * sizeof(u->stops[0]));
	u->stops[i] = (struct reuse_stop){ at, kind };
	u->n_stops++;
}

/* The first and the last end of a message that the prompt's own tokens tell of. */
static void stops_by_tokens(const struct engine *e, struct active *a, uint32_t least)
{
	uint32_t first = 0, last = 0;

	for (uint32_t i = 0; i + 1 < a->n_prompt; i++) {
		if (!tokenizer_is_eog(e->tokenizer, a->ids[i]))
			continue;
		first = first ? first : i + 1;
		last = i + 1;
	}
	if (first && first < last)
		add_stop(&a->reuse, first, PREFIX_SYSTEM, least);
	if (a->n_prompt - last > REUSE_LEAST) /* it ends with no message: for whoever asks again */
		last = a->n_prompt - 1;
	add_stop(&a->reuse, last, PREFIX_PROMPT, least);
}

/*
 * The request's marks; of the ends of users' messages the last two, which are what a next request can
 * share with this one. @moved: how many positions later they are than the request has them.
 */
static void stops_by_marks(struct active *a, int64_t moved, uint32_t least)
{
	static const enum prefix_kind kinds[] = { [MARK_SYSTEM] = PREFIX_SYSTEM,
						  [MARK_USER] = PREFIX_USER,
						  [MARK_PROMPT] = PREFIX_PROMPT };
	const struct request *r = a->request;
	unsigned n_users = 0;

	for (uint32_t i = r->n_marks; i--;) {
		int64_t at = r->marks[i].at + moved;

		if (r->marks[i].kind == MARK_USER && ++n_users > 2)
			continue;
		if (at > 0 && at < a->n_prompt)
			add_stop(&a->reuse, (uint32_t)at, kinds[r->marks[i].kind], least);
	}
}

static void find_stops(const struct engine *e, struct active *a, const struct prefix_match *m)
{
	int64_t moved = (int64_t)m->n - m->n_asked;
	uint32_t least = u64_max(m->n + 1, REUSE_LEAST);

	if (!has_state(e))
		return;
	if (a->request->n_untimed) { /* a benchmark's: what is timed goes in the steps of depth 0 */
		add_stop(&a->reuse, (uint32_t)u64_min(a->request->n_untimed, a->n_prompt - 1),
			 PREFIX_PROMPT, least);
		return;
	}
	if (a->request->n_marks)
		stops_by_marks(a, moved, least);
	else
		stops_by_tokens(e, a, least);
	if (m->fork > m->n_asked + REUSE_LEAST)
		add_stop(&a->reuse, (uint32_t)(m->fork + moved), PREFIX_FORK, least);
}

uint32_t reuse_stop(const struct engine *e, const struct active *a)
{
	uint32_t pos = seq_len(a->seq), every = (pos / REUSE_EVERY + 1) * REUSE_EVERY;

	if (!a->reuse.on || !has_state(e))
		return UINT32_MAX;
	for (uint32_t i = 0; i < a->reuse.n_stops; i++)
		if (a->reuse.stops[i].at > pos)
			return (uint32_t)u64_min(every, a->reuse.stops[i].at);
	return every;
}

uint32_t reuse_reach(const struct engine *e, struct active *a, uint32_t at)
{
	uint32_t pos = seq_len(a->seq), best = 0;

	if (!has_state(e))
		return at;
	if (at <= pos) /* the state is beyond it */
		return 0;
	add_stop(&a->reuse, at, PREFIX_FORK, u64_max(pos + 1, REUSE_LEAST));
	for (uint32_t i = 0; i < a->reuse.n_stops; i++)
		if (a->reuse.stops[i].at > pos && a->reuse.stops[i].at <= at)
			best = a->reuse.stops[i].at;
	return best;
}

/* ---- taking up ---- */

/* The sequence goes on where @m ends; @a's ids up to there are the match's. False: it stays empty. */
static bool take_up(struct engine *e, struct active *a, const struct prefix_match *m)
{
	prefix_get(m, NULL, e->reuse_pages);
	if (seq_share(a->seq, e->reuse_pages, m->n))
		return false;
	if (m->point)
		seq_load_state(a->seq, prefix_state(m));
	return true;
}

/* The prompt with the match's tokens for those of the request that have the same text. */
static void respell(struct active *a, const struct prefix_match *m)
{
	const struct request *r = a->request;

	prefix_get(m, a->ids, NULL);
	memcpy(a->ids + m->n, r->tokens + m->n_asked, (r->n_tokens - m->n_asked) * sizeof(*a->ids));
	a->n_prompt = a->n_ids = r->n_tokens - m->n_asked + m->n;
}

void reuse_begin(struct engine *e, struct active *a)
{
	const struct request *r = a->request;
	struct prefix_match m = { 0 };
	uint32_t most = r->n_tokens; /* what is timed is read, whatever is known of it */

	a->reuse = (struct reuse){ 0 };
	if (!e->prefixes || r->no_reuse || request_wants_rows(r) || (r->n_untimed && r->respell))
		return;
	if (r->n_untimed)
		most = (uint32_t)u64_min(most, (uint64_t)r->n_untimed + 1);
	a->reuse.on = true;
	reuse_make_free(e, 1); /* for the copy of a page; before anything is found */
	prefix_find(e->prefixes, tenant_of(e, a), r->tokens, most, !r->respell, &m);
	atomic_fetch_add(&e->n_lookups, 1);
	atomic_fetch_add(&e->n_found, m.n > 0);
	if (m.n && (uint64_t)m.n - m.n_asked + r->n_tokens + r->max_tokens > e->config.n_ctx)
		m = (struct prefix_match){ 0 }; /* in the cached tokens it would not fit */
	if (m.n && take_up(e, a, &m)) {
		respell(a, &m);
		a->n_done = a->reuse.n_cached = m.n;
		atomic_fetch_add(&e->n_reused, m.n);
	} else {
		m = (struct prefix_match){ .fork = m.fork };
	}
	find_stops(e, a, &m);
}

void reuse_again(struct engine *e, struct active *a)
{
	uint32_t had = seq_len(a->seq);
	struct prefix_match m;

	if (a->request->n_untimed) /* what is to be timed is computed */
		return;
	reuse_make_free(e, 1);
	prefix_find(e->prefixes, tenant_of(e, a), a->ids, a->n_prompt, true, &m);
	if (m.n <= had)
		return;
	seq_cut(a->seq, 0);
	a->n_done = a->reuse.n_cached = take_up(e, a, &m) ? m.n : 0;
	atomic_fetch_add(&e->n_reused, a->reuse.n_cached > had ? a->reuse.n_cached - had : 0);
}

void reuse_resume(struct engine *e, struct active *a)
{
	struct prefix_match m;

	if (!a->reuse.on)
		return;
	reuse_make_free(e, 1);
	prefix_find(e->prefixes, tenant_of(e, a), a->ids, a->n_ids, true, &m);
	if (m.n)
		take_up(e, a, &m);
}

/* ---- keeping ---- */

/* The first @n positions, with a point at their end where the model needs one. */
static void keep(struct engine *e, const struct active *a, uint32_t n, enum prefix_kind kind,
		 bool point)
{
	bool known = a->reuse.n_cached > 0;
	enum prefix_need need = known ? PREFIX_FOR_KNOWN : PREFIX_FOR_NEW;
	uint32_t blocks = e->plan.kv_bytes ? (uint32_t)div_ceil(n, KV_BLOCK) : 0;
	const uint32_t *to;

	/* room first: what is added is not to be what goes for it */
	if (point && !prefix_make_free(e->prefixes, seq_state_pages(e->seqs), need, n, kind))
		return;
	for (uint32_t i = 0; i < blocks; i++)
		e->reuse_pages[i] = seq_page(a->seq, i);
	if (prefix_add(e->prefixes, tenant_of(e, a), a->ids, n, e->reuse_pages, known) || !point)
		return;
	if (!prefix_add_point(e->prefixes, tenant_of(e, a), a->ids, n, kind, known, &to) && to)
		seq_save_state(a->seq, to);
}

void reuse_keep_part(struct engine *e, const struct active *a, uint32_t at)
{
	if (!has_state(e))
		keep(e, a, at, PREFIX_FORK, false);
}

void reuse_reached(struct engine *e, struct active *a)
{
	uint32_t pos = seq_len(a->seq);
	enum prefix_kind kind = PREFIX_EVERY;
	bool stop = pos % REUSE_EVERY == 0;

	if (!a->reuse.on || pos < REUSE_LEAST)
		return;
	for (uint32_t i = 0; i < a->reuse.n_stops; i++)
		if (a->reuse.stops[i].at == pos) {
			kind = a->reuse.stops[i].kind;
			stop = true;
		}
	if (has_state(e) && stop)
		keep(e, a, pos, kind, true);
	else if (!has_state(e) && pos == a->n_prompt)
		keep(e, a, pos, kind, false);
}

/*
 * An answer may have ended before drafts that were right as well: the sequence is cut back to what is
 * known, and the state brought up to that. False: the state is beyond it.
 */
static bool settle(struct engine *e, struct active *a)
{
	uint32_t len = seq_len(a->seq), beyond = len > a->n_ids ? len - a->n_ids : 0;

	if (has_state(e) && beyond > a->spec.replay)
		return false;
	if (beyond)
		seq_cut(a->seq, a->n_ids);
	if (has_state(e)) {
		a->spec.replay -= beyond;
		spec_settle(e, a);
	}
	return true;
}

void reuse_keep(struct engine *e, struct active *a, bool paused)
{
	uint32_t pos;

	/* where pages are short there are none for a state */
	if (!a->reuse.on || (paused && has_state(e)) || !settle(e, a))
		return;
	pos = seq_len(a->seq);
	if (pos < REUSE_LEAST)
		return;
	keep(e, a, pos, a->n_generated ? PREFIX_ANSWER : PREFIX_EVERY, has_state(e));
}
