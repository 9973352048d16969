/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_k2_avx512.c: one row times one vector for Q6_K, Q2_K and Q3_K, in file order:
 * whole numbers only, see avx512_tile.h. Any thread.
 *
 * Sixteen sub-blocks of 16 weights, a 128-bit lane each, four registers in the order of act_k.q6.
 * Four products of q unsigned are at most 4 * 63 * 127 = 32004, 16 bits, for vpdpwssd with the
 * scale; the offset of the weights is taken away through the sums of 16 activations.
 * Q2_K has its weights multiplied with their scales by a look-up instead: see struct q2_table.
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

/* sums of four registers of eight words */
static inline void store_sums_256(int32_t *to, const __m256i s[4])
{
	__m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));

	_mm_storeu_si128((void *)to,
			 _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}

/*
 * The products of sixteen sub-blocks' scales with weights 0 to 3: a lane has those of its four sub-blocks,
 * [4 * v + weight] for weights at bits 0, 1 of a byte, [4 * weight + v] for those at bits 2, 3.
 */
struct q2_table {
	__m512i low, high;
};

/* @scales: the super-block's sixteen, with minima above them, in every lane */
static inline struct q2_table q2_table(__m512i scales)
{
	/* of lane 0, twice each; lanes 1 to 3 have one, eight, nine sub-blocks more */
	const __m128i first = _mm_setr_epi8(0, -1, 0, -1, 2, -1, 2, -1, 4, -1, 4, -1, 6, -1, 6, -1);
	const __m512i lane = _mm512_setr_epi64(0, 0, 0x0001000100010001, 0x0001000100010001,
					       0x0008000800080008, 0x0008000800080008,
					       0x0009000900090009, 0x0009000900090009);
	const __m512i which = _mm512_add_epi8(_mm512_broadcast_i32x4(first), lane);
	const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	struct q2_table t;

	scales = _mm512_and_si512(scales, _mm512_set1_epi8(15));
	t.low = _mm512_mullo_epi16(_mm512_shuffle_epi8(scales, which),
				   _mm512_set1_epi32(0x03020100));
	t.high = _mm512_shuffle_epi8(t.low, _mm512_broadcast_i32x4(turn));
	return t;
}

/* weights times scales, in the order of act_k.q6 */
static inline void q2_values(const uint8_t *w, const struct q2_table *t, __m512i q[4])
{
	const __m512i low = _mm512_set1_epi8(3), high = _mm512_set1_epi8(12);
	const __m512i b = load_once(w), up = _mm512_srli_epi16(b, 4);

	q[0] = _mm512_shuffle_epi8(t->low, _mm512_and_si512(b, low));
	q[1] = _mm512_shuffle_epi8(t->high,
				   _mm512_ternarylogic_epi32(b, high, _mm512_set1_epi8(1), 0xea));
	q[2] = _mm512_shuffle_epi8(t->low,
				   _mm512_ternarylogic_epi32(up, low, _mm512_set1_epi8(8), 0xea));
	q[3] = _mm512_shuffle_epi8(t->high,
				   _mm512_ternarylogic_epi32(up, high, _mm512_set1_epi8(3), 0xea));
}

/* weights that have their scales, times a column */
static inline __m512i multiply_scaled(const __m512i q[4], const struct act_k *x)
{
	__m512i s = _mm512_setzero_si512();

#pragma GCC unroll 4
	for (int v = 0; v < 4; v++)
		s = _mm512_dpbusd_epi32(s, q[v], _mm512_load_si512(x->q6 + 64 * v));
	return s;
}

static inline __attribute__((always_inline)) void group_q2_k(const uint8_t *w,
							     const struct act_k *const *x, int cols,
							     size_t at, int count,
							     const struct row_sums *out)
{
	const __m128i low4 = _mm_set1_epi8(15);
	const __m512i zero = _mm512_setzero_si512();
	struct q2_table t[4];
	__m256i m[ROW_COLS][4], minima[4];
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
		m[c][0] = m[c][1] = m[c][2] = m[c][3] = _mm256_setzero_si256();
	}
	/* the longest chains first, of four super-blocks side by side */
#pragma GCC unroll 4
	for (int i = 0; i < count; i++) {
		const uint8_t *b = w + (size_t)i * QUANT_Q2_K_BYTES;
		const __m128i bytes = _mm_loadu_si128((const void *)b);

		t[i] = q2_table(_mm512_broadcast_i32x4(bytes));
		minima[i] = _mm256_cvtepi8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, 4), low4));
		memcpy(&out->d[at + (size_t)i], b + 80, 4);
	}
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += QUANT_Q2_K_BYTES) {
		__m512i q[4];

		prefetch_ahead(w, out->ahead, QUANT_Q2_K_BYTES);
		q2_values(w + 16, &t[i], q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			m[c][i] = scaled_sums(minima[i], x[c] + at);
			s[c][i] = multiply_scaled(q, x[c] + at);
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		store_sums(out[c].sum + at - count, s[c]);
		store_sums_256(out[c].min + at - count, m[c]);
	}
}

/* sixteen 6-bit scales less 32 of each of @count super-blocks, a lane each */
static inline __m512i q3_scales(const uint8_t *w, int count)
{
	/* two bytes of weights, twelve of scales, d */
	const __m512i h = load_some(w + 94, QUANT_Q3_K_BYTES, count);
	const __m128i low = _mm_setr_epi8(2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9);
	const __m128i high =
		_mm_setr_epi8(10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13);
	const __m512i down = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 4, 4));
	/* bits 2k and 2k + 1 to bits 4 and 5 */
	const __m512i turn = _mm512_broadcast_i32x4(_mm_setr_epi32(4, 2, 0, 30));
	const __m512i a =
		_mm512_srlv_epi32(_mm512_shuffle_epi8(h, _mm512_broadcast_i32x4(low)), down);
	const __m512i b =
		_mm512_rolv_epi32(_mm512_shuffle_epi8(h, _mm512_broadcast_i32x4(high)), turn);
	const __m512i up2 = _mm512_and_si512(b, _mm512_set1_epi8(0x30));

	return _mm512_sub_epi8(_mm512_ternarylogic_epi32(a, _mm512_set1_epi8(15), up2, 0xea),
			       _mm512_set1_epi8(32));
}

/* lane @i in all lanes */
static inline __m512i every_lane(__m512i v, int i)
{
	const __m512i each = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 1, 2, 3));

	return _mm512_permutexvar_epi32(_mm512_add_epi32(each, _mm512_set1_epi32(4 * i)), v);
}

static inline void q3_values(const uint8_t *w, __m512i q[4])
{
	const __m512i low2 = _mm512_set1_epi32(0x03030303), four = _mm512_set1_epi32(0x04040404);
	const __m512i c = load_once(w + 32);
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

/*
 * 256 times the sum over sub-blocks of scale * (product of 16): a scale is the upper byte of its 16 bits, so
 * that its sign comes with it. 2^31 is not reached: 32 * 4 * 127 * 256 weights * 256.
 */
static inline __m512i multiply_q3(const __m512i q[4], const struct act_k *x, __m512i scales,
				  __m256i start)
{
	const __m128i first =
		_mm_setr_epi8(-1, 0, -1, -1, -1, 0, -1, -1, -1, 0, -1, -1, -1, 0, -1, -1);
	const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 0x100, 0x100, 0x100, 0x100, 0x800, 0x800,
					       0x800, 0x800, 0x900, 0x900, 0x900, 0x900);
	const __m512i each = _mm512_add_epi8(_mm512_broadcast_i32x4(first), lane);
	__m512i s = _mm512_zextsi256_si512(start);

#pragma GCC unroll 4
	for (int v = 0; v < 4; v++) {
		const __m512i which = _mm512_add_epi8(each, _mm512_set1_epi32(0x200 * v));
		const __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), q[v],
							_mm512_load_si512(x->q6 + 64 * v));

		s = _mm512_dpwssd_epi32(s, dot, _mm512_shuffle_epi8(scales, which));
	}
	return s;
}

static inline __attribute__((always_inline)) void group_q3_k(const uint8_t *w,
							     const struct act_k *const *x, int cols,
							     size_t at, int count,
							     const struct row_sums *out)
{
	const __m512i zero = _mm512_setzero_si512(), scales = q3_scales(w, count);
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += QUANT_Q3_K_BYTES) {
		const __m512i own = every_lane(scales, i);
		const __m256i words = _mm256_cvtepi8_epi16(_mm512_castsi512_si128(own));
		__m512i q[4];
		uint16_t d;

		prefetch_ahead(w, out->ahead, QUANT_Q3_K_BYTES);
		memcpy(&d, w + 108, 2);
		out->d[at] = d;
		q3_values(w, q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const __m256i sums = scaled_sums(words, x[c] + at);

			/* q - 4: a quarter of -16 * sums, 256 times */
			s[c][i] = multiply_q3(q, x[c] + at, own, _mm256_slli_epi32(sums, 6));
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		_mm_storeu_si128((void *)(out[c].sum + at - count),
				 _mm_srai_epi32(add_lanes(add_words(s[c])), 8));
}

ROW_K_FOUR(q6_k, group_q6_k, QUANT_Q6_K_BYTES)
ROWS_K_FOUR(q6_k, group_q6_k_of, QUANT_Q6_K_BYTES)
ROW_K_ONE(q2_k, group_q2_k, QUANT_Q2_K_BYTES)
ROW_K_ONE(q3_k, group_q3_k, QUANT_Q3_K_BYTES)
