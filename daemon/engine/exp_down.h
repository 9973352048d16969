/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/exp_down.h: the exponential of what lies below a maximum, for the sampler and for
 * log-probabilities. Pure; any thread.
 */
#ifndef SLUICE_ENGINE_EXP_DOWN_H
#define SLUICE_ENGINE_EXP_DOWN_H

#include <stdint.h>

/* Four at a time, in the compiler's own vectors: any machine, the same arithmetic on all. */
typedef float vec __attribute__((vector_size(16)));
typedef uint32_t vec_bits __attribute__((vector_size(16)));

/*
 * exp(x) for x <= 0 (below -87 as at -87; NaN stays), relative error below 3e-7. Adding 1.5 * 2^23
 * leaves round(x / ln 2) in the low bits, which then become the exponent.
 */
static inline vec exp_down(vec x)
{
	const vec lowest = { -87.0f, -87.0f, -87.0f, -87.0f };
	vec_bits below = (vec_bits)(x < lowest);
	vec y = (vec)((below & (vec_bits)lowest) | (~below & (vec_bits)x));
	vec t = y * 0x1.715476p+0f + 0x1.8p23f, n = t - 0x1.8p23f;
	vec r = (y - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
	vec p = r * 0x1.6a1a54p-10f + 0x1.123fcap-7f;

	p = p * r + 0x1.555916p-5f;
	p = p * r + 0x1.55548ap-3f;
	p = p * r + 0x1.fffffcp-2f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	return p * (vec)(((vec_bits)t << 23) + 0x3f800000);
}

#endif
