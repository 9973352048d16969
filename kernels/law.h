/* SPDX-License-Identifier: MIT */
/*
 * kernels/law.h: the numbers of the law of activations (quant.h), for every CPU level and CUDA.
 *
 * Each level writes the operations in its own vectors; a number that differed in one of them would
 * part the bits. exp(x): x is held between LAW_EXP_LOW, below which the result is 0, and LAW_EXP_HIGH;
 * n = rint(x LAW_EXP_LOG2E); r = x - n ln 2, ln 2 in two parts, the first of which is exact times n;
 * the polynomial in r from C6 down to 1, 1 (Horner), times 2^n. Constants only.
 */
#ifndef SLUICE_KERNELS_LAW_H
#define SLUICE_KERNELS_LAW_H

#define LAW_EXP_LOW	-87.0f
#define LAW_EXP_HIGH	90.0f
#define LAW_EXP_LOG2E	0x1.715476p+0f
#define LAW_EXP_LN2_TOP 0x1.62e4p-1f
#define LAW_EXP_LN2_LOW 0x1.7f7d1cp-20f
#define LAW_EXP_C6	0x1.6a1a54p-10f
#define LAW_EXP_C5	0x1.123fcap-7f
#define LAW_EXP_C4	0x1.555916p-5f
#define LAW_EXP_C3	0x1.55548ap-3f
#define LAW_EXP_C2	0x1.fffffcp-2f

#define LAW_GLU_LIMIT	7.0f /* the clamped form's */
#define LAW_GLU_ALPHA	1.702f
#define LAW_GELU_FACTOR 1.5957691216f /* 2 sqrt(2 / pi): (1 + tanh(y)) / 2 = sigmoid(2 y) */
#define LAW_GELU_CUBE	0.044715f

#endif
