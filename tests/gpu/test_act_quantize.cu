/* SPDX-License-Identifier: MIT */
/*
 * Description: float rows to int8 rows of both forms: scales, quants and sums have the bits of the CPU's
 * rules, whatever the stride, alignment and number of rows; zeros, ties, subnormals, equal magnitudes of
 * both signs, values that are not finite.
 */
#include "tests/gpu/law_ref.h"

#include <errno.h>

static const enum cuda_input forms[] = { CUDA_IN_Q8_0, CUDA_IN_Q8_K };

static void check_rows(enum cuda_input form, const std::vector<float> &x, size_t n, size_t rows,
		       size_t ldx, size_t shift)
{
	device_array<uint8_t> act(rows * cuda_act_bytes(n));
	device_array<float> dx(x);
	std::vector<float> tight;

	check_equal("quantize", n, cuda_act_quantize(NULL, form, dx.p + shift, ldx, n, rows, act.p),
		    0);
	for (size_t r = 0; r < rows; r++)
		tight.insert(tight.end(), x.begin() + (long)(shift + r * ldx),
			     x.begin() + (long)(shift + r * ldx + n));
	check_act(form == CUDA_IN_Q8_K ? "Q8_K" : "Q8_0", form, tight, n, act.get());
}

static void check_case(size_t n, size_t rows, size_t ldx, size_t shift)
{
	std::vector<float> x = random_floats(shift + rows * ldx, 3.0f);

	for (size_t i = 0; i < 32 && rows > 1; i++)
		x[shift + ldx + i] = 0.0f; /* a scale of zero */
	x[shift] = -127.0f;
	x[shift + 1] = 63.5f; /* a tie */
	x[shift + 2] = 0.5f;
	x[shift + n - 1] = 1e-38f;
	for (enum cuda_input form : forms)
		if (cuda_act_fits(form, n))
			check_rows(form, x, n, rows, ldx, shift);
}

/* The largest twice, with both signs, at every place of a block */
static void check_equals(void)
{
	for (size_t i = 0; i < 255; i++) {
		std::vector<float> x = random_floats(256, 1.0f);

		x[i] = i % 2 ? 9.0f : -9.0f;
		x[255 - (i % 7)] = i % 2 ? -9.0f : 9.0f;
		for (enum cuda_input form : forms)
			check_rows(form, x, 256, 1, 256, 0);
	}
}

/* A block with something that is not finite, at each place of it; tiny and huge ones. */
static void check_edges(void)
{
	static const float kinds[] = { NAN, -NAN, INFINITY, -INFINITY };
	static const float scales[] = { 1e-45f, 1e-44f, 3e-43f, 1e-39f, 1e-37f, 1e37f, 5e37f };

	for (size_t i = 0; i < 256; i++) {
		std::vector<float> x = random_floats(512, 3.0f);

		x[256 + i] = kinds[i % 4];
		for (enum cuda_input form : forms)
			check_rows(form, x, 512, 1, 512, 0);
	}
	for (float s : scales) {
		std::vector<float> x = random_floats(512, s);

		x[5] = s;
		x[300] = 0.0f;
		for (enum cuda_input form : forms)
			check_rows(form, x, 512, 1, 512, 0);
	}
	check_rows(CUDA_IN_Q8_K, std::vector<float>(256, 0.0f), 256, 1, 256, 0);
}

int main(int argc, char **argv)
{
	device_array<float> x(64);
	device_array<uint8_t> act(cuda_act_bytes(64));

	check_case(32, 1, 32, 0);
	check_case(96, 5, 101, 1);
	check_case(160, 3, 160, 3);
	check_case(1056, 2, 1060, 0);
	check_case(1280, 3, 1283, 1);
	check_equals();
	check_edges();
	if (option_all(argc, argv)) {
		check_case(4096, 64, 4096, 0);
		check_case(17408, 9, 17408, 0);
	}
	check_equal("no rows", 0, cuda_act_quantize(NULL, CUDA_IN_Q8_0, NULL, 0, 0, 0, NULL), 0);
	check_equal("n", 0, cuda_act_quantize(NULL, CUDA_IN_Q8_0, x.p, 33, 33, 1, act.p), -EINVAL);
	check_equal("n", 0, cuda_act_quantize(NULL, CUDA_IN_Q8_K, x.p, 64, 64, 1, act.p), -EINVAL);
	check_equal("form", 0, cuda_act_quantize(NULL, CUDA_IN_F32, x.p, 64, 64, 1, act.p),
		    -EINVAL);
	check_equal("ldx", 0, cuda_act_quantize(NULL, CUDA_IN_Q8_0, x.p, 31, 32, 1, act.p),
		    -EINVAL);
	check_equal("x", 0, cuda_act_quantize(NULL, CUDA_IN_Q8_0, NULL, 32, 32, 1, act.p), -EINVAL);
	check_equal("act", 0, cuda_act_quantize(NULL, CUDA_IN_Q8_0, x.p, 32, 32, 1, NULL), -EINVAL);
	return values_report("act_quantize");
}
