/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/rows.cuh: one row of weights times up to COLS columns, by one warp.
 *
 * Lanes take runs of 32 weights (block formats) or groups of 8 (float weights) in turn, so a warp
 * reads one stretch of memory after the other; every lane unpacks a run once for all columns. The
 * order of the additions of a column depends on n alone: the bits of a result do not depend on the
 * other columns, rows or entries of the launch, nor on alignment.
 * Included by .cu files after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_ROWS_CUH
#define SLUICE_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define IS_FLOAT(type) ((type) == QUANT_F32 || (type) == QUANT_F16 || (type) == QUANT_BF16)

template <int TYPE> static __device__ __forceinline__ float float_weight(const uint8_t *p)
{
	if (TYPE == QUANT_F32)
		return *(const float *)p;
	if (TYPE == QUANT_F16)
		return __half2float(*(const __half *)p);
	return __int_as_float((int)((uint32_t) * (const uint16_t *)p << 16));
}

/* Weights [i, i + 8) of a row, as far as there are @left; zeros beyond. */
template <int TYPE>
static __device__ __forceinline__ void float_group(const uint8_t *row, size_t i, size_t left,
						   bool wide, float ret[8])
{
	constexpr int bytes = TYPE == QUANT_F32 ? 4 : 2;
	const uint8_t *p = row + i * bytes;

	if (wide && left >= 8) {
		uint4 raw[bytes / 2];

		for (int k = 0; k < bytes / 2; k++)
			raw[k] = ((const uint4 *)p)[k];
		for (int k = 0; k < 8; k++)
			ret[k] = float_weight<TYPE>((const uint8_t *)raw + k * bytes);
		return;
	}
	for (int k = 0; k < 8; k++)
		ret[k] = (size_t)k < left ? float_weight<TYPE>(p + k * bytes) : 0.0f;
}

/* acc[c] = row . column c in every lane, c < @cols <= COLS; @x: int8 rows, or float rows of n. */
template <int TYPE, int ALIGN, int COLS>
static __device__ __forceinline__ void row_dot(const uint8_t *row, size_t n, const void *x,
					       int cols, float acc[COLS])
{
	const int lane = threadIdx.x % WARP_SIZE;

	for (int c = 0; c < COLS; c++)
		acc[c] = 0.0f;
	if constexpr (IS_FLOAT(TYPE)) {
		for (size_t i = (size_t)lane * 8; i < n; i += WARP_SIZE * 8) {
			const size_t left = n - i;
			float w[8];

			float_group<TYPE>(row, i, left, ALIGN >= 16, w);
			for (int c = 0; c < COLS && c < cols; c++) {
				const float *v = (const float *)x + (size_t)c * n + i;

				for (int k = 0; k < 8; k++)
					acc[c] = fmaf(w[k], (size_t)k < left ? v[k] : 0.0f, acc[c]);
			}
		}
	} else {
		for (size_t i = lane; i < n / 32; i += WARP_SIZE) {
			struct run32 r;

			load_run<TYPE, ALIGN>(row, i, &r);
			for (int c = 0; c < COLS && c < cols; c++)
				acc[c] = run_dot<TYPE>(&r, act_in_at(x, n, c), i, acc[c]);
		}
	}
	for (int c = 0; c < COLS; c++)
		acc[c] = warp_sum(acc[c]);
}

/* The widest load that all rows allow: 16 (halves), 4 (the two formats where it pays), 2 or 1. */
static inline int rows_align(uint32_t type, const void *w, size_t row_bytes)
{
	const size_t both = (size_t)(uintptr_t)w | row_bytes;

	if (IS_FLOAT(type))
		return type != QUANT_F32 && both % 16 == 0 ? 16 : 2;
	if (type == QUANT_Q4_K || type == QUANT_Q5_K)
		return both % 4 == 0 ? 4 : 2;
	return type == QUANT_MXFP4 ? 1 : 2;
}

/* CALL(TYPE, ALIGN) for the type and the alignment found at run time. */
#define ROWS_TWO(T, wide, CALL, align) \
	case T:                        \
		if ((align) == (wide)) \
			CALL(T, wide); \
		else                   \
			CALL(T, 2);    \
		break;
#define ROWS_ONE(T, a, CALL) \
	case T:              \
		CALL(T, a);  \
		break;
#define ROWS_DISPATCH(type, align, CALL)              \
	switch (type) {                               \
		ROWS_TWO(QUANT_F16, 16, CALL, align)  \
		ROWS_TWO(QUANT_BF16, 16, CALL, align) \
		ROWS_TWO(QUANT_Q4_K, 4, CALL, align)  \
		ROWS_TWO(QUANT_Q5_K, 4, CALL, align)  \
		ROWS_ONE(QUANT_F32, 2, CALL)          \
		ROWS_ONE(QUANT_Q4_0, 2, CALL)         \
		ROWS_ONE(QUANT_Q4_1, 2, CALL)         \
		ROWS_ONE(QUANT_Q5_0, 2, CALL)         \
		ROWS_ONE(QUANT_Q5_1, 2, CALL)         \
		ROWS_ONE(QUANT_Q8_0, 2, CALL)         \
		ROWS_ONE(QUANT_Q2_K, 2, CALL)         \
		ROWS_ONE(QUANT_Q3_K, 2, CALL)         \
		ROWS_ONE(QUANT_Q6_K, 2, CALL)         \
		ROWS_ONE(QUANT_IQ4_NL, 2, CALL)       \
		ROWS_ONE(QUANT_IQ4_XS, 2, CALL)       \
		ROWS_ONE(QUANT_MXFP4, 1, CALL)        \
	}

/* The cases of a switch over all formats at their least alignment. */
#define ROWS_ALL(CALL)                  \
	ROWS_ONE(QUANT_F32, 2, CALL)    \
	ROWS_ONE(QUANT_F16, 2, CALL)    \
	ROWS_ONE(QUANT_BF16, 2, CALL)   \
	ROWS_ONE(QUANT_Q4_0, 2, CALL)   \
	ROWS_ONE(QUANT_Q4_1, 2, CALL)   \
	ROWS_ONE(QUANT_Q5_0, 2, CALL)   \
	ROWS_ONE(QUANT_Q5_1, 2, CALL)   \
	ROWS_ONE(QUANT_Q8_0, 2, CALL)   \
	ROWS_ONE(QUANT_Q2_K, 2, CALL)   \
	ROWS_ONE(QUANT_Q3_K, 2, CALL)   \
	ROWS_ONE(QUANT_Q4_K, 2, CALL)   \
	ROWS_ONE(QUANT_Q5_K, 2, CALL)   \
	ROWS_ONE(QUANT_Q6_K, 2, CALL)   \
	ROWS_ONE(QUANT_IQ4_NL, 2, CALL) \
	ROWS_ONE(QUANT_IQ4_XS, 2, CALL) \
	ROWS_ONE(QUANT_MXFP4, 1, CALL)

#endif
