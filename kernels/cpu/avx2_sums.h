/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_sums.h: the whole numbers of an unpacked super-block times up to four columns, at the AVX2
 * level, where rows are streamed. Included through avx2_few.h; any thread.
 *
 * Inside a super-block everything is whole numbers and exact. vpmaddubsw adds two products in 16 bits: unsigned
 * weights are below 64 (below 128 where signs became an offset) and |activations| at most 127, signed ones are
 * multiplied as |w| * (sign of w times a), so no pair exceeds 127 * 127 * 2 and nothing saturates.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_SUMS_H
#define SLUICE_KERNELS_CPU_AVX2_SUMS_H

#include "kernels/cpu/avx2_level.h"

/* what eight sums of two products of weights below 4 add up to still fits 16 bits; -1 to all weights */
FORCE_INLINE void ternary_sums(const struct super *s, const struct act_super *const *x, int cols,
			       size_t b, __m256i *sum)
{
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const __m256i a = _mm256_maddubs_epi16(s->q[j], load32(x[c][b].q + 32 * j));

			sum[c] = j ? _mm256_add_epi16(sum[c], a) : a;
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		const __m128i total = _mm_cvtsi32_si128(x[c][b].total);

		sum[c] = _mm256_sub_epi32(_mm256_madd_epi16(sum[c], _mm256_set1_epi16(1)),
					  _mm256_zextsi128_si256(total));
	}
}

/* sum[c]: partial sums of super-block @s times super-block @b of column c */
FORCE_INLINE void super_sums(const struct super *s, const __m256i *sign, enum super_form form,
			     const struct act_super *const *x, int cols, size_t b, __m256i *sum)
{
	__m256i half[2];

	if (form == SUPER_TERNARY) {
		ternary_sums(s, x, cols, b, sum);
		return;
	}
	halves_twice(s->scale, half);
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_setzero_si256();
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		const __m256i scale = scale_at(half, j);
		__m256i q = form == SUPER_SIGNED ? _mm256_abs_epi8(s->q[j]) : s->q[j];
		const __m256i below = _mm256_cmpgt_epi8(_mm256_setzero_si256(), s->q[j]);

#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			__m256i a = load32(x[c][b].q + 32 * j);

			/* for more columns than one by the ports that do not multiply */
			if (form == SUPER_SIGNED && cols == 1)
				a = _mm256_sign_epi8(a, s->q[j]);
			else if (form == SUPER_SIGNED)
				a = _mm256_sub_epi8(_mm256_xor_si256(a, below), below);
			if (form == SUPER_SIGNS)
				a = _mm256_sign_epi8(a, sign[j]);
			a = _mm256_madd_epi16(_mm256_maddubs_epi16(q, a), scale);
			sum[c] = add_here(sum[c], a);
		}
	}
	if (form != SUPER_OFFSET)
		return;
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_sub_epi32(sum[c], _mm256_madd_epi16(s->min, load32(x[c][b].sum)));
}

#endif
