/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_k_avx512.c: one row times one vector for Q4_K, Q5_K and IQ4_XS, in file order:
 * whole numbers only, see avx512_tile.h. Any thread.
 *
 * The 64-byte loads of a super-block are regrouped so that each 128-bit lane holds half of one
 * sub-block, low nibbles those of even sub-blocks, high nibbles of odd ones. Both halves meet in
 * the same four sums (at most 8 * 31 * 127 = 31496: 16 bits), which vpdpwssd multiplies with the
 * sub-block's scale, spread over the lane by one vpermd.
 */
#include "kernels/cpu/avx512_row.h"

/* 16-byte headers of Q4_K and Q5_K -> per lane: eight scale bytes, eight minimum bytes */
static inline __m512i unpack_headers(__m512i h)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), low6 = _mm512_set1_epi32(0x3f3f3f3f);
	const __m512i keep =
		_mm512_broadcast_i32x4(_mm_setr_epi32(-1, -0x0f0f0f10, -1, -0x0f0f0f10));
	const __m512i down = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 2, 0, 2));
	const __m512i down2 = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 4));
	__m512i a = _mm512_srlv_epi32(_mm512_shuffle_epi32(h, _MM_PERM_CCBB), down);
	__m512i c = _mm512_srlv_epi32(_mm512_shuffle_epi32(h, _MM_PERM_DDDD), down2);

	c = _mm512_and_si512(c, low4);
	return _mm512_and_si512(select_bits(keep, a, c), low6);
}

/* words of @lane's eight scales: four of the even, four of the odd sub-block of each lane of multiply() */
static inline __m512i spread(__m512i scales, int lane)
{
	const __m512i each = _mm512_setr_epi64(
		0, 0x0001000100010001, 0x0002000200020002, 0x0003000300030003, 0x0004000400040004,
		0x0005000500050005, 0x0006000600060006, 0x0007000700070007);

	return _mm512_permutexvar_epi16(
		_mm512_add_epi16(each, _mm512_set1_epi16((short)(8 * lane))), scales);
}

/* one super-block: @q in the order of act_k.q, @scales: see spread() */
static inline __m512i multiply(const __m512i q[4], const struct act_k *x, __m512i scales)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i e = _mm512_dpbusd_epi32(zero, q[0], _mm512_load_si512(x->q));
	__m512i o = _mm512_dpbusd_epi32(zero, q[2], _mm512_load_si512(x->q + 128));

	e = _mm512_dpbusd_epi32(e, q[1], _mm512_load_si512(x->q + 64));
	o = _mm512_dpbusd_epi32(o, q[3], _mm512_load_si512(x->q + 192));
	return _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(e, o), scales);
}

static inline void load_chunks(const uint8_t *w, __m512i q[2])
{
	const __m512i a = load_once(w), b = load_once(w + 64);

	q[0] = _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(2, 0, 2, 0));
	q[1] = _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(3, 1, 3, 1));
}

static inline void q4_nibbles(const uint8_t *w, __m512i q[4])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);
	__m512i c[2];

	load_chunks(w + 16, c);
	for (int i = 0; i < 2; i++) {
		q[i] = _mm512_and_si512(c[i], low4);
		q[i + 2] = _mm512_and_si512(_mm512_srli_epi16(c[i], 4), low4);
	}
}

static inline void q5_values(const uint8_t *w, __m512i q[4])
{
	/* bits 2c and 2c + 1 belong to chunk c, lane c: they are turned to bits 4 and 5 */
	const __m512i turn = _mm512_setr_epi64(4, 4, 2, 2, 0, 0, 62, 62);
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), low5 = _mm512_set1_epi32(0x1f1f1f1f);
	__m512i c[2];

	load_chunks(w + 48, c);
	for (int i = 0; i < 2; i++) {
		__m512i h =
			_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(w + 16 + 16 * i)));

		h = _mm512_rolv_epi64(h, turn);
		q[i] = _mm512_and_si512(select_bits(low4, c[i], h), low5);
		q[i + 2] = select_bits(low4, _mm512_srli_epi16(c[i], 4), _mm512_srli_epi16(h, 1));
		q[i + 2] = _mm512_and_si512(q[i + 2], low5);
	}
}

/* the sums of 32 of the super-blocks from @at on of rows of @period, a lane each */
static inline __m512i load_sums(const struct act_k *x, size_t at, size_t period)
{
	return join_lanes(_mm_load_si128((const void *)x[at % period].sum32),
			  _mm_load_si128((const void *)x[(at + 1) % period].sum32),
			  _mm_load_si128((const void *)x[(at + 2) % period].sum32),
			  _mm_load_si128((const void *)x[(at + 3) % period].sum32));
}

/* @period: super-blocks of a row, of which the group has more than one; 0: of one row */
static inline __attribute__((always_inline)) void
group_q45(const uint8_t *w, const struct act_k *const *x, int cols, size_t at, int count,
	  const struct row_sums *out, size_t bytes, size_t period)
{
	const __m512i zero = _mm512_setzero_si512();
	const __m512i bits = unpack_headers(load_some(w, bytes, count));
	const __m512i sc = _mm512_unpacklo_epi8(bits, zero);
	const __m512i m = _mm512_unpackhi_epi8(bits, zero);
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		__m512i sums = period ? load_sums(x[c], at, period)
				      : load_some(x[c][at].sum32, sizeof(**x), count);

		store_lane_sums(out[c].min + at, _mm512_dpwssd_epi32(zero, m, sums));
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
	}
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += bytes) {
		const size_t in_row = period ? at % period : at;
		__m512i q[4];

		memcpy(&out->d[at], w, 4);
		prefetch_ahead(w, out->ahead, bytes);
		if (bytes == QUANT_Q4_K_BYTES)
			q4_nibbles(w, q);
		else
			q5_values(w, q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			s[c][i] = multiply(q, x[c] + in_row, spread(sc, i));
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		store_sums(out[c].sum + at - count, s[c]);
}

static inline __attribute__((always_inline)) void group_q4_k(const uint8_t *w,
							     const struct act_k *const *x, int cols,
							     size_t at, int count,
							     const struct row_sums *out)
{
	group_q45(w, x, cols, at, count, out, QUANT_Q4_K_BYTES, 0);
}

static inline __attribute__((always_inline)) void
group_q4_k_of(const uint8_t *w, const struct act_k *const *x, int cols, size_t at, int count,
	      const struct row_sums *out, size_t period)
{
	group_q45(w, x, cols, at, count, out, QUANT_Q4_K_BYTES, period);
}

static inline __attribute__((always_inline)) void group_q5_k(const uint8_t *w,
							     const struct act_k *const *x, int cols,
							     size_t at, int count,
							     const struct row_sums *out)
{
	group_q45(w, x, cols, at, count, out, QUANT_Q5_K_BYTES, 0);
}

static inline __attribute__((always_inline)) void
group_q5_k_of(const uint8_t *w, const struct act_k *const *x, int cols, size_t at, int count,
	      const struct row_sums *out, size_t period)
{
	group_q45(w, x, cols, at, count, out, QUANT_Q5_K_BYTES, period);
}

/* eight 6-bit scales less 32 as words */
static inline __m256i iq4_scales(const uint8_t *w)
{
	const __m256i step = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	uint32_t low;
	uint16_t high;

	memcpy(&high, w + 2, 2);
	memcpy(&low, w + 4, 4);

	__m256i a = _mm256_srlv_epi32(_mm256_set1_epi32((int)low), _mm256_slli_epi32(step, 2));
	__m256i b = _mm256_srlv_epi32(_mm256_set1_epi32(high), _mm256_slli_epi32(step, 1));

	a = _mm256_and_si256(a, _mm256_set1_epi32(15));
	b = _mm256_slli_epi32(_mm256_and_si256(b, _mm256_set1_epi32(3)), 4);
	return _mm256_sub_epi32(_mm256_or_si256(a, b), _mm256_set1_epi32(32));
}

/* the values of a super-block plus 128, in the order of act_k.q */
static inline void iq4_values(const uint8_t *w, __m512i q[4])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), values = avx512_iq4_values();
	__m512i c[2];

	load_chunks(w + 8, c); /* c[0]: sub-blocks 0 2 4 6, c[1]: 1 3 5 7 */
	for (int i = 0; i < 2; i++) {
		__m512i high = _mm512_and_si512(_mm512_srli_epi16(c[i], 4), low4);

		q[2 * i] = _mm512_shuffle_epi8(values, _mm512_and_si512(c[i], low4));
		q[2 * i + 1] = _mm512_shuffle_epi8(values, high);
	}
}

static inline __m512i multiply_iq4(const __m512i q[4], const struct act_k *x, __m256i sc)
{
	const __m512i even = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
	const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
	const __m512i zero = _mm512_setzero_si512(), scales = _mm512_castsi256_si512(sc);
	/* -128 * sums of 32, times the scales: takes the offset of the values away */
	__m256i by32 = _mm256_slli_epi32(_mm256_load_si256((const void *)x->by32), 4);
	__m512i s = _mm512_zextsi256_si512(_mm256_mullo_epi32(by32, sc));
	__m512i e = _mm512_dpbusd_epi32(zero, q[0], _mm512_load_si512(x->q));
	__m512i o = _mm512_dpbusd_epi32(zero, q[2], _mm512_load_si512(x->q + 128));

	e = _mm512_dpbusd_epi32(e, q[1], _mm512_load_si512(x->q + 64));
	o = _mm512_dpbusd_epi32(o, q[3], _mm512_load_si512(x->q + 192));
	e = _mm512_mullo_epi32(e, _mm512_permutexvar_epi32(even, scales));
	o = _mm512_mullo_epi32(o, _mm512_permutexvar_epi32(odd, scales));
	return _mm512_add_epi32(s, _mm512_add_epi32(e, o));
}

static inline __attribute__((always_inline)) void group_iq4_xs(const uint8_t *w,
							       const struct act_k *const *x,
							       int cols, size_t at, int count,
							       const struct row_sums *out)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += QUANT_IQ4_XS_BYTES) {
		const __m256i sc = iq4_scales(w);
		__m512i q[4];

		memcpy(&out->d[at], w, 4);
		prefetch_ahead(w, out->ahead, QUANT_IQ4_XS_BYTES);
		iq4_values(w, q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			s[c][i] = multiply_iq4(q, x[c] + at, sc);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		store_sums(out[c].sum + at - count, s[c]);
}

ROW_K_ONE(q4_k, group_q4_k, QUANT_Q4_K_BYTES)
ROWS_K_ONE(q4_k, group_q4_k_of, QUANT_Q4_K_BYTES)
ROW_K_ONE(q5_k, group_q5_k, QUANT_Q5_K_BYTES)
ROWS_K_ONE(q5_k, group_q5_k_of, QUANT_Q5_K_BYTES)
ROW_K_ONE(iq4_xs, group_iq4_xs, QUANT_IQ4_XS_BYTES)
