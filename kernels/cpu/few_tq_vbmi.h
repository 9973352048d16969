/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_tq_vbmi.h: one to eight columns of TQ1_0 at the AVX-512 level where the CPU has VBMI: up to four
 * in few_tq_vbmi.c, more in few_tq_more_vbmi.c, which are compiled differently. Any thread. The form is drawn in
 * few_k_avx512.h, the layout in scalar_iq.c.
 *
 * The five digits to base three of a byte are looked up: vpermi2b takes a byte from 128 for each index,
 * twice, and a mask chooses. Four digits make a byte like one of TQ2_0, and are used like one
 * (few_k2_avx512.c); the fifth has a table of its own. A word of every row is four bytes, so twenty weights.
 */
#ifndef SLUICE_KERNELS_CPU_FEW_TQ_VBMI_H
#define SLUICE_KERNELS_CPU_FEW_TQ_VBMI_H

#include "kernels/cpu/few_k_avx512.h"
#include "kernels/cpu/vbmi.h"

#define DIGITS 5

/* the digit of @v, a fraction of 256, behind the power @p of three */
#define DIGIT(v, p) ((((v) * (p)&255) * 3) >> 8)
#define FOUR(v)	    (DIGIT(v, 1) | DIGIT(v, 3) << 2 | DIGIT(v, 9) << 4 | DIGIT(v, 27) << 6)
#define FIFTH(v)    DIGIT(v, 81)
#define TO4(F, v)   F(v), F((v) + 1), F((v) + 2), F((v) + 3)
#define TO16(F, v)  TO4(F, v), TO4(F, (v) + 4), TO4(F, (v) + 8), TO4(F, (v) + 12)
#define TO64(F, v)  TO16(F, v), TO16(F, (v) + 16), TO16(F, (v) + 32), TO16(F, (v) + 48)
#define TO256(F)                                                    \
	{                                                           \
		TO64(F, 0), TO64(F, 64), TO64(F, 128), TO64(F, 192) \
	}

static const uint8_t four[256] __attribute__((aligned(64))) = TO256(FOUR);
static const uint8_t fifth[256] __attribute__((aligned(64))) = TO256(FIFTH);

struct digits {
	__m512i four[4], fifth[4];
};

FORCE_INLINE __m512i look_up(const __m512i t[4], __m512i v, __mmask64 high)
{
	return _mm512_mask_blend_epi8(high, _mm512_permutex2var_epi8(t[0], v, t[1]),
				      _mm512_permutex2var_epi8(t[2], v, t[3]));
}

/*
 * Sums: of one column one for each place in a byte, so that nothing is shifted; of more, for which registers would not
 * do, one of digits at bits 0, 1 and of those at 4, 5, which are shifted down, and one of the others.
 */
FORCE_INLINE int places(int cols)
{
	return cols == 1 ? 4 : 2;
}

/* The digits of the @k'th word of every row times all columns, added to @s: those at bit 2i 4^i times, to s[i]. */
FORCE_INLINE void digits_of(int cols, const struct digits *t, __m512i v, int k,
			    const struct act_k *const *x, __m512i s[4][ROW_COLS])
{
	const __mmask64 high = _mm512_movepi8_mask(v);
	const __m512i q = look_up(t->four, v, high);

#pragma GCC unroll 5
	for (int n = 0; n < DIGITS; n++) {
		/* where the four values are */
		const int at = k < 8 ? 32 * n + 4 * k : k < 12 ? 128 + 16 * n + 4 * k : 240 + 4 * n;
		const int place = n < 4 ? n % places(cols) : 0;
		const __m512i bits = _mm512_set1_epi8((char)(3 << 2 * place));
		__m512i digit;

		if (k == 12 && n == 4)
			break;
		if (n == 4)
			digit = look_up(t->fifth, v, high);
		else
			digit = _mm512_and_si512(n == place ? q : _mm512_srli_epi32(q, 4), bits);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			s[place][c] = few_add(s[place][c], digit, x[c], at / 32, at % 32 / 4);
	}
}

FORCE_INLINE void tq1_0(int cols, const uint8_t *w, size_t stride, const struct act_k *const *x,
			__m512 *y, const char *ahead)
{
	__m512i s[4][ROW_COLS], v[8], end[4];
	struct digits t;

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		t.four[i] = _mm512_load_si512(four + 64 * i);
		t.fifth[i] = _mm512_load_si512(fifth + 64 * i);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		s[0][c] = _mm512_set1_epi32(x[c]->by1);
		s[1][c] = s[2][c] = s[3][c] = _mm512_setzero_si512();
	}
	transpose32(w, stride, v);
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		few_ask_twice(ahead, QUANT_TQ1_0_BYTES, (size_t)k, 14);
		digits_of(cols, &t, v[k], k, x, s);
	}
	transpose16(w + 32, stride, v);
#pragma GCC unroll 4
	for (int k = 8; k < 12; k++) {
		few_ask_twice(ahead, QUANT_TQ1_0_BYTES, (size_t)k, 14);
		digits_of(cols, &t, v[k - 8], k, x, s);
	}
	/* bytes 48 to 51 are in two words; d is behind them */
	transpose16(w + 38, stride, end);
	few_ask_twice(ahead, QUANT_TQ1_0_BYTES, 12, 14);
	few_ask_twice(ahead, QUANT_TQ1_0_BYTES, 13, 14);
	digits_of(cols, &t,
		  _mm512_or_si512(_mm512_srli_epi32(end[2], 16), _mm512_slli_epi32(end[3], 16)), 12,
		  x, s);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
#pragma GCC unroll 4
		for (int i = places(cols) - 1; i > 0; i--)
			s[i - 1][c] = _mm512_add_epi32(s[i - 1][c], _mm512_srai_epi32(s[i][c], 2));
		y[c] = add_scaled(y[c], half_high(end[3]), _mm512_set1_ps(x[c]->d), s[0][c]);
	}
}

/* few_tq_more_vbmi.c: six columns, eight */
void avx512_six_tq1_0(const uint8_t *w, size_t stride, const struct act_k *const *x, __m512 *y,
		      const char *ahead);
void avx512_eight_tq1_0(const uint8_t *w, size_t stride, const struct act_k *const *x, __m512 *y,
			const char *ahead);

#endif
