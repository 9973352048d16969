/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/swiglu.cuh: the activation between gate, up and down: one form for experts, the
 * shared expert and dense layers, so that they agree. Included after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_SWIGLU_CUH
#define SLUICE_KERNELS_CUDA_SWIGLU_CUH

/* silu(g) * u, silu(g) = g / (1 + exp(-g)); exp(-g) = inf gives 0 */
static __device__ __forceinline__ float swiglu(float g, float u)
{
	return g / (1.0f + expf(-g)) * u;
}

#endif
