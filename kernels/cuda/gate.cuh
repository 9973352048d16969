/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gate.cuh: the sigmoid that gates attention's output, for decode and for prefill.
 *
 * One form for both, so that their results are gated alike. Included after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_GATE_CUH
#define SLUICE_KERNELS_CUDA_GATE_CUH

/* 1 / (1 + exp(-x)); 0 where exp overflows, NaN for NaN */
static __device__ __forceinline__ float gate_sigmoid(float x)
{
	return 1.0f / (1.0f + expf(-x));
}

#endif
