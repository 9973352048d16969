/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm_int8.cu: tiled products of block formats, for prefill, by the law of kernels/quant.h:
 * the bits are those of cuda_matvec and of every CPU level.
 *
 * Steps of 64 weights, two buffers: while the tensor cores work on one, each thread unpacks a slice of 32
 * weights (blocks.cuh) into the other, once for 64 columns, and copies its share of the activations with
 * cp.async. A block of 32: mma.sync gives its exact sum as a float (ptx.h), which joins the result by
 * one fused multiply-add, two with a minimum. A super-block: sums of 32 (of 16 where scales are) times
 * their whole scales stay integers until its end; minima are one more product of bytes there, the sums
 * of 16 activations cut in two (s = 64 hi + lo). Nothing is split over k.
 * 30 to 40 KiB; 64 sums of each kind a thread for two blocks an SM: one multiplies while the other
 * waits for memory.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/gemm.cuh"

#define STEP	    2 /* runs of 32 weights */
#define SUPER_STEPS 4 /* of a super-block */
#define GROUPS	    (TILE_INT8 / 8)

template <int TYPE> struct int8_shape {
	static constexpr bool big = block_shape<TYPE>::big;
	/* a scale for 16 weights */
	static constexpr bool fine = TYPE == QUANT_Q2_K || TYPE == QUANT_Q3_K || TYPE == QUANT_Q6_K;
	static constexpr bool minima = block_shape<TYPE>::minima;
	static constexpr int scales = fine ? 2 * STEP : STEP; /* of a row and step */
};

/* What a step needs. */
template <int TYPE> struct alignas(16) int8_tiles {
	using shape = int8_shape<TYPE>;
	uint8_t w[TILE_SIZE], x[TILE_INT8 * TILE_BYTES];
	int scale[shape::big ? shape::scales : 1][shape::big ? TILE : 1];
	/* blocks of 32: scales, minima, and of a column scale and sum */
	float d[shape::big ? 1 : STEP][shape::big ? 1 : TILE];
	float m[shape::minima && !shape::big ? STEP : 1][shape::minima && !shape::big ? TILE : 1];
	float dx[shape::big ? 1 : STEP][shape::big ? 1 : TILE_INT8];
	float sum[shape::minima && !shape::big ? STEP : 1]
		 [shape::minima && !shape::big ? TILE_INT8 : 1];
};

/* What the end of a super-block needs. */
template <int TYPE> struct alignas(16) int8_super {
	static constexpr int rows = int8_shape<TYPE>::big ? TILE : 1;
	static constexpr int cols = int8_shape<TYPE>::big ? TILE_INT8 : 1;
	static constexpr bool minima = int8_shape<TYPE>::minima && int8_shape<TYPE>::big;
	float d[rows], dmin[rows], dx[cols];
	uint8_t min[minima ? TILE : 1][16], lo[minima ? TILE_INT8 : 1][16];
	int8_t hi[minima ? TILE_INT8 : 1][16];
};

template <int TYPE> struct int8_shared {
	struct int8_tiles<TYPE> tiles[2];
	struct int8_super<TYPE> super[2];
};

/* Scales and minima of slice @h of row @r. */
template <int TYPE>
static __device__ __forceinline__ void put_scales(struct int8_tiles<TYPE> *t,
						  struct int8_super<TYPE> *u, const struct slice &v,
						  int r, int h, size_t step)
{
	using shape = int8_shape<TYPE>;

	if constexpr (!shape::big) {
		t->d[h][r] = v.d;
		if constexpr (shape::minima)
			t->m[h][r] = -v.dmin;
	} else {
#pragma unroll
		for (int k = 0; k < 2; k++) {
			const int at = (int)(v.at[k] - 4 * step);

			if constexpr (shape::fine)
				t->scale[at][r] = v.scale[k];
			if constexpr (shape::minima)
				u->min[r][step % SUPER_STEPS * 4 + at] = (uint8_t)v.min[k];
		}
		/* one slice is a run, or has a half of each of both */
		if constexpr (!shape::fine)
			t->scale[h][r] = !block_shape<TYPE>::one && h ? v.scale[1] : v.scale[0];
		if (h == 0) {
			u->d[r] = v.d;
			if (shape::minima)
				u->dmin[r] = v.dmin;
		}
	}
}

/* One slice of one row of the tile. */
template <int TYPE>
static __device__ __forceinline__ void load_weights(struct int8_shared<TYPE> *sh, const uint8_t *w,
						    const struct gemm_args &a, size_t row0,
						    size_t step)
{
	struct int8_tiles<TYPE> *t = sh->tiles + step % 2;
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
		uint32_t q[4];

#pragma unroll
		for (int i = 0; i < 4; i++)
			q[i] = bias ? bytes_minus(v.q[4 * k + i], bias) : v.q[4 * k + i];
		*(uint4 *)tile_piece(t->w, r, (int)(v.at[k] - 4 * step)) =
			make_uint4(q[0], q[1], q[2], q[3]);
	}
	put_scales<TYPE>(t, sh->super + step / SUPER_STEPS % 2, v, r, h, step);
}

/* A quarter of a row of the columns' tile by an asynchronous copy; its part of scales and sums. */
template <int TYPE>
static __device__ __forceinline__ void load_columns(struct int8_shared<TYPE> *sh,
						    const struct act_in &in, size_t n, bool on,
						    int groups, size_t step)
{
	using shape = int8_shape<TYPE>;
	struct int8_tiles<TYPE> *t = sh->tiles + step % 2;
	struct int8_super<TYPE> *u = sh->super + step / SUPER_STEPS % 2;
	const int c = threadIdx.x / 4, p = threadIdx.x % 4;
	const size_t part = 4 * step + p; /* of 16 values */

	if (c < (groups + 1) / 2 * 16 && part < n / 16) {
		const float d = on ? in.d[part / 2] : 0.0f;
		const int s = shape::minima && on ? in.s[part] : 0;

		ptx_cp_async_16(tile_piece(t->x, c, p), in.q + (on ? 16 * part : 0), on ? 16 : 0);
		if constexpr (shape::big) {
			if (p == 0)
				u->dx[c] = d;
			if constexpr (shape::minima) {
				u->lo[c][step % SUPER_STEPS * 4 + p] = (uint8_t)(s & 63);
				u->hi[c][step % SUPER_STEPS * 4 + p] = (int8_t)(s >> 6);
			}
		} else if (p % 2 == 0) {
			t->dx[p / 2][c] = d;
			if constexpr (shape::minima)
				t->sum[p / 2][c] = (float)(s + (on ? (int)in.s[part + 1] : 0));
		}
	}
	ptx_cp_async_commit();
}

/* Run @k of a step of blocks of 32: 16 rows and all columns a warp. */
template <int TYPE>
static __device__ __forceinline__ void multiply_run(struct int8_tiles<TYPE> *t, int k, int groups,
						    float acc[GROUPS][4])
{
	using shape = int8_shape<TYPE>;
	const int lane = threadIdx.x % WARP_SIZE, row = threadIdx.x / WARP_SIZE * 16;
	uint32_t w[4], x[4];
	float d[2], m[2] = { 0.0f, 0.0f };

	tile_rows(w, t->w, row, k);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		d[i] = t->d[k][row + lane / 4 + 8 * i];
		if constexpr (shape::minima)
			m[i] = t->m[k][row + lane / 4 + 8 * i];
	}
#pragma unroll
	for (int i = 0; i < GROUPS; i++) {
		const int col = 8 * i + lane % 4 * 2;
		float v[4];

		if (i >= groups)
			break;
		if (i % 2 == 0)
			tile_cols(x, t->x, 8 * i, k);
		ptx_mma_s8_float(v, w, x + i % 2 * 2);
#pragma unroll
		for (int e = 0; e < 4; e++) {
			const float dx = t->dx[k][col + e % 2];

			acc[i][e] = fmaf(d[e / 2] * dx, v[e] - PTX_INT_FLOAT, acc[i][e]);
			if constexpr (shape::minima)
				acc[i][e] = fmaf(m[e / 2] * dx, t->sum[k][col + e % 2], acc[i][e]);
		}
	}
}

/* Run @k of a step of super-blocks, into whole sums. */
template <int TYPE>
static __device__ __forceinline__ void collect_run(struct int8_tiles<TYPE> *t, int k, int groups,
						   int32_t sum[GROUPS][4])
{
	using shape = int8_shape<TYPE>;
	constexpr int parts = shape::fine ? 2 : 1;
	const int lane = threadIdx.x % WARP_SIZE, row = threadIdx.x / WARP_SIZE * 16;
	uint32_t w[4], x[4];
	int scale[parts][2];

	tile_rows(w, t->w, row, k);
#pragma unroll
	for (int p = 0; p < parts; p++)
#pragma unroll
		for (int i = 0; i < 2; i++)
			scale[p][i] = t->scale[parts * k + p][row + lane / 4 + 8 * i];
#pragma unroll
	for (int i = 0; i < GROUPS; i++) {
		if (i >= groups)
			break;
		if (i % 2 == 0)
			tile_cols(x, t->x, 8 * i, k);
#pragma unroll
		for (int p = 0; p < parts; p++) {
			int32_t v[4] = { 0, 0, 0, 0 };

			if (shape::fine)
				ptx_mma_s8_k16(v, w + 2 * p, x[i % 2 * 2 + p]);
			else
				ptx_mma_s8(v, w, x + i % 2 * 2);
#pragma unroll
			for (int e = 0; e < 4; e++)
				sum[i][e] += scale[p][e / 2] * v[e];
		}
	}
}

/* The end of a super-block: its sums join the results, and begin anew. */
template <int TYPE>
static __device__ __forceinline__ void finish_super(const struct int8_super<TYPE> *u, int groups,
						    int32_t sum[GROUPS][4], float acc[GROUPS][4])
{
	constexpr bool minima = int8_shape<TYPE>::minima;
	const int lane = threadIdx.x % WARP_SIZE, row = threadIdx.x / WARP_SIZE * 16 + lane / 4;
	const float d[2] = { u->d[row], u->d[row + 8] };
	float dmin[2] = { 0.0f, 0.0f };
	uint32_t min[2] = { 0, 0 };

	if constexpr (minima) {
#pragma unroll
		for (int i = 0; i < 2; i++) {
			dmin[i] = u->dmin[row + 8 * i];
			min[i] = *(const uint32_t *)(u->min[row + 8 * i] + lane % 4 * 4);
		}
	}
#pragma unroll
	for (int i = 0; i < GROUPS; i++) {
		const float *dx = u->dx + 8 * i + lane % 4 * 2;
		int32_t m[4] = { 0, 0, 0, 0 };

		if (i >= groups)
			break;
		if constexpr (minima) {
			const int at = 8 * i + lane / 4;

			ptx_mma_s8_k16(m, min, *(const uint32_t *)(u->hi[at] + lane % 4 * 4));
#pragma unroll
			for (int e = 0; e < 4; e++)
				m[e] *= 64;
			ptx_mma_s8_k16(m, min, *(const uint32_t *)(u->lo[at] + lane % 4 * 4));
		}
#pragma unroll
		for (int e = 0; e < 4; e++) {
			acc[i][e] = fmaf(d[e / 2] * dx[e % 2], (float)sum[i][e], acc[i][e]);
			if (minima)
				acc[i][e] =
					fmaf(-(dmin[e / 2] * dx[e % 2]), (float)m[e], acc[i][e]);
			sum[i][e] = 0;
		}
	}
}

/* One tile of columns, [col0, end) of the expert's. */
template <int TYPE>
static __device__ __forceinline__ void tile_product(struct int8_shared<TYPE> *sh,
						    const struct gemm_args &a, const uint8_t *w,
						    size_t row0, size_t col0, size_t end)
{
	using shape = int8_shape<TYPE>;
	const size_t runs = a.n / 32, steps = (runs + STEP - 1) / STEP;
	const size_t mine = col0 + threadIdx.x / 4;
	const bool on = mine < end;
	const struct act_in in = act_in_at(a.x, a.n, on ? gemm_source(a, mine) : 0);
	const int groups = gemm_groups<GROUPS>(col0, end);
	float acc[GROUPS][4] = {};
	int32_t sum[shape::big ? GROUPS : 1][4] = {};

	load_columns<TYPE>(sh, in, a.n, on, groups, 0);
	load_weights<TYPE>(sh, w, a, row0, 0);
	for (size_t step = 0; step < steps; step++) {
		struct int8_tiles<TYPE> *now = sh->tiles + step % 2;

		ptx_cp_async_wait<0>();
		__syncthreads(); /* this step's tiles are there, the last one's are read */
		if (step + 1 < steps) {
			load_columns<TYPE>(sh, in, a.n, on, groups, step + 1);
			load_weights<TYPE>(sh, w, a, row0, step + 1);
		}
		for (int k = 0; k < STEP && step * STEP + k < runs; k++) {
			if constexpr (shape::big)
				collect_run<TYPE>(now, k, groups, sum);
			else
				multiply_run<TYPE>(now, k, groups, acc);
		}
		if constexpr (shape::big)
			if (step % SUPER_STEPS == SUPER_STEPS - 1)
				finish_super<TYPE>(sh->super + step / SUPER_STEPS % 2, groups, sum,
						   acc);
	}
	tile_store<GROUPS>(a, row0, col0, end, acc);
	__syncthreads();
}

template <int TYPE>
static __global__ void __launch_bounds__(TILE_THREADS, 2) gemm_int8_kernel(const struct gemm_args a)
{
	using shared = int8_shared<TYPE>;
	CUDA_SHARED(shared, sh, 1);
	const uint8_t *w;
	size_t begin, end;

	if (!gemm_range(a, &w, &begin, &end)) /* the same for the whole block */
		return;
	for (size_t col0 = begin + blockIdx.z * (size_t)TILE_INT8; col0 < end;
	     col0 += gridDim.z * (size_t)TILE_INT8)
		tile_product<TYPE>(&sh[0], a, w, blockIdx.x * (size_t)TILE, col0, end);
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
