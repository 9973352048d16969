/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/ops_avx512.c: the AVX-512 level's table and the walk over a product: blocks of
 * columns, tiles of 32 rows, 256 weights at a time, eight columns per kernel call. Owns the order
 * in which memory is read: a tile's rows lie together in the file, and while one tile is worked on
 * the next is prefetched in file order, a few lines per step, so that memory never waits for
 * arithmetic. Called by engine workers, each with its own scratch. Refuses unknown types by
 * assertion: the model reader has checked them.
 */
#include "kernels/cpu/avx512_tile.h"

#include <assert.h>

#include "base/num.h"
#include "kernels/cpu/vbmi.h"

#define UNPACK_LINES 10

struct scratch {
	struct tile tile;
	float acc[BLOCK_COLS][TILE_ROWS];
	uint8_t rows[16][ROW_BYTES_MAX];
};

/*
 * One column of rows so short goes side by side, too: with fewer than four super-blocks, file order adds up
 * mostly empty registers, and sixteen rows are a few KiB in one piece (docs/kernels.md). Where file order is
 * worth less (IQ2, IQ3 with VBMI), rows of fewer than eight do.
 */
#define SHORT_ROW  512
#define SHORT_OF_8 (7 * 256)

static const row_fn no_rows[ROW_COLS];

static const struct tile_format formats[] = {
#define K(T, t, min, row, run)                                                                   \
	{                                                                                        \
		QUANT_##T, 256, QUANT_##T##_BYTES, sizeof(struct act_k), avx512_unpack_##t,      \
			avx512_kernel_##t, row, NULL, min, false, 1, NULL, avx512_few_##t, NULL, \
			run, NULL, SHORT_ROW                                                     \
	}
#define SIDE(T, t, kernel)                                                                        \
	{                                                                                         \
		QUANT_##T, 256, QUANT_##T##_BYTES, sizeof(struct act_k), avx512_unpack_##t,       \
			avx512_kernel_##kernel, no_rows, NULL, 0, false, 1, NULL, avx512_few_##t, \
			NULL, NULL, NULL, 0                                                       \
	}
#define B(T, t, kernel, min, isa)                                                                \
	{                                                                                        \
		QUANT_##T, 32, QUANT_##T##_BYTES, sizeof(struct act_b), avx512_unpack_##t,       \
			avx512_kernel_##kernel, no_rows, NULL, 0, min, 1, &avx512_few_##t, NULL, \
			NULL, NULL, isa##_product_##t, 0                                         \
	}
	K(Q4_K, q4_k, AVX512_MIN_8, no_rows, avx512_run_q4_k),
	K(Q6_K, q6_k, 0, no_rows, avx512_run_q6_k),
	K(Q5_K, q5_k, AVX512_MIN_8, no_rows, avx512_run_q5_k),
	K(IQ4_XS, iq4_xs, 0, avx512_row_iq4_xs, NULL),
	SIDE(Q2_K, q2_k, q2_k),
	SIDE(Q3_K, q3_k, q3_k),
	SIDE(TQ2_0, tq2_0, iq),
#define IQ(T, t, rows, pack, factor)                                                            \
	{                                                                                       \
		QUANT_##T, 256, QUANT_##T##_BYTES, sizeof(struct act_k), avx512_unpack_##t,     \
			avx512_kernel_iq, rows##_##t, pack, 0, false, factor, NULL, NULL, NULL, \
			NULL, NULL, 0                                                           \
	}
	IQ(IQ2_XXS, iq2_xxs, avx512_row, avx512_pack_iq, 0.125f),
	IQ(IQ2_XS, iq2_xs, avx512_row, avx512_pack_iq, 0.125f),
	IQ(IQ2_S, iq2_s, avx512_row, avx512_pack_iq, 0.125f),
	IQ(IQ3_XXS, iq3_xxs, avx512_row, avx512_pack_iq, 0.25f),
	IQ(IQ3_S, iq3_s, avx512_row, avx512_pack_iq, 1),
	IQ(IQ1_S, iq1_s, avx512_row, NULL, 0.125f),
	IQ(IQ1_M, iq1_m, avx512_row, NULL, 0.125f),
	IQ(TQ1_0, tq1_0, avx512_row, avx512_pack_tq, 1),
	B(Q8_0, q8_0, block, false, avx512),
	B(Q4_0, q4_0, block, false, avx512),
	B(Q4_1, q4_1, block_min, true, avx512),
	B(Q5_0, q5_0, block, false, avx512),
	B(Q5_1, q5_1, block_min, true, avx512),
	B(IQ4_NL, iq4_nl, block, false, avx512),
	B(MXFP4, mxfp4, block, false, avx512),
#undef K
};

#undef IQ
/* where the CPU has VBMI, in place of those above */
static const struct tile_format vbmi_formats[] = {
#define FEW(T, t, row, pack, factor, few_pack)                                               \
	{                                                                                    \
		QUANT_##T, 256, QUANT_##T##_BYTES, sizeof(struct act_k), avx512_unpack_##t,  \
			avx512_kernel_iq, row, pack, 0, false, factor, NULL, avx512_few_##t, \
			avx512_few_pack_##few_pack, NULL, NULL, SHORT_OF_8                   \
	}
	FEW(IQ1_S, iq1_s, no_rows, NULL, 0.125f, iq1_s),
	FEW(IQ1_M, iq1_m, no_rows, NULL, 0.125f, iq1_m),
	FEW(IQ2_XXS, iq2_xxs, no_rows, NULL, 0.125f, iq2_xxs),
	FEW(IQ2_XS, iq2_xs, vbmi_row_iq2_xs, avx512_pack_iq, 0.125f, iq2_xs),
	FEW(IQ2_S, iq2_s, vbmi_row_iq2_s, avx512_pack_iq, 0.125f, iq2_s),
	FEW(IQ3_XXS, iq3_xxs, vbmi_row_iq3_xxs, vbmi_pack_iq3, 0.25f, iq3),
	FEW(IQ3_S, iq3_s, vbmi_row_iq3_s, vbmi_pack_iq3, 1, iq3),
	SIDE(TQ1_0, tq1_0, iq),
	B(Q5_0, q5_0, block, false, vbmi),
	B(Q5_1, q5_1, block_min, true, vbmi),
	B(IQ4_NL, iq4_nl, block, false, vbmi),
	B(MXFP4, mxfp4, block, false, vbmi),
#undef FEW
#undef SIDE
#undef B
};

bool cpu_avx512_without_vbmi;

static const struct tile_format *tile_format(uint32_t type)
{
	if (!cpu_avx512_without_vbmi && __builtin_cpu_supports("avx512vbmi"))
		for (size_t i = 0; i < ARRAY_LEN(vbmi_formats); i++)
			if (vbmi_formats[i].type == type)
				return &vbmi_formats[i];
	for (size_t i = 0; i < ARRAY_LEN(formats); i++)
		if (formats[i].type == type)
			return &formats[i];
	return NULL;
}

/* Memory to be brought in while a step is worked on. */
struct ahead {
	const char *at;
	unsigned lines;
};

static inline void prefetch(struct ahead *ahead, unsigned lines)
{
	for (; lines && ahead->lines; lines--, ahead->lines--, ahead->at += 64)
		_mm_prefetch(ahead->at, _MM_HINT_T0);
}

/* One step: @blocks blocks from @w of @rows rows into the tile. */
static void unpack(const struct tile_format *f, struct scratch *s, const uint8_t *w, size_t stride,
		   size_t rows, unsigned blocks, struct ahead *ahead)
{
	const size_t bytes = (size_t)f->bytes * blocks;

	for (int half = 0; half < 2; half++) {
		const size_t first = 16 * (size_t)half;

		/* no more at once than a core has misses in flight */
		prefetch(ahead, UNPACK_LINES);

		if (rows >= first + 16) {
			f->unpack(&s->tile, half, w + first * stride, stride, blocks);
			continue;
		}
		if (rows <= first)
			break;
		/* the last rows: a copy with sixteen; what the spare rows hold is not stored */
		for (size_t r = 0; r < 16; r++)
			memcpy(s->rows[r], w + u64_min(first + r, rows - 1) * stride, bytes);
		f->unpack(&s->tile, half, s->rows[0], ROW_BYTES_MAX, blocks);
	}
}

static void store(const struct matmul *m, const struct scratch *s, size_t row, size_t rows,
		  size_t first, size_t cols)
{
	const uint32_t mask = (uint32_t)((UINT64_C(1) << rows) - 1);

	for (size_t c = 0; c < cols; c++) {
		float *y = m->y[first + c] + row;

		_mm512_mask_storeu_ps(y, (__mmask16)mask, _mm512_load_ps(s->acc[c]));
		_mm512_mask_storeu_ps(y + 16, (__mmask16)(mask >> 16),
				      _mm512_load_ps(s->acc[c] + 16));
	}
}

/* Rows [row, row + rows), columns [first, first + cols); the @next rows come after. */
static void multiply_tile(const struct tile_format *f, const struct matmul *m, size_t row,
			  size_t rows, size_t first, size_t cols, size_t next)
{
	struct scratch *s = m->scratch;
	const unsigned per_step = TILE_DEPTH / f->block;
	const size_t nb = m->n / f->block, steps = div_ceil(nb, per_step);
	const size_t passes = div_ceil(cols, TILE_COLS);
	const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;
	const char *after = (const char *)w + rows * m->row_bytes;
	const size_t share = div_ceil(next * m->row_bytes, 64 * steps);

	memset(s->acc, 0, cols * sizeof(s->acc[0]));
	for (size_t step = 0; step < steps; step++, w += (size_t)f->bytes * per_step) {
		const unsigned blocks = (unsigned)u64_min(per_step, nb - step * per_step);
		struct ahead ahead = { after + 64 * share * step, (unsigned)share };
		unsigned each;

		unpack(f, s, w, m->row_bytes, rows, blocks, &ahead);
		each = (unsigned)div_ceil(ahead.lines, 8 * passes);
		for (size_t c = 0, i = 0; c < cols; i++) {
			const size_t n = (cols - c) / (passes - i), left = cols - c - n;
			const struct tile_product p = {
				.tile = &s->tile,
				.x = m->x + first + c,
				.offset = step * f->act_bytes,
				.acc = s->acc + c,
				.blocks = blocks,
				.weights_ahead = ahead.at + 8 * 64 * each * i,
				.lines_ahead = 8 * each * i < ahead.lines ? each : 0,
				.x_ahead = m->x + first + (left ? c + n : 0),
				.offset_ahead = (step + !left) * f->act_bytes,
				.cols_ahead = (unsigned)u64_min(left ? left : cols, TILE_COLS),
			};

			f->kernel[n - 1](&p);
			c += n;
		}
	}
	store(m, s, row, rows, first, cols);
}

/* Columns whose activations fit the second-level cache beside the tile. */
static size_t columns_together(size_t act_bytes)
{
	size_t cols = (512u << 10) / act_bytes / TILE_COLS * TILE_COLS;

	return cols < 32 ? 32 : cols > BLOCK_COLS ? BLOCK_COLS : cols;
}

/* whether so few columns have rows in file order */
static bool in_file_order(const struct tile_format *f, size_t cols)
{
	return cols <= ROW_COLS && (f->run ? f->run[cols - 1] != NULL : f->row[cols - 1] != NULL);
}

/* whether sixteen rows are multiplied side by side */
static bool side_by_side(const struct tile_format *f, const struct matmul *m)
{
	return m->cols <= ROW_COLS && f->few_k && f->few_k[m->cols - 1] &&
	       (m->cols > 1 || m->n <= f->short_row || !in_file_order(f, 1));
}

static void matmul(const struct matmul *m)
{
	const struct tile_format *f = tile_format(m->type);

	if (!f) {
		avx512_matmul_float(m);
		return;
	}

	if (!m->cols)
		return;
	if (side_by_side(f, m)) {
		avx512_matmul_few_k(f, m);
		return;
	}
	if (m->cols <= ROW_COLS && f->product && f->product[m->cols - 1]) {
		f->product[m->cols - 1](m);
		return;
	}
	if (in_file_order(f, m->cols)) {
		avx512_matmul_rows(f, m);
		return;
	}
	if (m->cols <= ROW_COLS && f->few) {
		avx512_matmul_few_b(f, m);
		return;
	}

	const size_t most = columns_together(div_ceil(m->n, TILE_DEPTH) * f->act_bytes);

	for (size_t c = 0; c < m->cols; c += most) {
		for (size_t row = m->row0; row < m->row1; row += TILE_ROWS) {
			const size_t rows = u64_min(TILE_ROWS, m->row1 - row);

			multiply_tile(f, m, row, rows, c, u64_min(most, m->cols - c),
				      u64_min(TILE_ROWS, m->row1 - row - rows));
		}
	}
}

static size_t matmul_scratch_bytes(size_t n)
{
	return align_up(u64_max(sizeof(struct scratch), avx512_rows_scratch_bytes(n)), 64);
}

/* Exactness, not speed, matters here (embedding rows, tests): the reference does it. */
static void dequantize(uint32_t type, const void *src, float *dst, size_t n)
{
	cpu_ops_scalar.dequantize(type, src, dst, n);
}

const struct cpu_ops cpu_ops_avx512 = {
	.level = CPU_AVX512,
	.name = "avx512",
	.dequantize = dequantize,
	.act_bytes = avx512_act_bytes,
	.act_quantize = avx512_act_quantize,
	.act_quantize_part = avx512_act_quantize_part,
	.matmul = matmul,
	.matmul_scratch_bytes = matmul_scratch_bytes,
	.row_tile = TILE_ROWS,
};
