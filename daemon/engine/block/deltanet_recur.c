/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/deltanet_recur.c: DeltaNet's recurrence, strip by strip (see struct delta_args in fops.h).
 *
 * Drafted tokens leave window and S alone: their outputs come from a copy of each strip that stays in
 * the thread's cache, their inputs are kept, and the next run of the sequence first takes those that
 * were right through the same recurrence. That costs no second pass over the state and no weights.
 */
#include <string.h>

#include "base/num.h"
#include "engine/block/deltanet.h"

#define PIECES 4 /* of a token's work, for each thread: to begin one costs about a microsecond */

size_t delta_draft_floats(const struct model *m)
{
	const struct delta_sizes s = delta_sizes(m);

	return s.channels + s.k_all + s.v_all + 2 * s.v_heads;
}

struct delta_draft delta_draft(const struct block_args *a, const struct batch_run *run, uint32_t i)
{
	const struct delta_sizes s = delta_sizes(a->model);
	struct delta_draft r;
	size_t before = 0;

	for (uint32_t l = 0; l < a->layer_index; l++)
		before += layer_has(&a->model->layers[l], BLOCK_DELTANET);
	r.u = run->store + (before * DRAFT_MAX + i) * delta_draft_floats(a->model);
	r.kv = r.u + s.channels;
	r.decay = r.kv + s.k_all + s.v_all;
	r.beta = r.decay + s.v_heads;
	return r;
}

/* The K head that a V head takes. */
static size_t k_head_of(const struct model *m, size_t v_head)
{
	return m->ssm_v_tiled ? v_head % m->ssm_k_heads
			      : v_head / (m->ssm_v_heads / m->ssm_k_heads);
}

/* As team_take_range(), in as large pieces as the few tokens allow. */
static bool take_range(const struct block_args *a, unsigned tid, size_t n, size_t *ret_first,
		       size_t *ret_end)
{
	size_t pieces = PIECES * team_size(a->team) * u64_max(1, a->batch->n_tokens);

	return team_take_range(a->team, tid, n, u64_max(1, n / pieces), ret_first, ret_end);
}

/* Strip @at of S: the kept drafts of the run before. */
static void replay_strip(const struct block_args *a, unsigned tid, const struct batch_run *run,
			 size_t at, float *strip)
{
	const struct delta_sizes s = delta_sizes(a->model);
	const struct delta_draft first = delta_draft(a, run, 0);
	size_t strips = s.dim / DELTA_LANES, v_head = at / strips, lane = at % strips * DELTA_LANES;
	size_t ld = delta_draft_floats(a->model);
	const float *k = first.kv + k_head_of(a->model, v_head) * s.dim;
	float *o =
		delta_buffers(a)->strips + tid * delta_strip_room(a->model) + s.dim * DELTA_LANES;

	a->fops->delta(&(struct delta_args){ .strip = strip,
					     .dim = s.dim,
					     .n_tokens = run->replay,
					     .q = k, /* the outputs were had before */
					     .k = k,
					     .v = first.kv + s.k_all + v_head * s.dim + lane,
					     .ld = ld,
					     .decay = first.decay + v_head,
					     .beta = first.beta + v_head,
					     .ld_gate = ld,
					     .kq = first.beta + v_head,
					     .ld_kq = ld,
					     .o = o,
					     .ld_o = DELTA_LANES });
}

/* Strip @at of S through the tokens [from, from + n) of a run; @next is fetched ahead. */
static void pass_strip(const struct block_args *a, const struct batch_run *run, size_t at,
		       uint32_t from, uint32_t n, float *strip, const float *next)
{
	const struct delta_sizes s = delta_sizes(a->model);
	const struct delta_buffers *b = delta_buffers(a);
	size_t strips = s.dim / DELTA_LANES, v_head = at / strips, lane = at % strips * DELTA_LANES;
	size_t k_head = k_head_of(a->model, v_head), column = run->first + from;
	const float *c = b->c + column * s.channels;

	a->fops->delta(&(struct delta_args){
		.strip = strip,
		.next = next,
		.dim = s.dim,
		.n_tokens = n,
		.q = c + k_head * s.dim,
		.k = c + s.k_all + k_head * s.dim,
		.v = c + 2 * s.k_all + v_head * s.dim + lane,
		.ld = s.channels,
		.decay = b->decay + column * s.v_heads + v_head,
		.beta = b->beta + column * s.v_heads + v_head,
		.ld_gate = s.v_heads,
		.kq = b->kq + column * s.k_heads + k_head,
		.ld_kq = s.k_heads,
		.o = b->o + column * s.v_all + v_head * s.dim + lane,
		.ld_o = s.v_all,
	});
}

/* Strips [first, end) of S through all tokens of a run; drafts pass over a copy. */
static void recur_run(const struct block_args *a, unsigned tid, const struct batch_run *run,
		      size_t first, size_t end)
{
	const struct delta_sizes s = delta_sizes(a->model);
	size_t strip_floats = s.dim * DELTA_LANES;
	float *state = seq_floats(run->seq, a->layer_index) + delta_window_floats(a->model);
	float *copy = delta_buffers(a)->strips + tid * delta_strip_room(a->model);
	uint32_t sure = run->count - run->drafted;

	for (size_t at = first; at < end; at++) {
		float *strip = state + at * strip_floats;

		if (run->pos == 0)
			memset(strip, 0, strip_floats * sizeof(*strip));
		if (run->replay)
			replay_strip(a, tid, run, at, strip);
		if (sure)
			pass_strip(a, run, at, 0, sure, strip,
				   at + 1 < end ? strip + strip_floats : NULL);
		if (!run->drafted)
			continue;
		memcpy(copy, strip, strip_floats * sizeof(*copy));
		pass_strip(a, run, at, sure, run->drafted, copy, NULL);
	}
}

void delta_recur(const struct block_args *a, unsigned tid, const struct groups *g)
{
	const struct delta_sizes s = delta_sizes(a->model);
	size_t strips = s.v_heads * (s.dim / DELTA_LANES), first, end;

	while (take_range(a, tid, strips, &first, &end)) {
		for (uint32_t i = 0; i < a->batch->n_runs; i++)
			recur_run(a, tid, &a->batch->runs[i], first, end);
		groups_count(g, tid, strips, first, end);
	}
}

static void keep_draft(const struct block_args *a, const struct batch_run *run, uint32_t k)
{
	const struct delta_sizes s = delta_sizes(a->model);
	const struct delta_buffers *b = delta_buffers(a);
	const struct delta_draft r = delta_draft(a, run, k);
	size_t c = run->first + run->count - run->drafted + k;

	memcpy(r.u, b->u + c * s.channels, s.channels * sizeof(*r.u));
	memcpy(r.kv, b->c + c * s.channels + s.k_all, (s.k_all + s.v_all) * sizeof(*r.kv));
	memcpy(r.decay, b->decay + c * s.v_heads, s.v_heads * sizeof(*r.decay));
	memcpy(r.beta, b->beta + c * s.v_heads, s.v_heads * sizeof(*r.beta));
}

void delta_keep_drafts(const struct block_args *a, unsigned tid)
{
	for (uint32_t i = 0; i < a->batch->n_runs; i++) {
		const struct batch_run *run = &a->batch->runs[i];

		for (size_t k; team_take(a->team, tid, run->drafted, &k);)
			keep_draft(a, run, (uint32_t)k);
	}
}
