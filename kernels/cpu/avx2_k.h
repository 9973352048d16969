/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_k.h: few columns of super-blocks with eight rows in the lanes, at the AVX2 level: how rows are
 * turned and walked. Included by few_k_avx2.c and few_xs_avx2.c; any thread.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_K_H
#define SLUICE_KERNELS_CPU_AVX2_K_H

#include "base/num.h"
#include "kernels/cpu/avx2_level.h"

#define PIECE 192 /* bytes of a super-block, at most */

enum { TWO = 1, THREE = 2, FOUR = 4, EIGHT = 8 }; /* columns, sets of numbers of them */

/* y[c] += a super-block of each of eight rows, @stride bytes apart, times that of column c */
typedef void (*super_fn)(const uint8_t *w, size_t stride, const struct act_super *const *x,
			 int cols, __m256 *y);

/* 32 bytes of each of eight rows -> t[k]: word k of every row */
FORCE_INLINE void turn32(const uint8_t *w, size_t stride, __m256i t[8])
{
	turn16(w, stride, t);
	turn16(w + 16, stride, t + 4);
}

/* a + b in 16 bits, now: see add_here() */
FORCE_INLINE __m256i add_pairs(__m256i a, __m256i b)
{
	a = _mm256_add_epi16(a, b);
	__asm__("" : "+x"(a));
	return a;
}

/* words k.. of a sub-block times a column's, @most of them, in 16 bits */
FORCE_INLINE __m256i pairs(const __m256i q[8], int k, int most, const int8_t *v)
{
	__m256i s = _mm256_maddubs_epi16(q[k], four_of(v, k));

#pragma GCC unroll 8
	for (int i = k + 1; i < k + most; i++)
		s = add_pairs(s, _mm256_maddubs_epi16(q[i], four_of(v, i)));
	return s;
}

/* byte @j of every word as a pair of int16 */
FORCE_INLINE __m256i byte_twice(__m256i bytes, int j)
{
	const __m128i first = _mm_setr_epi8(0, -128, 0, -128, 4, -128, 4, -128, 8, -128, 8, -128,
					    12, -128, 12, -128);

	return _mm256_shuffle_epi8(
		bytes, _mm256_broadcastsi128_si256(_mm_add_epi8(first, _mm_set1_epi8((char)j))));
}

/* bytes @j and @j + 1 of every word as a pair of int16 */
FORCE_INLINE __m256i two_bytes(__m256i bytes, int j)
{
	const __m128i first = _mm_setr_epi8(0, -128, 1, -128, 4, -128, 5, -128, 8, -128, 9, -128,
					    12, -128, 13, -128);

	return _mm256_shuffle_epi8(
		bytes, _mm256_broadcastsi128_si256(_mm_add_epi8(first, _mm_set1_epi8((char)j))));
}

/* sums of @count pairs of minima times a column's sums of activations */
FORCE_INLINE __m256i minima(const __m256i *pair, int count, const int16_t *sums)
{
	__m256i m = _mm256_setzero_si256();

#pragma GCC unroll 8
	for (int i = 0; i < count; i++)
		m = _mm256_add_epi32(m, _mm256_madd_epi16(pair[i], two_of(sums, i)));
	return m;
}

/* y[c]: @n <= AVX2_ROWS rows from @w on times column c */
FORCE_INLINE void walk(const struct matmul *m, const uint8_t *w, size_t n, super_fn multiply,
		       size_t bytes, const struct act_super *const *x, int cols, __m256 *y)
{
	const size_t step = AVX2_ROWS * bytes;
	const char *ahead = (const char *)rows_ahead(m, w, AVX2_ROWS);
	uint8_t spare[AVX2_ROWS][PIECE];

	for (size_t b = 0; b < m->n / 256; b++, w += bytes, ahead += step) {
		const struct act_super *at[AVX2_FEW];

		for (int c = 0; c < cols; c++)
			at[c] = x[c] + b;
		/* in file order, as memory likes it best */
		for (size_t i = 0; i < step; i += 64)
			_mm_prefetch(ahead + i, _MM_HINT_T1);
		if (n == AVX2_ROWS) {
			multiply(w, m->row_bytes, at, cols, y);
			continue;
		}
		/* the last of fewer rows stands for those that are not there */
		for (size_t r = 0; r < AVX2_ROWS; r++)
			memcpy(spare[r], w + u64_min(r, n - 1) * m->row_bytes, bytes);
		multiply(spare[0], PIECE, at, cols, y);
	}
}

FORCE_INLINE void few(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
		      super_fn multiply, size_t bytes)
{
	const struct act_super *x[AVX2_FEW] = { NULL };
	const size_t end = row + rows;

	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	for (; row < end; row += AVX2_ROWS) {
		const size_t n = u64_min(AVX2_ROWS, end - row);
		__m256 y[AVX2_FEW];

		for (int c = 0; c < cols; c++)
			y[c] = _mm256_setzero_ps();
		walk(m, (const uint8_t *)m->w + row * m->row_bytes, n, multiply, bytes, x, cols, y);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row, y[c], n);
	}
}

/* any number of columns, as a function of its own: inside walk() the registers are fewer (Q2_K: 1.05) */
#define FEW_LOOP(T, name)                                                                   \
	static __attribute__((noinline)) void loop_##name(const uint8_t *w, size_t stride,  \
							  const struct act_super *const *x, \
							  int cols, __m256 *y)              \
	{                                                                                   \
		name(w, stride, x, cols, y);                                                \
	}                                                                                   \
	static void few_##name(const struct matmul *m, size_t row, size_t rows, size_t col, \
			       int cols)                                                    \
	{                                                                                   \
		few(m, row, rows, col, cols, loop_##name, QUANT_##T##_BYTES);               \
	}
/* numbers of columns in the set @out (bits) are constants, and loops over them are written out */
#define FEW(T, name, out)                                                                 \
	FEW_LOOP(T, name)                                                                 \
	void avx2_few_##name(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		if (((out)&TWO) && cols == 2)                                             \
			few(m, row, rows, col, 2, name, QUANT_##T##_BYTES);               \
		else if (((out)&THREE) && cols == 3)                                      \
			few(m, row, rows, col, 3, name, QUANT_##T##_BYTES);               \
		else if (((out)&FOUR) && cols == 4)                                       \
			few(m, row, rows, col, 4, name, QUANT_##T##_BYTES);               \
		else if (((out)&EIGHT) && cols == 8)                                      \
			few(m, row, rows, col, 8, name, QUANT_##T##_BYTES);               \
		else                                                                      \
			few_##name(m, row, rows, col, cols);                              \
	}

#endif
