/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_impl.h: what the files of the float tables share. Not for other rooms.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_IMPL_H
#define SLUICE_KERNELS_CPU_FLOAT_IMPL_H

#include <math.h>

#include "kernels/cpu/fops.h"
#include "kernels/law.h"

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
	return ldexpf(p, isnan(n) ? 0 : (int)n);
}

/* attend_query() of levels that read floats */
static inline void attend_query_as_it_is(float *q, size_t rows, size_t head_dim)
{
	(void)q;
	(void)rows;
	(void)head_dim;
}

#if defined(__x86_64__)
extern const struct float_ops float_ops_avx2;
extern const struct float_ops float_ops_avx512;
#endif

#endif
