/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_soften.h: the softmax of attention as it goes from block to block of the KV cache,
 * for the vector levels. Included by attend_numbers.h, written in the names of float_vec_*.h. Rows do not depend on each other.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_SOFTEN_H
#define SLUICE_KERNELS_CPU_FLOAT_SOFTEN_H

#include <math.h>
#include <stdbool.h>

#include "kernels/cpu/float_impl.h"

#define ALWAYS	     static inline __attribute__((always_inline))
#define BLOCK_VECTOR (KV_BLOCK / VL)
#define SOFTEN_ROWS  8 /* rows of a call, at most */
#define SUMS \
	(KV_TILE / VL) /* of a row's exponentials: 16 lanes on either level, so the same bits */

/*
 * Scores -> exp(score - m) in place, with m and l brought up to date; correction[r] is the factor
 * for what acc held. Positions before first and from n_valid on, computed or not, become 0.
 */
static void soften(const struct attend_args *a, unsigned n_rows, size_t row, float (*s)[KV_BLOCK],
		   float *correction)
{
	float *m = a->m + row, *l = a->l + row;
	const bool whole = a->n_valid == KV_BLOCK;

	for (unsigned r = 0; r < n_rows; r++) {
		vf high = vf_set1(-INFINITY);
		float highest;

		for (unsigned j = 0; j < a->first; j++)
			s[r][j] = -INFINITY;
		for (unsigned v = 0; whole && v < BLOCK_VECTOR; v++)
			high = vf_max(high, vf_load(s[r] + v * VL));
		for (unsigned v = 0; !whole && v < BLOCK_VECTOR; v++) {
			size_t left = a->n_valid > v * VL ? a->n_valid - v * VL : 0;
			vf x = vf_keep_n(vf_load(s[r] + v * VL), left, -INFINITY);

			high = vf_max(high, x);
			vf_store(s[r] + v * VL, x);
		}
		highest = vf_highest(high);
		highest = highest > m[r] ? highest : m[r];
		correction[r] = m[r] - highest;
		m[r] = highest;
	}
	vf_store_n(correction, vf_exp(vf_load_n(correction, n_rows)), n_rows);
	for (unsigned r = 0; r < n_rows; r++) {
		vf sum[SUMS], highest = vf_set1(m[r]);

		for (unsigned i = 0; i < SUMS; i++)
			sum[i] = vf_zero();
		for (unsigned v = 0; v < BLOCK_VECTOR; v++) {
			vf p = vf_exp(vf_sub(vf_load(s[r] + v * VL), highest));

			sum[v % SUMS] = vf_add(sum[v % SUMS], p);
			vf_store(s[r] + v * VL, p);
		}
		for (unsigned i = 1; i < SUMS; i++)
			sum[0] = vf_add(sum[0], sum[i]);
		l[r] = l[r] * correction[r] + vf_sum(sum[0]);
	}
}

static void attend_merge(float *m, float *l, float *acc, float m2, float l2, const float *acc2,
			 size_t head_dim)
{
	float highest = m2 > *m ? m2 : *m, factor[2] = { *m - highest, m2 - highest };
	vf first, second;

	vf_store_n(factor, vf_exp(vf_load_n(factor, 2)), 2);
	first = vf_set1(factor[0]);
	second = vf_set1(factor[1]);
	*m = highest;
	*l = *l * factor[0] + l2 * factor[1];
	for (size_t i = 0; i < head_dim; i += VL) {
		vf v = vf_mul(vf_load_n(acc + i, head_dim - i), first);

		v = vf_fma(vf_load_n(acc2 + i, head_dim - i), second, v);
		vf_store_n(acc + i, v, head_dim - i);
	}
}

#endif
