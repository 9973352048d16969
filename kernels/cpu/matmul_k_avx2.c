/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_k_avx2.c: the formats with 256 weights per block (Q2_K .. Q6_K, IQ4_XS) at
 * the AVX2 level: how each is unpacked for many columns, IQ4_XS and Q6_K for fewer too, and which form multiplies
 * how many. What is done with what is unpacked is in avx2_sums.h, avx2_few.h and many_k_avx2.c.
 * Layouts: docs/models.md 1.4; the order of a row's weights is kept, so activations need none
 * of their own. Called through the table of ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_rows.h"

FORCE_INLINE uint32_t word_at(const uint8_t *p)
{
	uint32_t u;

	memcpy(&u, p, sizeof(u));
	return u;
}

FORCE_INLINE uint16_t raw_half(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return h;
}

/* bits @bit of every byte -> bit @to of the same byte */
FORCE_INLINE __m256i move_bits(__m256i v, int bit, int to, int mask)
{
	v = bit < to ? _mm256_slli_epi16(v, to - bit) : _mm256_srli_epi16(v, bit - to);
	return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

/* 8 bytes */
FORCE_INLINE __m128i eight_bytes(uint32_t low, uint32_t high)
{
	return _mm_cvtsi64_si128((long long)((uint64_t)high << 32 | low));
}

/* 8 bytes, each twice, as 16 int16 */
FORCE_INLINE __m256i twice_each(__m128i v)
{
	return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(v, v));
}

/* Q4_K, Q5_K: d, dmin and the twelve bytes of 6-bit scales and minima after them */
FORCE_INLINE void unpack_scales_k4(const uint8_t *w, struct super *s)
{
	const uint32_t a = word_at(w + 4), b = word_at(w + 8), c = word_at(w + 12);

	const __m128i min =
		eight_bytes(b & 0x3f3f3f3f, (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030));

	s->d = half_at(w);
	s->dmin = half_at(w + 2);
	s->scale =
		twice_each(eight_bytes(a & 0x3f3f3f3f, (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030)));
	s->min32 = _mm_cvtepu8_epi16(min);
}

FORCE_INLINE void unpack_q4_k(const uint8_t *w, struct super *s)
{
	unpack_scales_k4(w, s);
#pragma GCC unroll 4
	for (int c = 0; c < 4; c++) {
		__m256i v = load32(w + 16 + 32 * c);

		s->q[2 * c] = move_bits(v, 0, 0, 15);
		s->q[2 * c + 1] = move_bits(v, 4, 0, 15);
	}
}

FORCE_INLINE void unpack_q5_k(const uint8_t *w, struct super *s)
{
	const __m256i high = load32(w + 16);

	unpack_scales_k4(w, s);
#pragma GCC unroll 4
	for (int c = 0; c < 4; c++) {
		__m256i v = load32(w + 48 + 32 * c);

		s->q[2 * c] =
			_mm256_or_si256(move_bits(v, 0, 0, 15), move_bits(high, 2 * c, 4, 16));
		s->q[2 * c + 1] =
			_mm256_or_si256(move_bits(v, 4, 0, 15), move_bits(high, 2 * c + 1, 4, 16));
	}
}

FORCE_INLINE void unpack_q6_k(const uint8_t *w, struct super *s)
{
#pragma GCC unroll 2
	for (int n = 0; n < 2; n++) {
		__m256i a = load32(w + 64 * n), b = load32(w + 64 * n + 32);
		__m256i high = load32(w + 128 + 32 * n);
		__m256i *q = s->q + 4 * n;

		q[0] = _mm256_or_si256(move_bits(a, 0, 0, 15), move_bits(high, 0, 4, 0x30));
		q[1] = _mm256_or_si256(move_bits(b, 0, 0, 15), move_bits(high, 2, 4, 0x30));
		q[2] = _mm256_or_si256(move_bits(a, 4, 0, 15), move_bits(high, 4, 4, 0x30));
		q[3] = _mm256_or_si256(move_bits(b, 4, 0, 15), move_bits(high, 6, 4, 0x30));
	}
	s->scale = _mm256_cvtepi8_epi16(load16(w + 192));
	s->min = _mm256_slli_epi16(s->scale, 5);
	s->d = half_at(w + 208);
	s->dmin = 0;
}

FORCE_INLINE void unpack_q2_k(const uint8_t *w, struct super *s)
{
	const __m256i both = _mm256_cvtepu8_epi16(load16(w));

	s->scale = _mm256_and_si256(both, _mm256_set1_epi16(15));
	s->min = _mm256_srli_epi16(both, 4);
	s->d = half_at(w + 80);
	s->dmin = half_at(w + 82);
#pragma GCC unroll 2
	for (int n = 0; n < 2; n++) {
		__m256i v = load32(w + 16 + 32 * n);

#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
			s->q[4 * n + i] = move_bits(v, 2 * i, 0, 3);
	}
}

FORCE_INLINE void unpack_q3_k(const uint8_t *w, struct super *s)
{
	const uint32_t a = word_at(w + 96), b = word_at(w + 100), c = word_at(w + 104);
	const __m128i scale = _mm_setr_epi32((int)((a & 0x0f0f0f0f) | (c << 4 & 0x30303030)),
					     (int)((b & 0x0f0f0f0f) | (c << 2 & 0x30303030)),
					     (int)((a >> 4 & 0x0f0f0f0f) | (c & 0x30303030)),
					     (int)((b >> 4 & 0x0f0f0f0f) | (c >> 2 & 0x30303030)));
	const __m256i high = load32(w);

	s->scale = _mm256_sub_epi16(_mm256_cvtepu8_epi16(scale), _mm256_set1_epi16(32));
	s->min = _mm256_slli_epi16(s->scale, 2);
	s->d = half_at(w + 108);
	s->dmin = 0;
#pragma GCC unroll 2
	for (int n = 0; n < 2; n++) {
		__m256i v = load32(w + 32 + 32 * n);

#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
			s->q[4 * n + i] = _mm256_or_si256(move_bits(v, 2 * i, 0, 3),
							  move_bits(high, 4 * n + i, 2, 4));
	}
}

/* the eight 6-bit scales: four bits each in a word, two bits each in a half */
FORCE_INLINE __m256i scales_iq4_xs(const uint8_t *w)
{
	const __m128i nibble =
		_mm_setr_epi16(1 << 12, 1 << 8, 1 << 4, 1, 1 << 12, 1 << 8, 1 << 4, 1);
	const __m128i pair =
		_mm_setr_epi16(1 << 14, 1 << 12, 1 << 10, 1 << 8, 1 << 6, 1 << 4, 1 << 2, 1);
	const __m128i v =
		_mm_cvtsi64_si128((long long)((uint64_t)word_at(w + 4) << 32 | word_at(w)));
	__m128i high = _mm_shuffle_epi8(v, _mm_set1_epi16(0x0302));
	__m128i low =
		_mm_shuffle_epi8(v, _mm_setr_epi8(4, 5, 4, 5, 4, 5, 4, 5, 6, 7, 6, 7, 6, 7, 6, 7));

	/* the wanted bits to the top, then down */
	high = _mm_srli_epi16(_mm_mullo_epi16(high, pair), 14);
	low = _mm_srli_epi16(_mm_mullo_epi16(low, nibble), 12);
	low = _mm_sub_epi16(_mm_or_si128(low, _mm_slli_epi16(high, 4)), _mm_set1_epi16(32));
	return _mm256_set_m128i(_mm_unpackhi_epi16(low, low), _mm_unpacklo_epi16(low, low));
}

FORCE_INLINE void unpack_iq4_xs(const uint8_t *w, struct super *s)
{
	s->scale = scales_iq4_xs(w);
	s->min = _mm256_setzero_si256();
	s->head = raw_half(w);
	s->d = half_at(w);
	s->dmin = 0;
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		s->q[i] = _mm256_shuffle_epi8(iq4_values(), nibbles(w + 8 + 16 * i));
}

#define SUPER_TABLE(T, t, each, many)                                                     \
	static void unpack_to_##t(const uint8_t *w, struct super *to)                     \
	{                                                                                 \
		unpack_##t(w, to);                                                        \
	}                                                                                 \
	const struct avx2_format avx2_##t = { QUANT_##T,     QUANT_##T##_BYTES, rows_##t, \
					      unpack_to_##t, avx2_many_##many,	each };
/* up to @most columns in pairs of super-blocks, more with rows in the lanes; @many: see avx2_many.h */
#define SUPER_FORMAT(T, t, most, each, many)                                              \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		if (cols <= (most))                                                       \
			avx2_pair_##t(m, row, rows, col, cols);                           \
		else                                                                      \
			avx2_few_##t(m, row, rows, col, cols);                            \
	}                                                                                 \
	SUPER_TABLE(T, t, each, many)
#define SUPER_UNSIGNED(t)                                                                \
	FORCE_INLINE void unsigned_##t(const uint8_t *w, struct super *s, __m256i *sign) \
	{                                                                                \
		unpack_##t(w, s);                                                        \
	}

SUPER_FORMAT(Q2_K, q2_k, 2, 16, min3)
SUPER_FORMAT(Q3_K, q3_k, 4, 16, offset31)
SUPER_FORMAT(Q4_K, q4_k, 3, 32, min15)
SUPER_FORMAT(Q5_K, q5_k, 3, 32, min31)
SUPER_UNSIGNED(q6_k)

static void rows_q6_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	const struct super_kind k = { SUPER_OFFSET, 1, QUANT_Q6_K_BYTES };

	if (cols <= PAIR_COLS)
		avx2_pair_q6_k(m, row, rows, col, cols);
	else if (cols <= 6)
		few_super_rows(m, row, rows, col, cols, 6, unsigned_q6_k, k);
	else
		few_super_rows(m, row, rows, col, cols, 8, unsigned_q6_k, k);
}

SUPER_TABLE(Q6_K, q6_k, 16, offset63)
SUPER_UNSIGNED(iq4_xs)

/* eight columns gain nothing from rows in the lanes */
static void rows_iq4_xs(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	const struct super_kind k = { SUPER_SIGNED, 1, QUANT_IQ4_XS_BYTES };

	if (cols <= AVX2_LAID_COLS)
		avx2_side_iq4_xs(m, row, rows, col, cols);
	else if (cols < 8)
		avx2_few_iq4_xs(m, row, rows, col, cols);
	else
		few_super_rows(m, row, rows, col, cols, 8, unsigned_iq4_xs, k);
}

STREAMED(IQ4_XS, iq4_xs)
