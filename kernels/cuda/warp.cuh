/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/warp.cuh: reductions over a warp and over a block, in a fixed order.
 *
 * The order of the additions depends on the lane and warp numbers only, so a sum has the same bits
 * in every launch, and every thread gets the same bits: a butterfly adds the same two numbers in
 * both lanes of a pair, and addition commutes. No atomics.
 *
 * Refuses nothing: all 32 lanes (warp_*) or all threads of a one-dimensional block whose size is a
 * multiple of 32 (block_*) must call. Included by the .cu files, after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_WARP_CUH
#define SLUICE_KERNELS_CUDA_WARP_CUH

#include <float.h>
#include <math.h>
#include <stdint.h>

#define WARP_ALL  0xffffffffu
#define WARP_SIZE 32
#define WARPS_MAX 32 /* warps of the largest block: what @shared of block_* must hold */

/* The sum over groups of @width neighbouring lanes (a power of two), in every lane of the group. */
static __device__ __forceinline__ float warp_sum_width(float v, int width)
{
	for (int m = width / 2; m > 0; m /= 2)
		v += __shfl_xor_sync(WARP_ALL, v, m);
	return v;
}

/* The sum over the warp, in every lane. */
static __device__ __forceinline__ float warp_sum(float v)
{
	return warp_sum_width(v, WARP_SIZE);
}

/* The largest over groups of @width neighbouring lanes; a NaN loses against a number. */
static __device__ __forceinline__ float warp_max_width(float v, int width)
{
	for (int m = width / 2; m > 0; m /= 2)
		v = fmaxf(v, __shfl_xor_sync(WARP_ALL, v, m));
	return v;
}

/* The largest over the warp, in every lane. */
static __device__ __forceinline__ float warp_max(float v)
{
	return warp_max_width(v, WARP_SIZE);
}

/* Integer sum over groups of @width neighbouring lanes, in every lane of the group. */
static __device__ __forceinline__ int warp_sum_int_width(int v, int width)
{
	for (int m = width / 2; m > 0; m /= 2)
		v += __shfl_xor_sync(WARP_ALL, v, m);
	return v;
}

/* Integer maximum over groups of @width neighbouring lanes, in every lane of the group. */
static __device__ __forceinline__ int warp_max_int_width(int v, int width)
{
	for (int m = width / 2; m > 0; m /= 2)
		v = max(v, __shfl_xor_sync(WARP_ALL, v, m));
	return v;
}

/*
 * The sum over the block, in every thread. @shared: WARPS_MAX floats of shared memory, free for any
 * use before the call and again after the block's next barrier. Two barriers.
 */
static __device__ __forceinline__ float block_sum(float v, float *shared)
{
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	const int warps = blockDim.x / WARP_SIZE;

	v = warp_sum(v);
	__syncthreads();
	if (lane == 0)
		shared[warp] = v;
	__syncthreads();
	return warp_sum(lane < warps ? shared[lane] : 0.0f);
}

/* The largest over the block, in every thread; as block_sum. A NaN loses against a number. */
static __device__ __forceinline__ float block_max(float v, float *shared)
{
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	const int warps = blockDim.x / WARP_SIZE;

	v = warp_max(v);
	__syncthreads();
	if (lane == 0)
		shared[warp] = v;
	__syncthreads();
	return warp_max(lane < warps ? shared[lane] : -INFINITY);
}

/*
 * The index of the largest value over the warp and that value, in every lane; equal values go to
 * the lower index. NaN is smaller than everything but does not lose its place to another NaN of a
 * higher index: callers that must not choose it turn it to -inf first.
 */
static __device__ __forceinline__ void warp_argmax(float *value, uint32_t *index)
{
	for (int m = WARP_SIZE / 2; m > 0; m /= 2) {
		const float v = __shfl_xor_sync(WARP_ALL, *value, m);
		const uint32_t i = __shfl_xor_sync(WARP_ALL, *index, m);

		if (v > *value || (v == *value && i < *index)) {
			*value = v;
			*index = i;
		}
	}
}

/* |x|; infinity where x is not a number, so that a maximum (fmaxf) does not lose it. */
static __device__ __forceinline__ float magnitude(float x)
{
	return fabsf(x) <= FLT_MAX ? fabsf(x) : INFINITY;
}

/* A norm's factor; NaN instead of the 0 that an infinity or an overflow would make of it. */
static __device__ __forceinline__ float scale_or_nan(float scale)
{
	return scale == 0.0f ? NAN : scale;
}

/* max|x| of a block -> its scale; NaN where a value is not finite: int8 cannot carry that. */
static __device__ __forceinline__ float scale_of(float most)
{
	return most <= FLT_MAX ? most / 127.0f : NAN;
}

#endif
