/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/expert_resolve.cu: what the router chose, handed to both sides: hits as a list for the expert
 * group, everything to the host, which computes the misses.
 *
 * One block each: a step of decode has some ten to a hundred entries. The list keeps the order of the
 * entries (a prefix sum over the block), so that it is the same in every launch.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define RESOLVE_THREADS 256
#define RESOLVE_ENTRIES 65535
#define PUBLISH_THREADS 1024

/* How many threads before this one have @on, and of all: two barriers. */
static __device__ __forceinline__ unsigned before(bool on, unsigned *shared, unsigned *ret_all)
{
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	const unsigned mine = __ballot_sync(WARP_ALL, on);
	unsigned sum = (unsigned)__popc(mine & ((1u << lane) - 1)), all = 0;

	__syncthreads();
	if (lane == 0)
		shared[warp] = (unsigned)__popc(mine);
	__syncthreads();
	for (int w = 0; w < RESOLVE_THREADS / WARP_SIZE; w++) {
		sum += w < warp ? shared[w] : 0;
		all += shared[w];
	}
	*ret_all = all;
	return sum;
}

static __global__ void __launch_bounds__(RESOLVE_THREADS)
	resolve_kernel(const struct cuda_resolve r)
{
	CUDA_SHARED(unsigned, shared, RESOLVE_THREADS / WARP_SIZE);
	const size_t entries = r.tokens * r.k;
	unsigned done = 0;

	for (size_t base = 0; base < entries; base += RESOLVE_THREADS) {
		const size_t i = base + threadIdx.x;
		const uint32_t id = i < entries ? r.ids[i] : UINT32_MAX;
		const uint32_t slot = id < r.experts ? r.slots[id] : UINT32_MAX;
		unsigned all;
		const unsigned at = done + before(slot != UINT32_MAX, shared, &all);

		if (slot != UINT32_MAX) {
			const uint8_t *w = r.base + slot * r.slot_bytes;

			r.list[at].gate = w + r.gate_at;
			r.list[at].up = w + r.up_at;
			r.list[at].down = w + r.down_at;
			r.list[at].token = (uint32_t)(i / r.k);
			r.list[at].rank = (uint32_t)(i % r.k);
		}
		if (i < entries)
			r.place[i] = (uint32_t)i + (slot != UINT32_MAX ? 0 : CUDA_MAPPED);
		done += all;
	}
	if (threadIdx.x == 0)
		*r.count = done;
}

extern "C" int cuda_expert_resolve(cuda_stream stream, const struct cuda_resolve *r)
{
	if (!r->tokens)
		return 0;
	if (!r->ids || !r->slots || !r->base || !r->list || !r->count || !r->place || !r->k ||
	    !r->experts || r->tokens > RESOLVE_ENTRIES / r->k)
		return -EINVAL;
	CUDA_LAUNCH(resolve_kernel, 1, RESOLVE_THREADS, 0, stream, *r);
	return CUDA_LAUNCHED();
}

static __global__ void __launch_bounds__(PUBLISH_THREADS)
	publish_kernel(const struct cuda_publish p)
{
	const size_t chosen = p.tokens * p.k, values = p.tokens * p.d;

	for (size_t i = threadIdx.x; i < chosen; i += PUBLISH_THREADS) {
		p.to_ids[i] = p.ids[i];
		p.to_weights[i] = p.weights[i];
	}
	for (size_t i = threadIdx.x; i < values; i += PUBLISH_THREADS)
		p.to_x[i] = p.x[i];
	__threadfence_system(); /* each thread's own before the barrier, the word after it */
	__syncthreads();
	if (threadIdx.x == 0)
		*(volatile uint32_t *)p.word = p.value;
}

extern "C" int cuda_publish(cuda_stream stream, const struct cuda_publish *p)
{
	if (!p->word || (p->tokens && (!p->ids || !p->weights || !p->x || !p->to_ids ||
				       !p->to_weights || !p->to_x)))
		return -EINVAL;
	CUDA_LAUNCH(publish_kernel, 1, PUBLISH_THREADS, 0, stream, *p);
	return CUDA_LAUNCHED();
}
