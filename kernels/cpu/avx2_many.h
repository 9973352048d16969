/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_many.h: many columns at the AVX2 level with rows in the lanes (many_k_avx2.c), for the
 * formats' tables and ops_avx2.c.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_MANY_H
#define SLUICE_KERNELS_CPU_AVX2_MANY_H

#include "kernels/cpu/avx2_level.h"

/* A super-block of eight rows, a row in each lane. */
struct lanes {
	__m256i q[64];	   /* [k]: weights 4k to 4k + 3, unsigned */
	__m256i scale[16]; /* of sixteen weights, two int16 alike */
	__m256i min[8];	   /* two int16 each: minima of sixteen weights, or in four of 32 */
	__m256 d, dmin;
};

/* @rows: AVX2_ROWS unpacked super-blocks; @each: weights that have a minimum, 16 or 32 */
void avx2_many_turn(const struct super *rows, int each, struct lanes *to);

/*
 * acc[c] += super-block @b of MANY_VECTORS times AVX2_ROWS rows times that of columns c < @cols <= AVX2_COLS;
 * rows in the lanes. By form and greatest weight; minima of 32 weights in min15 and min31, of 16 in the others.
 */
void avx2_many_min3(const struct lanes *t, const struct act_super *const *x, int cols, size_t b,
		    __m256 (*acc)[MANY_VECTORS]);
void avx2_many_min15(const struct lanes *t, const struct act_super *const *x, int cols, size_t b,
		     __m256 (*acc)[MANY_VECTORS]);
void avx2_many_min31(const struct lanes *t, const struct act_super *const *x, int cols, size_t b,
		     __m256 (*acc)[MANY_VECTORS]);
void avx2_many_offset31(const struct lanes *t, const struct act_super *const *x, int cols, size_t b,
			__m256 (*acc)[MANY_VECTORS]);
void avx2_many_offset127(const struct lanes *t, const struct act_super *const *x, int cols,
			 size_t b, __m256 (*acc)[MANY_VECTORS]);
void avx2_many_offset63(const struct lanes *t, const struct act_super *const *x, int cols, size_t b,
			__m256 (*acc)[MANY_VECTORS]);

#endif
