/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_k_avx2.c: three (Q4_K and Q5_K four, Q3_K five) to eight columns of super-blocks at the AVX2
 * level: Q2_K to Q5_K. Called through the formats' row functions (matmul_k_avx2.c), any thread. Fewer:
 * pair_k_avx2.c.
 *
 * As in few_b_avx2.c eight rows are read side by side and a register holds four weights of each; a column
 * multiplies it with four of its activations, broadcast. Sums come out with rows in the lanes, nothing is
 * added across lanes. Sums of two products are at most 2 * 15 * 127 (Q4_K) or 2 * 31 * 127 (Q5_K): eight, or
 * four, of them fit 16 bits, and then vpmaddwd multiplies with the scale. Two to four and eight columns are
 * written out where that gained, others are a loop.
 */
#include "kernels/cpu/avx2_k.h"

/* dots() of four columns and one scale: a word meets all columns before the next one is unpacked */
FORCE_INLINE void dots_of_four(const __m256i q[8], __m256i scale, const struct act_super *const *x,
			       int j, __m256i *s)
{
	__m256i part[4];

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
#pragma GCC unroll 4
		for (int c = 0; c < 4; c++) {
			const __m256i a = _mm256_maddubs_epi16(q[k], four_of(x[c]->q + 32 * j, k));

			part[c] = k ? add_pairs(part[c], a) : a;
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < 4; c++)
		s[c] = add_here(s[c], _mm256_madd_epi16(part[c], scale));
}

/* s[c] += sub-block @j times column c's and the scale, one or, @most is 4, one for each half */
FORCE_INLINE void dots(const __m256i q[8], int most, const __m256i *scale, bool halves,
		       const struct act_super *const *x, int j, int cols, __m256i *s)
{
	/* columns written out meet half of the weights at a time: all do not fit the registers beside sums */
	const int some = __builtin_constant_p(cols) ? most : 8;

	if (__builtin_constant_p(cols) && cols == 4 && most == 8) {
		dots_of_four(q, scale[0], x, j, s);
		return;
	}
#pragma GCC unroll 2
	for (int k = 0; k < 8; k += some) {
		for (int c = 0; c < cols; c++) {
			const int8_t *v = x[c]->q + 32 * j;
			__m256i sum = pairs(q, k, 4, v);

			if (most == 8) /* in two chains, which do not wait for each other */
				sum = _mm256_add_epi16(sum, pairs(q, 4, 4, v));
			sum = _mm256_madd_epi16(sum, scale[halves && k]);
			if (most < some)
				sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs(q, 4, most, v),
									      scale[halves]));
			s[c] = add_here(s[c], sum);
		}
	}
}

/* scales of Q4_K and Q5_K as pairs of int16, minima of sub-blocks 2i, 2i + 1 */
struct head45 {
	__m256 d, dmin;
	__m256i scale[8], min[4];
};

FORCE_INLINE void head45(const uint8_t *w, size_t stride, struct head45 *t)
{
	const __m256i low6 = _mm256_set1_epi8(0x3f), low4 = _mm256_set1_epi8(0x0f);
	const __m256i up2 = _mm256_set1_epi8(0x30);
	__m256i h[4], sc[2], m[2];

	turn16(w, stride, h);
	two_halves(h[0], &t->d, &t->dmin);
	sc[0] = _mm256_and_si256(h[1], low6);
	sc[1] = _mm256_or_si256(_mm256_and_si256(h[3], low4),
				_mm256_and_si256(_mm256_srli_epi16(h[1], 2), up2));
	m[0] = _mm256_and_si256(h[2], low6);
	m[1] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(h[3], 4), low4),
			       _mm256_and_si256(_mm256_srli_epi16(h[2], 2), up2));
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			t->scale[4 * i + j] = byte_twice(sc[i], j);
		t->min[2 * i] = two_bytes(m[i], 0);
		t->min[2 * i + 1] = two_bytes(m[i], 2);
	}
}

/* a super-block's floats, from its sums and those of its minima */
FORCE_INLINE __m256 finish(__m256 y, __m256 d, __m256 dmin, float dx, __m256i s, __m256i m)
{
	y = add_scaled(y, d, dx, _mm256_cvtepi32_ps(s));
	return take_scaled(y, dmin, dx, _mm256_cvtepi32_ps(m));
}

FORCE_INLINE void q45_k(const uint8_t *w, size_t stride, bool five,
			const struct act_super *const *x, int cols, __m256 *y)
{
	const __m256i low4 = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
	__m256i s[AVX2_FEW], high[8];
	struct head45 t;

	head45(w, stride, &t);
	for (int c = 0; c < cols; c++)
		s[c] = _mm256_setzero_si256();
	w += 16;
	if (five) {
		/* bits 2i and 2i + 1 of a byte belong to chunk i: they go down by two each time */
		turn32(w, stride, high);
		w += 32;
	}
#pragma GCC unroll 1
	for (int chunk = 0; chunk < 4; chunk++, w += 32) {
		__m256i q[8], v[8];

		turn32(w, stride, q);
#pragma GCC unroll 2
		for (int half = 0; half < 2; half++) {
#pragma GCC unroll 8
			for (int k = 0; k < 8; k++) {
				v[k] = half ? _mm256_srli_epi16(q[k], 4) : q[k];
				v[k] = _mm256_and_si256(v[k], low4);
				if (!five)
					continue;
				const __m256i up = _mm256_slli_epi16(high[k], half ? 3 : 4);

				v[k] = _mm256_or_si256(v[k], _mm256_and_si256(up, fifth));
				if (half)
					high[k] = _mm256_srli_epi16(high[k], 2);
			}
			dots(v, five ? 4 : 8, &t.scale[2 * chunk + half], false, x,
			     2 * chunk + half, cols, s);
		}
	}
	for (int c = 0; c < cols; c++)
		y[c] = finish(y[c], t.d, t.dmin, x[c]->d, s[c], minima(t.min, 4, x[c]->sum32));
}

FORCE_INLINE void q4_k(const uint8_t *w, size_t stride, const struct act_super *const *x, int cols,
		       __m256 *y)
{
	q45_k(w, stride, false, x, cols, y);
}

FORCE_INLINE void q5_k(const uint8_t *w, size_t stride, const struct act_super *const *x, int cols,
		       __m256 *y)
{
	q45_k(w, stride, true, x, cols, y);
}

/* weights at bits 2i of bytes */
FORCE_INLINE __m256i two_bits(__m256i q, int i)
{
	return _mm256_and_si256(_mm256_srli_epi16(q, 2 * i), _mm256_set1_epi8(3));
}

FORCE_INLINE void q2_k(const uint8_t *w, size_t stride, const struct act_super *const *x, int cols,
		       __m256 *y)
{
	const __m256i low4 = _mm256_set1_epi8(15);
	__m256i s[AVX2_FEW], h[4], ends[4], scale[16], min[8];
	__m256 d, dmin;

	turn16(w, stride, h);
	turn16(w + 68, stride, ends); /* of which the last four bytes are d and dmin */
	two_halves(ends[3], &d, &dmin);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m256i sc = _mm256_and_si256(h[i], low4);
		const __m256i m = _mm256_and_si256(_mm256_srli_epi16(h[i], 4), low4);

#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			scale[4 * i + j] = byte_twice(sc, j);
		min[2 * i] = two_bytes(m, 0);
		min[2 * i + 1] = two_bytes(m, 2);
	}
	for (int c = 0; c < cols; c++)
		s[c] = _mm256_setzero_si256();
#pragma GCC unroll 1
	for (int n = 0; n < 2; n++) {
		__m256i q[8], v[8];

		turn32(w + 16 + 32 * n, stride, q);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
#pragma GCC unroll 8
			for (int k = 0; k < 8; k++)
				v[k] = two_bits(q[k], i);
			dots(v, 4, scale + 8 * n + 2 * i, true, x, 4 * n + i, cols, s);
		}
	}
	for (int c = 0; c < cols; c++)
		y[c] = finish(y[c], d, dmin, x[c]->d, s[c], minima(min, 8, x[c]->sum));
}

/* sixteen 6-bit scales, four to a register, from the three words they are packed in */
FORCE_INLINE void scales_q3(const __m256i s[3], __m256i sc[4])
{
	const __m256i low4 = _mm256_set1_epi8(0x0f), up2 = _mm256_set1_epi8(0x30);

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m256i a = _mm256_srli_epi16(s[i % 2], 4 * (i / 2));
		const __m256i b = i < 2 ? _mm256_slli_epi16(s[2], 4 - 2 * i)
					: _mm256_srli_epi16(s[2], 2 * i - 4);

		sc[i] = _mm256_or_si256(_mm256_and_si256(a, low4), _mm256_and_si256(b, up2));
	}
}

FORCE_INLINE void q3_k(const uint8_t *w, size_t stride, const struct act_super *const *x, int cols,
		       __m256 *y)
{
	const __m256i four = _mm256_set1_epi8(4), half = _mm256_set1_epi16(32);
	__m256i s[AVX2_FEW], h[4], high[8], sc[4], scale[16], min[8];
	__m256 d, none;

	turn16(w + 94, stride, h); /* two bytes of weights, twelve of scales, d */
	two_halves(h[3], &none, &d);
#pragma GCC unroll 3
	for (int i = 0; i < 3; i++)
		h[i] = _mm256_or_si256(_mm256_srli_epi32(h[i], 16),
				       _mm256_slli_epi32(h[i + 1], 16));
	scales_q3(h, sc);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			scale[4 * i + j] = _mm256_sub_epi16(byte_twice(sc[i], j), half);
		min[2 * i] = _mm256_sub_epi16(two_bytes(sc[i], 0), half);
		min[2 * i + 1] = _mm256_sub_epi16(two_bytes(sc[i], 2), half);
	}
	turn32(w, stride, high);
	for (int c = 0; c < cols; c++)
		s[c] = _mm256_setzero_si256();
#pragma GCC unroll 1
	for (int n = 0; n < 2; n++) {
		__m256i q[8], v[8];

		turn32(w + 32 + 32 * n, stride, q);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
#pragma GCC unroll 8
			for (int k = 0; k < 8; k++) {
				const __m256i third = i < 2 ? _mm256_slli_epi16(high[k], 2 - i)
							    : _mm256_srli_epi16(high[k], i - 2);

				v[k] = _mm256_or_si256(two_bits(q[k], i),
						       _mm256_and_si256(third, four));
			}
			dots(v, 4, scale + 8 * n + 2 * i, true, x, 4 * n + i, cols, s);
		}
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			high[k] = _mm256_srli_epi16(high[k], 4);
	}
	for (int c = 0; c < cols; c++) {
		/* q - 4 */
		const __m256i m = _mm256_slli_epi32(minima(min, 8, x[c]->sum), 2);

		y[c] = add_scaled(y[c], d, x[c]->d, _mm256_cvtepi32_ps(_mm256_sub_epi32(s[c], m)));
	}
}

FEW(Q2_K, q2_k, THREE | FOUR)
FEW(Q3_K, q3_k, 0)
/* eight are too much for gcc, which then unrolls none of the loops */
FEW(Q4_K, q4_k, FOUR)
FEW(Q5_K, q5_k, FOUR | EIGHT)
