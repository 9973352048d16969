/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_rows.h: up to four columns of super-blocks at the AVX2 level: rows are streamed, and
 * multiplied as they are unpacked; more: avx2_few.h, few_k_avx2.c. Blocks of 32: matmul_b_avx2.c.
 * Included by the files that have the formats, matmul_k_avx2.c, matmul_iq_avx2.c and matmul_tq_avx2.c.
 *
 * A row's floats are added block by block, and each addition waits for the one before; so several
 * rows' are added together, rows in lanes. Super-blocks are many instructions each: rows are read one
 * after the other, the whole numbers of eight rows kept, the floats added behind. Memory is asked for in
 * file order.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_ROWS_H
#define SLUICE_KERNELS_CPU_AVX2_ROWS_H

#include "kernels/cpu/avx2_few.h"
#include "kernels/cpu/avx2_many.h"

/*
 * What super-blocks of up to eight rows add up to, in file order: rows one after the other. In a
 * call's scratch; @whole is of one column, @head as in struct super.
 */
struct numbers {
	uint32_t *head;
	float *whole[AVX2_ALONE];
};

FORCE_INLINE void numbers_init(struct numbers *o, float *scratch, size_t blocks)
{
	const size_t each = avx2_numbers_floats(blocks);

	o->head = (uint32_t *)scratch;
	for (size_t c = 0; c < AVX2_ALONE; c++)
		o->whole[c] = scratch + (1 + c) * each;
}

/* Partial sums of super-blocks that wait until they are eight. */
struct pool {
	__m256i sum[AVX2_ALONE][8];
};

/* Numbers [at, at + 8) from the pool. */
FORCE_INLINE void pool_add(const struct pool *p, int cols, size_t at, const struct numbers *o)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		_mm256_storeu_ps(o->whole[c] + at, eight_sums(p->sum[c]));
}

/* v[i]: numbers [b, b + 8) of @rows rows, to lanes by row; rows that are not there repeat the last */
FORCE_INLINE void load_lanes(const float *from, size_t blocks, size_t b, size_t rows, __m256 v[8])
{
	for (size_t r = 0; r < 8; r++)
		v[r] = _mm256_loadu_ps(from + (r < rows ? r : rows - 1) * blocks + b);
	transpose8((__m256i *)v);
}

/* d of eight heads */
FORCE_INLINE __m256 head_scales(__m256 head, const struct super_kind *k)
{
	__m256 d, above;

	two_halves(_mm256_castps_si256(head), &d, &above);
	return k->factor != 1 ? _mm256_mul_ps(d, _mm256_set1_ps(k->factor)) : d;
}

/* @rows <= 8 rows of one column from their numbers: lanes are rows */
FORCE_INLINE __m256 super_finish(const struct numbers *o, size_t blocks, size_t rows,
				 const struct super_kind *k, const struct act_super *x, int c)
{
	__m256 y = _mm256_setzero_ps();

#pragma GCC unroll 1
	for (size_t b = 0; b < blocks; b += 8) {
		const size_t n = blocks - b < 8 ? blocks - b : 8;
		__m256 head[8], whole[8];

		load_lanes((const float *)o->head, blocks, b, rows, head);
		load_lanes(o->whole[c], blocks, b, rows, whole);
#pragma GCC unroll 1
		for (size_t j = 0; j < n; j++)
			y = add_scaled(y, head_scales(head[j], k), x[b + j].d, whole[j]);
	}
	return y;
}

/* @rows rows of @m from @w on: the numbers of their super-blocks */
FORCE_INLINE void super_numbers(const struct matmul *m, const uint8_t *w, size_t rows,
				size_t blocks, super_unpack_fn unpack, const struct super_kind *k,
				const struct act_super *const *x, int cols, struct pool *p,
				const struct numbers *o)
{
	const size_t count = rows * blocks;
	size_t i = 0;

#pragma GCC unroll 1
	for (size_t r = 0; r < rows; r++, w += m->row_bytes) {
		const uint8_t *at = w, *ahead = rows_ahead(m, w, 1);

#pragma GCC unroll 1
		for (size_t b = 0; b < blocks; b++, at += k->bytes, ahead += k->bytes) {
			__m256i sum[AVX2_ALONE];
			__m256i sign[8];
			struct super s;

			prefetch_from(ahead, k->bytes);
			unpack(at, &s, sign);
			super_sums(&s, sign, k->form, x, cols, b, sum);
			o->head[i] = s.head;
#pragma GCC unroll 4
			for (int c = 0; c < cols; c++)
				p->sum[c][i % 8] = sum[c];
			if (++i % 8 == 0 || i == count)
				pool_add(p, cols, (i - 1) & ~(size_t)7, o);
		}
	}
}

/* Rows in file order, each read once, for up to four columns; @unpack and @cols are constants here. */
FORCE_INLINE void super_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			     super_unpack_fn unpack, struct super_kind k)
{
	const struct act_super *x[AVX2_ALONE] = { NULL };
	const size_t blocks = m->n / 256, end = row + rows;
	struct numbers o;
	struct pool p;

	numbers_init(&o, m->scratch, blocks);
	for (int c = 0; c < cols; c++) {
		x[c] = m->x[col + (size_t)c];
		for (int i = 0; i < 8; i++)
			p.sum[c][i] = _mm256_setzero_si256();
	}
	for (; row < end; row += AVX2_ROWS) {
		const size_t n = end - row < AVX2_ROWS ? end - row : AVX2_ROWS;
		const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;

		super_numbers(m, w, n, blocks, unpack, &k, x, cols, &p, &o);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row,
				   super_finish(&o, blocks, n, &k, x[c], c), n);
	}
}

/* A format's functions for one, two, and more columns: constants all but the matrix. */
#define SUPER_ROWS(t, unpack, form, factor, bytes)                                        \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		const struct super_kind k = { form, factor, bytes };                      \
                                                                                          \
		if (cols == 1)                                                            \
			super_rows(m, row, rows, col, 1, unpack, k);                      \
		else if (cols == 2)                                                       \
			super_rows(m, row, rows, col, 2, unpack, k);                      \
		else if (cols == 3)                                                       \
			super_rows(m, row, rows, col, 3, unpack, k);                      \
		else if (cols == 4)                                                       \
			super_rows(m, row, rows, col, 4, unpack, k);                      \
		else if (cols <= 6)                                                       \
			few_super_rows(m, row, rows, col, cols, 6, unpack, k);            \
		else                                                                      \
			few_super_rows(m, row, rows, col, cols, 8, unpack, k);            \
	}

#endif
