/* SPDX-License-Identifier: MIT */
/* daemon/engine/block/dense.c: the dense feed-forward block, and see dense.h. */
#include "engine/block/dense.h"

#include "base/num.h"
#include "engine/activation.h"

#define PIECE 256 /* hidden values: a whole block of every quantised form */

void triple_carve(struct triple_buffers *t, struct carver *kept, struct carver *shared,
		  const struct block_config *config, size_t width)
{
	t->done = carve(kept, div_ceil(width, PIECE), sizeof(*t->done));
	t->gate = carve_floats(shared, config->max_tokens * width);
	t->up = carve_floats(shared, config->max_tokens * width);
	actbuf_carve(&t->hidden, shared, config->ops, width, config->max_tokens);
}

void triple_input(const struct block_args *a, const struct triple *t, size_t token, unsigned *done)
{
	if (a->weights->w[t->gate].data)
		block_input(a, a->weights->w[t->gate].act, token, done);
	block_input(a, a->weights->w[t->up].act, token, done);
}

/* Hidden values of a column from @first on, a piece of them. */
static void activate_piece(const struct block_args *a, const struct triple *t, size_t column,
			   size_t first)
{
	const struct wmat *d = &a->weights->w[t->down];
	const struct triple_buffers *b = t->buffers;
	size_t n = u64_min(PIECE, d->n_in - first);
	float *gate = b->gate + column * d->n_in;

	activate(a->model->activation, a->fops, gate + first, b->up + column * d->n_in + first,
		 gate + first, n);
	a->ops->act_quantize_part(d->act, gate, d->n_in,
				  b->hidden.data + column * a->ops->act_bytes(d->act, d->n_in),
				  first, n);
}

struct pieces {
	const struct block_args *a;
	const struct triple *t;
};

static void finish_piece(const void *arg, unsigned tid, size_t piece)
{
	const struct pieces *p = arg;

	for (size_t c = 0; c < p->a->batch->n_tokens; c++)
		activate_piece(p->a, p->t, c, piece * PIECE);
}

void triple_hidden(const struct block_args *a, const struct triple *t, unsigned tid)
{
	const struct wmat *g = &a->weights->w[t->gate], *u = &a->weights->w[t->up];
	const struct wmat *d = &a->weights->w[t->down];
	struct triple_buffers *b = t->buffers;
	size_t n_tokens = a->batch->n_tokens, n_ff = d->n_in, per = div_ceil(n_ff, PIECE), first,
	       end;
	const struct pieces arg = { a, t };
	const struct groups pieces = { b->done, PIECE, g->data ? 2 : 1, finish_piece, &arg };
	const struct groups *after = block_few(a->batch) ? &pieces : NULL;
	struct lane *lane = &a->lanes[tid];

	if (team_once(a->team, tid))
		actbuf_describe(&b->hidden, d->act, n_ff, n_tokens);
	if (g->data)
		linear_then(g, u, after, NULL, &a->in[g->act], n_tokens, b->gate, n_ff, a->team,
			    tid, lane);
	linear_then(u, NULL, after, NULL, &a->in[u->act], n_tokens, b->up, n_ff, a->team, tid,
		    lane);
	if (after)
		return;
	team_barrier(a->team, tid);
	while (team_take_range(a->team, tid, n_tokens * per, 1, &first, &end))
		for (size_t i = first; i < end; i++)
			activate_piece(a, t, i / per, i % per * PIECE);
}

void triple_down(const struct block_args *a, const struct triple *t, const struct groups *end,
		 float *y, size_t ldy, unsigned tid)
{
	linear_then(&a->weights->w[t->down], NULL, end, NULL, &t->buffers->hidden,
		    a->batch->n_tokens, y, ldy, a->team, tid, &a->lanes[tid]);
}

static void lay_out(const struct block_config *c, void *buffers, struct carver *kept,
		    struct carver *shared)
{
	triple_carve(buffers, kept, shared, c, c->model->n_ff);
}

static struct triple triple_of(const struct block_args *a)
{
	return (struct triple){ a->buffers, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN };
}

static void input(const struct block_args *a, unsigned tid, size_t token)
{
	const struct triple t = triple_of(a);
	unsigned done = 0;

	triple_input(a, &t, token, &done);
}

static void forward(const struct block_args *a, unsigned tid)
{
	const struct triple t = triple_of(a);

	triple_hidden(a, &t, tid);
	team_barrier(a->team, tid);
	triple_down(a, &t, a->end, a->y, a->model->n_embd, tid);
}

const struct block_ops block_dense = {
	.name = "dense",
	.owner = OWNER_DENSE,
	.buffers_size = sizeof(struct triple_buffers),
	.lay_out = lay_out,
	.input = input,
	.forward = forward,
};
