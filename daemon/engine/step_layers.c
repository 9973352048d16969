/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/step_layers.c: the blocks of all layers one after the other (docs/models.md 2.4): each
 * reads the norm of the residual stream x and adds to it.
 *
 * Where blocks meet there is a seam: results are added, and the next block's input is made of the sum.
 * Between blocks there is a barrier, and for many tokens a phase that does this; with few tokens who
 * completes the results does it.
 */
#include "engine/step_private.h"

/* Blocks whose results are added together: [first, last] of a layer. */
struct group {
	const struct layer *layer;
	const struct layer_weights *weights;
	uint32_t first, last;
};

/* x += the group's results with their norms, for one token. */
static void join_token(struct decoder *d, const struct group *g, size_t t)
{
	const struct layer_block *last = &g->layer->blocks[g->last];
	const float *scale = layer_floats(g->weights, ROLE_LAYER_SCALE);
	size_t n = d->n_embd;
	float *sum = d->y[0] + t * n;

	for (uint32_t k = g->first; k <= g->last; k++) {
		enum role norm = g->layer->blocks[k].post_norm;
		float *y = d->y[k - g->first] + t * n;

		if (norm != ROLE_NONE)
			d->c.fops->rmsnorm(y, layer_floats(g->weights, norm), n,
					   d->c.model->rms_eps, y);
		if (k > g->first)
			d->c.fops->add(y, sum, n);
	}
	if (last->sum_norm != ROLE_NONE)
		d->c.fops->rmsnorm(sum, layer_floats(g->weights, last->sum_norm), n,
				   d->c.model->rms_eps, sum);
	d->c.fops->add(sum, d->x + t * n, n);
	if (scale && g->last + 1 == g->layer->n_blocks)
		d->c.fops->scale(*scale, d->x + t * n, d->x + t * n, n);
}

/* By one thread: @n_layers are done; does anybody want the rest? */
static void look_up(struct decoder *d, uint32_t n_layers)
{
	if (n_layers && d->c.on_layer)
		d->c.on_layer(d->c.arg, n_layers);
	if (d->c.given_up && d->c.given_up(d->c.arg))
		atomic_store_explicit(&d->given_up, true, memory_order_relaxed);
}

static bool is_given_up(const struct decoder *d)
{
	return atomic_load_explicit(&d->given_up, memory_order_relaxed);
}

/* Where blocks meet: the results that wait to be added there, and the block whose input comes of it. */
struct seam {
	struct decoder *d;
	struct group waiting;  /* layer NULL: nothing waits */
	uint32_t layer, block; /* that comes next; layer n_layers: the output matrix */
	uint32_t first;	       /* of the blocks of the layer that are added together with it */
};

static struct block_args args_of(const struct seam *s)
{
	struct decoder *d = s->d;
	uint32_t i = s->layer;

	return (struct block_args){ .layer_index = i,
				    .layer = &d->c.model->layers[i],
				    .weights = &d->c.weights->layers[i],
				    .model_weights = &d->c.weights->model,
				    .batch = d->batch,
				    .x = d->norm,
				    .residual = d->x,
				    .y = d->y[s->block - s->first],
				    .lanes = d->lanes,
				    .step = d->step,
				    .trace = d->c.trace,
				    .routed = d->batch->n_drafted ? d->c.routed : NULL,
				    .ahead = d->ahead,
				    .next = d->ahead && d->next[i].weights ? &d->next[i] : NULL,
				    .token_error = d->token_error };
}

static void normed(struct decoder *d, const float *weight, size_t t, float *to)
{
	d->c.fops->rmsnorm(d->x + t * d->n_embd, weight, d->n_embd, d->c.model->rms_eps,
			   to + t * d->n_embd);
}

/* What waits is added for a token, and makes the next block's input. */
static void cross_token(const struct seam *s, unsigned tid, size_t t)
{
	const struct layer_block *b;
	struct decoder *d = s->d;
	struct block_args args;
	const float *norm;

	if (s->waiting.layer)
		join_token(d, &s->waiting, t);
	if (s->layer == d->c.model->n_layers) {
		/* what a prediction head reads: of every token, whether logits are wanted or not */
		if (d->hidden)
			normed(d, layer_floats(&d->c.weights->model, ROLE_OUTPUT_NORM), t,
			       d->hidden);
		return;
	}
	b = &d->c.model->layers[s->layer].blocks[s->block];
	norm = layer_floats(&d->c.weights->layers[s->layer], b->norm);
	if (norm)
		normed(d, norm, t, d->norm);
	args = args_of(s);
	block_take_in(d->blocks, b->kind, &args, tid, t);
}

/* By one thread, for all tokens. */
static void cross_all(const void *seam, unsigned tid, size_t group)
{
	const struct seam *s = seam;

	if (s->block == 0)
		look_up(s->d, s->layer);
	for (size_t t = 0; t < s->d->batch->n_tokens; t++)
		cross_token(s, tid, t);
}

/* SPMD. The same, tokens given out; ends with a barrier. */
static void cross(const struct seam *s, unsigned tid)
{
	struct team *team = s->d->c.team;
	size_t first, end;

	if (team_once(team, tid) && s->block == 0)
		look_up(s->d, s->layer);
	while (team_take_range(team, tid, s->d->batch->n_tokens, 1, &first, &end))
		for (size_t t = first; t < end; t++)
			cross_token(s, tid, t);
	team_barrier(team, tid);
}

/* The seam behind the block that comes next. */
static struct seam seam_behind(const struct seam *s)
{
	const struct layer *layer = &s->d->c.model->layers[s->layer];
	struct seam next = *s;

	next.waiting.layer = NULL;
	next.block++;
	if (!layer->blocks[s->block].open) {
		next.waiting = (struct group){ layer, &s->d->c.weights->layers[s->layer], s->first,
					       s->block };
		next.first = next.block;
	}
	if (next.block == layer->n_blocks) {
		next.layer++;
		next.block = next.first = 0;
	}
	return next;
}

/* From one seam to the next. False, on every thread: the step was given up before this layer. */
static bool run_block(struct decoder *d, struct seam *s, unsigned tid)
{
	const struct seam next = seam_behind(s);
	const struct groups results = { &d->joined, SIZE_MAX, 1, cross_all, &next };
	struct block_args args = args_of(s);

	if (s->block == 0 && is_given_up(d))
		return false;
	if (block_few(d->batch))
		args.end = &results;
	block_forward(d->blocks, args.layer->blocks[s->block].kind, &args, tid);
	team_barrier(d->c.team, tid);
	if (!block_few(d->batch))
		cross(&next, tid);
	*s = next;
	return true;
}

bool step_layers(struct decoder *d, unsigned tid)
{
	struct seam seam = { .d = d };

	cross(&seam, tid);
	while (seam.layer < d->c.model->n_layers)
		if (!run_block(d, &seam, tid))
			return false;
	return !is_given_up(d); /* the last layer may have been left in the middle */
}
