/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/include/cuda_runtime.h: found in place of NVIDIA's where kernels are compiled for
 * the CPU: qualifiers, vector types, built-in variables, the part of the runtime API that launchers
 * and tests use, and (device.h) the functions of kernels. Written from the CUDA C++ guide.
 */
#ifndef SLUICE_EMU_CUDA_RUNTIME_H
#define SLUICE_EMU_CUDA_RUNTIME_H

#include "../emu.h"
#include "cuda_runtime_api.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n)	alignas(n)
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (emu_now->thread)
#define blockIdx  (emu_now->block)
#define blockDim  (emu_now->threads)
#define gridDim	  (emu_now->blocks)
#define warpSize  32

/* ---- vector types ---- */
#define EMU_VECTOR(type, base, align2, align4)                               \
	struct alignas(align2) type##2                                       \
	{                                                                    \
		base x, y;                                                   \
	};                                                                   \
	struct alignas(align4) type##4                                       \
	{                                                                    \
		base x, y, z, w;                                             \
	};                                                                   \
	static inline type##2 make_##type##2(base x, base y)                 \
	{                                                                    \
		return type##2 { x, y };                                     \
	}                                                                    \
	static inline type##4 make_##type##4(base x, base y, base z, base w) \
	{                                                                    \
		return type##4 { x, y, z, w };                               \
	}
EMU_VECTOR(char, signed char, 2, 4)
EMU_VECTOR(uchar, unsigned char, 2, 4)
EMU_VECTOR(short, short, 4, 8)
EMU_VECTOR(ushort, unsigned short, 4, 8)
EMU_VECTOR(int, int, 8, 16)
EMU_VECTOR(uint, unsigned, 8, 16)
EMU_VECTOR(float, float, 8, 16)
EMU_VECTOR(double, double, 16, 16)
EMU_VECTOR(longlong, long long, 16, 16)
EMU_VECTOR(ulonglong, unsigned long long, 16, 16)
#undef EMU_VECTOR

struct float3 {
	float x, y, z;
};
struct int3 {
	int x, y, z;
};
static inline float3 make_float3(float x, float y, float z)
{
	return float3{ x, y, z };
}
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z)
{
	return uint3{ x, y, z };
}
static inline int3 make_int3(int x, int y, int z)
{
	return int3{ x, y, z };
}

/* ---- runtime: what has no place in C ---- */
enum cudaFuncAttribute {
	cudaFuncAttributeMaxDynamicSharedMemorySize,
	cudaFuncAttributePreferredSharedMemoryCarveout,
};
template <class K> static inline cudaError_t cudaFuncSetAttribute(K, cudaFuncAttribute, int)
{
	return cudaSuccess;
}
template <class T> static inline cudaError_t cudaMalloc(T **p, size_t n)
{
	return cudaMalloc((void **)p, n);
}
template <class T> static inline cudaError_t cudaMallocHost(T **p, size_t n)
{
	return cudaMallocHost((void **)p, n);
}

#include "device.h"

#endif
