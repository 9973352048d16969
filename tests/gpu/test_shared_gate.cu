/* SPDX-License-Identifier: MIT */
/*
 * Description: the shared expert's gate against double, and without a gate; a token's bits do not depend
 * on the others of the launch.
 *
 * Bound: the dot product d / 256 + 10 additions, expf 2 ulp, a division and a fused multiply-add:
 * (d / 256 + 20) * 2^-23 of the terms.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

static void check_gate(size_t d, size_t tokens, bool gated)
{
	const std::vector<float> x = random_floats(tokens * d, 1.0f), w = random_floats(d, 0.3f);
	const std::vector<float> s = random_floats(tokens * d, 1.0f),
				 y = random_floats(tokens * d, 1.0f);
	device_array<float> dx(x), dw(w), ds(s), dy(y);

	check_equal("gate", d,
		    cuda_shared_gate(NULL, dx.p, gated ? dw.p : NULL, ds.p, tokens, d, dy.p), 0);
	const std::vector<float> got = dy.get();
	for (size_t t = 0; t < tokens; t++) {
		double dot = 0, size = 0;

		for (size_t i = 0; i < d; i++) {
			dot += (double)w[i] * x[t * d + i];
			size += fabs((double)w[i] * x[t * d + i]);
		}
		for (size_t i = 0; i < d; i++) {
			const double g = gated ? 1 / (1 + exp(-dot)) : 1;
			const double a = g * s[t * d + i], b = y[t * d + i];

			check_near("gate", i, got[t * d + i], a + b,
				   (d / 256.0 + 20) * 0x1p-23 * (fabs(a) * (1 + size) + fabs(b)));
		}
	}
	/* the last token alone */
	device_array<float> alone(std::vector<float>(y.end() - (long)d, y.end()));
	const size_t last = (tokens - 1) * d;

	check_equal("gate", d,
		    cuda_shared_gate(NULL, dx.p + last, gated ? dw.p : NULL, ds.p + last, 1, d,
				     alone.p),
		    0);
	check_bits("alone", alone.get().data(), got.data() + last, d);
}

int main(int argc, char **argv)
{
	device_array<float> x(64);

	check_gate(32, 1, true);
	check_gate(301, 3, true);
	check_gate(64, 2, false);
	if (option_all(argc, argv)) {
		check_gate(4096, 8, true);
		check_gate(5120, 2, true);
	}
	check_equal("no tokens", 0, cuda_shared_gate(NULL, NULL, NULL, NULL, 0, 5, NULL), 0);
	check_equal("no s", 0, cuda_shared_gate(NULL, x.p, x.p, NULL, 1, 5, x.p), -EINVAL);
	check_equal("no x", 0, cuda_shared_gate(NULL, NULL, x.p, x.p, 1, 5, x.p), -EINVAL);
	return values_report("shared_gate");
}
