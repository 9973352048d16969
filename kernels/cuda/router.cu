/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/router.cu: which experts a token takes, and how much of each.
 *
 * Two kernels. Logits: fused multiply-adds in f32 in an order that depends on d alone: a lane takes four
 * values at a time. In decode a warp has one (expert, token) pair: many warps, eight loads in flight;
 * with eight tokens and more it has four experts of eight tokens, 12 loads for 32 products, or the
 * caches would read the matrix once a token. Choice: a warp a
 * token, up to 32 experts a lane in registers; k rounds of a warp-wide argmax with equal values going
 * to the lower index, so that ties fall as on the CPU. Rules: docs/models.md 2.4 and 8.
 * Accuracy: logits d / 32 + 5 roundings; probabilities expf's 2 ulp and a sum of experts / 32 + 5.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/gate.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define ROUTER_WARPS   4
#define MANY_TOKENS    8
#define ROUTER_EXPERTS 1024
#define ROUTER_LANE    (ROUTER_EXPERTS / WARP_SIZE) /* experts of a lane: lane + 32 j */
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

/* A warp's EXPERTS x TOKENS logits; those beyond the end are computed from the last and not stored. */
template <int EXPERTS, int TOKENS>
static __global__ void __launch_bounds__(ROUTER_WARPS *WARP_SIZE)
	logits_kernel(const struct cuda_router r)
{
	const size_t tile = blockIdx.x * (size_t)ROUTER_WARPS + threadIdx.x / WARP_SIZE;
	const size_t across = (r.experts + EXPERTS - 1) / EXPERTS;
	const size_t t0 = tile / across * TOKENS, e0 = tile % across * EXPERTS;
	const bool wide = aligned16(r.w, 4 * r.d) && aligned16(r.x);
	const int lane = threadIdx.x % WARP_SIZE;
	const float *w[EXPERTS], *x[TOKENS];
	float sum[EXPERTS][TOKENS] = {};

	if (t0 >= r.tokens) /* the same for all lanes */
		return;
#pragma unroll
	for (int e = 0; e < EXPERTS; e++)
		w[e] = r.w + (e0 + e < r.experts ? e0 + e : r.experts - 1) * r.d;
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
			if (lane == 0 && e0 + e < r.experts && t0 + t < r.tokens)
				r.logits[(t0 + t) * r.experts + e0 + e] = v;
		}
}

/* The lane's logits become probabilities (or stay, where the softmax comes after the choice). */
static __device__ void probabilities(const struct cuda_router *r, float p[ROUTER_LANE])
{
	const int lane = threadIdx.x % WARP_SIZE;
	float largest = -INFINITY, sum = 0.0f;

	if (r->gating == CUDA_GATE_SOFTMAX_TOPK)
		return;
	if (r->gating == CUDA_GATE_SIGMOID) {
		for (int j = 0; j < ROUTER_LANE; j++)
			p[j] = gate_sigmoid(p[j]);
		return;
	}
	for (int j = 0; j < ROUTER_LANE; j++)
		largest = fmaxf(largest, p[j]);
	largest = warp_max(largest);
	for (int j = 0; j < ROUTER_LANE; j++) {
		const bool there = (size_t)(lane + WARP_SIZE * j) < r->experts;

		p[j] = there && largest > -INFINITY ? expf(p[j] - largest) : 0.0f;
		sum += p[j];
	}
	sum = warp_sum(sum);
	for (int j = 0; j < ROUTER_LANE; j++)
		p[j] = sum > 0.0f ? p[j] / sum : 0.0f;
}

/* The lane's best key and its expert; UINT32_MAX: none left. */
static __device__ void lane_best(const float key[ROUTER_LANE], uint32_t taken, size_t experts,
				 float *ret_value, uint32_t *ret_index)
{
	const int lane = threadIdx.x % WARP_SIZE;

	*ret_value = -INFINITY;
	*ret_index = UINT32_MAX;
	for (int j = 0; j < ROUTER_LANE; j++) {
		const uint32_t e = (uint32_t)(lane + WARP_SIZE * j);

		if (e >= experts || taken >> j & 1)
			continue;
		if (*ret_index == UINT32_MAX || key[j] > *ret_value) {
			*ret_value = key[j];
			*ret_index = e;
		}
	}
}

/* Experts outside the chosen groups are marked as taken. */
static __device__ uint32_t outside_groups(const struct cuda_router *r, const float *keys)
{
	const size_t size = r->experts / r->groups;
	const int lane = threadIdx.x % WARP_SIZE;
	float score = -INFINITY, best;
	uint32_t chosen = 0, taken = 0, group;

	if ((unsigned)lane < r->groups) { /* a lane a group: the sum of its two best */
		float first = -INFINITY, second = -INFINITY;

		for (size_t i = 0; i < size; i++) {
			const float v = keys[lane * size + i];

			second = fmaxf(second, fminf(first, v));
			first = fmaxf(first, v);
		}
		score = size > 1 ? first + second : first;
	}
	for (unsigned n = 0; n < r->groups_used; n++) {
		best = (chosen >> lane & 1) || (unsigned)lane >= r->groups ? -INFINITY : score;
		group = (chosen >> lane & 1) || (unsigned)lane >= r->groups ? UINT32_MAX : lane;
		warp_argmax(&best, &group);
		if (group < 32)
			chosen |= 1u << group;
	}
	for (int j = 0; j < ROUTER_LANE; j++) {
		const size_t e = lane + (size_t)WARP_SIZE * j;

		if (e < r->experts && !(chosen >> e / size & 1))
			taken |= 1u << j;
	}
	return taken;
}

/* @broken: a logit of the token is not finite, so its choice means nothing. */
static __device__ void write_weights(const struct cuda_router *r, size_t t, float mine, bool broken)
{
	const int lane = threadIdx.x % WARP_SIZE;
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
		r->weights[t * r->k + lane] = broken ? NAN : w * r->scale;
}

static __global__ void __launch_bounds__(WARP_SIZE) choose_kernel(const struct cuda_router r)
{
	CUDA_SHARED(float, keys, ROUTER_EXPERTS);
	const size_t t = blockIdx.x;
	const int lane = threadIdx.x;
	float p[ROUTER_LANE], key[ROUTER_LANE], mine = 0.0f;
	uint32_t taken = 0;
	bool broken = false;

	for (int j = 0; j < ROUTER_LANE; j++) {
		const size_t e = lane + (size_t)WARP_SIZE * j;

		p[j] = e < r.experts ? r.logits[t * r.experts + e] : -INFINITY;
		broken |= e < r.experts && !(fabsf(p[j]) <= FLT_MAX);
		p[j] = isnan(p[j]) ? -INFINITY : p[j];
	}
	broken = __any_sync(WARP_ALL, broken);
	probabilities(&r, p);
	for (int j = 0; j < ROUTER_LANE; j++) {
		const size_t e = lane + (size_t)WARP_SIZE * j;

		key[j] = p[j] + (r.select_bias && e < r.experts ? r.select_bias[e] : 0.0f);
		if (isnan(key[j]))
			key[j] = -INFINITY;
		if (e < r.experts)
			keys[e] = key[j];
	}
	__syncthreads();
	if (r.groups > 1)
		taken = outside_groups(&r, keys);
	for (unsigned n = 0; n < r.k; n++) {
		float value, weight = 0.0f;
		uint32_t index;

		lane_best(key, taken, r.experts, &value, &index);
		warp_argmax(&value, &index);
		/* its owner marks it and hands its probability to all */
		for (int j = 0; j < ROUTER_LANE; j++)
			if (index == (uint32_t)(lane + WARP_SIZE * j)) {
				taken |= 1u << j;
				weight = p[j];
			}
		weight = __shfl_sync(WARP_ALL, weight, (int)(index % WARP_SIZE));
		if ((unsigned)lane == n)
			mine = weight;
		if (lane == 0)
			r.ids[t * r.k + n] = index;
	}
	write_weights(&r, t, mine, broken);
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
		tiles = r->tokens * r->experts;
		CUDA_LAUNCH((logits_kernel<1, 1>),
			    (unsigned)((tiles + ROUTER_WARPS - 1) / ROUTER_WARPS),
			    ROUTER_WARPS * WARP_SIZE, 0, stream, *r);
	} else {
		tiles = (r->tokens + MANY_TOKENS - 1) / MANY_TOKENS * ((r->experts + 3) / 4);
		CUDA_LAUNCH((logits_kernel<4, MANY_TOKENS>),
			    (unsigned)((tiles + ROUTER_WARPS - 1) / ROUTER_WARPS),
			    ROUTER_WARPS * WARP_SIZE, 0, stream, *r);
	}
	CUDA_LAUNCH(choose_kernel, (unsigned)r->tokens, WARP_SIZE, 0, stream, *r);
	return CUDA_LAUNCHED();
}
