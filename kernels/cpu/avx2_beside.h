/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_beside.h: four to eight columns of IQ1, IQ2 and IQ3 at the AVX2 level: columns lie side by side in a
 * call's scratch, each laid out as its format's products read it, and come to stand in the lanes, as in avx2_few.h.
 * Rows are streamed, eight super-blocks at a time, whose indices and scales are put together before the first is
 * looked up. Included by rows_iq_avx2.c and rows_iq1_avx2.c; any thread.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_BESIDE_H
#define SLUICE_KERNELS_CPU_AVX2_BESIDE_H

#include "kernels/cpu/avx2_few.h"

#define AHEAD 8 /* super-blocks */

/* 256 values of each column, sums of its sixteens (or a multiple of them), d. Columns that are not there are zero. */
struct beside {
	int8_t q[AVX2_FEW][8][32];
	int16_t sum[AVX2_FEW][16];
	float d[AVX2_FEW];
};

_Static_assert(sizeof(struct beside) <= sizeof(struct few_super), "fits a call's scratch");

/*
 * Constant where it is inlined. lay: column @c of @to from @x; add: @y, lanes by column, and @n <= AHEAD super-blocks of
 * a row times @cols columns; as many bytes are asked for from @ahead on.
 */
struct beside_kind {
	size_t bytes;
	void (*lay)(const struct act_super *x, struct beside *to, int c);
	__m256 (*add)(const uint8_t *w, const uint8_t *ahead, size_t n, const struct beside *x,
		      int cols, __m256 y);
};

/* y + d * what @cols sums' lanes add up to */
FORCE_INLINE __m256 beside_add(__m256 y, float d, const __m256i *sum, int cols,
			       const struct beside *x)
{
	const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(d), _mm256_loadu_ps(x->d));
	__m256i all[AVX2_FEW];

#pragma GCC unroll 8
	for (int c = 0; c < AVX2_FEW; c++)
		all[c] = c < cols ? sum[c] : _mm256_setzero_si256();
	return _mm256_fmadd_ps(scale, eight_sums(all), y);
}

/* @rows rows from @row on times columns [col, col + cols); @most, constant, are multiplied */
FORCE_INLINE void beside_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			      int most, struct beside_kind k)
{
	const size_t blocks = m->n / 256, end = row + rows;
	struct beside *x = m->scratch;

	memset(x, 0, blocks * sizeof(*x));
	for (size_t b = 0; b < blocks; b++)
		for (int c = 0; c < cols; c++)
			k.lay((const struct act_super *)m->x[col + (size_t)c] + b, &x[b], c);
	for (; row < end; row++) {
		const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;
		const uint8_t *ahead = rows_ahead(m, w, 1);
		__m256 y = _mm256_setzero_ps();

#pragma GCC unroll 1
		for (size_t b = 0; b < blocks; b += AHEAD)
			y = k.add(w + b * k.bytes, ahead + b * k.bytes,
				  blocks - b < AHEAD ? blocks - b : AHEAD, x + b, most, y);
		store_columns(m, row, col, cols, y);
	}
}

#endif
