/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/delta_out.cu: norm of each head of DeltaNet's output times SiLU(z).
 *
 * Two times four neighbouring values a lane (16-byte loads where the rows allow it), 256 a warp: 16 or 32
 * lanes hold a head, the warp a super-block, so neither the norm nor the scales of the int8 forms need
 * shared memory.
 * Bound by memory; all inputs are read once.
 *
 * Accuracy: the mean of dim squares by 4 + 5 additions at most, its root, a division, three
 * products and SiLU (expf within 2 ulp, one division): |error| <= 17 * 2^-24 |out|.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/delta.cuh"
#include "kernels/cuda/warp.cuh"

#define OUT_THREADS 256

struct out_args {
	const float *o, *z, *w;
	size_t tokens, row; /* values of a token */
	float eps;
	float *out;
	struct cuda_act act;
};

template <bool wide> static __device__ __forceinline__ float4 out_load(const float *p)
{
	if (wide)
		return *(const float4 *)p;
	return make_float4(p[0], p[1], p[2], p[3]);
}

static __device__ __forceinline__ float silu(float x)
{
	return x / (1.0f + expf(-x));
}

/* Values [i, i + 4), of a whole head in dim / 4 lanes; zeros where @on is false. */
template <bool wide, int dim>
static __device__ __forceinline__ float4 out_four(const struct out_args &a, size_t i, bool on)
{
	float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f), z = v, w = v;
	float sum, scale;

	if (on) {
		v = out_load<wide>(a.o + i);
		z = out_load<wide>(a.z + i);
		w = out_load<wide>(a.w + i % dim);
	}
	sum = v.x * v.x;
	sum = fmaf(v.y, v.y, sum);
	sum = fmaf(v.z, v.z, sum);
	sum = fmaf(v.w, v.w, sum);
	scale = scale_or_nan(1.0f / sqrtf(warp_sum_width(sum, dim / 4) / (float)dim + a.eps));
	v = make_float4(v.x * scale * w.x * silu(z.x), v.y * scale * w.y * silu(z.y),
			v.z * scale * w.z * silu(z.z), v.w * scale * w.w * silu(z.w));
	if (a.out && on && wide) {
		*(float4 *)(a.out + i) = v;
	} else if (a.out && on) {
		a.out[i] = v.x;
		a.out[i + 1] = v.y;
		a.out[i + 2] = v.z;
		a.out[i + 3] = v.w;
	}
	return v;
}

/* A warp 256 values of a token, the last of a token fewer. */
template <bool wide, int dim>
static __global__ void __launch_bounds__(OUT_THREADS) out_kernel(struct out_args a)
{
	const size_t per_token = (a.row + ACT_WARP - 1) / ACT_WARP;
	const size_t warp = ((size_t)blockIdx.x * OUT_THREADS + threadIdx.x) / WARP_SIZE;
	const size_t t = warp / per_token, first = warp % per_token * ACT_WARP;
	float4 v[2];

	if (t >= a.tokens) /* the same for the whole warp */
		return;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		const size_t i = first + 128 * h + threadIdx.x % WARP_SIZE * 4;

		v[h] = out_four<wide, dim>(a, t * a.row + i, i < a.row);
	}
	if (a.act.rows)
		act_store(a.act.form, act_row_at(a.act.rows, a.row, t), a.row, first, v, true);
}

template <bool wide>
static void out_launch(cuda_stream stream, const struct out_args &a, size_t dim, unsigned blocks)
{
	if (dim == 64)
		CUDA_LAUNCH((out_kernel<wide, 64>), blocks, OUT_THREADS, 0, stream, a);
	else
		CUDA_LAUNCH((out_kernel<wide, 128>), blocks, OUT_THREADS, 0, stream, a);
}

int cuda_delta_out(cuda_stream stream, const float *o, const float *z, const float *w,
		   size_t tokens, size_t heads, size_t dim, float eps, float *out,
		   struct cuda_act act)
{
	const struct out_args a = { o, z, w, tokens, heads * dim, eps, out, act };
	const size_t warps = tokens * ((a.row + ACT_WARP - 1) / ACT_WARP);
	const size_t blocks = (warps + OUT_THREADS / WARP_SIZE - 1) / (OUT_THREADS / WARP_SIZE);

	if ((dim != 64 && dim != 128) || heads > DELTA_HEADS_MAX || tokens > INT32_MAX)
		return -EINVAL;
	if (tokens == 0 || heads == 0)
		return 0;
	if (!o || !z || !w || (!out && !act.rows) || !aligned16(act.rows) ||
	    (act.rows && !cuda_act_fits(act.form, a.row)) || blocks > INT32_MAX)
		return -EINVAL;
	if (aligned16(o) && aligned16(z) && aligned16(w) && aligned16(out))
		out_launch<true>(stream, a, dim, (unsigned)blocks);
	else
		out_launch<false>(stream, a, dim, (unsigned)blocks);
	return CUDA_LAUNCHED();
}
