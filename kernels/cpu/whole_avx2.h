/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/whole_avx2.h: whole numbers of 16 bits for AVX2, in the names that attend_whole.h and
 * attend_numbers.h are written in. Included by float_avx2.c after float_vec_avx2.h. whole_avx512.h has the
 * same names and the same results.
 *
 * Tiles have two rows and four vectors: eight sums, the four factors of a chunk and what a vector needs
 * meanwhile are the sixteen registers.
 */
#ifndef SLUICE_KERNELS_CPU_WHOLE_AVX2_H
#define SLUICE_KERNELS_CPU_WHOLE_AVX2_H

#include <math.h>

#include "kernels/cpu/kv_block.h"
#include "kernels/cpu/float_vec_avx2.h"

#define PART_TILES	     2 /* of 16 positions or dimensions, in a part */
#define PART_VALUES(X, rows) X(rows, 1) X(rows, 2)
#define PART_ROWS_TILE	     2 /* rows of a register tile, at most */
#define PART_SHAPES(X)	     X(2) X(1)
#define PART_ASKS	     1 /* for memory, as a tile begins sums */

typedef __m256i vi;

static inline vi vi_load(const void *p)
{
	return _mm256_loadu_si256(p);
}

static inline void vi_store(void *p, vi v)
{
	_mm256_store_si256(p, v);
}

static inline vi vi_zero(void)
{
	return _mm256_setzero_si256();
}

/* @pair in every lane of 32 bits */
static inline vi vi_set1(int32_t pair)
{
	return _mm256_set1_epi32(pair);
}

static inline vf vi_float(vi v)
{
	return _mm256_cvtepi32_ps(v);
}

/* Sums of the products of pairs. */
static inline vi vi_multiply(vi a, vi b)
{
	return _mm256_madd_epi16(a, b);
}

static inline vi vi_multiply_add(vi sum, vi a, vi b)
{
	return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/* Magnitudes of as many halves as a vector holds; they are ordered as whole numbers are. */
static inline vi vi_abs_halves(const void *p)
{
	return _mm256_and_si256(_mm256_loadu_si256(p), _mm256_set1_epi16(0x7fff));
}

static inline vi vi_larger_halves(vi a, vi b)
{
	return _mm256_max_epu16(a, b);
}

/* The largest bits of |x|, which are ordered as the magnitudes are. */
static inline vi vi_larger_abs(vi most, vf x)
{
	const vi sign = _mm256_set1_epi32(0x7fffffff);

	return _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(x), sign));
}

static inline int32_t vi_highest(vi v)
{
	__m128i most = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
	most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
	return _mm_cvtsi128_si32(most);
}

/* The largest of 16 halves -> @ret[0] */
static inline void largest_halves(vi v, uint16_t *ret)
{
	__m128i most = _mm_max_epu16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	most = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1)));
	*ret = (uint16_t)~_mm_extract_epi16(most, 0);
}

/* The largest magnitude of each of 16 lanes of @n rows of halves, which is an even number. */
static inline void largest_lanes(const uint8_t *p, size_t n, uint16_t ret[KV_TILE])
{
	vi even = vi_zero(), odd = vi_zero();

	for (size_t i = 0; i < n; i += 2) {
		even = _mm256_max_epu16(even, vi_abs_halves(p + i * KV_TILE * 2));
		odd = _mm256_max_epu16(odd, vi_abs_halves(p + (i + 1) * KV_TILE * 2));
	}
	_mm256_storeu_si256((__m256i *)ret, _mm256_max_epu16(even, odd));
}

/* The exponents of VL positive halves: 1 to 31. */
static inline vi exponents(const uint16_t *halves)
{
	vi bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)halves));

	return _mm256_max_epi32(_mm256_srli_epi32(bits, 10), _mm256_set1_epi32(1));
}

/* 2^(exponent - @below), NaN for exponent 31, which is no number's */
static inline vf units_of(vi exponent, int below)
{
	vi bits = _mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 - below)), 23);
	vi none = _mm256_cmpeq_epi32(exponent, _mm256_set1_epi32(31));

	return _mm256_blendv_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(NAN),
				_mm256_castsi256_ps(none));
}

/* What, added to a float, leaves its number of units of 2^(exponent - @below) in the lowest 16 bits. */
static inline vf rounders_of(vi exponent, int below)
{
	vi bits = _mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 - below + 23)),
				    23);

	return _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(1 << 22)));
}

/* Pairs of numbers from the lowest 16 bits of @even and @odd. */
static inline vi pairs_of(vf even, vf odd)
{
	return _mm256_blend_epi16(_mm256_castps_si256(even),
				  _mm256_slli_epi32(_mm256_castps_si256(odd), 16), 0xaa);
}

/* Pairs of 16 bytes at @p and the 16 behind them. */
static inline void pairs_of_bytes(const uint8_t *p, int32_t out[KV_TILE])
{
	const __m128i even = _mm_loadu_si128((const __m128i *)p);
	const __m128i odd = _mm_loadu_si128((const __m128i *)(p + KV_TILE));

	vi_store(out, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(even, odd)));
	vi_store(out + VL, _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(even, odd)));
}

/* @x, rounded to whole numbers within 16 bits; one that is no number becomes any */
static inline void store_numbers(int16_t *out, vf x)
{
	const vi n = _mm256_cvtps_epi32(x);

	_mm_storeu_si128((__m128i *)out, _mm_packs_epi32(_mm256_castsi256_si128(n),
							 _mm256_extracti128_si256(n, 1)));
}

/* @x in those lanes that have a bit in @seen, 0 in the others */
static inline vf vf_where(uint64_t seen, vf x)
{
	const vi bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
	const vi mask = _mm256_and_si256(_mm256_set1_epi32((int32_t)seen), bits);

	return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(mask, bits)));
}

/* A bit for each lane that is no number. */
static inline unsigned vf_none(vf x)
{
	return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

#endif
