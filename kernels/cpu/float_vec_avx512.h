/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_vec_avx512.h: vector functions shared by the float_*_avx512.c files.
 *
 * vexp: exp(x) by x = n ln2 + r, |r| <= ln2/2, a minimax polynomial of degree 6 and one exponent
 * add (scalef, which rounds into the subnormals as the true result would). Error below 1.5 ulp
 * over the whole range (tests/unit/kernels/test_float.c measures it); exp(-inf) = 0, NaN stays.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_VEC_AVX512_H
#define SLUICE_KERNELS_CPU_FLOAT_VEC_AVX512_H

#include <immintrin.h>
#include <stddef.h>

static inline __m512 vexp(__m512 x)
{
	__m512 n, r, p;

	/* the second operand comes out where either is NaN */
	x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x);
	x = _mm512_min_ps(_mm512_set1_ps(90.0f), x);
	n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)), 8);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
	p = _mm512_set1_ps(0x1.6a1a54p-10f);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.123fcap-7f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.555916p-5f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.55548ap-3f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.fffffcp-2f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	return _mm512_scalef_ps(p, n);
}

/* 1 / (1 + exp(-x)), times y */
static inline __m512 vsigmoid_mul(__m512 x, __m512 y)
{
	__m512 one = _mm512_set1_ps(1.0f);
	__m512 e = vexp(_mm512_xor_ps(x, _mm512_set1_ps(-0.0f)));

	return _mm512_div_ps(y, _mm512_add_ps(one, e));
}

/* The mask of the first @n lanes, n <= 16. */
static inline __mmask16 vhead(size_t n)
{
	return (__mmask16)((1u << n) - 1);
}

#endif
