/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/law.cuh: the law of activations (kernels/quant.h) on the device.
 *
 * What stands between gate, up and down, for experts, the shared expert and dense layers: the bits
 * of kernels/cpu/float_impl.h, operation by operation. Nothing here is contracted (-fmad=false), and
 * division is the rounded one. Included after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_LAW_CUH
#define SLUICE_KERNELS_CUDA_LAW_CUH

#include "kernels/cuda/ops.h"
#include "kernels/law.h"

#include <float.h>

/* exp(x) of the law: 0 below -87, infinite above 88.7; subnormal results are kept */
static __device__ __forceinline__ float law_exp(float x)
{
	float n, r, p;
	int e, low;

	if (x < LAW_EXP_LOW)
		return 0.0f;
	x = x > LAW_EXP_HIGH ? LAW_EXP_HIGH : x;
	n = rintf(x * LAW_EXP_LOG2E);
	r = fmaf(-n, LAW_EXP_LN2_TOP, x);
	r = fmaf(-n, LAW_EXP_LN2_LOW, r);
	p = fmaf(LAW_EXP_C6, r, LAW_EXP_C5);
	p = fmaf(p, r, LAW_EXP_C4);
	p = fmaf(p, r, LAW_EXP_C3);
	p = fmaf(p, r, LAW_EXP_C2);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	if (!(n == n))
		return p;
	/* 2^n in two factors: the first is exact, so that one rounding is left */
	e = (int)n;
	low = e < 127 ? e : 127;
	return p * __int_as_float((low + 127) << 23) * __int_as_float((e - low + 127) << 23);
}

/* y / (1 + exp(-x)) */
static __device__ __forceinline__ float law_sigmoid_mul(float x, float y)
{
	return y / (1.0f + law_exp(-x));
}

/* One value of act(gate) * up; NaN where either is not finite */
static __device__ __forceinline__ float law_glu(enum cuda_glu kind, float g, float u)
{
	if (!(fabsf(g) <= FLT_MAX) || !(fabsf(u) <= FLT_MAX))
		return NAN;
	if (kind == CUDA_GLU_CLAMPED) {
		g = g > LAW_GLU_LIMIT ? LAW_GLU_LIMIT : g;
		u = u > LAW_GLU_LIMIT ? LAW_GLU_LIMIT : u < -LAW_GLU_LIMIT ? -LAW_GLU_LIMIT : u;
		return law_sigmoid_mul(LAW_GLU_ALPHA * g, g) * (u + 1.0f);
	}
	if (kind == CUDA_GLU_GELU)
		return law_sigmoid_mul(LAW_GELU_FACTOR * (g + LAW_GELU_CUBE * g * (g * g)), g) * u;
	return law_sigmoid_mul(g, g) * u;
}

#endif
