/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_attend_wide.h: attention of many rows over one block of a q8_0 KV cache, for
 * AVX2: the block is widened to floats once, in parts that stay in the cache, and every row
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
#define WIDE_ROWS    128 /* rows that go through a widened part together, at most */

/* Where it pays: halves are widened beside the multiply-adds, without a slot of theirs. */
static inline bool goes_wide(enum kv_type type, size_t rows)
{
	return type == KV_Q8_0 && rows >= 16;
}

/* rows of a tile, as many as registers allow */
#define WIDE_ROWS_MAX  6
#define WIDE_SHAPES(X) X(6) X(4) X(2) X(1)

/*
 * A part of the block, widened, and what is brought into the second cache while rows pass over it: the part
 * that comes next, for widening waits for its memory. @step bytes a dimension or position and tile of rows.
 */
struct part {
	float wide[WIDE_DIMS * WIDE_LANES] __attribute__((aligned(64)));
	const uint8_t *ahead;
	size_t step;
};

/* @bytes from @at on, while @rows rows pass over @n dimensions or positions; NULL: nothing */
static void fetch_during(struct part *p, const void *at, size_t bytes, size_t rows, size_t n)
{
	const size_t steps = (rows + WIDE_ROWS_MAX - 1) / WIDE_ROWS_MAX * n;

	p->ahead = at ? at : p->wide;
	p->step = at ? (bytes + steps - 1) / steps : 0;
}

/* Keys of the positions from @tile on, dimensions [d, end) -> out[dimension][WIDE_LANES]. */
static void widen_keys(const struct attend_args *a, size_t tile, size_t d, size_t end, float *out)
{
	const size_t tile_bytes = kv_block_bytes(a->type, a->head_dim) / KV_TILES;

	for (unsigned v = 0; v < WIDE_VECTORS; v++) {
		const uint8_t *k = (const uint8_t *)a->k + (tile + v / PER_TILE) * tile_bytes;
		const size_t lane = v % PER_TILE * VL;
		float *to = out + v * VL;

		for (size_t g = d; g < end; g += KV_Q8) {
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
 * @n_rows rows of x, @ld apart, times @n rows of WIDE_LANES from @first on: each lane of sum one chain.
 */
ALWAYS void multiply_wide(const unsigned n_rows, const float *x, size_t ld, struct part *p,
			  size_t first, size_t n, vf (*sum)[WIDE_VECTORS])
{
	const float *wide = p->wide + first * WIDE_LANES;
	const uint8_t *ahead = p->ahead;
	const size_t step = p->step;

	for (size_t i = 0; i < n; i++, wide += WIDE_LANES) {
		vf value[WIDE_VECTORS];

		_mm_prefetch((const char *)ahead, _MM_HINT_T1);
		ahead += step;
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			value[v] = vf_load(wide + v * VL);
		for (unsigned r = 0; r < n_rows; r++) {
			vf factor = vf_set1(x[r * ld + i]);

			for (unsigned v = 0; v < WIDE_VECTORS; v++)
				sum[r][v] = vf_fma(factor, value[v], sum[r][v]);
		}
	}
	p->ahead = ahead;
}

/* s[r] goes on (@d > 0) or begins with @n dimensions from @d on */
ALWAYS void score_wide(const struct attend_args *a, const unsigned n_rows, size_t row,
		       struct part *part, size_t d, size_t n, float (*s)[KV_BLOCK])
{
	vf sum[WIDE_ROWS_MAX][WIDE_VECTORS];

	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			sum[r][v] = d ? vf_load(s[r] + v * VL) : vf_zero();
	multiply_wide(n_rows, a->q + row * a->head_dim + d, a->head_dim, part, 0, n, sum);
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			vf_store(s[r] + v * VL, sum[r][v]);
}

ALWAYS void value_wide(const struct attend_args *a, const unsigned n_rows, size_t row, size_t tile,
		       struct part *part, float (*p)[KV_BLOCK], const float *correction)
{
	const size_t dims = attend_value_dim(a);
	float *acc = a->acc + row * dims + tile * KV_TILE;
	vf sum[WIDE_ROWS_MAX][WIDE_VECTORS];

	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			sum[r][v] =
				vf_mul(vf_load(acc + r * dims + v * VL), vf_set1(correction[r]));
	multiply_wide(n_rows, p[0] + a->first, KV_BLOCK, part, a->first, a->n_valid - a->first,
		      sum);
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < WIDE_VECTORS; v++)
			vf_store(acc + r * dims + v * VL, sum[r][v]);
}

/* One function per number of rows, as in float_attend.h. */
struct wide_shape {
	unsigned n_rows;
	void (*score)(const struct attend_args *a, size_t row, struct part *part, size_t d,
		      size_t n, float (*s)[KV_BLOCK]);
	void (*value)(const struct attend_args *a, size_t row, size_t tile, struct part *part,
		      float (*p)[KV_BLOCK], const float *correction);
};

#define WIDE_SHAPE(rows)                                                                          \
	static void score_wide_##rows(const struct attend_args *a, size_t row, struct part *part, \
				      size_t d, size_t n, float(*s)[KV_BLOCK])                    \
	{                                                                                         \
		score_wide(a, rows, row, part, d, n, s);                                          \
	}                                                                                         \
	static void value_wide_##rows(const struct attend_args *a, size_t row, size_t tile,       \
				      struct part *part, float(*p)[KV_BLOCK],                     \
				      const float *correction)                                    \
	{                                                                                         \
		value_wide(a, rows, row, tile, part, p, correction);                              \
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

/* s of @rows rows from @row on */
static void wide_scores(const struct attend_args *a, size_t row, size_t rows, struct part *part,
			float (*s)[KV_BLOCK])
{
	const size_t bytes = kv_block_bytes(a->type, a->head_dim) / KV_TILES * WIDE_TILES;
	size_t tile = a->first / KV_TILE / WIDE_TILES * WIDE_TILES;
	const struct wide_shape *shape;

	for (; tile * KV_TILE < a->n_valid; tile += WIDE_TILES) {
		const uint8_t *next = (const uint8_t *)a->k + (tile / WIDE_TILES + 1) * bytes;

		if ((tile + WIDE_TILES) * KV_TILE >= a->n_valid)
			next = a->v;
		for (size_t d = 0, end; d < a->head_dim; d = end) {
			end = d + WIDE_DIMS < a->head_dim ? d + WIDE_DIMS : a->head_dim;
			widen_keys(a, tile, d, end, part->wide);
			fetch_during(part, next, bytes * (end - d) / a->head_dim, rows, end - d);
			for (size_t r = 0; r < rows; r += shape->n_rows) {
				shape = wide_shape_of(rows - r);
				shape->score(a, row + r, part, d, end - d,
					     (float(*)[KV_BLOCK])(s[r] + tile * KV_TILE));
			}
			next = part->ahead;
		}
	}
}

/* @rows rows from @row on, at most WIDE_ROWS */
static void attend_wide(const struct attend_args *a, size_t row, size_t rows)
{
	const size_t n_dim_tiles = attend_value_dim(a) / KV_TILE;
	const size_t bytes = kv_block_bytes(a->type, KV_Q8) * WIDE_TILES * KV_TILE / KV_Q8;
	float s[WIDE_ROWS][KV_BLOCK] __attribute__((aligned(64))), correction[WIDE_ROWS];
	const struct wide_shape *shape;
	struct part part;
	size_t r, tile;

	wide_scores(a, row, rows, &part, s);
	for (r = 0; r < rows; r += MAX_ROWS)
		soften(a, rows - r < MAX_ROWS ? (unsigned)(rows - r) : MAX_ROWS, row + r, s + r,
		       correction + r);
	for (tile = 0; tile + WIDE_TILES <= n_dim_tiles; tile += WIDE_TILES) {
		const uint8_t *next = (const uint8_t *)a->v + (tile / WIDE_TILES + 1) * bytes;

		widen_values(a, tile, part.wide);
		fetch_during(&part, tile + 2 * WIDE_TILES <= n_dim_tiles ? next : a->next_k, bytes,
			     rows, a->n_valid - a->first);
		for (r = 0; r < rows; r += shape->n_rows) {
			shape = wide_shape_of(rows - r);
			shape->value(a, row + r, tile, &part, s + r, correction + r);
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
