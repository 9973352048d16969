/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/convert.cu: arrays of floats from one kind to another, F32 on one side.
 *
 * Bound by memory, so a thread moves four neighbouring values: the F32 side of a warp is one load or
 * store of 512 bytes and the other side one of 256, every sector whole (eight values a thread would
 * take half a sector of the F32 side at a time). A block of 1024 values: rows of activations are
 * short and shall still reach several SMs. Where the pointers forbid it, or behind the last whole
 * four, values go one by one. Exact but for the one rounding that the kind needs; denormals are kept.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/ops.h"

#define CONVERT_THREADS 256
#define CONVERT_WIDE	4
#define CONVERT_BLOCK	(CONVERT_THREADS * CONVERT_WIDE)

template <class T> struct alignas(CONVERT_WIDE * sizeof(T)) convert_four {
	T v[CONVERT_WIDE];
};

static __device__ __forceinline__ float widened(float x)
{
	return x;
}

static __device__ __forceinline__ float widened(__half x)
{
	return __half2float(x);
}

static __device__ __forceinline__ float widened(__nv_bfloat16 x)
{
	return __bfloat162float(x);
}

static __device__ __forceinline__ void narrow(float x, float *out)
{
	*out = x;
}

static __device__ __forceinline__ void narrow(float x, __half *out)
{
	*out = half_saturated(x);
}

static __device__ __forceinline__ void narrow(float x, __nv_bfloat16 *out)
{
	*out = __float2bfloat16_rn(x);
}

template <class From, class To>
static __global__ void __launch_bounds__(CONVERT_THREADS)
	convert_kernel(const From *x, To *out, size_t count, bool wide)
{
	const size_t base = (size_t)blockIdx.x * CONVERT_BLOCK;
	const size_t first = base + threadIdx.x * CONVERT_WIDE;

	if (wide && first + CONVERT_WIDE <= count) {
		const convert_four<From> in = *(const convert_four<From> *)(x + first);
		convert_four<To> to;

		for (int i = 0; i < CONVERT_WIDE; i++)
			narrow(widened(in.v[i]), &to.v[i]);
		*(convert_four<To> *)(out + first) = to;
	} else if (wide) {
		for (size_t i = first; i < count; i++)
			narrow(widened(x[i]), out + i);
	} else {
		for (int j = 0; j < CONVERT_WIDE; j++) {
			const size_t i = base + j * CONVERT_THREADS + threadIdx.x;

			if (i < count)
				narrow(widened(x[i]), out + i);
		}
	}
}

template <class From, class To>
static int convert(cuda_stream stream, const void *x, void *out, size_t count)
{
	const size_t blocks = count / CONVERT_BLOCK + (count % CONVERT_BLOCK != 0);
	const bool wide = (uintptr_t)x % sizeof(convert_four<From>) == 0 &&
			  (uintptr_t)out % sizeof(convert_four<To>) == 0;

	if (count == 0)
		return 0;
	if (!x || !out || (uintptr_t)x % sizeof(From) || (uintptr_t)out % sizeof(To) ||
	    blocks > INT32_MAX)
		return -EINVAL;
	CUDA_LAUNCH((convert_kernel<From, To>), (unsigned)blocks, CONVERT_THREADS, 0, stream,
		    (const From *)x, (To *)out, count, wide);
	return CUDA_LAUNCHED();
}

int cuda_convert(cuda_stream stream, enum cuda_float from, const void *x, enum cuda_float to,
		 void *out, size_t count)
{
	if (from == CUDA_F32 && to == CUDA_F32)
		return convert<float, float>(stream, x, out, count);
	if (from == CUDA_F32 && to == CUDA_F16)
		return convert<float, __half>(stream, x, out, count);
	if (from == CUDA_F32 && to == CUDA_BF16)
		return convert<float, __nv_bfloat16>(stream, x, out, count);
	if (from == CUDA_F16 && to == CUDA_F32)
		return convert<__half, float>(stream, x, out, count);
	if (from == CUDA_BF16 && to == CUDA_F32)
		return convert<__nv_bfloat16, float>(stream, x, out, count);
	return -EINVAL;
}
