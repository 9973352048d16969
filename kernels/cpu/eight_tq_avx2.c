/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/eight_tq_avx2.c: few columns of the ternary formats at the AVX2 level with eight super-blocks in the
 * lanes (avx2_eight.h). Called through the formats' row functions (matmul_tq_avx2.c), any thread.
 *
 * Weights are numbers of 0 to 2 (TQ2_0: 3), 1 more than they are, whose products add up in 16 bits. Sums may wrap, but
 * they start with what 1 more adds, taken away, and 64 sums of two products of weights of -1 to 2 fit: 64 * 508.
 */
#include "kernels/cpu/avx2_eight.h"
#include "kernels/cpu/iq_avx.h"

/* word @k of weights 32j.. of column c: to[8 * (j * cols + c) + k]; behind them what sums start with */
static void lay_ternary(const struct act_super *const *x, const size_t *at, int cols, __m256i *to)
{
	__m256i *start = to + (size_t)64 * (size_t)cols;

	for (int c = 0; c < cols; c++)
		start[c] = _mm256_setzero_si256();
	for (int j = 0; j < 8; j++) {
		for (int c = 0; c < cols; c++, to += 8) {
			__m256i v[8], s = start[c];

#pragma GCC unroll 8
			for (int i = 0; i < 8; i++)
				v[i] = load32(x[c][at[i]].q + 32 * j);
			transpose8(v);
#pragma GCC unroll 8
			for (int i = 0; i < 8; i++) {
				_mm256_store_si256(to + i, v[i]);
				s = _mm256_sub_epi16(
					s, _mm256_maddubs_epi16(_mm256_set1_epi8(1), v[i]));
			}
			start[c] = s;
		}
	}
}

/* sum[c] += q * word @k of weights 32j.. of column c, in 16 bits */
FORCE_INLINE void add_word(__m256i *sum, __m256i q, const __m256i *x, int j, int k, int cols)
{
	x += (size_t)8 * (size_t)(j * cols) + (size_t)k;
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		sum[c] = _mm256_add_epi16(sum[c], _mm256_maddubs_epi16(q, x[8 * c]));
		/* here: see add_here() */
		__asm__("" : "+x"(sum[c]));
	}
}

FORCE_INLINE void begin(__m256i *sum, const __m256i *x, int cols)
{
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		sum[c] = x[64 * cols + c];
}

FORCE_INLINE void widen(const __m256i *sum, int cols, struct eight_out *to)
{
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		to->sum[c] = _mm256_madd_epi16(sum[c], _mm256_set1_epi16(1));
}

/* four bytes of each of eight super-blocks, @stride apart */
FORCE_INLINE __m256i eight_words_at(const uint8_t *w, size_t stride)
{
	int32_t v[8];

	for (size_t i = 0; i < 8; i++)
		memcpy(&v[i], w + i * stride, 4);
	return _mm256_setr_epi32(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
}

/* the halves that @last words end with */
FORCE_INLINE __m256 scales_of(__m256i last)
{
	const __m256i h = _mm256_srli_epi32(last, 16);

	return _mm256_cvtph_ps(
		_mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(h, h), 0x08)));
}

/* A byte less 128 is s: its digit is 0 where s is below -42, 2 where it is above 42, and 3 s is that of the next. */
FORCE_INLINE __m256i digit_of(__m256i s)
{
	const __m256i some = _mm256_cmpgt_epi8(s, _mm256_set1_epi8(-43));
	const __m256i two = _mm256_cmpgt_epi8(s, _mm256_set1_epi8(42));

	return _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(some, two));
}

FORCE_INLINE void eight_tq1_0(const uint8_t *w, const __m256i *x, int cols, struct eight_out *to)
{
	const __m256i moved = _mm256_set1_epi8(-128);
	const size_t stride = QUANT_TQ1_0_BYTES;
	__m256i sum[AVX2_FEW], t[4], v;

	to->d = scales_of(eight_words_at(w + 50, stride));
	begin(sum, x, cols);
	/* four bytes of four digits: the last 16 weights */
	v = _mm256_xor_si256(eight_words_at(w + 48, stride), moved);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++, v = iq_thrice(v))
		add_word(sum, digit_of(v), x, 7, 4 + i, cols);
	/* sixteen of five: the 80 before */
	turn16(w + 32, stride, t);
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
		v = _mm256_xor_si256(t[k], moved);
#pragma GCC unroll 5
		for (int i = 0; i < 5; i++, v = iq_thrice(v))
			add_word(sum, digit_of(v), x, 5 + i / 2, i % 2 * 4 + k, cols);
	}
#pragma GCC unroll 1
	for (int h = 0; h < 8; h += 4, w += 16) {
		turn16(w, stride, t);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++) {
			v = _mm256_xor_si256(t[k], moved);
#pragma GCC unroll 5
			for (int i = 0; i < 5; i++, v = iq_thrice(v))
				add_word(sum, digit_of(v), x + h, i, k, cols);
		}
	}
	widen(sum, cols, to);
}

FORCE_INLINE void eight_tq2_0(const uint8_t *w, const __m256i *x, int cols, struct eight_out *to)
{
	const __m256i low = _mm256_set1_epi8(3);
	const size_t stride = QUANT_TQ2_0_BYTES;
	__m256i sum[AVX2_FEW], t[4];

	to->d = scales_of(eight_words_at(w + 62, stride));
	begin(sum, x, cols);
#pragma GCC unroll 1
	for (int n = 0; n < 2; n++, x += (size_t)32 * (size_t)cols) {
#pragma GCC unroll 1
		for (int h = 0; h < 8; h += 4, w += 16) {
			turn16(w, stride, t);
#pragma GCC unroll 4
			for (int k = 0; k < 4; k++)
#pragma GCC unroll 4
				for (int i = 0; i < 4; i++)
					add_word(sum,
						 _mm256_and_si256(_mm256_srli_epi16(t[k], 2 * i),
								  low),
						 x + h, i, k, cols);
		}
	}
	widen(sum, cols, to);
}

void avx2_eight_tq1_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	const struct eight_kind k = { lay_ternary, eight_tq1_0, QUANT_TQ1_0_BYTES };

	if (cols == 2)
		eight_rows(m, row, rows, col, cols, 2, k);
	else if (cols == 3)
		eight_rows(m, row, rows, col, cols, 3, k);
	else if (cols == 4)
		eight_rows(m, row, rows, col, cols, 4, k);
	else if (cols <= 6)
		eight_rows(m, row, rows, col, cols, 6, k);
	else
		eight_rows(m, row, rows, col, cols, 8, k);
}

void avx2_eight_tq2_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	const struct eight_kind k = { lay_ternary, eight_tq2_0, QUANT_TQ2_0_BYTES };

	if (cols == 4)
		eight_rows(m, row, rows, col, cols, 4, k);
	else if (cols <= 6)
		eight_rows(m, row, rows, col, cols, 6, k);
	else
		eight_rows(m, row, rows, col, cols, 8, k);
}
