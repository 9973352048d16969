/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_b_avx512.c: one column of formats with blocks of 32, of all but MXFP4 two, at the AVX-512 level; more
 * are multiplied by few_b_avx512.c. Called by ops_avx512.c, any thread. The form is drawn in rows_b_avx512.h.
 */
#include "kernels/cpu/rows_b_avx512.h"

ROW_B(q8_0, .form = FORM_EIGHT, .bytes = QUANT_Q8_0_BYTES, .qs = 2, .offset = 128)
ROW_B(q4_0, .form = FORM_NIBBLE, .bytes = QUANT_Q4_0_BYTES, .qs = 2, .offset = 8)
ROW_B(q4_1, .form = FORM_NIBBLE, .bytes = QUANT_Q4_1_BYTES, .qs = 4, .min = true, .offset = 1)

#define TWO(name)           \
	ROW_B_COLS(name, 2) \
	const product_fn avx512_product_##name[ROW_COLS] = { name##_1, name##_2 };

TWO(q8_0)
TWO(q4_0)
TWO(q4_1)
TWO(q5_0)
TWO(q5_1)
TWO(iq4_nl)
/* two columns are faster with sixteen rows side by side */
const product_fn avx512_product_mxfp4[ROW_COLS] = { mxfp4_1 };
