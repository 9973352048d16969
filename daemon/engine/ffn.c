/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/ffn.c: order of work of a layer's second half (see ffn.h). The products of the
 * experts are in experts.c.
 *
 * Mixture: router -> tid 0 groups tokens by expert and lets supply post the reads -> shared expert
 * while they run -> rounds: what is ready is computed, what lands meanwhile is the next round ->
 * sum in rank order.
 */
#include "engine/ffn.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/ffn_private.h"
#include "engine/router.h"
#include "trace/record.h"

static struct wmat expert_wmat(const struct expert_layout *l, enum expert_matrix which)
{
	return (struct wmat){ .type = l->matrix[which].type,
			      .n_in = l->matrix[which].n_in,
			      .n_out = l->matrix[which].n_out,
			      .row_bytes = l->matrix[which].row_bytes,
			      .act = quant_format(l->matrix[which].type)->act };
}

/* Which forms of the layer's input its weights ask for. */
static void needed_forms(const struct ffn_args *a, bool used[ACT_NR])
{
	const struct layer_weights *w = a->weights;
	const struct expert_layout *l = &a->layer->experts;

	memset(used, 0, ACT_NR * sizeof(*used));
	if (!l->n_parts) {
		used[w->w[ROLE_FFN_GATE].act] = used[w->w[ROLE_FFN_UP].act] = true;
		return;
	}
	used[w->w[ROLE_ROUTER].act] = true;
	used[quant_format(l->matrix[EXPERT_GATE].type)->act] = true;
	used[quant_format(l->matrix[EXPERT_UP].type)->act] = true;
	if (layer_floats(w, ROLE_SHARED_GATE_INP))
		used[w->w[ROLE_SHARED_GATE].act] = used[w->w[ROLE_SHARED_UP].act] = true;
}

static void quantize_inputs(struct ffn *f, const struct ffn_args *a, unsigned tid)
{
	bool used[ACT_NR];

	needed_forms(a, used);
	for (int kind = ACT_F32; kind < ACT_NR; kind++)
		if (used[kind])
			actbuf_quantize(&f->in.form[kind], f->c.team, tid, kind, a->in, f->n_embd,
					f->n_embd, a->batch->n_tokens);
}

/*
 * SiLU(gate x) * up x, then down, for all tokens by the whole team: dense models and the shared
 * expert. y: column t at y + t * ldy. Contains barriers, ends without one.
 */
static void dense_triple(struct ffn *f, const struct wmat *gate, const struct wmat *up,
			 const struct wmat *down, uint32_t n_tokens, float *y, size_t ldy,
			 unsigned tid)
{
	struct team *team = f->c.team;
	struct lane *lane = &f->c.lanes[tid];
	size_t n_ff = down->n_in, first, end;

	linear(gate, &f->in.form[gate->act], n_tokens, f->dense_gate, n_ff, team, tid, lane);
	linear(up, &f->in.form[up->act], n_tokens, f->dense_up, n_ff, team, tid, lane);
	team_barrier(team);
	team_share((size_t)n_tokens * n_ff, 256, tid, team_size(team), &first, &end);
	f->c.fops->silu_mul(f->dense_gate + first, f->dense_up + first, f->dense_gate + first,
			    end - first);
	team_barrier(team);
	actbuf_quantize(&f->dense_act, team, tid, down->act, f->dense_gate, n_ff, n_ff, n_tokens);
	team_barrier(team);
	linear(down, &f->dense_act, n_tokens, y, ldy, team, tid, lane);
}

static int by_count(const void *a, const void *b)
{
	const struct expert_work *x = a, *y = b;

	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	return x->expert < y->expert ? -1 : 1;
}

/* tid 0: counting sort of the chosen (token, rank) pairs by expert. */
static void plan(struct ffn *f, const struct ffn_args *a)
{
	uint32_t n_tokens = a->batch->n_tokens, at = 0;

	memset(f->place, 0, f->n_expert * sizeof(*f->place));
	for (uint32_t i = 0; i < n_tokens * f->n_used; i++)
		f->place[f->ids[i]]++;
	f->n_work = 0;
	for (uint32_t e = 0; e < f->n_expert; e++) {
		if (!f->place[e])
			continue;
		f->work[f->n_work++] =
			(struct expert_work){ .expert = e, .first = at, .count = f->place[e] };
		at += f->place[e];
		f->place[e] = at - f->place[e];
	}
	for (uint32_t t = 0; t < n_tokens; t++)
		for (uint32_t r = 0; r < f->n_used; r++)
			f->entries[f->place[f->ids[t * f->n_used + r]]++] =
				(struct entry){ .token = t, .rank = r };
	if (n_tokens > 8) /* largest first keeps the threads busy to the end */
		qsort(f->work, f->n_work, sizeof(*f->work), by_count);
	for (uint32_t i = 0; i < f->n_work; i++) {
		f->list[i] = f->work[i].expert;
		f->list_counts[i] = f->work[i].count;
		f->failed[i] = 0;
	}
	f->n_handed = f->n_taken = 0;
}

static void record(struct ffn *f, const struct ffn_args *a)
{
	for (uint32_t i = 0; i < a->batch->n_runs && a->trace; i++) {
		const struct batch_run *run = &a->batch->runs[i];

		for (uint32_t k = 0; k < run->count; k++) {
			uint32_t t = run->first + k;

			trace_layer(a->trace, a->step, run->number, run->pos + k, a->layer_index,
				    f->ids + (size_t)t * f->n_used,
				    f->weights + (size_t)t * f->n_ranks, f->n_used);
		}
	}
}

/* tid 0: books an expert that could not be read to the tokens that needed it. */
static void book_failure(struct ffn *f, const struct ffn_args *a, uint32_t index)
{
	const struct expert_work *w = &f->work[index];

	for (uint32_t k = 0; k < w->count; k++)
		a->token_error[f->entries[w->first + k].token] = f->failed[index];
}

/* tid 0: what supply hands out next, and how to compute it. */
static void take_handed(struct ffn *f, const struct ffn_args *a)
{
	const struct expert_layout *l = &a->layer->experts;
	uint32_t total = 0, largest = 0;

	f->n_handed = supply_next(f->c.supply, f->handed, f->failed);
	f->n_taken = 0;
	for (uint32_t i = 0; i < f->n_handed; i++) {
		struct expert_work *w = &f->work[f->handed[i]];

		if (f->failed[f->handed[i]]) {
			book_failure(f, a, f->handed[i]);
			continue;
		}
		w->view = supply_view(f->c.supply, f->handed[i]);
		for (int k = 0; k < EXPERT_MATRIX_NR; k++)
			w->m[k] = expert_wmat(l, k);
		total += w->count;
		largest = w->count > largest ? w->count : largest;
	}
	f->whole = total > SMALL_ENTRIES && f->n_handed >= 2 * team_size(f->c.team) &&
		   largest <= total / team_size(f->c.team);
}

/* tid 0: the next list to compute; n_ready 0 at the end of the layer. */
static void next_list(struct ffn *f, const struct ffn_args *a)
{
	uint32_t hidden = 0;

	if (f->n_taken == f->n_handed)
		take_handed(f, a);
	f->ready = f->handed + f->n_taken;
	f->n_ready = 0;
	for (uint32_t i = 0; i < f->c.split.n; i++) {
		atomic_store_explicit(&f->cursor[0][i].next, 0, memory_order_relaxed);
		atomic_store_explicit(&f->cursor[1][i].next, 0, memory_order_relaxed);
	}
	while (f->n_taken < f->n_handed) {
		uint32_t count = f->work[f->handed[f->n_taken]].count;

		if (!f->whole && hidden + count > f->max_hidden)
			break;
		f->slot[f->n_ready++] = hidden;
		hidden += count;
		f->n_taken++;
	}
}

static void choose(struct ffn *f, const struct ffn_args *a, unsigned tid)
{
	size_t first, end;
	const struct model *m = f->c.model;
	struct team *team = f->c.team;

	linear(&a->weights->w[ROLE_ROUTER], &f->in.form[a->weights->w[ROLE_ROUTER].act],
	       a->batch->n_tokens, f->router_logits, f->n_expert, team, tid, &f->c.lanes[tid]);
	team_barrier(team);
	team_share(a->batch->n_tokens, 1, tid, team_size(team), &first, &end);
	for (size_t t = first; t < end; t++) {
		float *w = f->weights + t * f->n_ranks;

		router_select(f->router_logits + t * f->n_expert, f->n_expert, f->n_used,
			      m->router.renorm, m->router.scale, f->ids + t * f->n_used, w);
		if (f->n_ranks > f->n_used && layer_floats(a->weights, ROLE_SHARED_GATE_INP)) {
			float g = f->c.fops->dot(layer_floats(a->weights, ROLE_SHARED_GATE_INP),
						 a->in + t * f->n_embd, f->n_embd);

			/* a sigmoid would squash an infinity */
			w[f->n_used] = isfinite(g) ? 1.0f / (1.0f + expf(-g)) : NAN;
		}
	}
	team_barrier(team);
}

static void sum_ranks(struct ffn *f, const struct ffn_args *a, unsigned tid)
{
	size_t n_ranks = layer_floats(a->weights, ROLE_SHARED_GATE_INP) ? f->n_used + 1 : f->n_used;
	size_t first, end, d = f->n_embd;

	/* columns cut in pieces of 256, so that one token is shared as well */
	team_share((size_t)a->batch->n_tokens * d, 256, tid, team_size(f->c.team), &first, &end);
	while (first < end) {
		size_t t = first / d, i = first % d;
		size_t n = u64_min(d - i, end - first);
		const float *partial = f->partial + t * f->n_ranks * d + i;
		const float *w = f->weights + t * f->n_ranks;
		float *sum = f->c.lanes[tid].tmp;

		while (n > 0) {
			size_t piece = u64_min(n, 256);

			memset(sum, 0, piece * sizeof(*sum));
			for (size_t r = 0; r < n_ranks; r++)
				f->c.fops->axpy(w[r], partial + r * d, sum, piece);
			f->c.fops->add(sum, a->out + t * d + i, piece);
			partial += piece;
			i += piece;
			n -= piece;
			first += piece;
		}
	}
}

static void mixture(struct ffn *f, const struct ffn_args *a, unsigned tid)
{
	const struct layer_weights *w = a->weights;
	struct team *team = f->c.team;

	choose(f, a, tid);
	if (tid == 0) {
		plan(f, a);
		record(f, a);
		supply_begin(f->c.supply, a->step, a->layer_index, f->list, f->list_counts,
			     f->n_work);
	}
	if (layer_floats(w, ROLE_SHARED_GATE_INP)) {
		dense_triple(f, &w->w[ROLE_SHARED_GATE], &w->w[ROLE_SHARED_UP],
			     &w->w[ROLE_SHARED_DOWN], a->batch->n_tokens,
			     f->partial + f->n_used * f->n_embd, f->n_ranks * f->n_embd, tid);
	}
	for (;;) {
		if (tid == 0)
			next_list(f, a);
		team_barrier(team);
		if (f->n_ready == 0)
			break;
		experts_compute(f, tid);
		team_barrier(team);
	}
	sum_ranks(f, a, tid);
}

void ffn_forward(struct ffn *f, const struct ffn_args *a, unsigned tid)
{
	const struct layer_weights *w = a->weights;
	size_t first, end;

	quantize_inputs(f, a, tid);
	team_barrier(f->c.team);
	if (a->layer->experts.n_parts) {
		mixture(f, a, tid);
		return;
	}
	dense_triple(f, &w->w[ROLE_FFN_GATE], &w->w[ROLE_FFN_UP], &w->w[ROLE_FFN_DOWN],
		     a->batch->n_tokens, f->partial, f->n_embd, tid);
	team_barrier(f->c.team);
	team_share((size_t)a->batch->n_tokens * f->n_embd, 256, tid, team_size(f->c.team), &first,
		   &end);
	f->c.fops->add(f->partial + first, a->out + first, end - first);
}
