/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/side_xs_avx2.c: one and two columns of IQ4_XS at the AVX2 level. Called through the format's row function
 * (matmul_k_avx2.c), any thread.
 *
 * As in side_b_avx2.c: the eight sub-blocks of a super-block are turned in registers until a register holds four
 * weights of each, and meets activations that are laid out alike, in two parts (two_parts()).
 */
#include "kernels/cpu/avx2_laid.h"

/*
 * 256 activations in two parts: vector k, word j: values 4k .. 4k+3 of sub-block j. Sums of upper parts start with
 * what 128 more in every weight add to all, taken away.
 */
struct xs_act {
	int8_t low[8][32], up[8][32];
	int16_t start[16];
};

FORCE_INLINE void lay_xs(const struct act_super *x, void *to)
{
	__m256i v[8], start = _mm256_setzero_si256();
	struct xs_act *t = to;

	for (int j = 0; j < 8; j++)
		v[j] = load32(x->q + 32 * j);
	transpose8(v);
	for (int k = 0; k < 8; k++) {
		two_parts(v[k], t->low[k], t->up[k]);
		start = _mm256_sub_epi16(start, _mm256_maddubs_epi16(_mm256_set1_epi8(8), v[k]));
	}
	_mm256_store_si256((__m256i *)t->start, start);
}

/* eight scales, four bits of each in the second word, two in the upper half of the first, as pairs of int16 */
FORCE_INLINE __m256i scales_xs(const uint8_t *w)
{
	const __m256i twice = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13));
	int32_t first, second;
	__m256i low, up;

	memcpy(&first, w, 4);
	memcpy(&second, w + 4, 4);
	low = _mm256_srlv_epi32(_mm256_set1_epi32(second),
				_mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
	up = _mm256_srlv_epi32(_mm256_set1_epi32(first),
			       _mm256_setr_epi32(12, 14, 16, 18, 20, 22, 24, 26));
	low = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(0x0f)),
			      _mm256_and_si256(up, _mm256_set1_epi32(0x30)));
	return _mm256_shuffle_epi8(_mm256_sub_epi32(low, _mm256_set1_epi32(32)), twice);
}

FORCE_INLINE void turn_xs(const uint8_t *w, struct laid *to)
{
	uint16_t h;

	memcpy(&h, w, 2);
	to->head = h;
	turn16(w + 8, 16, to->v);
	to->v[4] = scales_xs(w);
}

FORCE_INLINE __m256i sum_xs(const struct laid *w, const void *laid)
{
	const __m256i table = _mm256_xor_si256(iq4_values(), _mm256_set1_epi8(-128));
	const __m256i low4 = _mm256_set1_epi8(15), scale = w->v[4], *t = w->v;
	const struct xs_act *x = laid;
	__m256i low = _mm256_setzero_si256(), up = load32(x->start);

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		const __m256i n = k < 4 ? t[k] : _mm256_srli_epi16(t[k - 4], 4);
		const __m256i q = _mm256_shuffle_epi8(table, _mm256_and_si256(n, low4));
		const __m256i a = _mm256_maddubs_epi16(q, load32(x->low[k]));

		low = k ? _mm256_add_epi16(low, a) : a;
		up = _mm256_add_epi16(up, _mm256_maddubs_epi16(q, load32(x->up[k])));
	}
	return _mm256_add_epi32(_mm256_madd_epi16(low, scale),
				_mm256_madd_epi16(up, _mm256_slli_epi16(scale, 4)));
}

void avx2_side_iq4_xs(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	struct laid_kind k = { lay_xs, turn_xs,
			       sum_xs, sizeof(struct xs_act),
			       1,      { SUPER_SIGNED, 1, QUANT_IQ4_XS_BYTES } };

	if (cols == 1) {
		laid_rows(m, row, rows, col, k);
	} else {
		k.cols = 2;
		laid_rows(m, row, rows, col, k);
	}
}
