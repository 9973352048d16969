/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/rows.cuh: a few rows of weights times up to COLS columns, by one warp.
 *
 * Lanes take slices of 32 weights (block formats) or groups of 8 (float weights) in turn, so a warp
 * reads one stretch of each row after the other; every lane unpacks a slice once for all columns and
 * loads a column's part once for all rows. Rows side by side double the bytes in flight. The order
 * of the additions of a value depends on n alone: its bits do not depend on the other columns, rows
 * or entries of the launch, nor on alignment. Included by .cu files after launch.h.
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

/* Weights [i, i + 8) of a row, as far as there are @left; zeros beyond. */
template <int TYPE, bool WIDE>
static __device__ __forceinline__ void float_group(const uint8_t *row, size_t i, size_t left,
						   float ret[8])
{
	if (TYPE != QUANT_F32 && WIDE && left >= 8) {
		uint32_t x[4];

		block_words<16, 4>(row + 2 * i, x);
#pragma unroll
		for (int k = 0; k < 4; k++) {
			ret[2 * k] = half_weight<TYPE>(x[k]);
			ret[2 * k + 1] = half_weight<TYPE>(x[k] >> 16);
		}
		return;
	}
#pragma unroll
	for (int k = 0; k < 8; k++) {
		ret[k] = 0.0f;
		if ((size_t)k < left)
			ret[k] = TYPE == QUANT_F32
					 ? ((const float *)row)[i + k]
					 : half_weight<TYPE>(((const uint16_t *)row)[i + k]);
	}
}

/* Values [i, i + 8) of a column, as far as there are @left; zeros beyond. */
static __device__ __forceinline__ void column_group(const float *x, size_t i, size_t left,
						    bool wide, float ret[8])
{
	if (wide && left >= 8) {
		const float4 a = *(const float4 *)(x + i), b = *(const float4 *)(x + i + 4);

		ret[0] = a.x;
		ret[1] = a.y;
		ret[2] = a.z;
		ret[3] = a.w;
		ret[4] = b.x;
		ret[5] = b.y;
		ret[6] = b.z;
		ret[7] = b.w;
		return;
	}
#pragma unroll
	for (int k = 0; k < 8; k++)
		ret[k] = (size_t)k < left ? x[i + k] : 0.0f;
}

template <int TYPE, bool WIDE, int ROWS, int COLS>
static __device__ __forceinline__ void float_dots(const uint8_t *const rows[ROWS], size_t n,
						  const float *x, int cols, float acc[ROWS][COLS])
{
	const bool wide = aligned16(x, 4 * n); /* the same for all */

#pragma unroll 2
	for (size_t i = (size_t)threadIdx.x % WARP_SIZE * 8; i < n; i += WARP_SIZE * 8) {
		const size_t left = n - i;
		float w[ROWS][8];

#pragma unroll
		for (int r = 0; r < ROWS; r++)
			float_group<TYPE, WIDE>(rows[r], i, left, w[r]);
#pragma unroll
		for (int c = 0; c < COLS; c++) {
			float v[8];

			if (c >= cols)
				break;
			column_group(x + (size_t)c * n, i, left, wide, v);
#pragma unroll
			for (int k = 0; k < 8; k++)
#pragma unroll
				for (int r = 0; r < ROWS; r++)
					acc[r][c] = fmaf(w[r][k], v[k], acc[r][c]);
		}
	}
}

template <int TYPE, int ALIGN, int ROWS, int COLS>
static __device__ __forceinline__ void slice_dots(const uint8_t *const rows[ROWS], size_t n,
						  const void *x, int cols, float acc[ROWS][COLS])
{
#pragma unroll 2
	for (size_t i = threadIdx.x % WARP_SIZE; i < n / 32; i += WARP_SIZE) {
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
			for (int r = 0; r < ROWS; r++)
				acc[r][c] = slice_dot<TYPE>(w[r], a, acc[r][c]);
		}
	}
}

/* acc[r][c] = row r . column c in every lane, c < @cols <= COLS; @x: int8 rows, or float rows of n. */
template <int TYPE, int ALIGN, int ROWS, int COLS>
static __device__ __forceinline__ void row_dots(const uint8_t *const rows[ROWS], size_t n,
						const void *x, int cols, float acc[ROWS][COLS])
{
#pragma unroll
	for (int r = 0; r < ROWS; r++)
#pragma unroll
		for (int c = 0; c < COLS; c++)
			acc[r][c] = 0.0f;
	if constexpr (IS_FLOAT(TYPE))
		float_dots<TYPE, ALIGN >= 16, ROWS, COLS>(rows, n, (const float *)x, cols, acc);
	else
		slice_dots<TYPE, ALIGN, ROWS, COLS>(rows, n, x, cols, acc);
#pragma unroll
	for (int r = 0; r < ROWS; r++)
#pragma unroll
		for (int c = 0; c < COLS; c++)
			acc[r][c] = warp_sum(acc[r][c]);
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
