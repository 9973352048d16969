/* SPDX-License-Identifier: MIT */
/*
 * Description: argmax of rows of logits: ties, NaN, infinities, rows further apart than long.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

static uint32_t want_of(const float *row, size_t n)
{
	uint32_t best = 0;
	float top = -INFINITY;

	for (size_t i = 0; i < n; i++) {
		if (!(row[i] > top))
			continue;
		top = row[i];
		best = (uint32_t)i;
	}
	return best;
}

static void check_rows(const std::vector<float> &x, size_t ld, size_t n)
{
	const size_t rows = x.size() / ld;
	std::vector<uint32_t> got, one;
	device_array<float> dx(x);
	device_array<uint32_t> ids(rows), alone(1);

	check_equal("argmax", n, cuda_argmax(NULL, dx.p, ld, n, rows, ids.p), 0);
	got = ids.get();
	for (size_t r = 0; r < rows; r++) {
		check_equal("index", r, got[r], want_of(&x[r * ld], n));
		check_equal("argmax", r, cuda_argmax(NULL, dx.p + r * ld, ld, n, 1, alone.p), 0);
		one = alone.get();
		check_equal("alone", r, one[0], got[r]);
	}
}

/* Few different values, so that ties cross lanes and warps; NaN and infinities among them */
static std::vector<float> rough(size_t count)
{
	std::vector<float> x(count);

	for (float &v : x) {
		const uint32_t r = random_u32() % 64;

		v = r == 0 ? NAN : r == 1 ? -INFINITY : (float)(r / 8);
	}
	return x;
}

int main(int argc, char **argv)
{
	device_array<float> f(4);
	device_array<uint32_t> u(4);

	for (size_t n : { 1, 31, 32, 33, 1023, 1025, 5000 }) {
		check_rows(random_floats(n * 3, 4.0f), n, n);
		check_rows(rough((n + 5) * 3), n + 5, n);
	}
	check_rows(std::vector<float>(2100, NAN), 2100, 2100);
	check_rows(std::vector<float>(2100, -INFINITY), 2100, 2100);
	check_rows({ NAN, -INFINITY, -3.0f, INFINITY, INFINITY }, 5, 5);
	if (option_all(argc, argv))
		check_rows(random_floats(248320 * 4, 4.0f), 248320, 248320);
	check_equal("n 0", 0, cuda_argmax(NULL, f.p, 4, 0, 1, u.p), -EINVAL);
	check_equal("ld < n", 0, cuda_argmax(NULL, f.p, 3, 4, 1, u.p), -EINVAL);
	check_equal("no logits", 0, cuda_argmax(NULL, NULL, 4, 4, 1, u.p), -EINVAL);
	check_equal("no ids", 0, cuda_argmax(NULL, f.p, 4, 4, 1, NULL), -EINVAL);
	check_equal("no rows", 0, cuda_argmax(NULL, NULL, 4, 4, 0, NULL), 0);
	return values_report("argmax");
}
