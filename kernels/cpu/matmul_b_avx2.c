/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_b_avx2.c: the formats with 32 weights per block (Q4_0 .. Q8_0, IQ4_NL, MXFP4) at the AVX2
 * level: which functions have which columns, and up to three columns of Q8_0. The others' first column is by
 * side_b_avx2.c, two to four are by pair_b_avx2.c, more by few_b_avx2.c. Layouts: docs/models.md 1.4. Exactly
 * the bytes of the blocks that exist are read. Called through the table of ops_avx2.c, any thread.
 *
 * Weights of Q8_0 are bytes as they lie: four rows are read side by side, so that their sums wait for each
 * other less, and lanes are added up at the end. Formats that are unpacked first are faster turned. vpmaddubsw
 * multiplies |w| with the activation, its sign turned by w: two products are at most 128 * 127 * 2.
 */
#include "kernels/cpu/avx2_level.h"

#define SIDE	   4 /* rows that are read side by side */
#define BYTES_COLS 3 /* columns, at most */

/* Eight blocks of them: sums by column, and scales; lanes are blocks. */
struct side {
	__m256 sum[BYTES_COLS][SIDE], d[SIDE];
};

/* of up to eight blocks; 0 for blocks that do not exist */
FORCE_INLINE __m256 scales(const uint8_t *w, unsigned blocks)
{
	uint16_t half[8] = { 0 };

#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++)
		if (i < blocks)
			memcpy(&half[i], w + i * QUANT_Q8_0_BYTES, sizeof(half[i]));
	return _mm256_cvtph_ps(load16(half));
}

FORCE_INLINE __m128 half_of(__m256 v, int half)
{
	return half ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v);
}

/* y += eight blocks of SIDE rows: their sums and scales by row, of column @x */
FORCE_INLINE __m128 side_add(__m128 y, __m256 sum[SIDE], const __m256 *d, const struct act_group *x)
{
	const __m256 dx = _mm256_loadu_ps(x->d);
	__m256 scale[SIDE];

#pragma GCC unroll 4
	for (int r = 0; r < SIDE; r++)
		scale[r] = _mm256_mul_ps(d[r], dx);
	transpose4(sum);
	transpose4(scale);
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++)
		y = _mm_fmadd_ps(half_of(scale[j % 4], j / 4), half_of(sum[j % 4], j / 4), y);
	return y;
}

/* block @q times @a, partial sums */
FORCE_INLINE __m256i block_sums(__m256i q, __m256i a)
{
	a = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
	return _mm256_madd_epi16(a, _mm256_set1_epi16(1));
}

/* whole[c]: the sums of eight blocks with column c as floats, a pair of blocks at a time from @w */
FORCE_INLINE void stream_sums(const uint8_t *w, unsigned blocks, const struct act_group *const *x,
			      int cols, size_t b, __m256 *whole)
{
	__m256i half[BYTES_COLS][2];

#pragma GCC unroll 2
	for (unsigned h = 0; h < 2; h++) {
		__m256i two[BYTES_COLS][2];

#pragma GCC unroll 2
		for (unsigned i = 0; i < 2; i++) {
			const unsigned j = 4 * h + 2 * i;
			__m256i q[2];

#pragma GCC unroll 2
			for (unsigned k = 0; k < 2; k++)
				q[k] = j + k < blocks ? load32(w + (j + k) * QUANT_Q8_0_BYTES + 2)
						      : _mm256_setzero_si256();
#pragma GCC unroll 4
			for (int c = 0; c < cols; c++)
				two[c][i] = sum_pair(block_sums(q[0], load32(x[c][b].q[j])),
						     block_sums(q[1], load32(x[c][b].q[j + 1])));
			/* or the compiler loads what no register is left for */
			__asm__ volatile("" ::: "memory");
		}
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			half[c][h] = sum_four(two[c][0], two[c][1]);
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		whole[c] = _mm256_cvtepi32_ps(sum_halves(half[c][0], half[c][1]));
}

/* One step of a row: eight blocks at @w, or fewer; as many bytes at @ahead are asked for. */
FORCE_INLINE void side_row(const uint8_t *w, const uint8_t *ahead, unsigned blocks,
			   const struct act_group *const *x, int cols, size_t b, struct side *s,
			   int r)
{
	__m256 whole[BYTES_COLS];

	/* or the compiler keeps the address of every block */
	__asm__("" : "+r"(w));
#pragma GCC unroll 8
	for (size_t i = 0; i < 8 * QUANT_Q8_0_BYTES; i += 64)
		_mm_prefetch((const char *)ahead + i, _MM_HINT_T1);
	s->d[r] = scales(w, blocks);
	stream_sums(w, blocks, x, cols, b, whole);
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		s->sum[c][r] = whole[c];
}

FORCE_INLINE void side_step(const uint8_t *const *w, const uint8_t *ahead, size_t at,
			    unsigned blocks, const struct act_group *const *x, int cols, size_t b,
			    __m128 *y)
{
	struct side s;

	ahead += SIDE * at;
	if (cols == 1) {
#pragma GCC unroll 4
		for (int r = 0; r < SIDE; r++, ahead += 8 * QUANT_Q8_0_BYTES)
			side_row(w[r] + at, ahead, blocks, x, cols, b, &s, r);
	} else {
#pragma GCC unroll 1
		for (int r = 0; r < SIDE; r++, ahead += 8 * QUANT_Q8_0_BYTES)
			side_row(w[r] + at, ahead, blocks, x, cols, b, &s, r);
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		y[c] = side_add(y[c], s.sum[c], s.d, &x[c][b]);
}

FORCE_INLINE void bytes_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	const struct act_group *x[BYTES_COLS] = { NULL };
	const size_t blocks = m->n / 32, whole = blocks / 8, end = row + rows;

	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	for (; row < end; row += SIDE) {
		const uint8_t *w[SIDE], *next = (const uint8_t *)m->w + row * m->row_bytes;
		const size_t n = row + SIDE <= end ? SIDE : end - row;
		__m128 y[BYTES_COLS];

		/* in file order, as memory likes it best: the rows after these, or what comes later */
		next = rows_ahead(m, next, SIDE);
		for (size_t r = 0; r < SIDE; r++)
			w[r] = (const uint8_t *)m->w + (row + (r < n ? r : n - 1)) * m->row_bytes;
		for (int c = 0; c < cols; c++)
			y[c] = _mm_setzero_ps();
#pragma GCC unroll 1
		for (size_t b = 0; b < whole; b++)
			side_step(w, next, 8 * b * QUANT_Q8_0_BYTES, 8, x, cols, b, y);
		if (blocks % 8)
			side_step(w, next, 8 * whole * QUANT_Q8_0_BYTES, (unsigned)(blocks % 8), x,
				  cols, whole, y);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row, _mm256_zextps128_ps256(y[c]), n);
	}
}

static void rows_q8_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	if (cols == 1)
		bytes_rows(m, row, rows, col, 1);
	else if (cols == 2)
		bytes_rows(m, row, rows, col, 2);
	else if (cols == 3)
		bytes_rows(m, row, rows, col, 3);
	else
		avx2_few_q8_0(m, row, rows, col, cols);
}

STREAMED(Q8_0, q8_0)

/* one column by side_b_avx2.c, up to four by pair_b_avx2.c, more by few_b_avx2.c */
#define TURNED(T, t)                                                                      \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		if (cols == 1)                                                            \
			avx2_side_##t(m, row, rows, col);                                 \
		else if (cols <= 4)                                                       \
			avx2_pair_##t(m, row, rows, col, cols);                           \
		else                                                                      \
			avx2_few_##t(m, row, rows, col, cols);                            \
	}                                                                                 \
	STREAMED(T, t)

TURNED(Q4_0, q4_0)
TURNED(Q4_1, q4_1)
TURNED(Q5_0, q5_0)
TURNED(Q5_1, q5_1)
TURNED(IQ4_NL, iq4_nl)
TURNED(MXFP4, mxfp4)
