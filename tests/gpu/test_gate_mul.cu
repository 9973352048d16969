/* SPDX-License-Identifier: MIT */
/*
 * Description: attention's gate against exp in double.
 *
 * Bound: expf within 2 ulp moves the sigmoid by at most 2^-22 of itself, the sum, the division and
 * the product add a rounding each: 2^-22 + 3 * 2^-24 < 2^-21 of each value.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

static void check_case(size_t tokens, size_t heads, size_t dim, bool beside)
{
	const size_t step = beside ? 2 * dim : dim, ld = heads * step + 5, row = heads * dim;
	const std::vector<float> x = random_floats(tokens * row, 2.0f);
	const std::vector<float> gate = random_floats(tokens * ld, 8.0f);
	device_array<float> dx(x), dg(gate);
	std::vector<float> got;

	check_equal("gate_mul", dim, cuda_gate_mul(NULL, dx.p, dg.p, ld, step, tokens, heads, dim),
		    0);
	got = dx.get();
	for (size_t i = 0; i < x.size(); i++) {
		const size_t t = i / row, h = i % row / dim;
		const double g = gate[t * ld + h * step + i % dim], y = x[i] / (1.0 + exp(-g));

		check_near("gated", i, got[i], y, 0x1p-21 * fabs(y) + 0x1p-140);
	}
	if (tokens < 2)
		return;
	device_array<float> one(std::vector<float>(x.end() - (long)row, x.end()));
	cuda_gate_mul(NULL, one.p, dg.p + (tokens - 1) * ld, ld, step, 1, heads, dim);
	check_bits("token alone", one.get().data(), got.data() + (tokens - 1) * row, row);
}

/* A gate that is not finite must not pass for 0 or 1. */
static void check_not_finite(void)
{
	device_array<float> x(std::vector<float>(4, 2.0f));
	device_array<float> gate(std::vector<float>{ NAN, INFINITY, -INFINITY, 1e38f });

	check_equal("gate_mul", 0, cuda_gate_mul(NULL, x.p, gate.p, 4, 4, 1, 1, 4), 0);
	for (size_t i = 0; i < 4; i++)
		check_equal("NaN", i, isnan(x.get()[i]), i < 3);
	check_near("gated", 3, x.get()[3], 2.0, 0);
}

int main(int argc, char **argv)
{
	device_array<float> x(64);

	check_case(1, 1, 1, false);
	check_case(3, 5, 64, true);
	check_case(7, 2, 128, false);
	check_case(2, 3, 33, true);
	check_not_finite();
	if (option_all(argc, argv))
		check_case(129, 32, 256, true);
	check_equal("none", 0, cuda_gate_mul(NULL, NULL, NULL, 0, 0, 0, 4, 64), 0);
	check_equal("no gate", 0, cuda_gate_mul(NULL, x.p, NULL, 64, 64, 1, 1, 64), -EINVAL);
	check_equal("step", 0, cuda_gate_mul(NULL, x.p, x.p, 64, 63, 1, 1, 64), -EINVAL);
	check_equal("ld", 0, cuda_gate_mul(NULL, x.p, x.p, 64, 64, 1, 2, 64), -EINVAL);
	return values_report("gate_mul");
}
