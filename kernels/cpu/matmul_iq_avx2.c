/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_iq_avx2.c: IQ1, IQ2 and IQ3 at the AVX2 level: their values (iq_avx.h) as
 * super-blocks. What is done with the result is in many_k_avx2.c; up to eight columns are by
 * rows_iq_avx2.c and rows_iq1_avx2.c. Called through the table of ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_iq.h"

#define OWN_FORMAT(T, t, form)                                                            \
	IQ_UNPACK(T, t, form)                                                             \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		avx2_rows_##t(m, row, rows, col, cols);                                   \
	}                                                                                 \
	IQ_TABLE(T, t, form)

OWN_FORMAT(IQ2_XXS, iq2_xxs, IQ_SIGNS)
OWN_FORMAT(IQ2_XS, iq2_xs, IQ_SIGNS)
OWN_FORMAT(IQ2_S, iq2_s, IQ_SIGNS)
OWN_FORMAT(IQ3_S, iq3_s, IQ_SIGNS)
OWN_FORMAT(IQ3_XXS, iq3_xxs, IQ_SIGNS)
OWN_FORMAT(IQ1_S, iq1_s, IQ_MOVED)
OWN_FORMAT(IQ1_M, iq1_m, IQ_MOVED)
