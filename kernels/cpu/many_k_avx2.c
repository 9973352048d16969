/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/many_k_avx2.c: more than eight columns of super-blocks of unsigned weights at the AVX2 level.
 * Called by ops_avx2.c, any thread.
 *
 * Sixteen rows are unpacked once for all columns and turned so that rows stand in the lanes, as in
 * few_k_avx2.c: a register holds four weights of each of eight rows, a column multiplies it with four of
 * its activations, broadcast. Nothing is added across lanes, and as many sums of two products as fit
 * 16 bits are added up before vpmaddwd multiplies them with the scale. Two registers of weights meet four
 * columns: six loads for eight products, so that the multipliers and not the loads are what is full.
 */
#include "kernels/cpu/avx2_many.h"

/* rows in the lanes: word j of row r -> word r of t[j] */
FORCE_INLINE void turn_words(const __m256i row[AVX2_ROWS], __m256i t[8])
{
#pragma GCC unroll 8
	for (int r = 0; r < AVX2_ROWS; r++)
		t[r] = row[r];
	transpose8(t);
}

/* word j of every row as a pair of its lower, or of its upper, int16 */
FORCE_INLINE __m256i twice(__m256i words, bool upper)
{
	const __m128i each = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);

	return _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(_mm_add_epi8(
						  each, _mm_set1_epi8(upper ? 2 : 0))));
}

void avx2_many_turn(const struct super *rows, int each, struct lanes *to)
{
	__m256i v[AVX2_ROWS], t[8];
	float d[AVX2_ROWS], dmin[AVX2_ROWS];

	for (int j = 0; j < 8; j++) {
		for (int r = 0; r < AVX2_ROWS; r++)
			v[r] = rows[r].q[j];
		turn_words(v, &to->q[8 * j]);
	}
	for (int r = 0; r < AVX2_ROWS; r++)
		v[r] = rows[r].scale;
	turn_words(v, t);
	for (int j = 0; j < 8; j++) {
		to->scale[2 * j] = twice(t[j], false);
		to->scale[2 * j + 1] = twice(t[j], true);
	}
	for (int r = 0; r < AVX2_ROWS; r++)
		v[r] = each == 32 ? _mm256_castsi128_si256(rows[r].min32) : rows[r].min;
	turn_words(v, to->min);
	for (int r = 0; r < AVX2_ROWS; r++) {
		d[r] = rows[r].d;
		dmin[r] = rows[r].dmin;
	}
	to->d = _mm256_loadu_ps(d);
	to->dmin = _mm256_loadu_ps(dmin);
}

/* s[c] += words [k, k + @most) of a super-block times column c's, and their scale */
FORCE_INLINE void dots(const struct lanes *t, int most, int k, const int8_t *const *v, int cols,
		       __m256i (*s)[MANY_VECTORS])
{
	__m256i sum[AVX2_COLS][MANY_VECTORS];

#pragma GCC unroll 8
	for (int i = 0; i < most; i++) {
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const __m256i a = four_of(v[c], k + i);

#pragma GCC unroll 2
			for (int h = 0; h < MANY_VECTORS; h++) {
				const __m256i p = _mm256_maddubs_epi16(t[h].q[k + i], a);

				sum[c][h] = i ? _mm256_add_epi16(sum[c][h], p) : p;
				/* now: sums as a tree would not fit the registers */
				__asm__("" : "+x"(sum[c][h]));
			}
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
#pragma GCC unroll 2
		for (int h = 0; h < MANY_VECTORS; h++)
			s[c][h] = _mm256_add_epi32(s[c][h],
						   _mm256_madd_epi16(sum[c][h], t[h].scale[k / 4]));
	}
}

/* acc[c] += super-block @b of sixteen rows times that of column c */
FORCE_INLINE void multiply(const struct lanes *t, int most, enum super_form form, int each,
			   const struct act_super *const *x, int cols, size_t b,
			   __m256 (*acc)[MANY_VECTORS])
{
	__m256i s[AVX2_COLS][MANY_VECTORS];
	const int8_t *v[AVX2_COLS];
	const int pairs = 128 / each; /* of minima */

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		v[c] = x[c][b].q;
		s[c][0] = s[c][1] = _mm256_setzero_si256();
	}
#pragma GCC unroll 1
	for (int k = 0; k < 64; k += 8) {
#pragma GCC unroll 4
		for (int i = 0; i < 8; i += most)
			dots(t, most, k + i, v, cols, s);
	}
#pragma GCC unroll 1
	for (int c = 0; c < cols; c++) {
		const struct act_super *a = &x[c][b];
		const int16_t *sums = each == 32 ? a->sum32 : a->sum;

#pragma GCC unroll 2
		for (int h = 0; h < MANY_VECTORS; h++) {
			__m256i m = _mm256_setzero_si256();

#pragma GCC unroll 8
			for (int i = 0; i < pairs; i++)
				m = _mm256_add_epi32(
					m, _mm256_madd_epi16(t[h].min[i], two_of(sums, i)));
			if (form == SUPER_OFFSET)
				s[c][h] = _mm256_sub_epi32(s[c][h], m);
			acc[c][h] =
				add_scaled(acc[c][h], t[h].d, a->d, _mm256_cvtepi32_ps(s[c][h]));
			if (form == SUPER_MIN)
				acc[c][h] = take_scaled(acc[c][h], t[h].dmin, a->d,
							_mm256_cvtepi32_ps(m));
		}
	}
}

/* @most: so many words' sums of two products each with weights to @weight fit 16 bits, in one sub-block */
#define MANY(name, weight, most, form, each)                                                     \
	_Static_assert((most)*2 * (weight)*127 <= INT16_MAX, "sums fit 16 bits");                \
	void avx2_many_##name(const struct lanes *t, const struct act_super *const *x, int cols, \
			      size_t b, __m256(*acc)[MANY_VECTORS])                              \
	{                                                                                        \
		if (cols == 4)                                                                   \
			multiply(t, most, form, each, x, 4, b, acc);                             \
		else if (cols == 3)                                                              \
			multiply(t, most, form, each, x, 3, b, acc);                             \
		else if (cols == 2)                                                              \
			multiply(t, most, form, each, x, 2, b, acc);                             \
		else                                                                             \
			multiply(t, most, form, each, x, 1, b, acc);                             \
	}

MANY(min3, 3, 4, SUPER_MIN, 16)
MANY(min15, 15, 8, SUPER_MIN, 32)
MANY(min31, 31, 4, SUPER_MIN, 32)
MANY(offset31, 31, 4, SUPER_OFFSET, 16)
MANY(offset63, 63, 2, SUPER_OFFSET, 16)
MANY(offset127, 127, 1, SUPER_OFFSET, 16)
