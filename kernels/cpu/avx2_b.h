/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_b.h: eight blocks of 32 weights turned in registers, for the AVX2 level: a register then
 * holds four weights of each. Included by few_b_avx2.c and pair_b_avx2.c, where the blocks are of eight rows,
 * and by side_b_avx2.c, where they are eight of one row. Reads exactly the bytes of the blocks; any thread.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_B_H
#define SLUICE_KERNELS_CPU_AVX2_B_H

#include "kernels/cpu/avx2_level.h"

#define FEW_ROWS (2 * AVX2_ROWS) /* at most */
#include "kernels/cpu/few_b.h"

#define PIECE 272 /* bytes of a row in a step, at most: Q8_0 */

/*
 * What the weights of 32-blocks are:
 *   GROUP_SIGNED       w = d * q, q signed
 *   GROUP_MIN          w = d * q + min, q unsigned
 *   GROUP_8 and so on  w = d * (q - 8) and so on, q unsigned: below 16, below 32, a whole byte
 * Of GROUP_16 eight sums of two products wrap in 16 bits, but fit with the activations' less16.
 */
enum group_form { GROUP_SIGNED, GROUP_MIN, GROUP_8 = 8, GROUP_16 = 16, GROUP_128 = 128 };

/* what the formats differ in; constants after inlining */
struct b_format {
	enum b_form form;
	enum group_form group;
	size_t bytes, qs;  /* of a block, and where its values begin */
	size_t head;	   /* bytes at its front that are collected: 2, 4 or 8 */
	bool fp4;	   /* the scale is that of MXFP4 */
	uint8_t table[16]; /* FORM_TABLE */
};

/* @n <= @most rows of @m from @row on; @spare: @most times PIECE bytes */
FORCE_INLINE struct rows rows_from(const struct matmul *m, size_t row, size_t n, size_t most,
				   uint8_t *spare)
{
	return (struct rows){ .w = (const uint8_t *)m->w + row * m->row_bytes,
			      .row_bytes = m->row_bytes,
			      .n = n,
			      .most = most,
			      .blocks = m->n / 32,
			      .spare = spare,
			      .spare_bytes = PIECE };
}

/* Weights are whole bytes: they, or a column's activations, are multiplied in two parts of four bits. */
FORCE_INLINE bool in_parts(const struct b_format *f)
{
	return f->group == GROUP_128;
}

/* twice the upper parts of a table of bytes, 0 to 30 */
FORCE_INLINE __m256i twice_upper(__m256i table)
{
	return _mm256_and_si256(_mm256_srli_epi16(table, 3), _mm256_set1_epi8(30));
}

/* y += a block's sum @whole with a column, whose scale and sum of activations are @dx, @ax; rows in the lanes */
FORCE_INLINE __m256 add_block(const struct b_format *f, __m256 d, __m256 min, __m256i whole,
			      float dx, float ax, __m256 y)
{
	const float offset = f->group == GROUP_16 || in_parts(f) ? 0 : (float)f->group;
	const __m256 sums = _mm256_set1_ps(ax);
	__m256 sum = _mm256_cvtepi32_ps(whole);

	/* below 2^24 all of it: exact */
	if (offset >= GROUP_8)
		sum = _mm256_fnmadd_ps(_mm256_set1_ps(offset), sums, sum);
	y = add_scaled(y, d, dx, sum);
	if (f->group == GROUP_MIN)
		y = _mm256_fmadd_ps(_mm256_mul_ps(min, _mm256_set1_ps(dx)), sums, y);
	return y;
}

/* scales, minima and fifth bits (bit i: weight i) of eight blocks */
struct front {
	__m256 d, min;
	__m256i high;
};

FORCE_INLINE __m256i words_of(__m256i a, __m256i b, bool odd)
{
	const __m256 v = _mm256_castsi256_ps(a), w = _mm256_castsi256_ps(b);
	const __m256 mixed = odd ? _mm256_shuffle_ps(v, w, 0xdd) : _mm256_shuffle_ps(v, w, 0x88);

	return _mm256_permute4x64_epi64(_mm256_castps_si256(mixed), 0xd8);
}

/* 16 to those of the 32 weights of every block whose bit is set */
FORCE_INLINE void add_fifth(__m256i q[8], __m256i high)
{
	const __m256i bit = _mm256_set1_epi32((int)0x80402010u), sixteen = _mm256_set1_epi8(16);
	const __m256i first = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));

#pragma GCC unroll 4
	for (int p = 0; p < 4; p++) {
		const __m256i b = _mm256_shuffle_epi8(
			high, _mm256_add_epi8(first, _mm256_set1_epi8((char)p)));
		const __m256i a = _mm256_slli_epi16(b, 4);

		q[2 * p] = _mm256_or_si256(q[2 * p],
					   _mm256_min_epu8(_mm256_and_si256(a, bit), sixteen));
		q[2 * p + 1] = _mm256_or_si256(q[2 * p + 1],
					       _mm256_min_epu8(_mm256_and_si256(b, bit), sixteen));
	}
}

/* what is read of eight blocks' values, @stride apart: words of 16 bytes, of 32 where weights are bytes */
FORCE_INLINE void turn_values(const struct b_format *f, const uint8_t *w, size_t stride,
			      __m256i t[8])
{
	turn16(w + f->qs, stride, t);
	if (f->form == FORM_EIGHT)
		turn16(w + f->qs + 16, stride, t + 4);
}

/* q[k]: weights 4k..4k+3 of eight blocks */
FORCE_INLINE void values(const struct b_format *f, const __m256i t[8], __m256i high, __m256i q[8])
{
	const __m256i low4 = _mm256_set1_epi8(15);

	if (f->form == FORM_EIGHT) {
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			q[k] = t[k];
		return;
	}
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
		q[k] = _mm256_and_si256(t[k], low4);
		q[k + 4] = _mm256_and_si256(_mm256_srli_epi16(t[k], 4), low4);
	}
	if (f->form == FORM_FIVE)
		add_fifth(q, high);
	if (f->form == FORM_TABLE) {
		const __m256i table = _mm256_broadcastsi128_si256(load16(f->table));

#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			q[k] = _mm256_shuffle_epi8(table, q[k]);
	}
}

/* Formats, once: X(name, what struct b_format holds). TURNED: those of side_b_avx2.c. */
#define B_TURNED(X)                                                                             \
	X(q4_0, .form = FORM_NIBBLE, .group = GROUP_8, .bytes = QUANT_Q4_0_BYTES, .qs = 2,      \
	  .head = 2)                                                                            \
	X(q4_1, .form = FORM_NIBBLE, .group = GROUP_MIN, .bytes = QUANT_Q4_1_BYTES, .qs = 4,    \
	  .head = 4)                                                                            \
	X(q5_0, .form = FORM_FIVE, .group = GROUP_16, .bytes = QUANT_Q5_0_BYTES, .qs = 6,       \
	  .head = 8)                                                                            \
	X(q5_1, .form = FORM_FIVE, .group = GROUP_MIN, .bytes = QUANT_Q5_1_BYTES, .qs = 8,      \
	  .head = 8)                                                                            \
	X(iq4_nl, .form = FORM_TABLE, .group = GROUP_128, .bytes = QUANT_IQ4_NL_BYTES, .qs = 2, \
	  .head = 2,                                                                            \
	  .table = { 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241 }) \
	/* twice the value, so that all are integers, plus 16; the scale is halved for it */    \
	X(mxfp4, .form = FORM_TABLE, .group = GROUP_16, .bytes = QUANT_MXFP4_BYTES, .qs = 1,    \
	  .head = 2, .fp4 = true,                                                               \
	  .table = { 16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4 })
#define B_FORMATS(X)                                                                           \
	B_TURNED(X)                                                                            \
	X(q8_0, .form = FORM_EIGHT, .group = GROUP_SIGNED, .bytes = QUANT_Q8_0_BYTES, .qs = 2, \
	  .head = 2)

#endif
