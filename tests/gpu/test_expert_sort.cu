/* SPDX-License-Identifier: MIT */
/*
 * Description: the sort of token-expert pairs against std::stable_sort: all five results exactly.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <algorithm>
#include <errno.h>

static void check_sort(const std::vector<uint32_t> &ids, unsigned k, size_t experts)
{
	const size_t n = ids.size();
	const std::vector<uint32_t> fresh(n, 0xdeadbeefu);
	std::vector<uint32_t> sorted, want_place(n, UINT32_MAX), offsets, order, place, gather;
	device_array<uint32_t> di(ids), doff(experts + 1), dorder(fresh), dplace(fresh),
		dgather(fresh);

	for (uint32_t i = 0; i < n; i++)
		if (ids[i] < experts)
			sorted.push_back(i);
	std::stable_sort(sorted.begin(), sorted.end(),
			 [&](uint32_t a, uint32_t b) { return ids[a] < ids[b]; });
	check_equal(
		"sort", n,
		cuda_expert_sort(NULL, di.p, n, k, experts, doff.p, dorder.p, dplace.p, dgather.p),
		0);
	offsets = doff.get();
	order = dorder.get();
	place = dplace.get();
	gather = dgather.get();
	for (size_t e = 0; e <= experts; e++)
		check_equal("offset", e, offsets[e],
			    std::count_if(ids.begin(), ids.end(),
					  [&](uint32_t id) { return id < e && id < experts; }));
	for (size_t i = 0; i < sorted.size(); i++) {
		check_equal("order", i, order[i], sorted[i]);
		check_equal("gather", i, gather[i], sorted[i] / k);
		want_place[sorted[i]] = (uint32_t)i;
	}
	for (size_t i = 0; i < n; i++)
		check_equal("place", i, place[i], want_place[i]);
	for (size_t i = sorted.size(); i < n; i++)
		check_equal("not written", i, order[i], 0xdeadbeefu);
}

static std::vector<uint32_t> random_ids(size_t n, uint32_t below)
{
	std::vector<uint32_t> ids(n);

	for (uint32_t &id : ids)
		id = random_u32() % below;
	return ids;
}

static void check_refusals(void)
{
	device_array<uint32_t> a(8);
	uint32_t *p = a.p;

	check_equal("k 0", 0, cuda_expert_sort(NULL, p, 1, 0, 1, p, p, p, p), -EINVAL);
	check_equal("no experts", 0, cuda_expert_sort(NULL, p, 1, 1, 0, p, p, p, p), -EINVAL);
	check_equal("1025 experts", 0, cuda_expert_sort(NULL, p, 1, 1, 1025, p, p, p, p), -EINVAL);
	check_equal("no ids", 0, cuda_expert_sort(NULL, NULL, 1, 1, 1, p, p, p, p), -EINVAL);
	check_equal("no place", 0, cuda_expert_sort(NULL, p, 1, 1, 1, p, p, NULL, p), -EINVAL);
	check_equal("nothing", 0, cuda_expert_sort(NULL, NULL, 0, 1, 1, p, p, p, p), 0);
}

int main(int argc, char **argv)
{
	std::vector<uint32_t> ids;

	check_sort({ 0 }, 1, 1);
	check_sort({ 5 }, 1, 3);			 /* left out: nothing remains */
	check_sort(std::vector<uint32_t>(300, 2), 3, 4); /* one expert has all */
	for (size_t n : { 31, 32, 33, 255, 256, 257, 1000 })
		check_sort(random_ids(n, 19), 1 + (unsigned)(n % 10), 16); /* some left out */
	ids = random_ids(640, 128);
	ids[7] = UINT32_MAX;
	check_sort(ids, 8, 128);
	if (option_all(argc, argv)) {
		check_sort(random_ids(20480, 512), 10, 512);
		check_sort(random_ids(16384, 1024), 8, 1024);
	}
	check_refusals();
	return values_report("expert_sort");
}
