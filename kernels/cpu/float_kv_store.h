/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_kv_store.h: putting one position into a block of the KV cache, see kv_block.h.
 *
 * The same for every level: the bytes of the cache must not depend on the level.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_KV_STORE_H
#define SLUICE_KERNELS_CPU_FLOAT_KV_STORE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/kv_block.h"

#define KV_HALF_MAX 65504.0f
#define KV_HALF_NAN 0x7e00

static inline void kv_store_k_halves(size_t head_dim, unsigned slot, const uint16_t *halves,
				     void *k_block)
{
	uint16_t *at = (uint16_t *)k_block + slot / KV_TILE * head_dim * KV_TILE + slot % KV_TILE;

	for (size_t d = 0; d < head_dim; d++)
		at[d * KV_TILE] = halves[d];
}

static inline void kv_store_v_halves(size_t head_dim, unsigned slot, const uint16_t *halves,
				     void *v_block)
{
	uint16_t *at = (uint16_t *)v_block + slot * KV_TILE;

	for (size_t d = 0; d < head_dim; d += KV_TILE)
		memcpy(at + d * KV_BLOCK, halves + d, KV_TILE * sizeof(*halves));
}

/*
 * KV_Q8 values -> their scale as a half and their bytes, rounded half away from zero. A scale
 * beyond the halves saturates; with an infinity or a NaN among the values the scale is NaN and the
 * bytes are 0. Written for the compiler to vectorise.
 */
static inline uint16_t kv_quantize(const float *x, int8_t *q)
{
	int32_t max[8] = { 0 }; /* of the bits of |x|, which are ordered as the magnitudes are */
	float d, inverse;

	for (unsigned i = 0; i < KV_Q8; i++) {
		int32_t bits = (int32_t)(f32_bits(x[i]) & 0x7fffffff);

		max[i % 8] = bits > max[i % 8] ? bits : max[i % 8];
	}
	for (unsigned i = 1; i < 8; i++)
		max[0] = max[i] > max[0] ? max[i] : max[0];
	if (max[0] >= (int32_t)F32_INFINITE) {
		memset(q, 0, KV_Q8);
		return KV_HALF_NAN;
	}
	d = f32_from_bits((uint32_t)max[0]) / 127.0f;
	if (d > KV_HALF_MAX)
		d = KV_HALF_MAX;
	inverse = d > 0.0f ? 1.0f / d : 0.0f;
	for (unsigned i = 0; i < KV_Q8; i++) {
		float v = x[i] * inverse, rest;
		int n;

		v = v > -127.0f ? v : -127.0f;
		v = v < 127.0f ? v : 127.0f;
		n = (int)v;
		rest = v - (float)n; /* exact */
		q[i] = (int8_t)(n + (rest >= 0.5f) - (rest <= -0.5f));
	}
	return f16_from_f32(d);
}

static inline void kv_store_k_q8(size_t dim, unsigned slot, const float *k, void *k_block)
{
	const size_t tile_bytes = dim / KV_Q8 * KV_Q8_K_BYTES;
	uint8_t *at = (uint8_t *)k_block + slot / KV_TILE * tile_bytes;
	unsigned lane = slot % KV_TILE;
	int8_t q[KV_Q8];
	uint16_t d;

	for (size_t g = 0; g < dim; g += KV_Q8, at += KV_Q8_K_BYTES) {
		d = kv_quantize(k + g, q);
		memcpy(at + lane * sizeof(d), &d, sizeof(d));
		for (unsigned i = 0; i < KV_Q8; i++)
			at[KV_TILE * sizeof(d) + i * KV_TILE + lane] = (uint8_t)q[i];
	}
}

static inline void kv_store_v_q8(size_t dim, unsigned slot, const float *v, void *v_block)
{
	uint8_t *at = v_block;
	int8_t q[KV_Q8];
	uint16_t d;

	for (size_t g = 0; g < dim; g += KV_Q8, at += KV_Q8_V_BYTES) {
		d = kv_quantize(v + g, q);
		memcpy(at + slot * sizeof(d), &d, sizeof(d));
		memcpy(at + KV_BLOCK * sizeof(d) + slot * KV_Q8, q, KV_Q8);
	}
}

#endif
