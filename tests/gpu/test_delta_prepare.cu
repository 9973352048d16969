/* SPDX-License-Identifier: MIT */
/*
 * Description: DeltaNet's norm of q and k and its gates on a GPU: values, extremes, rows alone, refusals.
 *
 * With u = 2^-24. Norm: a sum of dim squares, 4 + 5 additions on a path, and eps: 10 u, half of it in the
 * root; root, quotient, product and the rounded dim^-1/2: 4 u more: 9 u. Sigmoid: 4 u of expf, 2 u.
 * Decay: x = alpha + dt is off by u |x|, which softplus hands on times its slope; expf and log1pf 4 u
 * each (log1p never makes a relative error larger), a product u; above 20 softplus is x but for
 * e^-20 < u x.
 */
#include "tests/gpu/delta_rig.h"
#include "tests/gpu/delta_ref.h"

struct prepare_case {
	struct cuda_delta_shape shape;
	size_t tokens, channels;
	std::vector<float> qkv, alpha, beta, a, dt, decay;

	prepare_case(struct cuda_delta_shape s, size_t n, float reach, uint64_t seed)
	    : shape(s), tokens(n), channels((2 * s.k_heads + s.v_heads) * s.dim)
	{
		rig_random r(seed);

		qkv = r.many(n * channels, -2.0f, 2.0f);
		alpha = r.many(n * s.v_heads, -reach, reach);
		beta = r.many(n * s.v_heads, -reach, reach);
		a = r.many(s.v_heads, -16.0f, -0.01f);
		dt = r.many(s.v_heads, -4.0f, 4.0f);
		decay.assign(alpha.size(), NAN);
	}
	int run(bool in_place = false)
	{
		on_device<float> dq(qkv), dal(alpha), db(beta), da(a), ddt(dt), dd(decay);
		const int ret = cuda_delta_prepare(NULL, &shape, tokens, dq.at, dal.at, db.at,
						   da.at, ddt.at, in_place ? dal.at : dd.at);

		qkv = dq.back();
		beta = db.back();
		decay = in_place ? dal.back() : dd.back();
		return ret;
	}
};

static void compare_head(const float *x, const float *y, size_t dim, bool query)
{
	double sum = 1e-6f;

	for (size_t i = 0; i < dim; i++)
		sum += (double)x[i] * x[i];
	for (size_t i = 0; i < dim; i++) {
		const double want = x[i] / sqrt(sum * (query ? dim : 1));

		MUST(fabs(y[i] - want) <= 9.0 * REF_U * fabs(want) * 1.001 + REF_TINY);
	}
}

static void compare_gates(const prepare_case &x, const prepare_case &y)
{
	for (size_t i = 0; i < x.alpha.size(); i++) {
		const size_t head = i % x.shape.v_heads;
		const double in = (double)x.alpha[i] + x.dt[head], slope = 1.0 / (1.0 + exp(-in));
		const double soft = in > 30.0 ? in : log1p(exp(in)), g = x.a[head] * soft;
		const double beta = 1.0 / (1.0 + exp(-(double)x.beta[i]));

		MUST(fabs(y.decay[i] - g) <=
		     fabs(x.a[head]) * REF_U * (10.0 * soft + 2.0 * fabs(in) * slope) + REF_TINY);
		MUST(y.decay[i] <= 0.0f);
		MUST(fabs(y.beta[i] - beta) <= 6.0 * REF_U * beta * 1.001 + REF_TINY);
	}
}

static void values(struct cuda_delta_shape shape, size_t tokens, float reach)
{
	prepare_case x(shape, tokens, reach, tokens), y = x, z = x;
	const size_t dim = shape.dim;

	for (size_t i = 0; i < dim; i++)
		x.qkv[i] = 0.0f; /* a head of zeros */
	y.qkv = z.qkv = x.qkv;
	MUST(y.run() == 0 && z.run(true) == 0);
	for (size_t t = 0; t < tokens; t++) {
		const size_t row = t * x.channels, values_at = 2 * shape.k_heads * dim;

		for (size_t h = 0; h < 2 * shape.k_heads; h++)
			compare_head(&x.qkv[row + h * dim], &y.qkv[row + h * dim], dim,
				     h < shape.k_heads);
		MUST(memcmp(&x.qkv[row + values_at], &y.qkv[row + values_at],
			    shape.v_heads * dim * 4) == 0);
	}
	compare_gates(x, y);
	MUST(z.qkv == y.qkv && z.beta == y.beta && z.decay == y.decay);
}

/* The last of seven tokens alone. */
static void alone(void)
{
	prepare_case all({ 1, 2, 64, false }, 7, 5.0f, 23), one = all;

	one.tokens = 1;
	one.qkv.erase(one.qkv.begin(), one.qkv.begin() + 6 * one.channels);
	one.alpha.erase(one.alpha.begin(), one.alpha.begin() + 12);
	one.beta.erase(one.beta.begin(), one.beta.begin() + 12);
	one.decay.resize(2);
	MUST(all.run() == 0 && one.run() == 0);
	MUST(memcmp(one.qkv.data(), &all.qkv[6 * all.channels], one.qkv.size() * 4) == 0);
	MUST(memcmp(one.beta.data(), &all.beta[12], 8) == 0);
	MUST(memcmp(one.decay.data(), &all.decay[12], 8) == 0);
}

static void refusals(void)
{
	const struct cuda_delta_shape shape = { 1, 2, 64, false }, odd = { 1, 2, 80, false };
	float x[8];

	MUST(cuda_delta_prepare(NULL, &shape, 0, NULL, NULL, NULL, NULL, NULL, NULL) == 0);
	MUST(cuda_delta_prepare(NULL, &odd, 1, x, x + 1, x + 2, x, x, x + 3) == -EINVAL);
	MUST(cuda_delta_prepare(NULL, &shape, 1, NULL, x, x + 2, x, x, x) == -EINVAL);
	MUST(cuda_delta_prepare(NULL, &shape, 1, x, x + 1, x + 1, x, x, x + 3) == -EINVAL);
	MUST(cuda_delta_prepare(NULL, &shape, 1, x, x + 1, x + 2, x, x, x + 2) == -EINVAL);
	MUST(cuda_delta_prepare(NULL, NULL, 1, x, x + 1, x + 2, x, x, x + 3) == -EINVAL);
}

int main(int argc, char **argv)
{
	values({ 1, 1, 64, false }, 1, 3.0f);
	values({ 2, 4, 128, false }, 9, 8.0f);
	values({ 1, 3, 64, true }, 5, 90.0f); /* exp overflows, softplus is linear */
	alone();
	refusals();
	if (argc > 1 && !strcmp(argv[1], "--all"))
		values({ 16, 64, 128, false }, 33, 8.0f);
	return 0;
}
