/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/kernels/matmul_rig.h: weights, activations and calls that the tests of the products
 * share. One struct product is one weight matrix with its columns on one level; everything in it
 * comes from a seed, so that a failure can be repeated. Single-threaded, for tests only.
 */
#ifndef SLUICE_TESTS_KERNELS_MATMUL_RIG_H
#define SLUICE_TESTS_KERNELS_MATMUL_RIG_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/scalar.h"
#include "kernels/quant.h"

#define MAX_COLS 64
#define MAX_ROWS 71

/* Where a block keeps its half floats and the small scales of its groups. */
struct format {
	uint32_t type;
	int d, dmin; /* -1: none */
	unsigned scales, n_scales;
	int offset; /* what a level may add to signed weights, to take it away afterwards */
};

static const struct format formats[] = {
	{ QUANT_F32, -1, -1, 0, 0, 0 },	      { QUANT_F16, -1, -1, 0, 0, 0 },
	{ QUANT_BF16, -1, -1, 0, 0, 0 },      { QUANT_Q4_0, 0, -1, 0, 0, 8 },
	{ QUANT_Q4_1, 0, 2, 0, 0, 0 },	      { QUANT_Q5_0, 0, -1, 0, 0, 16 },
	{ QUANT_Q5_1, 0, 2, 0, 0, 0 },	      { QUANT_Q8_0, 0, -1, 0, 0, 128 },
	{ QUANT_Q2_K, 80, 82, 0, 16, 0 },     { QUANT_Q3_K, 108, -1, 96, 12, 4 },
	{ QUANT_Q4_K, 0, 2, 4, 12, 0 },	      { QUANT_Q5_K, 0, 2, 4, 12, 0 },
	{ QUANT_Q6_K, 208, -1, 192, 16, 32 }, { QUANT_IQ4_NL, 0, -1, 0, 0, 128 },
	{ QUANT_IQ4_XS, 0, -1, 2, 6, 128 },   { QUANT_MXFP4, -1, -1, 0, 0, 12 },
	{ QUANT_IQ2_XXS, 0, -1, 0, 0, 0 },    { QUANT_IQ2_XS, 0, -1, 66, 8, 0 },
	{ QUANT_IQ2_S, 0, -1, 74, 8, 0 },     { QUANT_IQ3_XXS, 0, -1, 66, 32, 0 },
	{ QUANT_IQ3_S, 0, -1, 106, 4, 0 },    { QUANT_IQ1_S, 0, -1, 34, 16, 0 },
	{ QUANT_IQ1_M, -1, -1, 48, 8, 0 },    { QUANT_TQ1_0, 52, -1, 0, 0, 0 },
	{ QUANT_TQ2_0, 64, -1, 0, 0, 0 },
};

static uint64_t random_state;

static uint32_t random_u32(void)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 32);
}

/* Uniform in [-1, 1). */
static float random_float(void)
{
	return (float)((double)(random_u32() >> 8) * 0x1p-23 - 1.0);
}

static void *aligned(size_t bytes)
{
	void *p = aligned_alloc(64, align_up(bytes ? bytes : 1, 64));

	assert_non_null(p);
	return p;
}

/* Sets a block's d and dmin; MXFP4 has an exponent instead, taken from @d. */
static void set_scales(const struct format *f, uint8_t *block, float d, float dmin)
{
	uint16_t h = f16_from_f32(d);

	if (f->type == QUANT_IQ1_M) /* a nibble on top of each of four words */
		for (int i = 0; i < 4; i++)
			block[49 + 2 * i] =
				(uint8_t)((block[49 + 2 * i] & 15) | (h >> 4 * i & 15) << 4);
	if (f->type == QUANT_MXFP4)
		block[0] = d == 0 ? 0 : (uint8_t)(127 + ilogbf(fabsf(d)));
	if (f->d >= 0)
		memcpy(block + f->d, &h, sizeof(h));
	h = f16_from_f32(dmin);
	if (f->dmin >= 0)
		memcpy(block + f->dmin, &h, sizeof(h));
}

/* Any bytes, with scales of either sign around @size. */
static void random_row(const struct format *f, uint8_t *row, size_t n, float size)
{
	const struct quant_format *q = quant_format(f->type);

	for (size_t i = 0; i < n && q->block == 1; i++) {
		float w = size * random_float();
		uint32_t bits = f32_bits(w);
		uint16_t h = f->type == QUANT_F16 ? f16_from_f32(w) : (uint16_t)(bits >> 16);

		if (f->type == QUANT_F32)
			memcpy(row + 4 * i, &bits, sizeof(bits));
		else
			memcpy(row + 2 * i, &h, sizeof(h));
	}
	for (size_t i = 0; i < n && q->block > 1; i += q->block, row += q->bytes) {
		for (size_t k = 0; k < q->bytes; k++)
			row[k] = (uint8_t)random_u32();
		set_scales(f, row, size * random_float(), size * random_float());
	}
}

/* One weight matrix, its columns and a level. */
struct product {
	const struct cpu_ops *ops;
	const struct format *f;
	size_t n, rows, cols, row_bytes;
	uint8_t *w;
	float *x[MAX_COLS];
	void *act[MAX_COLS];
	void *scratch;
};

static enum act_kind act_of(const struct format *f)
{
	return quant_format(f->type)->act;
}

/* Column @c from p->x[c]. What lay there before must not matter: it is all ones. */
static void quantize_column(struct product *p, size_t c)
{
	memset(p->act[c], 0xff, p->ops->act_bytes(act_of(p->f), p->n));
	p->ops->act_quantize(act_of(p->f), p->x[c], p->n, p->act[c]);
}

static void product_init(struct product *p, const struct cpu_ops *ops, const struct format *f,
			 size_t n, size_t rows, size_t cols)
{
	const size_t scratch = ops->matmul_scratch_bytes(n);

	*p = (struct product){ .ops = ops, .f = f, .n = n, .rows = rows, .cols = cols };
	random_state = 1 + n;
	p->row_bytes = quant_row_bytes(f->type, n);
	assert_true(p->row_bytes && rows <= MAX_ROWS && cols <= MAX_COLS);
	p->w = aligned(rows * p->row_bytes);
	for (size_t r = 0; r < rows; r++)
		random_row(f, p->w + r * p->row_bytes, n, 0.02f);
	p->scratch = aligned(scratch);
	memset(p->scratch, 0xff, scratch);
	for (size_t c = 0; c < cols; c++) {
		p->x[c] = aligned(n * sizeof(float));
		p->act[c] = aligned(ops->act_bytes(act_of(f), n));
		for (size_t i = 0; i < n; i++)
			p->x[c][i] = random_float() * (i % 97 ? 1.0f : 30.0f);
		quantize_column(p, c);
	}
}

static void product_fini(struct product *p)
{
	free(p->w);
	free(p->scratch);
	for (size_t c = 0; c < p->cols; c++) {
		free(p->x[c]);
		free(p->act[c]);
	}
}

/* A result; what is not written stays as it was. */
struct result {
	float y[MAX_COLS][MAX_ROWS];
};

#define UNTOUCHED 0x7fc0dead

static void result_clear(struct result *y)
{
	for (size_t c = 0; c < MAX_COLS; c++)
		for (size_t r = 0; r < MAX_ROWS; r++)
			y->y[c][r] = f32_from_bits(UNTOUCHED);
}

/* Rows [row0, row1) of @w times columns [col, col + cols) into the same places of @y. */
static void multiply(const struct product *p, const uint8_t *w, size_t row_bytes, size_t row0,
		     size_t row1, size_t col, size_t cols, struct result *y)
{
	const void *x[MAX_COLS];
	float *to[MAX_COLS];
	struct matmul m = { .type = p->f->type,
			    .w = w,
			    .row_bytes = row_bytes,
			    .n = p->n,
			    .row0 = row0,
			    .row1 = row1,
			    .x = x,
			    .y = to,
			    .cols = cols,
			    .scratch = p->scratch };

	for (size_t c = 0; c < cols; c++) {
		x[c] = p->act[col + c];
		to[c] = y->y[col + c];
	}
	p->ops->matmul(&m);
}

/* Every row and column, one column a call. */
static void multiply_singly(const struct product *p, struct result *y)
{
	result_clear(y);
	for (size_t c = 0; c < p->cols; c++)
		multiply(p, p->w, p->row_bytes, 0, p->rows, c, 1, y);
}

/*
 * Row lengths that end in the middle of whatever a level takes at once: one block, some, many; the
 * float formats also lengths that nothing divides. 0 ends the list.
 */
static const size_t *lengths(const struct format *f)
{
	static const size_t one[] = { 1, 7, 33, 256, 531, 0 };
	/* behind 288: widths of published experts, of the parity that tails of four and eight blocks meet */
	static const size_t by32[] = { 32, 96, 256, 288, 640, 704, 1856, 0 };
	static const size_t by256[] = { 256, 512, 768, 1280, 0 };
	/* read by fours and pairs: three is a pair and one */
	static const size_t by1024[] = { 256, 512, 768, 1280, 0 };
	/* read by eights, which in rows of twelve begin at three places */
	static const size_t by2048[] = { 256, 512, 768, 1280, 3072, 0 };

	switch (f->type) {
	case QUANT_IQ1_S:
	case QUANT_IQ1_M:
	case QUANT_IQ2_XXS:
	case QUANT_IQ2_XS:
	case QUANT_IQ2_S:
	case QUANT_IQ3_XXS:
	case QUANT_IQ3_S:
		return by1024;
	case QUANT_TQ1_0:
	case QUANT_TQ2_0:
		return by2048;
	}
	switch (quant_format(f->type)->block) {
	case 1:
		return one;
	case 32:
		return by32;
	default:
		return by256;
	}
}

/* Calls @test for each level of this machine, each format and each length. */
static void each_product(void (*test)(const struct cpu_ops *ops, const struct format *f, size_t n))
{
	unsigned levels = 0;

	for (int level = 0; level < CPU_LEVEL_NR; level++) {
		const struct cpu_ops *ops = cpu_ops_get((enum cpu_level)level);

		if (!ops)
			continue;
		assert_int_equal(ops->level, level);
		levels++;
		for (size_t k = 0; k < ARRAY_LEN(formats); k++)
			for (const size_t *n = lengths(&formats[k]); *n; n++)
				test(ops, &formats[k], *n);
	}
	assert_true(levels >= 1);
}

#endif
