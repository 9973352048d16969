/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_glu.h: activations between two products, and the soft cap, for the vector
 * levels.
 *
 * Included once by each float_avx*.c after its float_vec_*.h; written in the names given there.
 * Clamps would turn an infinity into a number that looks right: what is not finite is NaN before.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_GLU_H
#define SLUICE_KERNELS_CPU_FLOAT_GLU_H

#include <math.h>

#include "kernels/cpu/float_impl.h"

static inline vf glu_clamped(vf g, vf u)
{
	const vf limit = vf_set1(LAW_GLU_LIMIT);

	/* the second operand comes out where either is NaN */
	g = vf_min(limit, g);
	u = vf_min(limit, vf_max(vf_set1(-LAW_GLU_LIMIT), u));
	return vf_mul(vf_sigmoid_mul(vf_mul(vf_set1(LAW_GLU_ALPHA), g), g),
		      vf_add(u, vf_set1(1.0f)));
}

static inline vf glu_gelu(vf g, vf u)
{
	vf cube = vf_mul(vf_mul(vf_set1(LAW_GELU_CUBE), g), vf_mul(g, g));
	vf y = vf_mul(vf_set1(LAW_GELU_FACTOR), vf_add(g, cube));

	return vf_mul(vf_sigmoid_mul(y, g), u);
}

static inline vf glu_relu2(vf u)
{
	u = vf_max(vf_zero(), u);
	return vf_mul(u, u);
}

static void glu(enum glu kind, const float *gate, const float *up, float *out, size_t n)
{
	if (kind == GLU_SILU) {
		silu_mul(gate, up, out, n);
		return;
	}
	for (size_t i = 0; i < n; i += VL) {
		vf u = vf_finite_or_nan(vf_load_n(up + i, n - i)), y;

		if (kind == GLU_RELU2)
			y = glu_relu2(u);
		else if (kind == GLU_GELU)
			y = glu_gelu(vf_finite_or_nan(vf_load_n(gate + i, n - i)), u);
		else
			y = glu_clamped(vf_finite_or_nan(vf_load_n(gate + i, n - i)), u);
		vf_store_n(out + i, y, n - i);
	}
}

/*
 * cap tanh(x / cap): the series to the ninth power below a quarter, where the quotient of
 * exponentials would lose digits to cancellation; within 4 ulp.
 */
static inline vf vf_softcap(vf x, float cap)
{
	const vf one = vf_set1(1.0f), top = vf_set1(20.0f), bottom = vf_set1(-20.0f);
	vf y = vf_div(vf_finite_or_nan(x), vf_set1(cap)), square = vf_mul(y, y), e, p;

	p = vf_fma(square, vf_set1(62.0f / 2835), vf_set1(-17.0f / 315));
	p = vf_fma(square, p, vf_set1(2.0f / 15));
	p = vf_fma(square, p, vf_set1(-1.0f / 3));
	p = vf_fma(vf_mul(square, y), p, y);
	e = vf_min(top, vf_max(bottom, y)); /* beyond, tanh is 1 to all digits */
	e = vf_exp(vf_add(e, e));
	e = vf_div(vf_sub(e, one), vf_add(e, one));
	return vf_mul(vf_set1(cap), vf_if_small(y, 0.25f, p, e));
}

static void softcap(float cap, const float *x, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += VL)
		vf_store_n(out + i, vf_softcap(vf_load_n(x + i, n - i), cap), n - i);
}

#endif
