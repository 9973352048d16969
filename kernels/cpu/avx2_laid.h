/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_laid.h: one or two columns of super-blocks at the AVX2 level whose activations a call lays out
 * in its scratch, once, as the format's products read them. Rows are streamed and their floats added as in
 * avx2_rows.h. Included by matmul_tq_avx2.c and side_xs_avx2.c; any thread.
 *
 * A super-block is turned while the one before is multiplied: its operations wait long for each other, and a core
 * looks no further ahead than about one of them.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_LAID_H
#define SLUICE_KERNELS_CPU_AVX2_LAID_H

#include "kernels/cpu/avx2_rows.h"

/* What products read of a super-block of weights. */
struct laid {
	__m256i v[5];
	uint32_t head; /* as in struct super */
};

/* What a format says, constant after inlining; @sum returns partial sums. */
struct laid_kind {
	void (*lay)(const struct act_super *x, void *to);
	void (*turn)(const uint8_t *w, struct laid *to);
	__m256i (*sum)(const struct laid *w, const void *x);
	size_t each; /* bytes of 256 activations laid out, at most AVX2_LAID */
	int cols;    /* at most AVX2_LAID_COLS */
	struct super_kind super;
};

/* @rows rows of @m from @w on: the numbers of their super-blocks with @laid */
FORCE_INLINE void laid_numbers(const struct matmul *m, const uint8_t *w, size_t rows,
			       const char *laid, const struct laid_kind *k, struct pool *p,
			       const struct numbers *o)
{
	const size_t blocks = m->n / 256, count = rows * blocks, bytes = k->super.bytes;
	const uint8_t *ahead = rows_ahead(m, w, rows);
	struct laid now, next;
	size_t i = 0;

	k->turn(w, &next);
#pragma GCC unroll 1
	for (size_t r = 0; r < rows; r++, w += m->row_bytes) {
		/* the last super-block of all is turned again */
		const uint8_t *then = r + 1 < rows ? w + m->row_bytes : w;
		const char *x = laid;

#pragma GCC unroll 1
		for (size_t b = 0; b < blocks; b++, ahead += bytes) {
			prefetch_from(ahead, bytes);
			now = next;
			k->turn(b + 1 < blocks ? w + (b + 1) * bytes : then, &next);
			o->head[i] = now.head;
#pragma GCC unroll 2
			for (int c = 0; c < k->cols; c++, x += k->each)
				p->sum[c][i % 8] = k->sum(&now, x);
			if (++i % 8 == 0 || i == count)
				pool_add(p, k->cols, (i - 1) & ~(size_t)7, o);
		}
	}
}

/* Columns [col, col + k.cols) to @to, side by side. */
FORCE_INLINE void lay_out(const struct matmul *m, size_t col, const struct laid_kind *k, char *to)
{
	for (size_t b = 0; b < m->n / 256; b++)
		for (int c = 0; c < k->cols; c++, to += k->each)
			k->lay((const struct act_super *)m->x[col + (size_t)c] + b, to);
}

/* @rows rows from @row on times columns [col, col + k.cols) */
FORCE_INLINE void laid_rows(const struct matmul *m, size_t row, size_t rows, size_t col,
			    struct laid_kind k)
{
	const size_t blocks = m->n / 256, end = row + rows;
	char *laid = (char *)m->scratch + avx2_numbers_bytes(blocks);
	struct numbers o;
	struct pool p;

	numbers_init(&o, m->scratch, blocks);
	lay_out(m, col, &k, laid);
	for (int i = 0; i < 8; i++)
		p.sum[0][i] = p.sum[1][i] = _mm256_setzero_si256();
	for (; row < end; row += AVX2_ROWS) {
		const size_t n = end - row < AVX2_ROWS ? end - row : AVX2_ROWS;

		laid_numbers(m, (const uint8_t *)m->w + row * m->row_bytes, n, laid, &k, &p, &o);
		for (int c = 0; c < k.cols; c++) {
			const size_t to = col + (size_t)c;

			store_rows(m->y[to] + row,
				   super_finish(&o, blocks, n, &k.super, m->x[to], c), n);
		}
	}
}

#endif
