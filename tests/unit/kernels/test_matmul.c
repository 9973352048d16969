/* SPDX-License-Identifier: MIT */
/*
 * Description: every level's products against sums in double over the dequantised weights and
 * activations, extreme blocks included; every level's activation vectors hold the same integers and
 * scales, whatever lay there before and in however many pieces they were written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/kernels/matmul_rig.h"

static struct result got;

/* An exact product and how far a float result may lie from it. */
struct exact {
	double sum;
	double size;	/* of the terms, each with its offset, absolute */
	double integer; /* the same without the float scales */
	size_t steps;
};

static void exact32(const struct format *f, const uint8_t *w, const float *x, struct exact *e)
{
	struct block32 b;
	struct act32 a;
	double dot = 0, size = 0;

	scalar_unpack32(f->type, w, &b);
	scalar_quantize32(x, &a);
	for (int i = 0; i < 32; i++) {
		dot += b.q[i] * a.q[i];
		size += (abs(b.q[i]) + f->offset) * abs(a.q[i]);
	}
	e->sum += (double)b.scale * a.d * dot + (double)b.min * a.d * a.sum;
	e->size += fabs((double)b.scale * a.d) * size + fabs((double)b.min * a.d * a.sum);
	e->integer += size + abs(a.sum) * (1 + fabs((double)b.min));
	e->steps += 2;
}

static void exact256(const struct format *f, const uint8_t *w, const float *x, struct exact *e)
{
	struct block256 b;
	struct act256 a;
	double dot = 0, size = 0, mins = 0, min_size = 0;

	scalar_unpack256(f->type, w, &b);
	scalar_quantize256(x, &a);
	for (int i = 0; i < 256; i++) {
		dot += b.scale[i / 16] * b.q[i] * a.q[i];
		size += abs(b.scale[i / 16]) * (abs(b.q[i]) + f->offset) * abs(a.q[i]);
		mins += b.min[i / 16] * a.q[i];
		min_size += abs(b.min[i / 16]) * abs(a.q[i]);
	}
	e->sum += (double)b.d * a.d * dot - (double)b.dmin * a.d * mins;
	e->size += fabs((double)b.d * a.d) * size + fabs((double)b.dmin * a.d) * min_size;
	e->integer += size + min_size;
	e->steps += 2;
}

static void exact_floats(const struct format *f, const uint8_t *w, const float *x, size_t n,
			 struct exact *e)
{
	for (size_t i = 0; i < n; i++) {
		const struct quant_format *q = quant_format(f->type);
		float weight;

		scalar_dequantize(f->type, w + i * q->bytes, &weight, 1);
		e->sum += (double)weight * x[i];
		e->size += fabs((double)weight * x[i]);
	}
	e->steps += n / 8 + 1;
}

static struct exact exact_product(const struct format *f, const uint8_t *w, const float *x,
				  size_t n)
{
	const struct quant_format *q = quant_format(f->type);
	struct exact e = { 0 };

	if (q->block == 1)
		exact_floats(f, w, x, n, &e);
	for (size_t i = 0; i < n && q->block > 1; i += q->block, w += q->bytes) {
		if (q->block == 32)
			exact32(f, w, x + i, &e);
		else
			exact256(f, w, x + i, &e);
	}
	return e;
}

/*
 * What a level may do: whole numbers exact, each converted once (one rounding), times a rounded
 * product of scales (one), added in at most so many steps (one each); eight or sixteen partial
 * sums are then added in at most four. Products of scales may be subnormal: half of the smallest
 * float is then lost in each, times the whole number.
 */
static double allowed(const struct exact *e)
{
	return (double)(e->steps + 8) * 0x1p-24 * e->size + 0x1p-149 * e->integer;
}

static void check_values(const struct product *p, const char *what, int a, int b)
{
	double worst = 0;

	for (size_t c = 0; c < p->cols; c++)
		for (size_t r = 0; r < p->rows; r++) {
			const struct exact e =
				exact_product(p->f, p->w + r * p->row_bytes, p->x[c], p->n);
			const double error = fabs(got.y[c][r] - e.sum);

			if (!(error <= allowed(&e)))
				fail_msg("%s %s n=%zu %s %d %d: column %zu row %zu is %.9g, not "
					 "%.9g: off by %g, allowed %g",
					 p->ops->name, quant_name(p->f->type), p->n, what, a, b, c,
					 r, got.y[c][r], e.sum, error, allowed(&e));
			if (error > worst * allowed(&e) && error > 0)
				worst = error / allowed(&e);
		}
	/* a bound that nothing comes near says nothing */
	if (!strcmp(what, "random") && p->n > 256 && !(worst > 1e-3))
		fail_msg("%s %s: no error at all", p->ops->name, quant_name(p->f->type));
}

static void check_random(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	struct product p;

	product_init(&p, ops, f, n, 37, 9);
	result_clear(&got);
	multiply(&p, p.w, p.row_bytes, 0, p.rows, 0, 9, &got);
	check_values(&p, "random", 0, 0);
	multiply_singly(&p, &got);
	check_values(&p, "one column", 0, 0);
	product_fini(&p);
}

static void test_random(void **state)
{
	(void)state;
	each_product(check_random);
}

/* Rows of equal bytes: what each byte of the quants and each of the groups' scales is. */
static void extreme_rows(struct product *p, uint8_t quants, uint8_t scales)
{
	static const float d[][2] = { { 1, 1 },	    { -1, 1 },	      { 1, -1 },
				      { 0, 0 },	    { 0, 1 },	      { 0x1p-24f, 0x1p-24f },
				      { 60000, 0 }, { 60000, -60000 } };
	const struct quant_format *q = quant_format(p->f->type);

	assert_int_equal(p->rows, ARRAY_LEN(d));
	memset(p->w, quants, p->rows * p->row_bytes);
	for (size_t r = 0; r < p->rows; r++)
		for (size_t i = 0; i < p->n / q->block; i++) {
			uint8_t *block = p->w + r * p->row_bytes + i * q->bytes;

			memset(block + p->f->scales, scales, p->f->n_scales);
			set_scales(p->f, block, d[r][0], d[r][1]);
		}
}

/* Columns that quantise to the ends of the range everywhere. */
static void extreme_columns(struct product *p)
{
	for (size_t c = 0; c < p->cols; c++) {
		for (size_t i = 0; i < p->n; i++) {
			static const float sign[][4] = { { 1, 1, 1, 1 },
							 { -1, -1, -1, -1 },
							 { 1, -1, 1, -1 },
							 { 1, 1, -1, -1 } };
			float x = c < 8 ? sign[c % 4][i / (c < 4 ? 1 : 16) % 4] : random_float();

			p->x[c][i] = c == 9 ? 0 : c == 10 ? x * 1e-38f : x * 3e3f;
		}
		quantize_column(p, c);
	}
}

static void check_extremes(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	static const uint8_t bytes[] = { 0x00, 0xff, 0x80, 0x7f, 0xf0, 0x0f };
	struct product p;

	if (quant_format(f->type)->block == 1)
		return;
	product_init(&p, ops, f, n, 8, 11);
	extreme_columns(&p);
	for (size_t q = 0; q < ARRAY_LEN(bytes); q++)
		for (size_t s = 0; s < (f->n_scales ? ARRAY_LEN(bytes) : 1); s++) {
			extreme_rows(&p, bytes[q], bytes[s]);
			result_clear(&got);
			multiply(&p, p.w, p.row_bytes, 0, p.rows, 0, p.cols, &got);
			check_values(&p, "all bytes", bytes[q], bytes[s]);
			multiply_singly(&p, &got);
			check_values(&p, "all bytes, one column", bytes[q], bytes[s]);
		}
	product_fini(&p);
}

static void test_extremes(void **state)
{
	(void)state;
	each_product(check_extremes);
}

/* Values on which rounding, reciprocals and the choice of the largest could differ. */
static void awkward(float *x, size_t n, unsigned kind)
{
	static const float size[] = { 1, 1e-30f, 1e30f, 1e-38f, 3e-41f, 1e-44f, 2e38f, 0x1p-149f };

	for (size_t i = 0; i < n; i++)
		x[i] = random_float() * size[kind % ARRAY_LEN(size)];
	switch (kind / ARRAY_LEN(size)) {
	case 1: /* integers and halves of them, in units of the scale or of minus the scale */
		for (size_t i = 0; i < n; i++)
			x[i] = (float)((int)(random_u32() % 509) - 254) *
			       (size[kind % ARRAY_LEN(size)] / 256);
		for (size_t i = 0; i < n; i += 32)
			x[i + i / 32 % 32] = 254 * (size[kind % ARRAY_LEN(size)] / 256);
		return;
	case 2: /* the largest magnitude several times, with both signs; blocks of zeros, of both signs */
		for (size_t i = 0; i < n; i++)
			x[i] = i / 32 % 3 == 1 ? (i & 1 ? -0.0f : 0.0f) : x[i] / 2;
		for (size_t i = 5; i < n; i += 11)
			if (i / 32 % 3 != 1)
				x[i] = (random_u32() & 1 ? 0.75f : -0.75f) *
				       size[kind % ARRAY_LEN(size)];
		return;
	case 3: /* nothing but zeros except for one value, in one block of 256 nothing at all */
		for (size_t i = 0; i < n; i++)
			x[i] = i % 32 == 31 && i / 256 != 1 ? x[i] : 0;
		return;
	default:
		return;
	}
}

/*
 * @rows rows of which row r has weight 1 at first + r and 0 elsewhere: the products are the values
 * that the activation vector holds. In the 256-formats this is Q4_K, in the others Q8_0.
 */
static void unit_rows(struct product *p, size_t first)
{
	memset(p->w, 0, p->rows * p->row_bytes);
	for (size_t r = 0; r < p->rows; r++) {
		uint8_t *row = p->w + r * p->row_bytes;
		const size_t at = first + r, b = at / 256 * 144, i = at % 256;

		if (p->f->type == QUANT_Q8_0) {
			set_scales(p->f, row + at / 32 * 34, 1, 0);
			row[at / 32 * 34 + 2 + at % 32] = 1;
			continue;
		}
		set_scales(p->f, row + b, 1, 0);
		memset(row + b + 4, 1, 4); /* the first four scales; the others' low bits below */
		memset(row + b + 12, 1, 4);
		row[b + 16 + i / 64 * 32 + i % 32] = i % 64 < 32 ? 1 : 16;
	}
}

static float held(const struct format *f, const float *x, size_t at)
{
	struct act32 a;
	struct act256 b;

	if (f->type == QUANT_Q8_0) {
		scalar_quantize32(x + at / 32 * 32, &a);
		return a.d * a.q[at % 32];
	}
	scalar_quantize256(x + at / 256 * 256, &b);
	return b.d * b.q[at % 256];
}

static void check_integers(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	struct product p;

	if (f->type != QUANT_Q8_0 && f->type != QUANT_Q4_K)
		return;
	product_init(&p, ops, f, n, 64, 32);
	for (size_t c = 0; c < p.cols; c++) {
		awkward(p.x[c], n, (unsigned)c);
		quantize_column(&p, c);
	}
	for (size_t first = 0; first < n; first += 64) {
		const size_t rows = u64_min(64, n - first);

		p.rows = rows;
		unit_rows(&p, first);
		result_clear(&got);
		multiply(&p, p.w, p.row_bytes, 0, rows, 0, p.cols, &got);
		for (size_t c = 0; c < p.cols; c++)
			for (size_t r = 0; r < rows; r++)
				if (got.y[c][r] != held(f, p.x[c], first + r))
					fail_msg("%s %s n=%zu: value %zu of column %zu (%a) is %a, "
						 "not %a",
						 ops->name, quant_name(f->type), n, first + r, c,
						 p.x[c][first + r], got.y[c][r],
						 held(f, p.x[c], first + r));
	}
	product_fini(&p);
}

static void test_integers(void **state)
{
	(void)state;
	each_product(check_integers);
}

/* In pieces, the last one first, each byte as in one go. */
static void check_parts(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	const enum act_kind kind = act_of(f);
	const size_t bytes = ops->act_bytes(kind, n);
	uint8_t *whole = aligned(bytes), *parts = aligned(bytes);
	float *x = aligned(n * sizeof(*x));

	random_state = n;
	for (unsigned c = 0; c < 32; c++) {
		const size_t step = 256 * (1 + c % 3);

		awkward(x, n, kind == ACT_F32 ? 0 : c);
		/* a scale becomes NaN then, and the block's bytes are defined all the same */
		if (c % 4 == 3)
			x[random_u32() % n] = c % 8 == 3 ? NAN : -INFINITY;
		memset(whole, 0xa5, bytes);
		memset(parts, 0xa5, bytes);
		ops->act_quantize(kind, x, n, whole);
		for (size_t i = div_ceil(n, step); i--;)
			ops->act_quantize_part(kind, x, n, parts, i * step,
					       u64_min(step, n - i * step));
		if (memcmp(whole, parts, bytes))
			fail_msg("%s %s n=%zu: pieces of %zu differ from the whole", ops->name,
				 quant_name(f->type), n, step);
	}
	free(whole);
	free(parts);
	free(x);
}

static void test_parts(void **state)
{
	(void)state;
	each_product(check_parts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
