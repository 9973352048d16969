/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_tq_more_vbmi.c: six and eight columns of TQ1_0 at the AVX-512 level where the CPU has VBMI
 * (few_tq_vbmi.h). Any thread. Not scheduled before registers are given out, by which they would take 2 % longer.
 */
#include "kernels/cpu/few_tq_vbmi.h"

void avx512_six_tq1_0(const uint8_t *w, size_t stride, const struct act_k *const *x, __m512 *y,
		      const char *ahead)
{
	tq1_0(6, w, stride, x, y, ahead);
}

void avx512_eight_tq1_0(const uint8_t *w, size_t stride, const struct act_k *const *x, __m512 *y,
			const char *ahead)
{
	tq1_0(8, w, stride, x, y, ahead);
}
