/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/matvec.cu: weights times one to eight columns, for decode.
 *
 * Bound by reading the weights once: a warp a row, eight rows a block, runs of 32 weights dealt to
 * the lanes (rows.cuh); a grid of rows / 8 blocks fills a large GPU from about 2000 rows on. Columns
 * share the unpacked weights and come from the caches. Accuracy: products of a run are exact, then
 * at most 4 + n / 1024 + 5 roundings of a float a result.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.cuh"

#define MATVEC_ROWS 8 /* of a block, one a warp */
#define MATVEC_COLS 8

template <int TYPE, int ALIGN, int COLS>
static __global__ void __launch_bounds__(MATVEC_ROWS *WARP_SIZE)
	matvec_kernel(const uint8_t *w, size_t row_bytes, size_t n, size_t rows, const void *x,
		      int cols, float *y, size_t ldy, bool add)
{
	const size_t row = blockIdx.x * (size_t)MATVEC_ROWS + threadIdx.x / WARP_SIZE;
	float acc[COLS];

	if (row >= rows)
		return;
	row_dot<TYPE, ALIGN, COLS>(w + row * row_bytes, n, x, cols, acc);
	if (threadIdx.x % WARP_SIZE)
		return;
	for (int c = 0; c < COLS && c < cols; c++)
		y[c * ldy + row] = add ? y[c * ldy + row] + acc[c] : acc[c];
}

extern "C" enum cuda_input cuda_matvec_input(uint32_t type)
{
	const struct quant_format *f = quant_format(type);

	if (!f || f->act == ACT_NONE)
		return CUDA_IN_NONE;
	return IS_FLOAT(type) ? CUDA_IN_F32 : CUDA_IN_ACT;
}

template <int COLS> static void launch(cuda_stream stream, const struct cuda_product *p)
{
	const unsigned blocks = (unsigned)((p->rows + MATVEC_ROWS - 1) / MATVEC_ROWS);
	const int align = rows_align(p->type, p->w, p->row_bytes), cols = (int)p->cols;

#define MATVEC_CALL(T, A)                                                                         \
	CUDA_LAUNCH((matvec_kernel<T, A, COLS>), blocks, MATVEC_ROWS *WARP_SIZE, 0, stream,       \
		    (const uint8_t *)p->w, p->row_bytes, p->n, p->rows, p->x, cols, p->y, p->ldy, \
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
	if (!p->w || !p->x || !p->y || (p->cols > 1 && p->ldy < p->rows))
		return -EINVAL;
	/* two forms of each kernel: unused columns of the second cost registers only */
	if (p->cols == 1)
		launch<1>(stream, p);
	else
		launch<MATVEC_COLS>(stream, p);
	return CUDA_LAUNCHED();
}
