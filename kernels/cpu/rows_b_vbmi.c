/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_b_vbmi.c: one column and two of Q5_0, Q5_1, IQ4_NL and MXFP4 at the AVX-512 level where the CPU has
 * VBMI: blocks of 17 bytes are taken apart by byte, nibbles looked up with what stands above them, fifth bits put in
 * their places all at once. Called by ops_avx512.c, any thread. The form is drawn in rows_b_avx512.h.
 */
#include "kernels/cpu/rows_b_avx512.h"

ROW_B(q5_0, .form = FORM_FIVE, .bytes = QUANT_Q5_0_BYTES, .qs = 6, .qh = 2, .offset = 16)
ROW_B(q5_1, .form = FORM_FIVE, .bytes = QUANT_Q5_1_BYTES, .qs = 8, .qh = 4, .min = true,
      .offset = 1)
ROW_B(iq4_nl, .form = FORM_TABLE, .bytes = QUANT_IQ4_NL_BYTES, .qs = 2, .offset = 128,
      .values = avx512_iq4_values())
ROW_B(mxfp4, .form = FORM_TABLE, .bytes = QUANT_MXFP4_BYTES, .qs = 1, .offset = 128, .fp4 = true,
      .values = avx512_fp4_values())
ROW_B_COLS(q5_0, 2)
ROW_B_COLS(q5_1, 2)
ROW_B_COLS(iq4_nl, 2)
ROW_B_COLS(mxfp4, 2)

const product_fn vbmi_product_q5_0[ROW_COLS] = { q5_0_1, q5_0_2 };
const product_fn vbmi_product_q5_1[ROW_COLS] = { q5_1_1, q5_1_2 };
const product_fn vbmi_product_iq4_nl[ROW_COLS] = { iq4_nl_1, iq4_nl_2 };
const product_fn vbmi_product_mxfp4[ROW_COLS] = { mxfp4_1, mxfp4_2 };
