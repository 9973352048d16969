/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_attend_wide.h: attention of many rows over one block of the KV cache, for the
 * vector levels: the block is widened to floats once, in parts that stay in the cache, and every row
 * multiplies them. Part of float_attend.h, which includes it and whose chains it goes through: the
 * same multiply-adds in the same order, so the same bits as the form for few rows, which widens on
 * the way into every tile of rows. That costs a multiply-add's slot for each vector widened, an
 * eighth of all with tiles of eight rows.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_ATTEND_WIDE_H
#define SLUICE_KERNELS_CPU_FLOAT_ATTEND_WIDE_H

#define WIDE_VECTORS 2
#define WIDE_LANES   (WIDE_VECTORS * VL)
#define WIDE_TILES   (WIDE_LANES / KV_TILE)
#define WIDE_DIMS    256 /* of keys, widened together */
#define WIDE_ROWS    64	 /* rows that go through a widened part together, at most */

/* Where it pays; with eight lanes halves are widened beside the multiply-adds. */
static inline bool goes_wide(enum kv_type type, size_t rows)
{
	return type == KV_F16 ? VL == 16 && rows >= 32 : rows >= 16;
}

/* rows of a tile, as many as registers allow */
#if VL == 16
#define WIDE_ROWS_MAX  8
#define WIDE_SHAPES(X) X(8) X(4) X(2) X(1)
#else
#define WIDE_ROWS_MAX  6
#define WIDE_SHAPES(X) X(6) X(4) X(2) X(1)
#endif

/* Keys of the positions from @tile on, dimensions [d, end) -> out[dimension][WIDE_LANES]. */
static void widen_keys(const struct attend_args *a, size_t tile, size_t d, size_t end, float *out)
{
	const size_t tile_bytes = kv_block_bytes(a->type, a->head_dim) / KV_TILES;

	for (unsigned v = 0; v < WIDE_VECTORS; v++) {
		const uint8_t *k = (const uint8_t *)a->k + (tile + v / PER_TILE) * tile_bytes;
		const size_t lane = v % PER_TILE * VL;
		float *to = out + v * VL;

		for (size_t i = d; a->type == KV_F16 && i < end; i++, to += WIDE_LANES)
			vf_store(to, vf_load_half(k + (i * KV_TILE + lane) * 2));
		for (size_t g = d; a->type == KV_Q8_0 && g < end; g += KV_Q8) {
			const uint8_t *group = k + g / KV_Q8 * KV_Q8_K_BYTES;
			const vf scale = vf_load_half(group + lane * 2);

			group += 2 * KV_TILE + lane;
			for (size_t i = 0; i < KV_Q8; i++, to += WIDE_LANES)
				vf_store(to, vf_mul(scale, vf_load_int8(group + i * KV_TILE)));
		}
	}
}

/* Values of dimensions from 16 * @tile on, positions [first, n_valid) -> out[position][WIDE_LANES]. */
static void widen_values(const struct attend_args *a, size_t tile, float *out)
{
	const size_t half = KV_Q8 / KV_TILE;

	for (unsigned v = 0; v < WIDE_VECTORS; v++) {
		const size_t t = tile + v / PER_TILE, lane = v % PER_TILE * VL;
		const uint8_t *at = a->v;
		float scale[KV_BLOCK], *to = out + v * VL;

		if (a->type == KV_F16) {
			at += (t * KV_BLOCK * KV_TILE + lane) * 2;
			for (unsigned j = a->first; j < a->n_valid; j++)
				vf_store(to + j * WIDE_LANES, vf_load_half(at + j * KV_TILE * 2));
			continue;
		}
		at += t / half * KV_Q8_V_BYTES;
		for (unsigned j = 0; j < BLOCK_VECTOR; j++)
			vf_store(scale + j * VL, vf_load_half(at + j * VL * 2));
		at += KV_BLOCK * 2 + t % half * KV_TILE + lane;
		for (unsigned j = a->first; j < a->n_valid; j++)
			vf_store(to + j * WIDE_LANES,
				 vf_mul(vf_set1(scale[j]), vf_load_int8(at + j * KV_Q8)));
	}
}

/*
 * @n_rows rows of x, @ld apart, times the @n rows of WIDE_LANES at @wide: each lane of sum one chain.
 */
ALWAYS void multiply_wide(const unsigned n_rows, const float *x, size_t ld, const float *wide,
			  size_t n, vf (*sum)[WIDE_VECTORS])
{
	for (size_t i = 0; i < n; i++, wide += WIDE_LANES) {
		vf value[WIDE_VECTORS];

		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			value[v] = vf_load(wide + v * VL);
		for (unsigned r = 0; r < n_rows; r++) {
			vf factor = vf_set1(x[r * ld + i]);

			for (unsigned v = 0; v < WIDE_VECTORS; v++)
				sum[r][v] = vf_fma(factor, value[v], sum[r][v]);
		}
	}
}

/* s[r] goes on (@d > 0) or begins with @n dimensions from @d on */
ALWAYS void score_wide(const struct attend_args *a, const unsigned n_rows, size_t row,
		       const float *wide, size_t d, size_t n, float (*s)[KV_BLOCK])
{
	vf sum[WIDE_ROWS_MAX][WIDE_VECTORS];

	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			sum[r][v] = d ? vf_load(s[r] + v * VL) : vf_zero();
	multiply_wide(n_rows, a->q + row * a->head_dim + d, a->head_dim, wide, n, sum);
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			vf_store(s[r] + v * VL, sum[r][v]);
}

ALWAYS void value_wide(const struct attend_args *a, const unsigned n_rows, size_t row, size_t tile,
		       const float *wide, float (*p)[KV_BLOCK], const float *correction)
{
	const size_t dims = attend_value_dim(a);
	float *acc = a->acc + row * dims + tile * KV_TILE;
	vf sum[WIDE_ROWS_MAX][WIDE_VECTORS];

	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			sum[r][v] =
				vf_mul(vf_load(acc + r * dims + v * VL), vf_set1(correction[r]));
	multiply_wide(n_rows, p[0] + a->first, KV_BLOCK, wide + a->first * WIDE_LANES,
		      a->n_valid - a->first, sum);
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			vf_store(acc + r * dims + v * VL, sum[r][v]);
}

/* One function per number of rows, as in float_attend.h. */
struct wide_shape {
	unsigned n_rows;
	void (*score)(const struct attend_args *a, size_t row, const float *wide, size_t d,
		      size_t n, float (*s)[KV_BLOCK]);
	void (*value)(const struct attend_args *a, size_t row, size_t tile, const float *wide,
		      float (*p)[KV_BLOCK], const float *correction);
};

#define WIDE_SHAPE(rows)                                                                          \
	static void score_wide_##rows(const struct attend_args *a, size_t row, const float *wide, \
				      size_t d, size_t n, float(*s)[KV_BLOCK])                    \
	{                                                                                         \
		score_wide(a, rows, row, wide, d, n, s);                                          \
	}                                                                                         \
	static void value_wide_##rows(const struct attend_args *a, size_t row, size_t tile,       \
				      const float *wide, float(*p)[KV_BLOCK],                     \
				      const float *correction)                                    \
	{                                                                                         \
		value_wide(a, rows, row, tile, wide, p, correction);                              \
	}
#define WIDE_ENTRY(rows) { rows, score_wide_##rows, value_wide_##rows },

WIDE_SHAPES(WIDE_SHAPE)

/* most rows first, one row last */
static const struct wide_shape wide_shapes[] = { WIDE_SHAPES(WIDE_ENTRY) };

static const struct wide_shape *wide_shape_of(size_t rows)
{
	const struct wide_shape *shape = wide_shapes;

	/* eight go as four and four: two alone are too few chains */
	while (shape->n_rows > rows || (rows == 8 && shape->n_rows == 6))
		shape++;
	return shape;
}

/* @rows rows from @row on, at most WIDE_ROWS */
static void attend_wide(const struct attend_args *a, size_t row, size_t rows)
{
	float wide[(WIDE_DIMS > KV_BLOCK ? WIDE_DIMS : KV_BLOCK) * WIDE_LANES]
		__attribute__((aligned(64)));
	float s[WIDE_ROWS][KV_BLOCK] __attribute__((aligned(64))), correction[WIDE_ROWS];
	size_t n_dim_tiles = attend_value_dim(a) / KV_TILE, r, tile;
	const struct wide_shape *shape;

	tile = a->first / KV_TILE / WIDE_TILES * WIDE_TILES;
	for (; tile * KV_TILE < a->n_valid; tile += WIDE_TILES)
		for (size_t d = 0, end; d < a->head_dim; d = end) {
			end = d + WIDE_DIMS < a->head_dim ? d + WIDE_DIMS : a->head_dim;
			widen_keys(a, tile, d, end, wide);
			for (r = 0; r < rows; r += shape->n_rows) {
				shape = wide_shape_of(rows - r);
				shape->score(a, row + r, wide, d, end - d,
					     (float(*)[KV_BLOCK])(s[r] + tile * KV_TILE));
			}
		}
	for (r = 0; r < rows; r += MAX_ROWS)
		soften(a, rows - r < MAX_ROWS ? (unsigned)(rows - r) : MAX_ROWS, row + r, s + r,
		       correction + r);
	for (tile = 0; tile + WIDE_TILES <= n_dim_tiles; tile += WIDE_TILES) {
		widen_values(a, tile, wide);
		for (r = 0; r < rows; r += shape->n_rows) {
			shape = wide_shape_of(rows - r);
			shape->value(a, row + r, tile, wide, s + r, correction + r);
		}
	}
	for (; tile < n_dim_tiles; tile++) { /* one of 16 dimensions is left over */
		const struct shape *one;

		for (r = 0; r < rows; r += one->n_rows) {
			one = shape_of(a->type, rows - r);
			one->value_one(a, row + r, tile, s + r, correction + r);
		}
	}
}

#endif
