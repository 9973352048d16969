/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/whole_avx512.h: whole numbers of 16 bits for AVX-512 VNNI, in the names that attend_whole.h and
 * attend_numbers.h are written in. Included by float_avx512.c after float_vec_avx512.h. whole_avx2.h has the
 * same names and the same results.
 */
#ifndef SLUICE_KERNELS_CPU_WHOLE_AVX512_H
#define SLUICE_KERNELS_CPU_WHOLE_AVX512_H

#include <math.h>

#include "kernels/cpu/kv_block.h"
#include "kernels/cpu/float_vec_avx512.h"

#define PART_TILES	     2 /* of 16 positions or dimensions, in a part */
#define PART_VALUES(X, rows) X(rows, 1) X(rows, 2)
#define PART_ROWS_TILE	     6 /* rows of a register tile, at most */
#define PART_SHAPES(X)	     X(6) X(4) X(2) X(1)
#define PART_ASKS	     2 /* for memory, as a tile begins sums */

typedef __m512i vi;

static inline vi vi_load(const void *p)
{
	return _mm512_loadu_si512(p);
}

static inline void vi_store(void *p, vi v)
{
	_mm512_store_si512(p, v);
}

static inline vi vi_zero(void)
{
	return _mm512_setzero_si512();
}

/* @pair in every lane of 32 bits */
static inline vi vi_set1(int32_t pair)
{
	return _mm512_set1_epi32(pair);
}

static inline vf vi_float(vi v)
{
	return _mm512_cvtepi32_ps(v);
}

/* Sums of the products of pairs. */
static inline vi vi_multiply(vi a, vi b)
{
	return _mm512_madd_epi16(a, b);
}

static inline vi vi_multiply_add(vi sum, vi a, vi b)
{
	return _mm512_dpwssd_epi32(sum, a, b);
}

/* Magnitudes of as many halves as a vector holds; they are ordered as whole numbers are. */
static inline vi vi_abs_halves(const void *p)
{
	return _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi16(0x7fff));
}

static inline vi vi_larger_halves(vi a, vi b)
{
	return _mm512_max_epu16(a, b);
}

/* The largest bits of |x|, which are ordered as the magnitudes are. */
static inline vi vi_larger_abs(vi most, vf x)
{
	const vi sign = _mm512_set1_epi32(0x7fffffff);

	return _mm512_max_epi32(most, _mm512_and_si512(_mm512_castps_si512(x), sign));
}

static inline int32_t vi_highest(vi v)
{
	return _mm512_reduce_max_epi32(v);
}

/* The largest of each 16 halves of @v -> @ret[0], [1] */
static inline void largest_halves(vi v, uint16_t *ret)
{
	for (int i = 0; i < 2; i++) {
		__m256i half = i ? _mm512_extracti64x4_epi64(v, 1) : _mm512_castsi512_si256(v);
		__m128i most = _mm_max_epu16(_mm256_castsi256_si128(half),
					     _mm256_extracti128_si256(half, 1));

		most = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1)));
		ret[i] = (uint16_t)~_mm_extract_epi16(most, 0);
	}
}

/* The largest magnitude of each of 16 lanes of @n rows of halves, which is an even number. */
static inline void largest_lanes(const uint8_t *p, size_t n, uint16_t ret[KV_TILE])
{
	vi most = vi_zero();

	for (size_t i = 0; i < n; i += 2)
		most = _mm512_max_epu16(most, vi_abs_halves(p + i * KV_TILE * 2));
	_mm256_storeu_si256((__m256i *)ret, _mm256_max_epu16(_mm512_castsi512_si256(most),
							     _mm512_extracti64x4_epi64(most, 1)));
}

/* The exponents of VL positive halves: 1 to 31. */
static inline vi exponents(const uint16_t *halves)
{
	vi bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)halves));

	return _mm512_max_epi32(_mm512_srli_epi32(bits, 10), _mm512_set1_epi32(1));
}

/* 2^(exponent - @below), NaN for exponent 31, which is no number's */
static inline vf units_of(vi exponent, int below)
{
	vi bits = _mm512_slli_epi32(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 - below)), 23);
	__mmask16 none = _mm512_cmpeq_epi32_mask(exponent, _mm512_set1_epi32(31));

	return _mm512_mask_mov_ps(_mm512_castsi512_ps(bits), none, _mm512_set1_ps(NAN));
}

/* What, added to a float, leaves its number of units of 2^(exponent - @below) in the lowest 16 bits. */
static inline vf rounders_of(vi exponent, int below)
{
	vi bits = _mm512_slli_epi32(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 - below + 23)),
				    23);

	return _mm512_castsi512_ps(_mm512_or_si512(bits, _mm512_set1_epi32(1 << 22)));
}

/* Pairs of numbers from the lowest 16 bits of @even and @odd. */
static inline vi pairs_of(vf even, vf odd)
{
	return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_castps_si512(even),
				       _mm512_slli_epi32(_mm512_castps_si512(odd), 16));
}

/* Pairs of 16 bytes at @p and the 16 behind them. */
static inline void pairs_of_bytes(const uint8_t *p, int32_t out[KV_TILE])
{
	/* words 0 and 16, 1 and 17, .. side by side */
	const vi lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	const vi order = _mm512_or_si512(
		lanes, _mm512_slli_epi32(_mm512_add_epi32(lanes, _mm512_set1_epi32(16)), 16));
	const vi words = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));

	vi_store(out, _mm512_permutexvar_epi16(order, words));
}

/* @x, rounded to whole numbers within 16 bits; one that is no number becomes any */
static inline void store_numbers(int16_t *out, vf x)
{
	_mm256_storeu_si256((__m256i *)out, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));
}

/* @x in those lanes that have a bit in @seen, 0 in the others */
static inline vf vf_where(uint64_t seen, vf x)
{
	return _mm512_maskz_mov_ps((__mmask16)seen, x);
}

/* A bit for each lane that is no number. */
static inline unsigned vf_none(vf x)
{
	return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
}

#endif
