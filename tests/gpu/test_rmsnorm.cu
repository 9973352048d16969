/* SPDX-License-Identifier: MIT */
/*
 * Description: residual add and RMSNorm against sums in double, and their int8 form; with the reduction over
 * experts before it, the bits of the two operations in turn.
 *
 * The bound is that of rmsnorm.cu: 18 * 2^-24 of each value. The residual is one float addition and
 * the int8 forms follow from the floats the kernel wrote: both are compared bit for bit.
 */
#include "tests/gpu/law_ref.h"

#include <errno.h>

#define EPS 1e-6f

static const struct cuda_act no_act = { CUDA_IN_NONE, NULL };

/* Q8_K where rows have it, else Q8_0 */
static enum cuda_input form_of(size_t n)
{
	return n % 256 ? CUDA_IN_Q8_0 : CUDA_IN_Q8_K;
}

struct result {
	std::vector<float> res, out;
	std::vector<uint8_t> act;
};

/* @shift: floats by which every array is off its alignment */
static struct result run(const std::vector<float> &res, const std::vector<float> &x,
			 const std::vector<float> &w, size_t n, size_t shift, bool want_out,
			 bool want_act)
{
	const size_t rows = (res.empty() ? x : res).size() / n;
	std::vector<float> pad(shift, 0.0f), r = pad, in = pad, weights = pad;
	device_array<float> out(shift + rows * n);
	device_array<uint8_t> act(rows * cuda_act_bytes(n));
	struct result got;

	r.insert(r.end(), res.begin(), res.end());
	in.insert(in.end(), x.begin(), x.end());
	weights.insert(weights.end(), w.begin(), w.end());
	device_array<float> dr(r), dx(in), dw(weights);
	check_equal("rmsnorm", n,
		    cuda_rmsnorm(NULL, res.empty() ? NULL : dr.p + shift,
				 x.empty() ? NULL : dx.p + shift, dw.p + shift, n, rows, EPS,
				 want_out ? out.p + shift : NULL,
				 want_act ? cuda_act{ form_of(n), act.p } : no_act),
		    0);
	got.res = dr.get();
	got.res.erase(got.res.begin(), got.res.begin() + (long)shift);
	got.out = out.get();
	got.out.erase(got.out.begin(), got.out.begin() + (long)shift);
	got.act = act.get();
	return got;
}

static void check_case(size_t n, size_t rows, bool with_res, bool with_x, size_t shift)
{
	const std::vector<float> none, w = random_floats(n, 1.0f);
	std::vector<float> res = random_floats(rows * n, 30.0f), x = random_floats(rows * n, 3.0f);
	std::vector<float> v(rows * n);
	struct result all, floats, bytes;

	if (rows > 2) /* a row of zeros */
		for (size_t i = 0; i < n; i++)
			res[n + i] = x[n + i] = 0.0f;
	for (size_t i = 0; i < rows * n; i++)
		v[i] = with_res && with_x ? res[i] + x[i] : with_res ? res[i] : x[i];
	all = run(with_res ? res : none, with_x ? x : none, w, n, shift, true, true);
	if (with_res)
		check_bits("residual", all.res.data(), v.data(), rows * n);
	for (size_t r = 0; r < rows; r++) {
		double sum = 0;

		for (size_t i = 0; i < n; i++)
			sum += (double)v[r * n + i] * v[r * n + i];
		for (size_t i = 0; i < n; i++) {
			const double y = v[r * n + i] / sqrt(sum / n + (double)EPS) * w[i];

			check_near("norm", r * n + i, all.out[r * n + i], y,
				   18 * 0x1p-24 * fabs(y) + 0x1p-140);
		}
	}
	check_act("act", form_of(n), all.out, n, all.act);
	floats = run(with_res ? res : none, with_x ? x : none, w, n, shift, true, false);
	bytes = run(with_res ? res : none, with_x ? x : none, w, n, shift, false, true);
	check_bits("floats alone", floats.out.data(), all.out.data(), rows * n);
	for (size_t r = 0; r < rows; r++) /* without the padding */
		check_bits("bytes alone", bytes.act.data() + r * cuda_act_bytes(n),
			   all.act.data() + r * cuda_act_bytes(n), n + n / 32 * 4 + n / 16 * 2);
	for (size_t r = 0; r < rows && rows > 1; r++) {
		const std::vector<float> one(v.begin() + (long)(r * n),
					     v.begin() + (long)(r * n + n));
		const struct result alone = run(one, none, w, n, 1 - shift % 2, true, false);

		check_bits("row alone", alone.out.data(), all.out.data() + r * n, n);
	}
}

/* Partial rows on both sides, some left out, the ranks in any order. */
static void check_experts(size_t n, size_t rows, unsigned k, size_t shift, bool two)
{
	std::vector<float> r = random_floats(shift + rows * n, 3.0f), w = random_floats(n, 1.0f);
	device_array<float> near(random_floats(shift + rows * k * n, 1.0f));
	device_array<float> far(random_floats(rows * k * n, 1.0f)),
		weights(random_floats(rows * k, 1.0f));
	device_array<float> dw(w), res(r), want(r), y(rows * n), out(rows * n), want_out(rows * n);
	device_array<uint8_t> act(rows * cuda_act_bytes(n)), want_act(rows * cuda_act_bytes(n));
	std::vector<uint32_t> place(rows * k);

	for (size_t i = 0; i < place.size(); i++)
		place[i] = i % 5 == 4
				   ? UINT32_MAX
				   : (uint32_t)(place.size() - 1 - i) + (i % 3 ? CUDA_MAPPED : 0);
	device_array<uint32_t> dp(place);
	const struct cuda_expert_sum s = { near.p + shift, two ? far.p : NULL, two ? dp.p : NULL,
					   weights.p, k };

	if (two)
		check_equal("reduce", n,
			    cuda_expert_reduce_two(NULL, s.partial, far.p, dp.p, weights.p, rows, k,
						   n, false, y.p),
			    0);
	else
		check_equal("reduce", n,
			    cuda_expert_reduce(NULL, s.partial, NULL, weights.p, rows, k, n, false,
					       y.p),
			    0);
	check_equal("norm", n,
		    cuda_rmsnorm(NULL, want.p + shift, y.p, dw.p, n, rows, EPS, want_out.p,
				 { form_of(n), want_act.p }),
		    0);
	check_equal("both", n,
		    cuda_expert_reduce_norm(NULL, &s, res.p + shift, dw.p, n, rows, EPS, out.p,
					    { form_of(n), act.p }),
		    0);
	check_bits("stream", res.get().data(), want.get().data(), shift + rows * n);
	check_bits("normed", out.get().data(), want_out.get().data(), rows * n);
	check_act("act", form_of(n), out.get(), n, act.get());
}

static void check_refusals(void)
{
	device_array<float> x(64);
	struct cuda_expert_sum s = { x.p, NULL, NULL, x.p, 1 }, bad = s;

	bad.k = 0;
	check_equal("k", 0, cuda_expert_reduce_norm(NULL, &bad, x.p, x.p, 32, 1, EPS, x.p, no_act),
		    -EINVAL);
	bad = s;
	bad.mapped = x.p;
	check_equal("no places", 0,
		    cuda_expert_reduce_norm(NULL, &bad, x.p, x.p, 32, 1, EPS, x.p, no_act),
		    -EINVAL);
	check_equal("no stream", 0,
		    cuda_expert_reduce_norm(NULL, &s, NULL, x.p, 32, 1, EPS, x.p, no_act), -EINVAL);

	check_equal("n 0", 0, cuda_rmsnorm(NULL, NULL, x.p, x.p, 0, 1, EPS, x.p, no_act), -EINVAL);
	check_equal("n 33", 0, cuda_rmsnorm(NULL, NULL, x.p, x.p, 33, 1, EPS, x.p, no_act),
		    -EINVAL);
	check_equal("n 16416", 0, cuda_rmsnorm(NULL, NULL, x.p, x.p, 16416, 1, EPS, x.p, no_act),
		    -EINVAL);
	check_equal("no input", 0, cuda_rmsnorm(NULL, NULL, NULL, x.p, 32, 1, EPS, x.p, no_act),
		    -EINVAL);
	check_equal("no weights", 0, cuda_rmsnorm(NULL, NULL, x.p, NULL, 32, 1, EPS, x.p, no_act),
		    -EINVAL);
	check_equal("act off", 0,
		    cuda_rmsnorm(NULL, NULL, x.p, x.p, 32, 1, EPS, NULL,
				 { CUDA_IN_Q8_0, (uint8_t *)x.p + 4 }),
		    -EINVAL);
	check_equal("act form", 0,
		    cuda_rmsnorm(NULL, NULL, x.p, x.p, 32, 1, EPS, NULL, { CUDA_IN_Q8_K, x.p }),
		    -EINVAL);
	check_equal("no rows", 0, cuda_rmsnorm(NULL, NULL, NULL, NULL, 32, 0, EPS, NULL, no_act),
		    0);
}

int main(int argc, char **argv)
{
	static const size_t small[] = { 32, 96, 256, 416, 768, 1056, 4128, 4352 };
	static const size_t published[] = { 2048, 3072, 4096, 5120, 16384 };

	for (size_t n : small)
		for (int c = 1; c < 4; c++)
			check_case(n, n < 1000 ? 3 : 1, c & 1, c & 2, n % 3 == 0 ? 1 : 0);
	if (option_all(argc, argv))
		for (size_t n : published)
			check_case(n, 37, true, true, 0);
	check_experts(256, 3, 5, 0, true);
	check_experts(416, 2, 9, 1, true);
	check_experts(2048, 1, 11, 0, true);
	check_experts(96, 2, 4, 0, false);
	check_refusals();
	return values_report("rmsnorm");
}
