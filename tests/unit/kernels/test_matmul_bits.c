/* SPDX-License-Identifier: MIT */
/*
 * Description: the law of products (quant.h): every level gives the bits of the scalar one, in every
 * format, for any number of columns and any split of the rows. Nor do they depend on alignment or
 * row distance; only what the call names is written, and nothing outside the ranges stated is read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/vbmi.h"
#include "tests/unit/kernels/matmul_rig.h"

static struct result want, got;

#define SAY "%s %s n=%zu: "

static void compare(const struct product *p, const char *what, size_t a, size_t b)
{
	for (size_t c = 0; c < MAX_COLS; c++)
		for (size_t r = 0; r < MAX_ROWS; r++)
			if (f32_bits(got.y[c][r]) != f32_bits(want.y[c][r]))
				fail_msg(SAY "%s %zu %zu: column %zu row %zu is %a, not %a",
					 p->ops->name, quant_name(p->f->type), p->n, what, a, b, c,
					 r, got.y[c][r], want.y[c][r]);
}

static void check_columns(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	static const size_t counts[] = { 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33, 64 };
	struct product p;

	product_init(&p, ops, f, n, 37, 64);
	multiply_singly(&p, &want);
	for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
		result_clear(&got);
		/* the last call has fewer columns where @count does not divide 64 */
		for (size_t c = 0; c < 64; c += counts[k])
			multiply(&p, p.w, p.row_bytes, 0, p.rows, c, u64_min(counts[k], 64 - c),
				 &got);
		compare(&p, "columns at once:", counts[k], 0);
	}
	/* no columns: nothing happens */
	multiply(&p, p.w, p.row_bytes, 0, p.rows, 0, 0, &got);
	compare(&p, "columns at once:", 0, 0);
	product_fini(&p);
}

static void test_columns(void **state)
{
	(void)state;
	each_product(check_columns);
}

/* Any split of the rows, in any order, gives the same; rows outside of the range stay untouched. */
static void check_rows(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	static const size_t splits[][6] = {
		{ 0, 71 },     { 0, 1, 16, 17, 37, 71 }, { 0, 32, 64, 71 },
		{ 0, 48, 71 }, { 0, 5, 38, 70, 71 },	 { 0, 31, 33, 71 }
	};
	static const size_t cols[] = { 1, 4, 5, 11 };
	struct product p;

	product_init(&p, ops, f, n, 71, 11);
	multiply_singly(&p, &want);
	for (size_t k = 0; k < ARRAY_LEN(cols); k++)
		for (size_t s = 0; s < ARRAY_LEN(splits); s++) {
			size_t parts = 1;

			while (splits[s][parts] < 71)
				parts++;
			result_clear(&got);
			for (size_t c = 0; c < 11; c += cols[k])
				for (size_t i = parts; i--;)
					multiply(&p, p.w, p.row_bytes, splits[s][i],
						 splits[s][i + 1], c, u64_min(cols[k], 11 - c),
						 &got);
			compare(&p, "columns, split of rows:", cols[k], s);
		}
	for (size_t k = 0; k < ARRAY_LEN(cols); k++) {
		multiply_singly(&p, &want);
		result_clear(&got);
		multiply(&p, p.w, p.row_bytes, 3, 42, 0, cols[k], &got);
		for (size_t c = 0; c < MAX_COLS; c++)
			for (size_t r = 0; r < MAX_ROWS; r++)
				if (r < 3 || r >= 42 || c >= cols[k])
					want.y[c][r] = f32_from_bits(UNTOUCHED);
		compare(&p, "rows 3 to 42 alone, columns:", cols[k], 0);
	}
	product_fini(&p);
}

static void test_rows(void **state)
{
	(void)state;
	each_product(check_rows);
}

/* Values of BF16 give the same bits as F32: weights_narrow() of the engine exchanges one for the other. */
static void check_narrow(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	static const size_t counts[] = { 1, 2, 3, 5, 8, 37 };
	static const struct format wide = { QUANT_F32, -1, -1, 0, 0, 0 };
	struct product p, q;

	if (f->type != QUANT_BF16)
		return;
	product_init(&p, ops, f, n, 37, 37);
	product_init(&q, ops, &wide, n, 37, 37);
	memset(q.w, 0, q.rows * q.row_bytes);
	for (size_t i = 0; i < q.rows * n; i++)
		memcpy(q.w + 4 * i + 2, p.w + 2 * i, 2);
	for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
		result_clear(&want);
		result_clear(&got);
		multiply(&q, q.w, q.row_bytes, 0, q.rows, 0, counts[k], &want);
		multiply(&p, p.w, p.row_bytes, 0, p.rows, 0, counts[k], &got);
		compare(&p, "as F32, columns:", counts[k], 0);
	}
	product_fini(&q);
	product_fini(&p);
}

static void test_narrow(void **state)
{
	(void)state;
	each_product(check_narrow);
}

/* Weights at every offset from a cache line, rows as far apart as they are long or farther. */
static void check_alignment(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	struct product p;
	uint8_t *room;

	product_init(&p, ops, f, n, 19, 6);
	multiply_singly(&p, &want);
	room = aligned(64 + p.rows * (p.row_bytes + 13));
	for (size_t offset = 1; offset < 64; offset++) {
		const size_t distance = p.row_bytes + (offset % 2 ? 0 : 13);

		memset(room, 0xff, 64 + p.rows * (p.row_bytes + 13));
		for (size_t r = 0; r < p.rows; r++)
			memcpy(room + offset + r * distance, p.w + r * p.row_bytes, p.row_bytes);
		result_clear(&got);
		multiply(&p, room + offset, distance, 0, p.rows, 0, 1, &got);
		multiply(&p, room + offset, distance, 0, p.rows, 1, 5, &got);
		compare(&p, "offset, distance:", offset, distance);
	}
	free(room);
	product_fini(&p);
}

static void test_alignment(void **state)
{
	(void)state;
	each_product(check_alignment);
}

/* @bytes of memory between two pages that cannot be touched. */
struct fenced {
	uint8_t *map, *first, *end;
	size_t bytes;
};

static void fence(struct fenced *f, size_t bytes)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);

	f->bytes = align_up(bytes, page) + 2 * page;
	f->map = mmap(NULL, f->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f->map, MAP_FAILED);
	f->first = f->map + page;
	f->end = f->map + f->bytes - page;
	assert_int_equal(mprotect(f->first, f->bytes - 2 * page, PROT_READ | PROT_WRITE), 0);
}

static void unfence(struct fenced *f)
{
	assert_int_equal(munmap(f->map, f->bytes), 0);
}

/* Activations and scratch end at a fence too: they are whole lines of 64 bytes. */
static void fence_in(struct product *p, struct fenced act[], struct fenced *scratch)
{
	const size_t bytes = p->ops->act_bytes(act_of(p->f), p->n);
	const size_t work = align_up(p->ops->matmul_scratch_bytes(p->n), 64);

	assert_int_equal(bytes % 64, 0);
	for (size_t c = 0; c < p->cols; c++) {
		free(p->act[c]);
		fence(&act[c], bytes);
		p->act[c] = act[c].end - bytes;
		quantize_column(p, c);
	}
	free(p->scratch);
	fence(scratch, work);
	p->scratch = scratch->end - work;
	memset(p->scratch, 0xff, work);
}

/*
 * Rows [3, 3 + @rows) alone exist, right before a fence or right after one. The last rows of 19 are
 * too few to be taken together and are multiplied as copies; those of 16 are read where they lie.
 */
static void check_rows_fenced(struct product *p, size_t rows)
{
	struct fenced weights;

	fence(&weights, rows * p->row_bytes);
	multiply_singly(p, &want);
	for (size_t c = 0; c < p->cols; c++)
		for (size_t r = 0; r < MAX_ROWS; r++)
			if (r < 3 || r >= 3 + rows)
				want.y[c][r] = f32_from_bits(UNTOUCHED);
	for (int after = 0; after < 2; after++) {
		uint8_t *at = after ? weights.first : weights.end - rows * p->row_bytes;

		memcpy(at, p->w + 3 * p->row_bytes, rows * p->row_bytes);
		at -= 3 * p->row_bytes;
		for (size_t cols = 1; cols <= p->cols; cols++) {
			result_clear(&got);
			for (size_t c = 0; c < p->cols; c += cols)
				multiply(p, at, p->row_bytes, 3, 3 + rows, c,
					 u64_min(cols, p->cols - c), &got);
			compare(p,
				after ? "after a fence, rows, columns:"
				      : "before a fence, rows, columns:",
				rows, cols);
		}
	}
	unfence(&weights);
}

static void check_fences(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	enum { COLS = 9 }; /* eight at most are few: rows in file order, or side by side */
	struct fenced act[COLS], scratch;
	struct product p;

	product_init(&p, ops, f, n, 22, COLS);
	fence_in(&p, act, &scratch);
	check_rows_fenced(&p, 19);
	check_rows_fenced(&p, 16);
	unfence(&scratch);
	for (size_t c = 0; c < COLS; c++) {
		unfence(&act[c]);
		p.act[c] = NULL;
	}
	p.scratch = NULL;
	product_fini(&p);
}

static void test_fences(void **state)
{
	(void)state;
	each_product(check_fences);
}

/* Scales and activations whose products are subnormal, zero or near the largest float, too. */
static void law_values(struct product *p, unsigned round)
{
	static const float weight[] = { 0.02f, 0x1p-24f, 60000.0f, 0.5f };
	static const float act[] = { 1.0f, 1e-36f, 1e30f, 0x1p-140f };

	random_state = 11 + round;
	for (size_t r = 0; r < p->rows; r++)
		random_row(p->f, p->w + r * p->row_bytes, p->n, weight[round % 4]);
	for (size_t c = 0; c < p->cols; c++) {
		for (size_t i = 0; i < p->n; i++)
			p->x[c][i] = random_float() * act[(round / 4 + c / 16) % 4];
		if (c == 5)
			memset(p->x[c], 0, p->n * sizeof(float));
		quantize_column(p, c);
	}
}

static void check_law(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	static const size_t counts[] = { 1, 4, 5, 16, 17, 39 };
	static const size_t splits[] = { 37, 1, 8, 11, 32 };
	struct product scalar, p;

	product_init(&scalar, cpu_ops_get(CPU_SCALAR), f, n, 37, 39);
	product_init(&p, ops, f, n, 37, 39);
	for (unsigned round = 0; round < 16; round++) {
		law_values(&scalar, round);
		law_values(&p, round);
		assert_memory_equal(scalar.w, p.w, p.rows * p.row_bytes);
		multiply_singly(&scalar, &want);
		for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
			const size_t rows = splits[(k + round) % ARRAY_LEN(splits)];

			result_clear(&got);
			for (size_t c = 0; c < 39; c += counts[k])
				for (size_t r = 0; r < 37; r += rows)
					multiply(&p, p.w, p.row_bytes, r, u64_min(r + rows, 37), c,
						 u64_min(counts[k], 39 - c), &got);
			compare(&p, "against scalar, columns at once, round:", counts[k], round);
		}
	}
	product_fini(&scalar);
	product_fini(&p);
}

/*
 * Row @r: below 32 all bytes alike, each with all bytes of scales alike; the others have any weights, and
 * scales at an end or any.
 */
static void row_at_ends(const struct format *f, uint8_t *row, size_t n, size_t r)
{
	static const uint8_t bytes[] = { 0x00, 0xff, 0x80, 0x7f, 0xf0, 0x0f, 0x77, 0x88 };
	static const uint8_t scales[] = { 0x00, 0xff, 0x7f, 0x80 };
	static const float d[] = { 1, -1, 60000, -60000, 0x1p-24f };
	const struct quant_format *q = quant_format(f->type);

	for (size_t i = 0; i < n; i += q->block, row += q->bytes) {
		for (size_t k = 0; k < q->bytes; k++)
			row[k] = r < 32 ? bytes[r / 4] : (uint8_t)random_u32();
		if (r < 32 || r % 2)
			memset(row + f->scales, scales[r % 4], f->n_scales);
		set_scales(f, row, d[(r + i / q->block) % 5], d[(r / 2 + i / q->block) % 5]);
		if (f->type == QUANT_MXFP4 && r >= 40) /* any exponent */
			row[0] = (uint8_t)random_u32();
	}
}

/* Every value -127 or 127, but for each eighth column. */
static void column_at_ends(float *x, size_t n, size_t c)
{
	static const size_t alike[] = { 1, 2, 16, 32 };
	const float size = c / 8 % 2 ? 1e20f : 1;

	for (size_t i = 0; i < n; i++) {
		bool negative = c % 8 == 1;

		if (c % 8 >= 2 && c % 8 < 6)
			negative = i / alike[c % 8 - 2] % 2;
		if (c % 8 == 6)
			negative = random_u32() & 1;
		x[i] = c % 8 == 7 ? size * random_float() : negative ? -size : size;
	}
}

static void set_to_ends(struct product *p)
{
	random_state = 5;
	for (size_t r = 0; r < p->rows; r++)
		row_at_ends(p->f, p->w + r * p->row_bytes, p->n, r);
	for (size_t c = 0; c < p->cols; c++) {
		column_at_ends(p->x[c], p->n, c);
		quantize_column(p, c);
	}
}

/*
 * Weights, scales and activations at the ends of their ranges, where sums in 16 bits are the largest, for
 * every number of columns: as the scalar level, whose sums have 32.
 */
static void check_ends(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	const uint32_t block = quant_format(f->type)->block;
	struct product scalar, p;

	if (block == 1 || n != (block == 32 ? 288 : 512) || ops->level == CPU_SCALAR)
		return;
	product_init(&scalar, cpu_ops_get(CPU_SCALAR), f, n, 45, 64);
	product_init(&p, ops, f, n, 45, 64);
	set_to_ends(&scalar);
	set_to_ends(&p);
	assert_memory_equal(scalar.w, p.w, p.rows * p.row_bytes);
	multiply_singly(&scalar, &want);
	for (size_t cols = 1; cols <= 64; cols++) {
		result_clear(&got);
		for (size_t c = 0; c < 64; c += cols)
			multiply(&p, p.w, p.row_bytes, 0, p.rows, c, u64_min(cols, 64 - c), &got);
		compare(&p, "ends of ranges, columns at once:", cols, 0);
	}
	product_fini(&scalar);
	product_fini(&p);
}

static bool has_vbmi_form(uint32_t type)
{
	return type == QUANT_IQ1_S || type == QUANT_IQ1_M || type == QUANT_IQ2_XXS ||
	       type == QUANT_IQ2_XS || type == QUANT_IQ2_S || type == QUANT_IQ3_XXS ||
	       type == QUANT_IQ3_S;
}

/* The formats that the AVX-512 level multiplies otherwise on a CPU with VBMI: as without it. */
static void each_without_vbmi(void (*test)(const struct cpu_ops *ops, const struct format *f,
					   size_t n))
{
#if defined(__x86_64__)
	const struct cpu_ops *ops = cpu_ops_get(CPU_AVX512);

	cpu_avx512_without_vbmi = true;
	for (size_t k = 0; ops && k < ARRAY_LEN(formats); k++)
		if (has_vbmi_form(formats[k].type))
			for (const size_t *n = lengths(&formats[k]); *n; n++)
				test(ops, &formats[k], *n);
	cpu_avx512_without_vbmi = false;
#else
	(void)test;
#endif
}

static void test_ends(void **state)
{
	(void)state;
	each_product(check_ends);
	each_without_vbmi(check_ends);
}

static void test_law(void **state)
{
	(void)state;
	each_product(check_law);
	each_without_vbmi(check_law);
	each_without_vbmi(check_fences);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_law),    cmocka_unit_test(test_columns),
		cmocka_unit_test(test_rows),   cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_fences), cmocka_unit_test(test_ends),
		cmocka_unit_test(test_narrow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
