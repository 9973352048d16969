/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/delta_prepare.cu: norm of q and k, and the two gates of gated DeltaNet.
 *
 * One launch with two kinds of blocks, since each alone is too short to be worth one: a warp takes
 * one head of q or k of one token (lanes on neighbouring floats, the head in registers between the
 * sum and the product), and behind those blocks a thread takes one gate.
 *
 * Accuracy: a sum of dim squares by 4 + 5 additions, its root, one division and one product:
 * |error| <= 9 * 2^-24 |out|. Gates: expf and log1pf within 2 ulp each.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/delta.cuh"
#include "kernels/cuda/gate.cuh"
#include "kernels/cuda/warp.cuh"

#define PREPARE_THREADS 256
#define PREPARE_WARPS	(PREPARE_THREADS / WARP_SIZE)
#define L2_EPS		1e-6f

struct prepare_args {
	size_t heads;	/* of q and k together */
	size_t k_heads; /* of q alone */
	size_t channels, v_heads, tokens, norm_blocks;
	float q_scale;
	float *qkv, *beta, *decay;
	const float *alpha, *a, *dt;
};

template <int dim> static __device__ __forceinline__ void prepare_norm(const struct prepare_args &a)
{
	const size_t unit = (size_t)blockIdx.x * PREPARE_WARPS + threadIdx.x / WARP_SIZE;
	const size_t token = unit / a.heads, head = unit % a.heads;
	const int lane = threadIdx.x % WARP_SIZE;
	float *x = a.qkv + token * a.channels + head * dim + lane;
	float v[dim / WARP_SIZE], sum = 0.0f, scale;

	if (token >= a.tokens) /* the same for the whole warp */
		return;
#pragma unroll
	for (int i = 0; i < dim / WARP_SIZE; i++) {
		v[i] = x[i * WARP_SIZE];
		sum = fmaf(v[i], v[i], sum);
	}
	scale = scale_or_nan((head < a.k_heads ? a.q_scale : 1.0f) / sqrtf(warp_sum(sum) + L2_EPS));
#pragma unroll
	for (int i = 0; i < dim / WARP_SIZE; i++)
		x[i * WARP_SIZE] = v[i] * scale;
}

static __device__ __forceinline__ void prepare_gate(const struct prepare_args &a)
{
	const size_t i = (blockIdx.x - a.norm_blocks) * PREPARE_THREADS + threadIdx.x;
	const size_t head = i % a.v_heads;
	float x;

	if (i >= a.tokens * a.v_heads)
		return;
	x = a.alpha[i] + a.dt[head];
	/* exp would squash an infinity into a factor that looks right */
	x = fabsf(x) <= FLT_MAX && fabsf(a.a[head]) <= FLT_MAX ? x : NAN;
	a.decay[i] = a.a[head] * (x > 20.0f ? x : log1pf(expf(x)));
	a.beta[i] = gate_sigmoid(a.beta[i]);
}

template <int dim>
static __global__ void __launch_bounds__(PREPARE_THREADS) prepare_kernel(struct prepare_args a)
{
	if (blockIdx.x < a.norm_blocks)
		prepare_norm<dim>(a);
	else
		prepare_gate(a);
}

int cuda_delta_prepare(cuda_stream stream, const struct cuda_delta_shape *s, size_t tokens,
		       float *qkv, const float *alpha, float *beta, const float *a, const float *dt,
		       float *decay)
{
	struct prepare_args p;
	size_t blocks;

	if (delta_check_shape(s) || tokens > INT32_MAX / 2)
		return -EINVAL;
	if (tokens == 0)
		return 0;
	if (!qkv || !alpha || !beta || !a || !dt || !decay || beta == alpha || beta == decay)
		return -EINVAL;
	p.k_heads = s->k_heads;
	p.heads = 2 * s->k_heads;
	p.channels = delta_channels(*s);
	p.v_heads = s->v_heads;
	p.tokens = tokens;
	p.norm_blocks = (tokens * p.heads + PREPARE_WARPS - 1) / PREPARE_WARPS;
	p.q_scale = (float)(1.0 / sqrt((double)s->dim));
	p.qkv = qkv;
	p.beta = beta;
	p.decay = decay;
	p.alpha = alpha;
	p.a = a;
	p.dt = dt;
	blocks = p.norm_blocks + (tokens * s->v_heads + PREPARE_THREADS - 1) / PREPARE_THREADS;
	if (blocks > INT32_MAX)
		return -EINVAL;
	if (s->dim == 64)
		CUDA_LAUNCH(prepare_kernel<64>, (unsigned)blocks, PREPARE_THREADS, 0, stream, p);
	else
		CUDA_LAUNCH(prepare_kernel<128>, (unsigned)blocks, PREPARE_THREADS, 0, stream, p);
	return CUDA_LAUNCHED();
}
