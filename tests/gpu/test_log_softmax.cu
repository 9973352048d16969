/* SPDX-License-Identifier: MIT */
/*
 * Description: log-softmax and the logarithm of the sum against double; in place, one output alone,
 * -inf among the logits. And the shared expert's gate, whose kernel is as small.
 *
 * Bounds: expf 2 ulp, n / 1024 + 10 additions, logf 1 ulp, two sums: (n / 1024 + 16) * 2^-23 of 1 +
 * |largest|; the gate (d / 256 + 20) * 2^-23 of its terms.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

static void check_softmax(size_t n, size_t rows, size_t ld)
{
	std::vector<float> x = random_floats(rows * ld, 8.0f);
	device_array<float> out(rows * ld), lse(rows);

	if (n > 2)
		x[1] = -INFINITY;
	device_array<float> dx(x);
	check_equal("log_softmax", n, cuda_log_softmax(NULL, dx.p, ld, n, rows, out.p, lse.p), 0);
	const std::vector<float> got = out.get(), sums = lse.get();
	for (size_t r = 0; r < rows; r++) {
		double largest = -INFINITY, sum = 0;

		for (size_t i = 0; i < n; i++)
			largest = fmax(largest, x[r * ld + i]);
		for (size_t i = 0; i < n; i++)
			sum += exp(x[r * ld + i] - largest);
		const double bound = (n / 1024.0 + 16) * 0x1p-23 * (1 + fabs(largest));
		check_near("lse", r, sums[r], largest + log(sum), bound);
		for (size_t i = 0; i < n; i++) {
			const double want = x[r * ld + i] - largest - log(sum);

			if (isinf(want))
				check_equal("-inf", i,
					    isinf(got[r * ld + i]) && got[r * ld + i] < 0, 1);
			else
				check_near("log p", i, got[r * ld + i], want,
					   bound + 0x1p-23 * fabs(want));
		}
	}
	check_equal("in place", n, cuda_log_softmax(NULL, dx.p, ld, n, rows, dx.p, NULL), 0);
	for (size_t r = 0; r < rows; r++)
		check_bits("in place", dx.get().data() + r * ld, got.data() + r * ld, n);
}

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
}

int main(int argc, char **argv)
{
	device_array<float> x(64);

	check_softmax(1, 1, 1);
	check_softmax(37, 3, 40);
	check_softmax(2048, 2, 2048);
	check_gate(32, 1, true);
	check_gate(301, 3, true);
	check_gate(64, 2, false);
	if (option_all(argc, argv)) {
		check_softmax(248320, 2, 248320);
		check_gate(4096, 8, true);
	}
	check_equal("no rows", 0, cuda_log_softmax(NULL, NULL, 0, 0, 0, NULL, NULL), 0);
	check_equal("ld", 0, cuda_log_softmax(NULL, x.p, 31, 32, 1, x.p, NULL), -EINVAL);
	check_equal("nothing", 0, cuda_log_softmax(NULL, x.p, 32, 32, 1, NULL, NULL), -EINVAL);
	check_equal("no tokens", 0, cuda_shared_gate(NULL, NULL, NULL, NULL, 0, 5, NULL), 0);
	check_equal("no s", 0, cuda_shared_gate(NULL, x.p, x.p, NULL, 1, 5, x.p), -EINVAL);
	return values_report("log_softmax");
}
