/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_sums.h: what the whole numbers of unpacked weights times columns are, at the AVX2 level:
 * one definition, super_sums() and group_sums(), used alike where a row is streamed (few columns) and where
 * unpacked rows lie in scratch (many columns). Included through avx2_few.h; any thread.
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

/* whole[c] lane j: block j of @g times that of group @b of column c */
FORCE_INLINE void group_sums(const struct group *g, enum group_form form,
			     const struct act_group *const *x, int cols, size_t b, __m256 *whole)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		__m256i half[2];

#pragma GCC unroll 2
		for (int h = 0; h < 2; h++) {
			__m256i two[2];

#pragma GCC unroll 2
			for (int i = 0; i < 2; i++) {
				const int j = 4 * h + 2 * i;

				two[i] = two_blocks(
					pair_sums(g->q[j], load32(x[c][b].q[j]), form),
					pair_sums(g->q[j + 1], load32(x[c][b].q[j + 1]), form),
					form);
			}
			half[h] = four_blocks(two[0], two[1], form);
		}
		whole[c] = eight_blocks(half, form, &x[c][b]);
	}
}

/* Partial sums of a super-block of eight rows, for every column. */
struct octet {
	__m256i sum[AVX2_COLS][AVX2_ROWS], mins[AVX2_COLS][AVX2_ROWS];
};

FORCE_INLINE void octet_row(struct octet *o, int r, const struct super *s, enum super_form form,
			    const struct act_super *const *x, int cols, size_t b)
{
	__m256i sum[AVX2_COLS], mins[AVX2_COLS];

	super_sums(s, NULL, form, x, cols, b, sum, mins);
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		o->sum[c][r] = sum[c];
		if (form == SUPER_MIN)
			o->mins[c][r] = mins[c];
	}
}

/* acc[c] += the super-block, rows in lanes */
FORCE_INLINE void octet_add(const struct octet *o, enum super_form form, __m256 d, __m256 dmin,
			    const struct act_super *const *x, int cols, size_t b, __m256 *acc)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		acc[c] = add_scaled(acc[c], d, x[c][b].d, eight_sums(o->sum[c]));
		if (form == SUPER_MIN)
			acc[c] = take_scaled(acc[c], dmin, x[c][b].d, eight_sums(o->mins[c]));
	}
}

/* acc[c] += up to eight blocks of eight rows, whose sums lie in @sum by row, scales by block */
FORCE_INLINE void blocks_add(__m256 (*sum)[AVX2_ROWS], enum group_form form, unsigned blocks,
			     const __m256 *d, const __m256 *min, const struct act_group *const *x,
			     int cols, size_t b, __m256 *acc)
{
	__m256 y[AVX2_COLS];

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		transpose8((__m256i *)sum[c]);
		y[c] = acc[c];
	}
	/* columns inside: a block's sum waits for the one before */
#pragma GCC unroll 2
	for (unsigned j = 0; j < blocks; j++) {
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const __m256 dx = _mm256_set1_ps(x[c][b].d[j]);

			y[c] = add_scaled(y[c], d[j], x[c][b].d[j], sum[c][j]);
			if (form == GROUP_MIN)
				y[c] = _mm256_fmadd_ps(_mm256_mul_ps(min[j], dx),
						       _mm256_set1_ps(x[c][b].sum[j]), y[c]);
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		acc[c] = y[c];
}

/* acc[c] += one super-block of eight unpacked rows times super-block @b of column c */
FORCE_INLINE void super_piece(const struct piece *p, enum super_form form, unsigned blocks,
			      const struct act_super *const *x, int cols, size_t b, __m256 *acc)
{
	struct octet o;

	(void)blocks;
#pragma GCC unroll 1
	for (int r = 0; r < AVX2_ROWS; r++)
		octet_row(&o, r, &p->w[r].super, form, x, cols, b);
	octet_add(&o, form, p->d[0], p->min[0], x, cols, b, acc);
}

/* acc[c] += up to eight blocks of eight unpacked rows times group @b of column c */
FORCE_INLINE void group_piece(const struct piece *p, enum group_form form, unsigned blocks,
			      const struct act_group *const *x, int cols, size_t b, __m256 *acc)
{
	__m256 sum[AVX2_COLS][AVX2_ROWS];

#pragma GCC unroll 1
	for (int r = 0; r < AVX2_ROWS; r++) {
		__m256 row[AVX2_COLS];

		group_sums(&p->w[r].group, form, x, cols, b, row);
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			sum[c][r] = row[c];
	}
	blocks_add(sum, form, blocks, p->d, p->min, x, cols, b, acc);
}

/* A format's functions for each number of columns. */
#define DOT(kind, form)                                                                         \
	static void kind##_##form(const struct piece *p, unsigned blocks, const void *const *x, \
				  int cols, size_t step, __m256 *acc)                           \
	{                                                                                       \
		const struct act_##kind *col[AVX2_COLS] = { NULL };                             \
                                                                                                \
		for (int c = 0; c < cols; c++)                                                  \
			col[c] = x[c];                                                          \
		switch (cols) {                                                                 \
		case 1:                                                                         \
			kind##_piece(p, form, blocks, col, 1, step, acc);                       \
			return;                                                                 \
		case 2:                                                                         \
			kind##_piece(p, form, blocks, col, 2, step, acc);                       \
			return;                                                                 \
		case 3:                                                                         \
			kind##_piece(p, form, blocks, col, 3, step, acc);                       \
			return;                                                                 \
		default:                                                                        \
			kind##_piece(p, form, blocks, col, 4, step, acc);                       \
			return;                                                                 \
		}                                                                               \
	}

#endif
