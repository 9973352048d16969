/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm_int8.cu: tiled products of block formats, for prefill.
 *
 * Steps of 128 weights: each thread unpacks one run of 32 weights of the tile once for 64 columns and
 * copies its share of the activations with cp.async; then every warp multiplies runs by mma.sync of
 * int8. Integer sums of a run are exact; formats with a scale for 16 weights take two products of 16.
 * Rows of 128 bytes lie 144 apart: the eight rows of a fragment fall into different banks.
 * A result is a sum over runs in order: the bits depend on its row and its column alone. Accuracy as
 * matvec.cu with n / 32 additions.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/warp.cuh"

#define STEP_RUNS 4   /* of 32 weights */
#define STRIDE	  144 /* bytes of a tile's row */

struct int8_tiles {
	uint8_t w[TILE][STRIDE], x[TILE][STRIDE];
	float s[TILE][STEP_RUNS][2], m[TILE][STEP_RUNS][2];
	float d[TILE][STEP_RUNS];
	int16_t sum[TILE][STEP_RUNS][2];
};

template <int TYPE>
static __device__ __forceinline__ void load_weights(struct int8_tiles *t, const uint8_t *w,
						    const struct gemm_args &a, size_t row0,
						    size_t run0)
{
	const int r = threadIdx.x / STEP_RUNS, j = threadIdx.x % STEP_RUNS;
	struct run32 run = {};

	if (row0 + r < a.rows && run0 + j < a.n / 32)
		load_run<TYPE, TYPE == QUANT_MXFP4 ? 1 : 2>(w + (row0 + r) * a.row_bytes, run0 + j,
							    &run);
	for (int k = 0; k < 8; k++)
		((int *)(t->w[r] + 32 * j))[k] = run.q[k];
	for (int k = 0; k < 2; k++) {
		t->s[r][j][k] = run.s[k];
		t->m[r][j][k] = run.m[k];
	}
}

/* The columns' bytes by asynchronous copies; their scales and sums by one thread a run. */
static __device__ __forceinline__ void load_columns(struct int8_tiles *t, const struct gemm_args &a,
						    size_t col0, size_t end, size_t run0)
{
	const int c = threadIdx.x / STEP_RUNS, j = threadIdx.x % STEP_RUNS;
	const bool on = col0 + c < end && run0 + j < a.n / 32;
	const struct act_in in = act_in_at(a.x, a.n, on ? gemm_source(a, col0 + c) : 0);
	const int8_t *q = in.q + (on ? 32 * (run0 + j) : 0);

	ptx_cp_async_16(t->x[c] + 32 * j, q, on ? 16 : 0);
	ptx_cp_async_16(t->x[c] + 32 * j + 16, q + (on ? 16 : 0), on ? 16 : 0);
	ptx_cp_async_commit();
	t->d[c][j] = on ? in.d[run0 + j] : 0.0f;
	for (int k = 0; k < 2; k++)
		t->sum[c][j][k] = on ? in.s[2 * (run0 + j) + k] : (int16_t)0;
}

static __device__ __forceinline__ uint32_t word(const uint8_t *row, int at)
{
	return *(const uint32_t *)(row + at);
}

/* Run j of the step: two rows and eight columns a lane. */
template <int TYPE>
static __device__ __forceinline__ void multiply(const struct int8_tiles *t, int j, int row, int col,
						float acc[TILE_NCOLS][4])
{
	constexpr bool two = TYPE == QUANT_Q2_K || TYPE == QUANT_Q3_K || TYPE == QUANT_Q6_K;
	constexpr bool minima = TYPE == QUANT_Q4_1 || TYPE == QUANT_Q5_1 || TYPE == QUANT_Q2_K ||
				TYPE == QUANT_Q4_K || TYPE == QUANT_Q5_K;
	const int lane = threadIdx.x % WARP_SIZE, g = lane / 4, k = 32 * j + lane % 4 * 4;
	const uint32_t w[4] = { word(t->w[row + g], k), word(t->w[row + g + 8], k),
				word(t->w[row + g], k + 16), word(t->w[row + g + 8], k + 16) };

	for (int i = 0; i < TILE_NCOLS; i++) {
		const int c = col + 8 * i;
		const uint32_t x[2] = { word(t->x[c + g], k), word(t->x[c + g], k + 16) };
		int32_t lo[4] = { 0, 0, 0, 0 }, hi[4] = { 0, 0, 0, 0 };

		if (two) {
			ptx_mma_s8_k16(lo, w, x[0]);
			ptx_mma_s8_k16(hi, w + 2, x[1]);
		} else {
			ptx_mma_s8(lo, w, x);
		}
		for (int e = 0; e < 4; e++) {
			const int r = row + g + e / 2 * 8, cc = c + lane % 4 * 2 + e % 2;
			float sum = t->s[r][j][0] * (float)lo[e];

			if (two)
				sum = fmaf(t->s[r][j][1], (float)hi[e], sum);
			if (minima)
				sum -= fmaf(t->m[r][j][0], (float)t->sum[cc][j][0],
					    t->m[r][j][1] * (float)t->sum[cc][j][1]);
			acc[i][e] = fmaf(t->d[cc][j], sum, acc[i][e]);
		}
	}
}

template <int TYPE>
static __global__ void __launch_bounds__(TILE_THREADS) gemm_int8_kernel(const struct gemm_args a)
{
	CUDA_SHARED(struct int8_tiles, t, 1);
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	const int row = warp % 4 * 16, col = warp / 4 * 32;
	const size_t row0 = blockIdx.x * (size_t)TILE;
	const uint8_t *w;
	size_t begin, end;

	if (!gemm_range(a, &w, &begin, &end)) /* the same for the whole block */
		return;
	for (size_t col0 = begin + blockIdx.z * (size_t)TILE; col0 < end;
	     col0 += gridDim.z * (size_t)TILE) {
		float acc[TILE_NCOLS][4] = {};

		for (size_t run0 = 0; run0 < a.n / 32; run0 += STEP_RUNS) {
			__syncthreads(); /* the tiles before are read */
			load_columns(t, a, col0, end, run0);
			load_weights<TYPE>(t, w, a, row0, run0);
			ptx_cp_async_wait<0>();
			__syncthreads();
			for (int j = 0; j < STEP_RUNS; j++)
				multiply<TYPE>(t, j, row, col, acc);
		}
		for (int i = 0; i < TILE_NCOLS; i++)
			for (int e = 0; e < 4; e++)
				gemm_store(a, row0 + row + lane / 4 + e / 2 * 8,
					   col0 + col + 8 * i + lane % 4 * 2 + e % 2, end,
					   acc[i][e]);
	}
}

int gemm_int8_launch(cuda_stream stream, uint32_t type, const struct gemm_args &a, dim3 grid)
{
#define GEMM_CASE(T)                                                                  \
	case T:                                                                       \
		CUDA_LAUNCH((gemm_int8_kernel<T>), grid, TILE_THREADS, 0, stream, a); \
		break
	switch (type) {
		GEMM_CASE(QUANT_Q4_0);
		GEMM_CASE(QUANT_Q4_1);
		GEMM_CASE(QUANT_Q5_0);
		GEMM_CASE(QUANT_Q5_1);
		GEMM_CASE(QUANT_Q8_0);
		GEMM_CASE(QUANT_Q2_K);
		GEMM_CASE(QUANT_Q3_K);
		GEMM_CASE(QUANT_Q4_K);
		GEMM_CASE(QUANT_Q5_K);
		GEMM_CASE(QUANT_Q6_K);
		GEMM_CASE(QUANT_IQ4_NL);
		GEMM_CASE(QUANT_IQ4_XS);
		GEMM_CASE(QUANT_MXFP4);
	default:
		return -ENOTSUP;
	}
#undef GEMM_CASE
	return CUDA_LAUNCHED();
}
