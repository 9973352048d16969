/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_k_avx512.c: rows times one vector for Q4_K, Q5_K and IQ4_XS, in file order:
 * whole numbers only, see avx512_tile.h. Any thread.
 *
 * The 64-byte loads of a super-block are regrouped so that each 128-bit lane holds half of one
 * sub-block, low nibbles those of even sub-blocks, high nibbles of odd ones. Both halves meet in
 * the same four sums (at most 8 * 31 * 127 = 31496: 16 bits). Those of two super-blocks go side by side
 * as words, and vpdpwssd multiplies them with the sub-blocks' scales, spread over the lanes by one vpermw.
 * What Q4_K and Q5_K have in front of a super-block is kept for rows_avx512.c, which does the minima of
 * sixteen rows at once.
 */
#include "kernels/cpu/avx512_row.h"

/* of super-blocks, a lane each: scales of even sub-blocks and of odd ones, words 2, 3, 6, 7 of a lane */
struct scales {
	__m512i even, odd;
};

/* @h: what Q4_K and Q5_K have in front, a lane each */
static inline struct scales unpack_scales(__m512i h)
{
	const __m512i low6 = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x3f3f3f3f, 0, 0x30303030));
	const __m512i low4 = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 0x0f0f0f0f));
	const __m512i down = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 2));
	__m512i a = _mm512_srlv_epi32(_mm512_shuffle_epi32(h, _MM_PERM_BBBB), down);

	a = _mm512_ternarylogic_epi32(_mm512_and_si512(a, low6), h, low4, 0xf8);
	return (struct scales){ _mm512_and_si512(a, _mm512_set1_epi16(0xff)),
				_mm512_srli_epi16(a, 8) };
}

/* the sums of a super-block's even and odd sub-blocks, in the lanes of act_k.q; those of odd ones times 2^@shift */
static inline void multiply(const __m512i q[4], const struct act_k *x, unsigned shift,
			    __m512i *even, __m512i *odd)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i e = _mm512_dpbusd_epi32(zero, q[0], _mm512_load_si512(x->q));
	__m512i o = _mm512_dpbusd_epi32(zero, q[2], _mm512_load_si512(x->q + 128));

	*even = _mm512_dpbusd_epi32(e, q[1], _mm512_load_si512(x->q + 64));
	o = _mm512_dpbusd_epi32(o, q[3], _mm512_load_si512(x->q + 192));
	*odd = shift ? _mm512_srai_epi32(o, shift) : o;
}

/* sums of the super-blocks 2 * @pair and the next times their scales; two words of each lane for either */
static inline __m512i scaled(const __m512i even[2], const __m512i odd[2], const struct scales *sc,
			     int pair)
{
	const __m512i each = _mm512_setr_epi64(
		0x0002000200020002, 0x000a000a000a000a, 0x0003000300030003, 0x000b000b000b000b,
		0x0006000600060006, 0x000e000e000e000e, 0x0007000700070007, 0x000f000f000f000f);
	const __m512i which = _mm512_add_epi16(each, _mm512_set1_epi16((short)(16 * pair)));
	const __m512i s = _mm512_dpwssd_epi32(_mm512_setzero_si512(),
					      _mm512_packs_epi32(even[0], even[1]),
					      _mm512_permutexvar_epi16(which, sc->even));

	return _mm512_dpwssd_epi32(s, _mm512_packs_epi32(odd[0], odd[1]),
				   _mm512_permutexvar_epi16(which, sc->odd));
}

static inline void load_chunks(const uint8_t *w, __m512i q[2])
{
	const __m512i a = load_once(w), b = load_once(w + 64);

	q[0] = _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(2, 0, 2, 0));
	q[1] = _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(3, 1, 3, 1));
}

/* high nibbles as they stand, sixteen times as large */
static inline void q4_nibbles(const uint8_t *w, __m512i q[4])
{
	__m512i c[2];

	load_chunks(w + 16, c);
	for (int i = 0; i < 2; i++) {
		q[i] = _mm512_and_si512(c[i], _mm512_set1_epi8(0x0f));
		q[i + 2] = _mm512_and_si512(c[i], _mm512_set1_epi8((char)0xf0));
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

FORCE_INLINE size_t group_q45(const uint8_t *w, const struct act_k *const *x, int cols,
			      struct run_at at, int count, const struct row_sums *out, size_t bytes)
{
	__m512i even[4], odd[4], s[2];
	__m128i front[4];
	struct scales sc;

	(void)cols;
	for (int i = 0; i < 4; i++) {
		even[i] = odd[i] = _mm512_setzero_si512();
		front[i] = _mm_loadu_si128((const void *)(w + (i < count ? i : 0) * bytes));
	}
	sc = unpack_scales(join_lanes(front[0], front[1], front[2], front[3]));
#pragma GCC unroll 4
	for (size_t i = 0; i < (size_t)count; i++, w += bytes) {
		__m512i q[4];

		_mm_storeu_si128((void *)(out->d + 4 * (at.block + i)), front[i]);
		run_prefetch(w - i * bytes, out->ahead, i, bytes);
		if (bytes == QUANT_Q4_K_BYTES)
			q4_nibbles(w, q);
		else
			q5_values(w, q);
		multiply(q, run_act(x[0], at), bytes == QUANT_Q4_K_BYTES ? 4 : 0, &even[i],
			 &odd[i]);
		at.act = run_next(at);
	}
	s[0] = scaled(even, odd, &sc, 0);
	s[1] = count > 2 ? scaled(even + 2, odd + 2, &sc, 1) : _mm512_setzero_si512();
	store_pairs(out->sum + at.block, s);
	return at.act;
}

FORCE_INLINE size_t group_q4_k(const uint8_t *w, const struct act_k *const *x, int cols,
			       struct run_at at, int count, const struct row_sums *out)
{
	return group_q45(w, x, cols, at, count, out, QUANT_Q4_K_BYTES);
}

FORCE_INLINE size_t group_q5_k(const uint8_t *w, const struct act_k *const *x, int cols,
			       struct run_at at, int count, const struct row_sums *out)
{
	return group_q45(w, x, cols, at, count, out, QUANT_Q5_K_BYTES);
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

RUN_K_ONE(q4_k, group_q4_k, QUANT_Q4_K_BYTES)
RUN_K_ONE(q5_k, group_q5_k, QUANT_Q5_K_BYTES)
ROW_K_ONE(iq4_xs, group_iq4_xs, QUANT_IQ4_XS_BYTES)
