/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_avx512.c: float_ops for AVX-512. See fops.h.
 *
 * Element-wise functions treat every element alike (the tail is a masked vector of the same
 * operations). Sums have four vectors of partial sums filled in turn, 64 elements a round, what
 * remains goes to the first, and then one fixed tree: the order depends on n alone.
 */
#include <immintrin.h>
#include <math.h>

#include "kernels/cpu/float_impl.h"
#include "kernels/cpu/float_vec_avx512.h"
#include "kernels/cpu/whole_avx512.h"

/* The mask of the elements that are left, at most a vector of them. */
static inline __mmask16 head(size_t left)
{
	return vhead(left < 16 ? left : 16);
}

static float dot(const float *a, const float *b, size_t n)
{
	__m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
	size_t i = 0;

	for (; i + 64 <= n; i += 64) {
		s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
		s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
		s2 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
		s3 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
	}
	for (; i < n; i += 16) {
		__mmask16 m = head(n - i);

		s0 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i),
				     _mm512_maskz_loadu_ps(m, b + i), s0);
	}
	return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

static void rmsnorm(const float *x, const float *w, size_t n, float eps, float *out)
{
	float factor = scale_or_nan(1.0f / sqrtf(dot(x, x, n) / (float)n + eps));
	__m512 scale = _mm512_set1_ps(factor);

	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = head(n - i);
		__m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), scale);

		if (w)
			v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, w + i));
		_mm512_mask_storeu_ps(out + i, m, v);
	}
}

static void add(const float *x, float *y, size_t n)
{
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = head(n - i);
		__m512 v = _mm512_maskz_loadu_ps(m, y + i);

		_mm512_mask_storeu_ps(y + i, m, _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, x + i)));
	}
}

static void axpy(float a, const float *x, float *y, size_t n)
{
	__m512 va = _mm512_set1_ps(a);

	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = head(n - i);
		__m512 v = _mm512_maskz_loadu_ps(m, y + i);

		v = _mm512_fmadd_ps(va, _mm512_maskz_loadu_ps(m, x + i), v);
		_mm512_mask_storeu_ps(y + i, m, v);
	}
}

static void scale(float a, const float *x, float *out, size_t n)
{
	__m512 va = _mm512_set1_ps(a);

	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = head(n - i);

		_mm512_mask_storeu_ps(out + i, m,
				      _mm512_mul_ps(va, _mm512_maskz_loadu_ps(m, x + i)));
	}
}

static void silu_mul(const float *gate, const float *up, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = head(n - i);
		__m512 g = _mm512_maskz_loadu_ps(m, gate + i);
		__m512 u = _mm512_maskz_loadu_ps(m, up + i);

		_mm512_mask_storeu_ps(out + i, m, _mm512_mul_ps(vsigmoid_mul(g, g), u));
	}
}

static void sigmoid_mul(const float *x, const float *gate, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = head(n - i);
		__m512 g = vf_finite_or_nan(_mm512_maskz_loadu_ps(m, gate + i));

		_mm512_mask_storeu_ps(out + i, m, vsigmoid_mul(g, _mm512_maskz_loadu_ps(m, x + i)));
	}
}

static void softmax(float *x, size_t n)
{
	__m512 max = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();

	for (size_t i = 0; i < n; i += 16)
		max = _mm512_mask_max_ps(max, head(n - i), max,
					 _mm512_maskz_loadu_ps(head(n - i), x + i));
	max = _mm512_set1_ps(_mm512_reduce_max_ps(max));
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = head(n - i);
		__m512 v = vexp(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), max));

		sum = _mm512_mask_add_ps(sum, m, sum, v);
		_mm512_mask_storeu_ps(x + i, m, v);
	}
	scale(1.0f / _mm512_reduce_add_ps(sum), x, x, n);
}

#include "kernels/cpu/float_glu.h"
#include "kernels/cpu/attend_whole.h"
#include "kernels/cpu/float_delta.h"

const struct float_ops float_ops_avx512 = {
	.level = CPU_AVX512,
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
