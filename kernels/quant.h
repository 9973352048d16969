/* SPDX-License-Identifier: MIT */
/*
 * kernels/quant.h: the block formats of GGUF weights, one table row per ggml type.
 *
 * Owns names, sizes and the activation form that each weight format is multiplied with. Knows
 * nothing of files or CPUs; the arithmetic is in kernels/cpu/. Constant data, any thread.
 *
 * The law of products, which every CPU level and kernels/cuda follow bit for bit, so that it does not
 * matter where a row is multiplied. The reference is written in kernels/cpu/ops_scalar.c.
 *   256-blocks: activations int8 with one scale dx per 256 (ACT_Q8_K, kernels/cpu/scalar.h); of each
 *     super-block one whole sum S of scale * q * a, and one M of min * a. From y = 0, in the order of
 *     the row: y = fma(d dx, S, y); y = fma(-(dmin dx), M, y).
 *   32-blocks: activations int8 with one scale dx per 32 (ACT_Q8_0); of each block one whole sum S of
 *     q * a, and one A of a: y = fma(d dx, S, y); with a minimum y = fma(min dx, A, y).
 *   floats: sixteen sums from 0, that of i mod 16 takes fma(w[i], x[i], sum) in ascending i; then
 *     halves are added: 8 onto 8, 4 onto 4, 2 onto 2, 1 onto 1.
 * S, M and A are exact and become floats by one rounding; products of scales are rounded once; no
 * other operation is fused, and subnormal numbers are kept.
 * The law of activations (SiLU, the clamped form, GELU; enum glu in kernels/cpu/fops.h): exp is
 * law_exp() of kernels/cpu/float_impl.h with the numbers of kernels/law.h, the sigmoid's quotient is
 * the rounded one.
 * Layouts: GGUF specification and ggml-common.h (facts only), written out in docs/models.md 1.4.
 */
#ifndef SLUICE_KERNELS_QUANT_H
#define SLUICE_KERNELS_QUANT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Every format, written once: X(name, ggml type id as stored in files, weights per block, bytes per
 * block, activation form). From it come the ids (QUANT_Q4_K), the sizes where a compiler needs them
 * (QUANT_Q4_K_BYTES, quant_block_bytes()), and the table behind quant_format(). ACT_NONE: known, so
 * that a file that holds it is measured and refused by name; nothing computes with it. An id that
 * is missing has been withdrawn from ggml or is not known to us.
 */
/* clang-format off */
#define QUANT_FORMATS(X)             \
	X(F32, 0, 1, 4, ACT_F32)         \
	X(F16, 1, 1, 2, ACT_F32)         \
	X(Q4_0, 2, 32, 18, ACT_Q8_0)     \
	X(Q4_1, 3, 32, 20, ACT_Q8_0)     \
	X(Q5_0, 6, 32, 22, ACT_Q8_0)     \
	X(Q5_1, 7, 32, 24, ACT_Q8_0)     \
	X(Q8_0, 8, 32, 34, ACT_Q8_0)     \
	X(Q8_1, 9, 32, 36, ACT_NONE)     \
	X(Q2_K, 10, 256, 84, ACT_Q8_K)   \
	X(Q3_K, 11, 256, 110, ACT_Q8_K)  \
	X(Q4_K, 12, 256, 144, ACT_Q8_K)  \
	X(Q5_K, 13, 256, 176, ACT_Q8_K)  \
	X(Q6_K, 14, 256, 210, ACT_Q8_K)  \
	X(Q8_K, 15, 256, 292, ACT_NONE)  \
	X(IQ2_XXS, 16, 256, 66, ACT_Q8_K) \
	X(IQ2_XS, 17, 256, 74, ACT_Q8_K) \
	X(IQ3_XXS, 18, 256, 98, ACT_Q8_K) \
	X(IQ1_S, 19, 256, 50, ACT_Q8_K) \
	X(IQ4_NL, 20, 32, 18, ACT_Q8_0)  \
	X(IQ3_S, 21, 256, 110, ACT_Q8_K) \
	X(IQ2_S, 22, 256, 82, ACT_Q8_K) \
	X(IQ4_XS, 23, 256, 136, ACT_Q8_K) \
	X(I8, 24, 1, 1, ACT_NONE)        \
	X(I16, 25, 1, 2, ACT_NONE)       \
	X(I32, 26, 1, 4, ACT_NONE)       \
	X(I64, 27, 1, 8, ACT_NONE)       \
	X(F64, 28, 1, 8, ACT_NONE)       \
	X(IQ1_M, 29, 256, 56, ACT_Q8_K) \
	X(BF16, 30, 1, 2, ACT_F32)       \
	X(TQ1_0, 34, 256, 54, ACT_Q8_K) \
	X(TQ2_0, 35, 256, 66, ACT_Q8_K) \
	X(MXFP4, 39, 32, 17, ACT_Q8_0)   \
	X(NVFP4, 40, 64, 36, ACT_NONE)   \
	X(Q1_0, 41, 128, 18, ACT_NONE)   \
	X(Q2_0, 42, 64, 18, ACT_NONE)
/* clang-format on */

#define QUANT_ID_(name, id, block, bytes, act) QUANT_##name = id,
#define QUANT_SIZES_(name, id, block, bytes, act) \
	QUANT_##name##_BLOCK = block, QUANT_##name##_BYTES = bytes,

enum quant_id { QUANT_FORMATS(QUANT_ID_) };
enum quant_size { QUANT_FORMATS(QUANT_SIZES_) };

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
