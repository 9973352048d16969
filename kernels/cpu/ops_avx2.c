/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/ops_avx2.c: the AVX2 level's table (AVX2, FMA, F16C) and the walk over a product.
 *
 * Few columns: rows are streamed and multiplied as they are unpacked, eight columns at a time
 * (avx2_rows.h, avx2_few.h); what these share comes from the cache. Many columns: tiles of eight rows are unpacked
 * to scratch, a depth at a time, and all columns pass over them; memory of the next tile is asked for
 * along the way. Either way a row is a lane, and its floats are added block by block. Called by
 * engine workers, each with its own scratch.
 */
#include <assert.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/avx2_level.h"
#include "kernels/cpu/scalar.h"

#define FEW_COLS   16
#define NEAR_BYTES (256 << 10)
#define TILE_STEPS 4  /* times 256 weights: a tile and four columns fit the first cache level */
#define TILE_COLS  64 /* columns that share one unpacking */

struct scratch {
	struct piece piece[TILE_STEPS];
	__m256 acc[TILE_COLS]; /* rows in lanes */
};

static const struct avx2_format *const formats[] = {
	&avx2_q4_k,  &avx2_q6_k,    &avx2_q5_k,	  &avx2_q2_k,  &avx2_q3_k,    &avx2_iq4_xs,
	&avx2_q8_0,  &avx2_q4_0,    &avx2_q4_1,	  &avx2_q5_0,  &avx2_q5_1,    &avx2_iq4_nl,
	&avx2_mxfp4, &avx2_iq2_xxs, &avx2_iq2_xs, &avx2_iq2_s, &avx2_iq3_xxs, &avx2_iq3_s,
	&avx2_iq1_s, &avx2_iq1_m,   &avx2_tq1_0,  &avx2_tq2_0,
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

/* The scales of a piece's rows, block by block. */
static void piece_scales(struct piece *p, const struct avx2_format *f)
{
	float d[AVX2_ROWS], min[AVX2_ROWS];

	if (f->block == 256) {
		for (size_t r = 0; r < AVX2_ROWS; r++) {
			d[r] = p->w[r].super.d;
			min[r] = p->w[r].super.dmin;
		}
		p->d[0] = _mm256_loadu_ps(d);
		p->min[0] = _mm256_loadu_ps(min);
		return;
	}
	for (size_t r = 0; r < AVX2_ROWS; r++) {
		p->d[r] = p->w[r].group.d;
		p->min[r] = p->w[r].group.min;
	}
	transpose8((__m256i *)p->d);
	transpose8((__m256i *)p->min);
}

/* Step @step of the tile's rows into @p; returns its blocks. */
static unsigned unpack_piece(const struct avx2_format *f, const struct matmul *m,
			     const struct tile *t, size_t step, struct piece *p)
{
	const size_t per_step = 256 / f->block, b = step * per_step;
	const unsigned blocks = (unsigned)u64_min(per_step, m->n / f->block - b);

	for (size_t r = 0; r < t->rows; r++)
		f->unpack((const uint8_t *)m->w + (t->row + r) * m->row_bytes + b * f->bytes,
			  blocks, &p->w[r]);
	if (t->rows < AVX2_ROWS)
		memset(p->w + t->rows, 0, (AVX2_ROWS - t->rows) * sizeof(p->w[0]));
	piece_scales(p, f);
	return blocks;
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
	const size_t calls = all * div_ceil(t->cols, AVX2_COLS);
	const size_t lines = (size_t)(t->end - t->next) / 64 / calls + 1;

	for (size_t c = 0; c < t->cols; c++)
		s->acc[c] = _mm256_setzero_ps();
	for (size_t first = 0; first < all; first += TILE_STEPS) {
		const size_t steps = u64_min(TILE_STEPS, all - first);
		unsigned blocks[TILE_STEPS];

		for (size_t i = 0; i < steps; i++)
			blocks[i] = unpack_piece(f, m, t, first + i, &s->piece[i]);
		for (size_t c = 0; c < t->cols; c += AVX2_COLS) {
			const int cols = (int)u64_min(AVX2_COLS, t->cols - c);

			for (size_t i = 0; i < steps; i++) {
				fetch(t, lines);
				f->dot(&s->piece[i], blocks[i], m->x + t->col + c, cols, first + i,
				       &s->acc[c]);
			}
		}
	}
	for (size_t c = 0; c < t->cols; c++)
		store_rows(m->y[t->col + c] + t->row, s->acc[c], t->rows);
}

/* More columns than one pass multiplies: rows that stay in the second cache level meanwhile. */
static void stream(const struct avx2_format *f, const struct matmul *m)
{
	size_t some = m->row1 - m->row0;

	if (m->cols > AVX2_FEW)
		some = u64_max(AVX2_ROWS, NEAR_BYTES / m->row_bytes / AVX2_ROWS * AVX2_ROWS);
	for (size_t row = m->row0; row < m->row1; row += some)
		for (size_t c = 0; c < m->cols; c += AVX2_FEW)
			f->rows(m, row, u64_min(some, m->row1 - row), c,
				(int)u64_min(AVX2_FEW, m->cols - c));
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
		for (size_t r = m->row0; r < m->row1; r += AVX2_ROWS) {
			struct tile t = { .row = r,
					  .rows = u64_min(AVX2_ROWS, m->row1 - r),
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
	const size_t rows =
		u64_max(avx2_numbers_bytes(n / 256), div_ceil(n, 256) * sizeof(struct few_super));

	return align_up(u64_max(sizeof(struct scratch), rows), 64);
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
	.row_tile = AVX2_ROWS,
};
