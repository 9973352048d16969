/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_vec_avx512.h: vector functions shared by the float_*_avx512.c files.
 *
 * vexp: exp(x) by x = n ln2 + r, |r| <= ln2/2, a minimax polynomial of degree 6 and one exponent
 * add. Error below 1.5 ulp (tests/unit/kernels/test_float.c measures it); below -87 the result is
 * 0, since subnormal results cost the CPU a trap of some hundred cycles; NaN stays NaN.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_VEC_AVX512_H
#define SLUICE_KERNELS_CPU_FLOAT_VEC_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/law.h"

static inline __m512 vexp(__m512 x)
{
	const __m512 lowest = _mm512_set1_ps(LAW_EXP_LOW);
	__mmask16 keep = _mm512_cmp_ps_mask(x, lowest, _CMP_NLT_UQ);
	__m512 n, r, p;

	/* the second operand comes out where either is NaN */
	x = _mm512_max_ps(lowest, x);
	x = _mm512_min_ps(_mm512_set1_ps(LAW_EXP_HIGH), x);
	n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(LAW_EXP_LOG2E)), 8);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LAW_EXP_LN2_TOP), x);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LAW_EXP_LN2_LOW), r);
	p = _mm512_set1_ps(LAW_EXP_C6);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(LAW_EXP_C5));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(LAW_EXP_C4));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(LAW_EXP_C3));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(LAW_EXP_C2));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	return _mm512_maskz_scalef_ps(keep, p, n);
}

/* 1 / (1 + exp(-x)), times y */
static inline __m512 vsigmoid_mul(__m512 x, __m512 y)
{
	__m512 one = _mm512_set1_ps(1.0f);
	__m512 e = vexp(_mm512_xor_ps(x, _mm512_set1_ps(-0.0f)));

	return _mm512_div_ps(y, _mm512_add_ps(one, e));
}

/* The mask of the first @n lanes, n <= 16. */
static inline __mmask16 vhead(size_t n)
{
	return (__mmask16)((1u << n) - 1);
}

/* The names that float_soften.h and float_delta.h are written in. */
typedef __m512 vf;
#define VL 16 /* lanes */

static inline vf vf_zero(void)
{
	return _mm512_setzero_ps();
}

static inline vf vf_set1(float x)
{
	return _mm512_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline void vf_store(float *p, vf v)
{
	_mm512_storeu_ps(p, v);
}

/* The first min(n, VL) lanes; the others are 0. */
static inline vf vf_load_n(const float *p, size_t n)
{
	return _mm512_maskz_loadu_ps(vhead(n < VL ? n : VL), p);
}

static inline void vf_store_n(float *p, vf v, size_t n)
{
	_mm512_mask_storeu_ps(p, vhead(n < VL ? n : VL), v);
}

static inline vf vf_add(vf a, vf b)
{
	return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
	return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
	return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
	return _mm512_div_ps(a, b);
}

static inline vf vf_max(vf a, vf b)
{
	return _mm512_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
	return _mm512_min_ps(a, b);
}

/* a b + c */
static inline vf vf_fma(vf a, vf b, vf c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* c - a b */
static inline vf vf_fnma(vf a, vf b, vf c)
{
	return _mm512_fnmadd_ps(a, b, c);
}

static inline vf vf_exp(vf x)
{
	return vexp(x);
}

static inline vf vf_silu(vf x)
{
	return vsigmoid_mul(x, x);
}

static inline float vf_sum(vf v)
{
	return _mm512_reduce_add_ps(v);
}

static inline float vf_highest(vf v)
{
	return _mm512_reduce_max_ps(v);
}

/* The first min(n, VL) lanes of @v, @fill in the others. */
static inline vf vf_keep_n(vf v, size_t n, float fill)
{
	return _mm512_mask_mov_ps(_mm512_set1_ps(fill), vhead(n < VL ? n : VL), v);
}

/* The lanes that are finite as they are, NaN in the others. */
static inline vf vf_finite_or_nan(vf v)
{
	__m512i bits = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
	__mmask16 none = _mm512_cmpgt_epi32_mask(bits, _mm512_set1_epi32(0x7f7fffff));

	return _mm512_mask_mov_ps(v, none, _mm512_set1_ps(NAN));
}

/* @a where |x| < limit, @b elsewhere */
static inline vf vf_if_small(vf x, float limit, vf a, vf b)
{
	__mmask16 small = _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(limit), _CMP_LT_OQ);

	return _mm512_mask_mov_ps(b, small, a);
}

/* sigmoid(x) * y */
static inline vf vf_sigmoid_mul(vf x, vf y)
{
	return vsigmoid_mul(x, y);
}

/* VL halves */
static inline vf vf_load_half(const uint8_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline void vf_store_half(uint16_t *p, vf v)
{
	_mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

/* VL signed bytes */
static inline vf vf_load_int8(const uint8_t *p)
{
	__m128i bytes = _mm_loadu_si128((const __m128i *)p);

	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* w: VL channels of four taps each -> taps[m] = tap m of every channel */
static inline void vf_taps4(const float *w, vf taps[4])
{
	const __m512i low = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
	vf a = vf_load(w), b = vf_load(w + 16), c = vf_load(w + 32), d = vf_load(w + 48);

	for (int m = 0; m < 4; m++) {
		__m512i index = _mm512_add_epi32(low, _mm512_set1_epi32(m));

		taps[m] = _mm512_shuffle_f32x4(_mm512_permutex2var_ps(a, index, b),
					       _mm512_permutex2var_ps(c, index, d), 0x44);
	}
}

#endif
