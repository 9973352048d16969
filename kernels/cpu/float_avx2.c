/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_avx2.c: float_ops for AVX2 with FMA. See fops.h.
 *
 * Element-wise functions treat every element alike (the tail is a masked vector of the same
 * operations). Sums have four vectors of partial sums filled in turn, 32 elements a round, what
 * remains goes to the first, and then one fixed tree: the order depends on n alone.
 */
#include <immintrin.h>
#include <math.h>

#include "kernels/cpu/float_impl.h"
#include "kernels/cpu/float_vec_avx2.h"
#include "kernels/cpu/whole_avx2.h"

static float dot(const float *a, const float *b, size_t n)
{
	__m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
		s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
		s2 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), s2);
		s3 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), s3);
	}
	for (; i < n; i += 8)
		s0 = _mm256_fmadd_ps(vf_load_n(a + i, n - i), vf_load_n(b + i, n - i), s0);
	return vsum(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

static void rmsnorm(const float *x, const float *w, size_t n, float eps, float *out)
{
	float factor = scale_or_nan(1.0f / sqrtf(dot(x, x, n) / (float)n + eps));
	__m256 scale = _mm256_set1_ps(factor);

	for (size_t i = 0; i < n; i += 8) {
		__m256 v = _mm256_mul_ps(vf_load_n(x + i, n - i), scale);

		if (w)
			v = _mm256_mul_ps(v, vf_load_n(w + i, n - i));
		vf_store_n(out + i, v, n - i);
	}
}

static void add(const float *x, float *y, size_t n)
{
	for (size_t i = 0; i < n; i += 8) {
		__m256 v = vf_load_n(y + i, n - i);

		vf_store_n(y + i, _mm256_add_ps(v, vf_load_n(x + i, n - i)), n - i);
	}
}

static void axpy(float a, const float *x, float *y, size_t n)
{
	__m256 va = _mm256_set1_ps(a);

	for (size_t i = 0; i < n; i += 8) {
		__m256 v = vf_load_n(y + i, n - i);

		v = _mm256_fmadd_ps(va, vf_load_n(x + i, n - i), v);
		vf_store_n(y + i, v, n - i);
	}
}

static void scale(float a, const float *x, float *out, size_t n)
{
	__m256 va = _mm256_set1_ps(a);

	for (size_t i = 0; i < n; i += 8)
		vf_store_n(out + i, _mm256_mul_ps(va, vf_load_n(x + i, n - i)), n - i);
}

static void silu_mul(const float *gate, const float *up, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 8) {
		__m256 g = vf_load_n(gate + i, n - i);
		__m256 u = vf_load_n(up + i, n - i);

		vf_store_n(out + i, _mm256_mul_ps(vsigmoid_mul(g, g), u), n - i);
	}
}

static void sigmoid_mul(const float *x, const float *gate, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 8) {
		__m256 g = vf_finite_or_nan(vf_load_n(gate + i, n - i));

		vf_store_n(out + i, vsigmoid_mul(g, vf_load_n(x + i, n - i)), n - i);
	}
}

static void softmax(float *x, size_t n)
{
	__m256 lowest = _mm256_set1_ps(-INFINITY), max = lowest, sum = _mm256_setzero_ps();

	for (size_t i = 0; i < n; i += 8) {
		__m256i m = vhead(n - i);
		__m256 v = vf_load_n(x + i, n - i);

		max = _mm256_max_ps(max, _mm256_blendv_ps(lowest, v, _mm256_castsi256_ps(m)));
	}
	max = _mm256_set1_ps(vmax(max));
	for (size_t i = 0; i < n; i += 8) {
		__m256i m = vhead(n - i);
		__m256 v = vexp(_mm256_sub_ps(vf_load_n(x + i, n - i), max));

		sum = _mm256_add_ps(sum, _mm256_and_ps(v, _mm256_castsi256_ps(m)));
		vf_store_n(x + i, v, n - i);
	}
	scale(1.0f / vsum(sum), x, x, n);
}

#include "kernels/cpu/float_glu.h"
#include "kernels/cpu/attend_whole.h"
#include "kernels/cpu/float_delta.h"

const struct float_ops float_ops_avx2 = {
	.level = CPU_AVX2,
	.rmsnorm = rmsnorm,
	.add = add,
	.axpy = axpy,
	.scale = scale,
	.silu_mul = silu_mul,
	.glu = glu,
	.softcap = softcap,
	.sigmoid_mul = sigmoid_mul,
	.softmax = softmax,
	.dot = dot,
	.l2norm = l2norm,
	.rope = rope,
	.conv_silu = conv_silu,
	.kv_store = kv_store,
	.kv_store_k = kv_store_k,
	.kv_store_v = kv_store_v,
	.attend_query = attend_query,
	.attend = attend,
	.attend_merge = attend_merge,
	.delta = delta,
};
