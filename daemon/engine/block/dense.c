/* SPDX-License-Identifier: MIT */
/* daemon/engine/block/dense.c: the dense feed-forward block, and see dense.h. */
#include "engine/block/dense.h"

#include "engine/activation.h"

void triple_carve(struct triple_buffers *t, struct carver *c, const struct block_config *config,
		  size_t width)
{
	t->gate = carve_floats(c, config->max_tokens * width);
	t->up = carve_floats(c, config->max_tokens * width);
	actbuf_carve(&t->hidden, c, config->ops, width, config->max_tokens);
}

void triple_input(const struct block_args *a, unsigned tid, enum role gate, enum role up,
		  unsigned *done)
{
	if (a->weights->w[gate].data)
		block_input(a, tid, a->weights->w[gate].act, done);
	block_input(a, tid, a->weights->w[up].act, done);
}

void triple_run(const struct block_args *a, struct triple_buffers *t, enum role gate, enum role up,
		enum role down, float *y, size_t ldy, unsigned tid)
{
	const struct wmat *g = &a->weights->w[gate], *u = &a->weights->w[up];
	const struct wmat *d = &a->weights->w[down];
	size_t n_tokens = a->batch->n_tokens, n_ff = d->n_in, first, end;
	struct lane *lane = &a->lanes[tid];

	if (g->data)
		linear_then(g, u, NULL, &a->in[g->act], n_tokens, t->gate, n_ff, a->team, tid,
			    lane);
	linear(u, NULL, &a->in[u->act], n_tokens, t->up, n_ff, a->team, tid, lane);
	team_barrier(a->team, tid);
	while (team_take_range(a->team, tid, n_tokens * n_ff, 256, &first, &end))
		activate(a->model->activation, a->fops, t->gate + first, t->up + first,
			 t->gate + first, end - first);
	team_barrier(a->team, tid);
	actbuf_quantize(&t->hidden, a->team, tid, d->act, t->gate, n_ff, n_ff, n_tokens);
	team_barrier(a->team, tid);
	linear(d, NULL, &t->hidden, n_tokens, y, ldy, a->team, tid, lane);
}

static void lay_out(const struct block_config *c, void *buffers, struct carver *kept,
		    struct carver *shared)
{
	triple_carve(buffers, shared, c, c->model->n_ff);
}

static void forward(const struct block_args *a, unsigned tid)
{
	unsigned done = 0;

	triple_input(a, tid, ROLE_FFN_GATE, ROLE_FFN_UP, &done);
	team_barrier(a->team, tid);
	triple_run(a, a->buffers, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN, a->y, a->model->n_embd,
		   tid);
}

const struct block_ops block_dense = {
	.name = "dense",
	.owner = OWNER_DENSE,
	.buffers_size = sizeof(struct triple_buffers),
	.lay_out = lay_out,
	.forward = forward,
};
