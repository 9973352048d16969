/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/rmsnorm.cu: the residual add and the norm after it, in one pass over the row; what is added
 * may be the reduction over a token's experts, from memory of the device and of the host.
 *
 * A block owns a row and keeps it in registers between the two uses: four neighbouring values a
 * thread and step (16-byte loads where the rows allow it), up to four steps of 1024 threads; a warp
 * has 256 neighbouring values in two steps, so that the scales of the int8 forms (act.cuh) need no shared
 * memory. The number of threads follows from n alone: a row has the same bits in any launch.
 *
 * Accuracy: n = 16384 squares are summed by 16 additions in a thread and 10 in the trees, so the
 * mean is within 27 * 2^-24 relative, its root within half of that; then two products. In all
 * |error| <= 18 * 2^-24 |out|. sqrtf and the division are the rounded ones.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/warp.cuh"

#include <errno.h>

#define NORM_STEPS   4
#define NORM_THREADS 1024
#define NORM_MAX     (NORM_STEPS * NORM_THREADS * 4)

struct norm_args {
	float *res;
	const float *x, *w;
	size_t n;
	float eps;
	float *out;
	struct cuda_act act;
	struct cuda_expert_sum sum; /* k 0: x is added */
};

template <bool wide> static __device__ __forceinline__ float4 load4(const float *p)
{
	if (wide)
		return *(const float4 *)p;
	return make_float4(p[0], p[1], p[2], p[3]);
}

template <bool wide> static __device__ __forceinline__ void store4(float *p, float4 v)
{
	if (wide) {
		*(float4 *)p = v;
		return;
	}
	p[0] = v.x;
	p[1] = v.y;
	p[2] = v.z;
	p[3] = v.w;
}

/* Values [i, i + 4) of the sum over the experts of token @t: expert_reduce.cu's, four at a time. */
template <bool wide>
static __device__ __forceinline__ float4 norm_experts(const struct norm_args &a, size_t t, size_t i)
{
	const struct cuda_expert_sum &s = a.sum;
	float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

#pragma unroll 4 /* rows in flight: those of the host are far away */
	for (unsigned r = 0; r < s.k; r++) {
		const uint32_t at = s.place ? s.place[t * s.k + r] : (uint32_t)(t * s.k + r);
		const bool far = s.mapped && at >= CUDA_MAPPED;
		const float weight = s.weights[t * s.k + r];
		float4 v;

		if (s.place && at == UINT32_MAX) /* the same for the whole block */
			continue;
		v = load4<wide>(far ? s.mapped + (size_t)(at - CUDA_MAPPED) * a.n + i
				    : s.partial + (size_t)at * a.n + i);
		sum = make_float4(fmaf(weight, v.x, sum.x), fmaf(weight, v.y, sum.y),
				  fmaf(weight, v.z, sum.z), fmaf(weight, v.w, sum.w));
	}
	return sum;
}

/* Values [i, i + 4) of the row: res + x, stored back to res, or the one of them that is given. */
template <bool wide, bool experts>
static __device__ __forceinline__ float4 norm_input(const struct norm_args &a, size_t row, size_t i)
{
	const size_t at = row * a.n + i;
	float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f), r;

	if (experts)
		v = norm_experts<wide>(a, row, i);
	else if (a.x)
		v = load4<wide>(a.x + at);
	if (!a.res)
		return v;
	r = load4<wide>(a.res + at);
	if (!experts && !a.x)
		return r;
	v = make_float4(r.x + v.x, r.y + v.y, r.z + v.z, r.w + v.w);
	store4<wide>(a.res + at, v);
	return v;
}

/* Where this thread's four values of step @s begin: steps 2 k and 2 k + 1 are 256 values of a warp. */
static __device__ __forceinline__ size_t norm_at(int s)
{
	const size_t warp = threadIdx.x / WARP_SIZE, warps = blockDim.x / WARP_SIZE;

	return (s / 2 * warps + warp) * ACT_WARP + s % 2 * 128 + threadIdx.x % WARP_SIZE * 4;
}

template <bool wide, bool experts>
static __global__ void __launch_bounds__(NORM_THREADS)
	rmsnorm_kernel(const __grid_constant__ struct norm_args a)
{
	CUDA_SHARED(float, shared, WARPS_MAX);
	const size_t row = (size_t)blockIdx.x * a.n;
	const struct act_row act = act_row_at(a.act.rows, a.n, blockIdx.x);
	float4 v[NORM_STEPS];
	float sum = 0.0f, scale;

#pragma unroll
	for (int s = 0; s < NORM_STEPS; s++) {
		const size_t i = norm_at(s);

		v[s] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		if (i < a.n)
			v[s] = norm_input<wide, experts>(a, blockIdx.x, i);
		sum = fmaf(v[s].x, v[s].x, sum);
		sum = fmaf(v[s].y, v[s].y, sum);
		sum = fmaf(v[s].z, v[s].z, sum);
		sum = fmaf(v[s].w, v[s].w, sum);
	}
	scale = scale_or_nan(1.0f / sqrtf(block_sum(sum, shared) / (float)a.n + a.eps));
#pragma unroll
	for (int s = 0; s < NORM_STEPS; s++) {
		const size_t i = norm_at(s);
		float4 w = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

		if (i < a.n)
			w = load4<wide>(a.w + i);
		v[s] = make_float4(v[s].x * scale * w.x, v[s].y * scale * w.y, v[s].z * scale * w.z,
				   v[s].w * scale * w.w);
		if (a.out && i < a.n)
			store4<wide>(a.out + row + i, v[s]);
	}
	for (int s = 0; s < NORM_STEPS && a.act.rows; s += 2) {
		const size_t first = norm_at(s) / ACT_WARP * ACT_WARP;

		if (first < a.n) /* the same for the whole warp */
			act_store(a.act.form, act, a.n, first, v + s, true);
	}
}

/* 0, or -EINVAL: what both forms ask for. */
static int norm_check(const struct norm_args &a, size_t rows)
{
	if (a.n == 0 || a.n % 32 || a.n > NORM_MAX || rows > INT32_MAX)
		return -EINVAL;
	if (rows &&
	    (!a.w || !aligned16(a.act.rows) || (a.act.rows && !cuda_act_fits(a.act.form, a.n))))
		return -EINVAL;
	return 0;
}

template <bool experts>
static int norm_launch(cuda_stream stream, const struct norm_args &a, size_t rows, bool wide)
{
	const size_t warps = (a.n + ACT_WARP - 1) / ACT_WARP;
	const size_t threads = warps < WARPS_MAX ? warps * WARP_SIZE : NORM_THREADS;

	if (wide && aligned16(a.res) && aligned16(a.w) && aligned16(a.out))
		CUDA_LAUNCH((rmsnorm_kernel<true, experts>), (unsigned)rows, (unsigned)threads, 0,
			    stream, a);
	else
		CUDA_LAUNCH((rmsnorm_kernel<false, experts>), (unsigned)rows, (unsigned)threads, 0,
			    stream, a);
	return CUDA_LAUNCHED();
}

int cuda_rmsnorm(cuda_stream stream, float *res, const float *x, const float *w, size_t n,
		 size_t rows, float eps, float *out, struct cuda_act act)
{
	const struct norm_args a = { res, x, w, n, eps, out, act, {} };
	const int rc = norm_check(a, rows);

	if (rc || rows == 0)
		return rc;
	if (!res && !x)
		return -EINVAL;
	return norm_launch<false>(stream, a, rows, aligned16(x));
}

int cuda_expert_reduce_norm(cuda_stream stream, const struct cuda_expert_sum *s, float *res,
			    const float *w, size_t n, size_t rows, float eps, float *out,
			    struct cuda_act act)
{
	const struct norm_args a = { res, NULL, w, n, eps, out, act, *s };
	const int rc = norm_check(a, rows);

	if (rc || rows == 0)
		return rc;
	if (!res || !s->partial || !s->weights || !s->k || rows > 0x7fffffff / s->k ||
	    (s->mapped && !s->place))
		return -EINVAL;
	return norm_launch<true>(stream, a, rows, aligned16(s->partial) && aligned16(s->mapped));
}
