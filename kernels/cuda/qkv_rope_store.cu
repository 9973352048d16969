/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/qkv_rope_store.cu: per-head norms, rope and the store into the KV cache.
 *
 * A warp owns one head of one token: query heads first, then keys, then values, eight to a block,
 * so one token of a published model fills 5 to 9 blocks and a chunk of prefill many. Lane l holds
 * dimensions l, l + 32, ...: loads and stores are whole lines, and a q8_0 block of 32 dimensions is
 * one register of the warp. The rotation needs partners that may sit in another lane: each warp
 * keeps its head in shared memory for that moment. Sines are made once a block.
 *
 * Accuracy: angle = pos * inv_freq with its rounding error carried along (the angle of position
 * 262143 would be off by 2^-7 otherwise); sine and cosine within 2^-22; the norm as in rmsnorm.cu.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/warp.cuh"

#define QKV_WARPS   8
#define QKV_DIM_MAX 256

/* cos and sin of pos * f: the product's rounding error is small, so one step of the series */
static __device__ __forceinline__ void rope_angle(float pos, float f, float mscale, float2 *out)
{
	const float angle = pos * f, rest = fmaf(pos, f, -angle), down = -0.5f * rest * rest;
	const float c = cosf(angle), s = sinf(angle);

	out->x = mscale * fmaf(c, down, fmaf(-s, rest, c));
	out->y = mscale * fmaf(s, down, fmaf(c, rest, s));
}

/* The head's values times its norm: v holds dimensions lane + 32 i. */
template <int dim>
static __device__ __forceinline__ void head_norm(float *v, const float *w, float eps, int lane)
{
	float sum = 0.0f, scale;

	if (!w)
		return;
#pragma unroll
	for (int i = 0; i < dim / 32; i++)
		sum = fmaf(v[i], v[i], sum);
	scale = scale_or_nan(1.0f / sqrtf(warp_sum(sum) / (float)dim + eps));
#pragma unroll
	for (int i = 0; i < dim / 32; i++)
		v[i] = v[i] * scale * w[lane + 32 * i];
}

/* Rotates pairs (j, j + rot / 2) of the head; @row is the warp's own shared memory. */
template <int dim>
static __device__ __forceinline__ void head_rope(float *v, const float2 *turn, int rot, float *row,
						 int lane)
{
	const int pair = rot / 2;

#pragma unroll
	for (int i = 0; i < dim / 32; i++)
		row[lane + 32 * i] = v[i];
	__syncwarp();
#pragma unroll
	for (int i = 0; i < dim / 32; i++) {
		const int j = lane + 32 * i;

		if (j < pair)
			v[i] = fmaf(v[i], turn[j].x, -row[j + pair] * turn[j].y);
		else if (j < rot)
			v[i] = fmaf(v[i], turn[j - pair].x, row[j - pair] * turn[j - pair].y);
	}
}

/* Writes one row of K or V into its page: @at the slot's values, @d its scales (q8_0). */
template <int dim>
static __device__ __forceinline__ void store_row(enum cuda_kv type, const float *v, uint8_t *at,
						 __half *d, int lane)
{
#pragma unroll
	for (int i = 0; i < dim / 32; i++) {
		if (type == CUDA_KV_F16) {
			((__half *)at)[lane + 32 * i] = half_saturated(v[i]);
		} else {
			const __half h = half_saturated(scale_of(warp_max(magnitude(v[i]))));
			const float scale = __half2float(h);
			const float q = scale > 0.0f ? rintf(v[i] / scale) : 0.0f;

			((int8_t *)at)[lane + 32 * i] = (int8_t)fminf(fmaxf(q, -127.0f), 127.0f);
			if (lane == 0)
				d[i] = h;
		}
	}
}

/* Head @h of @a's token @t: query heads, then keys, then values. */
template <int dim>
static __device__ void one_head(const struct cuda_qkv &a, size_t t, size_t h, const float2 *turn,
				float *row, int lane)
{
	const size_t kv_heads = a.kv.heads, kv = h < a.heads ? 0 : (h - a.heads) % kv_heads;
	const bool query = h < a.heads, value = h >= a.heads + kv_heads;
	const float *from = query   ? a.q + t * a.ldq + h * a.q_step
			    : value ? a.v + t * a.ldkv + kv * dim
				    : a.k + t * a.ldkv + kv * dim;
	const size_t pos = a.pos[t], slot = pos % CUDA_KV_PAGE;
	struct kv_head page;
	float v[dim / 32];

#pragma unroll
	for (int i = 0; i < dim / 32; i++)
		v[i] = from[lane + 32 * i];
	if (!value) {
		head_norm<dim>(v, query ? a.wq : a.wk, a.eps, lane);
		head_rope<dim>(v, turn, (int)a.rot, row, lane);
	}
	if (query) {
#pragma unroll
		for (int i = 0; i < dim / 32; i++)
			a.q_out[(t * a.heads + h) * dim + lane + 32 * i] = v[i] * a.scale;
		return;
	}
	page = kv_head_at(a.kv, a.seq[t], pos / CUDA_KV_PAGE, kv);
	store_row<dim>(a.kv.type, v,
		       (value ? page.v : page.k) + slot * dim * (a.kv.type == CUDA_KV_F16 ? 2 : 1),
		       (value ? page.v_d : page.k_d) + slot * (dim / 32), lane);
}

template <int dim> static __global__ void qkv_kernel(struct cuda_qkv a)
{
	CUDA_SHARED(float2, turn, QKV_DIM_MAX / 2);
	CUDA_SHARED(float, rows, QKV_WARPS *QKV_DIM_MAX);
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	const size_t t = blockIdx.x, h = (size_t)blockIdx.y * QKV_WARPS + warp;
	const float pos = (float)a.pos[t];

	for (unsigned j = threadIdx.x; j < a.rot / 2; j += blockDim.x)
		rope_angle(pos, a.inv_freq[j], a.mscale, &turn[j]);
	__syncthreads();
	if (h < a.heads + 2 * a.kv.heads)
		one_head<dim>(a, t, h, turn, rows + warp * QKV_DIM_MAX, lane);
}

static int qkv_check(const struct cuda_qkv *a)
{
	if (kv_check(&a->kv))
		return -EINVAL;
	if (!a->q || !a->k || !a->v || !a->pos || !a->seq || !a->q_out)
		return -EINVAL;
	if (a->rot % 2 || a->rot > a->kv.dim || (a->rot && !a->inv_freq))
		return -EINVAL;
	if (a->heads == 0 || a->heads > 65535 || a->q_step < a->kv.dim || a->tokens > INT32_MAX)
		return -EINVAL;
	if (a->ldq < (a->heads - 1) * a->q_step + a->kv.dim || a->ldkv < a->kv.heads * a->kv.dim)
		return -EINVAL;
	return 0;
}

int cuda_qkv_rope_store(cuda_stream stream, const struct cuda_qkv *a)
{
	dim3 grid;

	if (!a || (a->tokens && qkv_check(a)))
		return -EINVAL;
	if (a->tokens == 0)
		return 0;
	grid = dim3((unsigned)a->tokens,
		    (unsigned)((a->heads + 2 * a->kv.heads + QKV_WARPS - 1) / QKV_WARPS));
	if (a->kv.dim == 64)
		CUDA_LAUNCH(qkv_kernel<64>, grid, QKV_WARPS * WARP_SIZE, 0, stream, *a);
	else if (a->kv.dim == 128)
		CUDA_LAUNCH(qkv_kernel<128>, grid, QKV_WARPS * WARP_SIZE, 0, stream, *a);
	else
		CUDA_LAUNCH(qkv_kernel<256>, grid, QKV_WARPS * WARP_SIZE, 0, stream, *a);
	return CUDA_LAUNCHED();
}
