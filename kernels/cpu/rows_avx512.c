/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_avx512.c: a few columns of a product, sixteen rows at a time: each row is read
 * in file order into whole numbers, then the rows become lanes and their floats are added block by
 * block, in the order and with the operations of the tile kernels. Called by ops_avx512.c, any
 * thread.
 */
#include "kernels/cpu/avx512_row.h"

#include "base/num.h"

/* of one column: [row][block], the blocks of a row padded to @pitch; d of 32-blocks: see front_word() */
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
	return (1 + 2 * ROW_COLS) * 16 * pitch_of(div_ceil(n, 32)) * sizeof(int32_t) +
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

/* word @k of each of sixteen rows' four: see fronts() of rows_b_avx512.c */
static inline __m256i front_word(const uint32_t *d, int k)
{
	const __m512i row = _mm512_set_epi16(60, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8,
					     4, 0, 60, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16,
					     12, 8, 4, 0);

	return _mm512_castsi512_si256(_mm512_permutex2var_epi16(
		_mm512_loadu_si512(d), _mm512_add_epi16(row, _mm512_set1_epi16((short)k)),
		_mm512_loadu_si512(d + 16)));
}

static __m512 finish_b(const struct tile_format *f, struct numbers a, size_t blocks,
		       const struct act_b *x)
{
	/* by32 is for an offset of 128 */
	const int less = f->type == QUANT_Q4_0 ? 4 : f->type == QUANT_Q5_0 ? 3 : 0;
	__m512 y = _mm512_setzero_ps();

	for (size_t b = 0; b < blocks; b += 4) {
		__m512i sum[4];

		load_lanes(a.sum, a.pitch, b, sum);
		for (size_t i = 0; i < 4 && b + i < blocks; i++) {
			const struct act_b *v = &x[(b + i) / 8];
			const size_t j = (b + i) % 8;
			const __m512 dx = _mm512_set1_ps(v->d[j]);

			if (f->min) {
				const uint32_t *d = a.d + 32 * ((b + i) / 2);
				const __m512 dw = _mm512_cvtph_ps(front_word(d, 2 * (i % 2)));
				const __m512 mw = _mm512_cvtph_ps(front_word(d, 2 * (i % 2) + 1));

				y = add_scaled(y, dw, dx, sum[i]);
				y = _mm512_fmadd_ps(_mm512_mul_ps(mw, dx),
						    _mm512_set1_ps(v->sum[j]), y);
			} else {
				const __m256i word = front_word(a.d + 32 * (b / 4), (int)i);
				const __m512 dw = f->type == QUANT_MXFP4
							  ? fp4_scale(_mm512_cvtepu16_epi32(word))
							  : _mm512_cvtph_ps(word);

				sum[i] = _mm512_add_epi32(sum[i],
							  _mm512_set1_epi32(v->by32[j] >> less));
				y = add_scaled(y, dw, dx, sum[i]);
			}
		}
	}
	return y;
}

/* what multiplies four rows at a time, if they are too short for a group of four super-blocks */
static row_fn four_rows(const struct tile_format *f, const struct matmul *m)
{
	const size_t blocks = m->n / f->block;

	if (!f->rows || blocks < 2 || blocks > 3 || m->row_bytes != blocks * f->bytes)
		return NULL;
	return f->rows[blocks - 2][m->cols - 1];
}

void avx512_matmul_rows(const struct tile_format *f, const struct matmul *m)
{
	const size_t blocks = m->n / f->block, cols = m->cols;
	const row_fn four = four_rows(f, m);
	const size_t pitch = four ? blocks : pitch_of(blocks);
	/* five and seven columns are multiplied as six and eight: the last stands for the spare one */
	const size_t width = cols > 4 ? (cols + 1) & ~(size_t)1 : cols;
	const row_fn multiply = f->row[cols - 1];
	const void *x[ROW_COLS];
	const uint8_t *w = (const uint8_t *)m->w + m->row0 * m->row_bytes;
	const uint8_t *end = w + (m->row1 - m->row0) * m->row_bytes;
	struct numbers a[ROW_COLS];
	/* behind the numbers */
	uint8_t *packed = (uint8_t *)m->scratch + 64 * pitch * (1 + 2 * ROW_COLS);

	for (size_t c = 0; c < width; c++) {
		int32_t *words = (int32_t *)m->scratch + 16 * pitch * (1 + 2 * c);

		x[c] = m->x[c < cols ? c : cols - 1];
		a[c] = (struct numbers){ words, words + 16 * pitch, m->scratch, pitch };
		if (f->pack) {
			f->pack(x[c], blocks, packed);
			x[c] = packed;
			packed += AVX512_PACKED_BYTES * align_up(blocks, 2);
		}
	}
	for (size_t row = m->row0; row < m->row1; row += 16) {
		const size_t rows = u64_min(16, m->row1 - row);

		/* of rows that are not there the numbers are stale and the floats not stored */
		for (size_t r = 0, n; r < rows; r += n, w += n * m->row_bytes) {
			const uintptr_t ahead =
				(uintptr_t)asked_for(w, ROW_AHEAD, end, m->next) - (uintptr_t)w;
			struct row_sums out[ROW_COLS];

			for (size_t c = 0; c < width; c++)
				out[c] = (struct row_sums){
					a[c].sum + r * pitch, a[c].min + r * pitch,
					a[c].d + (f->block == 32 ? 2 * r : r * pitch), ahead
				};
			n = four && rows - r >= 4 ? 4 : 1;
			(n == 4 ? four : multiply)(w, x, blocks, out);
		}
		for (size_t c = 0; c < cols; c++) {
			__m512 y = f->block == 32 ? finish_b(f, a[c], blocks, m->x[c])
						  : finish_k(f, a[c], blocks, m->x[c]);

			_mm512_mask_storeu_ps(m->y[c] + row, (__mmask16)((1u << rows) - 1), y);
		}
	}
}
