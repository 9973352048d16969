/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_eight.h: few columns of super-blocks at the AVX2 level, eight super-blocks that lie behind each
 * other in the lanes: how rows are walked, and what becomes of sums. Included by eight_tq_avx2.c; any thread.
 *
 * As in avx2_k.h a register holds four weights of each of eight super-blocks, and nothing is added across lanes. But
 * these are of one row, or of rows without gaps between them, so activations are not broadcast: a call lays them in
 * its scratch as weights come to lie, and products read them from there. Sums of eight rows wait until all are there;
 * then rows stand in the lanes, and floats are added.
 *
 * Where a row is no multiple of eight super-blocks, eight may begin anywhere in it. Each such beginning is a phase and
 * has a layout of activations of its own; eight_fits() (avx2_level.h) says where these are not too many.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_EIGHT_H
#define SLUICE_KERNELS_CPU_AVX2_EIGHT_H

#include "base/num.h"
#include "kernels/cpu/avx2_rows.h"

#define EIGHT_BYTES 66 /* of a super-block, at most */

/* What eight super-blocks give: sums, which are whole, by column, and d. */
struct eight_out {
	__m256i sum[AVX2_FEW];
	__m256 d;
};

/*
 * Constant where it is inlined. lay: columns' activations of eight super-blocks, @at[i] of each the i-th, to @to, where
 * multiply reads them, EIGHT_VECTORS of a column.
 */
struct eight_kind {
	void (*lay)(const struct act_super *const *x, const size_t *at, int cols, __m256i *to);
	void (*multiply)(const uint8_t *w, const __m256i *x, int cols, struct eight_out *to);
	size_t bytes;
};

/* What the super-blocks of eight rows give, in file order: floats, in scratch. */
struct eight_numbers {
	float *d, *sum[AVX2_FEW];
};

/* y[c]: the floats of @rows <= 8 rows, of @cols <= 4 columns that do not wait for each other */
FORCE_INLINE void eight_finish(const float *of_d, float *const *of_sum, size_t blocks, size_t rows,
			       const struct act_super *const *x, int cols, __m256 *y)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		y[c] = _mm256_setzero_ps();
#pragma GCC unroll 1
	for (size_t b = 0; b < blocks; b += 8) {
		const size_t n = u64_min(blocks - b, 8);
		__m256 d[8], sum[4][8];

		load_lanes(of_d, blocks, b, rows, d);
#pragma GCC unroll 1
		for (int c = 0; c < cols; c++)
			load_lanes(of_sum[c], blocks, b, rows, sum[c]);
#pragma GCC unroll 1
		for (size_t j = 0; j < n; j++) {
#pragma GCC unroll 4
			for (int c = 0; c < cols; c++)
				y[c] = add_scaled(y[c], d[j], x[c][b + j].d, sum[c][j]);
		}
	}
}

/* the numbers of @n <= 8 rows at @w times @cols columns laid at @laid */
FORCE_INLINE void eight_multiply(const struct matmul *m, const uint8_t *w, size_t n,
				 const __m256i *laid, int cols, const struct eight_kind *k,
				 const struct eight_numbers *o)
{
	const size_t blocks = m->n / 256, count = n * blocks, step = 8 * k->bytes;
	const size_t phases = avx2_eight_phases(blocks);
	const uint8_t *ahead = rows_ahead(m, w, AVX2_ROWS);
	uint8_t spare[8 * EIGHT_BYTES];

#pragma GCC unroll 1
	for (size_t p = 0; p < phases; p++, laid += (size_t)cols * EIGHT_VECTORS) {
#pragma GCC unroll 1
		for (size_t i = 8 * p; i < count; i += 8 * phases, ahead += step) {
			const uint8_t *from = w + i * k->bytes;
			struct eight_out s;

			prefetch_from(ahead, step);
			if (count - i < 8) {
				memset(spare, 0, step);
				memcpy(spare, from, (count - i) * k->bytes);
				from = spare;
			}
			k->multiply(from, laid, cols, &s);
			_mm256_storeu_ps(o->d + i, s.d);
#pragma GCC unroll 8
			for (int c = 0; c < cols; c++)
				_mm256_storeu_ps(o->sum[c] + i, _mm256_cvtepi32_ps(s.sum[c]));
		}
	}
}

/* Columns [col, col + cols) times @rows rows, as @some >= cols, constant: the last one stands for those not there. */
FORCE_INLINE void eight_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			     int some, struct eight_kind k)
{
	const size_t blocks = m->n / 256, end = row + rows, phases = avx2_eight_phases(blocks);
	const size_t each = avx2_numbers_floats(blocks);
	const struct act_super *x[AVX2_FEW];
	__m256i *laid = m->scratch, *to = laid;
	struct eight_numbers o;

	for (int c = 0; c < some; c++)
		x[c] = m->x[col + (size_t)(c < cols ? c : cols - 1)];
	for (size_t p = 0; p < phases; p++, to += (size_t)some * EIGHT_VECTORS) {
		size_t at[8];

		for (size_t j = 0; j < 8; j++)
			at[j] = (8 * p + j) % blocks;
		k.lay(x, at, some, to);
	}
	o.d = (float *)to;
	for (int c = 0; c < some; c++)
		o.sum[c] = o.d + (1 + (size_t)c) * each;
	for (; row < end; row += AVX2_ROWS) {
		const size_t n = u64_min(AVX2_ROWS, end - row);
		__m256 y[AVX2_FEW];

		eight_multiply(m, (const uint8_t *)m->w + row * m->row_bytes, n, laid, some, &k,
			       &o);
		for (int c = 0; c < some; c += 4)
			eight_finish(o.d, o.sum + c, blocks, n, x + c, some - c < 4 ? some - c : 4,
				     y + c);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row, y[c], n);
	}
}

#endif
