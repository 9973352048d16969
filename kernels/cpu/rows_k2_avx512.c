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

/* two super-blocks' scales as words, and their weights in the order of act_k.q6 */
struct q6_pair {
	__m512i scales, q[2][4];
};

/* what the offset of the weights of two super-blocks takes away; two words of each lane for either */
static inline __m512i q6_start(const struct q6_pair *p, const struct act_k *const x[2])
{
	const __m256i a = scaled_sums(_mm512_castsi512_si256(p->scales), x[0]);
	const __m256i b = scaled_sums(_mm512_extracti64x4_epi64(p->scales, 1), x[1]);
	const __m256i s =
		_mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));

	/* q - 32: twice -16 * sums */
	return _mm512_zextsi256_si512(_mm256_add_epi32(s, s));
}

/*
 * The sums over sub-blocks of scale * (product of 16). Products are words: those of two super-blocks go side
 * by side, and one vpdpwssd multiplies both with their scales.
 */
static inline __m512i q6_multiply(const struct q6_pair *p, const struct act_k *const x[2])
{
	/* the lanes of the first register have sub-blocks 0, 1, 8 and 9 of either super-block */
	const __m512i each = _mm512_setr_epi64(
		0, 0x0010001000100010, 0x0001000100010001, 0x0011001100110011, 0x0008000800080008,
		0x0018001800180018, 0x0009000900090009, 0x0019001900190019);
	const __m512i zero = _mm512_setzero_si512();
	__m512i s = q6_start(p, x);

#pragma GCC unroll 4
	for (int v = 0; v < 4; v++) {
		const __m512i which = _mm512_add_epi16(each, _mm512_set1_epi16((short)(2 * v)));
		const __m512i a =
			_mm512_dpbusd_epi32(zero, p->q[0][v], _mm512_load_si512(x[0]->q6 + 64 * v));
		const __m512i b =
			_mm512_dpbusd_epi32(zero, p->q[1][v], _mm512_load_si512(x[1]->q6 + 64 * v));

		s = _mm512_dpwssd_epi32(s, _mm512_packs_epi32(a, b),
					_mm512_permutexvar_epi16(which, p->scales));
	}
	return s;
}

FORCE_INLINE void q6_unpack(const uint8_t *w, uint32_t *d, __m512i q[4])
{
	uint16_t half;

	memcpy(&half, w + 208, 2);
	*d = half;
	q6_values(w, q);
}

FORCE_INLINE size_t group_q6_k(const uint8_t *w, const struct act_k *const *x, int cols,
			       struct run_at at, int count, const struct row_sums *out)
{
	__m512i s[ROW_COLS][2];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][1] = _mm512_setzero_si512();
#pragma GCC unroll 2
	for (int i = 0; i < count; i += 2, w += 2 * QUANT_Q6_K_BYTES) {
		/* one that has no other is multiplied twice, and its second sum is not looked at */
		const uint8_t *second = i + 1 < count ? w + QUANT_Q6_K_BYTES : w;
		uint32_t *d = out->d + at.block + (size_t)i;
		const struct run_at next = { at.block, run_next(at), at.end };
		struct q6_pair p;

		p.scales = _mm512_cvtepi8_epi16(
			_mm256_set_m128i(_mm_loadu_si128((const void *)(second + 192)),
					 _mm_loadu_si128((const void *)(w + 192))));
		run_prefetch(w - i * QUANT_Q6_K_BYTES, out->ahead, (size_t)i / 2,
			     2 * QUANT_Q6_K_BYTES);
		q6_unpack(w, d, p.q[0]);
		q6_unpack(second, d + 1, p.q[1]);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const struct act_k *const two[2] = { run_act(x[c], at),
							     run_act(x[c], next) };

			s[c][i / 2] = q6_multiply(&p, two);
		}
		at.act = run_next(next);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		store_pairs(out[c].sum + at.block, s[c]);
	return at.act;
}

RUN_K_FOUR(q6_k, group_q6_k, QUANT_Q6_K_BYTES)
