/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_k6_avx512.c: five to eight columns of Q6_K at the AVX-512 level. Any thread. The form is drawn
 * in few_k_avx512.h. Fewer columns are faster in file order (rows_k2_avx512.c): in the cache this takes 0.8 of
 * their time, but from memory 0.9 to 1.03 (four), 1.04 (two); eight take 0.6.
 *
 * A step takes 16 bytes from each of three places of every row, two of low bits and one of high ones, and
 * multiplies the four sub-blocks that they hold before the next: more would not stay in registers. Sums of
 * 16 products of weights less 32 have 17 bits and a sign, so scales are multiplied by vpmulld.
 *
 * Beside the products a register's store costs more than a clock on Zen 4, and so does an operation of
 * three registers (half a clock): weights are joined by and, or, where vpternlogd would do with fewer.
 */
#include "kernels/cpu/few_k_avx512.h"

/* The words [2i + @part] of @t have scale 4i + part in the second byte, 4i + part + 2 in the fourth. */
FORCE_INLINE void load_scales(const uint8_t *w, size_t stride, __m512i t[8])
{
	__m512i sc[4];

	transpose16(w + 192, stride, sc);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		t[2 * i] = _mm512_slli_epi32(sc[i], 8);
		t[2 * i + 1] = sc[i];
	}
}

/* the scale in the second or the fourth byte of @word */
FORCE_INLINE __m512i scale_of(const __m512i *word, bool fourth)
{
	return _mm512_srai_epi32(fourth ? *word : _mm512_slli_epi32(*word, 16), 24);
}

/* sub-block @j of 16 times that of every column and the scale, added to @s */
FORCE_INLINE void scaled16(int cols, const __m512i q[4], const struct act_k *const *x, int j,
			   __m512i scale, __m512i *s)
{
	__m512i dot[ROW_COLS];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		dot[c] = _mm512_set1_epi32(x[c]->twice16[j]);
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			dot[c] = few_add(dot[c], q[k], x[c], j / 2, 4 * (j % 2) + k);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		s[c] = _mm512_add_epi32(s[c], _mm512_mullo_epi32(dot[c], scale));
		few_now(&s[c]);
	}
}

/* weights of @low, bits 0..3 of every byte, and of @high, bits 4 and 5 */
FORCE_INLINE __m512i six_bits(__m512i low, __m512i high)
{
	return _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32(0x0f0f0f0f)),
			       _mm512_and_si512(high, _mm512_set1_epi32(0x30303030)));
}

/*
 * The sub-blocks @j and @j + 4 of 16 low bytes @a, whose high bits begin at bit @shift (0 or 2) of @h, and
 * four on. @t: the words of their scales.
 */
FORCE_INLINE void two_sub_blocks(int cols, const __m512i a[4], const __m512i h[4], unsigned shift,
				 const struct act_k *const *x, int j, const __m512i *t, __m512i *s)
{
	__m512i v[4];

#pragma GCC unroll 4
	for (int k = 0; k < 4; k++)
		v[k] = six_bits(a[k], _mm512_slli_epi32(h[k], 4 - shift));
	scaled16(cols, v, x, j, scale_of(&t[0], shift), s);
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++)
		v[k] = six_bits(_mm512_srli_epi32(a[k], 4),
				shift ? _mm512_srli_epi32(h[k], shift) : h[k]);
	scaled16(cols, v, x, j + 4, scale_of(&t[2], shift), s);
}

FORCE_INLINE void q6_k(int cols, const uint8_t *w, size_t stride, const struct act_k *const *x,
		       __m512 *y, const char *ahead)
{
	__m512i s[ROW_COLS], t[8];
	uint16_t d[FEW_ROWS];

	for (int r = 0; r < FEW_ROWS; r++)
		memcpy(d + r, w + 208 + r * stride, 2);
	load_scales(w, stride, t);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 1
	for (int step = 0; step < 4; step++) {
		const int n = step / 2, part = step % 2, j = 8 * n + part;
		const uint8_t *low = w + 64 * n + 16 * part;
		__m512i a[4], h[4];

		few_ask_nearer(ahead, QUANT_Q6_K_BYTES, (size_t)step, 4);
		transpose16(low, stride, a);
		transpose16(w + 128 + 32 * n + 16 * part, stride, h);
		two_sub_blocks(cols, a, h, 0, x, j, t + 4 * n + part, s);
		transpose16(low + 32, stride, a);
		two_sub_blocks(cols, a, h, 2, x, j + 2, t + 4 * n + part, s);
	}
	const __m512 dw = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)d));

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = add_scaled(y[c], dw, _mm512_set1_ps(x[c]->d), s[c]);
}

FEW_K_COLS(q6_k, 6)
FEW_K_COLS(q6_k, 8)
const few_k_fn avx512_few_q6_k[ROW_COLS] = {
	NULL, NULL, NULL, NULL, q6_k_6, q6_k_6, q6_k_8, q6_k_8
};
