/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/rows.cuh: a few rows of weights times up to COLS columns, by one warp, by the law of
 * kernels/quant.h: the bits are those of every CPU level.
 *
 * Block formats: lanes take slices of 32 weights in turn, so a warp reads one stretch of each row
 * after the other; a lane unpacks a slice once for all columns and loads a column's part once for
 * all rows. The whole sums of a block (eight lanes of a super-block) go to shared memory with its
 * scales, and one lane a value adds them up in the order of the row. Float formats have sixteen sums
 * a value, eight lanes with two each. Rows side by side put more bytes in flight. A value's bits do
 * not depend on the other columns, rows or entries of the launch, nor on alignment.
 * Included by .cu files after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_ROWS_CUH
#define SLUICE_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define IS_FLOAT(type) ((type) == QUANT_F32 || (type) == QUANT_F16 || (type) == QUANT_BF16)

/* A weight of two bytes, bits in the low half. */
template <int TYPE> static __device__ __forceinline__ float half_weight(uint32_t bits)
{
	return TYPE == QUANT_F16 ? bits_half(bits) : __int_as_float((int)(bits << 16));
}

/* What the blocks of a chunk, of 32 slices, bring to the values of a warp: scale and sum, twice with minima. */
template <int TYPE, int VALUES> struct row_terms {
	static constexpr int width = block_shape<TYPE>::minima ? 4 : 2;
	static constexpr int blocks = WARP_SIZE / block_shape<TYPE>::slices;
	/* one more: lanes that read the same block of their values meet other banks */
	alignas(16) float at[IS_FLOAT(TYPE) ? 1 : VALUES]
			    [IS_FLOAT(TYPE) ? 1 : (blocks + 1) * width];
};

/* Weights i and i + 1 of a row; the second 0 where the row ends. */
template <int TYPE, bool WIDE>
static __device__ __forceinline__ void float_pair(const uint8_t *row, size_t i, bool both,
						  float ret[2])
{
	if (TYPE == QUANT_F32) {
		ret[0] = __int_as_float((int)ptx_weight_4(row + 4 * i));
		ret[1] = both ? __int_as_float((int)ptx_weight_4(row + 4 * i + 4)) : 0.0f;
	} else if (WIDE && both) {
		const uint32_t x = ptx_weight_4(row + 2 * i);

		ret[0] = half_weight<TYPE>(x);
		ret[1] = half_weight<TYPE>(x >> 16);
	} else {
		ret[0] = half_weight<TYPE>(ptx_weight_2(row + 2 * i));
		ret[1] = both ? half_weight<TYPE>(ptx_weight_2(row + 2 * i + 2)) : 0.0f;
	}
}

/*
 * Sixteen sums a value: lanes 8 s to 8 s + 7 have those of values s EACH ..., two a lane. Column c is
 * row gather[c] of x, or without it row @from + c.
 */
template <int TYPE, bool WIDE, int ROWS, int COLS>
static __device__ __forceinline__ float float_dots(const uint8_t *const rows[ROWS], size_t n,
						   const float *x, const uint32_t *gather,
						   size_t from, int cols)
{
	constexpr int each = ROWS * COLS / 4;
	const int lane = threadIdx.x % WARP_SIZE, slot = lane / 8;
	const uint8_t *row = rows[0];
	const float *col[each];
	float sum[each][2] = {}, y = 0.0f;

#pragma unroll
	for (int r = 1; r < ROWS; r++)
		row = slot * each / COLS == r ? rows[r] : row;
#pragma unroll
	for (int k = 0; k < each; k++) {
		const int c = (slot * each + k) % COLS < cols ? (slot * each + k) % COLS : 0;

		col[k] = x + (gather ? gather[c] : from + c) * n;
	}
#pragma unroll 4
	for (size_t i = lane % 8 * 2; i < n; i += 16) {
		const bool both = i + 1 < n;
		float w[2];

		float_pair<TYPE, WIDE>(row, i, both, w);
#pragma unroll
		for (int k = 0; k < each; k++) {
			sum[k][0] = fmaf(w[0], col[k][i], sum[k][0]);
			if (both)
				sum[k][1] = fmaf(w[1], col[k][i + 1], sum[k][1]);
		}
	}
#pragma unroll
	for (int k = 0; k < each; k++) {
		float v;

		for (int m = 4; m > 0; m /= 2) { /* 8 onto 8, 4 onto 4, 2 onto 2 */
			sum[k][0] += __shfl_xor_sync(WARP_ALL, sum[k][0], m);
			sum[k][1] += __shfl_xor_sync(WARP_ALL, sum[k][1], m);
		}
		v = __shfl_sync(WARP_ALL, sum[k][0] + sum[k][1], lane / each % 4 * 8);
		y = lane % each == k ? v : y;
	}
	return y;
}

/* The terms of chunk [base, base + 32) of the slices. */
template <int TYPE, int ALIGN, int ROWS, int COLS>
static __device__ __forceinline__ void chunk_terms(const uint8_t *const rows[ROWS], size_t n,
						   const void *x, int cols, size_t base,
						   struct row_terms<TYPE, ROWS * COLS> *t)
{
	using shape = block_shape<TYPE>;
	using terms = row_terms<TYPE, ROWS * COLS>;
	const int lane = threadIdx.x % WARP_SIZE;
	const bool on = base + lane < n / 32;
	const size_t i = on ? base + lane : n / 32 - 1; /* read once more, not written */
	struct slice w[ROWS];

#pragma unroll
	for (int r = 0; r < ROWS; r++)
		load_slice<TYPE, ALIGN>(rows[r], i, &w[r]);
#pragma unroll
	for (int c = 0; c < COLS; c++) {
		struct act_slice a;

		if (c >= cols)
			break;
		load_act<TYPE>(act_in_at(x, n, c), w[0].at, &a);
#pragma unroll
		for (int r = 0; r < ROWS; r++) {
			float *to = t->at[r * COLS + c] + lane / shape::slices * terms::width;
			int sum, min;

			slice_dot<TYPE>(w[r], a, &sum, &min);
			if (shape::big) {
				sum = warp_sum_int_width(sum, 8);
				if (shape::minima)
					min = warp_sum_int_width(min, 8);
			}
			if (!on || lane % shape::slices)
				continue;
			to[0] = w[r].d * a.d;
			to[1] = (float)sum;
			if (shape::minima) {
				to[2] = -(w[r].dmin * a.d);
				to[3] = (float)min;
			}
		}
	}
}

template <int TYPE, int ALIGN, int ROWS, int COLS>
static __device__ __forceinline__ float slice_dots(const uint8_t *const rows[ROWS], size_t n,
						   const void *x, int cols,
						   struct row_terms<TYPE, ROWS * COLS> *t)
{
	using terms = row_terms<TYPE, ROWS * COLS>;
	const int lane = threadIdx.x % WARP_SIZE;
	float y = 0.0f;

	for (size_t base = 0; base < n / 32; base += WARP_SIZE) {
		const size_t left = (n / 32 - base) / block_shape<TYPE>::slices;
		const int blocks = left < terms::blocks ? (int)left : terms::blocks;

		chunk_terms<TYPE, ALIGN, ROWS, COLS>(rows, n, x, cols, base, t);
		__syncwarp();
		if (lane < ROWS * COLS && lane % COLS < cols) {
			const float *from = t->at[lane];

#pragma unroll 4
			for (int b = 0; b < blocks; b++, from += terms::width) {
				y = fmaf(from[0], from[1], y);
				if (block_shape<TYPE>::minima)
					y = fmaf(from[2], from[3], y);
			}
		}
		__syncwarp(); /* the next chunk's terms overwrite these */
	}
	return y;
}

/*
 * Row r . column c in lane r COLS + c, c < @cols <= COLS; other lanes' results mean nothing.
 * ROWS COLS is 4 or 8. @x: int8 rows, or float rows of n. @t: the warp's own. All lanes call.
 */
template <int TYPE, int ALIGN, int ROWS, int COLS>
static __device__ __forceinline__ float row_dots(const uint8_t *const rows[ROWS], size_t n,
						 const void *x, int cols,
						 struct row_terms<TYPE, ROWS * COLS> *t)
{
	static_assert(ROWS * COLS == 4 || ROWS * COLS == 8, "values of a warp");
	if constexpr (IS_FLOAT(TYPE))
		return float_dots<TYPE, ALIGN >= 16, ROWS, COLS>(rows, n, (const float *)x, NULL, 0,
								 cols);
	else
		return slice_dots<TYPE, ALIGN, ROWS, COLS>(rows, n, x, cols, t);
}

/* 16 where all rows are aligned to it and the format gains by it, else 2. */
static inline int rows_align(uint32_t type, const void *w, size_t row_bytes)
{
	return gains_wide(type) && aligned16(w, row_bytes) ? 16 : 2;
}

/* CALL(TYPE, ALIGN) for the type, and the alignment where formats gain by one, found at run time. */
#define ROWS_TWO(T, align, CALL)     \
	case T:                      \
		if ((align) == 16)   \
			CALL(T, 16); \
		else                 \
			CALL(T, 2);  \
		break;
#define ROWS_ONE(T, CALL)   \
	case T:             \
		CALL(T, 2); \
		break;
#define ROWS_REST(CALL)              \
	ROWS_ONE(QUANT_F32, CALL)    \
	ROWS_ONE(QUANT_Q4_0, CALL)   \
	ROWS_ONE(QUANT_Q4_1, CALL)   \
	ROWS_ONE(QUANT_Q5_0, CALL)   \
	ROWS_ONE(QUANT_Q5_1, CALL)   \
	ROWS_ONE(QUANT_Q8_0, CALL)   \
	ROWS_ONE(QUANT_Q2_K, CALL)   \
	ROWS_ONE(QUANT_Q3_K, CALL)   \
	ROWS_ONE(QUANT_Q6_K, CALL)   \
	ROWS_ONE(QUANT_IQ4_NL, CALL) \
	ROWS_ONE(QUANT_IQ4_XS, CALL) \
	ROWS_ONE(QUANT_MXFP4, CALL)
#define ROWS_DISPATCH(type, align, CALL)          \
	switch (type) {                           \
		ROWS_TWO(QUANT_F16, align, CALL)  \
		ROWS_TWO(QUANT_BF16, align, CALL) \
		ROWS_TWO(QUANT_Q4_K, align, CALL) \
		ROWS_TWO(QUANT_Q5_K, align, CALL) \
		ROWS_REST(CALL)                   \
	}

/* The same with one instance of each format. */
#define ROWS_ALL(type, CALL)               \
	switch (type) {                    \
		ROWS_ONE(QUANT_F16, CALL)  \
		ROWS_ONE(QUANT_BF16, CALL) \
		ROWS_ONE(QUANT_Q4_K, CALL) \
		ROWS_ONE(QUANT_Q5_K, CALL) \
		ROWS_REST(CALL)            \
	}

#endif
