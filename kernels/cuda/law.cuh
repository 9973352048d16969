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

#include <float.h>

/* exp(x) of the law: 0 below -87, infinite above 88.7; subnormal results are kept */
static __device__ __forceinline__ float law_exp(float x)
{
	float n, r, p;
	int e, low;

	if (x < -87.0f)
		return 0.0f;
	x = x > 90.0f ? 90.0f : x;
	n = rintf(x * 0x1.715476p+0f);
	r = fmaf(-n, 0x1.62e4p-1f, x);
	r = fmaf(-n, 0x1.7f7d1cp-20f, r);
	p = fmaf(0x1.6a1a54p-10f, r, 0x1.123fcap-7f);
	p = fmaf(p, r, 0x1.555916p-5f);
	p = fmaf(p, r, 0x1.55548ap-3f);
	p = fmaf(p, r, 0x1.fffffcp-2f);
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

#define LAW_LIMIT	7.0f
#define LAW_ALPHA	1.702f
#define LAW_GELU_FACTOR 1.5957691216f
#define LAW_GELU_CUBE	0.044715f

/* One value of act(gate) * up; NaN where either is not finite */
static __device__ __forceinline__ float law_glu(enum cuda_glu kind, float g, float u)
{
	if (!(fabsf(g) <= FLT_MAX) || !(fabsf(u) <= FLT_MAX))
		return NAN;
	if (kind == CUDA_GLU_CLAMPED) {
		g = g > LAW_LIMIT ? LAW_LIMIT : g;
		u = u > LAW_LIMIT ? LAW_LIMIT : u < -LAW_LIMIT ? -LAW_LIMIT : u;
		return law_sigmoid_mul(LAW_ALPHA * g, g) * (u + 1.0f);
	}
	if (kind == CUDA_GLU_GELU)
		return law_sigmoid_mul(LAW_GELU_FACTOR * (g + LAW_GELU_CUBE * g * (g * g)), g) * u;
	return law_sigmoid_mul(g, g) * u;
}

#endif
