/* SPDX-License-Identifier: MIT */
/*
 * kernels/quant.h: the block formats of GGUF weights, one table row per ggml type.
 *
 * Owns names, sizes and the activation form that each weight format is multiplied with. Knows
 * nothing of files or CPUs; the arithmetic is in kernels/cpu/. Constant data, any thread.
 * Layouts: GGUF specification and ggml-common.h (facts only), written out in docs/models.md 1.4.
 */
#ifndef SLUICE_KERNELS_QUANT_H
#define SLUICE_KERNELS_QUANT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ggml type ids, as stored in files. Only types with a name in quant.c are known. */
enum quant_id {
	QUANT_F32 = 0,
	QUANT_F16 = 1,
	QUANT_Q4_0 = 2,
	QUANT_Q4_1 = 3,
	QUANT_Q5_0 = 6,
	QUANT_Q5_1 = 7,
	QUANT_Q8_0 = 8,
	QUANT_Q2_K = 10,
	QUANT_Q3_K = 11,
	QUANT_Q4_K = 12,
	QUANT_Q5_K = 13,
	QUANT_Q6_K = 14,
	QUANT_IQ4_NL = 20,
	QUANT_IQ4_XS = 23,
	QUANT_BF16 = 30,
	QUANT_MXFP4 = 39,
};

/* The form an activation vector takes before it is multiplied with weights of a format. */
enum act_kind {
	ACT_NONE, /* no product: the format is known by name and refused */
	ACT_F32,  /* float weights: the f32 vector as it is */
	ACT_Q8_0, /* 32-blocks: int8 with one scale per 32 */
	ACT_Q8_K, /* 256-blocks: int8 with one scale per 256 and sums per 16 or 32 */
	ACT_NR,
};

struct quant_format {
	uint32_t id;	   /* enum quant_id, or another ggml type id */
	const char *name;  /* "Q4_K" */
	uint32_t block;	   /* weights per block */
	uint32_t bytes;	   /* bytes per block */
	enum act_kind act; /* ACT_NONE: known, not computed with */
};

/* The row of the table, or NULL where the id is unknown. */
const struct quant_format *quant_format(uint32_t id);

/* "Q4_K", or "type 99" style text for ids without a name (static storage: "unknown"). */
const char *quant_name(uint32_t id);

/*
 * Bytes of a row of @n weights; 0 where the type is unknown or @n is not a multiple of its block.
 * Does not overflow for n < 2^56.
 */
uint64_t quant_row_bytes(uint32_t id, uint64_t n);

#ifdef __cplusplus
}
#endif

#endif
