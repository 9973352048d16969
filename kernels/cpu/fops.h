/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/fops.h: float arithmetic of a token beside the weight products, one table per level.
 *
 * The promise of cpu.h holds here too: a level never differs from itself, whatever the batch.
 * All functions are reentrant and allocate nothing; pointers need no alignment unless said.
 */
#ifndef SLUICE_KERNELS_CPU_FOPS_H
#define SLUICE_KERNELS_CPU_FOPS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/cpu.h"

struct float_ops {
	enum cpu_level level;

	/* out = x * rsqrt(mean(x^2) + eps) * w; out may be x */
	void (*rmsnorm)(const float *x, const float *w, size_t n, float eps, float *out);
	/* y += x */
	void (*add)(const float *x, float *y, size_t n);
	/* y += a * x, one fused multiply-add per element */
	void (*axpy)(float a, const float *x, float *y, size_t n);
	/* out = a * x; out may be x */
	void (*scale)(float a, const float *x, float *out, size_t n);
	/* out = silu(gate) * up, silu(x) = x / (1 + exp(-x)); out may be gate or up */
	void (*silu_mul)(const float *gate, const float *up, float *out, size_t n);
	/* out = x * sigmoid(gate); out may be x */
	void (*sigmoid_mul)(const float *x, const float *gate, float *out, size_t n);
	/* x <- exp(x - max) / sum over n; -inf entries become 0 */
	void (*softmax)(float *x, size_t n);
	/* sum of a[i] * b[i] */
	float (*dot)(const float *a, const float *b, size_t n);

	/* The mixers' own inner loops follow here (attention over one KV block, DeltaNet step). */
};

const struct float_ops *float_ops_get(enum cpu_level level); /* NULL where not available */

#endif
