/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/compose.c: which tokens the next step has: one of every sequence that decodes and its
 * drafts, then chunks of prompts as far as the pace allows (pace.h). Whose turn it is says admit.h, who
 * gives way where pages are short room.c. Called by sched.c, engine thread, between steps.
 */
#include <string.h>

#include "base/num.h"
#include "engine/engine_private.h"

/* Puts the next @n tokens of place @i into the step; there is room for them. */
static void add_run(struct engine *e, struct batch *b, uint32_t i, uint32_t n)
{
	struct active *a = &e->active[i];
	struct request *r = a->request;
	bool all = request_wants_rows(r);
	uint32_t pos = seq_len(a->seq);

	for (uint32_t k = 0; k < n; k++) {
		uint32_t t = b->n_tokens + k, at = pos + k;

		e->tokens[t] = a->ids[at];
		e->token_run[t] = b->n_runs;
		/* of what is read again rows have been handed out already */
		e->want[t] = (at + 1 == a->n_ids && r->max_tokens) ||
			     (all && at >= a->n_done && at < a->n_prompt);
	}
	e->runs[b->n_runs] = (struct batch_run){
		.seq = a->seq, .first = b->n_tokens, .count = n, .pos = pos, .number = a->number - 1
	};
	e->run_owner[b->n_runs++] = i;
	e->in_step[i] = true;
	b->n_tokens += n;
	a->n_in_step = (uint32_t)u64_min(pos + n, a->n_prompt) - a->n_done;
	if (pos + n < a->n_done)
		a->n_in_step = 0;
	a->no_number = false;
	spec_put(e, a, b); /* there is room for what it drafts too */
}

/* The place whose turn it is among those that read and are not in the step yet, or none. */
static struct active *next_reader(const struct engine *e)
{
	struct active *best = NULL, *reader = NULL;

	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i], *r;

		if (!a->request || a->paused || engine_decoding(a))
			continue;
		r = follow_reader(a);
		if (e->taken[r - e->active] || r->paused)
			continue;
		if (best && !turns_before(&e->turns, a->request->turn, a->request->came,
					  best->request->turn, best->request->came))
			continue;
		best = a;
		reader = r;
	}
	return reader;
}

/* Where the next chunk of @a has to end at the latest. */
static uint32_t chunk_end(const struct engine *e, const struct active *a)
{
	uint32_t pos = seq_len(a->seq);

	if (pos < a->request->n_untimed)
		return (uint32_t)u64_min(a->request->n_untimed, reuse_stop(e, a));
	return (uint32_t)u64_min(a->n_ids, reuse_stop(e, a));
}

/* Is no more left to read of @a than what waits for nobody? */
static bool at_tail(const struct active *a)
{
	return a->n_ids - seq_len(a->seq) <= PACE_TAIL;
}

/* How many tokens of @a, whose turn it is, the step would take. */
static uint32_t bite_off(const struct engine *e, const struct active *a, struct pace_bite bite,
			 uint32_t room)
{
	uint32_t n = (uint32_t)u64_min(chunk_end(e, a) - seq_len(a->seq), room), more = 0;

	if (at_tail(a))
		return bite.plain ? 0 : n;
	if (bite.most && n > bite.most)
		more = n - bite.most <= bite.more ? n - bite.most : 0;
	return (uint32_t)u64_min(n, bite.most) + more;
}

/* Chunks of prompts, and ends of them. */
static void add_readers(struct engine *e, struct batch *b, struct pace_bite bite)
{
	struct active *a;
	uint32_t n;

	e->n_tail = 0;
	e->bite_waits = false;
	while (b->n_tokens < e->config.n_batch && (a = next_reader(e))) {
		const bool tail = at_tail(a);

		e->taken[a - e->active] = true;
		n = bite_off(e, a, bite, e->config.n_batch - b->n_tokens);
		e->bite_waits |= !n && !tail;
		n = n ? room_for(e, a, n) : 0;
		if (!n)
			continue;
		/* who gets no memory leaves the bite to others */
		if (tail)
			e->n_tail += n;
		else
			bite.most -= (uint32_t)u64_min(n, bite.most);
		if (!a->timed_ns && seq_len(a->seq) >= a->request->n_untimed)
			engine_start_clock(e, a);
		add_run(e, b, (uint32_t)(a - e->active), n);
	}
}

/* Prompt tokens that the step may have; ends of prompts come beside. */
static struct pace_bite most_to_read(struct engine *e)
{
	e->n_decoding = e->n_seated = 0;
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		const struct active *a = &e->active[i];

		e->n_seated += a->request && !a->paused;
		e->n_decoding += a->request && !a->paused && engine_decoding(a);
	}
	e->pace.target_ns = e->itl_target_ns;
	e->pace.reads = e->supply && supply_lacks(e->supply);
	return pace_next(&e->pace, e->n_decoding, e->n_seated);
}

/* Will somebody read in a step with this bite of prompts? */
static bool somebody_reads(const struct engine *e, struct pace_bite bite)
{
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		const struct active *a = &e->active[i];

		if (a->request && !a->paused && !engine_decoding(a) &&
		    (bite.most || (!bite.plain && at_tail(a))))
			return true;
	}
	return false;
}

/* Does somebody who decodes wait for what fills of slots still use? */
static bool somebody_waits(const struct engine *e)
{
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		const struct active *a = &e->active[i];

		if (a->request && !a->paused && a->waits && engine_decoding(a))
			return true;
	}
	return false;
}

void compose_step(struct engine *e, struct batch *b)
{
	struct pace_bite bite;

	*b = (struct batch){ .tokens = e->tokens, .runs = e->runs, .want_logits = e->want };
	memset(e->taken, 0, e->config.n_parallel * sizeof(*e->taken));
	memset(e->in_step, 0, e->config.n_parallel * sizeof(*e->in_step));
	room_resume(e);
	bite = most_to_read(e);
	spec_plan(e, somebody_reads(e, bite));
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];

		if (!a->request || a->paused || !engine_decoding(a))
			continue;
		/* nobody gives way for a draft */
		if (!reuse_make_free(e, seq_lacks(a->seq, 1 + a->spec.n_draft)))
			a->spec.n_draft = 0;
		room_make(e, a, 1 + a->spec.n_draft);
	}
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];

		if (a->request && !a->paused && !a->waits && engine_decoding(a))
			add_run(e, b, i, 1);
	}
	e->n_decoding = b->n_runs;
	if (!e->n_decoding && !somebody_waits(e)) /* they gave way for others */
		bite = (struct pace_bite){ .most = UINT32_MAX };
	add_readers(e, b, bite);
}
