/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_b_vbmi.c: one column and two of Q5_0, Q5_1, IQ4_NL and MXFP4 at the AVX-512 level where the CPU has
 * VBMI: blocks of 17 bytes are taken apart by byte, nibbles looked up with what stands above them, fifth bits put in
 * their places all at once. Called by ops_avx512.c, any thread. The form is drawn in rows_b_avx512.h.
 */
#include "kernels/cpu/rows_b_avx512.h"

ROW_B_COLS(q5_0, 2)
ROW_B_COLS(q5_1, 2)
ROW_B_COLS(iq4_nl, 2)
ROW_B_COLS(mxfp4, 2)

const product_fn vbmi_product_q5_0[ROW_COLS] = { q5_0_1, q5_0_2 };
const product_fn vbmi_product_q5_1[ROW_COLS] = { q5_1_1, q5_1_2 };
const product_fn vbmi_product_iq4_nl[ROW_COLS] = { iq4_nl_1, iq4_nl_2 };
const product_fn vbmi_product_mxfp4[ROW_COLS] = { mxfp4_1, mxfp4_2 };
