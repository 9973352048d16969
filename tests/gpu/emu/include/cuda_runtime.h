/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/include/cuda_runtime.h: found in place of NVIDIA's where kernels are compiled for
 * the CPU: qualifiers, vector types, built-in variables, the part of the runtime API that launchers
 * and tests use, and (device.h) the functions of kernels. Written from the CUDA C++ guide.
 */
#ifndef SLUICE_EMU_CUDA_RUNTIME_H
#define SLUICE_EMU_CUDA_RUNTIME_H

#include "../emu.h"

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

/* ---- runtime ---- */
enum cudaError_t {
	cudaSuccess = 0,
	cudaErrorInvalidValue = 1,
	cudaErrorMemoryAllocation = 2,
	cudaErrorInvalidConfiguration = 9,
	cudaErrorInsufficientDriver = 35,
	cudaErrorNoDevice = 100,
};
typedef enum cudaError_t cudaError;
enum cudaMemcpyKind {
	cudaMemcpyHostToHost,
	cudaMemcpyHostToDevice,
	cudaMemcpyDeviceToHost,
	cudaMemcpyDeviceToDevice,
	cudaMemcpyDefault,
};
enum cudaFuncAttribute {
	cudaFuncAttributeMaxDynamicSharedMemorySize,
	cudaFuncAttributePreferredSharedMemoryCarveout,
};
struct CUstream_st;
typedef struct CUstream_st *cudaStream_t;
typedef void *cudaEvent_t;
struct cudaDeviceProp {
	char name[256];
	int major, minor, multiProcessorCount;
	size_t totalGlobalMem, sharedMemPerBlockOptin;
};

static inline cudaError_t cudaGetLastError(void)
{
	return (cudaError_t)emu_last_error(true);
}
static inline cudaError_t cudaPeekAtLastError(void)
{
	return (cudaError_t)emu_last_error(false);
}
static inline const char *cudaGetErrorString(cudaError_t e)
{
	return e == cudaSuccess ? "no error" : "an error of the shim";
}
static inline const char *cudaGetErrorName(cudaError_t e)
{
	return cudaGetErrorString(e);
}
template <class K> static inline cudaError_t cudaFuncSetAttribute(K, cudaFuncAttribute, int)
{
	return cudaSuccess;
}

/* Exactly @n bytes, aligned as on a device, of a pattern that is NaN as floats. */
static inline cudaError_t cudaMalloc(void **p, size_t n)
{
	if (posix_memalign(p, 256, n ? n : 1))
		return cudaErrorMemoryAllocation;
	memset(*p, 0xff, n);
	return cudaSuccess;
}
template <class T> static inline cudaError_t cudaMalloc(T **p, size_t n)
{
	return cudaMalloc((void **)p, n);
}
template <class T> static inline cudaError_t cudaMallocHost(T **p, size_t n)
{
	return cudaMalloc((void **)p, n);
}
static inline cudaError_t cudaFree(void *p)
{
	free(p);
	return cudaSuccess;
}
static inline cudaError_t cudaFreeHost(void *p)
{
	free(p);
	return cudaSuccess;
}
static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind)
{
	if (n)
		memcpy(to, from, n);
	return cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind,
					  cudaStream_t = 0)
{
	return cudaMemcpy(to, from, n, kind);
}
static inline cudaError_t cudaMemset(void *to, int value, size_t n)
{
	if (n)
		memset(to, value, n);
	return cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t = 0)
{
	return cudaMemset(to, value, n);
}
static inline cudaError_t cudaStreamCreate(cudaStream_t *s)
{
	*s = 0;
	return cudaSuccess;
}
static inline cudaError_t cudaStreamDestroy(cudaStream_t)
{
	return cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t)
{
	return cudaSuccess;
}
static inline cudaError_t cudaDeviceSynchronize(void)
{
	return cudaPeekAtLastError();
}
static inline cudaError_t cudaGetDeviceCount(int *n)
{
	*n = 1;
	return cudaSuccess;
}
static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
	*p = cudaDeviceProp{ "the shim (no GPU)", 8, 0, 1, 0, 232448 };
	return cudaSuccess;
}
static inline cudaError_t cudaEventCreate(cudaEvent_t *e)
{
	*e = 0;
	return cudaSuccess;
}
static inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t = 0)
{
	return cudaSuccess;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t)
{
	return cudaSuccess;
}
static inline cudaError_t cudaEventDestroy(cudaEvent_t)
{
	return cudaSuccess;
}

#include "device.h"

#endif
