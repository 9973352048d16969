/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/kernels_b_avx512.c: one tile (32 rows, up to eight blocks of 32) times 1..8 columns,
 * for formats with a float scale per block of 32. Any thread.
 *
 * Signed formats are stored as q + 128 and their sums start from -128 * (activations): one kernel
 * serves Q8_0, Q4_0, Q5_0, IQ4_NL and MXFP4. Q4_1 and Q5_1 are unsigned and add min *
 * (activations). A block's sum is exact in 32 bits (at most 32 * 128 * 127) and in the float it
 * becomes.
 */
#include "kernels/cpu/avx512_tile.h"

/* exact integer sums of block @j */
static inline __attribute__((always_inline)) void sums(int cols, bool min, const struct tile *t,
						       const struct act_b *const *x, unsigned j,
						       __m512i dot[][2])
{
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		dot[c][0] = dot[c][1] = min ? _mm512_setzero_si512()
					    : _mm512_set1_epi32(x[c]->by32[j]);
	const unsigned at = ACT_B_WORD(j, 0);

#pragma GCC unroll 8
	for (unsigned k = 0; k < 8; k++) {
		const __m512i w0 = _mm512_load_si512(t->w[8 * j + k][0]);
		const __m512i w1 = _mm512_load_si512(t->w[8 * j + k][1]);

#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			int32_t four;

			memcpy(&four, x[c]->q + at + ACT_B_WORD(0, k), 4);
			__m512i a = _mm512_set1_epi32(four);

			dot[c][0] = _mm512_dpbusd_epi32(dot[c][0], w0, a);
			dot[c][1] = _mm512_dpbusd_epi32(dot[c][1], w1, a);
		}
	}
}

static inline __attribute__((always_inline)) void product(int cols, bool min,
							  const struct tile_product *p)
{
	const struct tile *t = p->tile;
	const struct act_b *x[TILE_COLS];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		x[c] = (const void *)((const char *)p->x[c] + p->offset);
#pragma GCC unroll 1
	for (unsigned j = 0; j < p->blocks; j++) {
		__m512i dot[TILE_COLS][2];

		prefetch_weights(p, j);
		prefetch_column(p, j, 6);
		sums(cols, min, t, x, j, dot);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const __m512 d = _mm512_set1_ps(x[c]->d[j]);
			const __m512 s = _mm512_set1_ps(x[c]->sum[j]);

#pragma GCC unroll 2
			for (int h = 0; h < 2; h++) {
				__m512 y = _mm512_load_ps(p->acc[c] + 16 * h);

				y = add_scaled(y, _mm512_load_ps(t->d[j][h]), d, dot[c][h]);
				if (min)
					y = _mm512_fmadd_ps(
						_mm512_mul_ps(_mm512_load_ps(t->shift[j][h]), d), s,
						y);
				_mm512_store_ps(p->acc[c] + 16 * h, y);
			}
		}
	}
}

#define KERNEL(name, min, cols)                                 \
	static void name##_##cols(const struct tile_product *p) \
	{                                                       \
		product(cols, min, p);                          \
	}
#define KERNELS(name, min)                                                                     \
	KERNEL(name, min, 1)                                                                   \
	KERNEL(name, min, 2)                                                                   \
	KERNEL(name, min, 3)                                                                   \
	KERNEL(name, min, 4)                                                                   \
	KERNEL(name, min, 5)                                                                   \
	KERNEL(name, min, 6)                                                                   \
	KERNEL(name, min, 7)                                                                   \
	KERNEL(name, min, 8)                                                                   \
	const kernel_fn avx512_kernel_##name[TILE_COLS] = {                                    \
		name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8 \
	};

KERNELS(block, false)
KERNELS(block_min, true)
