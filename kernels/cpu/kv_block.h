/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/kv_block.h: how the keys and values of KV_BLOCK positions of one KV head lie in memory.
 *
 * The layouts follow the loops over them: scores have positions in vector lanes (16 positions of
 * one dimension are neighbours), the sum of values has dimensions in lanes. Neither needs a
 * horizontal sum, and both walk memory in one direction.
 *
 *   f16   K: [4 tiles of 16 positions][head_dim][16] halves
 *         V: [head_dim / 16][KV_BLOCK][16] halves
 *   q8_0  K: [4 tiles of 16 positions][head_dim / 32]{ half scale[16]; int8 q[32][16] }
 *         V: [head_dim / 32]{ half scale[KV_BLOCK]; int8 q[KV_BLOCK][32] }
 *
 * Values per position are those of ggml's f16 and q8_0 rows (one scale per 32 dimensions); halves
 * saturate at 65504 instead of becoming infinite; a value that is infinite or no number is stored as
 * NaN (q8_0: as the scale of its 32), so that whoever attends to it gets NaN. All levels write and
 * read the same bytes.
 * head_dim is a multiple of 16 (f16) or 32 (q8_0). Constants and inline functions only.
 */
#ifndef SLUICE_KERNELS_CPU_KV_BLOCK_H
#define SLUICE_KERNELS_CPU_KV_BLOCK_H

#include <stddef.h>

enum kv_type { KV_F16, KV_Q8_0 };

#define KV_BLOCK	64 /* positions */
#define KV_TILE		16 /* lanes that lie together */
#define KV_TILES	(KV_BLOCK / KV_TILE)
#define KV_Q8		32				  /* dimensions that share a scale */
#define KV_Q8_K_BYTES	(2 * KV_TILE + KV_Q8 * KV_TILE)	  /* one group of a K tile */
#define KV_Q8_V_BYTES	(2 * KV_BLOCK + KV_Q8 * KV_BLOCK) /* one group of V */
#define KV_MAX_HEAD_DIM 1024

/* Bytes of K, and of V, of one block. */
static inline size_t kv_block_bytes(enum kv_type type, size_t head_dim)
{
	if (type == KV_F16)
		return KV_BLOCK * head_dim * 2;
	return head_dim / KV_Q8 * KV_Q8_V_BYTES;
}

/* The dimensions that head_dim must be a multiple of. */
static inline size_t kv_granule(enum kv_type type)
{
	return type == KV_F16 ? KV_TILE : KV_Q8;
}

#endif
