/* SPDX-License-Identifier: MIT */
/*
 * Description: float rows to int8 rows: scales, quants and sums bit for bit as ops.h defines them,
 * whatever the stride, alignment and number of rows; zeros, and values at the edges.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

static bool any_broken(const float *x)
{
	for (size_t i = 0; i < 32; i++)
		if (!isfinite(x[i]))
			return true;
	return false;
}

static void check_row(const float *x, const uint8_t *at, size_t n)
{
	for (size_t b = 0; b < n / 32; b++) {
		float big = 0.0f, d, scale;

		for (size_t i = 32 * b; i < 32 * b + 32; i++)
			big = fmaxf(big, fabsf(x[i]));
		scale = big / 127.0f;
		memcpy(&d, at + n + 4 * b, 4);
		if (any_broken(x + 32 * b))
			check_equal("NaN scale", b, isnan(d), true);
		else
			check_bits("scale", &d, &scale, 1);
		for (size_t h = 0; h < 2; h++) {
			int16_t s;
			int sum = 0;

			for (size_t i = 32 * b + 16 * h; i < 32 * b + 16 * h + 16; i++) {
				float q = d > 0 ? rintf(x[i] / d) : 0.0f;

				q = fminf(fmaxf(q, -127.0f), 127.0f);
				check_equal("q", i, (int8_t)at[i], (int)q);
				sum += (int)q;
			}
			memcpy(&s, at + n + n / 32 * 4 + (2 * b + h) * 2, 2);
			check_equal("sum", 2 * b + h, s, sum);
		}
	}
}

static void check_case(size_t n, size_t rows, size_t ldx, size_t shift)
{
	std::vector<float> x = random_floats(shift + rows * ldx, 3.0f);
	device_array<uint8_t> act(rows * cuda_act_bytes(n));

	for (size_t i = 0; i < 32 && rows > 1; i++)
		x[shift + ldx + i] = 0.0f; /* a scale of zero */
	x[shift] = -127.0f;
	x[shift + 1] = 63.5f; /* a tie */
	x[shift + n - 1] = 1e-38f;
	device_array<float> dx(x);
	check_equal("quantize", n, cuda_act_quantize(NULL, dx.p + shift, ldx, n, rows, act.p), 0);
	const std::vector<uint8_t> got = act.get();
	for (size_t r = 0; r < rows; r++)
		check_row(x.data() + shift + r * ldx, got.data() + r * cuda_act_bytes(n), n);
}

/* A block with something that is not finite, in each lane of it: NaN scale, no integers. */
static void check_not_finite(void)
{
	static const float kinds[] = { NAN, -NAN, INFINITY, -INFINITY };
	device_array<uint8_t> act(cuda_act_bytes(160));

	for (size_t i = 0; i < 128; i++) {
		std::vector<float> x = random_floats(160, 3.0f);

		x[64 + i % 32] = kinds[i / 32];
		device_array<float> dx(x);
		check_equal("quantize", i, cuda_act_quantize(NULL, dx.p, 160, 160, 1, act.p), 0);
		check_row(x.data(), act.get().data(), 160);
	}
}

int main(int argc, char **argv)
{
	device_array<float> x(64);
	device_array<uint8_t> act(cuda_act_bytes(64));

	check_case(32, 1, 32, 0);
	check_case(96, 5, 101, 1);
	check_case(160, 3, 160, 3);
	check_case(1056, 2, 1060, 0);
	check_not_finite();
	if (option_all(argc, argv)) {
		check_case(4096, 64, 4096, 0);
		check_case(17408, 9, 17408, 0);
	}
	check_equal("no rows", 0, cuda_act_quantize(NULL, NULL, 0, 0, 0, NULL), 0);
	check_equal("n", 0, cuda_act_quantize(NULL, x.p, 33, 33, 1, act.p), -EINVAL);
	check_equal("ldx", 0, cuda_act_quantize(NULL, x.p, 31, 32, 1, act.p), -EINVAL);
	check_equal("x", 0, cuda_act_quantize(NULL, NULL, 32, 32, 1, act.p), -EINVAL);
	check_equal("act", 0, cuda_act_quantize(NULL, x.p, 32, 32, 1, NULL), -EINVAL);
	return values_report("act_quantize");
}
