/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_iq_avx2.c: IQ1, IQ2 and IQ3 at the AVX2 level: their values (iq_avx.h) as
 * super-blocks. What is done with the result is in avx2_few.h and many_k_avx2.c; up to four columns are
 * by rows_iq_avx2.c, of IQ1 eight by rows_iq1_avx2.c. Called through the table of ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_iq.h"

/* up to @alone columns as rows_iq_avx2.c or rows_iq1_avx2.c has them */
#define OWN_FORMAT(T, t, form, streamed, alone)                                                    \
	IQ_UNPACK(T, t, form)                                                                      \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col,          \
			     int cols)                                                             \
	{                                                                                          \
		const struct super_kind k = { streamed, iq_factor(QUANT_##T), QUANT_##T##_BYTES }; \
                                                                                                   \
		if (cols <= alone)                                                                 \
			avx2_rows_##t(m, row, rows, col, cols);                                    \
		else if (cols <= 6)                                                                \
			few_super_rows(m, row, rows, col, cols, 6, unpack_##t, k);                 \
		else                                                                               \
			few_super_rows(m, row, rows, col, cols, 8, unpack_##t, k);                 \
	}                                                                                          \
	IQ_TABLE(T, t, form)

OWN_FORMAT(IQ2_XXS, iq2_xxs, IQ_SIGNS, SUPER_SIGNS, AVX2_ALONE)
OWN_FORMAT(IQ2_XS, iq2_xs, IQ_SIGNS, SUPER_SIGNS, AVX2_ALONE)
OWN_FORMAT(IQ2_S, iq2_s, IQ_SIGNS, SUPER_SIGNS, AVX2_ALONE)
OWN_FORMAT(IQ3_S, iq3_s, IQ_SIGNS, SUPER_SIGNS, AVX2_ALONE)
OWN_FORMAT(IQ3_XXS, iq3_xxs, IQ_SIGNS, SUPER_SIGNS, AVX2_ALONE)
OWN_FORMAT(IQ1_S, iq1_s, IQ_MOVED, SUPER_OFFSET, AVX2_FEW)
OWN_FORMAT(IQ1_M, iq1_m, IQ_MOVED, SUPER_OFFSET, AVX2_FEW)
