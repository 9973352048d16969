/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/step.c: see step.h. The layer loop of docs/models.md 2.4:
 * a = RMS(x; attn_norm); x += mixer(a); f = RMS(x; ffn_norm); x += FFN(f); logits = output RMS(x).
 * One parallel region per step; between parts there are only barriers.
 */
#include "engine/step.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

struct decoder {
	struct decoder_config c;
	struct ffn *ffn;
	struct mixer_scratch *mixer_scratch;
	struct lane *lanes;
	unsigned n_lanes;
	size_t n_embd, n_vocab;
	float *x;     /* [max_tokens][n_embd] residual stream */
	float *norm;  /* [max_tokens][n_embd] */
	float *mixed; /* [max_tokens][n_embd] */
	struct actbuf head;
	float *logits;	   /* [max_logits][n_vocab] */
	uint32_t *columns; /* tokens whose logits are wanted */

	/* the step that runs */
	const struct batch *batch;
	uint64_t step;
	decoder_logits_fn fn;
	void *arg;
	int *token_error;
	uint32_t n_columns;
};

static void free_lanes(struct decoder *d)
{
	for (unsigned i = 0; d->lanes && i < d->n_lanes; i++) {
		free(d->lanes[i].scratch);
		free(d->lanes[i].y);
		free(d->lanes[i].x);
		free(d->lanes[i].tmp);
	}
	free(d->lanes);
}

/* The longest vector that any product takes: scratch is sized for it. */
static size_t longest_input(const struct model *m)
{
	uint64_t n = u64_max(m->n_embd, u64_max(m->n_ff, u64_max(m->n_ff_expert, m->n_ff_shared)));

	n = u64_max(n, (uint64_t)m->attention.n_head * m->attention.head_dim);
	n = u64_max(n, (uint64_t)m->ssm_v_heads * m->ssm_head_dim);
	return align_up(n, 256);
}

static int create_lanes(struct decoder *d)
{
	size_t scratch = d->c.ops->matmul_scratch_bytes(longest_input(d->c.model));
	size_t tmp = u64_max(4096, longest_input(d->c.model));
	size_t columns = d->c.max_tokens;

	d->n_lanes = team_size(d->c.team);
	d->lanes = calloc(d->n_lanes, sizeof(*d->lanes));
	if (!d->lanes)
		return -ENOMEM;
	for (unsigned i = 0; i < d->n_lanes; i++) {
		struct lane *l = &d->lanes[i];

		l->scratch = aligned_alloc(64, align_up(scratch + 1, 64));
		l->y = calloc(columns, sizeof(*l->y));
		l->x = calloc(columns, sizeof(*l->x));
		l->tmp = aligned_alloc(64, align_up(tmp * sizeof(float), 64));
		l->tmp_floats = tmp;
		if (!l->scratch || !l->y || !l->x || !l->tmp)
			return -ENOMEM;
	}
	return 0;
}

static float *matrix(size_t rows, size_t columns)
{
	return aligned_alloc(64, align_up(rows * columns * sizeof(float), 64));
}

int decoder_create(const struct decoder_config *config, struct decoder **ret, struct err *err)
{
	const struct model *m = config->model;
	struct ffn_config fc = { .model = m,
				 .ops = config->ops,
				 .fops = config->fops,
				 .team = config->team,
				 .supply = config->supply,
				 .split = config->split,
				 .max_tokens = config->max_tokens };
	struct decoder *d = calloc(1, sizeof(*d));
	int rc = -ENOMEM;

	if (!d)
		return err_set(err, rc, "no memory for the decoder");
	d->c = *config;
	d->n_embd = m->n_embd;
	d->n_vocab = m->n_vocab;
	d->x = matrix(config->max_tokens, d->n_embd);
	d->norm = matrix(config->max_tokens, d->n_embd);
	d->mixed = matrix(config->max_tokens, d->n_embd);
	d->logits = matrix(config->max_logits, d->n_vocab);
	d->columns = calloc(config->max_tokens, sizeof(*d->columns));
	if (!d->x || !d->norm || !d->mixed || !d->logits || !d->columns || create_lanes(d))
		goto out_fail;
	if (actbuf_init(&d->head, config->ops, d->n_embd, config->max_logits))
		goto out_fail;
	fc.lanes = d->lanes;
	rc = ffn_create(&fc, &d->ffn);
	if (rc)
		goto out_fail;
	rc = mixer_scratch_create(m, config->ops, config->max_tokens, d->n_lanes, &d->mixer_scratch,
				  err);
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
	mixer_scratch_destroy(d->mixer_scratch);
	ffn_destroy(d->ffn);
	actbuf_fini(&d->head);
	free_lanes(d);
	free(d->x);
	free(d->norm);
	free(d->mixed);
	free(d->logits);
	free(d->columns);
	free(d);
}

static void embed(struct decoder *d, size_t first, size_t end)
{
	const struct wmat *w = &d->c.weights->model.w[ROLE_TOKEN_EMBD];

	for (size_t t = first; t < end; t++)
		d->c.ops->dequantize(w->type, w->data + d->batch->tokens[t] * w->row_bytes,
				     d->x + t * d->n_embd, d->n_embd);
}

/* x += add (where given), norm = RMS(x; weight), for this thread's share of the tokens. */
static void add_norm(struct decoder *d, const float *add, const float *weight, unsigned tid)
{
	size_t first, end, n = d->n_embd;

	team_share(d->batch->n_tokens, 1, tid, d->n_lanes, &first, &end);
	for (size_t t = first; t < end; t++) {
		if (add)
			d->c.fops->add(add + t * n, d->x + t * n, n);
		d->c.fops->rmsnorm(d->x + t * n, weight, n, d->c.model->rms_eps, d->norm + t * n);
	}
}

static void run_layer(struct decoder *d, uint32_t i, unsigned tid)
{
	const struct layer *layer = &d->c.model->layers[i];
	const struct layer_weights *w = &d->c.weights->layers[i];
	const struct mixer_args mix = { .model = d->c.model,
					.layer = layer,
					.layer_index = i,
					.weights = w,
					.batch = d->batch,
					.x = d->norm,
					.y = d->mixed,
					.ops = d->c.ops,
					.fops = d->c.fops,
					.team = d->c.team,
					.lanes = d->lanes,
					.scratch = d->mixer_scratch };
	const struct ffn_args ffn = { .layer_index = i,
				      .layer = layer,
				      .weights = w,
				      .batch = d->batch,
				      .in = d->norm,
				      .out = d->x,
				      .step = d->step,
				      .trace = d->c.trace,
				      .token_error = d->token_error };

	add_norm(d, NULL, layer_floats(w, ROLE_ATTN_NORM), tid);
	team_barrier(d->c.team);
	if (layer_has(layer, BLOCK_ATTENTION))
		attention_forward(&mix, tid);
	else
		deltanet_forward(&mix, tid);
	team_barrier(d->c.team);
	add_norm(d, d->mixed, layer_floats(w, ROLE_FFN_NORM), tid);
	team_barrier(d->c.team);
	ffn_forward(d->ffn, &ffn, tid);
	team_barrier(d->c.team);
}

/* The output matrix for the wanted tokens, a group at a time. */
static void run_head(struct decoder *d, unsigned tid)
{
	const struct wmat *w = &d->c.weights->model.w[ROLE_OUTPUT];
	struct team *team = d->c.team;
	size_t n = d->n_embd, first, end;

	for (uint32_t at = 0; at < d->n_columns; at += d->c.max_logits) {
		uint32_t group = (uint32_t)u64_min(d->n_columns - at, d->c.max_logits);

		team_share(group, 1, tid, d->n_lanes, &first, &end);
		for (size_t i = first; i < end; i++)
			d->c.fops->rmsnorm(d->x + d->columns[at + i] * n,
					   layer_floats(&d->c.weights->model, ROLE_OUTPUT_NORM), n,
					   d->c.model->rms_eps, d->norm + i * n);
		team_barrier(team);
		actbuf_quantize(&d->head, team, tid, w->act, d->norm, n, n, group);
		team_barrier(team);
		linear(w, &d->head, group, d->logits, d->n_vocab, team, tid, &d->lanes[tid]);
		team_barrier(team);
		if (tid == 0)
			d->fn(d->arg, d->columns + at, group, d->logits, d->n_vocab);
		team_barrier(team);
	}
}

static void run_step(void *arg, unsigned tid)
{
	struct decoder *d = arg;
	size_t first, end;

	team_share(d->batch->n_tokens, 1, tid, d->n_lanes, &first, &end);
	embed(d, first, end);
	/* no barrier: the first norm reads the same thread's share */
	for (uint32_t i = 0; i < d->c.model->n_layers; i++)
		run_layer(d, i, tid);
	run_head(d, tid);
}

void decoder_step(struct decoder *d, const struct batch *batch, uint64_t step,
		  decoder_logits_fn logits, void *arg, int *token_error)
{
	d->batch = batch;
	d->step = step;
	d->fn = logits;
	d->arg = arg;
	d->token_error = token_error;
	d->n_columns = 0;
	for (uint32_t t = 0; t < batch->n_tokens; t++) {
		token_error[t] = 0;
		if (batch->want_logits[t])
			d->columns[d->n_columns++] = t;
	}
	team_run(d->c.team, run_step, d);
	for (uint32_t i = 0; i < batch->n_runs; i++)
		seq_advance(batch->runs[i].seq, batch->runs[i].count);
}

void decoder_get_locality(const struct decoder *d, uint64_t *ret_local, uint64_t *ret_remote)
{
	ffn_get_locality(d->ffn, ret_local, ret_remote);
}
