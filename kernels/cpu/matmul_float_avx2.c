/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_float_avx2.c: rows of F32, F16 and BF16 times f32 activations (router, float
 * models) at the AVX2 level. Any thread.
 *
 * Order of a (row, column): lane k mod 16 sums its products, one fused multiply-add each, in
 * ascending k; then one tree over the lanes. How many columns are in flight does not enter.
 */
#include <assert.h>

#include "kernels/cpu/avx2_level.h"

#define ROWS 8

/* eight weights from k on */
FORCE_INLINE __m256 weights(uint32_t type, const uint8_t *w, size_t k)
{
	switch (type) {
	case QUANT_F16:
		return _mm256_cvtph_ps(load16(w + 2 * k));
	case QUANT_BF16:
		return _mm256_castsi256_ps(
			_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(w + 2 * k)), 16));
	default:
		return _mm256_loadu_ps((const float *)(const void *)(w + 4 * k));
	}
}

/* The last @left < 16 weights and values of column, through zeroed copies: nothing beyond is read. */
FORCE_INLINE void last_ones(uint32_t type, const uint8_t *w, size_t k, size_t left, const float *x,
			    __m256 acc[2])
{
	const size_t size = type == QUANT_F32 ? 4 : 2;
	uint8_t weight[64] = { 0 };
	float value[16] = { 0 };

	memcpy(weight, w + size * k, size * left);
	memcpy(value, x + k, sizeof(*value) * left);
	for (size_t h = 0; h < 2; h++)
		acc[h] = _mm256_fmadd_ps(weights(type, weight, 8 * h),
					 _mm256_loadu_ps(value + 8 * h), acc[h]);
}

FORCE_INLINE void float_row(uint32_t type, const struct matmul *m, size_t r, size_t col, int cols)
{
	const uint8_t *w = (const uint8_t *)m->w + r * m->row_bytes;
	const uint8_t *ahead = rows_ahead(m, w, 1);
	const size_t whole = m->n / 16 * 16;
	const float *x[AVX2_COLS];
	__m256 acc[AVX2_COLS][2];

	for (int c = 0; c < cols; c++) {
		x[c] = m->x[col + (size_t)c];
		acc[c][0] = acc[c][1] = _mm256_setzero_ps();
	}
#pragma GCC unroll 2
	for (size_t k = 0; k < whole; k += 16) {
		/* every line twice, as some requests never bring theirs: of F16 and BF16 it is two steps' */
		prefetch_from(ahead + (type == QUANT_F32 ? 4 : 2) * k, 64);
		if (type == QUANT_F32)
			prefetch_from(ahead + 4 * k - 1152, 64);
#pragma GCC unroll 2
		for (size_t h = 0; h < 2; h++) {
			__m256 v = weights(type, w, k + 8 * h);

#pragma GCC unroll 4
			for (int c = 0; c < cols; c++)
				acc[c][h] = _mm256_fmadd_ps(v, _mm256_loadu_ps(x[c] + k + 8 * h),
							    acc[c][h]);
		}
	}
	for (int c = 0; c < cols; c++) {
		if (whole < m->n)
			last_ones(type, w, whole, m->n - whole, x[c], acc[c]);
		m->y[col + (size_t)c][r] = add_lanes(_mm256_add_ps(acc[c][0], acc[c][1]));
	}
}

FORCE_INLINE void float_rows(uint32_t type, const struct matmul *m, size_t first, size_t end,
			     size_t col, int cols)
{
	for (size_t r = first; r < end; r++)
		float_row(type, m, r, col, cols);
}

/* A few rows for all columns, up to four at a time: memory is read once, the cache serves the rest. */
FORCE_INLINE void product(uint32_t type, const struct matmul *m)
{
	const size_t whole = m->cols / AVX2_COLS * AVX2_COLS;

	for (size_t first = m->row0; first < m->row1; first += ROWS) {
		const size_t end = first + ROWS < m->row1 ? first + ROWS : m->row1;

		for (size_t c = 0; c < whole; c += AVX2_COLS)
			float_rows(type, m, first, end, c, AVX2_COLS);
		if (m->cols % AVX2_COLS == 3)
			float_rows(type, m, first, end, whole, 3);
		else if (m->cols % AVX2_COLS == 2)
			float_rows(type, m, first, end, whole, 2);
		else if (m->cols % AVX2_COLS == 1)
			float_rows(type, m, first, end, whole, 1);
	}
}

void avx2_matmul_float(const struct matmul *m)
{
	switch (m->type) {
	case QUANT_F16:
		product(QUANT_F16, m);
		return;
	case QUANT_BF16:
		product(QUANT_BF16, m);
		return;
	default:
		assert(m->type == QUANT_F32);
		product(QUANT_F32, m);
		return;
	}
}
