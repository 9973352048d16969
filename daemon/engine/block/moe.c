/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/moe.c: order of work of a mixture of experts (see moe.h). What one thread does
 * between, with supply, is in moe_rounds.c, the products of the experts in moe_experts.c.
 *
 * Stages: route (the experts of each token) -> post (one thread groups tokens by expert and lets supply
 * post the reads) -> the shared expert while they run -> join: rounds of what is ready, until all have
 * been handed out; what lands meanwhile is the next round -> reduce in rank order. With few tokens and
 * all experts present that is in four phases: router, and hidden values of the shared expert; the rest
 * of it, and hidden values of the others; the rest of those; reduce. Who does the last of the router
 * posts, who does the last of a round splits off the next.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "engine/block/moe.h"
#include "engine/router.h"

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

static bool looks_ahead(const struct block_args *a)
{
	return a->next && moe_looks_ahead(a);
}

/* Every token has chosen. */
static void finish_routes(const struct block_args *a)
{
	moe_post(a);
	if (!looks_ahead(a)) /* else what is read for the next layer comes first */
		moe_first_round(a);
}

static void finish_router(const void *args, unsigned tid, size_t group)
{
	const struct block_args *a = args;

	for (size_t t = 0; t < a->batch->n_tokens; t++)
		choose(a, t, a->lanes[tid].tmp);
	finish_routes(a);
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
			finish_routes(a);
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
		moe_post(a);
		moe_next_round(a, &f->rounds[0], tid); /* nothing is done meanwhile */
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
			moe_next_round(a, next, tid);
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
			moe_first_round(a);
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
