/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/delta_conv.cu: the short causal convolution before gated DeltaNet, and its window.
 *
 * A thread owns a channel and walks up to 32 tokens of one run with the window in registers, so
 * each input is read once (plus three at the start of a piece) and neighbouring threads read
 * neighbouring floats. Pieces of a long run are blocks of their own; only the first piece of a run
 * reads the saved window, and the same thread replaces it after that, from inputs that nobody
 * writes: no order between blocks is needed. That is why out cannot be x.
 *
 * Accuracy: one product and three fused multiply-adds in the order of the taps, whatever the piece;
 * SiLU with expf within 2 ulp and a rounded division.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/delta.cuh"

#define CONV_THREADS 128
#define CONV_PIECE   32 /* tokens of a block */

struct conv_args {
	const uint32_t *start, *slot;
	const float *x, *w;
	float *state, *out;
	size_t channels, stride;
};

template <bool wide> static __device__ __forceinline__ float4 conv_taps(const float *w)
{
	if (wide)
		return *(const float4 *)w;
	return make_float4(w[0], w[1], w[2], w[3]);
}

/* Input @back tokens before the run's token @t: of the run, or of the saved window before it. */
static __device__ __forceinline__ float conv_input(const float *x, const float *window,
						   size_t channels, uint32_t t, uint32_t back)
{
	return back <= t ? x[(size_t)(t - back) * channels]
			 : window[(size_t)(3 + t - back) * channels];
}

template <bool wide>
static __global__ void __launch_bounds__(CONV_THREADS) conv_kernel(struct conv_args a)
{
	const size_t c = (size_t)blockIdx.x * CONV_THREADS + threadIdx.x;
	const uint32_t first = a.start[blockIdx.z], run = a.start[blockIdx.z + 1] - first;
	const uint32_t from = blockIdx.y * CONV_PIECE;
	const uint32_t end = from + CONV_PIECE < run ? from + CONV_PIECE : run;
	const float *__restrict__ x = a.x + first * a.channels + c;
	float *__restrict__ out = a.out + first * a.channels + c;
	float *window = a.state + a.slot[blockIdx.z] * a.stride + c;
	float p0, p1, p2, l0, l1, l2;
	float4 w;

	if (c >= a.channels || from >= run)
		return;
	w = conv_taps<wide>(a.w + c * 4);
	p0 = conv_input(x, window, a.channels, from, 3);
	p1 = conv_input(x, window, a.channels, from, 2);
	p2 = conv_input(x, window, a.channels, from, 1);
	if (from == 0) {
		l0 = conv_input(x, window, a.channels, run - 1, 2);
		l1 = conv_input(x, window, a.channels, run - 1, 1);
		l2 = conv_input(x, window, a.channels, run - 1, 0);
		window[0] = l0;
		window[a.channels] = l1;
		window[2 * a.channels] = l2;
	}
#pragma unroll 4
	for (uint32_t t = from; t < end; t++) {
		const float p3 = x[t * a.channels];
		float sum = w.x * p0;

		sum = fmaf(w.y, p1, sum);
		sum = fmaf(w.z, p2, sum);
		sum = fmaf(w.w, p3, sum);
		out[t * a.channels] = sum / (1.0f + expf(-sum));
		p0 = p1;
		p1 = p2;
		p2 = p3;
	}
}

int cuda_delta_conv(cuda_stream stream, const struct cuda_delta_shape *s,
		    const struct cuda_delta_batch *b, const float *x, const float *w, float *state,
		    float *out)
{
	struct conv_args a = { NULL, NULL, x, w, state, out, 0, 0 };
	size_t blocks, pieces;

	if (delta_check_shape(s) || delta_check_batch(b))
		return -EINVAL;
	if (b->tokens == 0)
		return 0;
	a.start = b->start;
	a.slot = b->slot;
	a.channels = delta_channels(*s);
	a.stride = delta_stride(b, 3 * a.channels);
	blocks = (a.channels + CONV_THREADS - 1) / CONV_THREADS;
	pieces = (b->max_run + CONV_PIECE - 1) / CONV_PIECE;
	if (!x || !w || !state || !out || x == out || !a.stride || pieces > DELTA_HEADS_MAX ||
	    blocks > INT32_MAX)
		return -EINVAL;

	const dim3 grid((unsigned)blocks, (unsigned)pieces, (unsigned)b->sequences);

	if (aligned16(w))
		CUDA_LAUNCH(conv_kernel<true>, grid, CONV_THREADS, 0, stream, a);
	else
		CUDA_LAUNCH(conv_kernel<false>, grid, CONV_THREADS, 0, stream, a);
	return CUDA_LAUNCHED();
}
