/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/peaks.cu: what this GPU reaches at best: reading, copying, tensor cores, FMAs. Kernels
 * of its own that do nothing else, so that a share of a peak means a share of what can be had here.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "tests/bench/gpu/bench.h"

static __global__ void __launch_bounds__(512)
	read_kernel(const uint4 *p, size_t count, uint32_t *out)
{
	const size_t step = (size_t)gridDim.x * blockDim.x;
	uint32_t a = 0;

	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += 4 * step) {
		uint4 v[4];

#pragma unroll
		for (int k = 0; k < 4; k++)
			v[k] = i + k * step < count ? __ldcs(p + i + k * step) : uint4{};
#pragma unroll
		for (int k = 0; k < 4; k++)
			a ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
	}
	if (a == 0x12345678) /* never, but the compiler cannot know */
		*out = a;
}

static __global__ void __launch_bounds__(512) copy_kernel(const uint4 *p, size_t count, uint4 *to)
{
	const size_t step = (size_t)gridDim.x * blockDim.x;

	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += 4 * step)
#pragma unroll
		for (int k = 0; k < 4; k++)
			if (i + k * step < count)
				__stcs(to + i + k * step, __ldcs(p + i + k * step));
}

#define CHAINS 8
#define TURNS  2048

static __global__ void __launch_bounds__(256) int8_kernel(int32_t *out)
{
	uint32_t a[4] = { threadIdx.x, 1, 2, 3 }, b[2] = { threadIdx.x * 7, 5 };
	int32_t d[CHAINS][4] = {};

	for (int i = 0; i < TURNS; i++)
#pragma unroll
		for (int c = 0; c < CHAINS; c++)
			ptx_mma_s8(d[c], a, b);
	for (int c = 1; c < CHAINS; c++)
		d[0][0] += d[c][0] + d[c][1] + d[c][2] + d[c][3];
	if (d[0][0] == 0x7654321)
		*out = d[0][0];
}

static __global__ void __launch_bounds__(256) half_kernel(float *out)
{
	uint32_t a[4] = { threadIdx.x, 1, 2, 3 }, b[2] = { threadIdx.x * 7, 5 };
	float d[CHAINS][4] = {};

	for (int i = 0; i < TURNS; i++)
#pragma unroll
		for (int c = 0; c < CHAINS; c++)
			ptx_mma_bf16(d[c], a, b);
	for (int c = 1; c < CHAINS; c++)
		d[0][0] += d[c][0] + d[c][1] + d[c][2] + d[c][3];
	if (d[0][0] == 12345.0f)
		*out = d[0][0];
}

static __global__ void __launch_bounds__(256) fma_kernel(float *out)
{
	float d[CHAINS] = { (float)threadIdx.x };

	for (int i = 0; i < 4 * TURNS; i++)
#pragma unroll
		for (int c = 0; c < CHAINS; c++)
			d[c] = fmaf(d[c], 0.5f, 1.0f);
	for (int c = 1; c < CHAINS; c++)
		d[0] += d[c];
	if (d[0] == 12345.0f)
		*out = d[0];
}

static struct peaks measure(void)
{
	const size_t bytes = 4ull << 30;
	uint8_t *p = random_weights(bytes);
	uint32_t *out = (uint32_t *)device_bytes(16);
	cudaDeviceProp prop;
	struct peaks k = {};
	double us;

	must(cudaGetDeviceProperties(&prop, 0), "cudaGetDeviceProperties");
	const unsigned blocks = (unsigned)prop.multiProcessorCount * 4;
	const double mma = (double)blocks * 8 * TURNS * CHAINS;

	us = time_launches(2, [&](cuda_stream s, int) {
		read_kernel<<<blocks, 512, 0, s>>>((const uint4 *)p, bytes / 16, out);
		return CUDA_LAUNCHED();
	});
	k.read = bytes / us * 1e6;
	us = time_launches(2, [&](cuda_stream s, int) {
		copy_kernel<<<blocks, 512, 0, s>>>((const uint4 *)p, bytes / 32,
						   (uint4 *)(p + bytes / 2));
		return CUDA_LAUNCHED();
	});
	k.copy = bytes / us * 1e6;
	us = time_launches(4, [&](cuda_stream s, int) {
		int8_kernel<<<blocks, 256, 0, s>>>((int32_t *)out);
		return CUDA_LAUNCHED();
	});
	k.int8 = mma * 2 * 16 * 8 * 32 / us * 1e6;
	us = time_launches(4, [&](cuda_stream s, int) {
		half_kernel<<<blocks, 256, 0, s>>>((float *)out);
		return CUDA_LAUNCHED();
	});
	k.half = mma * 2 * 16 * 8 * 16 / us * 1e6;
	us = time_launches(4, [&](cuda_stream s, int) {
		fma_kernel<<<blocks, 256, 0, s>>>((float *)out);
		return CUDA_LAUNCHED();
	});
	k.fma32 = mma * 4 * 32 * 2 / us * 1e6;
	release_all();
	return k;
}

const struct peaks &machine_peaks(void)
{
	static const struct peaks k = measure();

	return k;
}
