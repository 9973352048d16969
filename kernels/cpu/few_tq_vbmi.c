/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_tq_vbmi.c: one to four columns of TQ1_0 at the AVX-512 level where the CPU has VBMI (few_tq_vbmi.h),
 * and the table of all. Any thread. Scheduled before registers are given out (Makefile).
 */
#include "kernels/cpu/few_tq_vbmi.h"

FEW_K_COLS(tq1_0, 1)
FEW_K_COLS(tq1_0, 2)
FEW_K_COLS(tq1_0, 3)
FEW_K_COLS(tq1_0, 4)

/* five and seven columns are multiplied as six and eight */
const few_k_fn avx512_few_tq1_0[ROW_COLS] = {
	tq1_0_1,
	tq1_0_2,
	tq1_0_3,
	tq1_0_4,
	avx512_six_tq1_0,
	avx512_six_tq1_0,
	avx512_eight_tq1_0,
	avx512_eight_tq1_0,
};
