/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/act.cuh: writing the int8 form of a row (ops.h, "activations") out of registers.
 *
 * For operations that have a row at hand in order, four values a lane, and write its int8 form as
 * they go (norms, silu_mul): eight lanes hold the 32 values of one scale, four the 16 of one sum.
 * The bits are those of cuda_act_quantize on the same floats. Included after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_ACT_CUH
#define SLUICE_KERNELS_CUDA_ACT_CUH

#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

/* The three parts of one int8 row. */
struct act_row {
	int8_t *q;
	float *d;
	int16_t *s;
};

/* Row @row of the int8 rows of @n values (a multiple of 32) at @act. */
static __device__ __forceinline__ struct act_row act_row_at(void *act, size_t n, size_t row)
{
	uint8_t *base = (uint8_t *)act + row * cuda_act_bytes(n);
	struct act_row r;

	r.q = (int8_t *)base;
	r.d = (float *)(base + n);
	r.s = (int16_t *)(base + n + n / 32 * 4);
	return r;
}

static __device__ __forceinline__ int act_round(float x, float d)
{
	return d > 0.0f ? (int)fminf(fmaxf(rintf(x / d), -127.0f), 127.0f) : 0;
}

/*
 * Writes values [i, i + 4) of row @r; i a multiple of 4, and lane L of each aligned group of eight
 * lanes holds values 4 L of the same 32. All 32 lanes call; those with @on false (whole groups of
 * eight) write nothing.
 */
static __device__ __forceinline__ void act_store4(struct act_row r, size_t i, float4 v, bool on)
{
	const float big =
		fmaxf(fmaxf(magnitude(v.x), magnitude(v.y)), fmaxf(magnitude(v.z), magnitude(v.w)));
	const float d = scale_of(warp_max_width(big, 8));
	const int a = act_round(v.x, d), b = act_round(v.y, d);
	const int c = act_round(v.z, d), e = act_round(v.w, d);
	const int sum = warp_sum_int_width(a + b + c + e, 4);

	if (!on)
		return;
	*(uint32_t *)(r.q + i) = (uint32_t)(a & 255) | (uint32_t)(b & 255) << 8 |
				 (uint32_t)(c & 255) << 16 | (uint32_t)e << 24;
	if (i % 32 == 0)
		r.d[i / 32] = d;
	if (i % 16 == 0)
		r.s[i / 16] = (int16_t)sum;
}

#endif
