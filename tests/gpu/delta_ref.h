/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/delta_ref.h: gated DeltaNet in double, and how far f32 may be from it.
 *
 * The reference is the recurrence of models.md 2.4, one head, all value columns, on the same float
 * inputs that the kernels get. Beside it runs a first-order error analysis with u = 2^-24; its two
 * forms are derived where they stand. Both rest on one fact: an error in S passes a token through
 * e^g (I - beta k k^T), whose norm is at most 1 for |k| <= 1 and 0 <= beta <= 1, so old errors
 * never grow and the new ones of each token (or chunk) are added. Used by test_delta_*.cu only.
 */
#ifndef SLUICE_TESTS_GPU_DELTA_REF_H
#define SLUICE_TESTS_GPU_DELTA_REF_H

#include <math.h>
#include <stddef.h>
#include <vector>

static const double REF_U = 1.0 / 16777216.0;
static const double REF_TINY = 1e-37; /* what falls below the normal floats */

/* One head: row t of q, k, v at + t * ld; gates [t * ld_gate]. */
struct ref_head {
	size_t dim;
	const float *q, *k, *v;
	size_t ld;
	const float *decay, *beta;
	size_t ld_gate;
};

/* S and the 2-norm of the error that each of its columns may have */
struct ref_state {
	std::vector<double> s, error;

	ref_state(const float *from, size_t dim) : s(from, from + dim * dim), error(dim, 0.0)
	{
	}
};

typedef std::vector<double> ref_rows; /* [tokens][dim] */

static inline double ref_column_norm(const std::vector<double> &s, size_t dim, size_t j)
{
	double sum = 0.0;

	for (size_t i = 0; i < dim; i++)
		sum += s[i * dim + j] * s[i * dim + j];
	return sqrt(sum);
}

/* How far the inputs of two computations may be apart, where that is not nothing. */
struct ref_apart {
	double k, q;	    /* 2-norms */
	const double *v;    /* [dim] or NULL */
	double decay, beta; /* relative */
};

#define REF_GPU_PATH 13 /* additions on a path of the kernel's sums: 8 + 2 + 3 */

/*
 * Token by token; @out and @bound [dim]. Per token and column, with n = |S_j| before or after,
 * whichever is larger, |k|, |q| <= 1, and P additions on the path of a sum:
 *   r, p, k.q:                                                       P u n each
 *   change = beta (v - decay r): e^g 4 u, products and sums 3 u:     (P + 7) u (n + |v|)
 *   S: e^g 4 u, product u, fused u, and the change times k:          6 u n + (P + 7) u (n + |v|)
 *   o = decay p + change (k.q), |change| <= n + |v|:                 (P + 6) u n + (2 P + 8) u (n + |v|)
 * Inputs that are apart by d: S by n d_decay + |change| (d_beta + d_k) + beta (n d_k + d_v), and o by
 * what S is then, and n d_q.
 */
static inline void ref_step(const struct ref_head &h, struct ref_state *state, size_t t,
			    double *out, double *bound, double path = REF_GPU_PATH,
			    const struct ref_apart *apart = NULL)
{
	const float *k = h.k + t * h.ld, *q = h.q + t * h.ld, *v = h.v + t * h.ld;
	const double decay = exp((double)h.decay[t * h.ld_gate]);
	const double beta = h.beta[t * h.ld_gate];
	const size_t dim = h.dim;
	std::vector<double> &s = state->s;

	for (size_t j = 0; j < dim; j++) {
		const double old = ref_column_norm(s, dim, j);
		double m = 0.0, o = 0.0, inputs = 0.0, change, n, both;

		for (size_t i = 0; i < dim; i++) {
			s[i * dim + j] *= decay;
			m += s[i * dim + j] * k[i];
		}
		change = beta * (v[j] - m);
		for (size_t i = 0; i < dim; i++) {
			s[i * dim + j] += k[i] * change;
			o += s[i * dim + j] * q[i];
		}
		n = fmax(old, ref_column_norm(s, dim, j));
		both = n + fabs(v[j]);
		if (apart)
			inputs = n * apart->decay + fabs(change) * (apart->beta + apart->k) +
				 beta * (n * apart->k + (apart->v ? apart->v[j] : 0.0));
		out[j] = o;
		bound[j] = decay * state->error[j] + inputs + (apart ? n * apart->q : 0.0) +
			   REF_U * ((path + 6) * n + (2 * path + 8) * both) + REF_TINY;
		state->error[j] = decay * state->error[j] + inputs +
				  REF_U * (6.0 * n + (path + 7) * both) + REF_TINY;
	}
}

#define REF_CHUNK 64

/* What the chunked form computes of one chunk, exactly, and the bounds of its f32 form. */
struct ref_chunk {
	size_t n;
	double g[REF_CHUNK];
	double t[REF_CHUNK][REF_CHUNK], t_error[REF_CHUNK][REF_CHUNK];
	double p[REF_CHUNK][REF_CHUNK], p_error[REF_CHUNK][REF_CHUNK];
};

static inline double ref_decay(const struct ref_chunk &c, size_t i, size_t m)
{
	return exp(c.g[i] - c.g[m]);
}

static inline void ref_dot(const float *a, const float *b, size_t n, double *dot, double *absolute)
{
	*dot = *absolute = 0.0;
	for (size_t i = 0; i < n; i++) {
		*dot += (double)a[i] * b[i];
		*absolute += fabs((double)a[i] * b[i]);
	}
}

/*
 * A product of dim terms, one fused multiply-add each, is within dim u times the sum of absolute
 * values; its gate factors add 4 u (exp), 1 u (the exponent: |x| e^-|x| < 1) and 3 u (products). The
 * columns of the inverse come from elimination, at most 64 terms: (I + A + F) t = e with |F| <=
 * 64 u |A|, so |t' - t| <= |T| (|F| + error of A) |T|.
 */
static inline void ref_chunk_tiles(const struct ref_head &h, size_t first, size_t n,
				   struct ref_chunk *c)
{
	std::vector<double> a(REF_CHUNK * REF_CHUNK, 0.0), e(a), half(a);

	c->n = n;
	for (size_t i = 0; i < n; i++)
		c->g[i] = (i ? c->g[i - 1] : 0.0) + h.decay[(first + i) * h.ld_gate];
	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; m <= i; m++) {
			const double beta = h.beta[(first + i) * h.ld_gate],
				     d = ref_decay(*c, i, m);
			double dot, absolute;

			ref_dot(h.q + (first + i) * h.ld, h.k + (first + m) * h.ld, h.dim, &dot,
				&absolute);
			c->p[i][m] = dot * d;
			c->p_error[i][m] = REF_U * d * (h.dim * absolute + 8.0 * fabs(dot));
			if (m == i)
				continue;
			ref_dot(h.k + (first + i) * h.ld, h.k + (first + m) * h.ld, h.dim, &dot,
				&absolute);
			a[i * REF_CHUNK + m] = beta * dot * d;
			e[i * REF_CHUNK + m] =
				REF_U * beta * d * (h.dim * absolute + (64.0 + 8.0) * fabs(dot));
		}
	for (size_t col = 0; col < n; col++)
		for (size_t i = 0; i < n; i++) {
			double x = i == col ? 1.0 : 0.0;

			for (size_t m = col; m < i; m++)
				x -= a[i * REF_CHUNK + m] * c->t[m][col];
			c->t[i][col] = i < col ? 0.0 : x;
		}
	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; m < i; m++)
			for (size_t l = m; l < i; l++)
				half[i * REF_CHUNK + m] += e[i * REF_CHUNK + l] * fabs(c->t[l][m]);
	for (size_t i = 0; i < n; i++)
		for (size_t m = 0; m <= i; m++) {
			c->t_error[i][m] = 0.0;
			for (size_t l = m; l <= i; l++)
				c->t_error[i][m] += fabs(c->t[i][l]) * half[l * REF_CHUNK + m];
		}
}

/* u of column @j of the chunk and its error, with an exact S before it */
static inline void ref_chunk_u(const struct ref_head &h, size_t first, const struct ref_chunk &c,
			       const std::vector<double> &s, size_t j, double *u, double *u_error)
{
	double r[REF_CHUNK], r_error[REF_CHUNK];

	for (size_t i = 0; i < c.n; i++) {
		const float *k = h.k + (first + i) * h.ld;
		const double beta = h.beta[(first + i) * h.ld_gate], d = exp(c.g[i]);
		const double v = h.v[(first + i) * h.ld + j];
		double dot = 0.0, absolute = 0.0;

		for (size_t x = 0; x < h.dim; x++) {
			dot += k[x] * s[x * h.dim + j];
			absolute += fabs(k[x] * s[x * h.dim + j]);
		}
		r[i] = beta * (v - d * dot);
		r_error[i] =
			REF_U * beta * (d * (h.dim * absolute + 8.0 * fabs(dot)) + 3.0 * fabs(v));
	}
	for (size_t i = 0; i < c.n; i++) {
		u[i] = u_error[i] = 0.0;
		for (size_t m = 0; m <= i; m++) {
			u[i] += c.t[i][m] * r[m];
			u_error[i] += c.t_error[i][m] * fabs(r[m]) +
				      fabs(c.t[i][m]) * (r_error[m] + 64.0 * REF_U * fabs(r[m]));
		}
	}
}

/*
 * Bounds of tokens [first, first + n) in the chunked form, the state before it being @before (exact
 * values and errors): @bound [n][dim], and the errors of the state after it.
 */
static inline void ref_chunk_bounds(const struct ref_head &h, size_t first, size_t n,
				    const struct ref_state &before, double *out, double *bound,
				    std::vector<double> *error)
{
	struct ref_chunk *c = new struct ref_chunk;
	const size_t dim = h.dim;

	ref_chunk_tiles(h, first, n, c);
	for (size_t j = 0; j < dim; j++) {
		double u[REF_CHUNK], u_error[REF_CHUNK], local = 0.0;

		ref_chunk_u(h, first, *c, before.s, j, u, u_error);
		for (size_t i = 0; i < n; i++) {
			const float *q = h.q + (first + i) * h.ld;
			const double d = exp(c->g[i]);
			double dot = 0.0, absolute = 0.0, e, o;

			for (size_t x = 0; x < dim; x++) {
				dot += q[x] * before.s[x * dim + j];
				absolute += fabs(q[x] * before.s[x * dim + j]);
			}
			o = d * dot;
			e = REF_U * d * (dim * absolute + (64.0 + 6.0) * fabs(dot));
			for (size_t m = 0; m <= i; m++) {
				o += c->p[i][m] * u[m];
				e += c->p_error[i][m] * fabs(u[m]) +
				     fabs(c->p[i][m]) * (u_error[m] + 64.0 * REF_U * fabs(u[m]));
			}
			out[i * dim + j] = o;
			bound[i * dim + j] = d * before.error[j] + e + REF_TINY;
		}
		for (size_t x = 0; x < dim; x++) {
			const double d = exp(c->g[n - 1]);
			double e = 71.0 * REF_U * d * fabs(before.s[x * dim + j]);

			for (size_t m = 0; m < n; m++) {
				const double f =
					ref_decay(*c, n - 1, m) * fabs(h.k[(first + m) * h.ld + x]);

				e += f * (u_error[m] + (64.0 + 7.0) * REF_U * fabs(u[m]));
			}
			local += e * e;
		}
		(*error)[j] = exp(c->g[n - 1]) * before.error[j] + sqrt(local) + REF_TINY;
	}
	delete c;
}

#endif
