/* SPDX-License-Identifier: MIT */
/*
 * Description: DeltaNet's norm and gate of the output on a GPU: values, int8 form, rows alone, refusals.
 *
 * With u = 2^-24: a sum of dim squares, 4 + 5 additions on a path, a quotient and eps are 11 u, half of
 * it in the root; root and quotient 2 u, three products 3 u, SiLU 6 u (4 of expf): 16.5 u in all. The
 * int8 form is checked against the floats written beside it, as ops.h promises it.
 */
#include "tests/gpu/delta_rig.h"
#include "tests/gpu/delta_ref.h"
#include "tests/gpu/law_ref.h"

#define EPS 1e-6f

static const struct cuda_act no_act = { CUDA_IN_NONE, NULL };

/* Q8_K where rows have it, else Q8_0 */
static enum cuda_input form_of(size_t n)
{
	return n % 256 ? CUDA_IN_Q8_0 : CUDA_IN_Q8_K;
}

struct out_case {
	size_t tokens, heads, dim;
	std::vector<float> o, z, w, out;
	std::vector<uint8_t> act;

	out_case(size_t t, size_t h, size_t d, uint64_t seed) : tokens(t), heads(h), dim(d)
	{
		rig_random r(seed);

		o = r.many(t * h * d, -0.2f, 0.2f);
		z = r.many(t * h * d, -9.0f, 9.0f);
		w = r.many(d, 0.5f, 2.0f);
		out.assign(o.size(), NAN);
		act.assign(t * cuda_act_bytes(h * d), 0xee);
	}
	/* @skew: inputs that are 4-aligned only */
	int run(bool want_out, bool want_act, size_t skew = 0)
	{
		std::vector<float> shifted(skew, 0.0f);

		shifted.insert(shifted.end(), o.begin(), o.end());
		on_device<float> d_o(shifted), d_z(z), d_w(w), d_out(out);
		on_device<uint8_t> d_act(act);
		const int ret = cuda_delta_out(NULL, d_o.at + skew, d_z.at, d_w.at, tokens, heads,
					       dim, EPS, want_out ? d_out.at : NULL,
					       want_act ? cuda_act{ form_of(heads * dim), d_act.at }
							: no_act);

		out = d_out.back();
		act = d_act.back();
		return ret;
	}
};

static void compare_values(const out_case &c)
{
	for (size_t at = 0; at < c.o.size(); at += c.dim) {
		double sum = 0.0;

		for (size_t i = 0; i < c.dim; i++)
			sum += (double)c.o[at + i] * c.o[at + i];
		for (size_t i = 0; i < c.dim; i++) {
			const double z = c.z[at + i];
			const double want = c.o[at + i] / sqrt(sum / c.dim + EPS) * c.w[i] * z /
					    (1.0 + exp(-z));

			MUST(fabs(c.out[at + i] - want) <=
			     16.5 * REF_U * fabs(want) * 1.001 + REF_TINY);
		}
	}
}

static void compare_act(const out_case &c)
{
	const unsigned faults = values_faults;

	check_act("act", form_of(c.heads * c.dim), c.out, c.heads * c.dim, c.act);
	MUST(values_faults == faults);
}

static void values(size_t tokens, size_t heads, size_t dim)
{
	out_case c(tokens, heads, dim, tokens + heads), floats = c, ints = c, skewed = c;

	MUST(c.run(true, true) == 0);
	compare_values(c);
	compare_act(c);
	MUST(floats.run(true, false) == 0 && ints.run(false, true) == 0);
	MUST(floats.out == c.out && ints.act == c.act);
	MUST(skewed.run(true, true, 1) == 0);
	MUST(skewed.out == c.out && skewed.act == c.act);
}

/* The last of five tokens alone. */
static void alone(void)
{
	out_case all(5, 3, 64, 3), one = all;
	const size_t n = 192;

	one.tokens = 1;
	one.o.assign(all.o.begin() + 4 * n, all.o.end());
	one.z.assign(all.z.begin() + 4 * n, all.z.end());
	one.out.resize(n);
	one.act.resize(cuda_act_bytes(n));
	MUST(all.run(true, true) == 0 && one.run(true, true) == 0);
	MUST(memcmp(one.out.data(), &all.out[4 * n], n * 4) == 0);
	MUST(memcmp(one.act.data(), &all.act[4 * cuda_act_bytes(n)], n + n / 8 * 2) == 0);
}

static void refusals(void)
{
	float x[8];

	MUST(cuda_delta_out(NULL, NULL, NULL, NULL, 0, 4, 64, EPS, NULL, no_act) == 0);
	MUST(cuda_delta_out(NULL, x, x, x, 1, 4, 48, EPS, x, no_act) == -EINVAL);
	MUST(cuda_delta_out(NULL, x, x, x, 1, 4, 64, EPS, NULL, no_act) == -EINVAL);
	MUST(cuda_delta_out(NULL, x, NULL, x, 1, 4, 64, EPS, x, no_act) == -EINVAL);
	MUST(cuda_delta_out(NULL, x, x, x, 1, 4, 64, EPS, x, { CUDA_IN_Q8_0, (uint8_t *)x + 1 }) ==
	     -EINVAL);
}

int main(int argc, char **argv)
{
	values(1, 1, 64);
	values(3, 5, 128);
	values(7, 3, 64);
	values(3, 8, 64);
	values(2, 6, 128);
	alone();
	refusals();
	if (argc > 1 && !strcmp(argv[1], "--all"))
		values(17, 64, 128);
	return 0;
}
