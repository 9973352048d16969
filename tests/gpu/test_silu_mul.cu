/* SPDX-License-Identifier: MIT */
/*
 * Description: silu(gate) * up against double, and its int8 form against cuda_act_quantize of the
 * same floats; large and small gates, rows apart, one output or both.
 *
 * Bound: expf 2 ulp, a sum, a division, a product: 6 * 2^-24 of the value (and the least normal).
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

static void check_case(size_t n, size_t rows, size_t ld)
{
	std::vector<float> gate = random_floats(rows * ld, 4.0f);
	const std::vector<float> up = random_floats(rows * ld, 1.0f);
	device_array<float> out(rows * n);
	device_array<uint8_t> act(rows * cuda_act_bytes(n)), alone(rows * cuda_act_bytes(n)),
		want(rows * cuda_act_bytes(n));

	gate[0] = -200.0f; /* exp overflows */
	gate[1] = 200.0f;
	gate[2] = 0.0f;
	device_array<float> dg(gate), du(up);
	check_equal("silu", n, cuda_silu_mul(NULL, dg.p, du.p, ld, n, rows, out.p, act.p), 0);
	const std::vector<float> got = out.get();
	for (size_t i = 0; i < rows * n; i++) {
		const double g = gate[i / n * ld + i % n], u = up[i / n * ld + i % n];
		const double v = g / (1 + exp(-g)) * u;

		check_near("silu", i, got[i], v, 6 * 0x1p-24 * fabs(v) + 0x1p-126);
	}
	check_equal("quantize", n, cuda_act_quantize(NULL, out.p, n, n, rows, want.p), 0);
	check_equal("silu", n, cuda_silu_mul(NULL, dg.p, du.p, ld, n, rows, NULL, alone.p), 0);
	for (size_t r = 0; r < rows; r++) { /* padding is nobody's */
		const size_t at = r * cuda_act_bytes(n), bytes = n + n / 32 * 4 + n / 16 * 2;

		check_bits("act", act.get().data() + at, want.get().data() + at, bytes);
		check_bits("act alone", alone.get().data() + at, want.get().data() + at, bytes);
	}
}

int main(int argc, char **argv)
{
	device_array<float> x(64);

	check_case(32, 1, 32);
	check_case(96, 5, 96);
	check_case(416, 3, 450);
	if (option_all(argc, argv))
		check_case(17408, 9, 17408);
	check_equal("no rows", 0, cuda_silu_mul(NULL, NULL, NULL, 0, 0, 0, NULL, NULL), 0);
	check_equal("odd", 0, cuda_silu_mul(NULL, x.p, x.p, 33, 33, 1, NULL, x.p), -EINVAL);
	check_equal("odd floats", 0, cuda_silu_mul(NULL, x.p, x.p, 33, 33, 1, x.p, NULL), 0);
	check_equal("ld", 0, cuda_silu_mul(NULL, x.p, x.p, 31, 32, 1, x.p, NULL), -EINVAL);
	check_equal("nothing", 0, cuda_silu_mul(NULL, x.p, x.p, 32, 32, 1, NULL, NULL), -EINVAL);
	check_equal("gate", 0, cuda_silu_mul(NULL, NULL, x.p, 32, 32, 1, x.p, NULL), -EINVAL);
	return values_report("silu_mul");
}
