/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_k2_avx512.c: one row times one vector for Q6_K, Q2_K and Q3_K, in file order:
 * whole numbers only, see avx512_tile.h. Any thread.
 *
 * Sixteen sub-blocks of 16 weights, a 128-bit lane each, four registers in the order of act_k.q6.
 * Four products of q unsigned are at most 4 * 63 * 127 = 32004, 16 bits, for vpdpwssd with the
 * scale; the offset of the weights is taken away through the sums of 16 activations.
 */
#include "kernels/cpu/avx512_row.h"

/* sum over sub-blocks of scale * (product of 16); @start: what the offset takes away */
static inline __m512i multiply(const __m512i q[4], const struct act_k *x, __m512i scales,
			       __m256i start)
{
	const __m512i each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 8, 8, 8, 8, 9, 9, 9, 9);
	__m512i s = _mm512_zextsi256_si512(start);

#pragma GCC unroll 4
	for (int v = 0; v < 4; v++) {
		__m512i which = _mm512_add_epi32(each, _mm512_set1_epi32(2 * v));
		__m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), q[v],
						  _mm512_load_si512(x->q6 + 64 * v));

		s = _mm512_dpwssd_epi32(s, dot, _mm512_permutexvar_epi32(which, scales));
	}
	return s;
}

/* scale * (-16 * sums of 16), pairs added */
static inline __m256i scaled_sums(__m256i scales, const struct act_k *x)
{
	return _mm256_dpwssd_epi32(_mm256_setzero_si256(), scales,
				   _mm256_load_si256((const void *)x->sum16));
}

static inline void q6_values(const uint8_t *w, __m512i q[4])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), low6 = _mm512_set1_epi32(0x3f3f3f3f);
	const __m512i a = load_halves(w, w + 64), b = load_halves(w + 32, w + 96);
	const __m512i h = _mm512_loadu_si512(w + 128);

	q[0] = select_bits(low4, a, _mm512_slli_epi16(h, 4));
	q[1] = select_bits(low4, b, _mm512_slli_epi16(h, 2));
	q[2] = select_bits(low4, _mm512_srli_epi16(a, 4), h);
	q[3] = select_bits(low4, _mm512_srli_epi16(b, 4), _mm512_srli_epi16(h, 2));
	for (int v = 0; v < 4; v++)
		q[v] = _mm512_and_si512(q[v], low6);
}

static inline __attribute__((always_inline)) void group_q6_k(const uint8_t *w,
							     const struct act_k *const *x, int cols,
							     size_t at, int count,
							     const struct row_sums *out)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
	prefetch_ahead(w, QUANT_Q6_K_BYTES * (size_t)count);
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += QUANT_Q6_K_BYTES) {
		const __m128i bytes = _mm_loadu_si128((const void *)(w + 192));
		const __m256i scales = _mm256_cvtepi8_epi16(bytes);
		__m512i q[4];
		uint16_t d;

		memcpy(&d, w + 208, 2);
		out->d[at] = d;
		q6_values(w, q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const __m256i sums = scaled_sums(scales, x[c] + at);

			/* q - 32: twice -16 * sums */
			s[c][i] = multiply(q, x[c] + at, _mm512_cvtepu16_epi32(scales),
					   _mm256_add_epi32(sums, sums));
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		store_sums(out[c].sum + at - count, s[c]);
}

/* sums of four registers of eight words */
static inline void store_sums_256(int32_t *to, const __m256i s[4])
{
	__m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));

	_mm_storeu_si128((void *)to,
			 _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}

static inline __attribute__((always_inline)) void group_q2_k(const uint8_t *w,
							     const struct act_k *const *x, int cols,
							     size_t at, int count,
							     const struct row_sums *out)
{
	const __m512i low2 = _mm512_set1_epi32(0x03030303);
	const __m128i low4 = _mm_set1_epi8(15);
	__m256i m[ROW_COLS][4];
	const __m512i zero = _mm512_setzero_si512();
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
		m[c][0] = m[c][1] = m[c][2] = m[c][3] = _mm256_setzero_si256();
	}
	prefetch_ahead(w, QUANT_Q2_K_BYTES * (size_t)count);
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += QUANT_Q2_K_BYTES) {
		const __m128i bytes = _mm_loadu_si128((const void *)w);
		const __m128i minima = _mm_and_si128(_mm_srli_epi16(bytes, 4), low4);
		const __m256i scales = _mm256_cvtepi8_epi16(_mm_and_si128(bytes, low4));
		const __m512i b = _mm512_loadu_si512(w + 16);
		const __m512i q[4] = {
			_mm512_and_si512(b, low2),
			_mm512_and_si512(_mm512_srli_epi16(b, 2), low2),
			_mm512_and_si512(_mm512_srli_epi16(b, 4), low2),
			_mm512_and_si512(_mm512_srli_epi16(b, 6), low2),
		};

		memcpy(&out->d[at], w + 80, 4);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			m[c][i] = scaled_sums(_mm256_cvtepi8_epi16(minima), x[c] + at);
			s[c][i] = multiply(q, x[c] + at, _mm512_cvtepu16_epi32(scales),
					   _mm256_setzero_si256());
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		store_sums(out[c].sum + at - count, s[c]);
		store_sums_256(out[c].min + at - count, m[c]);
	}
}

/* sixteen 6-bit scales less 32 */
static inline __m128i q3_scales(const uint8_t *w)
{
	const uint32_t low4 = 0x0f0f0f0f, low2 = 0x03030303;
	uint32_t a, b, c;

	memcpy(&a, w, 4);
	memcpy(&b, w + 4, 4);
	memcpy(&c, w + 8, 4);
	return _mm_sub_epi8(_mm_setr_epi32((int)((a & low4) | (c & low2) << 4),
					   (int)((b & low4) | (c >> 2 & low2) << 4),
					   (int)((a >> 4 & low4) | (c >> 4 & low2) << 4),
					   (int)((b >> 4 & low4) | (c >> 6 & low2) << 4)),
			    _mm_set1_epi8(32));
}

static inline void q3_values(const uint8_t *w, __m512i q[4])
{
	const __m512i low2 = _mm512_set1_epi32(0x03030303), four = _mm512_set1_epi32(0x04040404);
	const __m512i c = _mm512_loadu_si512(w + 32);
	/* bits 0..3 belong to the first 128 weights, 4..7 to the second */
	const __m512i h =
		_mm512_srlv_epi64(_mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)w)),
				  _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4));

	q[0] = _mm512_and_si512(_mm512_slli_epi16(h, 2), four);
	q[1] = _mm512_and_si512(_mm512_slli_epi16(h, 1), four);
	q[2] = _mm512_and_si512(h, four);
	q[3] = _mm512_and_si512(_mm512_srli_epi16(h, 1), four);
	for (unsigned v = 0; v < 4; v++)
		q[v] = _mm512_or_si512(q[v], _mm512_and_si512(_mm512_srli_epi16(c, 2 * v), low2));
}

static inline __attribute__((always_inline)) void group_q3_k(const uint8_t *w,
							     const struct act_k *const *x, int cols,
							     size_t at, int count,
							     const struct row_sums *out)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
	prefetch_ahead(w, QUANT_Q3_K_BYTES * (size_t)count);
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += QUANT_Q3_K_BYTES) {
		const __m256i scales = _mm256_cvtepi8_epi16(q3_scales(w + 96));
		__m512i q[4];
		uint16_t d;

		memcpy(&d, w + 108, 2);
		out->d[at] = d;
		q3_values(w, q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const __m256i sums = scaled_sums(scales, x[c] + at);

			/* q - 4: a quarter of -16 * sums, of which nothing is lost */
			s[c][i] = multiply(q, x[c] + at, _mm512_cvtepu16_epi32(scales),
					   _mm256_srai_epi32(sums, 2));
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		store_sums(out[c].sum + at - count, s[c]);
}

ROW_K(q6_k, group_q6_k, QUANT_Q6_K_BYTES)
ROW_K_ONE(q2_k, group_q2_k, QUANT_Q2_K_BYTES)
ROW_K_TWO(q3_k, group_q3_k, QUANT_Q3_K_BYTES)
