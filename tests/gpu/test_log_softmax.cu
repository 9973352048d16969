/* SPDX-License-Identifier: MIT */
/*
 * Description: log-softmax and the logarithm of the sum against double; in place, one output alone,
 * -inf among the logits.
 *
 * Bound: expf 2 ulp, n / 1024 + 10 additions, logf 1 ulp, two sums: (n / 1024 + 16) * 2^-23 of 1 +
 * |largest|.
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

int main(int argc, char **argv)
{
	device_array<float> x(64);

	check_softmax(1, 1, 1);
	check_softmax(37, 3, 40);
	check_softmax(2048, 2, 2048);
	if (option_all(argc, argv))
		check_softmax(248320, 2, 248320);
	check_equal("no rows", 0, cuda_log_softmax(NULL, NULL, 0, 0, 0, NULL, NULL), 0);
	check_equal("ld", 0, cuda_log_softmax(NULL, x.p, 31, 32, 1, x.p, NULL), -EINVAL);
	check_equal("nothing", 0, cuda_log_softmax(NULL, x.p, 32, 32, 1, NULL, NULL), -EINVAL);
	return values_report("log_softmax");
}
