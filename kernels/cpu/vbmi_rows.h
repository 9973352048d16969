/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/vbmi_rows.h: what iq2_rows_vbmi.c, iq3_rows_vbmi.c and few_iq_vbmi.c share: bytes of tables for 64 indices at
 * once, and signs. Any thread.
 *
 * vpermi2b gives a byte from 128 for each index, and leaves an index as it is where a mask says so, for the
 * next 128.
 */
#ifndef SLUICE_KERNELS_CPU_VBMI_ROWS_H
#define SLUICE_KERNELS_CPU_VBMI_ROWS_H

#include "kernels/cpu/iq_rows.h"

/* 64 indices: bits 0 to 7, and masks of further ones */
struct indices {
	__m512i low;
	__mmask64 b7, not7, b8, b9;
};

/* bytes of two tables of as many entries for the same indices: of 256, 512 or 1024 */
FORCE_INLINE __m512i of_256(const uint8_t *t, const struct indices *at)
{
	__m512i r = _mm512_mask2_permutex2var_epi8(_mm512_loadu_si512(t), at->low, at->not7,
						   _mm512_loadu_si512(t + 64));

	return _mm512_mask2_permutex2var_epi8(_mm512_loadu_si512(t + 128), r, at->b7,
					      _mm512_loadu_si512(t + 192));
}

FORCE_INLINE __m512i of_512(const uint8_t *t, const struct indices *at)
{
	return _mm512_mask_blend_epi8(at->b8, of_256(t, at), of_256(t + 256, at));
}

FORCE_INLINE void eighth_bit(struct indices *at)
{
	at->b7 = _mm512_movepi8_mask(at->low);
	at->not7 = _knot_mask64(at->b7);
}

/* by_nibbles() of a table that is the same in all lanes: vpermb does not look at two bits, which choose one */
FORCE_INLINE void permute_nibbles(__m512i t, __m512i table, __m512i *low, __m512i *high)
{
	*low = _mm512_permutexvar_epi8(t, table);
	*high = _mm512_permutexvar_epi8(_mm512_srli_epi16(t, 4), table);
}

/* nibble_scales() */
FORCE_INLINE __m512i shifted_scales(const uint8_t *w)
{
	/* bits 4l - 1 on to word l */
	const __m512i from =
		_mm512_setr_epi32(63, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 47, 51, 55, 59);
	long long eight;

	memcpy(&eight, w, sizeof(eight));
	return odd_scales(_mm512_multishift_epi64_epi8(from, _mm512_set1_epi64(eight)));
}

/* SIGNS(), the low bytes, the high bytes */
#define S0(n)	   (SIGNS(n) & 255)
#define S1(n)	   (SIGNS(n) >> 8)
#define TO4(F, n)  F(n), F((n) + 1), F((n) + 2), F((n) + 3)
#define TO16(F, n) TO4(F, n), TO4(F, (n) + 4), TO4(F, (n) + 8), TO4(F, (n) + 12)
#define TO64(F, n) TO16(F, n), TO16(F, (n) + 16), TO16(F, (n) + 32), TO16(F, (n) + 48)
#define TO128(F)                        \
	{                               \
		TO64(F, 0), TO64(F, 64) \
	}

static const uint8_t sevens[2][128] __attribute__((aligned(64))) = { TO128(S0), TO128(S1) };

FORCE_INLINE __m512i signs_of(int half, __m512i seven)
{
	return _mm512_permutex2var_epi8(_mm512_load_si512(sevens[half]), seven,
					_mm512_load_si512(sevens[half] + 64));
}

#endif
