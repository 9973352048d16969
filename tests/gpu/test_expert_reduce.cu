/* SPDX-License-Identifier: MIT */
/*
 * Description: the reduction over experts is fused multiply-adds in rank order, bit for bit, with and
 * without places, added to y or not; ranks without a place are left out.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

static void check_reduce(size_t tokens, unsigned k, size_t d, bool places, bool add)
{
	const std::vector<float> partial = random_floats(tokens * k * d, 1.0f);
	const std::vector<float> weights = random_floats(tokens * k, 1.0f);
	const std::vector<float> before = random_floats(tokens * d, 1.0f);
	std::vector<uint32_t> place(tokens * k);
	device_array<float> dp(partial), dw(weights), y(before);

	for (size_t i = 0; i < place.size(); i++)
		place[i] = i % 3 == 1 ? UINT32_MAX : (uint32_t)(place.size() - 1 - i);
	device_array<uint32_t> dplace(place);
	check_equal("reduce", d,
		    cuda_expert_reduce(NULL, dp.p, places ? dplace.p : NULL, dw.p, tokens, k, d,
				       add, y.p),
		    0);
	const std::vector<float> got = y.get();
	for (size_t t = 0; t < tokens; t++)
		for (size_t i = 0; i < d; i++) {
			float sum = add ? before[t * d + i] : 0.0f;

			for (unsigned r = 0; r < k; r++) {
				const size_t at = places ? place[t * k + r] : t * k + r;

				if (at != UINT32_MAX || !places)
					sum = fmaf(weights[t * k + r], partial[at * d + i], sum);
			}
			check_bits("reduce", &got[t * d + i], &sum, 1);
		}
}

int main(int argc, char **argv)
{
	device_array<float> x(8);

	check_reduce(1, 1, 1, false, false);
	check_reduce(3, 10, 300, false, true);
	check_reduce(5, 4, 257, true, false);
	if (option_all(argc, argv)) {
		check_reduce(4, 10, 4096, true, true);
		check_reduce(65536, 1, 3, false, true); /* more than the grid's second dimension */
	}
	check_equal("no tokens", 0,
		    cuda_expert_reduce(NULL, NULL, NULL, NULL, 0, 1, 1, false, NULL), 0);
	check_equal("nothing", 0, cuda_expert_reduce(NULL, NULL, NULL, NULL, 1, 1, 1, false, NULL),
		    -EINVAL);
	check_equal("k", 0, cuda_expert_reduce(NULL, x.p, NULL, x.p, 1, 0, 1, false, x.p), -EINVAL);
	return values_report("expert_reduce");
}
