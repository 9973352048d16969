/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/matvec.cu: weights times one to eight columns, for decode; floats times any number of columns.
 *
 * Bound by reading the weights once: a warp takes four rows side by side for one column (more columns:
 * one row), eight warps a block, slices of 32 weights dealt to the lanes (rows.cuh). Columns share the
 * unpacked weights and come from the caches. The bits are those of the law in kernels/quant.h. More than
 * eight columns of floats are so many groups of eight in one launch: which group a column is in changes no bit.
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
	using terms = row_terms<TYPE, ROWS * COLS>;
	CUDA_SHARED(terms, t, MATVEC_WARPS);
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	const size_t first = (blockIdx.x * (size_t)MATVEC_WARPS + warp) * ROWS;
	const size_t r = first + lane / COLS, column = blockIdx.y * (size_t)COLS;
	const uint8_t *row[ROWS];
	float v;

	if (first >= rows)
		return;
	if (column) { /* of floats alone */
		x = (const float *)x + column * n;
		y += column * ldy;
		cols -= (int)column;
	}
	cols = cols < COLS ? cols : COLS;
#pragma unroll
	for (int i = 0; i < ROWS; i++) /* what is missing of the last ones is computed twice */
		row[i] = w + (first + i < rows ? first + i : first) * row_bytes;
	v = row_dots<TYPE, ALIGN, ROWS, COLS>(row, n, x, cols, &t[warp]);
	if (lane < ROWS * COLS && lane % COLS < cols && r < rows) {
		float *to = y + lane % COLS * ldy + r;

		*to = add ? *to + v : v;
	}
}

extern "C" enum cuda_input cuda_matvec_input(uint32_t type)
{
	const enum act_kind act = quant_shape(type).act;

	if (act == ACT_NONE)
		return CUDA_IN_NONE;
	return IS_FLOAT(type) ? CUDA_IN_F32 : act == ACT_Q8_K ? CUDA_IN_Q8_K : CUDA_IN_Q8_0;
}

template <int ROWS, int COLS> static void launch(cuda_stream stream, const struct cuda_product *p)
{
	const unsigned each = MATVEC_WARPS * ROWS;
	const dim3 blocks((unsigned)((p->rows + each - 1) / each),
			  (unsigned)((p->cols + COLS - 1) / COLS));
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
	if (p->cols > (IS_FLOAT(p->type) ? 65535u * MATVEC_COLS : MATVEC_COLS) || !bytes ||
	    p->row_bytes < bytes || p->rows > 0x7fffffff)
		return -EINVAL;
	if (!p->rows || !p->cols)
		return 0;
	if (!p->w || !p->x || !p->y || (p->cols > 1 && p->ldy < p->rows) ||
	    (uintptr_t)p->x % (IS_FLOAT(p->type) ? 4 : 16))
		return -EINVAL;
	/* two forms of each kernel: unused columns of the second cost registers only */
	if (p->cols == 1)
		launch<4, 1>(stream, p);
	else
		launch<1, MATVEC_COLS>(stream, p);
	return CUDA_LAUNCHED();
}

/* ---- several matrices in one launch ---- */

struct many_args {
	struct one_matrix {
		uint32_t type;
		bool wide; /* rows are 16-aligned */
		const uint8_t *w;
		size_t row_bytes, n, rows;
		const void *x;
		float *y;
		size_t ldy;
		unsigned first_block;
	} m[CUDA_MANY];
	unsigned count;
	int cols;
};

/* The block's matrix says which format; shared memory is for the format that needs most of it. */
template <int ROWS, int COLS>
static __global__ void __launch_bounds__(MATVEC_WARPS *WARP_SIZE)
	many_kernel(const struct many_args a)
{
	using most = row_terms<QUANT_Q5_1, ROWS * COLS>;
	CUDA_SHARED(most, t, MATVEC_WARPS);
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	unsigned which = 0;

#pragma unroll
	for (unsigned i = 1; i < CUDA_MANY; i++)
		which += i < a.count && blockIdx.x >= a.m[i].first_block;
	const struct many_args::one_matrix &m = a.m[which];
	const size_t first = ((size_t)(blockIdx.x - m.first_block) * MATVEC_WARPS + warp) * ROWS;
	const size_t r = first + lane / COLS;
	const uint8_t *row[ROWS];
	float v = 0.0f;

	if (first >= m.rows)
		return;
#pragma unroll
	for (int i = 0; i < ROWS; i++)
		row[i] = m.w + (first + i < m.rows ? first + i : first) * m.row_bytes;
#define MANY_CALL(T, A)                                       \
	v = row_dots<T, A, ROWS, COLS>(row, m.n, m.x, a.cols, \
				       (struct row_terms<T, ROWS * COLS> *)&t[warp])
	ROWS_DISPATCH(m.type, m.wide ? 16 : 2, MANY_CALL)
#undef MANY_CALL
	if (lane < ROWS * COLS && lane % COLS < a.cols && r < m.rows)
		m.y[lane % COLS * m.ldy + r] = v;
}

template <int ROWS, int COLS> static void launch_many(cuda_stream stream, struct many_args *a)
{
	unsigned blocks = 0;

	for (unsigned i = 0; i < a->count; i++) {
		a->m[i].first_block = blocks;
		blocks += (unsigned)((a->m[i].rows + MATVEC_WARPS * ROWS - 1) /
				     (MATVEC_WARPS * ROWS));
	}
	CUDA_LAUNCH((many_kernel<ROWS, COLS>), blocks, MATVEC_WARPS * WARP_SIZE, 0, stream, *a);
}

extern "C" int cuda_matvec_many(cuda_stream stream, const struct cuda_product *p, unsigned count)
{
	struct many_args a = {};

	if (!count || count > CUDA_MANY)
		return count ? -EINVAL : 0;
	a.count = count;
	a.cols = (int)p[0].cols;
	for (unsigned i = 0; i < count; i++) {
		const uint64_t bytes = quant_row_bytes(p[i].type, p[i].n);

		if (cuda_matvec_input(p[i].type) == CUDA_IN_NONE)
			return -ENOTSUP;
		if (!p[i].cols || p[i].cols > MATVEC_COLS || p[i].cols != p[0].cols || p[i].add ||
		    !bytes || p[i].row_bytes < bytes || !p[i].rows || p[i].rows > 0xffffff ||
		    !p[i].w || !p[i].x || !p[i].y || (p[i].cols > 1 && p[i].ldy < p[i].rows) ||
		    (uintptr_t)p[i].x % (IS_FLOAT(p[i].type) ? 4 : 16))
			return -EINVAL;
		a.m[i] = { p[i].type,
			   rows_align(p[i].type, p[i].w, p[i].row_bytes) == 16,
			   (const uint8_t *)p[i].w,
			   p[i].row_bytes,
			   p[i].n,
			   p[i].rows,
			   p[i].x,
			   p[i].y,
			   p[i].ldy,
			   0 };
	}
	if (a.cols == 1)
		launch_many<4, 1>(stream, &a);
	else
		launch_many<1, MATVEC_COLS>(stream, &a);
	return CUDA_LAUNCHED();
}
