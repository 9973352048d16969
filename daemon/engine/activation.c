/* SPDX-License-Identifier: MIT */
/* daemon/engine/activation.c: see activation.h. */
#include "engine/activation.h"

#include <math.h>

#define CLAMP_LIMIT 7.0f
#define CLAMP_ALPHA 1.702f

/* Comparisons that keep what is not a number, so that it reaches the request. */
static void clamped(const float *gate, const float *up, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float g = gate[i] > CLAMP_LIMIT ? CLAMP_LIMIT : gate[i], u = up[i];

		u = u > CLAMP_LIMIT ? CLAMP_LIMIT : u;
		u = u < -CLAMP_LIMIT ? -CLAMP_LIMIT : u;
		if (!isfinite(gate[i]) || !isfinite(up[i]))
			g = NAN;
		out[i] = g / (1.0f + expf(-CLAMP_ALPHA * g)) * (u + 1.0f);
	}
}

/* 0.5 g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) u */
static void gelu(const float *gate, const float *up, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float g = gate[i];
		float inner = 0.7978845608f * g * (1.0f + 0.044715f * g * g);

		out[i] = isfinite(g) ? 0.5f * g * (1.0f + tanhf(inner)) * up[i] : NAN;
	}
}

void activate(enum activation kind, const struct float_ops *fops, const float *gate,
	      const float *up, float *out, size_t n)
{
	switch (kind) {
	case ACTIVATION_SILU:
		fops->silu_mul(gate, up, out, n);
		break;
	case ACTIVATION_CLAMPED:
		clamped(gate, up, out, n);
		break;
	case ACTIVATION_GELU:
		gelu(gate, up, out, n);
		break;
	}
}
