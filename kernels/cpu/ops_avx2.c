/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/ops_avx2.c: the AVX2 level's table (AVX2, FMA, F16C) and the walk over a product.
 *
 * Few columns: rows are streamed in file order and multiplied as they are unpacked, four columns
 * at a time; what these share comes from the cache. Many columns: tiles of rows are unpacked to
 * scratch, a depth at a time, and all columns pass over them; lanes rest in scratch between depths
 * and keep their bits. Memory of the next tile is asked for along the way. Called by engine
 * workers, each with its own scratch.
 */
#include <assert.h>

#include "base/num.h"
#include "kernels/cpu/avx2_level.h"
#include "kernels/cpu/scalar.h"

#define FEW_COLS   16
#define TILE_ROWS  8
#define TILE_STEPS 4  /* times 256 weights: a tile and four columns fit the first cache level */
#define TILE_COLS  64 /* columns that share one unpacking */

struct scratch {
	union unpacked w[TILE_ROWS][TILE_STEPS];
	__m256 acc[TILE_ROWS][TILE_COLS];
};

static const struct avx2_format *const formats[] = {
	&avx2_q4_k, &avx2_q6_k, &avx2_q5_k, &avx2_q2_k, &avx2_q3_k,   &avx2_iq4_xs, &avx2_q8_0,
	&avx2_q4_0, &avx2_q4_1, &avx2_q5_0, &avx2_q5_1, &avx2_iq4_nl, &avx2_mxfp4,
};

static const struct avx2_format *find_format(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++)
		if (formats[i]->type == type)
			return formats[i];
	return NULL;
}

/* A part of the product: rows [row, row + rows), columns [col, col + cols). */
struct tile {
	size_t row, rows, col, cols;
	const char *next, *end; /* memory of the tile after this one, still to be fetched */
};

/* Steps [first, first + steps) of the tile's rows into scratch. */
static void unpack_tile(const struct avx2_format *f, const struct matmul *m, const struct tile *t,
			size_t first, size_t steps)
{
	struct scratch *s = m->scratch;
	const size_t per_step = 256 / f->block, blocks = m->n / f->block;

	for (size_t r = 0; r < t->rows; r++) {
		const uint8_t *w = (const uint8_t *)m->w + (t->row + r) * m->row_bytes;

		for (size_t i = 0; i < steps; i++) {
			size_t b = (first + i) * per_step;

			f->unpack(w + b * f->bytes, (unsigned)u64_min(per_step, blocks - b),
				  &s->w[r][i]);
		}
	}
}

static void fetch(struct tile *t, size_t lines)
{
	for (; lines && t->next < t->end; lines--, t->next += 64)
		_mm_prefetch(t->next, _MM_HINT_T1);
}

static void multiply_tile(const struct avx2_format *f, const struct matmul *m, struct tile *t)
{
	struct scratch *s = m->scratch;
	const size_t all = div_ceil(m->n, 256);
	const size_t calls = div_ceil(all, TILE_STEPS) * div_ceil(t->cols, AVX2_COLS) * t->rows;
	const size_t lines = (size_t)(t->end - t->next) / 64 / calls + 1;

	for (size_t r = 0; r < t->rows; r++)
		for (size_t c = 0; c < t->cols; c++)
			s->acc[r][c] = _mm256_setzero_ps();
	for (size_t first = 0; first < all; first += TILE_STEPS) {
		const size_t steps = u64_min(TILE_STEPS, all - first);

		unpack_tile(f, m, t, first, steps);
		for (size_t c = 0; c < t->cols; c += AVX2_COLS) {
			const int cols = (int)u64_min(AVX2_COLS, t->cols - c);

			for (size_t r = 0; r < t->rows; r++) {
				fetch(t, lines);
				f->dot(s->w[r], steps, m->x + t->col + c, cols, first,
				       &s->acc[r][c], 1);
			}
		}
	}
	for (size_t c = 0; c < t->cols; c++)
		for (size_t r = 0; r < t->rows; r++)
			m->y[t->col + c][t->row + r] = add_lanes(s->acc[r][c]);
}

static void stream(const struct avx2_format *f, const struct matmul *m)
{
	struct matmul part = *m;

	for (; part.row0 < m->row1; part.row0 = part.row1) {
		part.row1 = u64_min(part.row0 + TILE_ROWS, m->row1);
		for (size_t c = 0; c < m->cols; c += AVX2_COLS)
			f->rows(&part, c, (int)u64_min(AVX2_COLS, m->cols - c));
	}
}

static void matmul(const struct matmul *m)
{
	const struct avx2_format *f = find_format(m->type);
	const char *end = (const char *)m->w + m->row1 * m->row_bytes;

	if (!f) {
		avx2_matmul_float(m);
		return;
	}
	if (m->cols <= FEW_COLS) {
		stream(f, m);
		return;
	}
	for (size_t c = 0; c < m->cols; c += TILE_COLS) {
		for (size_t r = m->row0; r < m->row1; r += TILE_ROWS) {
			struct tile t = { .row = r,
					  .rows = u64_min(TILE_ROWS, m->row1 - r),
					  .col = c,
					  .cols = u64_min(TILE_COLS, m->cols - c) };

			t.next = (const char *)m->w + (r + t.rows) * m->row_bytes;
			t.end = t.next + u64_min(t.rows * m->row_bytes, (uint64_t)(end - t.next));
			multiply_tile(f, m, &t);
		}
	}
}

static size_t matmul_scratch_bytes(size_t n)
{
	return align_up(sizeof(struct scratch), 64);
}

const struct cpu_ops cpu_ops_avx2 = {
	.level = CPU_AVX2,
	.name = "avx2",
	/* embedding rows and tests: exactness counts, speed does not */
	.dequantize = scalar_dequantize,
	.act_bytes = avx2_act_bytes,
	.act_quantize = avx2_act_quantize,
	.act_quantize_part = avx2_act_quantize_part,
	.matmul = matmul,
	.matmul_scratch_bytes = matmul_scratch_bytes,
	.row_tile = TILE_ROWS,
};
