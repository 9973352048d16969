/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/fops.h: float arithmetic of a token beside the weight products, one table per level.
 *
 * Formulas: docs/models.md 2.4. The promise of cpu.h holds here too: a level never differs from
 * itself, whatever the batch. exp() inside is within 1.5 ulp, and may be 0 below -87. Where a name
 * says nothing else, a sum's order depends on n alone, an element's value on its own inputs alone.
 * What is not a finite number stays one: a function that would squash an infinity or a NaN (a
 * sigmoid's argument, a norm, a value of the cache) gives NaN, so that it reaches the logits of its
 * own token, where the engine sees it. No other token's values are touched.
 * All functions are reentrant and allocate nothing; pointers need no alignment unless said.
 */
#ifndef SLUICE_KERNELS_CPU_FOPS_H
#define SLUICE_KERNELS_CPU_FOPS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/kv_block.h"

/*
 * What stands between the first two products of a feed-forward triple and the third; docs/models.md.
 * gate and up are the two products, out may be either.
 */
enum glu {
	GLU_SILU,    /* silu(gate) * up */
	GLU_CLAMPED, /* g sigmoid(1.702 g) (u + 1), g = min(gate, 7), u = up held to [-7, 7] */
	GLU_GELU,    /* gelu(gate) * up, the form with tanh */
	GLU_RELU2,   /* max(up, 0)^2; gate is not read and may be NULL */
	GLU_NR,
};

/*
 * Query rows of one KV head against one block of its cache, positions [first, n_valid) of the block.
 * Online softmax: m is the largest score so far, l the sum of exp(score - m), acc the sum of
 * exp(score - m) * value; they start at -inf, 0 and 0. What a row gets does not depend on the
 * other rows of the call nor on the cache's content outside these positions (which is read).
 * Keys have head_dim dimensions, values value_dim (0: as many); both multiples of kv_granule().
 */
struct attend_args {
	enum kv_type type;
	size_t head_dim, value_dim;
	const void *k, *v;
	const void *next_k; /* K that this thread takes next, fetched ahead; NULL: none */
	unsigned first;	    /* < n_valid */
	unsigned n_valid;   /* 1 .. KV_BLOCK */
	size_t rows;
	const float *q; /* [rows][head_dim], scaled, as attend_query() left them */
	float *m, *l;	/* [rows] */
	float *acc;	/* [rows][value_dim] */
};

static inline size_t attend_value_dim(const struct attend_args *a)
{
	return a->value_dim ? a->value_dim : a->head_dim;
}

/*
 * Gated delta rule (docs/models.md 2.4) for DELTA_LANES value dimensions of one head, token by token.
 * The state of a head is [dim / DELTA_LANES][dim of the key][DELTA_LANES]: a strip is contiguous
 * and stays in the first cache level while the run's tokens pass over it. Per token:
 *   r = S^T k, p = S^T q (old S); delta = beta (v - decay r); o = decay p + delta (k.q)
 *   S <- decay S + k delta^T
 * which is decay, read, write, then output with the new S, in one pass over S.
 */
#define DELTA_LANES 32

struct delta_args {
	float *strip;	   /* [dim][DELTA_LANES] */
	const float *next; /* strip that this thread takes next, fetched ahead; NULL: none */
	size_t dim;
	size_t n_tokens;
	const float *q, *k, *v; /* token t at + t * ld; v: DELTA_LANES values */
	size_t ld;
	const float *decay, *beta; /* token t at [t * ld_gate] */
	size_t ld_gate;
	const float *kq; /* k.q of token t at [t * ld_kq] */
	size_t ld_kq;
	float *o; /* DELTA_LANES values, token t at + t * ld_o */
	size_t ld_o;
};

struct float_ops {
	enum cpu_level level;

	/* out = x * rsqrt(mean(x^2) + eps) * w (NULL: times 1); out may be x */
	void (*rmsnorm)(const float *x, const float *w, size_t n, float eps, float *out);
	/* y += x */
	void (*add)(const float *x, float *y, size_t n);
	/* y += a * x, one fused multiply-add per element */
	void (*axpy)(float a, const float *x, float *y, size_t n);
	/* out = a * x; out may be x */
	void (*scale)(float a, const float *x, float *out, size_t n);
	/* out = silu(gate) * up, silu(x) = x / (1 + exp(-x)); out may be gate or up */
	void (*silu_mul)(const float *gate, const float *up, float *out, size_t n);
	/* GLU_SILU is silu_mul, the same bits */
	void (*glu)(enum glu kind, const float *gate, const float *up, float *out, size_t n);
	/* out = cap * tanh(x / cap), cap > 0; out may be x */
	void (*softcap)(float cap, const float *x, float *out, size_t n);
	/* out = x * sigmoid(gate); out may be x */
	void (*sigmoid_mul)(const float *x, const float *gate, float *out, size_t n);
	/* x <- exp(x - max) / sum over n; -inf entries become 0 */
	void (*softmax)(float *x, size_t n);
	/* sum of a[i] * b[i] */
	float (*dot)(const float *a, const float *b, size_t n);

	/* out = x * scale / sqrt(sum of x^2 + eps); out may be x */
	void (*l2norm)(const float *x, size_t n, float eps, float scale, float *out);
	/* rotates pairs (x[j], x[j + half]) by the angle whose cosine and sine are given, j < half */
	void (*rope)(float *x, const float *cosine, const float *sine, size_t half);
	/*
	 * out[c] = silu(sum over m < taps of w[c * taps + m] * rows[m][c]) for channels
	 * [first, end); oldest tap first.
	 */
	void (*conv_silu)(const float *const *rows, const float *w, unsigned taps, size_t first,
			  size_t end, float *out);
	/* Writes position @slot < KV_BLOCK of a block of the cache, see kv_block.h. */
	void (*kv_store)(enum kv_type type, size_t head_dim, unsigned slot, const float *k,
			 const float *v, void *k_block, void *v_block);
	/* The same for K or V alone, where they have different dimensions. */
	void (*kv_store_k)(enum kv_type type, size_t dim, unsigned slot, const float *k,
			   void *k_block);
	void (*kv_store_v)(enum kv_type type, size_t dim, unsigned slot, const float *v,
			   void *v_block);
	/* Turns scaled queries, [rows][head_dim], into what attend() of this level reads, in their place. */
	void (*attend_query)(float *q, size_t rows, size_t head_dim);
	void (*attend)(const struct attend_args *a);
	/* (m, l, acc) <- the state of the positions of both; acc has head_dim values */
	void (*attend_merge)(float *m, float *l, float *acc, float m2, float l2, const float *acc2,
			     size_t head_dim);
	void (*delta)(const struct delta_args *a);
};

/* The table of @level; NULL where this CPU cannot run it. */
const struct float_ops *float_ops_get(enum cpu_level level);

#endif
