/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_float_avx512.c: rows of F32, F16 and BF16 times f32 activations (router,
 * norms' company, float models). Any thread.
 *
 * Order of a (row, column): lane k mod 32 sums its products with one fused multiply-add each, in
 * ascending k; then one fixed tree over the 32 lanes. How many rows and columns are in flight does
 * not enter.
 */
#include "kernels/cpu/avx512_tile.h"

#include "base/num.h"

#define ROWS 2
#define COLS 4

/* weights k..k+15; lanes outside @mask are neither read nor anything but 0 */
static inline __attribute__((always_inline)) __m512 weights(uint32_t type, const uint8_t *w,
							    size_t k, __mmask16 mask)
{
	switch (type) {
	case QUANT_F16:
		return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, w + 2 * k));
	case QUANT_BF16:
		return _mm512_castsi512_ps(_mm512_slli_epi32(
			_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, w + 2 * k)), 16));
	default:
		return _mm512_maskz_loadu_ps(mask, w + 4 * k);
	}
}

/* @rows x @cols sums in flight; both constants after inlining */
static inline __attribute__((always_inline)) void
block(uint32_t type, int rows, int cols, const struct matmul *m, size_t row, size_t col)
{
	const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;
	const float *x[COLS];
	__m512 s[ROWS][COLS][2];

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
#pragma GCC unroll 8
	for (int i = 0; i < rows * cols; i++)
		s[i / cols][i % cols][0] = s[i / cols][i % cols][1] = _mm512_setzero_ps();
#pragma GCC unroll 1
	for (size_t k = 0; k < m->n; k += 32) {
#pragma GCC unroll 2
		for (size_t h = 0; h < 2; h++) {
			const size_t at = k + 16 * h, left = at < m->n ? m->n - at : 0;
			const __mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1) : 0xffff;
			__m512 a[COLS];

#pragma GCC unroll 4
			for (int c = 0; c < cols; c++)
				a[c] = _mm512_maskz_loadu_ps(mask, x[c] + at);
#pragma GCC unroll 2
			for (int r = 0; r < rows; r++) {
				const __m512 v =
					weights(type, w + (size_t)r * m->row_bytes, at, mask);

#pragma GCC unroll 4
				for (int c = 0; c < cols; c++)
					s[r][c][h] = _mm512_fmadd_ps(v, a[c], s[r][c][h]);
			}
		}
	}
#pragma GCC unroll 2
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			m->y[col + (size_t)c][row + (size_t)r] =
				_mm512_reduce_add_ps(_mm512_add_ps(s[r][c][0], s[r][c][1]));
}

static inline __attribute__((always_inline)) void rows_of(uint32_t type, int rows,
							  const struct matmul *m, size_t row)
{
	size_t c = 0;

	for (; c + COLS <= m->cols; c += COLS)
		block(type, rows, COLS, m, row, c);
	for (; c < m->cols; c++)
		block(type, rows, 1, m, row, c);
}

static inline __attribute__((always_inline)) void product(uint32_t type, const struct matmul *m)
{
	size_t row = m->row0;

	for (; row + ROWS <= m->row1; row += ROWS)
		rows_of(type, ROWS, m, row);
	for (; row < m->row1; row++)
		rows_of(type, 1, m, row);
}

void avx512_matmul_float(const struct matmul *m)
{
	switch (m->type) {
	case QUANT_F32:
		product(QUANT_F32, m);
		break;
	case QUANT_F16:
		product(QUANT_F16, m);
		break;
	case QUANT_BF16:
		product(QUANT_BF16, m);
		break;
	default:
		break;
	}
}
