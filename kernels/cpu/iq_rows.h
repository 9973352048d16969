/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/iq_rows.h: what iq_rows_avx512.c and iq2_rows_vbmi.c share: how activations lie, signs,
 * scales and what nibbles become. Any thread.
 */
#ifndef SLUICE_KERNELS_CPU_IQ_ROWS_H
#define SLUICE_KERNELS_CPU_IQ_ROWS_H

#include "kernels/cpu/avx512_row.h"

#define IQ_OFFSET 64 /* above every magnitude */

/* 256 activations: q[k], word g: values 2k and 2k + 1 of the g'th eight */
struct act_iq {
	int8_t q[4][64];
	int32_t offset[16]; /* -IQ_OFFSET * sums of 16 */
};

/* A super-block: weights plus IQ_OFFSET in the order of act_iq.q, a scale per lane. */
struct iq {
	__m512i q[4], scale;
};

/*
 * Seven signs and the eighth (grid_signs()): of values 0 and 1 at bits 3 and 11, 2 and 3 at 7 and 15,
 * 4 and 5 at 2 and 10, 6 and 7 at 6 and 14.
 */
#define ODD(n)	     (((n) ^ (n) >> 1 ^ (n) >> 2 ^ (n) >> 3 ^ (n) >> 4 ^ (n) >> 5 ^ (n) >> 6) & 1)
#define AT(n, i, to) (((n) >> (i)&1) << (to))
#define SIGNS(n)                                                                                \
	(AT(n, 0, 3) | AT(n, 1, 11) | AT(n, 2, 7) | AT(n, 3, 15) | AT(n, 4, 2) | AT(n, 5, 10) | \
	 AT(n, 6, 6) | ODD(n) << 14)
#define SIGNS4(n)  SIGNS(n), SIGNS((n) + 1), SIGNS((n) + 2), SIGNS((n) + 3)
#define SIGNS16(n) SIGNS4(n), SIGNS4((n) + 4), SIGNS4((n) + 8), SIGNS4((n) + 12)

/* a | (b & mask) */
FORCE_INLINE __m512i or_bits(__m512i a, __m512i b, __m512i mask)
{
	return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}

/* bytes of two nibbles -> q[low], q[high] */
FORCE_INLINE void by_nibbles(__m512i t, __m512i table, __m512i *low, __m512i *high)
{
	const __m512i four = _mm512_set1_epi8(15);

	*low = _mm512_shuffle_epi8(table, _mm512_and_si512(t, four));
	*high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(t, 4), four));
}

/* 2s + 1 for the low four bits of each lane, up by one: (v & 30) | 1 */
FORCE_INLINE __m512i odd_scales(__m512i v)
{
	return _mm512_ternarylogic_epi32(v, _mm512_set1_epi32(30), _mm512_set1_epi32(1), 0xea);
}

#define PLUS(v)	 ((char)(IQ_OFFSET + (v)))
#define MINUS(v) ((char)(IQ_OFFSET - (v)))

/* magnitudes of IQ2 by two bits; a sign at bit 2, at bit 3, bits of others at the other */
FORCE_INLINE __m512i iq2_sign2(void)
{
	return _mm512_broadcast_i32x4(
		_mm_setr_epi8(PLUS(8), PLUS(25), PLUS(43), 0, MINUS(8), MINUS(25), MINUS(43), 0,
			      PLUS(8), PLUS(25), PLUS(43), 0, MINUS(8), MINUS(25), MINUS(43), 0));
}

FORCE_INLINE __m512i iq2_sign3(void)
{
	return _mm512_broadcast_i32x4(_mm_setr_epi8(
		PLUS(8), PLUS(25), PLUS(43), 0, PLUS(8), PLUS(25), PLUS(43), 0, MINUS(8), MINUS(25),
		MINUS(43), 0, MINUS(8), MINUS(25), MINUS(43), 0));
}

/* 2s + 1 for 16 nibbles, low ones first, a lane each */
FORCE_INLINE __m512i nibble_scales(const uint8_t *w)
{
	const __m512i turn =
		_mm512_setr_epi32(1, 29, 25, 21, 17, 13, 9, 5, 1, 29, 25, 21, 17, 13, 9, 5);
	__m512i v = _mm512_set1_epi32((int)word_at(w));

	v = _mm512_mask_set1_epi32(v, 0xff00, (int)word_at(w + 4));
	return odd_scales(_mm512_rolv_epi32(v, turn));
}

#endif
