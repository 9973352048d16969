/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/step.c: see step.h. A step walks the blocks of all layers (step_layers.c), from the rows
 * of the embedding to the output matrix: logits = output RMS(x). One parallel region per step.
 */
#include "engine/step_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "engine/router.h"

/* The longest vector that any product takes: scratch is sized for it. */
static size_t longest_input(const struct model *m)
{
	uint64_t n = u64_max(m->n_embd, m->n_ff_expert);

	n = u64_max(n, m->w[ROLE_MTP_PROJ].n_in);

	for (uint32_t i = 0; i < m->n_layers; i++)
		for (unsigned role = 0; role < ROLE_NR; role++)
			if (m->layers[i].w[role].n_runs)
				n = u64_max(n, m->layers[i].w[role].n_in);
	return align_up(n, 256);
}

/* What blocks use of a lane beside products: heads, sums, the router's probabilities. */
static size_t lane_floats(const struct model *m)
{
	return u64_max(u64_max(4096, longest_input(m)), ROUTER_SCRATCH(m->n_expert));
}

static void carve_lanes(struct decoder *d, struct carver *c)
{
	size_t scratch = d->c.ops->matmul_scratch_bytes(longest_input(d->c.model));
	size_t tmp = lane_floats(d->c.model), columns = d->c.max_tokens;

	d->lanes = carve(c, d->n_lanes, sizeof(*d->lanes));
	for (unsigned i = 0; i < d->n_lanes; i++) {
		struct lane l = { .scratch = carve(c, 1, scratch),
				  .y = carve(c, columns, sizeof(*l.y)),
				  .x = carve(c, columns, sizeof(*l.x)),
				  .tmp = carve_floats(c, tmp),
				  .tmp_floats = tmp };

		if (c->base)
			d->lanes[i] = l;
	}
}

/* How many results can wait to be added: the most blocks in a row but the last that are open. */
static unsigned most_waiting(const struct model *m)
{
	unsigned most = 1;

	for (uint32_t i = 0; i < m->n_layers; i++)
		for (uint32_t k = 0, open = 1; k < m->layers[i].n_blocks; k++) {
			open = m->layers[i].blocks[k].open ? open + 1 : 1;
			most = open > most ? open : most;
		}
	return most;
}

static bool is_head(const struct decoder *d)
{
	return d->c.model->w[ROLE_MTP_PROJ].n_runs;
}

static void lay_out(struct decoder *d, struct carver *c)
{
	size_t tokens = d->c.max_tokens;

	carve_lanes(d, c);
	d->x = carve_floats(c, tokens * d->n_embd);
	d->norm = carve_floats(c, tokens * d->n_embd);
	for (unsigned i = 0; i < most_waiting(d->c.model); i++)
		d->y[i] = carve_floats(c, tokens * d->n_embd);
	if (d->c.keep_hidden)
		d->hidden = carve_floats(c, tokens * d->n_embd);
	if (is_head(d)) {
		d->pair = carve_floats(c, 2 * tokens * d->n_embd);
		actbuf_carve(&d->pair_act, c, d->c.ops, 2 * d->n_embd, tokens);
	}
	d->next = carve(c, d->c.model->n_layers, sizeof(*d->next));
	d->columns = carve(c, tokens, sizeof(*d->columns));
	d->runs = carve(c, d->c.device ? tokens : 0, sizeof(*d->runs));
	d->logits = carve_floats(c, (size_t)d->c.max_logits * d->n_vocab);
	actbuf_carve(&d->head, c, d->c.ops, d->n_embd, d->c.max_logits);
	d->capped = carve(c, div_ceil(d->n_vocab, HEAD_ROWS), sizeof(*d->capped));
}

static struct block_config blocks_of(const struct decoder_config *c, unsigned n_threads)
{
	return (struct block_config){ .model = c->model,
				      .ops = c->ops,
				      .fops = c->fops,
				      .max_tokens = c->max_tokens,
				      .n_threads = n_threads,
				      .team = c->team,
				      .supply = c->supply,
				      .split = c->split };
}

/* For each layer the one with experts that comes after it. */
static void find_next(struct decoder *d)
{
	const struct model *m = d->c.model;
	struct block_next next = { 0 };

	for (uint32_t i = m->n_layers; d->c.ahead && i-- > 0;) {
		d->next[i] = next;
		for (uint32_t k = 0; k < m->layers[i].n_blocks; k++)
			if (m->layers[i].blocks[k].kind == BLOCK_MOE)
				next = (struct block_next){ .index = i,
							    .norm = m->layers[i].blocks[k].norm,
							    .weights = &d->c.weights->layers[i] };
	}
}

int decoder_create(const struct decoder_config *config, struct decoder **ret, struct err *err)
{
	struct decoder *d = calloc(1, sizeof(*d));
	struct block_config blocks = blocks_of(config, team_size(config->team));
	struct carver c = { 0 };
	int rc = -ENOMEM;

	if (!d)
		return err_set(err, rc, "no memory for the decoder");
	d->c = *config;
	d->n_embd = config->model->n_embd;
	d->n_vocab = config->model->n_vocab;
	d->n_lanes = team_size(config->team);
	lay_out(d, &c);
	d->memory = calloc(1, c.used + 64);
	if (!d->memory)
		goto out_fail;
	c = (struct carver){ .base = (uint8_t *)align_up((uintptr_t)d->memory, 64) };
	lay_out(d, &c);
	find_next(d);
	if (config->device) /* its calls are tid 0's, and the others wait for them */
		team_wait_for_all(config->team);
	rc = blocks_create(&blocks, &d->blocks, err);
	if (rc)
		goto out_fail;
	*ret = d;
	return 0;
out_fail:
	decoder_destroy(d);
	return err_set(err, rc, "no memory for the decoder's buffers");
}

void decoder_destroy(struct decoder *d)
{
	if (!d)
		return;
	blocks_destroy(d->blocks);
	free(d->memory);
	free(d);
}

uint64_t decoder_scratch_bytes(const struct decoder_config *config, unsigned n_threads)
{
	struct decoder d = { .c = *config,
			     .n_embd = config->model->n_embd,
			     .n_vocab = config->model->n_vocab,
			     .n_lanes = n_threads };
	struct block_config blocks = blocks_of(config, n_threads);
	struct carver c = { 0 };

	lay_out(&d, &c);
	return c.used + blocks_scratch_bytes(&blocks);
}

void step_embed(struct decoder *d, float *to, size_t first, size_t end)
{
	const struct wmat *w = &d->c.weights->model.w[ROLE_TOKEN_EMBD];
	float scale = d->c.model->embd_scale;

	for (size_t t = first; t < end; t++) {
		float *x = to + t * d->n_embd;

		d->c.ops->dequantize(w->type, w->data + d->batch->tokens[t] * w->row_bytes, x,
				     d->n_embd);
		if (scale != 1)
			d->c.fops->scale(scale, x, x, d->n_embd);
	}
}

/* A group of rows of the output matrix for the wanted tokens [at, at + n). */
struct head {
	struct decoder *d;
	uint32_t at, n;
};

/* logits <- cap tanh(logits / cap), where the model has that; who does the last hands them out. */
static void finish_logits(const void *arg, unsigned tid, size_t group)
{
	const struct head *h = arg;
	struct decoder *d = h->d;
	size_t first = group * HEAD_ROWS, n = u64_min(HEAD_ROWS, d->n_vocab - first);

	for (size_t i = 0; d->c.model->logit_softcap > 0 && i < h->n; i++) {
		float *y = d->logits + i * d->n_vocab + first;

		d->c.fops->softcap(d->c.model->logit_softcap, y, y, n);
	}
	if (team_last(&d->all_capped, 1, div_ceil(d->n_vocab, HEAD_ROWS)))
		d->fn(d->arg, d->columns + h->at, h->n, d->logits, d->n_vocab);
}

/* The output matrix for the wanted tokens, some at a time. */
static void run_head(struct decoder *d, unsigned tid)
{
	const struct wmat *w = &d->c.weights->model.w[ROLE_OUTPUT];
	const float *norm = layer_floats(&d->c.weights->model, ROLE_OUTPUT_NORM);
	size_t n = d->n_embd, bytes = d->c.ops->act_bytes(w->act, n), first, end;
	struct team *team = d->c.team;

	for (uint32_t at = 0; at < d->n_columns; at += d->c.max_logits) {
		const struct head h = { d, at,
					(uint32_t)u64_min(d->n_columns - at, d->c.max_logits) };
		const struct groups rows = { d->capped, HEAD_ROWS, 1, finish_logits, &h };

		if (team_once(team, tid))
			actbuf_describe(&d->head, w->act, n, h.n);
		while (team_take_range(team, tid, h.n, 1, &first, &end))
			for (size_t i = first; i < end; i++) {
				d->c.fops->rmsnorm(d->x + d->columns[at + i] * n, norm, n,
						   d->c.model->rms_eps, d->norm + i * n);
				d->c.ops->act_quantize(w->act, d->norm + i * n, n,
						       d->head.data + i * bytes);
			}
		team_barrier(team, tid);
		linear_then(w, NULL, &rows, NULL, &d->head, h.n, d->logits, d->n_vocab, team, tid,
			    &d->lanes[tid]);
		team_barrier(team, tid);
	}
}

/* x = product of [norm(embedding), norm(hidden)]: what a prediction head's layer begins with. */
static void mix(struct decoder *d, unsigned tid)
{
	const struct layer_weights *w = &d->c.weights->model;
	const struct wmat *proj = &w->w[ROLE_MTP_PROJ];
	size_t n = d->n_embd, tokens = d->batch->n_tokens, first, end;
	size_t bytes = d->c.ops->act_bytes(proj->act, 2 * n);

	if (team_once(d->c.team, tid))
		actbuf_describe(&d->pair_act, proj->act, 2 * n, tokens);
	while (team_take_range(d->c.team, tid, tokens, 1, &first, &end))
		for (size_t t = first; t < end; t++) {
			float *pair = d->pair + 2 * t * n;

			d->c.fops->rmsnorm(d->x + t * n, layer_floats(w, ROLE_MTP_EMBD_NORM), n,
					   d->c.model->rms_eps, pair);
			d->c.fops->rmsnorm(d->batch->hidden[t],
					   layer_floats(w, ROLE_MTP_HIDDEN_NORM), n,
					   d->c.model->rms_eps, pair + n);
			d->c.ops->act_quantize(proj->act, pair, 2 * n,
					       d->pair_act.data + t * bytes);
		}
	team_barrier(d->c.team, tid);
	linear(proj, NULL, &d->pair_act, tokens, d->x, n, d->c.team, tid, &d->lanes[tid]);
	team_barrier(d->c.team, tid);
}

const float *decoder_hidden(const struct decoder *d, uint32_t column)
{
	return d->hidden + (size_t)column * d->n_embd;
}

static void run_step(void *arg, unsigned tid)
{
	struct decoder *d = arg;
	size_t first, end;

	while (team_take_range(d->c.team, tid, d->batch->n_tokens, 1, &first, &end))
		step_embed(d, d->x, first, end);
	team_barrier(d->c.team, tid);
	if (is_head(d))
		mix(d, tid);
	if (step_layers(d, tid))
		run_head(d, tid);
}

int decoder_step(struct decoder *d, const struct batch *batch, uint64_t step,
		 decoder_logits_fn logits, void *arg, int *token_error)
{
	uint64_t began;

	d->batch = batch;
	d->step = step;
	d->fn = logits;
	d->arg = arg;
	d->token_error = token_error;
	d->n_columns = 0;
	d->given_up = false;
	for (uint32_t t = 0; t < batch->n_tokens; t++) {
		token_error[t] = 0;
		if (batch->want_logits[t])
			d->columns[d->n_columns++] = t;
	}
	err_clear(&d->device_err);
	d->device_rc = d->c.on_begin ? d->c.on_begin(d->c.arg, batch->n_tokens, &d->device_err) : 0;
	d->ahead = d->c.ahead && ahead_begin(d->c.ahead, batch) ? d->c.ahead : NULL;
	began = now_ns();
	team_expect(d->c.team, d->c.device ? step_device_wait(d) : 0);
	team_run(d->c.team, d->c.device ? step_run_device : run_step, d);
	if (d->c.ahead)
		ahead_end(d->c.ahead, batch, now_ns() - began, d->given_up);
	if (d->given_up)
		return -ECANCELED;
	for (uint32_t t = 0; t < batch->n_tokens && d->device_rc; t++)
		token_error[t] = -EIO;
	for (uint32_t i = 0; i < batch->n_runs; i++)
		seq_advance(batch->runs[i].seq, batch->runs[i].count);
	return 0;
}

static void run_replay(void *arg, unsigned tid)
{
	struct decoder *d = arg;

	for (uint32_t i = 0; i < d->c.model->n_layers; i++) {
		const struct layer *l = &d->c.model->layers[i];
		struct block_args args = { .layer_index = i, .layer = l, .batch = d->batch };

		for (uint32_t k = 0; k < l->n_blocks; k++)
			if (block_table[l->blocks[k].kind]->replay)
				block_replay(d->blocks, l->blocks[k].kind, &args, tid);
		/* a phase has room for the units of a layer, not of all */
		team_barrier(d->c.team, tid);
	}
}

void decoder_replay(struct decoder *d, const struct batch_run *run)
{
	struct batch_run alone = {
		.seq = run->seq, .pos = run->pos, .replay = run->replay, .store = run->store
	};
	struct batch batch = { .n_runs = 1, .runs = &alone };

	if (!run->replay)
		return;
	d->batch = &batch;
	team_run(d->c.team, run_replay, d);
	d->batch = NULL;
}

void decoder_get_locality(const struct decoder *d, uint64_t *ret_local, uint64_t *ret_remote)
{
	blocks_get_locality(d->blocks, ret_local, ret_remote);
}

void decoder_get_routed(const struct decoder *d, uint64_t *ret_ns, uint64_t *ret_experts)
{
	blocks_get_routed(d->blocks, ret_ns, ret_experts);
}
