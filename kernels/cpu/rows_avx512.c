/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_avx512.c: a few columns of a product, sixteen rows at a time: each row, or a run of
 * them, is read in file order into whole numbers, then the rows become lanes and their floats are added
 * block by block, in the order and with the operations of the tile kernels. Called by ops_avx512.c, any
 * thread.
 */
#include "kernels/cpu/few_k_avx512.h"

#include "base/num.h"

#define D_WORDS 4 /* of a block in numbers.d, at most: see run_fn */

/* of one column: [row][block], the super-blocks of a row padded to @pitch */
struct numbers {
	int32_t *sum, *min;
	uint32_t *d;
	size_t pitch;
};

static inline size_t pitch_of(size_t blocks)
{
	return align_up(blocks, 16);
}

size_t avx512_rows_scratch_bytes(size_t n)
{
	return (D_WORDS + 2 * ROW_COLS) * 16 * pitch_of(div_ceil(n, 32)) * sizeof(int32_t) +
	       ROW_COLS * AVX512_PACKED_BYTES * align_up(div_ceil(n, 256), 2);
}

/* blocks b..b+3 of sixteen rows */
static inline void load_lanes(const void *from, size_t pitch, size_t b, __m512i t[4])
{
	transpose16((const uint8_t *)from + 4 * b, 4 * pitch, t);
}

static __m512 finish_k(const struct tile_format *f, struct numbers a, size_t blocks,
		       const struct act_k *x)
{
	const __m512 factor = _mm512_set1_ps(f->factor);
	__m512 y = _mm512_setzero_ps();

	for (size_t b = 0; b < blocks; b += 4) {
		__m512i sum[4], min[4], d[4];

		load_lanes(a.sum, a.pitch, b, sum);
		load_lanes(a.d, a.pitch, b, d);
		if (f->min_shift)
			load_lanes(a.min, a.pitch, b, min);
		for (size_t i = 0; i < 4 && b + i < blocks; i++) {
			const __m512 dx = _mm512_set1_ps(x[b + i].d);

			y = add_scaled(y, _mm512_mul_ps(half_low(d[i]), factor), dx, sum[i]);
			if (f->min_shift)
				y = take_minima(y, half_high(d[i]), dx, min[i], f->min_shift);
		}
	}
	return y;
}

/* Q4_K and Q5_K, of which d has what stands in front of a super-block: minima are multiplied here */
static __m512 finish_45(struct numbers a, size_t blocks, const struct act_k *x)
{
	__m512 y = _mm512_setzero_ps();

	for (size_t b = 0; b < blocks; b += 4) {
		__m512i sum[4];

		load_lanes(a.sum, a.pitch, b, sum);
		for (size_t i = 0; i < 4 && b + i < blocks; i++) {
			const struct act_k *v = x + b + i;
			struct head45 head;

			head45((const uint8_t *)(a.d + D_WORDS * (b + i)), 4 * D_WORDS * a.pitch,
			       &head);
			finish45(1, &head, &v, &sum[i], &y);
		}
	}
	return y;
}

/* floats of sixteen rows of column @c */
static __m512 finish(const struct tile_format *f, struct numbers a, size_t blocks, const void *x)
{
	return f->run && f->min_shift ? finish_45(a, blocks, x) : finish_k(f, a, blocks, x);
}

/* A product under way. */
struct rows_walk {
	const struct tile_format *f;
	const struct matmul *m;
	size_t blocks, width;
	const uint8_t *end; /* of the last row */
	const void *x[ROW_COLS];
	struct numbers a[ROW_COLS];
};

/* how many of @rows rows at @w are multiplied by one call: of a run those that ask for memory equally far ahead */
static size_t together(const struct rows_walk *k, const uint8_t *w, size_t rows)
{
	const size_t bytes = k->m->row_bytes, left = (size_t)(k->end - w);

	if (!k->f->run || bytes != k->blocks * k->f->bytes)
		return 1;
	return left > ROW_AHEAD ? u64_min(rows, div_ceil(left - ROW_AHEAD, bytes)) : rows;
}

/* numbers of @rows <= 16 rows at @w */
static void multiply_rows(const struct rows_walk *k, const uint8_t *w, size_t rows)
{
	const struct tile_format *f = k->f;
	const size_t bytes = k->m->row_bytes, last = k->m->cols - 1;

	for (size_t r = 0, n; r < rows; r += n, w += n * bytes) {
		const uintptr_t ahead =
			(uintptr_t)asked_for(w, ROW_AHEAD, k->end, k->m->next) - (uintptr_t)w;
		const size_t d = r * k->a[0].pitch * (f->run && f->min_shift ? D_WORDS : 1);
		struct row_sums out[ROW_COLS];

		for (size_t c = 0; c < k->width; c++)
			out[c] = (struct row_sums){ k->a[c].sum + r * k->a[c].pitch,
						    k->a[c].min + r * k->a[c].pitch, k->a[c].d + d,
						    ahead };
		n = together(k, w, rows - r);
		if (f->run)
			f->run[last](w, k->x, k->blocks, n * k->blocks, out);
		else
			f->row[last](w, k->x, k->blocks, out);
	}
}

void avx512_matmul_rows(const struct tile_format *f, const struct matmul *m)
{
	const size_t blocks = m->n / f->block, cols = m->cols;
	const size_t pitch = f->run ? blocks : pitch_of(blocks);
	/* five and seven columns are multiplied as six and eight: the last stands for the spare one */
	struct rows_walk k = {
		.f = f,
		.m = m,
		.blocks = blocks,
		.width = cols > 4 ? (cols + 1) & ~(size_t)1 : cols,
		.end = (const uint8_t *)m->w + m->row1 * m->row_bytes,
	};
	const uint8_t *w = (const uint8_t *)m->w + m->row0 * m->row_bytes;
	/* behind the numbers */
	uint8_t *packed = (uint8_t *)m->scratch + 64 * pitch * (D_WORDS + 2 * ROW_COLS);

	for (size_t c = 0; c < k.width; c++) {
		int32_t *words = (int32_t *)m->scratch + 16 * pitch * (D_WORDS + 2 * c);

		k.x[c] = m->x[c < cols ? c : cols - 1];
		k.a[c] = (struct numbers){ words, words + 16 * pitch, m->scratch, pitch };
		if (f->pack) {
			f->pack(k.x[c], blocks, packed);
			k.x[c] = packed;
			packed += AVX512_PACKED_BYTES * align_up(blocks, 2);
		}
	}
	for (size_t row = m->row0; row < m->row1; row += 16, w += 16 * m->row_bytes) {
		const size_t rows = u64_min(16, m->row1 - row);

		/* of rows that are not there the numbers are stale and the floats not stored */
		multiply_rows(&k, w, rows);
		for (size_t c = 0; c < cols; c++)
			_mm512_mask_storeu_ps(m->y[c] + row, (__mmask16)((1u << rows) - 1),
					      finish(f, k.a[c], blocks, m->x[c]));
	}
}
