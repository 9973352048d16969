/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_b_avx2.c: the formats with 32 weights per block (Q4_0 .. Q8_0, IQ4_NL, MXFP4)
 * at the AVX2 level: how eight blocks are unpacked. What is done with the result is in
 * avx2_sums.h. Layouts: docs/models.md 1.4. Exactly the bytes of the blocks that exist are
 * read. Called through the table of ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_rows.h"

DOT(group, GROUP_SIGNED)
DOT(group, GROUP_MIN)
DOT(group, GROUP_8)
DOT(group, GROUP_12)
DOT(group, GROUP_16)

/* the first 32 bits of each block; 0 for blocks that do not exist */
FORCE_INLINE void first_words(const uint8_t *w, unsigned blocks, size_t bytes, __m128i word[8])
{
#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++) {
		int32_t u = 0;

		if (i < blocks)
			memcpy(&u, w + i * bytes, sizeof(u));
		word[i] = _mm_cvtsi32_si128(u);
	}
}

/* the first two halves of each block */
FORCE_INLINE void first_halves(const uint8_t *w, unsigned blocks, size_t bytes, __m256 *first,
			       __m256 *second)
{
	__m128i v[8], a, b;

	first_words(w, blocks, bytes, v);
	a = _mm_unpacklo_epi32(_mm_unpacklo_epi16(v[0], v[1]), _mm_unpacklo_epi16(v[2], v[3]));
	b = _mm_unpacklo_epi32(_mm_unpacklo_epi16(v[4], v[5]), _mm_unpacklo_epi16(v[6], v[7]));
	*first = _mm256_cvtph_ps(_mm_unpacklo_epi64(a, b));
	*second = _mm256_cvtph_ps(_mm_unpackhi_epi64(a, b));
}

/* bit j of @bits -> bit 4 of byte j */
FORCE_INLINE __m256i fifth_bits(const uint8_t *bits)
{
	const __m256i byte =
		_mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	int32_t u;

	memcpy(&u, bits, sizeof(u));

	__m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(u), byte), bit);

	return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(16));
}

/* w = d q + min, or d (q - offset): the integers of one block */
FORCE_INLINE __m256i values(uint32_t type, const uint8_t *w)
{
	switch (type) {
	case QUANT_Q4_0:
		return nibbles(w + 2);
	case QUANT_Q4_1:
		return nibbles(w + 4);
	case QUANT_Q5_0:
		return _mm256_or_si256(nibbles(w + 6), fifth_bits(w + 2));
	case QUANT_Q5_1:
		return _mm256_or_si256(nibbles(w + 8), fifth_bits(w + 4));
	case QUANT_IQ4_NL:
		return _mm256_shuffle_epi8(iq4_values(), nibbles(w + 2));
	case QUANT_MXFP4:
		/* twice the value, so that all are integers, plus 12; the scale is halved for it */
		return _mm256_shuffle_epi8(
			_mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24,
								  12, 11, 10, 9, 8, 6, 4, 0)),
			nibbles(w + 1));
	default: /* QUANT_Q8_0 */
		return load32(w + 2);
	}
}

#define VALUES(T, t)                                      \
	FORCE_INLINE __m256i values_##t(const uint8_t *w) \
	{                                                 \
		return values(QUANT_##T, w);              \
	}
#define SIGNED(T, t)                                                                            \
	VALUES(T, t)                                                                            \
	FORCE_INLINE void scales_##t(const uint8_t *w, unsigned blocks, __m256 *d, __m256 *min) \
	{                                                                                       \
		__m256 none;                                                                    \
                                                                                                \
		first_halves(w, blocks, QUANT_##T##_BYTES, d, &none);                           \
		*min = _mm256_setzero_ps();                                                     \
	}
#define WITH_MIN(T, t)                                                                          \
	VALUES(T, t)                                                                            \
	FORCE_INLINE void scales_##t(const uint8_t *w, unsigned blocks, __m256 *d, __m256 *min) \
	{                                                                                       \
		first_halves(w, blocks, QUANT_##T##_BYTES, d, min);                             \
	}
SIGNED(Q4_0, q4_0)
SIGNED(Q5_0, q5_0)
SIGNED(Q8_0, q8_0)
SIGNED(IQ4_NL, iq4_nl)
WITH_MIN(Q4_1, q4_1)
WITH_MIN(Q5_1, q5_1)
VALUES(MXFP4, mxfp4)

FORCE_INLINE void scales_mxfp4(const uint8_t *w, unsigned blocks, __m256 *d, __m256 *min)
{
	__m128i v[8], a, b;

	first_words(w, blocks, QUANT_MXFP4_BYTES, v);
	a = _mm_unpacklo_epi64(_mm_unpacklo_epi32(v[0], v[1]), _mm_unpacklo_epi32(v[2], v[3]));
	b = _mm_unpacklo_epi64(_mm_unpacklo_epi32(v[4], v[5]), _mm_unpacklo_epi32(v[6], v[7]));
	*d = fp4_scales(_mm256_set_m128i(b, a));
	*min = _mm256_setzero_ps();
}

GROUP_FORMAT(Q4_0, q4_0, GROUP_8, TURNED_ROWS, 2)
GROUP_FORMAT(Q4_1, q4_1, GROUP_MIN, TURNED_ROWS, 2)
GROUP_FORMAT(Q5_0, q5_0, GROUP_16, TURNED_ROWS, 3)
GROUP_FORMAT(Q5_1, q5_1, GROUP_MIN, TURNED_ROWS, 2)
GROUP_FORMAT(Q8_0, q8_0, GROUP_SIGNED, BYTES_ROWS, 3)
GROUP_FORMAT(IQ4_NL, iq4_nl, GROUP_SIGNED, TURNED_ROWS, 3)
GROUP_FORMAT(MXFP4, mxfp4, GROUP_12, TURNED_ROWS, 2)
