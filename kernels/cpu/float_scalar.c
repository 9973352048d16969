/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_scalar.c: float_ops in plain C, the reference of the other levels, and the
 * choice of the table. See fops.h. Sums run in double and are rounded once.
 */
#include "kernels/cpu/fops.h"

#include <math.h>

#include "kernels/cpu/float_impl.h"

static void rmsnorm(const float *x, const float *w, size_t n, float eps, float *out)
{
	double sum = 0.0;
	float scale;

	for (size_t i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	scale = (float)(1.0 / sqrt(sum / (double)n + (double)eps));
	for (size_t i = 0; i < n; i++)
		out[i] = x[i] * scale * w[i];
}

static void add(const float *x, float *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

static void axpy(float a, const float *x, float *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = fmaf(a, x[i], y[i]);
}

static void scale(float a, const float *x, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = a * x[i];
}

static float silu(float x)
{
	return x / (1.0f + expf(-x));
}

static void silu_mul(const float *gate, const float *up, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = silu(gate[i]) * up[i];
}

static void sigmoid_mul(const float *x, const float *gate, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = x[i] / (1.0f + expf(-gate[i]));
}

static float max_of(const float *x, size_t n)
{
	float max = -INFINITY;

	for (size_t i = 0; i < n; i++)
		max = x[i] > max ? x[i] : max;
	return max;
}

static void softmax(float *x, size_t n)
{
	float max = max_of(x, n), inverse;
	double sum = 0.0;

	for (size_t i = 0; i < n; i++) {
		x[i] = expf(x[i] - max);
		sum += (double)x[i];
	}
	inverse = (float)(1.0 / sum);
	for (size_t i = 0; i < n; i++)
		x[i] *= inverse;
}

static float dot(const float *a, const float *b, size_t n)
{
	double sum = 0.0;

	for (size_t i = 0; i < n; i++)
		sum += (double)a[i] * b[i];
	return (float)sum;
}

static const struct float_ops table = {
	.level = CPU_SCALAR,
	.rmsnorm = rmsnorm,
	.add = add,
	.axpy = axpy,
	.scale = scale,
	.silu_mul = silu_mul,
	.sigmoid_mul = sigmoid_mul,
	.softmax = softmax,
	.dot = dot,
};

const struct float_ops *float_ops_get(enum cpu_level level)
{
	if (!cpu_level_available(level))
		return NULL;
	switch (level) {
	case CPU_SCALAR:
		return &table;
#if defined(__x86_64__)
	case CPU_AVX2:
		return &float_ops_avx2;
	case CPU_AVX512:
		return &float_ops_avx512;
#endif
	default:
		return NULL;
	}
}
