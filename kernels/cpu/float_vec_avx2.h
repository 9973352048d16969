/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_vec_avx2.h: vector functions shared by the float_*_avx2.c files.
 *
 * vexp: as in float_vec_avx512.h; 2^n is multiplied in as two halves so that
 * n = 128 does not overflow early.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_VEC_AVX2_H
#define SLUICE_KERNELS_CPU_FLOAT_VEC_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/law.h"

/* 2^n for |n| < 127, n given as integers */
static inline __m256 vpow2(__m256i n)
{
	n = _mm256_add_epi32(n, _mm256_set1_epi32(127));
	return _mm256_castsi256_ps(_mm256_slli_epi32(n, 23));
}

static inline __m256 vexp(__m256 x)
{
	const __m256 lowest = _mm256_set1_ps(LAW_EXP_LOW);
	__m256 n, r, p, keep = _mm256_cmp_ps(x, lowest, _CMP_NLT_UQ);
	__m256i i, half;

	/* the second operand comes out where either is NaN */
	x = _mm256_max_ps(lowest, x);
	x = _mm256_min_ps(_mm256_set1_ps(LAW_EXP_HIGH), x);
	n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(LAW_EXP_LOG2E)), 8);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LAW_EXP_LN2_TOP), x);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LAW_EXP_LN2_LOW), r);
	p = _mm256_set1_ps(LAW_EXP_C6);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(LAW_EXP_C5));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(LAW_EXP_C4));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(LAW_EXP_C3));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(LAW_EXP_C2));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	i = _mm256_cvtps_epi32(n);
	half = _mm256_srai_epi32(i, 1);
	p = _mm256_mul_ps(p, vpow2(half));
	p = _mm256_mul_ps(p, vpow2(_mm256_sub_epi32(i, half)));
	return _mm256_and_ps(keep, p);
}

/* 1 / (1 + exp(-x)), times y */
static inline __m256 vsigmoid_mul(__m256 x, __m256 y)
{
	__m256 one = _mm256_set1_ps(1.0f);
	__m256 e = vexp(_mm256_xor_ps(x, _mm256_set1_ps(-0.0f)));

	return _mm256_div_ps(y, _mm256_add_ps(one, e));
}

/* Fixed tree over the eight lanes. */
static inline float vsum(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float vmax(__m256 v)
{
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* The mask of the first @n lanes (all where n >= 8), for maskload and maskstore. */
static inline __m256i vhead(size_t n)
{
	__m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8), lane);
}

/* The names that float_soften.h and float_delta.h are written in. */
typedef __m256 vf;
#define VL 8 /* lanes */

static inline vf vf_zero(void)
{
	return _mm256_setzero_ps();
}

static inline vf vf_set1(float x)
{
	return _mm256_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

static inline void vf_store(float *p, vf v)
{
	_mm256_storeu_ps(p, v);
}

/* The first min(n, VL) lanes; the others are 0. All of them without a mask: a masked store takes some 12 clocks. */
static inline vf vf_load_n(const float *p, size_t n)
{
	return n >= VL ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, vhead(n));
}

static inline void vf_store_n(float *p, vf v, size_t n)
{
	if (n >= VL)
		_mm256_storeu_ps(p, v);
	else
		_mm256_maskstore_ps(p, vhead(n), v);
}

static inline vf vf_add(vf a, vf b)
{
	return _mm256_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
	return _mm256_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
	return _mm256_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
	return _mm256_div_ps(a, b);
}

static inline vf vf_max(vf a, vf b)
{
	return _mm256_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
	return _mm256_min_ps(a, b);
}

/* a b + c */
static inline vf vf_fma(vf a, vf b, vf c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* c - a b */
static inline vf vf_fnma(vf a, vf b, vf c)
{
	return _mm256_fnmadd_ps(a, b, c);
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
	return vsum(v);
}

static inline float vf_highest(vf v)
{
	return vmax(v);
}

/* The first min(n, VL) lanes of @v, @fill in the others. */
static inline vf vf_keep_n(vf v, size_t n, float fill)
{
	return _mm256_blendv_ps(_mm256_set1_ps(fill), v, _mm256_castsi256_ps(vhead(n)));
}

/* The lanes that are finite as they are, NaN in the others. */
static inline vf vf_finite_or_nan(vf v)
{
	__m256i bits = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
	__m256i none = _mm256_cmpgt_epi32(bits, _mm256_set1_epi32(0x7f7fffff));

	return _mm256_or_ps(v, _mm256_castsi256_ps(none));
}

/* @a where |x| < limit, @b elsewhere */
static inline vf vf_if_small(vf x, float limit, vf a, vf b)
{
	vf size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);

	return _mm256_blendv_ps(b, a, _mm256_cmp_ps(size, _mm256_set1_ps(limit), _CMP_LT_OQ));
}

/* sigmoid(x) * y */
static inline vf vf_sigmoid_mul(vf x, vf y)
{
	return vsigmoid_mul(x, y);
}

/* VL halves */
static inline vf vf_load_half(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline void vf_store_half(uint16_t *p, vf v)
{
	_mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

/* VL signed bytes */
static inline vf vf_load_int8(const uint8_t *p)
{
	__m128i bytes = _mm_loadl_epi64((const __m128i *)p);

	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

/* w: VL channels of four taps each -> taps[m] = tap m of every channel */
static inline void vf_taps4(const float *w, vf taps[4])
{
	vf row[4], low01, high01, low23, high23;

	/* row[i]: channels i and i + 4 */
	for (int i = 0; i < 4; i++)
		row[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(w + 4 * i)),
					      _mm_loadu_ps(w + 4 * (i + 4)), 1);
	low01 = _mm256_unpacklo_ps(row[0], row[1]);
	high01 = _mm256_unpackhi_ps(row[0], row[1]);
	low23 = _mm256_unpacklo_ps(row[2], row[3]);
	high23 = _mm256_unpackhi_ps(row[2], row[3]);
	taps[0] = _mm256_shuffle_ps(low01, low23, 0x44);
	taps[1] = _mm256_shuffle_ps(low01, low23, 0xee);
	taps[2] = _mm256_shuffle_ps(high01, high23, 0x44);
	taps[3] = _mm256_shuffle_ps(high01, high23, 0xee);
}

#endif
