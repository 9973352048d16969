/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/delta_chunk_solve.cu: the part of chunked DeltaNet that needs no state, for all
 * chunks and heads at once: products of keys and queries, and the triangular solve.
 *
 * chunk_dots: a block per chunk and key head; K and Q pass through shared memory 64 dimensions at a
 * time (rows of 68 floats: eight rows hit eight bank groups), a thread has 4 x 4 of both products,
 * 128 fused multiply-adds for 12 loads of 16 bytes.
 * chunk_solve: a block of 64 threads per chunk and value head; thread c keeps column c of the
 * inverse in registers and eliminates row after row, the row's factors broadcast from shared
 * memory. kk is symmetric to the bit, so its row m is read where column m is meant. 16 KiB and
 * two warps: a dozen blocks an SM hide the loads of each other.
 *
 * Accuracy: |q^|, |k^| <= 1, so entries of the inverse are at most 1 (they are products of contractions), and
 * each is a sum of at most 63 terms: within about 64 * 2^-24 of the exact inverse of the rounded A.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/delta_chunk.cuh"

#define DOTS_THREADS 256
#define DOTS_PART    64 /* dimensions in shared memory at a time */
#define DOTS_LD	     (DOTS_PART + 4)

static __device__ __forceinline__ float dot4(float4 a, float4 b, float sum)
{
	sum = fmaf(a.x, b.x, sum);
	sum = fmaf(a.y, b.y, sum);
	sum = fmaf(a.z, b.z, sum);
	return fmaf(a.w, b.w, sum);
}

/* 64 dimensions of the rows of a chunk; zeros behind its end. */
static __device__ __forceinline__ void dots_stage(const float *from, size_t ld, uint32_t n,
						  float *to)
{
	const int piece = threadIdx.x % (DOTS_PART / 4) * 4;

#pragma unroll
	for (int i = 0; i < CHUNK; i += DOTS_THREADS / (DOTS_PART / 4)) {
		const uint32_t row = i + threadIdx.x / (DOTS_PART / 4);
		float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

		if (row < n)
			x = *(const float4 *)(from + row * ld + piece);
		*(float4 *)(to + row * DOTS_LD + piece) = x;
	}
}

/* This thread's rows are ty + 16 r, its columns tx + 16 c. */
static __device__ __forceinline__ void dots_part(const float *k, const float *q, float kk[4][4],
						 float qk[4][4])
{
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;

#pragma unroll 4
	for (int d = 0; d < DOTS_PART; d += 4) {
		float4 column[4];

#pragma unroll
		for (int c = 0; c < 4; c++)
			column[c] = *(const float4 *)(k + (tx + 16 * c) * DOTS_LD + d);
#pragma unroll
		for (int r = 0; r < 4; r++) {
			const float4 ki = *(const float4 *)(k + (ty + 16 * r) * DOTS_LD + d);
			const float4 qi = *(const float4 *)(q + (ty + 16 * r) * DOTS_LD + d);

#pragma unroll
			for (int c = 0; c < 4; c++) {
				kk[r][c] = dot4(ki, column[c], kk[r][c]);
				qk[r][c] = dot4(qi, column[c], qk[r][c]);
			}
		}
	}
}

static __global__ void __launch_bounds__(DOTS_THREADS) chunk_dots_kernel(struct cuda_delta a)
{
	CUDA_SHARED(float4, k, CHUNK * DOTS_LD / 4);
	CUDA_SHARED(float4, q, CHUNK * DOTS_LD / 4);
	const struct chunk_place p = chunk_at(a.batch, blockIdx.z, blockIdx.x);
	const size_t ld = delta_channels(a.shape), k_all = a.shape.k_heads * a.shape.dim;
	const float *from = a.qkv + p.first * ld + blockIdx.y * a.shape.dim;
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
	float kk[4][4] = {}, qk[4][4] = {};
	float *out;

	if (p.n == 0)
		return;
	for (size_t d = 0; d < a.shape.dim; d += DOTS_PART) {
		dots_stage(from + k_all + d, ld, p.n, (float *)k);
		dots_stage(from + d, ld, p.n, (float *)q);
		__syncthreads();
		dots_part((const float *)k, (const float *)q, kk, qk);
		__syncthreads();
	}
	out = chunk_keys(a, p.slot, blockIdx.y);
#pragma unroll
	for (int r = 0; r < 4; r++)
#pragma unroll
		for (int c = 0; c < 4; c++) {
			const int at = (ty + 16 * r) * CHUNK + tx + 16 * c;

			out[at] = kk[r][c];
			out[CHUNK_TILE + at] = qk[r][c];
		}
}

/* G of all tokens of the chunk, in two parts; 64 threads, every one its own token. */
static __device__ __forceinline__ void solve_gates(float g, double *sums, float *high, float *low)
{
	const int i = threadIdx.x;
	double sum = g;

	sums[i] = sum;
	__syncthreads();
	for (int m = 1; m < CHUNK; m *= 2) {
		const double other = i >= m ? sums[i - m] : 0.0;

		__syncthreads();
		sum += other;
		sums[i] = sum;
		__syncthreads();
	}
	high[i] = (float)sum;
	low[i] = (float)(sum - (double)high[i]);
	__syncthreads();
}

/* Column @c of the inverse: x_i = (i == c) - sum of A_im x_m; @factors holds A_im at [m][i]. */
static __device__ __forceinline__ void solve_column(const float *factors, int c, float *t)
{
	float x[CHUNK];

#pragma unroll
	for (int i = 0; i < CHUNK; i++)
		x[i] = i == c ? 1.0f : 0.0f;
#pragma unroll
	for (int m = 0; m < CHUNK; m++) {
		t[m * CHUNK + c] = x[m];
#pragma unroll
		for (int i = (m + 1) / 4 * 4; i < CHUNK; i += 4) {
			const float4 f = *(const float4 *)(factors + m * CHUNK + i);

			/* factors up to the diagonal are zero */
			x[i] = fmaf(-f.x, x[m], x[i]);
			x[i + 1] = fmaf(-f.y, x[m], x[i + 1]);
			x[i + 2] = fmaf(-f.z, x[m], x[i + 2]);
			x[i + 3] = fmaf(-f.w, x[m], x[i + 3]);
		}
	}
}

static __global__ void __launch_bounds__(CHUNK) chunk_solve_kernel(struct cuda_delta a)
{
	CUDA_SHARED(float4, factors, CHUNK_TILE / 4);
	CUDA_SHARED(double, sums, CHUNK);
	CUDA_SHARED(float, high, CHUNK);
	CUDA_SHARED(float, low, CHUNK);
	const struct chunk_place p = chunk_at(a.batch, blockIdx.z, blockIdx.x);
	const int i = threadIdx.x;
	const float *kk;
	float g = 0.0f, beta = 0.0f, *out;

	if (p.n == 0)
		return;
	if (i < (int)p.n) {
		const size_t at = (p.first + i) * a.shape.v_heads + blockIdx.y;

		g = a.decay[at];
		beta = a.beta[at];
	}
	solve_gates(g, sums, high, low);
	kk = chunk_keys(a, p.slot, delta_key_head(a.shape, blockIdx.y));
	out = chunk_values(a, p.slot, blockIdx.y);
	out[CHUNK_TILE + i] = high[i];
	out[CHUNK_TILE + CHUNK + i] = low[i];
	for (int m = 0; m < CHUNK; m++) {
		float f = 0.0f;

		if (m < i)
			f = beta * kk[m * CHUNK + i] * chunk_decay(high, low, i, m);
		((float *)factors)[m * CHUNK + i] = f;
	}
	__syncthreads();
	solve_column((const float *)factors, i, out);
}

int chunk_solve_launch(cuda_stream stream, const struct cuda_delta &d)
{
	const unsigned chunks = (unsigned)((d.batch.max_run + CHUNK - 1) / CHUNK);
	const unsigned sequences = (unsigned)d.batch.sequences;

	CUDA_LAUNCH(chunk_dots_kernel, dim3(chunks, (unsigned)d.shape.k_heads, sequences),
		    DOTS_THREADS, 0, stream, d);
	CUDA_LAUNCH(chunk_solve_kernel, dim3(chunks, (unsigned)d.shape.v_heads, sequences), CHUNK,
		    0, stream, d);
	return CUDA_LAUNCHED();
}
