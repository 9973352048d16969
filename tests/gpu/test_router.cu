/* SPDX-License-Identifier: MIT */
/*
 * Description: the router's logits, choice and weights against double, for every gating, with biases,
 * groups and without renormalisation; ties go to the lower index, NaN is never chosen before a number,
 * and a logit that is not finite makes the token's weights NaN. The shared expert's gate is a rank more that
 * changes nothing of the others.
 *
 * Bounds: logits (d / 32 + 7) * 2^-24 * sum |w x|; the choice is judged on the logits that the kernel
 * wrote, and weights get (experts / 32 + 24) * 2^-23 relative for expf, the sum and two divisions.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <algorithm>
#include <errno.h>

struct shape {
	size_t d, experts, tokens;
	unsigned k, groups, groups_used;
};

static std::vector<double> probabilities(const struct cuda_router *r, const float *logits)
{
	std::vector<double> p(logits, logits + r->experts);
	double largest = -INFINITY, sum = 0;

	if (r->gating == CUDA_GATE_SOFTMAX_TOPK)
		return p;
	for (double &v : p) {
		if (r->gating == CUDA_GATE_SIGMOID)
			v = 1 / (1 + exp(-v));
		largest = std::max(largest, v);
	}
	if (r->gating == CUDA_GATE_SIGMOID)
		return p;
	for (double &v : p)
		sum += v = exp(v - largest);
	for (double &v : p)
		v /= sum;
	return p;
}

/* Experts that the groups allow. */
static std::vector<bool> allowed(const struct cuda_router *r, const std::vector<double> &key)
{
	const size_t size = r->groups > 1 ? r->experts / r->groups : 0;
	std::vector<bool> ok(r->experts, r->groups < 2);
	std::vector<std::pair<double, size_t>> scores;

	for (size_t g = 0; size && g < r->groups; g++) {
		std::vector<double> in(key.begin() + (long)(g * size),
				       key.begin() + (long)(g * size + size));

		std::sort(in.rbegin(), in.rend());
		scores.push_back({ -(in[0] + (size > 1 ? in[1] : 0)), g });
	}
	std::sort(scores.begin(), scores.end());
	for (unsigned n = 0; size && n < r->groups_used; n++)
		for (size_t i = 0; i < size; i++)
			ok[scores[n].second * size + i] = true;
	return ok;
}

static void check_token(const struct cuda_router *r, const float *logits, const uint32_t *ids,
			const float *weights, const std::vector<float> &bias)
{
	const std::vector<double> p = probabilities(r, logits);
	std::vector<double> key = p, chosen;
	std::vector<std::pair<double, size_t>> order;
	double sum = 0;

	for (size_t e = 0; e < r->experts && !bias.empty(); e++)
		key[e] += bias[e];
	const std::vector<bool> ok = allowed(r, key);
	for (size_t e = 0; e < r->experts; e++)
		if (ok[e])
			order.push_back({ -key[e], e });
	std::sort(order.begin(), order.end());
	for (unsigned n = 0; n < r->k; n++) {
		check_equal("id", n, ids[n], (long long)order[n].second);
		chosen.push_back(p[order[n].second]);
	}
	if (r->gating == CUDA_GATE_SOFTMAX_TOPK) {
		const double largest = *std::max_element(chosen.begin(), chosen.end());
		double all = 0;

		for (double &v : chosen)
			all += v = exp(v - largest);
		for (double &v : chosen)
			v /= all;
	}
	for (double v : chosen)
		sum += v;
	for (unsigned n = 0; n < r->k; n++) {
		double w = chosen[n];

		if (r->norm)
			w /= std::max(sum, 6.103515625e-5);
		w *= r->scale;
		check_near("weight", n, weights[n], w,
			   (r->experts / 32.0 + 24) * 0x1p-23 * fabs(w) + 0x1p-126);
	}
}

static void check_case(struct shape s, enum cuda_gating gating, bool biases, bool norm, float scale)
{
	const std::vector<float> x = random_floats(s.tokens * s.d, 1.0f);
	const std::vector<float> w = random_floats(s.experts * s.d, 2.0f / sqrtf((float)s.d));
	const std::vector<float> bias = random_floats(biases ? s.experts : 0, 0.5f);
	const std::vector<float> select = random_floats(biases ? s.experts : 0, 0.1f);
	device_array<float> dx(x), dw(w), db(bias), ds(select);
	device_array<float> weights(s.tokens * s.k), logits(s.tokens * s.experts);
	device_array<uint32_t> ids(s.tokens * s.k);
	struct cuda_router r = {};

	r.gating = gating;
	r.x = dx.p;
	r.w = dw.p;
	r.bias = biases ? db.p : NULL;
	r.select_bias = biases ? ds.p : NULL;
	r.d = s.d;
	r.experts = s.experts;
	r.tokens = s.tokens;
	r.k = s.k;
	r.groups = s.groups;
	r.groups_used = s.groups_used;
	r.norm = norm;
	r.scale = scale;
	r.ids = ids.p;
	r.weights = weights.p;
	r.logits = logits.p;
	check_equal("router", 0, cuda_router(NULL, &r), 0);
	const std::vector<float> l = logits.get(), got = weights.get();
	const std::vector<uint32_t> id = ids.get();
	for (size_t i = 0; i < l.size(); i++) {
		double sum = biases ? bias[i % s.experts] : 0, size = fabs(sum);

		for (size_t k = 0; k < s.d; k++) {
			const double v =
				(double)w[i % s.experts * s.d + k] * x[i / s.experts * s.d + k];

			sum += v;
			size += fabs(v);
		}
		check_near("logit", i, l[i], sum, (s.d / 32.0 + 7) * 0x1p-24 * size);
	}
	for (size_t t = 0; t < s.tokens; t++)
		check_token(&r, l.data() + t * s.experts, id.data() + t * s.k, got.data() + t * s.k,
			    select);
	r.x = dx.p + (s.tokens - 1) * s.d; /* the last token alone */
	r.tokens = 1;
	check_equal("router", 0, cuda_router(NULL, &r), 0);
	check_bits("alone", weights.get().data(), got.data() + (s.tokens - 1) * s.k, s.k);
	check_bits("alone", ids.get().data(), id.data() + (s.tokens - 1) * s.k, s.k);
}

/* The shared expert's rank beside the same choice; its gate's logit is one more row. */
static void check_shared(struct shape s, size_t shift)
{
	const std::vector<float> gate = random_floats(s.d + shift, 0.2f);
	const size_t ranks = s.k + 1, rows = s.experts + 1;
	const std::vector<float> rx = random_floats(s.tokens * s.d, 1.0f);
	device_array<float> x(rx), w(random_floats(s.experts * s.d, 0.3f));
	device_array<float> dg(gate), weights(s.tokens * s.k), logits(s.tokens * s.experts);
	device_array<float> with(s.tokens * ranks), all(s.tokens * rows), one(s.tokens * ranks);
	device_array<uint32_t> ids(s.tokens * s.k), same(s.tokens * s.k);
	struct cuda_router r = {}, g;

	r.gating = CUDA_GATE_SOFTMAX;
	r.x = x.p;
	r.w = w.p;
	r.d = s.d;
	r.experts = s.experts;
	r.tokens = s.tokens;
	r.k = s.k;
	r.norm = true;
	r.scale = 2.0f;
	r.ids = ids.p;
	r.weights = weights.p;
	r.logits = logits.p;
	check_equal("router", 0, cuda_router(NULL, &r), 0);
	g = r;
	g.shared = true;
	g.shared_gate = dg.p + shift;
	g.ids = same.p;
	g.weights = with.p;
	g.logits = all.p;
	check_equal("shared", 0, cuda_router(NULL, &g), 0);
	g.shared_gate = NULL;
	g.weights = one.p;
	g.logits = logits.p;
	check_equal("ungated", 0, cuda_router(NULL, &g), 0);
	check_bits("ids", same.get().data(), ids.get().data(), s.tokens * s.k);
	const std::vector<float> got = with.get(), plain = weights.get(), ones = one.get();
	const std::vector<float> l = all.get(), alone = logits.get();
	for (size_t t = 0; t < s.tokens; t++) {
		double sum = 0;

		check_bits("weights", &got[t * ranks], &plain[t * s.k], s.k);
		check_bits("weights", &ones[t * ranks], &plain[t * s.k], s.k);
		check_bits("logits", &l[t * rows], &alone[t * s.experts], s.experts);
		check_equal("ungated", t, ones[t * ranks + s.k] == 1.0f, 1);
		for (size_t i = 0; i < s.d; i++)
			sum += (double)gate[shift + i] * rx[t * s.d + i];
		check_near("gate", t, l[t * rows + s.experts], sum, 1e-5);
		check_near("gate", t, got[t * ranks + s.k], 1 / (1 + exp(-sum)), 1e-5);
	}
}

/* Equal logits; then NaN in all but two experts, an infinity of either sign in one. */
static void check_ties_and_nan(void)
{
	static const uint32_t want[4][4] = {
		{ 0, 1, 2, 3 }, { 7, 35, 0, 1 }, { 0, 1, 2, 3 }, { 0, 1, 2, 3 }
	};
	std::vector<float> w(40 * 8, 0.0f), x(8, 1.0f);
	device_array<float> dx(x), weights(4), logits(40);
	device_array<uint32_t> ids(4);
	struct cuda_router r = {};

	for (int round = 0; round < 4; round++) {
		for (size_t e = 0; e < 40; e++)
			w[e * 8] = round != 1 ? 0.0f : e == 35 ? 1.0f : e == 7 ? 2.0f : NAN;
		if (round > 1)
			w[39 * 8] = round == 2 ? INFINITY : -INFINITY;
		device_array<float> dw(w);
		r.x = dx.p;
		r.w = dw.p;
		r.d = 8;
		r.experts = 40;
		r.tokens = 1;
		r.k = 4;
		r.norm = true;
		r.scale = 1.0f;
		r.ids = ids.p;
		r.weights = weights.p;
		r.logits = logits.p;
		check_equal("router", 0, cuda_router(NULL, &r), 0);
		const std::vector<uint32_t> id = ids.get();
		const std::vector<float> got = weights.get();
		check_bits("tie", id.data(), want[round], 4);
		for (size_t n = 0; n < 4; n++) {
			check_equal("NaN", n, isnan(got[n]), round != 0);
			if (!round)
				check_near("weight", n, got[n], 0.25, 1e-6);
		}
	}
}

static void check_refusals(void)
{
	device_array<float> f(64);
	device_array<uint32_t> u(64);
	struct cuda_router r = {}, bad;

	check_equal("no tokens", 0, cuda_router(NULL, &r), 0);
	r.x = r.w = f.p;
	r.weights = r.logits = f.p;
	r.ids = u.p;
	r.d = 4;
	r.experts = 8;
	r.tokens = 1;
	r.k = 9;
	check_equal("k", 0, cuda_router(NULL, &r), -EINVAL);
	r.k = 2;
	bad = r;
	bad.experts = 1025;
	check_equal("experts", 0, cuda_router(NULL, &bad), -EINVAL);
	bad = r;
	bad.groups = 3;
	bad.groups_used = 1;
	check_equal("groups", 0, cuda_router(NULL, &bad), -EINVAL);
	bad.groups = 8;
	check_equal("too few", 0, cuda_router(NULL, &bad), -EINVAL);
	bad = r;
	bad.logits = NULL;
	check_equal("logits", 0, cuda_router(NULL, &bad), -EINVAL);
}

int main(int argc, char **argv)
{
	static const struct shape small[] = { { 64, 32, 3, 4, 0, 0 },
					      { 100, 8, 1, 2, 1, 0 },
					      { 33, 100, 2, 7, 0, 0 },
					      { 37, 10, 11, 3, 0, 0 }, /* tiles with edges */
					      { 48, 64, 2, 6, 8, 3 } };
	static const struct shape published[] = { { 4096, 512, 4, 10, 0, 0 },
						  { 2048, 256, 4, 8, 8, 4 },
						  { 2048, 128, 9, 8, 0, 0 },
						  { 64, 1024, 1, 32, 32, 1 } };

	for (const struct shape &s : small)
		for (int g = 0; g < 3; g++)
			for (int b = 0; b < 2; b++)
				check_case(s, (enum cuda_gating)g, b, g != 2, g == 1 ? 2.5f : 1.0f);
	for (const struct shape &s : published)
		if (option_all(argc, argv))
			check_case(s, s.groups ? CUDA_GATE_SIGMOID : CUDA_GATE_SOFTMAX, s.groups,
				   true, 1.0f);
	check_shared({ 64, 32, 3, 4, 0, 0 }, 0);
	check_shared({ 100, 33, 9, 2, 0, 0 }, 1);
	check_ties_and_nan();
	check_refusals();
	return values_report("router");
}
