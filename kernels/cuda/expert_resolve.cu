/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/expert_resolve.cu: what the router chose, handed to both sides: hits as a list for the expert
 * group, everything to the host, which computes the misses.
 *
 * One block each, beside each other where both are wanted: a step of decode has some ten to a hundred entries.
 * The list keeps the order of the entries (a prefix sum over the block), so that it is the same in every launch.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/warp.cuh"

#define HANDOFF_THREADS 512
#define RESOLVE_ENTRIES 65535

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
	for (int w = 0; w < HANDOFF_THREADS / WARP_SIZE; w++) {
		sum += w < warp ? shared[w] : 0;
		all += shared[w];
	}
	*ret_all = all;
	return sum;
}

static __device__ __forceinline__ void put_entry(const struct cuda_resolve &r, unsigned at,
						 uint32_t slot, size_t token, size_t rank)
{
	const uint8_t *w = r.base + slot * r.slot_bytes;

	r.list[at].gate = w + r.gate_at;
	r.list[at].up = w + r.up_at;
	r.list[at].down = w + r.down_at;
	r.list[at].token = (uint32_t)token;
	r.list[at].rank = (uint32_t)rank;
}

static __device__ void resolve(const struct cuda_resolve &r, unsigned *shared)
{
	const size_t all = r.tokens * r.ranks;
	unsigned done = 0;

	for (size_t base = 0; base < all; base += HANDOFF_THREADS) {
		const size_t i = base + threadIdx.x, token = i / r.ranks, rank = i % r.ranks;
		const bool chosen = i < all && rank < r.k;
		const uint32_t id = chosen ? r.ids[token * r.k + rank] : UINT32_MAX;
		const uint32_t slot = r.slots && id < r.experts ? r.slots[id] : UINT32_MAX;
		unsigned here;
		const unsigned at = done + before(slot != UINT32_MAX, shared, &here);

		if (slot != UINT32_MAX)
			put_entry(r, at, slot, token, rank);
		if (i < all)
			r.place[i] = (uint32_t)i + (chosen && slot == UINT32_MAX ? CUDA_MAPPED : 0);
		done += here;
	}
	if (threadIdx.x == 0)
		*r.count = done;
}

static __device__ void publish(const struct cuda_publish &p)
{
	const size_t chosen = p.tokens * p.k, weights = p.tokens * p.ranks;
	const size_t values = p.tokens * p.d;
	const bool wide = aligned16(p.x, values * 4) && aligned16(p.to_x);

	for (size_t i = threadIdx.x; i < chosen; i += HANDOFF_THREADS)
		p.to_ids[i] = p.ids[i];
	for (size_t i = threadIdx.x; i < weights; i += HANDOFF_THREADS)
		p.to_weights[i] = p.weights[i];
	if (wide) /* full packets over the bus */
		for (size_t i = threadIdx.x; i < values / 4; i += HANDOFF_THREADS)
			((float4 *)p.to_x)[i] = ((const float4 *)p.x)[i];
	else
		for (size_t i = threadIdx.x; i < values; i += HANDOFF_THREADS)
			p.to_x[i] = p.x[i];
	__syncthreads(); /* what the block wrote comes before the word, which is released by one of it */
	if (threadIdx.x == 0)
		ptx_release_system(p.word, p.value + (p.tick ? *p.tick : 0));
}

static __global__ void __launch_bounds__(HANDOFF_THREADS)
	resolve_kernel(const __grid_constant__ struct cuda_resolve r)
{
	CUDA_SHARED(unsigned, shared, HANDOFF_THREADS / WARP_SIZE);

	resolve(r, shared);
}

static __global__ void __launch_bounds__(HANDOFF_THREADS)
	publish_kernel(const __grid_constant__ struct cuda_publish p)
{
	publish(p);
}

static __global__ void __launch_bounds__(HANDOFF_THREADS)
	handoff_kernel(const __grid_constant__ struct cuda_publish p,
		       const __grid_constant__ struct cuda_resolve r)
{
	CUDA_SHARED(unsigned, shared, HANDOFF_THREADS / WARP_SIZE);

	if (blockIdx.x == 0)
		publish(p);
	else
		resolve(r, shared);
}

/* -EINVAL, or 0 and the ranks filled in. */
static int check_resolve(struct cuda_resolve *r)
{
	r->ranks = r->ranks ? r->ranks : r->k;
	if (!r->ids || (r->slots && !r->base) || !r->list || !r->count || !r->place || !r->k ||
	    r->ranks < r->k || !r->experts || r->tokens > RESOLVE_ENTRIES / r->ranks)
		return -EINVAL;
	return 0;
}

static int check_publish(struct cuda_publish *p)
{
	p->ranks = p->ranks ? p->ranks : p->k;
	if (!p->word || p->ranks < p->k ||
	    (p->tokens &&
	     (!p->ids || !p->weights || !p->x || !p->to_ids || !p->to_weights || !p->to_x)))
		return -EINVAL;
	return 0;
}

extern "C" int cuda_expert_resolve(cuda_stream stream, const struct cuda_resolve *r)
{
	struct cuda_resolve a = *r;

	if (!r->tokens)
		return 0;
	if (check_resolve(&a))
		return -EINVAL;
	CUDA_LAUNCH(resolve_kernel, 1, HANDOFF_THREADS, 0, stream, a);
	return CUDA_LAUNCHED();
}

extern "C" int cuda_publish(cuda_stream stream, const struct cuda_publish *p)
{
	struct cuda_publish a = *p;

	if (check_publish(&a))
		return -EINVAL;
	CUDA_LAUNCH(publish_kernel, 1, HANDOFF_THREADS, 0, stream, a);
	return CUDA_LAUNCHED();
}

extern "C" int cuda_handoff(cuda_stream stream, const struct cuda_publish *p,
			    const struct cuda_resolve *r)
{
	struct cuda_publish a = *p;
	struct cuda_resolve b = *r;

	if (check_publish(&a) || !r->tokens || check_resolve(&b))
		return -EINVAL;
	CUDA_LAUNCH(handoff_kernel, 2, HANDOFF_THREADS, 0, stream, a, b);
	return CUDA_LAUNCHED();
}
