/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/tq_rows_avx512.c: rows of TQ1_0 in file order at the AVX-512 level, up to eight columns (whole
 * numbers only, see avx512_tile.h), where the CPU lacks VBMI (few_tq_vbmi.h). Layout: scalar_iq.c. Any thread; reads exactly the bytes of the blocks.
 *
 * A byte v is a fraction of 256; its first digit to base three is d = floor(3 v / 256), and what is left is
 * v' = 3 v mod 256. So 256 d = 3 v - v', and one column's sum of digits times activations is had from
 * the bytes as they are, without a digit. For more columns digits are made by comparison.
 */
#include "kernels/cpu/avx512_row.h"

#define DIGITS 5
#define BYTES  52 /* of digits in a super-block: 32 and 16 of five, 4 of four */

/* 256 activations by digit, as the bytes of a super-block stand, zero where there is none */
struct act_tq {
	int8_t q[DIGITS][64];
	int32_t offset[16]; /* -256 * sums of 16 */
};

_Static_assert(sizeof(struct act_tq) <= AVX512_PACKED_BYTES, "room in scratch");

void avx512_pack_tq(const void *from, size_t blocks, void *to)
{
	const struct act_k *x = from;
	struct act_tq *a = to;

	for (size_t b = 0; b < blocks; b++, x++, a++) {
		memset(a->q, 0, sizeof(a->q));
		for (int n = 0; n < DIGITS; n++) {
			/* sub-blocks of 32 as they lie in q6 */
			const int five = 5 + n / 2;

			memcpy(a->q[n], x->q6 + 64 * (n % 4) + 32 * (n / 4), 32);
			memcpy(a->q[n] + 32, x->q6 + 64 * (five % 4) + 32 + 16 * (n % 2), 16);
			if (n < 4)
				memcpy(a->q[n] + 48, x->q6 + 64 * 3 + 32 + 16 + 4 * n, 4);
		}
		_mm512_store_si512(a->offset, _mm512_slli_epi32(_mm512_load_si512(x->by16), 4));
	}
}

FORCE_INLINE __m512i thrice(__m512i v)
{
	return _mm512_add_epi8(_mm512_add_epi8(v, v), v);
}

/* 256 times a super-block's sums */
FORCE_INLINE __m512i from_bytes(__m512i v, const struct act_tq *x)
{
	__m512i first = _mm512_setzero_si512(), left = first;

#pragma GCC unroll 5
	for (int n = 0; n < DIGITS; n++) {
		const __m512i a = _mm512_load_si512(x->q[n]);

		first = _mm512_dpbusd_epi32(first, v, a);
		v = thrice(v);
		left = _mm512_dpbusd_epi32(left, v, a);
	}
	first = _mm512_add_epi32(_mm512_add_epi32(first, first), first);
	return _mm512_add_epi32(_mm512_sub_epi32(first, left), _mm512_load_si512(x->offset));
}

FORCE_INLINE __m512i digits_of(__m512i v)
{
	const __mmask64 one = _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8(86));
	const __mmask64 two = _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)171));

	return _mm512_mask_mov_epi8(_mm512_maskz_mov_epi8(one, _mm512_set1_epi8(1)), two,
				    _mm512_set1_epi8(2));
}

FORCE_INLINE __m512i from_digits(const __m512i d[DIGITS], const struct act_tq *x)
{
	__m512i s = _mm512_srai_epi32(_mm512_load_si512(x->offset), 8);

#pragma GCC unroll 5
	for (int n = 0; n < DIGITS; n++)
		s = _mm512_dpbusd_epi32(s, d[n], _mm512_load_si512(x->q[n]));
	return s;
}

/* Super-block @i of four from @at on times @cols columns, constant here. */
FORCE_INLINE void one(const uint8_t *w, const void *const *x, int cols, size_t at, size_t i,
		      const struct row_sums *out, __m512i s[][4])
{
	__m512i v = _mm512_maskz_loadu_epi8((UINT64_C(1) << BYTES) - 1, w);
	__m512i d[DIGITS];
	uint16_t half;

	memcpy(&half, w + BYTES, sizeof(half));
	out->d[at + i] = half;
	if (cols == 1) {
		s[0][i] = from_bytes(v, (const struct act_tq *)x[0] + at + i);
		return;
	}
#pragma GCC unroll 5
	for (int n = 0; n < DIGITS; n++, v = thrice(v))
		d[n] = digits_of(v);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][i] = from_digits(d, (const struct act_tq *)x[c] + at + i);
}

/* A row times @cols columns, constant here. */
FORCE_INLINE void row(const uint8_t *w, const void *const *x, int cols, size_t blocks,
		      const struct row_sums *out)
{
	const size_t bytes = QUANT_TQ1_0_BYTES;

	for (size_t at = 0; at < blocks; at += 4, w += 4 * bytes) {
		__m512i s[ROW_COLS][4];

		prefetch_ahead(w, out->ahead, 4 * bytes);
		if (blocks - at >= 4) {
#pragma GCC unroll 4
			for (size_t i = 0; i < 4; i++)
				one(w + i * bytes, x, cols, at, i, out, s);
		} else {
#pragma GCC unroll 8
			for (int c = 0; c < cols; c++)
				s[c][1] = s[c][2] = s[c][3] = _mm512_setzero_si512();
#pragma GCC unroll 1
			for (size_t i = 0; i < blocks - at; i++)
				one(w + i * bytes, x, cols, at, i, out, s);
		}
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const __m128i sums = add_lanes(add_words(s[c]));

			_mm_storeu_si128((void *)(out[c].sum + at),
					 cols == 1 ? _mm_srai_epi32(sums, 8) : sums);
		}
	}
}

#define ROW(cols)                                                                       \
	static void tq1_0_##cols(const uint8_t *w, const void *const *x, size_t blocks, \
				 const struct row_sums *out)                            \
	{                                                                               \
		row(w, x, cols, blocks, out);                                           \
	}

ROW(1)
ROW(2)
ROW(3)
ROW(4)
ROW(6)
ROW(8)
const row_fn avx512_row_tq1_0[ROW_COLS] = ROW_FUNCTIONS(tq1_0);
