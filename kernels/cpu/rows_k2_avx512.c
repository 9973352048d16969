/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_k2_avx512.c: one row times one vector for Q6_K, in file order: whole numbers only, see
 * avx512_tile.h. Any thread.
 *
 * Sixteen sub-blocks of 16 weights, a 128-bit lane each, four registers in the order of act_k.q6.
 * Four products of q unsigned are at most 4 * 63 * 127 = 32004, 16 bits, for vpdpwssd with the
 * scale; the offset of the weights is taken away through the sums of 16 activations.
 */
#include "kernels/cpu/avx512_row.h"

/*
 * sum over sub-blocks of scale * (product of 16); @start: what the offset takes away. Products are words:
 * those of two registers go side by side, and one vpdpwssd multiplies both with their scales.
 */
static inline __m512i multiply(const __m512i q[4], const struct act_k *x, __m512i scales,
			       __m256i start)
{
	/* a lane has four words of sub-block 0, 1, 8 or 9 and four of the one two behind it */
	const __m512i each = _mm512_setr_epi64(
		0, 0x0002000200020002, 0x0001000100010001, 0x0003000300030003, 0x0008000800080008,
		0x000a000a000a000a, 0x0009000900090009, 0x000b000b000b000b);
	const __m512i zero = _mm512_setzero_si512();
	__m512i s = _mm512_zextsi256_si512(start);

#pragma GCC unroll 2
	for (int v = 0; v < 4; v += 2) {
		__m512i which = _mm512_add_epi16(each, _mm512_set1_epi16((short)(2 * v)));
		__m512i a = _mm512_dpbusd_epi32(zero, q[v], _mm512_load_si512(x->q6 + 64 * v));
		__m512i b =
			_mm512_dpbusd_epi32(zero, q[v + 1], _mm512_load_si512(x->q6 + 64 * v + 64));

		s = _mm512_dpwssd_epi32(s, _mm512_packs_epi32(a, b),
					_mm512_permutexvar_epi16(which, scales));
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

/* @period: super-blocks of a row, of which the group has more than one; 0: of one row */
static inline __attribute__((always_inline)) void
group_q6_k_of(const uint8_t *w, const struct act_k *const *x, int cols, size_t at, int count,
	      const struct row_sums *out, size_t period)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += QUANT_Q6_K_BYTES) {
		const __m128i bytes = _mm_loadu_si128((const void *)(w + 192));
		const __m256i scales = _mm256_cvtepi8_epi16(bytes);
		const size_t in_row = period ? at % period : at;
		__m512i q[4];
		uint16_t d;

		prefetch_ahead(w, out->ahead, QUANT_Q6_K_BYTES);
		memcpy(&d, w + 208, 2);
		out->d[at] = d;
		q6_values(w, q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const struct act_k *v = x[c] + in_row;
			const __m256i sums = scaled_sums(scales, v);

			/* q - 32: twice -16 * sums */
			s[c][i] = multiply(q, v, _mm512_castsi256_si512(scales),
					   _mm256_add_epi32(sums, sums));
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		store_sums(out[c].sum + at - count, s[c]);
}

static inline __attribute__((always_inline)) void group_q6_k(const uint8_t *w,
							     const struct act_k *const *x, int cols,
							     size_t at, int count,
							     const struct row_sums *out)
{
	group_q6_k_of(w, x, cols, at, count, out, 0);
}

ROW_K_FOUR(q6_k, group_q6_k, QUANT_Q6_K_BYTES)
ROWS_K_FOUR(q6_k, group_q6_k_of, QUANT_Q6_K_BYTES)
