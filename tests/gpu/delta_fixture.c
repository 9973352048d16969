/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/delta_fixture.c: see delta_fixture.h. Embedding, norm and projections from the file's
 * own weights (dequantised, products in f32), then convolution, norms, gates, recurrence and
 * output as daemon/engine/deltanet.c orders them, through the same table of CPU kernels.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fops.h"
#include "kernels/quant.h"
#include "model/gguf.h"
#include "model/model.h"
#include "tests/gpu/delta_fixture.h"

#define L2_EPS 1e-6f
#define TAPS   4

struct maker {
	struct model *m;
	const struct cpu_ops *ops;
	const struct float_ops *f;
	struct delta_fixture *out;
};

static float *floats(size_t n)
{
	float *p = calloc(n, sizeof(*p));

	if (!p)
		abort();
	return p;
}

/* Rows [first, first + n) of a weight, dequantised. */
static float *rows_of(const struct maker *k, const struct weight *w, uint64_t first, uint64_t n)
{
	float *to = floats(n * w->n_in);
	void *row = malloc(w->row_bytes);
	uint64_t at = 0;

	assert(w->n_runs && first + n <= w->n_out && row);
	for (uint32_t r = 0; r < w->n_runs; at += w->runs[r++].rows)
		for (uint64_t i = 0; i < w->runs[r].rows; i++) {
			int fd = gguf_file(k->m->gguf, w->runs[r].file)->fd;

			if (at + i < first || at + i >= first + n)
				continue;
			if (pread(fd, row, w->row_bytes,
				  (off_t)(w->runs[r].offset + i * w->row_bytes)) !=
			    (ssize_t)w->row_bytes)
				abort();
			k->ops->dequantize(w->type, row, to + (at + i - first) * w->n_in, w->n_in);
		}
	free(row);
	return to;
}

static float *whole(const struct maker *k, const struct weight *w)
{
	return rows_of(k, w, 0, w->n_out);
}

/* x [tokens][n_in] -> [tokens][n_out] */
static float *project(const struct maker *k, const struct weight *w, const float *x, size_t tokens)
{
	float *rows = whole(k, w), *y = floats(tokens * w->n_out);

	for (size_t t = 0; t < tokens; t++)
		for (size_t r = 0; r < w->n_out; r++)
			y[t * w->n_out + r] =
				k->f->dot(rows + r * w->n_in, x + t * w->n_in, w->n_in);
	free(rows);
	return y;
}

static void project_all(const struct maker *k, const uint32_t *tokens)
{
	const struct layer *l = &k->m->layers[0];
	struct delta_fixture *o = k->out;
	const size_t d = k->m->n_embd;
	float *x = floats(o->tokens * d), *norm = whole(k, &l->w[ROLE_ATTN_NORM]);

	for (size_t t = 0; t < o->tokens; t++) {
		float *row = rows_of(k, &k->m->w[ROLE_TOKEN_EMBD], tokens[t], 1);

		k->f->rmsnorm(row, norm, d, k->m->rms_eps, x + t * d);
		free(row);
	}
	o->u = project(k, &l->w[ROLE_SSM_QKV], x, o->tokens);
	o->z = project(k, &l->w[ROLE_SSM_Z], x, o->tokens);
	o->alpha = project(k, &l->w[ROLE_SSM_ALPHA], x, o->tokens);
	o->beta = project(k, &l->w[ROLE_SSM_BETA], x, o->tokens);
	o->conv = whole(k, &l->w[ROLE_SSM_CONV]);
	o->a = whole(k, &l->w[ROLE_SSM_A]);
	o->dt = whole(k, &l->w[ROLE_SSM_DT]);
	o->norm = whole(k, &l->w[ROLE_SSM_NORM]);
	free(norm);
	free(x);
}

static void convolve(const struct maker *k)
{
	struct delta_fixture *o = k->out;
	float *zeros = floats(o->channels);

	o->convolved = floats(o->tokens * o->channels);
	for (size_t t = 0; t < o->tokens; t++) {
		const float *rows[TAPS];

		for (size_t m = 0; m < TAPS; m++)
			rows[m] = t + m < TAPS - 1 ? zeros
						   : o->u + (t + m - (TAPS - 1)) * o->channels;
		k->f->conv_silu(rows, o->conv, TAPS, 0, o->channels,
				o->convolved + t * o->channels);
	}
	free(zeros);
}

static void prepare(const struct maker *k, float *kq)
{
	struct delta_fixture *o = k->out;
	const float scale = (float)(1.0 / sqrt((double)o->dim));

	o->prepared = floats(o->tokens * o->channels);
	memcpy(o->prepared, o->convolved, o->tokens * o->channels * sizeof(float));
	o->gate = floats(o->tokens * o->v_heads);
	o->decay = floats(o->tokens * o->v_heads);
	o->write = floats(o->tokens * o->v_heads);
	for (size_t t = 0; t < o->tokens; t++) {
		float *q = o->prepared + t * o->channels, *key = q + o->k_heads * o->dim;

		for (size_t h = 0; h < o->k_heads; h++, q += o->dim, key += o->dim) {
			k->f->l2norm(q, o->dim, L2_EPS, scale, q);
			k->f->l2norm(key, o->dim, L2_EPS, 1.0f, key);
			kq[t * o->k_heads + h] = k->f->dot(key, q, o->dim);
		}
		for (size_t h = 0; h < o->v_heads; h++) {
			const size_t i = t * o->v_heads + h;
			const float x = o->alpha[i] + o->dt[h];

			o->gate[i] = o->a[h] * (x > 20.0f ? x : log1pf(expf(x)));
			o->decay[i] = expf(o->gate[i]);
			o->write[i] = 1.0f / (1.0f + expf(-o->beta[i]));
		}
	}
}

static void recur(const struct maker *k, const float *kq)
{
	struct delta_fixture *o = k->out;
	const size_t dim = o->dim, k_all = o->k_heads * dim, wide = o->v_heads * dim;
	float *strip = floats(dim * DELTA_LANES);

	o->o = floats(o->tokens * wide);
	o->state = floats(wide * dim);
	for (size_t at = 0; at < wide; at += DELTA_LANES) {
		const size_t v = at / dim, lane = at % dim;
		const size_t kh = o->grouped ? v / (o->v_heads / o->k_heads) : v % o->k_heads;
		const struct delta_args args = {
			.strip = strip,
			.dim = dim,
			.n_tokens = o->tokens,
			.q = o->prepared + kh * dim,
			.k = o->prepared + k_all + kh * dim,
			.v = o->prepared + 2 * k_all + at,
			.ld = o->channels,
			.decay = o->decay + v,
			.beta = o->write + v,
			.ld_gate = o->v_heads,
			.kq = kq + kh,
			.ld_kq = o->k_heads,
			.o = o->o + at,
			.ld_o = wide,
		};

		memset(strip, 0, dim * DELTA_LANES * sizeof(float));
		k->f->delta(&args);
		for (size_t i = 0; i < dim; i++)
			memcpy(o->state + (v * dim + i) * dim + lane, strip + i * DELTA_LANES,
			       DELTA_LANES * sizeof(float));
	}
	free(strip);
}

static void finish(const struct maker *k)
{
	struct delta_fixture *o = k->out;
	const size_t count = o->tokens * o->v_heads * o->dim;

	o->out = floats(count);
	for (size_t i = 0; i < count; i += o->dim)
		k->f->rmsnorm(o->o + i, o->norm, o->dim, o->eps, o->out + i);
	k->f->silu_mul(o->z, o->out, o->out, count);
}

static void best_level(struct maker *k)
{
	for (int level = CPU_SCALAR; level < CPU_LEVEL_NR; level++) {
		if (!cpu_level_available((enum cpu_level)level))
			continue;
		k->ops = cpu_ops_get((enum cpu_level)level);
		k->f = float_ops_get((enum cpu_level)level);
	}
}

int delta_fixture_make(const char *path, const uint32_t *tokens, size_t n,
		       struct delta_fixture **ret)
{
	struct maker k = { 0 };
	struct err err = { "" };
	int rc = model_open(path, &k.m, &err);
	float *kq;

	if (rc) {
		fprintf(stderr, "%s\n", err.text);
		return rc;
	}
	if (!layer_has(&k.m->layers[0], BLOCK_DELTANET) || k.m->ssm_conv_kernel != TAPS) {
		fprintf(stderr, "%s: layer 0 is not gated DeltaNet\n", path);
		model_destroy(k.m);
		return -EINVAL;
	}
	best_level(&k);
	k.out = calloc(1, sizeof(*k.out));
	assert(k.out && k.ops && k.f);
	k.out->k_heads = k.m->ssm_k_heads;
	k.out->v_heads = k.m->ssm_v_heads;
	k.out->dim = k.m->ssm_head_dim;
	k.out->channels = (2 * k.out->k_heads + k.out->v_heads) * k.out->dim;
	k.out->tokens = n;
	k.out->grouped = !k.m->ssm_v_tiled;
	k.out->eps = k.m->rms_eps;
	kq = floats(n * k.out->k_heads);
	project_all(&k, tokens);
	convolve(&k);
	prepare(&k, kq);
	recur(&k, kq);
	finish(&k);
	free(kq);
	model_destroy(k.m);
	*ret = k.out;
	return 0;
}

void delta_fixture_free(struct delta_fixture *f)
{
	if (!f)
		return;
	float *all[] = { f->u,	   f->z,    f->alpha,	  f->beta,     f->conv, f->a,
			 f->dt,	   f->norm, f->convolved, f->prepared, f->gate, f->decay,
			 f->write, f->o,    f->out,	  f->state };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		free(all[i]);
	free(f);
}
