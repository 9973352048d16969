/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_xs_avx2.c: three to seven columns of IQ4_XS at the AVX2 level, as in few_k_avx2.c. Called through
 * the format's row function (matmul_k_avx2.c), any thread.
 *
 * Values stand, with 128 more, in two parts of four bits: products need no signs, and eight sums of two, of at most
 * 2 * 15 * 127, fit 16 bits. Up to four columns are written out and meet a word as soon as it is looked up; more
 * pass over half a sub-block at a time.
 */
#include "kernels/cpu/avx2_k.h"

/* scales of IQ4_XS: four bits each in the second word, two each in the upper half of the first */
FORCE_INLINE void scales_xs(const __m256i h[2], __m256i scale[8], __m256i min[4])
{
	const __m256i low4 = _mm256_set1_epi8(15), half = _mm256_set1_epi16(32);
	const __m256i even = _mm256_set1_epi32(0x00300030), odd = _mm256_set1_epi32(0x30003000);
	const __m256i spread = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15));
	const __m256i up = _mm256_shuffle_epi8(h[0], spread);
	__m256i sc[2];

	sc[0] = _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(up, 4), even),
				_mm256_and_si256(up, odd));
	sc[1] = _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(up, 2), even),
				_mm256_and_si256(_mm256_srli_epi16(up, 2), odd));
	sc[0] = _mm256_or_si256(sc[0], _mm256_and_si256(h[1], low4));
	sc[1] = _mm256_or_si256(sc[1], _mm256_and_si256(_mm256_srli_epi16(h[1], 4), low4));
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		scale[j] = _mm256_sub_epi16(byte_twice(sc[j % 2], j / 2), half);
		if (j % 2)
			min[j / 2] = _mm256_blend_epi16(scale[j - 1], scale[j], 0xaa);
	}
}

/* s[c] += words k .. k+3 of sub-block @j, in two parts, times column c's and the scale */
FORCE_INLINE void dots_xs(__m256i (*q)[8], int k, __m256i scale, const struct act_super *const *x,
			  int j, int cols, __m256i *s)
{
	const __m256i scale16 = _mm256_slli_epi16(scale, 4);

	for (int c = 0; c < cols; c++) {
		const int8_t *v = x[c]->q + 32 * j;

		s[c] = add_here(s[c], _mm256_madd_epi16(pairs(q[0], k, 4, v), scale));
		s[c] = add_here(s[c], _mm256_madd_epi16(pairs(q[1], k, 4, v), scale16));
	}
}

/* the same of all words: a word meets all columns before the next one is unpacked */
FORCE_INLINE void words_xs(__m256i (*q)[8], __m256i scale, const struct act_super *const *x, int j,
			   int cols, __m256i *s)
{
	__m256i part[4][2];

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const __m256i v = four_of(x[c]->q + 32 * j, k);

#pragma GCC unroll 2
			for (int i = 0; i < 2; i++) {
				const __m256i a = _mm256_maddubs_epi16(q[i][k], v);

				part[c][i] = k ? add_pairs(part[c][i], a) : a;
			}
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		s[c] = add_here(s[c], _mm256_madd_epi16(part[c][0], scale));
		s[c] = add_here(s[c], _mm256_madd_epi16(part[c][1], _mm256_slli_epi16(scale, 4)));
	}
}

FORCE_INLINE void iq4_xs(const uint8_t *w, size_t stride, const struct act_super *const *x,
			 int cols, __m256 *y)
{
	const __m256i low4 = _mm256_set1_epi8(15);
	const __m256i moved = _mm256_xor_si256(iq4_values(), _mm256_set1_epi8(-128));
	const __m256i low = _mm256_and_si256(moved, low4);
	const __m256i up = _mm256_and_si256(_mm256_srli_epi16(moved, 4), low4);
	__m256i s[AVX2_FEW], h[4], scale[8], min[4];
	__m256 d, none;

	turn16(w, stride, h);
	two_halves(h[0], &d, &none);
	scales_xs(h, scale, min);
	for (int c = 0; c < cols; c++)
		s[c] = _mm256_setzero_si256();
#pragma GCC unroll 1
	for (int j = 0; j < 8; j++) {
		__m256i t[4], q[2][8];

		turn16(w + 8 + 16 * j, stride, t);
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++) {
			__m256i n = k < 4 ? t[k] : _mm256_srli_epi16(t[k - 4], 4);

			n = _mm256_and_si256(n, low4);
			q[0][k] = _mm256_shuffle_epi8(low, n);
			q[1][k] = _mm256_shuffle_epi8(up, n);
		}
		if (__builtin_constant_p(cols) && cols <= 4) {
			words_xs(q, scale[j], x, j, cols, s);
			continue;
		}
		dots_xs(q, 0, scale[j], x, j, cols, s);
		dots_xs(q, 4, scale[j], x, j, cols, s);
	}
	for (int c = 0; c < cols; c++) {
		const __m256i m = _mm256_slli_epi32(minima(min, 4, x[c]->sum32), 7);

		y[c] = add_scaled(y[c], d, x[c]->d, _mm256_cvtepi32_ps(_mm256_sub_epi32(s[c], m)));
	}
}

FEW(IQ4_XS, iq4_xs, THREE | FOUR)
