/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/moe.c: order of work of a mixture of experts (see moe.h). The products of the
 * experts are in moe_experts.c.
 *
 * Stages: route (the experts of each token) -> post (one thread groups tokens by expert and lets supply
 * post the reads) -> the shared expert while they run -> join: rounds of what is ready, until all have
 * been handed out; what lands meanwhile is the next round -> reduce in rank order. With few tokens and
 * all experts present that is in four phases: router, and hidden values of the shared expert; the rest
 * of it, and hidden values of the others; the rest of those; reduce. Who does the last of the router
 * posts, who does the last of a round splits off the next.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "engine/ahead.h"
#include "engine/block/moe.h"
#include "engine/routed.h"
#include "engine/router.h"
#include "engine/vram.h"
#include "trace/record.h"

static struct wmat expert_wmat(const struct expert_layout *l, enum expert_matrix which)
{
	return (struct wmat){ .type = l->matrix[which].type,
			      .n_in = l->matrix[which].n_in,
			      .n_out = l->matrix[which].n_out,
			      .row_bytes = l->matrix[which].row_bytes,
			      .act = quant_format(l->matrix[which].type)->act };
}

/* Whether the shared expert is computed here: a device that routes the layer computes it itself. */
static bool has_shared(const struct block_args *a)
{
	return !a->routes && a->weights->w[ROLE_SHARED_UP].data != NULL;
}

/* What the router reads: x, or the residual stream with a norm and a scale of its own. */
static bool router_has_input(const struct block_args *a)
{
	return a->weights->w[ROLE_ROUTER_SCALE].data != NULL;
}

/* norm(residual) * scale / sqrt(d) into router_act. */
static void make_router_input(const struct block_args *a, size_t t)
{
	struct moe *f = moe_of(a);
	const enum act_kind kind = a->weights->w[ROLE_ROUTER].act;
	size_t d = f->n_embd;
	float *x = f->router_in + t * d;

	if (t == 0)
		actbuf_describe(&f->router_act, kind, d, a->batch->n_tokens);
	a->fops->rmsnorm(a->residual + t * d, layer_floats(a->weights, ROLE_ROUTER_SCALE), d,
			 a->model->rms_eps, x);
	a->fops->scale(1.0f / sqrtf((float)d), x, x, d);
	a->ops->act_quantize(kind, x, d, f->router_act.data + t * a->ops->act_bytes(kind, d));
}

static struct triple shared_expert(const struct block_args *a)
{
	return (struct triple){ &moe_of(a)->shared, ROLE_SHARED_GATE, ROLE_SHARED_UP,
				ROLE_SHARED_DOWN };
}

static void input(const struct block_args *a, unsigned tid, size_t t)
{
	const struct expert_layout *l = &a->layer->experts;
	const struct triple shared = shared_expert(a);
	unsigned done = 0;

	if (a->routes) {
		/* nobody asks the router again */
	} else if (router_has_input(a)) {
		make_router_input(a, t);
	} else {
		block_input(a, a->weights->w[ROLE_ROUTER].act, t, &done);
	}
	if (l->matrix[EXPERT_GATE].n_out)
		block_input(a, quant_format(l->matrix[EXPERT_GATE].type)->act, t, &done);
	block_input(a, quant_format(l->matrix[EXPERT_UP].type)->act, t, &done);
	if (has_shared(a))
		triple_input(a, &shared, t, &done);
}

static int by_count(const void *a, const void *b)
{
	const struct expert_work *x = a, *y = b;

	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	return x->expert < y->expert ? -1 : 1;
}

/* One thread: counting sort of the chosen (token, rank) pairs by expert. */
static void plan(const struct block_args *a)
{
	struct moe *f = moe_of(a);
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
				(struct device_pair){ .token = t, .rank = r };
	if (n_tokens > 8) /* largest first keeps the threads busy to the end */
		qsort(f->work, f->n_work, sizeof(*f->work), by_count);
	for (uint32_t i = 0; i < f->n_work; i++) {
		f->list[i] = f->work[i].expert;
		f->list_counts[i] = f->work[i].count;
		f->failed[i] = 0;
	}
	f->n_handed = f->n_taken = 0;
}

/* One thread: of a step with drafts, how many of an expert's tokens are none. */
static void count_sure(const struct block_args *a)
{
	struct moe *f = moe_of(a);

	for (uint32_t i = 0; i < a->batch->n_runs; i++) {
		const struct batch_run *run = &a->batch->runs[i];

		for (uint32_t k = 0; k < run->count; k++)
			f->drafted[run->first + k] = k >= run->count - run->drafted;
	}
	for (uint32_t i = 0; i < f->n_work; i++)
		for (uint32_t k = 0; k < f->work[i].count; k++)
			f->list_counts[i] -= f->drafted[f->entries[f->work[i].first + k].token];
}

/* One thread: which stays is known when the step has ended. */
static void hold(const struct block_args *a)
{
	struct moe *f = moe_of(a);

	memset(f->only_drafts, 0, f->n_expert);
	for (uint32_t i = 0; i < f->n_work; i++)
		if (!f->list_counts[i])
			f->only_drafts[f->list[i]] = (uint8_t)supply_where(f->c.supply, i);
	routed_layer(a->routed, a->batch, a->layer_index, f->ids, f->weights, f->n_ranks,
		     f->only_drafts);
}

static void record(const struct block_args *a)
{
	struct moe *f = moe_of(a);

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

/* One thread: books an expert that could not be read to the tokens that needed it. */
static void book_failure(const struct block_args *a, uint32_t index)
{
	struct moe *f = moe_of(a);
	const struct expert_work *w = &f->work[index];

	for (uint32_t k = 0; k < w->count; k++)
		a->token_error[f->entries[w->first + k].token] = f->failed[index];
}

/* One thread: whether a device takes work @i of a prompt off the host; it has been handed over then. */
static bool hand_over(const struct block_args *a, uint32_t i)
{
	struct moe *f = moe_of(a);
	const struct block_routes *r = a->routes;
	const struct expert_work *w = &f->work[i];
	const bool resident = supply_unit(f->c.supply, i) == UNIT_DEVICE;
	struct device_fill from = { .layer = a->layer_index, .slot = DEVICE_NO_SLOT };
	struct expert_view view;

	if (!r || !r->device || f->failed[i] || *r->device_rc ||
	    (!resident && w->count < r->send_from))
		return false;
	if (resident) {
		from.slot = device_table(r->device)[a->layer_index * f->n_expert + w->expert];
	} else {
		view = supply_view(f->c.supply, i);
		vram_pieces(a->layer, &f->c.split, &view, &from);
	}
	*r->device_rc =
		device_multiply(r->device, &from, f->entries + w->first, w->count, r->device_err);
	return true;
}

/* One thread: what was sent to a device has been read there, and the host's copies may go. */
static void await_sent(const struct block_args *a)
{
	const struct block_routes *r = a->routes;

	if (r && r->device && !*r->device_rc)
		*r->device_rc = device_sent(r->device, r->device_err);
}

/*
 * One thread: asks supply until there is something for the host; what a device computes is let by. Not @wait: no more
 * than once, and it need not have anything.
 */
static void ask_supply(const struct block_args *a, bool wait, unsigned tid)
{
	struct moe *f = moe_of(a);
	int32_t n;

	do {
		team_rests(a->team, tid, true); /* it may wait for the disk */
		await_sent(a);
		n = wait ? supply_next(f->c.supply, f->handed, f->failed)
			 : (int32_t)supply_present(f->c.supply, f->handed, f->failed);
		team_rests(a->team, tid, false);
		if (wait && !n && a->ahead)
			ahead_joined(a->ahead, a->layer_index);
		f->n_handed = 0;
		for (int32_t i = 0; i < n; i++) /* given up: the step ends before the next layer */
			if (!hand_over(a, f->handed[i]) &&
			    (f->failed[f->handed[i]] ||
			     supply_unit(f->c.supply, f->handed[i]) == UNIT_HOST))
				f->handed[f->n_handed++] = f->handed[i];
	} while (wait && n > 0 && !f->n_handed);
	f->n_taken = 0;
}

/* One thread: what supply hands out next, and how to compute it. */
static void take_handed(const struct block_args *a, bool wait, unsigned tid)
{
	struct moe *f = moe_of(a);
	const struct expert_layout *l = &a->layer->experts;
	uint32_t total = 0, largest = 0;

	ask_supply(a, wait, tid);
	for (uint32_t i = 0; i < f->n_handed; i++) {
		struct expert_work *w = &f->work[f->handed[i]];

		if (f->failed[f->handed[i]]) {
			book_failure(a, f->handed[i]);
			continue;
		}
		w->view = supply_view(f->c.supply, f->handed[i]);
		for (int k = 0; k < EXPERT_MATRIX_NR; k++)
			w->m[k] = expert_wmat(l, k);
		total += w->count;
		largest = w->count > largest ? w->count : largest;
	}
	f->whole = total > SMALL_ENTRIES && f->n_handed >= 2 * team_size(a->team) &&
		   largest <= total / team_size(a->team);
}

/* One thread: of what has been handed out, and not been taken, as much as there is room for becomes round @r. */
static void make_round(struct moe *f, struct round *r)
{
	uint32_t hidden = 0;

	r->n_ready = 0;
	r->whole = f->whole;
	r->down_rows = 0;
	for (uint32_t i = 0; i < f->c.split.n; i++) {
		atomic_store_explicit(&r->cursor[0][i].next, 0, memory_order_relaxed);
		atomic_store_explicit(&r->cursor[1][i].next, 0, memory_order_relaxed);
	}
	while (f->n_taken < f->n_handed) {
		uint32_t index = f->handed[f->n_taken], count = f->work[index].count;

		if (!f->whole && hidden + count > f->max_hidden)
			break;
		r->slot[r->n_ready] = hidden;
		r->ready[r->n_ready++] = index;
		if (!f->whole && !f->failed[index])
			r->down_rows += f->n_embd;
		hidden += count;
		f->n_taken++;
	}
}

/*
 * Split, by one thread: what is ready for the host becomes round @r, which nobody looks at yet. Nothing is ready at
 * the end of the layer, and then everybody goes on behind the next barrier. What lies in a device's slots the
 * device has found out for itself.
 */
static void split(const struct block_args *a, struct round *r, unsigned tid)
{
	struct moe *f = moe_of(a);

	if (f->n_taken == f->n_handed)
		take_handed(a, true, tid);
	make_round(f, r);
	if (r->n_ready)
		return;
	f->routed_ns += now_ns() - f->routed_began;
	atomic_store_explicit(&f->joined[a->layer_index], team_place(a->team, tid) + 1,
			      memory_order_relaxed); /* the next barrier publishes it */
}

/* By one thread: the first round, of what is there. */
static void begin_rounds(const struct block_args *a, unsigned tid)
{
	struct moe *f = moe_of(a);

	take_handed(a, false, tid);
	make_round(f, &f->rounds[0]);
}

/* The weight of the shared expert: a sigmoid of its gate, 1 where it has none. */
static float shared_weight(const struct block_args *a, size_t token)
{
	const float *gate = layer_floats(a->weights, ROLE_SHARED_GATE_INP);
	size_t d = a->model->n_embd;
	float g;

	if (!gate)
		return 1.0f;
	g = a->fops->dot(gate, a->x + token * d, d);
	return isfinite(g) ? 1.0f / (1.0f + expf(-g)) : NAN; /* it would squash an infinity */
}

/* Which experts a token uses, and with what weight. */
static void choose(const struct block_args *a, size_t t, float *scratch)
{
	struct moe *f = moe_of(a);
	const float *factor = layer_floats(a->weights, ROLE_DOWN_EXPS_SCALE);
	uint32_t *ids = f->ids + t * f->n_used;
	float *w = f->weights + t * f->n_ranks;

	router_select(&a->model->router, f->router_logits + t * f->n_expert, f->n_expert, f->n_used,
		      layer_floats(a->weights, ROLE_CHOICE_BIAS), scratch, ids, w);
	for (uint32_t r = 0; factor && r < f->n_used; r++)
		w[r] *= factor[ids[r]];
	if (has_shared(a))
		w[f->n_used] = shared_weight(a, t);
}

/* Columns [i, i + n) of a token's result, at most 256. */
static void reduce_piece(const struct block_args *a, size_t t, size_t i, size_t n, float *sum)
{
	struct moe *f = moe_of(a);
	size_t n_ranks = has_shared(a) ? f->n_used + 1 : f->n_used, d = f->n_embd;
	const float *partial = f->partial + t * f->n_ranks * d + i;
	const float *w = f->weights + t * f->n_ranks;

	memset(sum, 0, n * sizeof(*sum));
	for (size_t r = 0; r < n_ranks; r++)
		a->fops->axpy(w[r], partial + r * d, sum, n);
	memcpy(a->y + t * d + i, sum, n * sizeof(*sum));
}

/* Reduce: the weighted sum of what all units computed, in rank order whatever came first. */
static void reduce(const struct block_args *a, unsigned tid)
{
	size_t d = moe_of(a)->n_embd, all = a->batch->n_tokens * d, first, end;

	/* columns cut in pieces of 256, so that one token is shared as well */
	while (team_take_range(a->team, tid, all, 256, &first, &end)) {
		for (size_t i = first, n; i < end; i += n) {
			n = u64_min(256, u64_min(d - i % d, end - i));
			reduce_piece(a, i / d, i % d, n, a->lanes[tid].tmp);
		}
		groups_count(a->end, tid, all, first, end);
	}
}

/* Post, by one thread: the reads of missing experts, before anything is computed. */
static void post(const struct block_args *a)
{
	struct moe *f = moe_of(a);

	f->rows = a->routes ? a->routes->partial : f->partial;
	f->rows_ranks = a->routes ? a->routes->ranks : f->n_ranks;
	plan(a);
	if (a->routed)
		count_sure(a);
	else
		record(a);
	supply_begin(f->c.supply, a->step, a->layer_index, f->list, f->list_counts, f->n_work);
	if (a->routed)
		hold(a);
	if (a->ahead)
		ahead_used(a->ahead, a->layer_index, f->list, f->n_work);
	f->n_routed += f->n_work;
	f->routed_began = now_ns();
}

static bool looks_ahead(const struct block_args *a)
{
	return a->next && moe_looks_ahead(a);
}

/* Every token has chosen. */
static void finish_routes(const struct block_args *a, unsigned tid)
{
	post(a);
	if (!looks_ahead(a)) /* else what is read for the next layer comes first */
		begin_rounds(a, tid);
}

static void finish_router(const void *args, unsigned tid, size_t group)
{
	const struct block_args *a = args;

	for (size_t t = 0; t < a->batch->n_tokens; t++)
		choose(a, t, a->lanes[tid].tmp);
	finish_routes(a, tid);
}

/* Route: the router's product, and each token's choice; whose is the last posts. A barrier is due. */
static void route(const struct block_args *a, unsigned tid)
{
	struct moe *f = moe_of(a);
	const struct wmat *router = &a->weights->w[ROLE_ROUTER];
	const enum role then = a->weights->w[ROLE_SHARED_GATE].data ? ROLE_SHARED_GATE
								    : ROLE_SHARED_UP;
	const struct groups rows = { &f->routed, SIZE_MAX, 1, finish_router, a };
	const bool few = block_few(a->batch);
	struct lane *lane = &a->lanes[tid];
	size_t first, end;

	assert(lane->tmp_floats >= ROUTER_SCRATCH(f->n_expert));
	linear_then(router, few ? &a->weights->w[then] : NULL, few ? &rows : NULL,
		    layer_floats(a->weights, ROLE_ROUTER_BIAS),
		    router_has_input(a) ? &f->router_act : &a->in[router->act], a->batch->n_tokens,
		    f->router_logits, f->n_expert, a->team, tid, lane);
	if (few)
		return;
	team_barrier(a->team, tid);
	while (team_take_range(a->team, tid, a->batch->n_tokens, 1, &first, &end)) {
		for (size_t t = first; t < end; t++)
			choose(a, t, lane->tmp);
		if (team_last(&f->routed, end - first, a->batch->n_tokens))
			finish_routes(a, tid);
	}
}

/* The routes that a device gave, and the first round. A barrier is due. */
static void take_routes(const struct block_args *a, unsigned tid)
{
	struct moe *f = moe_of(a);
	size_t first, end, used = f->n_used;

	while (team_take_range(a->team, tid, a->batch->n_tokens, 1, &first, &end))
		for (size_t t = first; t < end; t++) {
			memcpy(f->ids + t * used, a->routes->ids + t * used,
			       used * sizeof(*f->ids));
			memcpy(f->weights + t * f->n_ranks, a->routes->weights + t * a->routes->ld,
			       used * sizeof(*f->weights));
		}
	team_barrier(a->team, tid);
	if (team_once(a->team, tid)) {
		post(a);
		split(a, &f->rounds[0], tid); /* nothing is done meanwhile */
	}
}

/* Has every expert been handed out? Who comes late goes on where the others did. */
static bool is_joined(const struct block_args *a, unsigned tid)
{
	uint64_t place =
		atomic_load_explicit(&moe_of(a)->joined[a->layer_index], memory_order_relaxed);
	uint64_t here = team_place(a->team, tid);

	/* of another job: long ago */
	if (place >> 32 != here >> 32 || (int32_t)((uint32_t)place - (uint32_t)here) < 0)
		return false;
	team_skip_to(a->team, tid, place);
	return true;
}

/*
 * Join: computes what is ready, round after round, until every expert has been handed out. All rounds have the same
 * number of barriers. With the first one comes what is left of the shared expert.
 */
static void join(const struct block_args *a, unsigned tid)
{
	const struct triple shared = shared_expert(a);
	struct moe *f = moe_of(a);

	if (a->routes && is_joined(a, tid)) /* the device has them all */
		return;
	for (unsigned i = 0;; i++) {
		struct round *r = &f->rounds[i % 2], *next = &f->rounds[(i + 1) % 2];
		bool last;

		if (i == 0 && has_shared(a))
			triple_down(a, &shared, NULL, f->partial + f->n_used * f->n_embd,
				    f->n_ranks * f->n_embd, tid);
		experts_hidden(a, r, tid);
		team_barrier(a->team, tid);
		last = experts_down(a, r, tid);
		if (a->routes) { /* a device's calls are one thread's */
			team_barrier(a->team, tid);
			last = team_once(a->team, tid);
		}
		if (last)
			split(a, next, tid);
		team_barrier(a->team, tid);
		if (is_joined(a, tid))
			return;
	}
}

static void forward(const struct block_args *a, unsigned tid)
{
	const struct triple shared = shared_expert(a);

	if (a->routes)
		take_routes(a, tid);
	else
		route(a, tid);
	if (looks_ahead(a)) {
		moe_look_ahead(a, tid);
		if (team_once(a->team, tid))
			begin_rounds(a, tid);
	}
	if (has_shared(a))
		triple_hidden(a, &shared, tid);
	team_barrier(a->team, tid);
	join(a, tid);
	if (!a->routes)
		reduce(a, tid);
}

const struct block_ops block_moe = {
	.name = "moe",
	.owner = OWNER_MOE,
	.buffers_size = sizeof(struct moe),
	.lay_out = moe_lay_out,
	.input = input,
	.forward = forward,
};
