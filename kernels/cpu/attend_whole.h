/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/attend_whole.h: attention over one block of the KV cache with whole numbers of 16 bits, for
 * the vector levels: an instruction multiplies and adds twice as many of them as floats. Included by
 * float_avx2.c and float_avx512.c after their whole_*.h, in whose names it is written.
 *
 * Numbers that are multiplied share a unit (attend_numbers.h makes them):
 *   queries   MOST at most; one unit for 32 dimensions of a row (attend_query(), once a query)
 *   keys      f16: a power of two for 32 dimensions of a position, so that the largest of them has
 *             14 bits and those above an eighth of it are exact; q8_0: as they are stored
 *   weights   of softmax, times the units of their positions' values: MOST at most, one unit for a
 *             row and block
 *   values    as keys, one unit for all dimensions of a position
 * Sums of 4 dimensions (keys) or 4 positions (values) are exact in 32 bits; these are added up as
 * floats, in order. A unit depends on nothing but what shares it, a sum on its row and its positions:
 * so a row's bits do not depend on how many rows come together, nor on positions that it does not
 * see, nor on which of the two levels it is (tests/unit/kernels/test_attend.c). What is not finite makes its
 * unit NaN. The block is taken in parts that stay in the first cache, turned into pairs of numbers once for
 * all rows.
 *
 * A number is off by half of its unit at most: a query or weight by 1/65534 of the largest that it
 * shares the unit with, a key or value by 1/16384, an eighth of what storing the largest as f16 may
 * cost. Measured (docs/performance.md): scores are off by a tenth of what storing keys as f16 costs,
 * results by a fifth.
 */
#ifndef SLUICE_KERNELS_CPU_ATTEND_WHOLE_H
#define SLUICE_KERNELS_CPU_ATTEND_WHOLE_H

#include "kernels/cpu/attend_numbers.h"

#define PART_ROWS 128 /* rows that go through a part together, at most */

/* @bytes from @at on (NULL: none) in @asks */
static void ask_for(struct part *p, const uint8_t *at, size_t bytes, size_t asks)
{
	p->ahead = at ? at : (const uint8_t *)p->pairs;
	p->step = at ? (bytes + asks - 1) / asks : 0;
}

/* As often as @rows ask on their way over a part, @n times for a tile of them. */
static size_t asks_of(size_t rows, size_t n)
{
	return (rows + PART_ROWS_TILE - 1) / PART_ROWS_TILE * n * PART_ASKS;
}

/*
 * total += (@begin: =) @n_rows rows of a CHUNK of numbers x, @ld apart, times the part's pairs from
 * @at on. All rows' factors stay in registers while vectors pass, half of which the products read from
 * memory themselves: fewer instructions than vectors that stay while rows pass.
 */
ALWAYS void add_chunk(const unsigned n_rows, const unsigned n_vectors, const bool begin,
		      const int16_t *x, size_t ld, struct part *p, size_t at,
		      vf (*total)[PART_VECTORS])
{
	const int32_t(*pairs)[PART_LANES] = (const int32_t(*)[PART_LANES])p->pairs + at;
	vi factor[PART_ROWS_TILE][CHUNK / 2];

	for (unsigned i = 0; begin && i < PART_ASKS; i++)
		ask(p);
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned i = 0; i < CHUNK / 2; i++) {
			int32_t pair;

			memcpy(&pair, x + r * ld + 2 * i, sizeof(pair));
			factor[r][i] = vi_set1(pair);
		}
	for (unsigned v = 0; v < n_vectors; v++) {
		vi value = vi_load(pairs[0] + v * VL), sum[PART_ROWS_TILE];

		__asm__("" : "+x"(value)); /* in a register, or each row would read it again */
		for (unsigned r = 0; r < n_rows; r++)
			sum[r] = vi_multiply(factor[r][0], value);
		for (unsigned r = 0; r < n_rows; r++) {
			vf now;

			sum[r] = vi_multiply_add(sum[r], factor[r][1], vi_load(pairs[1] + v * VL));
			now = vi_float(sum[r]);
			total[r][v] = begin ? now : vf_add(total[r][v], now);
		}
	}
}

/* s[r] goes on (@d > 0) or begins with @n dimensions from @d on, @n_rows at a time */
ALWAYS void score_rows(const struct attend_args *a, const unsigned n_rows, size_t row, size_t rows,
		       struct part *p, size_t d, size_t n, float (*s)[KV_BLOCK])
{
	const size_t ld = 2 * a->head_dim; /* as numbers of 16 bits */

	for (; rows; row += n_rows, rows -= n_rows, s += n_rows) {
		const int16_t *q = query_numbers(a, row);
		const float *units = (const float *)(q + a->head_dim) + d / GROUP;
		vf total[PART_ROWS_TILE][PART_VECTORS];

		for (size_t g = 0; g < n; g += GROUP) {
			const float *unit = p->unit[g / GROUP];
			const size_t end = n - g < GROUP ? n : g + GROUP;

			add_chunk(n_rows, PART_VECTORS, true, q + d + g, ld, p, g / 2, total);
			for (size_t i = g + CHUNK; i < end; i += CHUNK)
				add_chunk(n_rows, PART_VECTORS, false, q + d + i, ld, p, i / 2,
					  total);
			for (unsigned r = 0; r < n_rows; r++) {
				const vf x = vf_set1(units[r * a->head_dim + g / GROUP]);

				for (unsigned v = 0; v < PART_VECTORS; v++) {
					const vf score = d || g ? vf_load(s[r] + v * VL)
								: vf_zero();
					const vf factor = vf_mul(x, vf_load(unit + v * VL));

					vf_store(s[r] + v * VL, vf_fma(total[r][v], factor, score));
				}
			}
		}
	}
}

/* acc = acc * correction + unit * sum of numbers, for @n_vectors vectors of dimensions, @n_rows at a time */
ALWAYS void value_rows(const struct attend_args *a, const unsigned n_rows, const unsigned n_vectors,
		       size_t rows, float *acc, struct part *p, const struct weights *w,
		       const float *unit, const float *correction)
{
	const size_t dims = attend_value_dim(a), first = a->first / CHUNK * CHUNK;

	for (; rows; rows -= n_rows, unit += n_rows, correction += n_rows) {
		vf total[PART_ROWS_TILE][PART_VECTORS];

		add_chunk(n_rows, n_vectors, true, w->number + first, KV_BLOCK, p, first / 2,
			  total);
		for (size_t j = first + CHUNK; j < a->n_valid; j += CHUNK)
			add_chunk(n_rows, n_vectors, false, w->number + j, KV_BLOCK, p, j / 2,
				  total);
		for (unsigned r = 0; r < n_rows; r++, w++, acc += dims)
			for (unsigned v = 0; v < n_vectors; v++) {
				const vf old =
					vf_mul(vf_load(acc + v * VL), vf_set1(correction[r]));

				vf_store(acc + v * VL, vf_fma(total[r][v], vf_set1(unit[r]), old));
			}
	}
}

/* One function per number of rows: kept apart, so that the compiler gives each loop all registers. */
struct shape {
	unsigned n_rows;
	void (*score)(const struct attend_args *a, size_t row, size_t rows, struct part *p,
		      size_t d, size_t n, float (*s)[KV_BLOCK]);
	void (*value[PART_TILES])(const struct attend_args *a, size_t rows, float *acc,
				  struct part *p, const struct weights *w, const float *unit,
				  const float *correction); /* of so many tiles, less one */
};

#define VALUE(n_rows, tiles)                                                                       \
	static void value_##n_rows##_##tiles(const struct attend_args *a, size_t rows, float *acc, \
					     struct part *p, const struct weights *w,              \
					     const float *unit, const float *correction)           \
	{                                                                                          \
		value_rows(a, n_rows, (tiles)*PER_TILE, rows, acc, p, w, unit, correction);        \
	}
#define SHAPE(n_rows)                                                                       \
	static void score_##n_rows(const struct attend_args *a, size_t row, size_t rows,    \
				   struct part *p, size_t d, size_t n, float(*s)[KV_BLOCK]) \
	{                                                                                   \
		score_rows(a, n_rows, row, rows, p, d, n, s);                               \
	}                                                                                   \
	PART_VALUES(VALUE, n_rows)
#define VALUE_ENTRY(n_rows, tiles) value_##n_rows##_##tiles,
#define SHAPE_ENTRY(n_rows)	   { n_rows, score_##n_rows, { PART_VALUES(VALUE_ENTRY, n_rows) } },

PART_SHAPES(SHAPE)

/* most rows first, one row last */
static const struct shape shapes[] = { PART_SHAPES(SHAPE_ENTRY) };

/* For the first of @rows rows; @ret_n: how many of them. */
static const struct shape *shape_of(size_t rows, size_t *ret_n)
{
	const struct shape *shape = shapes;

	/* eight go as four and four: two alone are few chains */
	while (shape->n_rows > rows || (rows == 8 && shape->n_rows == 6))
		shape++;
	*ret_n = rows - rows % shape->n_rows;
	return shape;
}

/* s of @rows rows from @row on */
static void score_all(const struct attend_args *a, size_t row, size_t rows, struct part *p,
		      float (*s)[KV_BLOCK])
{
	/* bytes of values that are asked for with PART_TILES of keys: their share of all */
	const size_t ahead = kv_block_bytes(a->type, attend_value_dim(a)) / KV_TILES * PART_TILES;
	size_t tile = a->first / KV_TILE / PART_TILES * PART_TILES;
	const struct shape *shape;

	for (; tile * KV_TILE < a->n_valid; tile += PART_TILES)
		for (size_t d = 0, end; d < a->head_dim; d = end) {
			const uint8_t *next = (const uint8_t *)a->v + tile / PART_TILES * ahead;

			end = d + PART_DIMS < a->head_dim ? d + PART_DIMS : a->head_dim;
			ask_for(p, next + ahead * d / a->head_dim, ahead * (end - d) / a->head_dim,
				PART_TILES * (end - d) / 2 +
					asks_of(rows, (end - d + GROUP - 1) / GROUP));
			take_keys(a, tile, d, end, p);
			for (size_t r = 0, some; r < rows; r += some) {
				shape = shape_of(rows - r, &some);
				shape->score(a, row + r, some, p, d, end - d,
					     (float(*)[KV_BLOCK])(s[r] + tile * KV_TILE));
			}
		}
}

/* @rows rows from @row on, at most PART_ROWS */
static void attend_part(const struct attend_args *a, size_t row, size_t rows)
{
	const size_t n_dim_tiles = attend_value_dim(a) / KV_TILE;
	/* bytes of the next keys that are asked for with a tile of values */
	const size_t ahead = kv_block_bytes(a->type, a->head_dim) / n_dim_tiles;
	float s[PART_ROWS][KV_BLOCK] __attribute__((aligned(64)));
	float correction[PART_ROWS], unit[PART_ROWS];
	struct weights weights[PART_ROWS];
	struct positions positions;
	const struct shape *shape;
	struct part part;

	score_all(a, row, rows, &part, s);
	for (size_t r = 0; r < rows; r += SOFTEN_ROWS)
		soften(a, rows - r < SOFTEN_ROWS ? (unsigned)(rows - r) : SOFTEN_ROWS, row + r,
		       s + r, correction + r);
	measure_values(a, &positions);
	for (size_t r = 0; r < rows; r++)
		weigh(a, &positions, s[r], a->l[row + r], &weights[r], &unit[r]);
	for (size_t tile = 0, n; tile < n_dim_tiles; tile += n) {
		const uint8_t *next = a->next_k;

		n = n_dim_tiles - tile < PART_TILES ? n_dim_tiles - tile : PART_TILES;
		ask_for(&part, next ? next + tile * ahead : NULL, n * ahead,
			n * PER_TILE * KV_BLOCK / 2 + asks_of(rows, 1));
		take_values(a, &positions, tile, n, &part);
		for (size_t r = 0, some; r < rows; r += some) {
			shape = shape_of(rows - r, &some);
			shape->value[n - 1](a, some,
					    a->acc + (row + r) * n_dim_tiles * KV_TILE +
						    tile * KV_TILE,
					    &part, weights + r, unit + r, correction + r);
		}
	}
}

static void attend(const struct attend_args *a)
{
	for (size_t row = 0, rows; row < a->rows; row += rows) {
		rows = a->rows - row < PART_ROWS ? a->rows - row : PART_ROWS;
		attend_part(a, row, rows);
	}
}

#endif
