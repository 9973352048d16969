/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_vec_avx2.h: vector functions shared by the float_*_avx2.c files.
 *
 * vexp: as in float_vec_avx512.h; 2^n is multiplied in as two halves so that results in the
 * subnormals come out rounded once and n = 128 does not overflow early. Error below 1.5 ulp.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_VEC_AVX2_H
#define SLUICE_KERNELS_CPU_FLOAT_VEC_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* 2^n for |n| < 127, n given as integers */
static inline __m256 vpow2(__m256i n)
{
	n = _mm256_add_epi32(n, _mm256_set1_epi32(127));
	return _mm256_castsi256_ps(_mm256_slli_epi32(n, 23));
}

static inline __m256 vexp(__m256 x)
{
	__m256 n, r, p;
	__m256i i, half;

	/* the second operand comes out where either is NaN */
	x = _mm256_max_ps(_mm256_set1_ps(-110.0f), x);
	x = _mm256_min_ps(_mm256_set1_ps(90.0f), x);
	n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), 8);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
	p = _mm256_set1_ps(0x1.6a1a54p-10f);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.123fcap-7f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555916p-5f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.55548ap-3f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	i = _mm256_cvtps_epi32(n);
	half = _mm256_srai_epi32(i, 1);
	p = _mm256_mul_ps(p, vpow2(half));
	return _mm256_mul_ps(p, vpow2(_mm256_sub_epi32(i, half)));
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

#endif
