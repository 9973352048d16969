/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/launch.h: the few places where CUDA is not C++, so that one text of a kernel compiles
 * for a GPU with nvcc and for any CPU with a C++17 compiler and tests/gpu/emu (see its README).
 *
 *   CUDA_LAUNCH(kernel, grid, block, bytes, stream, args...)   kernel<<<grid, block, bytes, stream>>>
 *   CUDA_LAUNCHED()                       0, or -EIO where the runtime refused a launch since the last one
 *   CUDA_SHARED(type, name, count);            a __shared__ array of the block
 *   CUDA_SHARED_DYNAMIC(type, name);           the @bytes of the launch as type *name, 16-aligned
 *
 * Names of kernels with a comma in them need parentheses. grid and block are dim3 or a number.
 * More than 48 KiB of dynamic shared memory are asked for in CUDA_LAUNCH. What counts is what the launch
 * itself returned, not the thread's last error: that may be another's. Included first by every .cu file;
 * host code calls ops.h only.
 */
#ifndef SLUICE_KERNELS_CUDA_LAUNCH_H
#define SLUICE_KERNELS_CUDA_LAUNCH_H

#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <utility>

/* launch.cu: what a launch of this thread returned, kept until CUDA_LAUNCHED. */
void launch_note(int error);

#ifdef __CUDACC__

#define CUDA_SHARED(type, name, count) __shared__ __align__(16) type name[count]

/* One name for all kernels of a file: the type of an extern array must be the same everywhere. */
#define CUDA_SHARED_DYNAMIC(type, name)                         \
	extern __shared__ __align__(16) uint8_t cuda_dynamic[]; \
	type *name = (type *)cuda_dynamic

#define CUDA_SHARED_DEFAULT 49152 /* what a kernel may have without being asked for */

template <class... P, class... A>
static inline int launch_kernel(void (*kernel)(P...), dim3 grid, dim3 block, size_t bytes,
				cudaStream_t stream, A &&...args)
{
	std::tuple<P...> values(std::forward<A>(args)...);
	cudaLaunchConfig_t config = {};
	cudaError_t rc = cudaSuccess;

	config.gridDim = grid;
	config.blockDim = block;
	config.dynamicSmemBytes = bytes;
	config.stream = stream;
	if (bytes > CUDA_SHARED_DEFAULT)
		rc = cudaFuncSetAttribute((const void *)kernel,
					  cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
	if (rc != cudaSuccess)
		return (int)rc;
	return std::apply(
		[&](auto &...v) {
			void *pointers[] = { (void *)&v... };

			return (int)cudaLaunchKernelExC(&config, (const void *)kernel, pointers);
		},
		values);
}

#define CUDA_LAUNCH(kernel, grid, block, bytes, stream, ...)                                \
	launch_note(launch_kernel(kernel, dim3(grid), dim3(block), (size_t)(bytes), stream, \
				  __VA_ARGS__))

#else

#define CUDA_SHARED(type, name, count)        \
	static const char emu_key_##name = 0; \
	type(&name)[count] =                  \
		*(type(*)[count])emu_shared_static(&emu_key_##name, sizeof(type[count]), #name)

#define CUDA_SHARED_DYNAMIC(type, name) type *name = (type *)emu_shared_dynamic()

#define CUDA_LAUNCH(kernel, grid, block, bytes, stream, ...)                                      \
	launch_note(emu_launch(#kernel, dim3(grid), dim3(block), (size_t)(bytes), stream, kernel, \
			       __VA_ARGS__))

#endif

/* Whether loads of 16 bytes fit: @p is aligned to them, and rows @step bytes apart stay so. */
static inline __host__ __device__ bool aligned16(const void *p, size_t step = 0)
{
	return ((size_t)(uintptr_t)p | step) % 16 == 0;
}

int launch_done(void);

/* After the last CUDA_LAUNCH of an operation. */
#define CUDA_LAUNCHED() launch_done()

#endif
