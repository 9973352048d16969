/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_float_avx512.c: rows of F32, F16 and BF16 times f32 activations (router, float
 * models). Any thread.
 *
 * Order of a (row, column): the law of quant.h: lane k mod 16 sums its products with one fused
 * multiply-add each, in ascending k; then one fixed tree over the lanes. How many rows and columns
 * are in flight, and that the lanes rest in memory between two pieces of a row, does not enter.
 * Eight rows by three columns fill the registers, and eight by one still keep the multipliers busy;
 * pieces of DEPTH keep their weights in the first cache level. While eight rows are read, memory is asked
 * for the eight behind them, place for place, behind the last ones for what the caller says comes next.
 */
#include "kernels/cpu/avx512_row.h"

#include "base/num.h"

#define ROWS  8
#define COLS  3
#define DEPTH 512 /* a multiple of 16 */
#define GROUP 24  /* columns that pass over a piece of eight rows */

/* the 16 lanes of each (column, row) */
typedef float lanes_t[ROWS][16];

struct piece {
	const uint8_t *w;
	size_t row_bytes;
	const void *const *x;
	size_t from, to;
	uintptr_t ahead; /* memory so far behind each row is asked for, modulo 2^64 */
};

/* weights k..k+15; lanes outside @mask are not read */
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

/* k..k+15 into the lanes; all constants after inlining but k and perhaps the mask */
static inline __attribute__((always_inline)) void step(uint32_t type, int rows, int cols,
						       const struct piece *p, size_t k,
						       __mmask16 mask, __m512 s[][COLS])
{
	const size_t size = type == QUANT_F32 ? 4 : 2;
	__m512 a[COLS];

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		a[c] = _mm512_maskz_loadu_ps(mask, (const float *)p->x[c] + k);
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++) {
		const uint8_t *row = p->w + (size_t)r * p->row_bytes;
		const __m512 w = weights(type, row, k, mask);

		if (size == 4 || k % 32 == 0)
			prefetch_ahead(row + size * k, p->ahead, 64);
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			s[r][c] = _mm512_fmadd_ps(w, a[c], s[r][c]);
	}
}

static inline __mmask16 head(size_t left)
{
	return left < 16 ? (__mmask16)((1u << left) - 1) : 0xffff;
}

/* @rows x @cols sums in flight, both constants after inlining */
static inline __attribute__((always_inline)) void block(uint32_t type, int rows, int cols,
							struct piece p, lanes_t *lanes)
{
	__m512 s[ROWS][COLS];
	size_t k = p.from;

#pragma GCC unroll 24
	for (int i = 0; i < rows * cols; i++)
		s[i / cols][i % cols] = _mm512_load_ps(lanes[i % cols][i / cols]);
#pragma GCC unroll 1
	for (; k + 16 <= p.to; k += 16)
		step(type, rows, cols, &p, k, 0xffff, s);
	if (k < p.to)
		step(type, rows, cols, &p, k, head(p.to - k), s);
#pragma GCC unroll 24
	for (int i = 0; i < rows * cols; i++)
		_mm512_store_ps(lanes[i % cols][i / cols], s[i / cols][i % cols]);
}

/* the fixed tree: lanes i and i + 8, then i + 4, i + 2, i + 1 */
static inline float tree_sum(const float *lanes)
{
	const __m512 v = _mm512_load_ps(lanes);
	const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* @rows rows from @row, columns [first, first + cols) */
static inline __attribute__((always_inline)) void
group(uint32_t type, int rows, const struct matmul *m, size_t row, size_t first, size_t cols)
{
	const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;
	const uint8_t *end = (const uint8_t *)m->w + m->row1 * m->row_bytes;
	const char *ahead = asked_for(w, (size_t)rows * m->row_bytes, end, m->next);
	lanes_t *lanes = m->scratch;

	memset(lanes, 0, cols * sizeof(*lanes));
	for (size_t from = 0; from < m->n; from += DEPTH) {
		struct piece p = { .w = w,
				   .row_bytes = m->row_bytes,
				   .from = from,
				   .to = u64_min(from + DEPTH, m->n),
				   .ahead = (uintptr_t)ahead - (uintptr_t)w };
		size_t c = 0;

		for (; c + COLS <= cols; c += COLS) {
			p.x = m->x + first + c;
			block(type, rows, COLS, p, lanes + c);
		}
		for (; c < cols; c++) {
			p.x = m->x + first + c;
			block(type, rows, 1, p, lanes + c);
		}
	}
	for (size_t c = 0; c < cols; c++)
		for (int r = 0; r < rows; r++)
			m->y[first + c][row + (size_t)r] = tree_sum(lanes[c][r]);
}

static inline __attribute__((always_inline)) void product(uint32_t type, const struct matmul *m)
{
	for (size_t c = 0; c < m->cols; c += GROUP) {
		const size_t cols = u64_min(GROUP, m->cols - c);
		size_t row = m->row0;

		for (; row + ROWS <= m->row1; row += ROWS)
			group(type, ROWS, m, row, c, cols);
		for (; row < m->row1; row++)
			group(type, 1, m, row, c, cols);
	}
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
