/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_impl.h: what the files of the float tables share. Not for other rooms.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_IMPL_H
#define SLUICE_KERNELS_CPU_FLOAT_IMPL_H

#include <math.h>

#include "kernels/cpu/fops.h"

/*
 * A norm's factor. Where a value is infinite, or the sum of squares overflows, the factor is 0 and
 * the row's other values would silently become 0: then it is NaN.
 */
static inline float scale_or_nan(float scale)
{
	return scale == 0.0f ? NAN : scale;
}

/*
 * exp(x) as the vector levels compute it (float_vec_avx512.h), operation by operation: the scalar
 * form of the law of activations, with the same bits.
 */
static inline float law_exp(float x)
{
	float n, r, p;

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
	return ldexpf(p, isnan(n) ? 0 : (int)n);
}

#define GLU_LIMIT   7.0f
#define GLU_ALPHA   1.702f
#define GELU_FACTOR 1.5957691216f /* 2 sqrt(2 / pi): (1 + tanh(y)) / 2 = sigmoid(2 y) */
#define GELU_CUBE   0.044715f

#if defined(__x86_64__)
extern const struct float_ops float_ops_avx2;
extern const struct float_ops float_ops_avx512;
#endif

#endif
