/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/matvec.cu: weights times one to eight columns, for decode.
 *
 * Bound by reading the weights once: a warp takes two rows side by side for one column (more columns:
 * one row), eight warps a block, slices of 32 weights dealt to the lanes (rows.cuh); a grid of
 * rows / 16 blocks fills a large GPU from about 4000 rows on. Columns share the unpacked weights and
 * come from the caches. Accuracy: products of half a slice are exact; its scale, minimum and sum
 * round 5 times, a lane adds n / 1024 slices of two, the warp 5 times.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.cuh"

#define MATVEC_WARPS 8
#define MATVEC_COLS  8

template <int TYPE, int ALIGN, int ROWS, int COLS>
static __global__ void __launch_bounds__(MATVEC_WARPS *WARP_SIZE)
	matvec_kernel(const uint8_t *w, size_t row_bytes, size_t n, size_t rows, const void *x,
		      int cols, float *y, size_t ldy, bool add)
{
	const size_t first = (blockIdx.x * (size_t)MATVEC_WARPS + threadIdx.x / WARP_SIZE) * ROWS;
	const uint8_t *row[ROWS];
	float acc[ROWS][COLS];

	if (first >= rows)
		return;
#pragma unroll
	for (int r = 0; r < ROWS; r++) /* an odd last row is computed twice */
		row[r] = w + (first + r < rows ? first + r : first) * row_bytes;
	row_dots<TYPE, ALIGN, ROWS, COLS>(row, n, x, cols, acc);
	if (threadIdx.x % WARP_SIZE)
		return;
#pragma unroll
	for (int r = 0; r < ROWS; r++)
#pragma unroll
		for (int c = 0; c < COLS; c++)
			if (c < cols && first + r < rows) {
				float *to = y + c * ldy + first + r;

				*to = add ? *to + acc[r][c] : acc[r][c];
			}
}

extern "C" enum cuda_input cuda_matvec_input(uint32_t type)
{
	const struct quant_format *f = quant_format(type);

	if (!f || f->act == ACT_NONE)
		return CUDA_IN_NONE;
	return IS_FLOAT(type) ? CUDA_IN_F32 : CUDA_IN_ACT;
}

template <int ROWS, int COLS> static void launch(cuda_stream stream, const struct cuda_product *p)
{
	const unsigned each = MATVEC_WARPS * ROWS;
	const unsigned blocks = (unsigned)((p->rows + each - 1) / each);
	const int align = rows_align(p->type, p->w, p->row_bytes), cols = (int)p->cols;

#define MATVEC_CALL(T, A)                                                                          \
	CUDA_LAUNCH((matvec_kernel<T, A, ROWS, COLS>), blocks, MATVEC_WARPS *WARP_SIZE, 0, stream, \
		    (const uint8_t *)p->w, p->row_bytes, p->n, p->rows, p->x, cols, p->y, p->ldy,  \
		    p->add)
	ROWS_DISPATCH(p->type, align, MATVEC_CALL)
#undef MATVEC_CALL
}

extern "C" int cuda_matvec(cuda_stream stream, const struct cuda_product *p)
{
	const uint64_t bytes = quant_row_bytes(p->type, p->n);

	if (cuda_matvec_input(p->type) == CUDA_IN_NONE)
		return -ENOTSUP;
	if (p->cols > MATVEC_COLS || !bytes || p->row_bytes < bytes || p->rows > 0x7fffffff)
		return -EINVAL;
	if (!p->rows || !p->cols)
		return 0;
	if (!p->w || !p->x || !p->y || (p->cols > 1 && p->ldy < p->rows) ||
	    (uintptr_t)p->x % (IS_FLOAT(p->type) ? 4 : 16))
		return -EINVAL;
	/* two forms of each kernel: unused columns of the second cost registers only */
	if (p->cols == 1)
		launch<2, 1>(stream, p);
	else
		launch<1, MATVEC_COLS>(stream, p);
	return CUDA_LAUNCHED();
}
