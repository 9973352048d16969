/* SPDX-License-Identifier: MIT */
/*
 * Description: the k largest of rows of logits: ties at every border, NaN, infinities, odd sizes.
 *
 * The reference is a stable sort by value. Comparisons round nothing, so indices and bits of values
 * are compared. The last row is run alone too: it has to give the same.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <algorithm>
#include <errno.h>
#include <numeric>

#define GUARD 4 /* values behind the results that must stay */

static float number_of(float x)
{
	return isnan(x) ? -INFINITY : x;
}

static std::vector<uint32_t> want_of(const float *row, size_t n)
{
	std::vector<uint32_t> index(n);

	std::iota(index.begin(), index.end(), 0u);
	std::stable_sort(index.begin(), index.end(), [row](uint32_t a, uint32_t b) {
		return number_of(row[a]) > number_of(row[b]);
	});
	return index;
}

/* One launch over @rows rows at @x, and what it wrote */
struct topk_run {
	std::vector<uint32_t> ids;
	std::vector<float> values;
};

static struct topk_run run(const float *x, size_t ld, size_t n, size_t rows, unsigned k)
{
	device_array<uint32_t> ids(std::vector<uint32_t>(rows * k + GUARD, 77));
	device_array<float> values(std::vector<float>(rows * k + GUARD, 77.0f));
	device_array<uint8_t> scratch(cuda_topk_scratch(n, rows, k));

	check_equal("topk", n, cuda_topk(NULL, x, ld, n, rows, k, ids.p, values.p, scratch.p), 0);
	return { ids.get(), values.get() };
}

static void check_rows(const std::vector<float> &x, size_t ld, size_t n, unsigned k)
{
	const size_t rows = x.size() / ld;
	device_array<float> dx(x);
	const struct topk_run all = run(dx.p, ld, n, rows, k);

	for (size_t r = 0; r < rows; r++) {
		const std::vector<uint32_t> want = want_of(&x[r * ld], n);

		for (size_t i = 0; i < k; i++) {
			const float value = number_of(x[r * ld + want[i]]);

			check_equal("index", r * k + i, all.ids[r * k + i], want[i]);
			check_bits("value", &all.values[r * k + i], &value, 1);
		}
	}
	if (rows > 1) {
		const size_t last = rows - 1;
		const struct topk_run alone = run(dx.p + last * ld, ld, n, 1, k);

		check_bits("alone, index", alone.ids.data(), &all.ids[last * k], k);
		check_bits("alone, value", alone.values.data(), &all.values[last * k], k);
	}
	for (size_t i = rows * k; i < rows * k + GUARD; i++) {
		check_equal("behind the ids", i, all.ids[i], 77);
		check_near("behind the values", i, all.values[i], 77.0, 0.0);
	}
}

/* Few different values, so that ties cross slices; both zeros, NaN and infinities among them */
static std::vector<float> rough(size_t count)
{
	std::vector<float> x(count);

	for (float &v : x) {
		const uint32_t r = random_u32() % 64;

		v = r == 0 ? NAN : r == 1 ? -INFINITY : r < 6 ? -0.0f : (float)(r / 8) - 4.0f;
	}
	return x;
}

/* What the last of the eight digits has to decide: one value everywhere but in a few places */
static void check_equals(unsigned k)
{
	std::vector<float> x(9001, -2.5f);

	check_rows(x, x.size(), x.size(), k);
	x[9000] = x[5000] = INFINITY;
	x[0] = x[4096] = -7.0f;
	x[1] = NAN;
	check_rows(x, x.size(), x.size(), k);
	for (size_t i = 0; i < x.size(); i++)
		x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? -INFINITY : 0.0f * (i % 2 ? 1.0f : -1.0f);
	check_rows(x, x.size(), x.size(), k);
	for (float &v : x)
		v = isnan(v) ? NAN : -INFINITY;
	x[7000] = -3.0e38f;
	x[8000] = -1e-45f;
	check_rows(x, x.size(), x.size(), k);
}

/* All k largest in one slice, in the last, short one, and one in each */
static void check_slices(unsigned k)
{
	const size_t n = 3 * 4096 + 301;
	std::vector<float> x = random_floats(n * 3, 1.0f);

	for (size_t i = 0; i < k; i++) {
		x[4096 + 3 * i] += 100.0f;
		x[n + n - 1 - i % 301] += 50.0f;
		x[2 * n + i * (n / k)] += 100.0f;
	}
	check_rows(x, n, n, k);
}

static void check_refusals(void)
{
	device_array<float> f(300), v(300);
	device_array<uint32_t> u(300);
	device_array<uint64_t> s(300);
	char *odd = (char *)s.p + 4;

	check_equal("k 0", 0, cuda_topk(NULL, f.p, 4, 4, 1, 0, u.p, v.p, s.p), -EINVAL);
	check_equal("k 257", 0, cuda_topk(NULL, f.p, 300, 300, 1, 257, u.p, v.p, s.p), -EINVAL);
	check_equal("k > n", 0, cuda_topk(NULL, f.p, 4, 4, 1, 5, u.p, v.p, s.p), -EINVAL);
	check_equal("n 0", 0, cuda_topk(NULL, f.p, 4, 0, 1, 1, u.p, v.p, s.p), -EINVAL);
	check_equal("ld < n", 0, cuda_topk(NULL, f.p, 3, 4, 1, 1, u.p, v.p, s.p), -EINVAL);
	check_equal("rows", 0, cuda_topk(NULL, f.p, 4, 4, 65536, 1, u.p, v.p, s.p), -EINVAL);
	check_equal("n 2^31", 0, cuda_topk(NULL, f.p, 1u << 31, 1u << 31, 1, 1, u.p, v.p, s.p),
		    -EINVAL);
	check_equal("no logits", 0, cuda_topk(NULL, NULL, 4, 4, 1, 1, u.p, v.p, s.p), -EINVAL);
	check_equal("no ids", 0, cuda_topk(NULL, f.p, 4, 4, 1, 1, NULL, v.p, s.p), -EINVAL);
	check_equal("no values", 0, cuda_topk(NULL, f.p, 4, 4, 1, 1, u.p, NULL, s.p), -EINVAL);
	check_equal("no scratch", 0, cuda_topk(NULL, f.p, 4, 4, 1, 1, u.p, v.p, NULL), -EINVAL);
	check_equal("odd scratch", 0, cuda_topk(NULL, f.p, 4, 4, 1, 1, u.p, v.p, odd), -EINVAL);
	check_equal("no rows", 0, cuda_topk(NULL, NULL, 4, 4, 0, 1, NULL, NULL, NULL), 0);
	check_equal("scratch of none", 0, cuda_topk_scratch(4, 1, 5), 0);
	check_equal("scratch of no rows", 0, cuda_topk_scratch(4, 0, 1), 0);
}

/* Around one slice (2048 values up to k = 64, else 4096), and all of a row */
static const struct topk_size {
	size_t n;
	unsigned k;
} sizes[] = { { 1, 1 },	    { 2, 1 },	  { 31, 20 },	{ 33, 33 },   { 256, 256 }, { 257, 256 },
	      { 2047, 64 }, { 2049, 64 }, { 2049, 65 }, { 4097, 65 }, { 5003, 1 },  { 5003, 256 } };

int main(int argc, char **argv)
{
	for (const struct topk_size &s : sizes) {
		check_rows(random_floats(s.n, 4.0f), s.n, s.n, s.k);
		check_rows(rough((s.n + 5) * 2), s.n + 5, s.n, s.k);
	}
	for (unsigned k : { 1, 20, 256 }) {
		check_equals(k);
		check_slices(k);
	}
	check_rows(rough(16 * 300), 300, 300, 20);
	if (option_all(argc, argv))
		for (size_t n : { 151936, 248320, 300000 })
			for (unsigned k : { 1, 20, 256 }) {
				check_rows(random_floats(n * 4, 4.0f), n, n, k);
				check_rows(rough(n), n, n, k);
			}
	check_refusals();
	return values_report("topk");
}
