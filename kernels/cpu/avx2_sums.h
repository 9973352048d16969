/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_sums.h: what the whole numbers of unpacked weights times columns are, at the AVX2 level:
 * where a row is streamed. Included through avx2_few.h; any thread.
 *
 * Inside a super-block and a block everything is whole numbers and exact. vpmaddubsw adds two
 * products in 16 bits: unsigned weights are below 64 and |activations| at most 127, signed ones are
 * multiplied as |w| * (sign of w times a), so no pair exceeds 128 * 127 * 2 and nothing saturates.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_SUMS_H
#define SLUICE_KERNELS_CPU_AVX2_SUMS_H

#include "kernels/cpu/avx2_level.h"

/* pairs of activations, turned by weights of SUPER_TURNS, in 16 bits: eight of these still fit */
FORCE_INLINE __m256i turned_pairs(__m256i q, __m256i a)
{
	return _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_sign_epi8(a, q));
}

FORCE_INLINE void turned_sums(const struct super *s, const struct act_super *const *x, int cols,
			      size_t b, __m256i *sum)
{
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const __m256i a = turned_pairs(s->q[j], load32(x[c][b].q + 32 * j));

			sum[c] = j ? _mm256_add_epi16(sum[c], a) : a;
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_madd_epi16(sum[c], _mm256_set1_epi16(1));
}

/* sum[c], mins[c]: partial sums of super-block @s times super-block @b of column c */
FORCE_INLINE void super_sums(const struct super *s, const __m256i *sign, enum super_form form,
			     const struct act_super *const *x, int cols, size_t b, __m256i *sum,
			     __m256i *mins)
{
	__m256i half[2];

	if (form == SUPER_TURNS) {
		turned_sums(s, x, cols, b, sum);
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
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		mins[c] = _mm256_madd_epi16(s->min, load32(x[c][b].sum));
		if (form == SUPER_OFFSET)
			sum[c] = _mm256_sub_epi32(sum[c], mins[c]);
	}
}

/* 16-bit sums of two products each: block @q times @a */
FORCE_INLINE __m256i pair_sums(__m256i q, __m256i a, enum group_form form)
{
	if (form == GROUP_SIGNED)
		return _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
	return _mm256_maddubs_epi16(q, a);
}

/*
 * Two blocks, then two of those: in each half the 32-bit sums of four blocks. Where weights are below
 * 32, four 16-bit sums of two products each still fit 16 bits, and one vpmaddwd does for four blocks.
 */
FORCE_INLINE __m256i two_blocks(__m256i a, __m256i b, enum group_form form)
{
	const __m256i ones = _mm256_set1_epi16(1);

	if (form == GROUP_SIGNED)
		return sum_pair(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
	return _mm256_add_epi16(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

FORCE_INLINE __m256i four_blocks(__m256i ab, __m256i cd, enum group_form form)
{
	const __m256i ones = _mm256_set1_epi16(1);

	if (form == GROUP_SIGNED)
		return sum_four(ab, cd);
	return _mm256_madd_epi16(
		_mm256_add_epi16(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd)),
		ones);
}

/* eight blocks' sums, four in each of @half, as floats: whole numbers */
FORCE_INLINE __m256 eight_blocks(const __m256i half[2], enum group_form form,
				 const struct act_group *x)
{
	const __m256 sum = _mm256_cvtepi32_ps(sum_halves(half[0], half[1]));

	/* below 2^24 all of it: exact */
	if (form < GROUP_8)
		return sum;
	return _mm256_fnmadd_ps(_mm256_set1_ps((float)form), _mm256_loadu_ps(x->sum), sum);
}

#endif
