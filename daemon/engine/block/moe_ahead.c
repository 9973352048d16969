/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/moe_ahead.c: an early look at the next layer's router (see moe.h and engine/ahead.h).
 *
 * Its input would be the stream after this layer's experts and the next layer's mixer; what there is
 * now is the stream before both. It gets the next layer's norm and goes through the next router: the
 * choice is right for most experts, and its only use is to read ahead.
 */
#include <math.h>

#include "engine/ahead.h"
#include "engine/block/moe.h"
#include "engine/router.h"

/* The norm of what the next layer's router reads; NULL: it has none. */
static const float *next_norm(const struct block_args *a)
{
	const float *own = layer_floats(a->next->weights, ROLE_ROUTER_SCALE);

	return own ? own : layer_floats(a->next->weights, a->next->norm);
}

/* The input as that layer would make it, in the form that its router takes. */
static void make_input(const struct block_args *a, unsigned tid)
{
	struct moe *f = moe_of(a);
	const struct wmat *router = &a->next->weights->w[ROLE_ROUTER];
	bool own = layer_floats(a->next->weights, ROLE_ROUTER_SCALE) != NULL;
	size_t first, end, d = f->n_embd;

	if (team_once(a->team, tid))
		actbuf_describe(&f->ahead_act, router->act, d, a->batch->n_tokens);
	while (team_take_range(a->team, tid, a->batch->n_tokens, 1, &first, &end))
		for (size_t t = first; t < end; t++) {
			float *x = f->ahead_in + t * d;

			a->fops->rmsnorm(a->residual + t * d, next_norm(a), d, a->model->rms_eps,
					 x);
			if (own)
				a->fops->scale(1.0f / sqrtf((float)d), x, x, d);
			a->ops->act_quantize(router->act, x, d,
					     f->ahead_act.data +
						     t * a->ops->act_bytes(router->act, d));
		}
}

static void choose(const struct block_args *a, unsigned tid)
{
	struct moe *f = moe_of(a);
	uint32_t n = ahead_ranks(a->ahead);

	for (uint32_t t = 0; t < a->batch->n_tokens; t++)
		router_select(&a->model->router, f->ahead_logits + (size_t)t * f->n_expert,
			      f->n_expert, n, layer_floats(a->next->weights, ROLE_CHOICE_BIAS),
			      a->lanes[tid].tmp, f->ahead_ids + (size_t)t * n, f->ahead_weights);
	ahead_layer(a->ahead, a->batch, a->next->index, f->ahead_ids);
}

bool moe_looks_ahead(const struct block_args *a)
{
	/* a trace knows without; some routers read what cannot be made here */
	return ahead_ranks(a->ahead) && next_norm(a);
}

void moe_look_ahead(const struct block_args *a, unsigned tid)
{
	struct moe *f = moe_of(a);
	const struct wmat *router = &a->next->weights->w[ROLE_ROUTER];

	make_input(a, tid);
	team_barrier(a->team, tid);
	linear(router, layer_floats(a->next->weights, ROLE_ROUTER_BIAS), &f->ahead_act,
	       a->batch->n_tokens, f->ahead_logits, f->n_expert, a->team, tid, &a->lanes[tid]);
	team_barrier(a->team, tid);
	if (team_once(a->team, tid))
		choose(a, tid);
	team_barrier(a->team, tid); /* supply is one thread's at a time */
}
