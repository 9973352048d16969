/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/expert_sort.cu: token-expert pairs sorted by expert, stable, in one launch.
 *
 * A block per expert counts the ids below its own (that is its offset) and equal to it, each warp in
 * a range of its own, then places its entries in order by ballots. No scratch, no atomics and no
 * block waits for another: the ids are read twice per expert, but they lie in L2 (20480 entries are
 * 80 KiB). One block more, for expert number @experts, closes the offsets and marks what is left out.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define SORT_THREADS 256
#define SORT_WARPS   (SORT_THREADS / WARP_SIZE)
#define SORT_EXPERTS 1024

struct sort_args {
	const uint32_t *ids;
	uint32_t entries, k, experts;
	uint32_t *offsets, *order, *place, *gather;
};

/* 0: of an earlier expert, 1: of @e, 2: of a later one. All ids left out belong to e == experts. */
static __device__ __forceinline__ int sort_side(const struct sort_args &a, uint32_t i, uint32_t e)
{
	const uint32_t id = min(a.ids[i], a.experts);

	return id < e ? 0 : id == e ? 1 : 2;
}

static __global__ void sort_kernel(struct sort_args a)
{
	CUDA_SHARED(int, below, SORT_WARPS);
	CUDA_SHARED(int, equal, SORT_WARPS);
	const uint32_t e = blockIdx.x, lane = threadIdx.x % WARP_SIZE,
		       warp = threadIdx.x / WARP_SIZE;
	const uint32_t range = (a.entries / SORT_THREADS + 1) * WARP_SIZE;
	const uint32_t first = min(warp * range, a.entries);
	const uint32_t end = min(first + range, a.entries);
	uint32_t to = 0;
	int less = 0, same = 0;

	for (uint32_t i = first + lane; i < end; i += WARP_SIZE) {
		const int side = sort_side(a, i, e);

		less += side == 0;
		same += side == 1;
	}
	less = warp_sum_int_width(less, WARP_SIZE);
	same = warp_sum_int_width(same, WARP_SIZE);
	if (lane == 0) {
		below[warp] = less;
		equal[warp] = same;
	}
	__syncthreads();
	for (uint32_t w = 0; w < SORT_WARPS; w++)
		to += (uint32_t)below[w];
	if (threadIdx.x == 0)
		a.offsets[e] = to;
	for (uint32_t w = 0; w < warp; w++)
		to += (uint32_t)equal[w];
	for (uint32_t i = first; i < end; i += WARP_SIZE) {
		const uint32_t entry = i + lane;
		const bool mine = entry < end && sort_side(a, entry, e) == 1;
		const uint32_t all = __ballot_sync(WARP_ALL, mine);
		const uint32_t at = to + (uint32_t)__popc(all & ((1u << lane) - 1));

		to += (uint32_t)__popc(all);
		if (!mine)
			continue;
		a.place[entry] = e < a.experts ? at : UINT32_MAX;
		if (e == a.experts)
			continue;
		a.order[at] = entry;
		a.gather[at] = entry / a.k;
	}
}

int cuda_expert_sort(cuda_stream stream, const uint32_t *ids, size_t entries, unsigned k,
		     size_t experts, uint32_t *offsets, uint32_t *order, uint32_t *place,
		     uint32_t *gather)
{
	const struct sort_args a = {
		ids, (uint32_t)entries, k, (uint32_t)experts, offsets, order, place, gather
	};

	if (k == 0 || experts == 0 || experts > SORT_EXPERTS || entries > INT32_MAX / 2)
		return -EINVAL;
	if (entries == 0)
		return 0;
	if (!ids || !offsets || !order || !place || !gather)
		return -EINVAL;
	CUDA_LAUNCH(sort_kernel, (unsigned)experts + 1, SORT_THREADS, 0, stream, a);
	return CUDA_LAUNCHED();
}
