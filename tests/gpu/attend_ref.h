/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/attend_ref.h: attention of one query in double over what the pages really hold, and how
 * far a kernel may be from it.
 *
 * A score is off by ds = sum |q||k| times the relative errors of query and key, plus the sums of the
 * tensor cores: their f32 additions may truncate (2^-22 of the magnitude each, dim / 8 in a chain).
 * Then a probability is off by a factor exp(2 ds) and its own rounding, a value by its rounding, and
 * the sum over positions by 2^-22 per step of 16 and expf's and the quotient's roundings (2^-20):
 * |error| <= (exp(2 ds) - 1 + u_p + u_v + steps * 2^-22 + 2^-20) * sum p |v|.
 */
#ifndef SLUICE_TESTS_GPU_ATTEND_REF_H
#define SLUICE_TESTS_GPU_ATTEND_REF_H

#include "tests/gpu/kv_pages.h"

/* Relative (and for the query absolute) errors of what enters the products */
struct attend_error {
	double query, query_abs, key, prob, value;
};

/* Decode: two halves for query and probability. 2^-25 is half a step of the smallest halves. */
static inline struct attend_error decode_error(enum cuda_kv type)
{
	const double page = type == CUDA_KV_Q8_0 ? 0x1p-11 : 0;

	return attend_error{ 0x1p-22, 0x1p-25, page, 0x1p-22, page };
}

static inline struct attend_error prefill_error(enum cuda_kv type)
{
	const double page = type == CUDA_KV_Q8_0 ? 0x1p-11 : 0;

	return attend_error{ 0x1p-11, 0x1p-25, page, 0x1p-11, page };
}

/*
 * out[dim] and bound[dim] of query @q over positions [0, len) of KV head @head; @gate NULL or dim
 * values. Probabilities below 2^-39 of the largest may vanish: len * 2^-39 in u_p.
 */
static inline void attend_reference(const kv_pages &kv, size_t seq, size_t head, const float *q,
				    size_t len, const float *gate, struct attend_error e,
				    std::vector<double> *out, std::vector<double> *bound)
{
	const size_t dim = kv.dim;
	std::vector<double> p(len), sum_abs(dim, 0);
	double big = -INFINITY, ds = 0, l = 0, u;

	for (size_t t = 0; t < len; t++) {
		double s = 0, a = 0, k_abs = 0;

		for (size_t i = 0; i < dim; i++) {
			const double k = kv.get(seq, t, head, i, false);

			s += q[i] * k;
			a += fabs(q[i] * k);
			k_abs += fabs(k);
		}
		p[t] = s;
		big = fmax(big, s);
		ds = fmax(ds,
			  a * (e.query + e.key + (double)dim / 8 * 0x1p-22) + k_abs * e.query_abs);
	}
	out->assign(dim, 0);
	bound->assign(dim, 0);
	for (size_t t = 0; t < len; t++)
		l += p[t] = exp(p[t] - big);
	for (size_t t = 0; t < len; t++)
		for (size_t i = 0; i < dim; i++) {
			const double v = kv.get(seq, t, head, i, true);

			(*out)[i] += p[t] / l * v;
			sum_abs[i] += p[t] / l * fabs(v);
		}
	u = expm1(2 * ds) + e.prob + e.value + (double)(len / 16 + 2) * 0x1p-22 + 0x1p-20 +
	    (double)len * 0x1p-39;
	for (size_t i = 0; i < dim && len; i++) {
		const double g = gate ? 1 / (1 + exp(-(double)gate[i])) : 1;

		(*out)[i] *= g;
		(*bound)[i] = u * sum_abs[i] * g + 0x1p-40;
	}
}

#endif
