/* SPDX-License-Identifier: MIT */
/*
 * Description: DeltaNet's convolution on a GPU: values, the window after runs of 1, 2, 3 and more, cuts.
 *
 * With u = 2^-24: four products and their sum are within 4 u of the sum of absolute values, and
 * SiLU turns that into at most 1.1 of it; SiLU's own error is 4 u of expf, and 2 u for the sum and the
 * quotient. The window is copied, so it is compared to the bit.
 */
#include "tests/gpu/delta_rig.h"
#include "tests/gpu/delta_ref.h"

struct conv_case {
	struct cuda_delta_shape shape;
	std::vector<uint32_t> start, slot;
	std::vector<float> x, w, state, out;
	size_t channels, max_run = 0, stride = 0;

	conv_case(struct cuda_delta_shape s, const std::vector<uint32_t> &runs, uint64_t seed)
	    : shape(s), start(1, 0u), channels((2 * s.k_heads + s.v_heads) * s.dim)
	{
		rig_random r(seed);

		for (uint32_t n : runs) {
			start.push_back(start.back() + n);
			slot.push_back((uint32_t)(runs.size() - slot.size()));
			max_run = n > max_run ? n : max_run;
		}
		x = r.many(start.back() * channels, -3.0f, 3.0f);
		w = r.many(channels * 4, -1.0f, 1.0f);
		state = r.many((runs.size() + 1) * 3 * channels, -3.0f, 3.0f);
		out.assign(x.size(), NAN);
	}
	int run(size_t skew = 0)
	{
		std::vector<float> shifted(skew, 0.0f);

		shifted.insert(shifted.end(), w.begin(), w.end());
		on_device<float> dx(x), dw(shifted), ds(state), dout(out);
		on_device<uint32_t> from(start), where(slot);
		const struct cuda_delta_batch b = { slot.size(), start.back(), max_run,
						    from.at,	 where.at,     stride };
		const int ret =
			cuda_delta_conv(NULL, &shape, &b, dx.at, dw.at + skew, ds.at, dout.at);

		out = dout.back();
		state = ds.back();
		return ret;
	}
};

/* Input of sequence @s at place @t - 3 .. : the saved window, then the run. */
static float input(const conv_case &c, size_t s, size_t at, size_t channel)
{
	if (at < 3)
		return c.state[(c.slot[s] * 3 + at) * c.channels + channel];
	return c.x[(c.start[s] + at - 3) * c.channels + channel];
}

static void compare(const conv_case &before, const conv_case &after, size_t s, size_t channel)
{
	const size_t run = before.start[s + 1] - before.start[s];

	for (size_t t = 0; t < run; t++) {
		double sum = 0.0, absolute = 0.0, silu;

		for (size_t m = 0; m < 4; m++) {
			const double p = (double)before.w[channel * 4 + m] *
					 input(before, s, t + m, channel);

			sum += p;
			absolute += fabs(p);
		}
		silu = sum / (1.0 + exp(-sum));
		MUST(fabs(after.out[(before.start[s] + t) * before.channels + channel] - silu) <=
		     REF_U * (4.4 * absolute + 6.0 * fabs(silu)) * 1.001);
	}
	for (size_t m = 0; m < 3; m++)
		MUST(after.state[(before.slot[s] * 3 + m) * before.channels + channel] ==
		     input(before, s, run + m, channel));
}

/* The same with a state's row wherever the batch says: nothing between them is touched. */
static void apart(struct cuda_delta_shape shape, std::vector<uint32_t> runs, size_t more)
{
	conv_case near(shape, runs, runs.size()), far = near;
	const size_t own = 3 * near.channels, stride = own + more;
	std::vector<float> spread((runs.size() + 1) * stride, 7.0f);

	for (size_t i = 0; i <= runs.size(); i++)
		std::copy(&near.state[i * own], &near.state[i * own] + own, &spread[i * stride]);
	far.state = spread;
	far.stride = stride;
	MUST(near.run() == 0 && far.run() == 0);
	MUST(far.out == near.out);
	for (size_t i = 0; i < spread.size(); i++)
		MUST(far.state[i] ==
		     (i % stride < own ? near.state[i / stride * own + i % stride] : 7.0f));
	far.stride = own - 4;
	MUST(far.run() == -EINVAL);
	far.stride = own + 2;
	MUST(far.run() == -EINVAL);
}

static void values(struct cuda_delta_shape shape, std::vector<uint32_t> runs)
{
	conv_case before(shape, runs, runs.size()), after = before, skewed = before;

	MUST(after.run() == 0 && skewed.run(1) == 0);
	for (size_t s = 0; s < runs.size(); s++)
		for (size_t c = 0; c < before.channels; c++)
			compare(before, after, s, c);
	for (size_t i = 0; i < 3 * before.channels; i++) /* nobody's slot */
		MUST(after.state[i] == before.state[i]);
	MUST(skewed.out == after.out && skewed.state == after.state);
}

/* A run of @whole tokens is runs of @first and the rest, to the bit. */
static void cut(uint32_t whole, uint32_t first)
{
	conv_case all({ 1, 1, 64, false }, { whole }, whole), a = all, b = all;

	a.start[1] = first;
	a.max_run = first;
	b.start[1] = whole - first;
	b.max_run = whole - first;
	b.x.erase(b.x.begin(), b.x.begin() + first * b.channels);
	MUST(all.run() == 0 && a.run() == 0);
	b.state = a.state;
	MUST(b.run() == 0);
	MUST(b.state == all.state);
	MUST(memcmp(a.out.data(), all.out.data(), first * all.channels * 4) == 0);
	MUST(memcmp(b.out.data(), &all.out[first * all.channels],
		    (whole - first) * all.channels * 4) == 0);
}

static void refusals(void)
{
	const struct cuda_delta_shape shape = { 1, 2, 64, false }, odd = { 2, 3, 64, false };
	struct cuda_delta_batch b = {};
	float some[8];
	uint32_t runs[2] = {};

	MUST(cuda_delta_conv(NULL, &shape, &b, NULL, NULL, NULL, NULL) == 0); /* no tokens */
	b.sequences = b.tokens = b.max_run = 1;
	MUST(cuda_delta_conv(NULL, &shape, &b, some, some, some, some + 4) == -EINVAL);
	b.start = b.slot = runs;
	MUST(cuda_delta_conv(NULL, &odd, &b, some, some, some, some + 4) == -EINVAL);
	MUST(cuda_delta_conv(NULL, &shape, &b, some, some, NULL, some + 4) == -EINVAL);
	MUST(cuda_delta_conv(NULL, &shape, &b, some, some, some, some) == -EINVAL); /* in place */
	b.max_run = 0;
	MUST(cuda_delta_conv(NULL, &shape, &b, some, some, some, some + 4) == -EINVAL);
}

int main(int argc, char **argv)
{
	values({ 1, 1, 64, false }, { 1 });
	values({ 1, 2, 64, false }, { 1, 2, 3, 0, 4, 33 });
	values({ 1, 1, 128, true }, { 100, 1 });
	apart({ 1, 2, 64, false }, { 1, 2, 3, 0, 4, 33 }, 4096);
	cut(10, 1);
	cut(10, 2);
	cut(10, 3);
	cut(70, 33);
	refusals();
	if (argc > 1 && !strcmp(argv[1], "--all"))
		values({ 16, 64, 128, false }, { 70, 1, 2 });
	return 0;
}
