/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_parts.h: super-blocks of IQ2 and IQ3 at the AVX2 level: signs, scales and indices as rows_iq_avx2.c,
 * which includes it, wants them, and how values are looked up. Layouts: scalar_iq.c. Reads exactly the bytes of the
 * blocks; any thread.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_PARTS_H
#define SLUICE_KERNELS_CPU_AVX2_PARTS_H

#include "kernels/cpu/avx2_fields.h"
#include "kernels/cpu/avx2_level.h"
#include "kernels/cpu/iq_avx.h"

/* A super-block but for its values. */
struct parts {
	uint8_t sign[32];
	union {
		uint8_t sixteens[16]; /* IQ2: of each 16 weights */
		int16_t pairs[16];    /* IQ3: of each 32 weights, twice */
	} scale;
	union {
		uint16_t index[64];
		uint8_t byte[64]; /* IQ3_XXS: the same in bytes */
	};
};

FORCE_INLINE void put32(void *to, __m256i v)
{
	_mm256_storeu_si256((__m256i *)to, v);
}

/* 16 nibbles s of scales: 2s + 1 */
FORCE_INLINE void put_nibble_scales(struct parts *v, const uint8_t *p)
{
	const __m128i n = _mm_loadl_epi64((const __m128i *)p), nibble = _mm_set1_epi8(15);
	const __m128i s = _mm_unpacklo_epi8(_mm_and_si128(n, nibble),
					    _mm_and_si128(_mm_srli_epi16(n, 4), nibble));

	_mm_storeu_si128((__m128i *)v->scale.sixteens,
			 _mm_sub_epi8(_mm_add_epi8(s, s), _mm_set1_epi8(-1)));
}

/* 0x88: the even words of two vectors, 0xdd: the odd ones */
#define every_other(a, b, which)                                                                  \
	_mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(                           \
					 _mm256_castsi256_ps(a), _mm256_castsi256_ps(b), which)), \
				 0xd8)

FORCE_INLINE void parts_iq2_xxs(const uint8_t *w, struct parts *v)
{
	/* words: indices, rest, indices, rest, ... */
	const __m256i a = load32(w + 2), b = load32(w + 34);
	const __m256i even = every_other(a, b, 0x88), rest = every_other(a, b, 0xdd);
	const __m256i s = _mm256_or_si256(_mm256_slli_epi32(_mm256_srli_epi32(rest, 28), 1),
					  _mm256_set1_epi32(1));
	const __m256i twice = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 0, 4, 4, 8, 8, 12, 12, 0, 0, 0, 0, 0, 0, 0, 0));

	put32(v->index, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(even)));
	put32(v->index + 16, _mm256_cvtepu8_epi16(_mm256_extracti128_si256(even, 1)));
	put32(v->sign, iq_four_sevens(rest));
	_mm_storeu_si128((__m128i *)v->scale.sixteens,
			 _mm256_castsi256_si128(
				 _mm256_permute4x64_epi64(_mm256_shuffle_epi8(s, twice), 0xd8)));
}

FORCE_INLINE void parts_iq2_xs(const uint8_t *w, struct parts *v)
{
	const __m256i a = load32(w + 2), b = load32(w + 34), nine = _mm256_set1_epi16(511);
	const __m256i seven = _mm256_packus_epi16(_mm256_srli_epi16(a, 9), _mm256_srli_epi16(b, 9));

	put_nibble_scales(v, w + 66);
	put32(v->sign, iq_eighth(_mm256_permute4x64_epi64(seven, 0xd8)));
	put32(v->index, _mm256_and_si256(a, nine));
	put32(v->index + 16, _mm256_and_si256(b, nine));
}

FORCE_INLINE void parts_iq2_s(const uint8_t *w, struct parts *v)
{
	put_nibble_scales(v, w + 74);
	put32(v->sign, load32(w + 34));
	iq_indices(w + 2, iq_two_bits(w + 66), v->index);
	iq_indices(w + 18, iq_two_bits(w + 70), v->index + 16);
}

FORCE_INLINE void parts_iq3_xxs(const uint8_t *w, struct parts *v)
{
	const __m256i rest = load32(w + 66);

	put32(v->scale.pairs, iq_top_scales(rest));
	put32(v->sign, iq_four_sevens(rest));
	put32(v->byte, load32(w + 2));
	put32(v->byte + 32, load32(w + 34));
}

FORCE_INLINE void parts_iq3_s(const uint8_t *w, struct parts *v)
{
	put32(v->scale.pairs, iq3_s_scales(w + 106));
	put32(v->sign, load32(w + 74));
	iq_nine_bits(w + 2, w + 66, v->index);
	iq_nine_bits(w + 34, w + 70, v->index + 32);
}

FORCE_INLINE __m128i two_eights(const uint64_t *grid, unsigned a, unsigned b)
{
	const __m128i low = _mm_loadl_epi64((const __m128i *)(grid + a));

	return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(low), (const void *)(grid + b)));
}

/* a lane of 64 bits is an eight of each second index: sixteen weights have a scale */
FORCE_INLINE __m256i eights_of(const uint64_t *grid, const uint16_t *i)
{
	return _mm256_set_m128i(two_eights(grid, i[4], i[6]), two_eights(grid, i[0], i[2]));
}

/* indices @at to @at + 3 */
FORCE_INLINE void four_indices(const struct parts *v, int at, bool bytes, const struct fields *f,
			       uint64_t i[4])
{
	if (bytes)
		four_bytes(v->byte + at, f, i);
	else
		four_words(v->index + at, f, i);
}

/* @q[k], lane of 32 bits j: the four of index 8j + @first + k: 32 weights have a scale */
FORCE_INLINE void fours_of(const uint32_t *grid, const struct parts *v, int first, bool bytes,
			   const struct fields *f, __m256i q[4])
{
	__m128i half[2][4];

#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		const int at = 32 * h + first;
		uint64_t a[4], b[4];

		four_indices(v, at, bytes, f, a);
		four_indices(v, at + 8, bytes, f, b);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			half[h][k] = _mm_insert_epi32(_mm_cvtsi32_si128((int)grid[a[k]]),
						      (int)grid[b[k]], 1);
		four_indices(v, at + 16, bytes, f, a);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			half[h][k] = _mm_insert_epi32(half[h][k], (int)grid[a[k]], 2);
		four_indices(v, at + 24, bytes, f, a);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			half[h][k] = _mm_insert_epi32(half[h][k], (int)grid[a[k]], 3);
	}
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++)
		q[k] = _mm256_set_m128i(half[1][k], half[0][k]);
}

#endif
