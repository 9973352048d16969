/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/iq_avx.h: super-blocks of IQ1, IQ2, IQ3 and the ternary formats -> bytes in the order of
 * the row, for both vector levels. Layouts: scalar_iq.c. Included by matmul_iq_avx2.c,
 * rows_iq_avx2.c and iq_avx512.c; reads exactly the bytes of the block.
 *
 * Values come from tables by index, eight or four at a time; indices of more than eight bits are put
 * together for a whole super-block at once. Signs are bits: 32 of them become bytes of 1 and -1.
 */
#ifndef SLUICE_KERNELS_CPU_IQ_AVX_H
#define SLUICE_KERNELS_CPU_IQ_AVX_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/grids.h"
#include "kernels/quant.h"

#define IQ_INLINE static inline __attribute__((always_inline))

/*
 * IQ_SIGNS   w = d * scale * sign * q, q below 64
 * IQ_MOVED   w = d * scale * (q - IQ_MOVE): IQ1_S, IQ1_M
 * IQ_TERNARY w = d * (q - 1), scale is 1
 */
enum iq_form { IQ_SIGNS, IQ_MOVED, IQ_TERNARY };

#define IQ_MOVE 9

/* d: the half as it is stored (IQ1_M: put together), to be multiplied with iq_factor(). */
struct iq {
	__m256i q[8], sign[8];
	__m256i scale; /* 16 int16, positive */
	uint16_t d;
};

IQ_INLINE float iq_factor(uint32_t type)
{
	switch (type) {
	case QUANT_IQ3_XXS:
		return 0.25f;
	case QUANT_IQ3_S:
	case QUANT_TQ1_0:
	case QUANT_TQ2_0:
		return 1.0f;
	default:
		return 0.125f;
	}
}

IQ_INLINE uint16_t iq_half(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return h;
}

IQ_INLINE __m256i iq_load(const void *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

/* bit k of 32 bits -> byte k: 1 where it is 0, -1 where it is 1 */
IQ_INLINE __m256i iq_signs(const void *bits)
{
	const __m256i byte =
		_mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	int32_t u;

	memcpy(&u, bits, sizeof(u));

	__m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(u), byte), bit);

	return _mm256_or_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(1));
}

/* 32 bytes of seven signs: with the eighth, which makes the number of negative ones even */
IQ_INLINE __m256i iq_eighth(__m256i seven)
{
	const __m256i odd = _mm256_broadcastsi128_si256(_mm_setr_epi8(
		0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
	const __m256i both = _mm256_xor_si256(seven, _mm256_srli_epi16(seven, 4));

	return _mm256_or_si256(
		seven, _mm256_shuffle_epi8(odd, _mm256_and_si256(both, _mm256_set1_epi8(15))));
}

/* eight words of four times seven signs -> their 32 bytes, each with the eighth */
IQ_INLINE __m256i iq_four_sevens(__m256i v)
{
	/* twice seven in each 16 bits, under two bits that are not signs */
	v = _mm256_blend_epi16(v, _mm256_slli_epi32(v, 2), 0xaa);
	return iq_eighth(_mm256_or_si256(
		_mm256_and_si256(v, _mm256_set1_epi16(0x7f)),
		_mm256_and_si256(_mm256_add_epi16(v, v), _mm256_set1_epi16(0x7f00))));
}

/* eight words -> 16 int16: each twice */
IQ_INLINE __m256i iq_twice(__m256i words)
{
	return _mm256_or_si256(words, _mm256_slli_epi32(words, 16));
}

/* 2s + 1 for the top four bits of eight words, each twice */
IQ_INLINE __m256i iq_top_scales(__m256i v)
{
	v = _mm256_slli_epi32(_mm256_srli_epi32(v, 28), 1);
	return iq_twice(_mm256_or_si256(v, _mm256_set1_epi32(1)));
}

/* 2s + 1 for 16 nibbles, low ones first */
IQ_INLINE __m256i iq_nibble_scales(const uint8_t *p)
{
	const __m128i v = _mm_loadl_epi64((const __m128i *)p), low = _mm_set1_epi8(15);
	const __m128i a = _mm_and_si128(v, low), b = _mm_and_si128(_mm_srli_epi16(v, 4), low);
	const __m256i s = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));

	return _mm256_or_si256(_mm256_slli_epi16(s, 1), _mm256_set1_epi16(1));
}

IQ_INLINE __m256i iq_eights(const uint64_t *grid, unsigned a, unsigned b, unsigned c, unsigned d)
{
	const __m128i low =
		_mm_insert_epi64(_mm_cvtsi64_si128((long long)grid[a]), (long long)grid[b], 1);
	const __m128i high =
		_mm_insert_epi64(_mm_cvtsi64_si128((long long)grid[c]), (long long)grid[d], 1);

	return _mm256_set_m128i(high, low);
}

IQ_INLINE __m256i iq_fours(const uint32_t *grid, const uint16_t *i)
{
	return _mm256_setr_epi32((int)grid[i[0]], (int)grid[i[1]], (int)grid[i[2]], (int)grid[i[3]],
				 (int)grid[i[4]], (int)grid[i[5]], (int)grid[i[6]],
				 (int)grid[i[7]]);
}

IQ_INLINE void iq2_xxs_values(const uint8_t *w, struct iq *v)
{
	/* words: indices, rest, indices, rest, ... */
	const __m256i a = iq_load(w + 2), b = iq_load(w + 34);
	const __m256i odd = _mm256_castps_si256(
		_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0xdd));
	const __m256i rest = _mm256_permute4x64_epi64(odd, 0xd8);
	uint32_t signs[8];

	v->d = iq_half(w);
	v->scale = iq_top_scales(rest);
	_mm256_storeu_si256((__m256i *)signs, iq_four_sevens(rest));
#pragma GCC unroll 8
	for (int s = 0; s < 8; s++) {
		const uint8_t *i = w + 2 + 8 * s;

		v->q[s] = iq_eights(grid_iq2_xxs, i[0], i[1], i[2], i[3]);
		v->sign[s] = iq_signs(&signs[s]);
	}
}

IQ_INLINE void iq2_xs_values(const uint8_t *w, struct iq *v)
{
	const __m256i a = iq_load(w + 2), b = iq_load(w + 34), nine = _mm256_set1_epi16(511);
	const __m256i seven = _mm256_packus_epi16(_mm256_srli_epi16(a, 9), _mm256_srli_epi16(b, 9));
	uint16_t index[32];
	uint32_t signs[8];

	v->d = iq_half(w);
	v->scale = iq_nibble_scales(w + 66);
	_mm256_storeu_si256((__m256i *)signs, iq_eighth(_mm256_permute4x64_epi64(seven, 0xd8)));
	_mm256_storeu_si256((__m256i *)index, _mm256_and_si256(a, nine));
	_mm256_storeu_si256((__m256i *)(index + 16), _mm256_and_si256(b, nine));
#pragma GCC unroll 8
	for (int s = 0; s < 8; s++) {
		const uint16_t *i = index + 4 * s;

		v->q[s] = iq_eights(grid_iq2_xs, i[0], i[1], i[2], i[3]);
		v->sign[s] = iq_signs(&signs[s]);
	}
}

/* bytes -> indices of 16 bits: bits [8, ..) are @count bits each of the words of @high */
IQ_INLINE void iq_indices(const uint8_t *low, __m256i high, uint16_t *to)
{
	const __m256i v = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)low));

	_mm256_storeu_si256((__m256i *)to, _mm256_or_si256(v, high));
}

/* four bytes of four times two bits, each to bits 8 and 9 of a word of 16 */
IQ_INLINE __m256i iq_two_bits(const uint8_t *p)
{
	const __m256i byte =
		_mm256_setr_epi64x(0, 0x0001000100010001, 0x0002000200020002, 0x0003000300030003);
	const __m256i up =
		_mm256_setr_epi16(256, 64, 16, 4, 256, 64, 16, 4, 256, 64, 16, 4, 256, 64, 16, 4);
	int32_t u;

	memcpy(&u, p, sizeof(u));

	/* two bytes of word i: byte i / 4 of the four, 0 */
	__m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32(u),
					_mm256_or_si256(byte, _mm256_set1_epi16((short)0x8000)));

	return _mm256_and_si256(_mm256_mullo_epi16(v, up), _mm256_set1_epi16(0x300));
}

IQ_INLINE void iq2_s_values(const uint8_t *w, struct iq *v)
{
	uint16_t index[32];

	v->d = iq_half(w);
	v->scale = iq_nibble_scales(w + 74);
	iq_indices(w + 2, iq_two_bits(w + 66), index);
	iq_indices(w + 18, iq_two_bits(w + 70), index + 16);
#pragma GCC unroll 8
	for (int s = 0; s < 8; s++) {
		const uint16_t *i = index + 4 * s;

		v->q[s] = iq_eights(grid_iq2_s, i[0], i[1], i[2], i[3]);
		v->sign[s] = iq_signs(w + 34 + 4 * s);
	}
}

IQ_INLINE void iq3_xxs_values(const uint8_t *w, struct iq *v)
{
	const __m256i rest = iq_load(w + 66);
	uint32_t signs[8];

	v->d = iq_half(w);
	v->scale = iq_top_scales(rest);
	_mm256_storeu_si256((__m256i *)signs, iq_four_sevens(rest));
#pragma GCC unroll 8
	for (int s = 0; s < 8; s++) {
		const uint8_t *i = w + 2 + 8 * s;
		const uint16_t index[8] = { i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7] };

		v->q[s] = iq_fours(grid_iq3_xxs, index);
		v->sign[s] = iq_signs(&signs[s]);
	}
}

/* 32 bytes -> indices of nine bits, whose ninth are the bits of @high */
IQ_INLINE void iq_nine_bits(const uint8_t *low, const uint8_t *high, uint16_t *to)
{
	/* eights in the order 0, 2, 1, 3: what is unpacked is in order */
	const __m256i byte =
		_mm256_setr_epi64x(0, 0x0202020202020202, 0x0101010101010101, 0x0303030303030303);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	const __m256i v = _mm256_permute4x64_epi64(iq_load(low), 0xd8);
	int32_t u;

	memcpy(&u, high, sizeof(u));

	__m256i h = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(u), byte), bit);

	h = _mm256_min_epu8(h, _mm256_set1_epi8(1));
	_mm256_storeu_si256((__m256i *)to, _mm256_unpacklo_epi8(v, h));
	_mm256_storeu_si256((__m256i *)(to + 16), _mm256_unpackhi_epi8(v, h));
}

/* 2s + 1 for eight nibbles, low ones first, each twice */
IQ_INLINE __m256i iq3_s_scales(const uint8_t *p)
{
	const __m128i spread = _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	const __m128i high = _mm_setr_epi8(0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1);
	int32_t u;

	memcpy(&u, p, sizeof(u));

	/* nibble g / 2 of the four bytes, for groups of 16 */
	__m128i s = _mm_shuffle_epi8(_mm_set1_epi32(u), spread);

	s = _mm_blendv_epi8(s, _mm_srli_epi16(s, 4), high);
	s = _mm_and_si128(s, _mm_set1_epi8(15));
	return _mm256_or_si256(_mm256_slli_epi16(_mm256_cvtepu8_epi16(s), 1), _mm256_set1_epi16(1));
}

IQ_INLINE void iq3_s_values(const uint8_t *w, struct iq *v)
{
	uint16_t index[64];

	v->scale = iq3_s_scales(w + 106);
	v->d = iq_half(w);
	iq_nine_bits(w + 2, w + 66, index);
	iq_nine_bits(w + 34, w + 70, index + 32);
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		v->q[k] = iq_fours(grid_iq3_s, index + 8 * k);
		v->sign[k] = iq_signs(w + 74 + 4 * k);
	}
}

/* 32 values of four indices, moved up by one or down: then all by IQ_MOVE, so that none is below 0 */
IQ_INLINE __m256i iq_moved(const uint16_t *i, __m256i by)
{
	return _mm256_add_epi8(iq_eights(grid_iq1, i[0], i[1], i[2], i[3]), by);
}

IQ_INLINE void iq1_s_values(const uint8_t *w, struct iq *v)
{
	/* eight words of 16 bits: 4 x 3 high bits, 3 of scale, a direction */
	const __m128i h = _mm_loadu_si128((const __m128i *)(w + 34));
	const __m128i s = _mm_and_si128(_mm_srli_epi16(h, 11), _mm_set1_epi16(14));
	const __m128i down = _mm_srai_epi16(h, 15); /* -1: down */
	const __m256i up =
		_mm256_setr_epi16(256, 32, 4, 1, 256, 32, 4, 1, 256, 32, 4, 1, 256, 32, 4, 1);
	const __m256i last = _mm256_setr_epi16(0, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0, -1);
	uint16_t index[32], to[8];

	v->d = iq_half(w);
	v->scale = iq_twice(_mm256_cvtepu16_epi32(_mm_or_si128(s, _mm_set1_epi16(1))));
	_mm_storeu_si128((__m128i *)to,
			 _mm_add_epi16(_mm_slli_epi16(down, 1), _mm_set1_epi16(IQ_MOVE + 1)));
#pragma GCC unroll 2
	for (int k = 0; k < 2; k++) {
		/* each word four times: bits 0, 3, 6 and 9 to bit 8 (the last by a shift down) */
		const __m128i four = k ? _mm_unpackhi_epi64(h, h) : h;
		const __m256i e = _mm256_cvtepu16_epi64(four);
		__m256i m = _mm256_shuffle_epi8(
			e, _mm256_broadcastsi128_si256(
				   _mm_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 8, 9, 8, 9, 8, 9, 8, 9)));

		m = _mm256_blendv_epi8(_mm256_mullo_epi16(m, up), _mm256_srli_epi16(m, 1), last);
		m = _mm256_and_si256(m, _mm256_set1_epi16(0x700));
		iq_indices(w + 2 + 16 * k, m, index + 16 * k);
	}
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++)
		v->q[k] = iq_moved(index + 4 * k, _mm256_set1_epi8((char)to[k]));
}

/* eight bytes of two nibbles each: bits 0 to 2 of a nibble to bits 8 to 10 of a word of 16 */
IQ_INLINE __m256i iq_nibbles(const uint8_t *p)
{
	const __m128i v = _mm_loadl_epi64((const __m128i *)p);
	const __m128i n = _mm_unpacklo_epi8(v, _mm_srli_epi16(v, 4));

	return _mm256_slli_epi16(_mm256_cvtepu8_epi16(n), 8);
}

IQ_INLINE void iq1_m_values(const uint8_t *w, struct iq *v)
{
	const __m128i sc = _mm_loadl_epi64((const __m128i *)(w + 48));
	const __m256i e = _mm256_cvtepu16_epi64(sc);
	const __m256i four =
		_mm256_shuffle_epi8(e, _mm256_broadcastsi128_si256(_mm_setr_epi8(
					       0, 1, 0, 1, 0, 1, 0, 1, 8, 9, 8, 9, 8, 9, 8, 9)));
	/* bits 0, 3, 6, 9 to bit 9, then down to bit 1 */
	const __m256i up =
		_mm256_setr_epi16(512, 64, 8, 1, 512, 64, 8, 1, 512, 64, 8, 1, 512, 64, 8, 1);
	uint16_t index[32];
	uint64_t h;

	memcpy(&h, w + 48, sizeof(h));
	v->d = (uint16_t)((h >> 12 & 0xf) | (h >> 24 & 0xf0) | (h >> 36 & 0xf00) |
			  (h >> 48 & 0xf000));
	v->scale = _mm256_srli_epi16(_mm256_mullo_epi16(four, up), 8);
	v->scale = _mm256_and_si256(v->scale, _mm256_set1_epi16(14));
	v->scale = _mm256_or_si256(v->scale, _mm256_set1_epi16(1));
#pragma GCC unroll 2
	for (int k = 0; k < 2; k++) {
		const __m256i n = iq_nibbles(w + 32 + 8 * k);

		iq_indices(w + 16 * k, _mm256_and_si256(n, _mm256_set1_epi16(0x700)),
			   index + 16 * k);
	}
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		/* bits 3, 7, 11 and 15: a direction for eight weights each */
		const uint64_t d = iq_half(w + 32 + 2 * k);
		const uint64_t bits = (d >> 3 & 1) | (d >> 7 & 1) << 16 | (d >> 11 & 1) << 32 |
				      d >> 15 << 48;
		const __m256i eight = _mm256_setr_epi64x(0x0100010001000100, 0x0302030203020302,
							 0x0504050405040504, 0x0706070607060706);
		__m256i by =
			_mm256_shuffle_epi8(_mm256_set1_epi64x((long long)(bits * 0x202)), eight);

		by = _mm256_sub_epi8(_mm256_set1_epi8(IQ_MOVE + 1), by);
		v->q[k] = iq_moved(index + 4 * k, by);
	}
}

/* a digit to base three of each byte, which is a fraction of 256: 0, 1, 2 */
IQ_INLINE __m256i iq_digit(__m256i v)
{
	const __m256i a = _mm256_set1_epi8(86), b = _mm256_set1_epi8((char)171);
	const __m256i one = _mm256_cmpeq_epi8(_mm256_max_epu8(v, a), v);
	const __m256i two = _mm256_cmpeq_epi8(_mm256_max_epu8(v, b), v);

	return _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(one, two));
}

IQ_INLINE __m256i iq_thrice(__m256i v)
{
	return _mm256_add_epi8(_mm256_add_epi8(v, v), v);
}

/*
 * The bytes of TQ1_0 with what was before each weight's digit shifted out, in the order of the row; each
 * xored with @with (0, or 128: tripling goes on as before).
 */
IQ_INLINE void tq1_0_bytes(const uint8_t *w, __m256i with, __m256i v[8])
{
	const __m128i few = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(w + 32)),
					  _mm256_castsi256_si128(with));
	__m256i a = _mm256_xor_si256(iq_load(w), with), b, c;
	uint32_t u;

	memcpy(&u, w + 48, sizeof(u));
#pragma GCC unroll 5
	for (int i = 0; i < 5; i++) {
		v[i] = a;
		a = iq_thrice(a);
	}
	/* low half: the digit after the next one's */
	b = _mm256_set_m128i(_mm256_castsi256_si128(iq_thrice(_mm256_castsi128_si256(few))), few);
	v[5] = b;
	b = iq_thrice(iq_thrice(b));
	v[6] = b;
	b = iq_thrice(iq_thrice(b));
	/* four bytes, their digits one place on in each word */
	c = _mm256_xor_si256(_mm256_castsi128_si256(_mm_cvtsi32_si128((int)u)),
			     _mm256_and_si256(with, _mm256_setr_epi32(-1, 0, 0, 0, 0, 0, 0, 0)));
	c = _mm256_or_si256(c, _mm256_slli_si256(iq_thrice(c), 4));
	c = _mm256_or_si256(c, _mm256_slli_si256(iq_thrice(iq_thrice(c)), 8));
	v[7] = _mm256_set_m128i(_mm256_castsi256_si128(c), _mm256_castsi256_si128(b));
}

IQ_INLINE void tq1_0_values(const uint8_t *w, struct iq *v)
{
	v->d = iq_half(w + 52);
	v->scale = _mm256_set1_epi16(1);
	tq1_0_bytes(w, _mm256_setzero_si256(), v->q);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		v->q[i] = iq_digit(v->q[i]);
}

IQ_INLINE void tq2_0_values(const uint8_t *w, struct iq *v)
{
	v->d = iq_half(w + 64);
	v->scale = _mm256_set1_epi16(1);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		v->q[i] = _mm256_and_si256(_mm256_srli_epi16(iq_load(w + i / 4 * 32), i % 4 * 2),
					   _mm256_set1_epi8(3));
}

#endif
