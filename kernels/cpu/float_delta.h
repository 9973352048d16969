/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_delta.h: what the mixers do per token besides attention, for the vector
 * levels: gated delta rule, convolution, rotation, norm of heads, cache rows.
 *
 * Included once by each float_avx*.c after its float_vec_*.h; written in the names given there.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_DELTA_H
#define SLUICE_KERNELS_CPU_FLOAT_DELTA_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/float_impl.h"
#include "kernels/cpu/float_kv_store.h"

static void l2norm(const float *x, size_t n, float eps, float factor, float *out)
{
	scale(scale_or_nan(factor / sqrtf(dot(x, x, n) + eps)), x, out, n);
}

static void rope(float *x, const float *cosine, const float *sine, size_t half)
{
	for (size_t i = 0; i < half; i += VL) {
		vf c = vf_load_n(cosine + i, half - i), s = vf_load_n(sine + i, half - i);
		vf a = vf_load_n(x + i, half - i), b = vf_load_n(x + half + i, half - i);

		vf_store_n(x + i, vf_fnma(b, s, vf_mul(a, c)), half - i);
		vf_store_n(x + half + i, vf_fma(a, s, vf_mul(b, c)), half - i);
	}
}

/* Tap m of VL channels, or of as many as are left. */
static void load_taps(const float *w, unsigned taps, unsigned m, size_t n, float *out)
{
	for (size_t i = 0; i < VL; i++)
		out[i] = i < n ? w[i * taps + m] : 0.0f;
}

static void conv_silu(const float *const *rows, const float *w, unsigned taps, size_t first,
		      size_t end, float *out)
{
	size_t c = first;

	for (; taps == 4 && c + VL <= end; c += VL) {
		vf tap[4], sum;

		vf_taps4(w + c * 4, tap);
		sum = vf_mul(tap[0], vf_load(rows[0] + c));
		sum = vf_fma(tap[1], vf_load(rows[1] + c), sum);
		sum = vf_fma(tap[2], vf_load(rows[2] + c), sum);
		sum = vf_fma(tap[3], vf_load(rows[3] + c), sum);
		vf_store(out + c, vf_silu(sum));
	}
	for (; c < end; c += VL) {
		float tap[VL];
		vf sum;

		load_taps(w + c * taps, taps, 0, end - c, tap);
		sum = vf_mul(vf_load(tap), vf_load_n(rows[0] + c, end - c));
		for (unsigned m = 1; m < taps; m++) {
			load_taps(w + c * taps, taps, m, end - c, tap);
			sum = vf_fma(vf_load(tap), vf_load_n(rows[m] + c, end - c), sum);
		}
		vf_store_n(out + c, vf_silu(sum), end - c);
	}
}

static void to_halves(const float *x, size_t n, uint16_t *out)
{
	const vf top = vf_set1(KV_HALF_MAX), bottom = vf_set1(-KV_HALF_MAX);

	/* n is a multiple of KV_TILE; max and min give their second operand where one is NaN */
	for (size_t i = 0; i < n; i += VL) {
		vf v = vf_finite_or_nan(vf_load(x + i));

		vf_store_half(out + i, vf_min(top, vf_max(bottom, v)));
	}
}

static void kv_store_k(enum kv_type type, size_t dim, unsigned slot, const float *k, void *k_block)
{
	uint16_t halves[KV_MAX_HEAD_DIM];

	if (type == KV_Q8_0) {
		kv_store_k_q8(dim, slot, k, k_block);
		return;
	}
	to_halves(k, dim, halves);
	kv_store_k_halves(dim, slot, halves, k_block);
}

static void kv_store_v(enum kv_type type, size_t dim, unsigned slot, const float *v, void *v_block)
{
	uint16_t halves[KV_MAX_HEAD_DIM];

	if (type == KV_Q8_0) {
		kv_store_v_q8(dim, slot, v, v_block);
		return;
	}
	to_halves(v, dim, halves);
	kv_store_v_halves(dim, slot, halves, v_block);
}

static void kv_store(enum kv_type type, size_t head_dim, unsigned slot, const float *k,
		     const float *v, void *k_block, void *v_block)
{
	kv_store_k(type, head_dim, slot, k, k_block);
	kv_store_v(type, head_dim, slot, v, v_block);
}

#define STRIP (DELTA_LANES / VL) /* vectors */

#define PASS (VL / 8) /* rows of S taken together: as many as registers allow */

static void delta_first(const struct delta_args *a, vf *ret_r, vf *ret_p)
{
	const float *k = a->k, *q = a->q;
	vf r[STRIP], p[STRIP];

	for (unsigned v = 0; v < STRIP; v++)
		r[v] = p[v] = vf_zero();
	for (size_t i = 0; i < a->dim; i++) {
		vf ki = vf_set1(k[i]), qi = vf_set1(q[i]);

		for (unsigned v = 0; v < STRIP; v++) {
			vf s = vf_load(a->strip + i * DELTA_LANES + v * VL);

			r[v] = vf_fma(s, ki, r[v]);
			p[v] = vf_fma(s, qi, p[v]);
		}
	}
	for (unsigned v = 0; v < STRIP; v++) {
		ret_r[v] = r[v];
		ret_p[v] = p[v];
	}
}

/*
 * Writes token t's update and reads for token t + 1 in the same pass. The factors of PASS rows are
 * loaded before those rows are stored: a load waits for an older store whose address it shares the
 * low 12 bits with, and the stores run through all of them.
 */
static void delta_between(const struct delta_args *a, size_t t, const vf *change, vf *ret_r,
			  vf *ret_p)
{
	const float *old = a->k + t * a->ld, *k = old + a->ld, *q = a->q + (t + 1) * a->ld;
	const vf decay = vf_set1(a->decay[t * a->ld_gate]);
	const size_t dim = a->dim;
	float *row = a->strip;
	vf r[STRIP], p[STRIP], d[STRIP], s[PASS][STRIP];

	for (unsigned v = 0; v < STRIP; v++) {
		r[v] = p[v] = vf_zero();
		d[v] = change[v];
	}
	for (size_t i = 0; i < dim; i += PASS, row += PASS * DELTA_LANES) {
		vf oldi[PASS], ki[PASS], qi[PASS];

		for (unsigned u = 0; u < PASS; u++) {
			oldi[u] = vf_set1(old[i + u]);
			ki[u] = vf_set1(k[i + u]);
			qi[u] = vf_set1(q[i + u]);
		}
		for (unsigned u = 0; u < PASS; u++)
			for (unsigned v = 0; v < STRIP; v++)
				s[u][v] = vf_fma(
					oldi[u], d[v],
					vf_mul(decay, vf_load(row + u * DELTA_LANES + v * VL)));
		for (unsigned u = 0; u < PASS; u++)
			for (unsigned v = 0; v < STRIP; v++) {
				vf_store(row + u * DELTA_LANES + v * VL, s[u][v]);
				r[v] = vf_fma(s[u][v], ki[u], r[v]);
				p[v] = vf_fma(s[u][v], qi[u], p[v]);
			}
	}
	for (unsigned v = 0; v < STRIP; v++) {
		ret_r[v] = r[v];
		ret_p[v] = p[v];
	}
}

/* The last token's update; meanwhile the next strip is fetched. */
static void delta_last(const struct delta_args *a, size_t t, const vf *change)
{
	const float *old = a->k + t * a->ld, *next = a->next ? a->next : a->strip;
	const vf decay = vf_set1(a->decay[t * a->ld_gate]);
	const size_t dim = a->dim;
	float *row = a->strip;
	vf d[STRIP];

	for (unsigned v = 0; v < STRIP; v++)
		d[v] = change[v];
	for (size_t i = 0; i < dim; i++, row += DELTA_LANES) {
		vf x = vf_set1(old[i]);

		_mm_prefetch((const char *)(next + i * DELTA_LANES), _MM_HINT_T0);
		_mm_prefetch((const char *)(next + i * DELTA_LANES + 16), _MM_HINT_T0);
		for (unsigned v = 0; v < STRIP; v++)
			vf_store(row + v * VL,
				 vf_fma(x, d[v], vf_mul(decay, vf_load(row + v * VL))));
	}
}

static void delta(const struct delta_args *a)
{
	vf r[STRIP], p[STRIP], change[STRIP];

	delta_first(a, r, p);
	for (size_t t = 0; t < a->n_tokens; t++) {
		const vf decay = vf_set1(a->decay[t * a->ld_gate]);
		const vf beta = vf_set1(a->beta[t * a->ld_gate]);
		const vf kq = vf_set1(a->kq[t * a->ld_kq]);

		for (unsigned v = 0; v < STRIP; v++) {
			vf value = vf_load(a->v + t * a->ld + v * VL);

			change[v] = vf_mul(beta, vf_fnma(decay, r[v], value));
			vf_store(a->o + t * a->ld_o + v * VL,
				 vf_fma(change[v], kq, vf_mul(decay, p[v])));
		}
		if (t + 1 < a->n_tokens)
			delta_between(a, t, change, r, p);
		else
			delta_last(a, t, change);
	}
}

#endif
