/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/deltanet.c: gated DeltaNet, token by token in prompts and decode alike.
 *
 * Formulas: docs/models.md 2.4 (gated DeltaNet); the recurrence is in deltanet_recur.c. The recurrent
 * form costs a few per cent of a token and makes any cut of a prompt give the same bits. Stages, a
 * barrier between them:
 *   beta, alpha, q k v, z projections; gates, convolution and norms of q and k, a head at a time |
 *   recurrence; norm, gate and quantise, some heads at a time | output projection
 * Heads of the convolution and strips of S in the recurrence are given out; whoever has one takes
 * it through all tokens of a run. State is taken as zero where a run starts at position 0.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "engine/block/deltanet.h"

#define L2_EPS	      1e-6f
#define CONV_MAX_TAPS 16

static int remembers(const struct model *m, const struct layer *l, enum kv_type type,
		     struct kv_need *ret, struct err *err)
{
	if (m->ssm_head_dim % DELTA_LANES)
		return err_set(err, -ENOTSUP,
			       "DeltaNet heads need a multiple of %d dimensions, this model has %u",
			       DELTA_LANES, m->ssm_head_dim);
	if (!m->ssm_k_heads || m->ssm_v_heads % m->ssm_k_heads)
		return err_set(err, -ENOTSUP,
			       "%u DeltaNet value heads do not share %u key heads evenly",
			       m->ssm_v_heads, m->ssm_k_heads);
	if (m->ssm_conv_kernel < 1 || m->ssm_conv_kernel > CONV_MAX_TAPS)
		return err_set(err, -ENOTSUP, "a convolution of %u taps, at most %d are possible",
			       m->ssm_conv_kernel, CONV_MAX_TAPS);
	ret->floats = delta_window_floats(m) + delta_sizes(m).v_all * m->ssm_head_dim;
	return 0;
}

static void lay_out(const struct block_config *c, void *buffers, struct carver *kept,
		    struct carver *shared)
{
	const struct delta_sizes s = delta_sizes(c->model);
	struct delta_buffers *b = buffers;
	size_t tokens = c->max_tokens;

	b->max_tokens = c->max_tokens;
	b->n_threads = c->n_threads;
	b->zeros = carve_floats(kept, s.channels);
	b->strips = carve_floats(kept, c->n_threads * delta_strip_room(c->model));
	b->convolved = carve(kept, 2 * s.k_heads + s.v_heads, sizeof(*b->convolved));
	b->paired = carve(kept, s.k_heads, sizeof(*b->paired));
	b->beta_done = carve(kept, s.v_heads, sizeof(*b->beta_done));
	b->decay_done = carve(kept, s.v_heads, sizeof(*b->decay_done));
	b->recurred = carve(kept, s.v_heads, sizeof(*b->recurred));
	b->u = carve_floats(shared, tokens * s.channels);
	b->c = carve_floats(shared, tokens * s.channels);
	b->z = carve_floats(shared, tokens * s.v_all);
	b->o = carve_floats(shared, tokens * s.v_all);
	b->beta = carve_floats(shared, tokens * s.v_heads);
	b->decay = carve_floats(shared, tokens * s.v_heads);
	b->kq = carve_floats(shared, tokens * s.k_heads);
	actbuf_carve(&b->out, shared, c->ops, s.v_all, tokens);
}

/*
 * Row of u that lies @back tokens before token @t of a run; before the run's start that is a kept
 * draft of the run before, then the saved window, and before the sequence's start zero. @t may be
 * UINT32_MAX: the token before the run.
 */
static const float *input_row(const struct block_args *a, const struct batch_run *run, uint32_t t,
			      uint32_t back, const float *window, size_t channels)
{
	uint32_t kept = a->model->ssm_conv_kernel - 1, before;

	if (t != UINT32_MAX && back <= t)
		return delta_buffers(a)->u + (size_t)(run->first + t - back) * channels;
	if (run->pos == 0)
		return delta_buffers(a)->zeros;
	before = back - t; /* 1: the last token before the run */
	if (before <= run->replay)
		return delta_draft(a, run, run->replay - before).u;
	return window + (size_t)(kept - (before - run->replay)) * channels;
}

/* The window after the last token that is no draft, for the next run: channels [first, end). */
static void move_window(const struct block_args *a, const struct batch_run *run, size_t first,
			size_t end)
{
	uint32_t taps = a->model->ssm_conv_kernel, last = run->count - run->drafted - 1;
	size_t channels = delta_sizes(a->model).channels;
	float *window = seq_floats(run->seq, a->layer_index);

	/* ascending: a row that comes from the window itself comes from further on in it */
	for (uint32_t m = 0; m + 1 < taps; m++) {
		const float *row = input_row(a, run, last, taps - 2 - m, window, channels);

		memcpy(window + m * channels + first, row + first, (end - first) * sizeof(*row));
	}
}

/* Channels [first, end): convolution of every token of a run, then the window for the next run. */
static void convolve(const struct block_args *a, const struct batch_run *run, size_t first,
		     size_t end)
{
	uint32_t taps = a->model->ssm_conv_kernel;
	size_t channels = delta_sizes(a->model).channels;
	float *window = seq_floats(run->seq, a->layer_index);
	const float *rows[CONV_MAX_TAPS];

	for (uint32_t t = 0; t < run->count; t++) {
		for (uint32_t m = 0; m < taps; m++)
			rows[m] = input_row(a, run, t, taps - 1 - m, window, channels);
		a->fops->conv_silu(rows, layer_floats(a->weights, ROLE_SSM_CONV), taps, first, end,
				   delta_buffers(a)->c + (run->first + t) * channels);
	}
	move_window(a, run, first, end);
}

/* q or k of a K head: the norm. */
static void norm_key_head(const struct block_args *a, const struct batch_run *run, size_t u)
{
	const struct delta_sizes s = delta_sizes(a->model);
	float scale = u < s.k_heads ? (float)(1.0 / sqrt((double)s.dim)) : 1.0f;

	for (size_t c = run->first; c < run->first + run->count; c++) {
		float *x = delta_buffers(a)->c + c * s.channels + u * s.dim;

		a->fops->l2norm(x, s.dim, L2_EPS, scale, x);
	}
}

/* Products of q and k, for the recurrence. */
static void pair_head(const struct block_args *a, size_t head)
{
	const struct delta_sizes s = delta_sizes(a->model);
	struct delta_buffers *b = delta_buffers(a);

	for (size_t c = 0; c < a->batch->n_tokens; c++) {
		const float *q = b->c + c * s.channels + head * s.dim;

		b->kq[c * s.k_heads + head] = a->fops->dot(q + s.k_all, q, s.dim);
	}
}

/* Head @u of u, the q of all K heads, their k, then V heads: convolved, and what makes it an input of the recurrence. */
static void finish_channels(const void *args, unsigned tid, size_t u)
{
	const struct block_args *a = args;
	const struct delta_sizes s = delta_sizes(a->model);
	struct delta_buffers *b = delta_buffers(a);
	bool key = u < 2 * s.k_heads;

	for (uint32_t i = 0; i < a->batch->n_runs; i++) {
		convolve(a, &a->batch->runs[i], u * s.dim, (u + 1) * s.dim);
		if (key)
			norm_key_head(a, &a->batch->runs[i], u);
	}
	if (key && team_last(&b->paired[u % s.k_heads], 1, 2))
		pair_head(a, u % s.k_heads);
}

/*
 * beta = sigmoid(b); decay = exp(a softplus(alpha + dt)): projections -> factors, one V head. Both
 * would squash an infinity into a factor that looks right: NaN instead.
 */
static void finish_beta(const void *args, unsigned tid, size_t head)
{
	const struct block_args *a = args;

	for (size_t c = 0; c < a->batch->n_tokens; c++) {
		float *beta = &delta_buffers(a)->beta[c * a->model->ssm_v_heads + head];

		*beta = isfinite(*beta) ? 1.0f / (1.0f + expf(-*beta)) : NAN;
	}
}

static void finish_decay(const void *args, unsigned tid, size_t head)
{
	const struct block_args *a = args;
	float dt = layer_floats(a->weights, ROLE_SSM_DT)[head];
	float factor = layer_floats(a->weights, ROLE_SSM_A)[head];

	for (size_t c = 0; c < a->batch->n_tokens; c++) {
		float *decay = &delta_buffers(a)->decay[c * a->model->ssm_v_heads + head];
		float x = *decay + dt, softplus = x > 20.0f ? x : log1pf(expf(x));

		*decay = isfinite(x) && isfinite(factor) ? expf(factor * softplus) : NAN;
	}
}

/* Window and S of each run are brought up to its length; the runs have no tokens. */
static void replay(const struct block_args *a, unsigned tid)
{
	size_t channels = delta_sizes(a->model).channels, first, end;

	while (team_take_range(a->team, tid, channels, 16, &first, &end))
		for (uint32_t i = 0; i < a->batch->n_runs; i++)
			move_window(a, &a->batch->runs[i], first, end);
	delta_recur(a, tid, NULL);
}

/* RMS(o) * SiLU(z), heads [first, end) / dim of a column */
static float *finish_heads(const struct block_args *a, unsigned tid, size_t column, size_t first,
			   size_t end)
{
	const struct delta_sizes s = delta_sizes(a->model);
	const struct delta_buffers *b = delta_buffers(a);
	float *o = b->o + column * s.v_all;

	for (size_t i = first; i < end; i += s.dim)
		a->fops->rmsnorm(o + i, layer_floats(a->weights, ROLE_SSM_NORM), s.dim,
				 a->model->rms_eps, o + i);
	a->fops->silu_mul(b->z + column * s.v_all + first, o + first, o + first, end - first);
	return o;
}

/* A piece of o, of all tokens. */
static void finish_piece(const void *args, unsigned tid, size_t piece)
{
	const struct block_args *a = args;
	const struct delta_sizes s = delta_sizes(a->model);
	size_t size = block_piece(s.v_all, s.dim), first = piece * size;

	for (size_t c = 0; c < a->batch->n_tokens; c++)
		block_make(a, tid, &delta_buffers(a)->out, &a->weights->w[ROLE_SSM_OUT], c, first,
			   u64_min(first + size, s.v_all), finish_heads);
}

static void project(const struct block_args *a, unsigned tid, enum role role, enum role then,
		    const struct groups *groups, float *y)
{
	const struct wmat *w = &a->weights->w[role];

	linear_then(w, then == ROLE_NONE ? NULL : &a->weights->w[then], groups, NULL,
		    &a->in[w->act], a->batch->n_tokens, y, w->n_out, a->team, tid, &a->lanes[tid]);
}

static void input(const struct block_args *a, unsigned tid, size_t t)
{
	static const enum role roles[] = { ROLE_SSM_QKV, ROLE_SSM_Z, ROLE_SSM_BETA,
					   ROLE_SSM_ALPHA };
	unsigned done = 0;

	for (unsigned i = 0; i < ARRAY_LEN(roles); i++)
		block_input(a, a->weights->w[roles[i]].act, t, &done);
}

static void forward(const struct block_args *a, unsigned tid)
{
	const struct delta_sizes s = delta_sizes(a->model);
	const struct wmat *out = &a->weights->w[ROLE_SSM_OUT];
	struct delta_buffers *b = delta_buffers(a);
	const struct groups heads = { b->convolved, s.dim, 1, finish_channels, a };
	const struct groups betas = { b->beta_done, 1, 1, finish_beta, a };
	const struct groups decays = { b->decay_done, 1, 1, finish_decay, a };
	const struct groups pieces = { b->recurred, block_piece(s.v_all, s.dim) / DELTA_LANES, 1,
				       finish_piece, a };

	assert(a->batch->n_tokens <= b->max_tokens && team_size(a->team) <= b->n_threads);
	if (team_once(a->team, tid))
		actbuf_describe(&b->out, out->act, out->n_in, a->batch->n_tokens);
	project(a, tid, ROLE_SSM_BETA, ROLE_SSM_ALPHA, &betas, b->beta);
	project(a, tid, ROLE_SSM_ALPHA, ROLE_SSM_QKV, &decays, b->decay);
	project(a, tid, ROLE_SSM_QKV, ROLE_SSM_Z, &heads, b->u);
	project(a, tid, ROLE_SSM_Z, ROLE_NONE, NULL, b->z);
	team_barrier(a->team, tid);
	delta_recur(a, tid, &pieces);
	team_barrier(a->team, tid);
	delta_keep_drafts(a, tid);
	block_output(a, tid, &b->out, out, NULL);
}

const struct block_ops block_deltanet = {
	.name = "deltanet",
	.owner = OWNER_DELTANET,
	.buffers_size = sizeof(struct delta_buffers),
	.lay_out = lay_out,
	.remembers = remembers,
	.input = input,
	.forward = forward,
	.draft_floats = delta_draft_floats,
	.replay = replay,
};
