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

#define GLU_LIMIT   7.0f
#define GLU_ALPHA   1.702f
#define GELU_FACTOR 1.5957691216f /* 2 sqrt(2 / pi): (1 + tanh(y)) / 2 = sigmoid(2 y) */
#define GELU_CUBE   0.044715f

#if defined(__x86_64__)
extern const struct float_ops float_ops_avx2;
extern const struct float_ops float_ops_avx512;
#endif

#endif
