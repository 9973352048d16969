/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/ops_avx2.c: the AVX2 level's table (AVX2, FMA, F16C) and the walk over a product.
 *
 * Few columns: rows are streamed and multiplied as they are unpacked, eight columns at a time
 * (avx2_rows.h, avx2_few.h); what these share comes from the cache. Many columns of super-blocks: tiles of
 * sixteen rows are unpacked to scratch, a super-block at a time, and all columns pass over them
 * (avx2_many.h); memory of the next tile is asked for along the way. Either way a row is a lane, and its
 * floats are added block by block. Called by engine workers, each with its own scratch.
 */
#include "base/num.h"
#include "kernels/cpu/avx2_many.h"
#include "kernels/cpu/scalar.h"

#define NEAR_BYTES (256 << 10)
#define TILE_COLS  64 /* columns that share one unpacking */

#define MANY_ROWS (MANY_VECTORS * AVX2_ROWS)

struct scratch {
	struct super row[AVX2_ROWS];
	struct lanes lanes[MANY_VECTORS];
	__m256 acc[TILE_COLS][MANY_VECTORS]; /* rows in lanes */
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

static void fetch(struct tile *t, size_t lines)
{
	for (; lines && t->next < t->end; lines--, t->next += 64)
		_mm_prefetch(t->next, _MM_HINT_T1);
}

/* The next super-block of @t's rows, turned into the lanes. */
static void turn_rows(const struct avx2_format *f, const struct matmul *m, const struct tile *t,
		      size_t b, struct scratch *s)
{
	const size_t bytes = f->bytes;

	for (size_t h = 0; h < MANY_VECTORS; h++) {
		for (size_t r = 0; r < AVX2_ROWS; r++) {
			/* the last of fewer rows stands for those that are not there */
			const size_t row = t->row + u64_min(h * AVX2_ROWS + r, t->rows - 1);

			f->unpack((const uint8_t *)m->w + row * m->row_bytes + b * bytes,
				  &s->row[r]);
		}
		avx2_many_turn(s->row, f->min_each, &s->lanes[h]);
	}
}

/* A tile of up to MANY_ROWS rows with rows in the lanes. */
static void multiply_tile(const struct avx2_format *f, const struct matmul *m, struct tile *t)
{
	struct scratch *s = m->scratch;
	const size_t blocks = m->n / 256, calls = blocks * div_ceil(t->cols, AVX2_COLS);
	const size_t lines = (size_t)(t->end - t->next) / 64 / calls + 1;

	for (size_t c = 0; c < t->cols; c++)
		s->acc[c][0] = s->acc[c][1] = _mm256_setzero_ps();
	for (size_t b = 0; b < blocks; b++) {
		turn_rows(f, m, t, b, s);
		for (size_t c = 0; c < t->cols; c += AVX2_COLS) {
			const int cols = (int)u64_min(AVX2_COLS, t->cols - c);
			const struct act_super *x[AVX2_COLS] = { NULL };

			for (int i = 0; i < cols; i++)
				x[i] = m->x[t->col + c + (size_t)i];
			fetch(t, lines);
			f->many(s->lanes, x, cols, b, &s->acc[c]);
		}
	}
	for (size_t c = 0; c < t->cols; c++) {
		float *y = m->y[t->col + c] + t->row;

		store_rows(y, s->acc[c][0], u64_min(t->rows, AVX2_ROWS));
		if (t->rows > AVX2_ROWS)
			store_rows(y + AVX2_ROWS, s->acc[c][1], t->rows - AVX2_ROWS);
	}
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
	if (m->cols <= AVX2_FEW || !f->many) {
		stream(f, m);
		return;
	}
	for (size_t c = 0; c < m->cols; c += TILE_COLS) {
		for (size_t r = m->row0; r < m->row1; r += MANY_ROWS) {
			struct tile t = { .row = r,
					  .rows = u64_min(MANY_ROWS, m->row1 - r),
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
	const size_t one = avx2_numbers_bytes(n / 256) + n / 256 * AVX2_LAID * AVX2_LAID_COLS;
	const size_t few =
		u64_max(div_ceil(n, 256) * sizeof(struct few_super), avx2_eight_bytes(n / 256));
	const size_t rows = u64_max(one, few);

	return align_up(u64_max(u64_max(sizeof(struct scratch), rows), avx2_pair_bytes(n / 256)),
			64);
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
	.row_tile = MANY_ROWS,
};
