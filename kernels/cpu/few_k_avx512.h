/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_k_avx512.h: what the products of two to eight columns of super-blocks (of Q2_K, Q3_K, TQ
 * and short rows, one too) share at the AVX-512 level (few_k_avx512.c, few_k2_avx512.c, few_k6_avx512.c; with VBMI
 * few_tq_vbmi.h, few_iq1_vbmi.c, few_iq_vbmi.c). Any thread.
 *
 * As in few_b_avx512.c sixteen rows are read side by side and a register holds four weights of each,
 * so that a column costs one vpdpbusd for four weights of sixteen rows, its activations broadcast by
 * that instruction's load, and one operation for each sub-block's scale; nothing is added across
 * lanes and the floats of a super-block are three operations, five with minima, for all rows.
 * rows_avx512.c finishes its runs of Q4_K and Q5_K so, too.
 */
#ifndef SLUICE_KERNELS_CPU_FEW_K_AVX512_H
#define SLUICE_KERNELS_CPU_FEW_K_AVX512_H

#include "kernels/cpu/avx512_row.h"

#define FEW_ROWS 16

/*
 * @s and the products of four weights of every row with the four activations at @x. The instruction spreads
 * them itself; the compiler (gcc 12) would load them to a register first, twice as many instructions, and keep
 * sums on the stack for want of one.
 */
FORCE_INLINE __m512i few_add_at(__m512i s, __m512i q, const int8_t *x)
{
	const int8_t(*four)[4] = (const void *)x;

	__asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(q), "m"(*four));
	return s;
}

/* the same with word @word of a column's sub-block @j */
FORCE_INLINE __m512i few_add(__m512i s, __m512i q, const struct act_k *x, int j, int word)
{
	return few_add_at(s, q, x->q + ACT_K_WORD(j, word));
}

/* @s and the products of pairs of every row with two int16 sums of neighbouring sub-blocks */
FORCE_INLINE __m512i few_add_pair(__m512i s, __m512i pair, const int16_t *sums, int i)
{
	const int16_t(*two)[2] = (const void *)(sums + 2 * i);

	__asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(pair), "m"(*two));
	return s;
}

/* @s is computed here: gcc 12 would store sums of many columns and scale two sub-blocks' together */
FORCE_INLINE void few_now(__m512i *s)
{
	__asm__ volatile("" : "+v"(*s));
}

/* sub-block @j times that of every column, added to @s */
FORCE_INLINE void few_dots(int cols, const __m512i q[8], const struct act_k *const *x, int j,
			   __m512i *s)
{
	/* the second half of few columns in sums of their own: no sum waits for the one before */
	__m512i more[ROW_COLS];
	const int single = cols > 3 ? 8 : 4;

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		more[c] = _mm512_setzero_si512();
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			if (k < single)
				s[c] = few_add(s[c], q[k], x[c], j, k);
			else
				more[c] = few_add(more[c], q[k], x[c], j, k);
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols && single < 8; c++)
		s[c] = _mm512_add_epi32(s[c], more[c]);
}

/* byte @j of every word as (int16, 0) */
FORCE_INLINE __m512i few_byte(__m512i bytes, int j)
{
	const __m128i first =
		_mm_setr_epi8(0, -1, -1, -1, 4, -1, -1, -1, 8, -1, -1, -1, 12, -1, -1, -1);
	const __m128i add = _mm_set1_epi32(j); /* low bytes alone */

	return _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(_mm_add_epi8(first, add)));
}

/* bytes 2i and 2i + 1 of every word as a pair of int16; @i: 0 or 1 */
FORCE_INLINE __m512i few_two_bytes(__m512i bytes, int i)
{
	const __m128i first =
		_mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1);
	const __m128i add = _mm_set1_epi32(i ? 0x00020002 : 0);

	return _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(_mm_add_epi8(first, add)));
}

/* What Q4_K and Q5_K have in front: scales, and minima of sub-blocks 2i, 2i + 1 as int16. */
struct head45 {
	__m512 d, dmin;
	__m512i scale[8], min[4];
};

FORCE_INLINE void head45(const uint8_t *w, size_t stride, struct head45 *t)
{
	const __m512i low6 = _mm512_set1_epi32(0x3f3f3f3f), low4 = _mm512_set1_epi32(0x0f0f0f0f);
	__m512i h[4], sc[2], m[2];

	transpose16(w, stride, h);
	t->d = half_low(h[0]);
	t->dmin = half_high(h[0]);
	sc[0] = _mm512_and_si512(h[1], low6);
	sc[1] = select_bits(low4, h[3], _mm512_srli_epi32(h[1], 2));
	sc[1] = _mm512_and_si512(sc[1], low6);
	m[0] = _mm512_and_si512(h[2], low6);
	m[1] = select_bits(low4, _mm512_srli_epi32(h[3], 4), _mm512_srli_epi32(h[2], 2));
	m[1] = _mm512_and_si512(m[1], low6);
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			t->scale[4 * i + j] = few_byte(sc[i], j);
		t->min[2 * i] = few_two_bytes(m[i], 0);
		t->min[2 * i + 1] = few_two_bytes(m[i], 1);
	}
}

/* @y and a super-block whose sums are @s; of its minima, as many pairs of sub-blocks, sums are multiplied here */
FORCE_INLINE __m512 few_finish(__m512 y, __m512 d, __m512 dmin, const __m512i *min, int pairs,
			       const struct act_k *x, __m512i s)
{
	const __m512 dx = _mm512_set1_ps(x->d);
	__m512i m = _mm512_setzero_si512();

#pragma GCC unroll 8
	for (int i = 0; i < pairs; i++)
		m = few_add_pair(m, min[i], pairs == 4 ? x->sum32 : x->sum16, i);
	return take_minima(add_scaled(y, d, dx, s), dmin, dx, m,
			   pairs == 4 ? AVX512_MIN_8 : AVX512_MIN_16);
}

FORCE_INLINE void finish45(int cols, const struct head45 *t, const struct act_k *const *x,
			   const __m512i *s, __m512 *y)
{
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = few_finish(y[c], t->d, t->dmin, t->min, 4, x[c], s[c]);
}

/*
 * Part @i of @n of what is asked for at @ahead while a super-block of all rows is multiplied, @bytes of each:
 * asked for at once, it would fill what a core has for misses, and the loads of this super-block would wait.
 */
FORCE_INLINE void few_ask(const char *ahead, size_t bytes, size_t i, size_t n)
{
	const size_t lines = (FEW_ROWS * bytes + 64 * n - 1) / (64 * n);

#pragma GCC unroll 16
	for (size_t k = 0; k < lines; k++)
		_mm_prefetch(ahead + 64 * (i * lines + k), _MM_HINT_T1);
}

/*
 * The same twice. Zen 4 drops a few of the requests that Q2_K, Q3_K and TQ make in a hundred, more of them with
 * more columns, and each costs all rows the way to memory; a second one right behind it brings the line.
 */
FORCE_INLINE void few_ask_twice(const char *ahead, size_t bytes, size_t i, size_t n)
{
	few_ask(ahead, bytes, i, n);
	few_ask(ahead, bytes, i, n);
}

/* The same, for Q4_K, Q5_K, Q6_K and IQ4_XS, for which the second request helps a little nearer, not at once. */
FORCE_INLINE void few_ask_nearer(const char *ahead, size_t bytes, size_t i, size_t n)
{
	few_ask(ahead, bytes, i, n);
	few_ask(ahead - ASK_NEARER, bytes, i, n);
}

#define FEW_K_COLS(name, cols)                                                                   \
	static void name##_##cols(const uint8_t *w, size_t stride, const struct act_k *const *x, \
				  __m512 *y, const char *ahead)                                  \
	{                                                                                        \
		name(cols, w, stride, x, y, ahead);                                              \
	}
/* five and seven columns are multiplied as six and eight; @one: what one takes of short rows, or NULL */
#define FEW_K(name, one)                                                                       \
	FEW_K_COLS(name, 2)                                                                    \
	FEW_K_COLS(name, 3)                                                                    \
	FEW_K_COLS(name, 4)                                                                    \
	FEW_K_COLS(name, 6)                                                                    \
	FEW_K_COLS(name, 8)                                                                    \
	const few_k_fn avx512_few_##name[ROW_COLS] = { one,	 name##_2, name##_3, name##_4, \
						       name##_6, name##_6, name##_8, name##_8 };
#define FEW_K_ONE(name)     \
	FEW_K_COLS(name, 1) \
	FEW_K(name, name##_1)

#endif
