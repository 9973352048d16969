/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/engine/mixer_rig.h: a one-layer model with random weights, and running its mixer over
 * several sequences in any cut. Shared by test_attention.c, test_deltanet.c and test_latent.c.
 */
#ifndef SLUICE_TESTS_MIXER_RIG_H
#define SLUICE_TESTS_MIXER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/block/block.h"

#define RIG_MAX_SEQS	5
#define RIG_MAX_WEIGHTS 24

struct rig {
	struct model model;
	struct layer layer;
	struct layer_weights weights;
	void *owned[RIG_MAX_WEIGHTS];
	unsigned n_owned;
	const struct cpu_ops *ops;
	struct seq_pool *pool;
	struct team *team;
	struct blocks *blocks;
	struct lane *lanes;
	uint32_t max_tokens;

	/* of every run of the next steps, as in struct batch_run */
	uint32_t drafted, replay;
	float *store;
};

static uint64_t rig_state = 1;

/* Uniform in [-1, 1). */
static inline float rig_random(void)
{
	rig_state = rig_state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(rig_state >> 40) * 0x1p-23 - 1.0);
}

static inline void *rig_own(struct rig *r, size_t bytes)
{
	void *p = aligned_alloc(64, align_up(bytes, 64));

	assert_non_null(p);
	assert_true(r->n_owned < RIG_MAX_WEIGHTS);
	r->owned[r->n_owned++] = p;
	return p;
}

static inline float *rig_vector(struct rig *r, size_t n, float middle, float spread)
{
	float *x = rig_own(r, n * sizeof(*x));

	for (size_t i = 0; i < n; i++)
		x[i] = middle + spread * rig_random();
	return x;
}

/* The same as a weight of the layer (one row of floats); returns the floats. */
static inline float *rig_floats(struct rig *r, enum role role, size_t n, float middle, float spread)
{
	float *x = rig_vector(r, n, middle, spread);

	r->weights.w[role] = (struct wmat){ .type = QUANT_F32,
					    .n_in = n,
					    .n_out = 1,
					    .row_bytes = n * sizeof(*x),
					    .data = (const uint8_t *)x };
	return x;
}

/* F32 rows, or Q8_0 rows where @type says so; fills the model's description as well. */
static inline void rig_matrix(struct rig *r, enum role role, uint32_t type, size_t n_in,
			      size_t n_out, float spread)
{
	static struct weight_run run;
	struct wmat *w = &r->weights.w[role];
	uint8_t *data;

	*w = (struct wmat){ .type = type,
			    .n_in = n_in,
			    .n_out = n_out,
			    .row_bytes = quant_row_bytes(type, n_in),
			    .act = quant_format(type)->act };
	r->layer.w[role] = (struct weight){
		.type = type, .n_runs = 1, .n_in = n_in, .n_out = n_out, .runs = &run
	};
	data = rig_own(r, w->row_bytes * n_out);
	w->data = data;
	if (type == QUANT_F32) {
		for (size_t i = 0; i < n_in * n_out; i++)
			((float *)data)[i] = spread * rig_random();
		return;
	}
	assert_int_equal(type, QUANT_Q8_0);
	for (size_t i = 0; i < w->row_bytes * n_out; i++) {
		uint16_t scale = f16_from_f32(spread / 127.0f);

		data[i] = i % 34 < 2 ? (uint8_t)(scale >> 8 * (i % 34))
				     : (uint8_t)(int8_t)(rig_random() * 127.0f);
	}
}

static inline void rig_start(struct rig *r, const struct cpu_ops *ops, unsigned threads,
			     uint32_t max_tokens, uint32_t n_ctx, enum kv_type type)
{
	struct err err = { 0 };

	r->model.n_layers = 1;
	r->model.layers = &r->layer;
	r->ops = ops;
	r->max_tokens = max_tokens;
	assert_int_equal(team_create(threads, false, &r->team, &err), 0);
	assert_int_equal(seq_pool_create(&r->model, RIG_MAX_SEQS, n_ctx, 0, type, &r->pool, &err),
			 0);
	assert_int_equal(blocks_create(&(struct block_config){ .model = &r->model,
							       .ops = ops,
							       .fops = float_ops_get(ops->level),
							       .max_tokens = max_tokens,
							       .n_threads = threads,
							       .team = r->team },
				       &r->blocks, &err),
			 0);
	r->lanes = calloc(threads, sizeof(*r->lanes));
	for (unsigned i = 0; i < threads; i++) {
		struct lane *l = &r->lanes[i];

		l->scratch = aligned_alloc(64, align_up(ops->matmul_scratch_bytes(4096) + 1, 64));
		l->y = calloc(max_tokens, sizeof(*l->y));
		l->x = calloc(max_tokens, sizeof(*l->x));
		l->tmp_floats = 4096;
		l->tmp = aligned_alloc(64, l->tmp_floats * sizeof(float));
	}
}

/* Everything but the weights. */
static inline void rig_stop(struct rig *r)
{
	for (unsigned i = 0; i < team_size(r->team); i++) {
		free(r->lanes[i].scratch);
		free(r->lanes[i].y);
		free(r->lanes[i].x);
		free(r->lanes[i].tmp);
	}
	free(r->lanes);
	blocks_destroy(r->blocks);
	seq_pool_destroy(r->pool);
	team_destroy(r->team);
}

static inline void rig_free(struct rig *r)
{
	for (unsigned i = 0; i < r->n_owned; i++)
		free(r->owned[i]);
}

/* Tokens of one sequence in a step: inputs at x, results to y. */
struct rig_part {
	struct seq *seq;
	const float *x;
	float *y;
	uint32_t count;
};

struct rig_call {
	struct rig *rig;
	struct block_args args;
};

static inline void rig_spmd(void *arg, unsigned tid)
{
	const struct rig_call *c = arg;

	block_take_all(c->rig->blocks, c->rig->layer.blocks[0].kind, &c->args, tid);
	block_forward(c->rig->blocks, c->rig->layer.blocks[0].kind, &c->args, tid);
}

/* One step; the sequences advance. */
static inline void rig_step(struct rig *r, const struct rig_part *parts, unsigned n_parts)
{
	struct batch_run runs[RIG_MAX_SEQS];
	struct batch batch = { .runs = runs, .n_runs = n_parts };
	size_t d = r->model.n_embd, at = 0;
	float *x, *y;

	for (unsigned i = 0; i < n_parts; i++) {
		runs[i] = (struct batch_run){ .seq = parts[i].seq,
					      .first = batch.n_tokens,
					      .count = parts[i].count,
					      .pos = seq_len(parts[i].seq) };
		runs[i].drafted = r->drafted;
		runs[i].replay = r->replay;
		runs[i].store = r->store;
		batch.n_drafted += r->drafted;
		batch.n_tokens += parts[i].count;
	}
	assert_true(batch.n_tokens <= r->max_tokens);
	for (unsigned i = 0; i < n_parts; i++)
		assert_int_equal(seq_reserve(parts[i].seq, parts[i].count), 0);
	x = malloc(batch.n_tokens * d * sizeof(*x));
	y = malloc(batch.n_tokens * d * sizeof(*y));
	for (unsigned i = 0; i < n_parts; at += parts[i++].count * d)
		memcpy(x + at, parts[i].x, parts[i].count * d * sizeof(*x));
	team_run(r->team, rig_spmd,
		 &(struct rig_call){ r,
				     { .layer = &r->layer,
				       .weights = &r->weights,
				       .batch = &batch,
				       .x = x,
				       .y = y,
				       .lanes = r->lanes } });
	at = 0;
	for (unsigned i = 0; i < n_parts; at += parts[i++].count * d) {
		memcpy(parts[i].y, y + at, parts[i].count * d * sizeof(*y));
		seq_advance(parts[i].seq, parts[i].count);
	}
	free(x);
	free(y);
}

/*
 * @n tokens of a new sequence, cut into steps of the lengths in @cut (taken round and round, 0 ends
 * the list); with @company another sequence runs beside it in every step.
 */
static inline void rig_sequence(struct rig *r, const float *x, float *y, uint32_t n,
				const uint32_t *cut, const float *company)
{
	struct seq *s = seq_get(r->pool), *other = company ? seq_get(r->pool) : NULL;
	size_t d = r->model.n_embd;
	float *ignored = malloc(8 * d * sizeof(*ignored));

	for (uint32_t t = 0, i = 0; t < n; i++) {
		uint32_t count = cut[i] ? cut[i] : cut[i = 0];
		struct rig_part parts[2];

		count = (uint32_t)u64_min(count, n - t);
		parts[company ? 1 : 0] = (struct rig_part){ s, x + t * d, y + t * d, count };
		/* in front, so that the columns shift */
		if (company)
			parts[0] = (struct rig_part){ other, company, ignored, 1 + i % 3 };
		rig_step(r, parts, company ? 2 : 1);
		t += count;
	}
	free(ignored);
	seq_put(r->pool, s);
	if (other)
		seq_put(r->pool, other);
}

/*
 * The same bits for @n tokens at @x however they are cut, with one to three threads, alone and beside
 * @company (8 tokens), as with one thread and uncut. The rig has its weights and is not started.
 */
static inline void rig_same_bits(struct rig *r, const struct cpu_ops *ops, enum kv_type type,
				 const float *x, const float *company, uint32_t n,
				 const uint32_t (*cuts)[8], unsigned n_cuts)
{
	static const uint32_t whole[] = { UINT32_MAX, 0 };
	size_t bytes = n * r->model.n_embd * sizeof(float);
	float *want = malloc(bytes), *got = malloc(bytes);

	rig_start(r, ops, 1, n + 8, 2 * n, type);
	rig_sequence(r, x, want, n, whole, NULL);
	rig_stop(r);
	for (unsigned threads = 1; threads <= 3; threads++) {
		rig_start(r, ops, threads, n + 8, 4 * n, type);
		for (unsigned c = 0; c < n_cuts; c++) {
			memset(got, 0, bytes);
			rig_sequence(r, x, got, n, cuts[c], c % 2 ? company : NULL);
			assert_memory_equal(got, want, bytes);
		}
		rig_stop(r);
	}
	free(want);
	free(got);
}

/* y = W x in double. */
static inline void rig_product(const struct wmat *w, const double *x, double *y)
{
	float *row = malloc(w->n_in * sizeof(*row));

	for (size_t r = 0; r < w->n_out; r++) {
		cpu_ops_get(CPU_SCALAR)
			->dequantize(w->type, w->data + r * w->row_bytes, row, w->n_in);
		y[r] = 0;
		for (size_t i = 0; i < w->n_in; i++)
			y[r] += (double)row[i] * x[i];
	}
	free(row);
}

static inline void rig_rmsnorm(double *x, const float *w, size_t n, double eps)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (size_t i = 0; i < n; i++)
		x[i] = x[i] / sqrt(sum / (double)n + eps) * (double)w[i];
}

/* The largest difference of @got to the reference, relative to the reference's largest value. */
static inline double rig_difference(const float *got, const double *want, size_t n)
{
	double worst = 0, largest = 0;

	for (size_t i = 0; i < n; i++) {
		/* a NaN must count as the worst */
		if (!(fabs((double)got[i] - want[i]) <= worst))
			worst = isnan(got[i]) ? INFINITY : fabs((double)got[i] - want[i]);
		largest = fmax(largest, fabs(want[i]));
	}
	return worst / largest;
}

/* Calls @test for each level that this machine has. */
static inline void rig_each_level(void (*test)(const struct cpu_ops *ops))
{
	unsigned n = 0;

	for (int level = 0; level < CPU_LEVEL_NR; level++)
		if (cpu_ops_get((enum cpu_level)level)) {
			test(cpu_ops_get((enum cpu_level)level));
			n++;
		}
	assert_true(n >= 1);
}

#endif
