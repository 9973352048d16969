/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm.cu: launchers of the tiled products, dense and grouped by expert. The kernels are in
 * gemm_int8.cu, gemm_float.cu and gemm_float_experts.cu; this file checks shapes and lays out the grid: 128
 * rows a block in x (dense F32: 64), an expert in y, tiles of columns in z (a grouped launch does not know how
 * many an expert has: its blocks walk on in steps of the grid).
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/gemm.cuh"

#define GRID_Y 65535
#define GRID_Z 65535

extern "C" enum cuda_input cuda_gemm_input(uint32_t type)
{
	switch (type) {
	case QUANT_F32:
		return CUDA_IN_F32;
	case QUANT_F16:
		return CUDA_IN_F16;
	case QUANT_BF16:
		return CUDA_IN_BF16;
	}
	return cuda_matvec_input(type);
}

/* Columns of a tile. */
static size_t tile_of(uint32_t type)
{
	return type == QUANT_F16 || type == QUANT_BF16 ? TILE : TILE_INT8;
}

static int launch(cuda_stream stream, uint32_t type, const struct gemm_args &a, size_t experts,
		  size_t col_tiles)
{
	const uint64_t bytes = quant_row_bytes(type, a.n);
	const size_t tile = type == QUANT_F32 && !a.experts ? TILE_F32 : TILE;
	const dim3 grid((unsigned)((a.rows + tile - 1) / tile), (unsigned)experts,
			(unsigned)(col_tiles < GRID_Z ? col_tiles : GRID_Z));
	const enum cuda_input form = cuda_gemm_input(type);

	if (!bytes || a.row_bytes < bytes || !a.x || !a.y || a.ldy < a.rows ||
	    a.rows > 0x7fffffff || experts > GRID_Y)
		return -EINVAL;
	if (form == CUDA_IN_Q8_0 || form == CUDA_IN_Q8_K)
		return gemm_int8_launch(stream, type, a, grid);
	return a.experts ? gemm_float_experts_launch(stream, type, a, grid)
			 : gemm_float_launch(stream, type, a, grid);
}

extern "C" int cuda_gemm(cuda_stream stream, const struct cuda_product *p)
{
	struct gemm_args a = {};

	if (cuda_gemm_input(p->type) == CUDA_IN_NONE)
		return -ENOTSUP;
	if (!p->rows || !p->cols)
		return 0;
	if (!p->w)
		return -EINVAL;
	a.w = p->w;
	a.row_bytes = p->row_bytes;
	a.n = p->n;
	a.rows = p->rows;
	a.cols = p->cols;
	a.x = p->x;
	a.y = p->y;
	a.ldy = p->ldy;
	a.add = p->add;
	return launch(stream, p->type, a, 1, (p->cols + tile_of(p->type) - 1) / tile_of(p->type));
}

extern "C" int cuda_gemm_grouped(cuda_stream stream, const struct cuda_grouped *g)
{
	struct gemm_args a = {};
	const size_t tile = tile_of(g->type);
	size_t tiles;

	if (cuda_gemm_input(g->type) == CUDA_IN_NONE)
		return -ENOTSUP;
	if (!g->rows || !g->entries || !g->experts)
		return 0;
	if (!g->w || !g->offsets)
		return -EINVAL;
	a.experts = g->w;
	a.offsets = g->offsets;
	a.gather = g->gather;
	a.row_bytes = g->row_bytes;
	a.n = g->n;
	a.rows = g->rows;
	a.x = g->x;
	a.y = g->y;
	a.ldy = g->ldy;
	/* twice the tiles of an expert of middling size: few idle blocks, long ones share */
	tiles = 2 * ((g->entries + g->experts * tile - 1) / (g->experts * tile));
	return launch(stream, g->type, a, g->experts, tiles);
}
