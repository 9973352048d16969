/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/kernels_k_avx512.c: one tile (32 rows, one super-block of 256) times 1..8 columns,
 * for formats with integer scales inside a super-block. Refuses nothing: the caller has unpacked.
 * Any thread.
 *
 * Byte products of a group of weights are summed exactly in 32 bits; groups are chosen so that the
 * sum, less the offset, fits 16 bits, for then one vpdpwssd multiplies it with its 6- or 8-bit
 * scale and adds it to the row's sum:
 *
 *	Q4_K  q - 8  in [-8, 7],   32 weights: 32 * 8 * 127 = 32512
 *	Q5_K  q - 16 in [-16, 15], 16 weights: 32512
 *	Q6_K  q - 32 in [-32, 31],  8 weights: 32512
 *	Q3_K  q - 4  in [-4, 3], stored as q + 12, 16 weights: 8128
 *	Q2_K  q      in [0, 3], 16 weights: 6096
 *
 * IQ4_XS has values to 127; its sums of 32 need a whole 32-bit multiplication, and so do sums of 16 of
 * IQ1, IQ2, IQ3 and the ternary formats, with values to 62, stored as q + 64. Q4_K and Q5_K add
 * scale * offset * (sums) again, for the row form sums q itself. The row's sums become floats once
 * per super-block.
 */
#include "kernels/cpu/avx512_tile.h"

enum k_form { FORM_Q2, FORM_Q3, FORM_Q4, FORM_Q5, FORM_Q6, FORM_IQ4, FORM_IQ };

/* words (of four weights) per group, and groups per scale, as powers of two */
#define GROUP_SHIFT(form) ((form) == FORM_Q4 || (form) == FORM_IQ4 ? 3 : (form) == FORM_Q6 ? 1 : 2)
#define SCALE_SHIFT(form) ((form) == FORM_Q5 || (form) == FORM_Q6 ? 1 : 0)

static inline __attribute__((always_inline)) __m512i group_start(enum k_form form,
								 const struct act_k *x, int group)
{
	switch (form) {
	case FORM_Q4:
		return _mm512_set1_epi32(x->by32[group]);
	case FORM_IQ4:
		return _mm512_slli_epi32(_mm512_set1_epi32(x->by32[group]), 4);
	case FORM_IQ:
		return _mm512_slli_epi32(_mm512_set1_epi32(x->by16[group]), 2);
	case FORM_Q3:
	case FORM_Q5:
		return _mm512_set1_epi32(x->by16[group]);
	case FORM_Q6:
		return _mm512_set1_epi32(x->by8[group]);
	default:
		return _mm512_setzero_si512();
	}
}

/* exact integer sums of 32 rows and @cols columns */
static inline __attribute__((always_inline)) void sums(enum k_form form, int cols,
						       const struct tile_product *p,
						       const struct act_k *const *x, __m512i s[][2])
{
	const int words = 1 << GROUP_SHIFT(form), per_step = 8 / words;
	const unsigned lines = form == FORM_Q6 ? 9 : form == FORM_Q4 ? 5 : 6;
	const struct tile *t = p->tile;

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][0] = s[c][1] = _mm512_setzero_si512();
#pragma GCC unroll 1
	for (int step = 0; step < 8; step++) {
		const int at = ACT_K_WORD(step, 0);

		prefetch_weights(p, (unsigned)step);
		prefetch_column(p, (unsigned)step, lines);
#pragma GCC unroll 4
		for (int g = 0; g < per_step; g++) {
			const int group = step * per_step + g;
			__m512i dot[TILE_COLS][2];

#pragma GCC unroll 8
			for (int c = 0; c < cols; c++)
				dot[c][0] = dot[c][1] = group_start(form, x[c], group);
#pragma GCC unroll 8
			for (int k = 0; k < words; k++) {
				const int word = g * words + k;
				const __m512i w0 = _mm512_load_si512(t->w[8 * step + word][0]);
				const __m512i w1 = _mm512_load_si512(t->w[8 * step + word][1]);

#pragma GCC unroll 8
				for (int c = 0; c < cols; c++) {
					int32_t four;

					memcpy(&four, x[c]->q + at + ACT_K_WORD(0, word), 4);
					__m512i a = _mm512_set1_epi32(four);

					dot[c][0] = _mm512_dpbusd_epi32(dot[c][0], w0, a);
					dot[c][1] = _mm512_dpbusd_epi32(dot[c][1], w1, a);
				}
			}
			const int sc = group >> SCALE_SHIFT(form);
			const __m512i sc0 = _mm512_load_si512(t->scale[sc][0]);
			const __m512i sc1 = _mm512_load_si512(t->scale[sc][1]);

#pragma GCC unroll 8
			for (int c = 0; c < cols; c++) {
				if (form == FORM_IQ4 || form == FORM_IQ) {
					s[c][0] = _mm512_add_epi32(
						s[c][0], _mm512_mullo_epi32(dot[c][0], sc0));
					s[c][1] = _mm512_add_epi32(
						s[c][1], _mm512_mullo_epi32(dot[c][1], sc1));
				} else {
					s[c][0] = _mm512_dpwssd_epi32(s[c][0], dot[c][0], sc0);
					s[c][1] = _mm512_dpwssd_epi32(s[c][1], dot[c][1], sc1);
				}
			}
		}
	}
}

/* two int16 sums of neighbouring sub-blocks, for every row */
static inline __m512i sum_pair(const int16_t *sums, int i)
{
	int32_t two;

	memcpy(&two, sums + 2 * i, 4);
	return _mm512_set1_epi32(two);
}

/* Sixteen rows of the tile: what the activation sums add to @s, and the floats. */
static inline __attribute__((always_inline)) void finish(enum k_form form, int cols, int half,
							 const struct tile *t,
							 const struct act_k *const *x,
							 __m512i s[][2], float (*acc)[TILE_ROWS])
{
	const int pairs = form == FORM_Q2 ? 8 : form == FORM_Q4 || form == FORM_Q5 ? 4 : 0;
	const __m512 d = _mm512_load_ps(t->d[0][half]);
	__m512i m[TILE_COLS];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		m[c] = _mm512_setzero_si512();
#pragma GCC unroll 4
	for (int i = 0; i < pairs; i++) {
		const __m512i min = _mm512_load_si512(t->min[i][half]);

#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const __m512i a = sum_pair(form == FORM_Q2 ? x[c]->sum16 : x[c]->sum32, i);

			m[c] = _mm512_dpwssd_epi32(m[c], min, a);
			if (form != FORM_Q2)
				s[c][half] = _mm512_dpwssd_epi32(
					s[c][half], _mm512_load_si512(t->pair[i & 3][half]), a);
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		const __m512 dx = _mm512_set1_ps(x[c]->d);
		__m512 y = _mm512_load_ps(acc[c] + 16 * half);

		y = add_scaled(y, d, dx, s[c][half]);
		if (pairs)
			y = take_minima(y, _mm512_load_ps(t->shift[0][half]), dx, m[c],
					form == FORM_Q2 ? AVX512_MIN_16 : AVX512_MIN_8);
		_mm512_store_ps(acc[c] + 16 * half, y);
	}
}

static inline __attribute__((always_inline)) void product(enum k_form form, int cols,
							  const struct tile_product *p)
{
	const struct act_k *x[TILE_COLS];
	__m512i s[TILE_COLS][2];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		x[c] = (const void *)((const char *)p->x[c] + p->offset);
	sums(form, cols, p, x, s);
	finish(form, cols, 0, p->tile, x, s, p->acc);
	finish(form, cols, 1, p->tile, x, s, p->acc);
}

#define KERNEL(name, form, cols)                                \
	static void name##_##cols(const struct tile_product *p) \
	{                                                       \
		product(form, cols, p);                         \
	}
#define KERNELS(name, form)                                                                    \
	KERNEL(name, form, 1)                                                                  \
	KERNEL(name, form, 2)                                                                  \
	KERNEL(name, form, 3)                                                                  \
	KERNEL(name, form, 4)                                                                  \
	KERNEL(name, form, 5)                                                                  \
	KERNEL(name, form, 6)                                                                  \
	KERNEL(name, form, 7)                                                                  \
	KERNEL(name, form, 8)                                                                  \
	const kernel_fn avx512_kernel_##name[TILE_COLS] = {                                    \
		name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8 \
	};

KERNELS(q2_k, FORM_Q2)
KERNELS(q3_k, FORM_Q3)
KERNELS(q4_k, FORM_Q4)
KERNELS(q5_k, FORM_Q5)
KERNELS(q6_k, FORM_Q6)
KERNELS(iq4_xs, FORM_IQ4)
KERNELS(iq, FORM_IQ)
