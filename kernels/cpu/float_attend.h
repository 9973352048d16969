/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_attend.h: attention over one block of the KV cache by floats, for AVX2
 * (attend_avx512.h has whole numbers). Included by float_avx2.c after float_vec_avx2.h, in the names
 * given there.
 *
 * Both products are small matrix products with a register tile of rows x vectors: every (row,
 * position) score is one chain of multiply-adds over the dimensions, every (row, dimension) of acc
 * one chain over the positions. The tile's shape changes nothing in a chain, so a row's bits do
 * not depend on how many rows come together. Cache values are widened on the way into the tile
 * (exactly; q8_0: scale * int, rounded once) and used for all its rows.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_ATTEND_H
#define SLUICE_KERNELS_CPU_FLOAT_ATTEND_H

#include "kernels/cpu/float_impl.h"
#include "kernels/cpu/float_soften.h"

#define PER_TILE    (KV_TILE / VL) /* vectors in 16 lanes */
#define MAX_ROWS    8
#define MAX_VECTORS 4

/*
 * Memory to fetch while a tile is computed, so that a cold cache streams at the speed of memory: V
 * during the scores, the next block's K during the values, only by the first rows of a call. The
 * tile takes its share of the other matrix, spread evenly over its steps.
 */
struct ahead {
	const uint8_t *at;
	size_t step; /* bytes per step; 0: stay, which costs a load that hits */
};

static inline struct ahead ahead_of(const struct attend_args *a, const void *other, size_t row,
				    size_t share, size_t shares, size_t n_shares, size_t steps)
{
	/* V and the next K: where their dimensions differ, the shorter one's bytes are enough */
	size_t value_dim = attend_value_dim(a);
	size_t bytes = kv_block_bytes(a->type, value_dim < a->head_dim ? value_dim : a->head_dim);

	if (row || !other)
		return (struct ahead){ .at = (const uint8_t *)(a->q + row * a->head_dim) };
	return (struct ahead){ .at = (const uint8_t *)other + bytes / n_shares * share,
			       .step = bytes * shares / n_shares / steps };
}

/* @most: the step's bound, known to the compiler */
ALWAYS void fetch(struct ahead *f, const size_t most)
{
	for (size_t i = 0; i < most; i += 64)
		_mm_prefetch((const char *)f->at + i, _MM_HINT_T0);
	f->at += f->step;
}

/* s[r][position] for @n_rows rows and the positions of @n_tiles tiles from @tile on. */
ALWAYS void score_tile(const struct attend_args *a, const enum kv_type type, const unsigned n_rows,
		       const unsigned n_tiles, size_t row, unsigned tile, float (*s)[KV_BLOCK])
{
	const size_t dims = a->head_dim, group = type == KV_Q8_0 ? KV_Q8 : dims;
	const size_t tile_bytes = kv_block_bytes(type, dims) / KV_TILES;
	const unsigned n_vectors = n_tiles * PER_TILE;
	const uint8_t *k = (const uint8_t *)a->k + tile * tile_bytes;
	const float *q = a->q + row * dims;
	struct ahead ahead = ahead_of(a, a->v, row, tile, n_tiles, KV_TILES, dims);
	vf sum[MAX_ROWS][MAX_VECTORS], scale[MAX_VECTORS], value[MAX_VECTORS];

	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < n_vectors; v++)
			sum[r][v] = vf_zero();
	for (size_t d = 0; d < dims; d += group) {
		if (type == KV_Q8_0) {
			for (unsigned v = 0; v < n_vectors; v++)
				scale[v] = vf_load_half(k + v / PER_TILE * tile_bytes +
							v % PER_TILE * VL * 2);
			k += 2 * KV_TILE;
		}
		for (size_t i = d; i < d + group; i++) {
			fetch(&ahead, n_tiles * KV_TILE * 2);
			for (unsigned v = 0; v < n_vectors; v++) {
				const uint8_t *at = k + v / PER_TILE * tile_bytes;

				if (type == KV_F16)
					value[v] = vf_load_half(at + v % PER_TILE * VL * 2);
				else
					value[v] = vf_mul(scale[v],
							  vf_load_int8(at + v % PER_TILE * VL));
			}
			for (unsigned r = 0; r < n_rows; r++) {
				vf x = vf_set1(q[r * dims + i]);

				for (unsigned v = 0; v < n_vectors; v++)
					sum[r][v] = vf_fma(x, value[v], sum[r][v]);
			}
			k += type == KV_F16 ? KV_TILE * 2 : KV_TILE;
		}
	}
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < n_vectors; v++)
			vf_store(s[r] + tile * KV_TILE + v * VL, sum[r][v]);
}

/* acc = acc * correction + sum of p * value, for the 16-dimension tiles [tile, tile + n_tiles). */
ALWAYS void value_tile(const struct attend_args *a, const enum kv_type type, const unsigned n_rows,
		       const unsigned n_tiles, size_t row, size_t tile, float (*p)[KV_BLOCK],
		       const float *correction)
{
	const size_t dims = attend_value_dim(a), half = KV_Q8 / KV_TILE;
	const unsigned n_vectors = n_tiles * PER_TILE;
	const uint8_t *base = a->v;
	const uint8_t *at[MAX_VECTORS];
	float scale[MAX_VECTORS][KV_BLOCK];
	float *acc = a->acc + row * dims + tile * KV_TILE;
	struct ahead ahead = ahead_of(a, a->next_k, row, tile, n_tiles, dims / KV_TILE, KV_BLOCK);
	vf sum[MAX_ROWS][MAX_VECTORS], value[MAX_VECTORS];

	for (unsigned v = 0; v < n_vectors; v++) {
		size_t t = tile + v / PER_TILE, part = v % PER_TILE * VL;

		if (type == KV_F16) {
			at[v] = base + t * KV_BLOCK * KV_TILE * 2 + part * 2;
			continue;
		}
		at[v] = base + t / half * KV_Q8_V_BYTES;
		for (unsigned j = 0; j < BLOCK_VECTOR; j++)
			vf_store(scale[v] + j * VL, vf_load_half(at[v] + j * VL * 2));
		at[v] += KV_BLOCK * 2 + t % half * KV_TILE + part;
	}
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < n_vectors; v++)
			sum[r][v] =
				vf_mul(vf_load(acc + r * dims + v * VL), vf_set1(correction[r]));
	for (unsigned j = a->first; j < a->n_valid; j++) {
		fetch(&ahead, n_tiles * KV_TILE * 2);
		for (unsigned v = 0; v < n_vectors; v++) {
			if (type == KV_F16)
				value[v] = vf_load_half(at[v] + j * KV_TILE * 2);
			else
				value[v] = vf_mul(vf_set1(scale[v][j]),
						  vf_load_int8(at[v] + j * KV_Q8));
		}
		for (unsigned r = 0; r < n_rows; r++) {
			vf x = vf_set1(p[r][j]);

			for (unsigned v = 0; v < n_vectors; v++)
				sum[r][v] = vf_fma(x, value[v], sum[r][v]);
		}
	}
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < n_vectors; v++)
			vf_store(acc + r * dims + v * VL, sum[r][v]);
}

/*
 * One function per shape of tile: kept apart, so that the compiler gives each loop all registers.
 * Few rows take wide tiles: about 8 independent chains are needed to keep the multipliers busy.
 */
struct shape {
	unsigned n_rows, n_tiles;
	void (*score)(const struct attend_args *a, size_t row, unsigned tile, float (*s)[KV_BLOCK]);
	void (*value)(const struct attend_args *a, size_t row, size_t tile, float (*p)[KV_BLOCK],
		      const float *correction);
	void (*value_one)(const struct attend_args *a, size_t row, size_t tile,
			  float (*p)[KV_BLOCK], const float *correction); /* one tile */
};

#define SHAPE(type, rows, tiles)                                                                  \
	static void score_##type##_##rows(const struct attend_args *a, size_t row, unsigned tile, \
					  float(*s)[KV_BLOCK])                                    \
	{                                                                                         \
		score_tile(a, type, rows, tiles, row, tile, s);                                   \
	}                                                                                         \
	static void value_##type##_##rows(const struct attend_args *a, size_t row, size_t tile,   \
					  float(*p)[KV_BLOCK], const float *correction)           \
	{                                                                                         \
		value_tile(a, type, rows, tiles, row, tile, p, correction);                       \
	}                                                                                         \
	static void value_one_##type##_##rows(const struct attend_args *a, size_t row,            \
					      size_t tile, float(*p)[KV_BLOCK],                   \
					      const float *correction)                            \
	{                                                                                         \
		value_tile(a, type, rows, 1, row, tile, p, correction);                           \
	}

#define SHAPE_ROW(type, rows, tiles)                                       \
	{                                                                  \
		rows, tiles, score_##type##_##rows, value_##type##_##rows, \
			value_one_##type##_##rows                          \
	}

#define SHAPES(X, type)		       X(type, 4, 1) X(type, 2, 2) X(type, 1, 2)
#define SHAPE_ENTRY(type, rows, tiles) SHAPE_ROW(type, rows, tiles),

SHAPES(SHAPE, KV_F16)
SHAPES(SHAPE, KV_Q8_0)

/* most rows first, one row last */
static const struct shape f16_shapes[] = { SHAPES(SHAPE_ENTRY, KV_F16) };
static const struct shape q8_0_shapes[] = { SHAPES(SHAPE_ENTRY, KV_Q8_0) };

static const struct shape *shape_of(enum kv_type type, size_t rows)
{
	const struct shape *shape = type == KV_F16 ? f16_shapes : q8_0_shapes;

	while (shape->n_rows > rows)
		shape++;
	return shape;
}

static void attend_rows(const struct attend_args *a, const struct shape *shape, size_t row)
{
	float s[MAX_ROWS][KV_BLOCK], correction[MAX_ROWS];
	size_t tile, n_dim_tiles = attend_value_dim(a) / KV_TILE;

	tile = a->first / KV_TILE / shape->n_tiles * shape->n_tiles;
	for (; tile * KV_TILE < a->n_valid; tile += shape->n_tiles)
		shape->score(a, row, (unsigned)tile, s);
	soften(a, shape->n_rows, row, s, correction);
	for (tile = 0; tile + shape->n_tiles <= n_dim_tiles; tile += shape->n_tiles)
		shape->value(a, row, tile, s, correction);
	for (; tile < n_dim_tiles; tile++)
		shape->value_one(a, row, tile, s, correction);
}

#include "kernels/cpu/float_attend_wide.h"

static void attend(const struct attend_args *a)
{
	size_t row = 0;

	for (size_t rows; goes_wide(a->type, rows = a->rows - row); row += rows) {
		rows = rows < WIDE_ROWS ? rows : WIDE_ROWS;
		attend_wide(a, row, rows);
	}
	for (const struct shape *shape; row < a->rows; row += shape->n_rows) {
		shape = shape_of(a->type, a->rows - row);
		attend_rows(a, shape, row);
	}
}

#endif
