/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/router.cu: which experts a token takes, and how much of each.
 *
 * Two kernels. Logits: fused multiply-adds in f32 in an order that depends on d alone: a lane takes four
 * values at a time. In decode a warp has one (expert, token) pair: many warps, eight loads in flight;
 * with eight tokens and more it has four experts of eight tokens, 12 loads for 32 products, or the
 * caches would read the matrix once a token. Choice: a block a token, up to four experts a thread; an
 * expert's rank is how many come before it, which every thread counts for its own, equal values by the
 * lower index, so that ties fall as on the CPU: no rounds. The shared expert's gate is one more row of
 * the first kernel. Rules: docs/models.md 2.4 and 8.
 * Accuracy: logits d / 32 + 5 roundings; probabilities expf's 2 ulp and a sum of experts / 256 + 10.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/gate.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define ROUTER_WARPS   4
#define MANY_TOKENS    8
#define ROUTER_EXPERTS 1024
#define CHOOSE_THREADS 256
#define CHOOSE_EACH    (ROUTER_EXPERTS / CHOOSE_THREADS) /* experts of a thread: thread + 256 j */
#define CHOOSE_NONE    0u				 /* an order that is never chosen */
#define ROUTER_K       32
#define LEAST_SUM      6.103515625e-5f

/* Four values from @i on of a row of @d, zeros beyond. */
static __device__ __forceinline__ float4 four(const float *row, size_t i, size_t d, bool wide)
{
	if (wide)
		return *(const float4 *)(row + i);
	return make_float4(row[i], i + 1 < d ? row[i + 1] : 0.0f, i + 2 < d ? row[i + 2] : 0.0f,
			   i + 3 < d ? row[i + 3] : 0.0f);
}

/* Rows of a token's logits: the experts', and the shared expert's gate. */
static __host__ __device__ __forceinline__ size_t router_rows(const struct cuda_router &r)
{
	return r.experts + (r.shared && r.shared_gate ? 1 : 0);
}

/* A warp's EXPERTS x TOKENS logits; those beyond the end are computed from the last and not stored. */
template <int EXPERTS, int TOKENS>
static __global__ void __launch_bounds__(ROUTER_WARPS *WARP_SIZE)
	logits_kernel(const struct cuda_router r)
{
	const size_t tile = blockIdx.x * (size_t)ROUTER_WARPS + threadIdx.x / WARP_SIZE;
	const size_t rows = router_rows(r), across = (rows + EXPERTS - 1) / EXPERTS;
	const size_t t0 = tile / across * TOKENS, e0 = tile % across * EXPERTS;
	const bool wide = aligned16(r.w, 4 * r.d) && aligned16(r.x) && aligned16(r.shared_gate);
	const int lane = threadIdx.x % WARP_SIZE;
	const float *w[EXPERTS], *x[TOKENS];
	float sum[EXPERTS][TOKENS] = {};

	if (t0 >= r.tokens) /* the same for all lanes */
		return;
#pragma unroll
	for (int e = 0; e < EXPERTS; e++)
		w[e] = e0 + e < r.experts ? r.w + (e0 + e) * r.d
		       : rows > r.experts ? r.shared_gate
					  : r.w + (r.experts - 1) * r.d;
#pragma unroll
	for (int t = 0; t < TOKENS; t++)
		x[t] = r.x + (t0 + t < r.tokens ? t0 + t : r.tokens - 1) * r.d;
#pragma unroll(EXPERTS *TOKENS == 1 ? 8 : 1)
	for (size_t i = (size_t)lane * 4; i < r.d; i += WARP_SIZE * 4) {
		float4 a[EXPERTS];

#pragma unroll
		for (int e = 0; e < EXPERTS; e++)
			a[e] = four(w[e], i, r.d, wide);
#pragma unroll
		for (int t = 0; t < TOKENS; t++) {
			const float4 b = four(x[t], i, r.d, wide);

#pragma unroll
			for (int e = 0; e < EXPERTS; e++)
				sum[e][t] =
					fmaf(a[e].w, b.w,
					     fmaf(a[e].z, b.z,
						  fmaf(a[e].y, b.y, fmaf(a[e].x, b.x, sum[e][t]))));
		}
	}
#pragma unroll
	for (int e = 0; e < EXPERTS; e++)
#pragma unroll
		for (int t = 0; t < TOKENS; t++) {
			float v = warp_sum(sum[e][t]);

			if (r.bias && e0 + e < r.experts)
				v += r.bias[e0 + e];
			if (lane == 0 && e0 + e < rows && t0 + t < r.tokens)
				r.logits[(t0 + t) * rows + e0 + e] = v;
		}
}

/* The thread's logits become probabilities (or stay, where the softmax comes after the choice). */
static __device__ void probabilities(const struct cuda_router *r, float p[CHOOSE_EACH],
				     float *shared)
{
	float largest = -INFINITY, sum = 0.0f;

	if (r->gating == CUDA_GATE_SOFTMAX_TOPK) /* the same for the whole block, as the next */
		return;
	if (r->gating == CUDA_GATE_SIGMOID) {
		for (int j = 0; j < CHOOSE_EACH; j++)
			p[j] = gate_sigmoid(p[j]);
		return;
	}
	for (int j = 0; j < CHOOSE_EACH; j++)
		largest = fmaxf(largest, p[j]);
	largest = block_max(largest, shared);
	for (int j = 0; j < CHOOSE_EACH; j++) {
		const bool there = threadIdx.x + (size_t)CHOOSE_THREADS * j < r->experts;

		p[j] = there && largest > -INFINITY ? expf(p[j] - largest) : 0.0f;
		sum += p[j];
	}
	sum = block_sum(sum, shared);
	for (int j = 0; j < CHOOSE_EACH; j++)
		p[j] = sum > 0.0f ? p[j] / sum : 0.0f;
}

/* A whole number that is ordered as the floats are, above CHOOSE_NONE; a NaN as -inf, -0 as 0. */
static __device__ __forceinline__ uint32_t order_of(float key)
{
	const uint32_t bits = (uint32_t)__float_as_int((isnan(key) ? -INFINITY : key) + 0.0f);

	return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

/* How many of @n come before @mine, which is at @at: larger ones, and equal ones of a lower index. */
static __device__ __forceinline__ unsigned rank_of(const uint32_t *order, size_t n, uint32_t mine,
						   size_t at)
{
	unsigned rank = 0;

#pragma unroll 8
	for (size_t i = 0; i < n; i++)
		rank += order[i] > mine || (order[i] == mine && i < at);
	return rank;
}

/* Experts outside the best groups get CHOOSE_NONE. @keys: of all experts; @score: one a group. */
static __device__ void leave_groups(const struct cuda_router *r, const float *keys, uint32_t *order,
				    uint32_t *score)
{
	const size_t size = r->experts / r->groups;

	if (threadIdx.x < r->groups) { /* the sum of its two best */
		float first = -INFINITY, second = -INFINITY;

		for (size_t i = 0; i < size; i++) {
			const float v = keys[threadIdx.x * size + i];

			second = fmaxf(second, fminf(first, v));
			first = fmaxf(first, v);
		}
		score[threadIdx.x] = order_of(size > 1 ? first + second : first);
	}
	__syncthreads();
	for (size_t e = threadIdx.x; e < r->experts; e += CHOOSE_THREADS)
		if (rank_of(score, r->groups, score[e / size], e / size) >= r->groups_used)
			order[e] = CHOOSE_NONE;
	__syncthreads();
}

/* @broken: a logit of the token is not finite, so its choice means nothing. */
static __device__ void write_weights(const struct cuda_router *r, size_t t, float mine, bool broken)
{
	const int lane = threadIdx.x % WARP_SIZE;
	float *const to = r->weights + t * (r->k + r->shared);
	const bool on = (unsigned)lane < r->k;
	float w = on ? mine : 0.0f;

	if (r->gating == CUDA_GATE_SOFTMAX_TOPK) {
		const float largest = warp_max(on ? mine : -INFINITY);

		w = on && largest > -INFINITY ? expf(mine - largest) : 0.0f;
		w /= fmaxf(warp_sum(w), 1e-37f);
	}
	if (r->norm)
		w /= fmaxf(warp_sum(w), LEAST_SUM);
	if (on)
		to[lane] = broken ? NAN : w * r->scale;
	if (lane == 0 && r->shared)
		to[r->k] = r->shared_gate ? gate_sigmoid(r->logits[(t + 1) * router_rows(*r) - 1])
					  : 1.0f;
}

static __global__ void __launch_bounds__(CHOOSE_THREADS) choose_kernel(const struct cuda_router r)
{
	CUDA_SHARED(float, keys, ROUTER_EXPERTS);
	CUDA_SHARED(uint32_t, order, ROUTER_EXPERTS);
	CUDA_SHARED(uint32_t, score, WARP_SIZE);
	CUDA_SHARED(float, chosen, ROUTER_K);
	CUDA_SHARED(float, shared, WARPS_MAX);
	const size_t t = blockIdx.x;
	float p[CHOOSE_EACH];
	bool broken = false;

	for (int j = 0; j < CHOOSE_EACH; j++) {
		const size_t e = threadIdx.x + (size_t)CHOOSE_THREADS * j;

		p[j] = e < r.experts ? r.logits[t * router_rows(r) + e] : -INFINITY;
		broken |= e < r.experts && !(fabsf(p[j]) <= FLT_MAX);
		p[j] = isnan(p[j]) ? -INFINITY : p[j];
	}
	broken = __syncthreads_or(broken);
	probabilities(&r, p, shared);
	for (int j = 0; j < CHOOSE_EACH; j++) {
		const size_t e = threadIdx.x + (size_t)CHOOSE_THREADS * j;
		const float key = p[j] + (r.select_bias && e < r.experts ? r.select_bias[e] : 0.0f);

		if (e < r.experts) {
			keys[e] = isnan(key) ? -INFINITY : key;
			order[e] = order_of(key);
		}
	}
	__syncthreads();
	if (r.groups > 1)
		leave_groups(&r, keys, order, score);
	for (int j = 0; j < CHOOSE_EACH; j++) {
		const size_t e = threadIdx.x + (size_t)CHOOSE_THREADS * j;
		const unsigned rank = e < r.experts && order[e] != CHOOSE_NONE
					      ? rank_of(order, r.experts, order[e], e)
					      : r.k;

		if (rank < r.k) {
			r.ids[t * r.k + rank] = (uint32_t)e;
			chosen[rank] = p[j];
		}
	}
	__syncthreads();
	if (threadIdx.x < WARP_SIZE)
		write_weights(&r, t, threadIdx.x < r.k ? chosen[threadIdx.x] : 0.0f, broken);
}

extern "C" int cuda_router(cuda_stream stream, const struct cuda_router *r)
{
	size_t tiles;

	if (!r->tokens)
		return 0;
	if (!r->x || !r->w || !r->ids || !r->weights || !r->logits || !r->d || !r->k ||
	    r->k > ROUTER_K || r->k > r->experts || r->experts > ROUTER_EXPERTS ||
	    r->tokens > 0x7fffffff / ROUTER_EXPERTS ||
	    (unsigned)r->gating > (unsigned)CUDA_GATE_SOFTMAX_TOPK)
		return -EINVAL;
	if (r->groups > 1 &&
	    (r->groups > WARP_SIZE || r->experts % r->groups || !r->groups_used ||
	     r->groups_used > r->groups || r->experts / r->groups * r->groups_used < r->k))
		return -EINVAL;
	if (r->tokens < MANY_TOKENS) {
		tiles = r->tokens * router_rows(*r);
		CUDA_LAUNCH((logits_kernel<1, 1>),
			    (unsigned)((tiles + ROUTER_WARPS - 1) / ROUTER_WARPS),
			    ROUTER_WARPS * WARP_SIZE, 0, stream, *r);
	} else {
		tiles = (r->tokens + MANY_TOKENS - 1) / MANY_TOKENS * ((router_rows(*r) + 3) / 4);
		CUDA_LAUNCH((logits_kernel<4, MANY_TOKENS>),
			    (unsigned)((tiles + ROUTER_WARPS - 1) / ROUTER_WARPS),
			    ROUTER_WARPS * WARP_SIZE, 0, stream, *r);
	}
	CUDA_LAUNCH(choose_kernel, (unsigned)r->tokens, CHOOSE_THREADS, 0, stream, *r);
	return CUDA_LAUNCHED();
}
