/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm_int8.cu: tiled products of block formats, for prefill.
 *
 * Steps of 64 weights, two buffers: while the tensor cores work on one, each thread unpacks a slice of 32
 * weights (blocks.cuh) into the other, once for 128 columns, and copies its share of the activations with
 * cp.async. mma.sync of int8 gives a run's exact sum as a float (ptx.h), so a run costs two fused
 * multiply-adds a value: times the weights' scale, times the activations'; one more for a minimum.
 * Formats with a scale for 16 weights take two products of 16. 36 to 48 KiB and at most 128
 * registers: two blocks an SM, one multiplies while the other waits for memory.
 * A result is a sum over runs in order: the bits depend on its row and its column alone. Accuracy: a run
 * rounds at most 4 times (times its scale exactly: 19 bits of scale times the 2 of PTX_INT_FLOAT fit),
 * then n / 32 additions, n / 16 for formats with a scale for 16.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/gemm.cuh"

#define STEP 2 /* runs of 32 weights */

template <int TYPE> struct int8_shape {
	/* a scale for 16 weights */
	static constexpr bool fine = TYPE == QUANT_Q2_K || TYPE == QUANT_Q3_K || TYPE == QUANT_Q6_K;
	static constexpr bool minima = block_shape<TYPE>::minima;
	static constexpr int scales = fine ? 2 * STEP : STEP;	/* of a row and step */
	static constexpr int sums = !minima ? 0 : fine ? 3 : 1; /* floats beside a column's d */
};

template <int TYPE> struct alignas(16) int8_tiles {
	using shape = int8_shape<TYPE>;
	uint8_t w[TILE_SIZE], x[TILE_SIZE];
	/* of a column: d, then sums of q: of the run, or of its halves (and one word of nothing) */
	float d[STEP][TILE][1 + shape::sums];
	float s[shape::scales][TILE];
	float m[shape::minima ? shape::scales : 1]
	       [shape::minima ? TILE : 1]; /* minus the minimum */
};

/* One slice of one row of the tile. */
template <int TYPE>
static __device__ __forceinline__ void load_weights(struct int8_tiles<TYPE> *t, const uint8_t *w,
						    const struct gemm_args &a, size_t row0,
						    size_t step)
{
	using shape = int8_shape<TYPE>;
	const int r = threadIdx.x / 2, h = threadIdx.x % 2;
	const size_t row = row0 + r < a.rows ? row0 + r : a.rows - 1; /* not stored */
	constexpr bool gains = gains_wide(TYPE);
	struct slice v;

	if (step * STEP + h >= a.n / 32)
		return;
	if (gains && aligned16(w, a.row_bytes)) /* the same for the whole block */
		load_slice<TYPE, gains ? 16 : 2, true>(w + row * a.row_bytes, step * STEP + h, &v);
	else
		load_slice<TYPE, 2, true>(w + row * a.row_bytes, step * STEP + h, &v);
#pragma unroll
	for (int k = 0; k < 2; k++) {
		constexpr uint32_t bias = block_shape<TYPE>::bias * 0x01010101u;
		const int at = (int)(v.at[k] - 4 * step);
		uint32_t q[4];

#pragma unroll
		for (int i = 0; i < 4; i++)
			q[i] = bias ? bytes_minus(v.q[4 * k + i], bias) : v.q[4 * k + i];
		*(uint4 *)tile_piece(t->w, r, at) = make_uint4(q[0], q[1], q[2], q[3]);
		if (shape::fine) {
			t->s[at][r] = v.s[k];
			if (shape::minima)
				t->m[at][r] = -v.m[k];
		}
	}
	if (!shape::fine) {
		/* one slice is a run, or has a half of each of both */
		const int k = block_shape<TYPE>::one ? 0 : h;

		t->s[h][r] = k ? v.s[1] : v.s[0];
		if (shape::minima)
			t->m[h][r] = k ? -v.m[1] : -v.m[0];
	}
}

/* Half a row of the columns' tile by asynchronous copies; the scale and sums of one run. */
template <int TYPE>
static __device__ __forceinline__ void load_columns(struct int8_tiles<TYPE> *t,
						    const struct act_in &in, size_t n, bool on,
						    int groups, size_t step)
{
	using shape = int8_shape<TYPE>;
	const int c = threadIdx.x / 2, h = threadIdx.x % 2;
	const size_t run = step * STEP + h;

	if (c < (groups + 1) / 2 * 16 && run < n / 32) {
		const int8_t *q = in.q + (on ? 32 * run : 0);

		ptx_cp_async_16(tile_piece(t->x, c, 2 * h), q, on ? 16 : 0);
		ptx_cp_async_16(tile_piece(t->x, c, 2 * h + 1), q + (on ? 16 : 0), on ? 16 : 0);
		t->d[h][c][0] = on ? in.d[run] : 0.0f;
		if (shape::minima) {
			const float s0 = on ? (float)in.s[2 * run] : 0.0f;
			const float s1 = on ? (float)in.s[2 * run + 1] : 0.0f;

			t->d[h][c][1] = shape::fine ? s0 : s0 + s1;
			if (shape::fine) {
				t->d[h][c][2] = s1;
				t->d[h][c][3] = 0.0f;
			}
		}
	}
	ptx_cp_async_commit();
}

/* What two neighbouring columns bring: their scales and, of part p, their sums. */
template <int SUMS> struct int8_pair {
	float d[2], sums[SUMS == 3 ? 2 : 1][2];
};

template <int SUMS> static __device__ __forceinline__ int8_pair<SUMS> load_pair(const float *at)
{
	int8_pair<SUMS> p = {};

	if constexpr (SUMS == 0) {
		const float2 v = *(const float2 *)at;

		p.d[0] = v.x;
		p.d[1] = v.y;
	} else {
		const float4 v = *(const float4 *)at;

		p.d[0] = v.x;
		p.sums[0][0] = v.y;
		p.d[1] = v.z;
		p.sums[0][1] = v.w;
		if constexpr (SUMS == 3) {
			const float4 u = *(const float4 *)(at + 4);

			p.sums[1][0] = v.z;
			p.d[1] = u.x;
			p.sums[0][1] = u.y;
			p.sums[1][1] = u.z;
		}
	}
	return p;
}

/* One product's four values, PTX_INT_FLOAT too large, times the scale of their rows, less the minimum. */
template <int TYPE>
static __device__ __forceinline__ void scaled(float v[4], const float s[2], const float m[2],
					      const float sums[2])
{
#pragma unroll
	for (int e = 0; e < 4; e++) {
		v[e] = fmaf(v[e], s[e / 2], -PTX_INT_FLOAT * s[e / 2]);
		if (block_shape<TYPE>::minima)
			v[e] = fmaf(m[e / 2], sums[e % 2], v[e]);
	}
}

/* Run @k of the step: 16 rows and all columns a warp. */
template <int TYPE>
static __device__ __forceinline__ void multiply(struct int8_tiles<TYPE> *t, int k, int groups,
						float acc[TILE_GROUPS][4])
{
	using shape = int8_shape<TYPE>;
	constexpr int parts = shape::fine ? 2 : 1;
	const int lane = threadIdx.x % WARP_SIZE, row = threadIdx.x / WARP_SIZE * 16;
	float s[parts][2], m[parts][2];
	uint32_t w[4], x[4];

	tile_rows(w, t->w, row, k);
#pragma unroll
	for (int p = 0; p < parts; p++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			s[p][i] = t->s[parts * k + p][row + lane / 4 + 8 * i];
			m[p][i] = shape::minima ? t->m[parts * k + p][row + lane / 4 + 8 * i]
						: 0.0f;
		}
#pragma unroll
	for (int i = 0; i < TILE_GROUPS; i++) {
		if (i >= groups)
			break;
		const struct int8_pair<shape::sums> col =
			load_pair<shape::sums>(t->d[k][8 * i + lane % 4 * 2]);

		if (i % 2 == 0)
			tile_cols(x, t->x, 8 * i, k);
#pragma unroll
		for (int p = 0; p < parts; p++) {
			float v[4];

			if (shape::fine)
				ptx_mma_s8_k16_float(v, w + 2 * p, x[i % 2 * 2 + p]);
			else
				ptx_mma_s8_float(v, w, x + i % 2 * 2);
			scaled<TYPE>(v, s[p], m[p], col.sums[shape::minima ? p : 0]);
#pragma unroll
			for (int e = 0; e < 4; e++)
				acc[i][e] = fmaf(col.d[e % 2], v[e], acc[i][e]);
		}
	}
}

/* One tile of columns, [col0, end) of the expert's. */
template <int TYPE>
static __device__ __forceinline__ void tile_product(struct int8_tiles<TYPE> *t,
						    const struct gemm_args &a, const uint8_t *w,
						    size_t row0, size_t col0, size_t end)
{
	const size_t runs = a.n / 32, steps = (runs + STEP - 1) / STEP;
	const size_t mine = col0 + threadIdx.x / 2;
	const bool on = mine < end;
	const struct act_in in = act_in_at(a.x, a.n, on ? gemm_source(a, mine) : 0);
	const int groups = gemm_groups(col0, end);
	float acc[TILE_GROUPS][4] = {};

	load_columns<TYPE>(t, in, a.n, on, groups, 0);
	load_weights<TYPE>(t, w, a, row0, 0);
	for (size_t step = 0; step < steps; step++) {
		struct int8_tiles<TYPE> *now = t + step % 2, *next = t + (step + 1) % 2;

		ptx_cp_async_wait<0>();
		__syncthreads(); /* this step's tiles are there, the last one's are read */
		if (step + 1 < steps) {
			load_columns<TYPE>(next, in, a.n, on, groups, step + 1);
			load_weights<TYPE>(next, w, a, row0, step + 1);
		}
		for (int k = 0; k < STEP && step * STEP + k < runs; k++)
			multiply<TYPE>(now, k, groups, acc);
	}
	tile_store(a, row0, col0, end, acc);
	__syncthreads();
}

template <int TYPE>
static __global__ void __launch_bounds__(TILE_THREADS, 2) gemm_int8_kernel(const struct gemm_args a)
{
	CUDA_SHARED(struct int8_tiles<TYPE>, t, 2);
	const uint8_t *w;
	size_t begin, end;

	if (!gemm_range(a, &w, &begin, &end)) /* the same for the whole block */
		return;
	for (size_t col0 = begin + blockIdx.z * (size_t)TILE; col0 < end;
	     col0 += gridDim.z * (size_t)TILE)
		tile_product<TYPE>(t, a, w, blockIdx.x * (size_t)TILE, col0, end);
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
