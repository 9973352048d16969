/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gate.cuh: the sigmoid that gates attention's output, for decode and for prefill.
 *
 * One form for both, so that their results are gated alike. Included after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_GATE_CUH
#define SLUICE_KERNELS_CUDA_GATE_CUH

#include <float.h>
#include <math.h>

/* 1 / (1 + exp(-x)); 0 where exp overflows, NaN for what is not finite: it must not look right */
static __device__ __forceinline__ float gate_sigmoid(float x)
{
	return fabsf(x) <= FLT_MAX ? 1.0f / (1.0f + expf(-x)) : NAN;
}

#endif
