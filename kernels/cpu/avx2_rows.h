/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_rows.h: up to four columns of super-blocks at the AVX2 level: rows are streamed, and
 * multiplied as they are unpacked; more: avx2_few.h, few_k_avx2.c. Blocks of 32: side_b_avx2.c, few_b_avx2.c.
 * Included by the files that have the formats, matmul_k_avx2.c, matmul_b_avx2.c and matmul_iq_avx2.c.
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
 * call's scratch; @whole and @mins are of one column, @head as in struct super.
 */
struct numbers {
	uint32_t *head;
	float *whole[AVX2_ALONE], *mins[AVX2_ALONE];
};

FORCE_INLINE void numbers_init(struct numbers *o, float *scratch, size_t blocks)
{
	const size_t each = avx2_numbers_floats(blocks);

	o->head = (uint32_t *)scratch;
	for (size_t c = 0; c < AVX2_ALONE; c++) {
		o->whole[c] = scratch + (1 + 2 * c) * each;
		o->mins[c] = o->whole[c] + each;
	}
}

/*
 * Partial sums of super-blocks that wait until they are eight. Minima per 32 have four partial sums
 * each, those of two super-blocks in a vector.
 */
struct pool {
	__m256i sum[AVX2_ALONE][8];
	union {
		__m256i eight[8];
		__m128i four[8];
	} mins[AVX2_ALONE];
};

/* Numbers [at, at + 8) from the pool. */
FORCE_INLINE void pool_add(const struct pool *p, const struct super_kind *k, int cols, size_t at,
			   const struct numbers *o)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		const __m256i *m = p->mins[c].eight;

		_mm256_storeu_ps(o->whole[c] + at, eight_sums(p->sum[c]));
		if (k->form != SUPER_MIN)
			continue;
		if (k->each == 16) {
			_mm256_storeu_ps(o->mins[c] + at, eight_sums(m));
		} else {
			const __m128i *f = p->mins[c].four;
			__m256i v[4];

			/* half by half, as they were stored: a load of two stores would wait */
#pragma GCC unroll 4
			for (int i = 0; i < 4; i++)
				v[i] = _mm256_set_m128i(f[i + 4], f[i]);
			_mm256_storeu_ps(o->mins[c] + at,
					 _mm256_cvtepi32_ps(sum_four(sum_pair(v[0], v[1]),
								     sum_pair(v[2], v[3]))));
		}
	}
}

/* v[i]: numbers [b, b + 8) of @rows rows, to lanes by row; rows that are not there repeat the last */
FORCE_INLINE void load_lanes(const float *from, size_t blocks, size_t b, size_t rows, __m256 v[8])
{
	for (size_t r = 0; r < 8; r++)
		v[r] = _mm256_loadu_ps(from + (r < rows ? r : rows - 1) * blocks + b);
	transpose8((__m256i *)v);
}

/* d and dmin of eight heads */
FORCE_INLINE __m256 head_scales(__m256 head, const struct super_kind *k, __m256 *dmin)
{
	__m256 d, second;

	two_halves(_mm256_castps_si256(head), &d, &second);
	if (k->form == SUPER_MIN)
		*dmin = second;
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
		__m256 head[8], whole[8], mins[8];

		load_lanes((const float *)o->head, blocks, b, rows, head);
		load_lanes(o->whole[c], blocks, b, rows, whole);
		if (k->form == SUPER_MIN)
			load_lanes(o->mins[c], blocks, b, rows, mins);
#pragma GCC unroll 1
		for (size_t j = 0; j < n; j++) {
			__m256 dmin = _mm256_setzero_ps();
			const __m256 d = head_scales(head[j], k, &dmin);

			y = add_scaled(y, d, x[b + j].d, whole[j]);
			if (k->form == SUPER_MIN)
				y = take_scaled(y, dmin, x[b + j].d, mins[j]);
		}
	}
	return y;
}

/* @rows rows from @w on: the numbers of their super-blocks */
FORCE_INLINE void super_numbers(const uint8_t *w, size_t row_bytes, size_t rows, size_t blocks,
				super_unpack_fn unpack, const struct super_kind *k,
				const struct act_super *const *x, int cols, struct pool *p,
				const struct numbers *o)
{
	const size_t count = rows * blocks;
	size_t i = 0;

#pragma GCC unroll 1
	for (size_t r = 0; r < rows; r++, w += row_bytes) {
		const uint8_t *at = w;

#pragma GCC unroll 1
		for (size_t b = 0; b < blocks; b++, at += k->bytes) {
			__m256i sum[AVX2_ALONE], mins[AVX2_ALONE];
			__m256i sign[8];
			struct super s;

			prefetch_ahead(at, k->bytes);
			unpack(at, &s, sign);
			super_sums(&s, sign, k->form, x, cols, b, sum, mins);
			o->head[i] = s.head;
#pragma GCC unroll 4
			for (int c = 0; c < cols; c++) {
				p->sum[c][i % 8] = sum[c];
				if (k->form != SUPER_MIN)
					continue;
				if (k->each == 16)
					p->mins[c].eight[i % 8] = mins[c];
				else
					p->mins[c].four[i % 8] =
						_mm_madd_epi16(s.min32, load16(x[c][b].sum32));
			}
			if (++i % 8 == 0 || i == count)
				pool_add(p, k, cols, (i - 1) & ~(size_t)7, o);
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
			p.sum[c][i] = p.mins[c].eight[i] = _mm256_setzero_si256();
	}
	for (; row < end; row += AVX2_ROWS) {
		const size_t n = end - row < AVX2_ROWS ? end - row : AVX2_ROWS;
		const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;

		super_numbers(w, m->row_bytes, n, blocks, unpack, &k, x, cols, &p, &o);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row,
				   super_finish(&o, blocks, n, &k, x[c], c), n);
	}
}

/*
 * Blocks of 32 whose weights are bytes, up to three columns: four rows are read side by side, so that their
 * sums wait for each other less. Formats that are unpacked first are faster turned (side_b_avx2.c).
 */
#define SIDE 4

/* Eight blocks of them: sums by column, scales and minima; lanes are blocks. */
struct side {
	__m256 sum[AVX2_ALONE][SIDE], d[SIDE], min[SIDE];
};

FORCE_INLINE __m128 half_of(__m256 v, int half)
{
	return half ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v);
}

/* y += eight blocks of SIDE rows: their sums, scales and minima by row, of column @x */
FORCE_INLINE __m128 side_add(__m128 y, __m256 sum[SIDE], const __m256 *d, const __m256 *min,
			     enum group_form form, const struct act_group *x)
{
	const __m256 dx = _mm256_loadu_ps(x->d);
	__m256 scale[SIDE], low[SIDE];

#pragma GCC unroll 4
	for (int r = 0; r < SIDE; r++) {
		scale[r] = _mm256_mul_ps(d[r], dx);
		low[r] = form == GROUP_MIN ? _mm256_mul_ps(min[r], dx) : dx;
	}
	transpose4(sum);
	transpose4(scale);
	if (form == GROUP_MIN)
		transpose4(low);
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		y = _mm_fmadd_ps(half_of(scale[j % 4], j / 4), half_of(sum[j % 4], j / 4), y);
		if (form == GROUP_MIN)
			y = _mm_fmadd_ps(half_of(low[j % 4], j / 4), _mm_set1_ps(x->sum[j]), y);
	}
	return y;
}

/* whole[c] as of group_sums(), a pair of blocks at a time from @w */
FORCE_INLINE void stream_sums(const uint8_t *w, unsigned blocks, block_values_fn values,
			      enum group_form form, size_t bytes, const struct act_group *const *x,
			      int cols, size_t b, __m256 *whole)
{
	__m256i half[AVX2_ALONE][2];

#pragma GCC unroll 2
	for (unsigned h = 0; h < 2; h++) {
		__m256i two[AVX2_ALONE][2];

#pragma GCC unroll 2
		for (unsigned i = 0; i < 2; i++) {
			const unsigned j = 4 * h + 2 * i;
			__m256i q[2];

#pragma GCC unroll 2
			for (unsigned k = 0; k < 2; k++)
				q[k] = j + k < blocks ? values(w + (j + k) * bytes)
						      : _mm256_setzero_si256();
#pragma GCC unroll 4
			for (int c = 0; c < cols; c++)
				two[c][i] = two_blocks(
					pair_sums(q[0], load32(x[c][b].q[j]), form),
					pair_sums(q[1], load32(x[c][b].q[j + 1]), form), form);
			/* or the compiler loads what no register is left for */
			__asm__ volatile("" ::: "memory");
		}
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			half[c][h] = four_blocks(two[c][0], two[c][1], form);
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		whole[c] = eight_blocks(half[c], form, &x[c][b]);
}

/* One step of a row: eight blocks at @w, or fewer; as many bytes at @ahead are asked for. */
FORCE_INLINE void side_row(const uint8_t *w, const uint8_t *ahead, unsigned blocks,
			   block_values_fn values, block_scales_fn scales, enum group_form form,
			   size_t bytes, const struct act_group *const *x, int cols, size_t b,
			   struct side *s, int r)
{
	__m256 whole[AVX2_ALONE];

	/* or the compiler keeps the address of every block */
	__asm__("" : "+r"(w));
#pragma GCC unroll 8
	for (size_t i = 0; i < 8 * bytes; i += 64)
		_mm_prefetch((const char *)ahead + i, _MM_HINT_T1);
	scales(w, blocks, &s->d[r], &s->min[r]);
	stream_sums(w, blocks, values, form, bytes, x, cols, b, whole);
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		s->sum[c][r] = whole[c];
}

FORCE_INLINE void side_step(const uint8_t *const *w, const uint8_t *ahead, size_t at,
			    unsigned blocks, block_values_fn values, block_scales_fn scales,
			    enum group_form form, size_t bytes, const struct act_group *const *x,
			    int cols, size_t b, __m128 *y)
{
	struct side s;

	ahead += SIDE * at;
	if (cols == 1) {
#pragma GCC unroll 4
		for (int r = 0; r < SIDE; r++, ahead += 8 * bytes)
			side_row(w[r] + at, ahead, blocks, values, scales, form, bytes, x, cols, b,
				 &s, r);
	} else {
#pragma GCC unroll 1
		for (int r = 0; r < SIDE; r++, ahead += 8 * bytes)
			side_row(w[r] + at, ahead, blocks, values, scales, form, bytes, x, cols, b,
				 &s, r);
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		y[c] = side_add(y[c], s.sum[c], s.d, s.min, form, &x[c][b]);
}

FORCE_INLINE void group_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			     block_values_fn values, block_scales_fn scales, enum group_form form,
			     size_t bytes)
{
	const struct act_group *x[AVX2_ALONE] = { NULL };
	const size_t blocks = m->n / 32, whole = blocks / 8, end = row + rows;

	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	for (; row < end; row += SIDE) {
		const uint8_t *w[SIDE], *next = (const uint8_t *)m->w + row * m->row_bytes;
		const size_t n = row + SIDE <= end ? SIDE : end - row;
		__m128 y[AVX2_ALONE];

		/* in file order, as memory likes it best: the rows after these, or what comes later */
		next += SIDE * m->row_bytes > PREFETCH_AHEAD ? SIDE * m->row_bytes : PREFETCH_AHEAD;
		for (size_t r = 0; r < SIDE; r++)
			w[r] = (const uint8_t *)m->w + (row + (r < n ? r : n - 1)) * m->row_bytes;
		for (int c = 0; c < cols; c++)
			y[c] = _mm_setzero_ps();
#pragma GCC unroll 1
		for (size_t b = 0; b < whole; b++)
			side_step(w, next, 8 * b * bytes, 8, values, scales, form, bytes, x, cols,
				  b, y);
		if (blocks % 8)
			side_step(w, next, 8 * whole * bytes, (unsigned)(blocks % 8), values,
				  scales, form, bytes, x, cols, whole, y);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row, _mm256_zextps128_ps256(y[c]), n);
	}
}

/*
 * A format's functions for one, two, and more columns: constants all but the matrix. @side: up to so many
 * columns of 32-blocks are multiplied by side_b_avx2.c, more by few_b_avx2.c.
 */
#define SUPER_ROWS(t, unpack, form, each, factor, bytes)                                  \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		const struct super_kind k = { form, each, factor, bytes };                \
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
/* more columns than @alone, 1 to 4, by few_k_avx2.c */
#define SUPER_ROWS_FEW(t, unpack, form, each, alone, factor, bytes)                       \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		const struct super_kind k = { form, each, factor, bytes };                \
                                                                                          \
		if (cols == 1)                                                            \
			super_rows(m, row, rows, col, 1, unpack, k);                      \
		else if (cols == 2 && (alone) >= 2)                                       \
			super_rows(m, row, rows, col, 2, unpack, k);                      \
		else if (cols == 3 && (alone) >= 3)                                       \
			super_rows(m, row, rows, col, 3, unpack, k);                      \
		else if (cols == 4 && (alone) >= 4)                                       \
			super_rows(m, row, rows, col, 4, unpack, k);                      \
		else                                                                      \
			avx2_few_##t(m, row, rows, col, cols);                            \
	}
/* The table row of format @t from its inline unpack_@t; @alone as above, @many: see avx2_many.h. */
#define SUPER_UNSIGNED(t)                                                                \
	FORCE_INLINE void unsigned_##t(const uint8_t *w, struct super *s, __m256i *sign) \
	{                                                                                \
		unpack_##t(w, s);                                                        \
	}
#define SUPER_TABLE(T, t, each, many)                                                     \
	static void unpack_to_##t(const uint8_t *w, struct super *to)                     \
	{                                                                                 \
		unpack_##t(w, to);                                                        \
	}                                                                                 \
	const struct avx2_format avx2_##t = { QUANT_##T,     QUANT_##T##_BYTES, rows_##t, \
					      unpack_to_##t, avx2_many_##many,	each };
#define SUPER_FORMAT(T, t, form, each, many)                          \
	SUPER_UNSIGNED(t)                                             \
	SUPER_ROWS(t, unsigned_##t, form, each, 1, QUANT_##T##_BYTES) \
	SUPER_TABLE(T, t, each, many)
#define SUPER_FORMAT_FEW(T, t, form, each, alone, many)                          \
	SUPER_UNSIGNED(t)                                                        \
	SUPER_ROWS_FEW(t, unsigned_##t, form, each, alone, 1, QUANT_##T##_BYTES) \
	SUPER_TABLE(T, t, each, many)

/* A format whose rows are streamed for all columns. */
#define STREAMED(T, t)                                                \
	const struct avx2_format avx2_##t = {                         \
		QUANT_##T, QUANT_##T##_BYTES, rows_##t, NULL, NULL, 0 \
	};

/* 32-blocks: up to @side columns by side_b_avx2.c; Q8_0: up to three here */
#define GROUP_TURNED(T, t, side)                                                          \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		if (cols <= (side))                                                       \
			avx2_side_##t(m, row, rows, col, cols);                           \
		else                                                                      \
			avx2_few_##t(m, row, rows, col, cols);                            \
	}                                                                                 \
	STREAMED(T, t)
#define GROUP_ROWS(T, t, cols) \
	group_rows(m, row, rows, col, cols, values_##t, scales_##t, GROUP_SIGNED, QUANT_##T##_BYTES)
#define GROUP_BYTES(T, t)                                                                 \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		if (cols == 1)                                                            \
			GROUP_ROWS(T, t, 1);                                              \
		else if (cols == 2)                                                       \
			GROUP_ROWS(T, t, 2);                                              \
		else if (cols == 3)                                                       \
			GROUP_ROWS(T, t, 3);                                              \
		else                                                                      \
			avx2_few_##t(m, row, rows, col, cols);                            \
	}                                                                                 \
	STREAMED(T, t)

#endif
