/* SPDX-License-Identifier: MIT */
/* daemon/engine/activation.c: see activation.h. */
#include "engine/activation.h"

void activate(enum activation kind, const struct float_ops *fops, const float *gate,
	      const float *up, float *out, size_t n)
{
	static const enum glu kinds[] = {
		[ACTIVATION_SILU] = GLU_SILU,
		[ACTIVATION_CLAMPED] = GLU_CLAMPED,
		[ACTIVATION_GELU] = GLU_GELU,
		[ACTIVATION_RELU2] = GLU_RELU2,
	};

	fops->glu(kinds[kind], gate, up, out, n);
}
