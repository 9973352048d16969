/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/act.cuh: writing the int8 form of a row (ops.h, "activations") out of registers.
 *
 * For operations that have a row at hand in order, a warp 256 values of it, two times four a lane:
 * lane L holds values 4 L and 128 + 4 L. Eight lanes make the scale of a Q8_0 run, the warp that of
 * a Q8_K super-block, four lanes a sum. The bits are those of kernels/cpu/scalar.h. Included after
 * launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_ACT_CUH
#define SLUICE_KERNELS_CUDA_ACT_CUH

#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define ACT_WARP     256 /* values of a warp */
#define ACT_INFINITE 0x7f800000

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

/* |x| as bits: ordered as the magnitudes are, above them infinity and then the NaNs */
static __device__ __forceinline__ int act_bits(float x)
{
	return __float_as_int(x) & 0x7fffffff;
}

static __device__ __forceinline__ int act_most(float4 v)
{
	return max(max(act_bits(v.x), act_bits(v.y)), max(act_bits(v.z), act_bits(v.w)));
}

static __device__ __forceinline__ int act_clamp(float q)
{
	return (int)fminf(fmaxf(q, -127.0f), 127.0f);
}

/* Four quants and their sum of 16 to their places; @i a multiple of 4. All lanes call. */
static __device__ __forceinline__ void act_put4(struct act_row r, size_t i, int a, int b, int c,
						int e, float d, bool on)
{
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

/* Q8_0: eight lanes a run of 32 */
static __device__ __forceinline__ void act_put_runs(struct act_row r, size_t i, float4 v, bool on)
{
	const int most = warp_max_int_width(act_most(v), 8);
	const float d = most < ACT_INFINITE ? __int_as_float(most) / 127.0f : NAN;
	const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
	int q[4] = { 0, 0, 0, 0 };

	if (most < ACT_INFINITE) {
		q[0] = act_clamp(roundf(v.x * inverse));
		q[1] = act_clamp(roundf(v.y * inverse));
		q[2] = act_clamp(roundf(v.z * inverse));
		q[3] = act_clamp(roundf(v.w * inverse));
	}
	act_put4(r, i, q[0], q[1], q[2], q[3], d, on);
}

/* The first of four whose magnitude is @most; one of them has it. */
static __device__ __forceinline__ float act_first(float4 v, int most)
{
	return act_bits(v.x) == most   ? v.x
	       : act_bits(v.y) == most ? v.y
	       : act_bits(v.z) == most ? v.z
				       : v.w;
}

/* Q8_K: the warp's 256 values are one super-block */
static __device__ __forceinline__ void act_put_super(struct act_row r, size_t first,
						     const float4 v[2], bool on)
{
	const int lane = threadIdx.x % WARP_SIZE, m0 = act_most(v[0]), m1 = act_most(v[1]);
	const int most = warp_max_int_width(max(m0, m1), WARP_SIZE);
	const unsigned has0 = __ballot_sync(WARP_ALL, m0 == most);
	const unsigned has1 = __ballot_sync(WARP_ALL, m1 == most);
	const float at = __shfl_sync(WARP_ALL, act_first(has0 ? v[0] : v[1], most),
				     __ffs((int)(has0 ? has0 : has1)) - 1);
	float inverse = most && most < ACT_INFINITE ? -127.0f / at : 0.0f, d = 0.0f;

	if (most >= ACT_INFINITE)
		d = NAN;
	else if (fabsf(inverse) <= FLT_MAX && most)
		d = 1.0f / inverse;
	else
		inverse = 0.0f;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		int q[4] = { 0, 0, 0, 0 };

		if (inverse != 0.0f) {
			q[0] = act_clamp(rintf(v[h].x * inverse));
			q[1] = act_clamp(rintf(v[h].y * inverse));
			q[2] = act_clamp(rintf(v[h].z * inverse));
			q[3] = act_clamp(rintf(v[h].w * inverse));
		}
		act_put4(r, first + 128 * h + 4 * lane, q[0], q[1], q[2], q[3], d, on);
	}
}

/*
 * Values [first, first + 256) of row @r of @n in form @form; @first a multiple of 256. v[h] of lane L
 * are values first + 128 h + 4 L, zeros beyond the row's end, where nothing is written. @on: false
 * writes nothing at all. All 32 lanes call.
 */
static __device__ __forceinline__ void act_store(enum cuda_input form, struct act_row r, size_t n,
						 size_t first, const float4 v[2], bool on)
{
	const size_t at = first + threadIdx.x % WARP_SIZE * 4;

	if (form == CUDA_IN_Q8_K) {
		act_put_super(r, first, v, on && first < n);
		return;
	}
	act_put_runs(r, at, v[0], on && at < n);
	act_put_runs(r, at + 128, v[1], on && at + 128 < n);
}

#endif
