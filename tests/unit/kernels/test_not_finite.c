/* SPDX-License-Identifier: MIT */
/*
 * Description: what is not a finite number stays one, on every level and in every format: a NaN or
 * an infinity in a column makes all products of that column not finite, one in a row all products
 * of that row, and nothing else changes by a bit. The same for the functions that would squash it:
 * norms, sigmoids, the cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernels/cpu/fops.h"
#include "tests/unit/kernels/matmul_rig.h"

static const float kinds[] = { NAN, -NAN, INFINITY, -INFINITY };

static struct result want, got;

/* All columns in calls of @at_once; @bad_col, @bad_row: what must not be finite, -1: none. */
static void check_result(const struct product *p, size_t at_once, int bad_col, int bad_row,
			 const char *what, float kind)
{
	result_clear(&got);
	for (size_t c = 0; c < p->cols; c += at_once)
		multiply(p, p->w, p->row_bytes, 0, p->rows, c, u64_min(at_once, p->cols - c), &got);
	for (size_t c = 0; c < p->cols; c++)
		for (size_t r = 0; r < p->rows; r++) {
			const float y = got.y[c][r];
			const bool bad = (int)c == bad_col || (int)r == bad_row;

			if (bad ? isfinite(y) : f32_bits(y) != f32_bits(want.y[c][r]))
				fail_msg("%s %s n=%zu: %g in %s, %zu columns at once: column %zu "
					 "row %zu is %a, was %a",
					 p->ops->name, quant_name(p->f->type), p->n, kind, what,
					 at_once, c, r, y, want.y[c][r]);
		}
}

/* One call a column, a few columns, and many: the three ways through a level. */
static const size_t ways[] = { 1, 3, 20 };

static void check_columns(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	struct product p;

	product_init(&p, ops, f, n, 19, 20);
	/* rows of zeros must not hide it either */
	memset(p.w + 4 * p.row_bytes, 0, p.row_bytes);
	multiply_singly(&p, &want);
	for (size_t k = 0; k < 8; k++) {
		const size_t c = k * 5 % 20, at = k < 4 ? (k * n / 4 + k * 37) % n : n - 1;
		const float kind = kinds[k % 4], before = p.x[c][at];

		p.x[c][at] = kind;
		quantize_column(&p, c);
		for (size_t way = 0; way < ARRAY_LEN(ways); way++)
			check_result(&p, ways[way], (int)c, -1, "a column", kind);
		p.x[c][at] = before;
		quantize_column(&p, c);
	}
	product_fini(&p);
}

static void test_columns(void **state)
{
	(void)state;
	each_product(check_columns);
}

/* Places of a half or a float that scales weight @at of a row; -1: the format has none. */
static int place(const struct format *f, size_t at, bool second)
{
	const struct quant_format *q = quant_format(f->type);

	if (q->block == 1)
		return second ? -1 : (int)(at * q->bytes);
	if ((second ? f->dmin : f->d) < 0)
		return -1;
	return (int)(at / q->block * q->bytes) + (second ? f->dmin : f->d);
}

static void poison(const struct format *f, uint8_t *at, float kind)
{
	const uint32_t bits = f32_bits(kind);
	const uint16_t half = f16_from_f32(kind), brain = (uint16_t)(bits >> 16);

	if (f->type == QUANT_F32)
		memcpy(at, &bits, sizeof(bits));
	else
		memcpy(at, f->type == QUANT_BF16 ? &brain : &half, sizeof(half));
}

static void check_rows(const struct cpu_ops *ops, const struct format *f, size_t n)
{
	struct product p;

	product_init(&p, ops, f, n, 19, 20);
	/* columns of zeros must not hide it either */
	memset(p.x[7], 0, n * sizeof(float));
	quantize_column(&p, 7);
	multiply_singly(&p, &want);
	for (size_t k = 0; k < 16; k++) {
		const size_t r = k * 7 % 19;
		const int at = place(f, k % 8 < 4 ? (k * n / 4 + k * 37) % n : n - 1, k >= 8);
		uint8_t before[4], *w = p.w + r * p.row_bytes + at;

		if (at < 0)
			continue;
		memcpy(before, w, f->type == QUANT_F32 ? 4 : 2);
		poison(f, w, kinds[k % 4]);
		for (size_t way = 0; way < ARRAY_LEN(ways); way++)
			check_result(&p, ways[way], -1, (int)r, "a row", kinds[k % 4]);
		memcpy(w, before, f->type == QUANT_F32 ? 4 : 2);
	}
	product_fini(&p);
}

static void test_rows(void **state)
{
	(void)state;
	each_product(check_rows);
}

/* Calls @test for each level of this machine. */
static void each_level(void (*test)(const struct float_ops *f))
{
	for (int level = 0; level < CPU_LEVEL_NR; level++)
		if (float_ops_get((enum cpu_level)level))
			test(float_ops_get((enum cpu_level)level));
}

enum { N = 70 };

static void numbers(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = random_float();
}

/* Element @at alone is no number. */
static void only(const float *x, size_t n, size_t at)
{
	for (size_t i = 0; i < n; i++)
		assert_true(isfinite(x[i]) == (i != at));
}

static void none(const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_false(isfinite(x[i]));
}

static void check_elements(const struct float_ops *f)
{
	const float *rows[4];
	float x[N], y[N], out[N], w[4 * N];

	random_state = 5;
	for (unsigned i = 0; i < 4 * N; i++) {
		const size_t at = i % N;
		const float kind = kinds[i / N];

		numbers(x, N);
		numbers(y, N);
		numbers(w, 4 * N);
		x[at] = kind;
		f->sigmoid_mul(y, x, out, N);
		only(out, N, at);
		f->sigmoid_mul(x, y, out, N);
		only(out, N, at);
		f->silu_mul(x, y, out, N);
		only(out, N, at);
		f->silu_mul(y, x, out, N);
		only(out, N, at);
		f->scale(0.0f, x, out, N);
		only(out, N, at);
		for (unsigned m = 0; m < 4; m++)
			rows[m] = m == i % 4 ? x : y;
		f->conv_silu(rows, w, 4, 0, N, out);
		only(out, N, at);
		f->rmsnorm(x, y, N, 1e-6f, out);
		none(out, N);
		f->l2norm(x, N, 1e-6f, 1.0f, out);
		none(out, N);
		assert_false(isfinite(f->dot(x, y, N)));
	}
}

static void test_elements(void **state)
{
	(void)state;
	each_level(check_elements);
}

/* Squares that overflow: the row must not vanish. The scalar level sums in double and is exact. */
static void check_overflow(const struct float_ops *f)
{
	float x[N], w[N], out[N];

	for (unsigned i = 0; i < N; i++) {
		x[i] = 3e25f;
		w[i] = 1.0f;
	}
	f->rmsnorm(x, w, N, 1e-6f, out);
	for (unsigned i = 0; i < N; i++)
		assert_true(isnan(out[i]) || fabsf(out[i] - 1.0f) < 1e-6f);
	f->l2norm(x, N, 1e-6f, 1.0f, out);
	for (unsigned i = 0; i < N; i++)
		assert_true(isnan(out[i]) || fabsf(out[i] - 1.0f / sqrtf(N)) < 1e-6f);
}

static void test_overflow(void **state)
{
	(void)state;
	each_level(check_overflow);
}

enum { DIMS = 64, POSITIONS = 41, BAD_AT = 23, ROWS = 5, BAD_ROW = 2 };

struct attention {
	uint8_t k[KV_BLOCK * DIMS * 2], v[KV_BLOCK * DIMS * 2];
	float q[ROWS * DIMS], m[ROWS], l[ROWS], acc[ROWS * DIMS];
};

/*
 * Attends to the first @n_valid positions; position BAD_AT has @kind in dimension @bad_k of K and @bad_v of V, row
 * BAD_ROW in dimension @bad_q of its query; -1: nowhere.
 */
static void attend_with(const struct float_ops *f, enum kv_type type, unsigned n_valid, float kind,
			int bad_k, int bad_v, int bad_q, struct attention *a)
{
	struct attend_args args = { .type = type,
				    .head_dim = DIMS,
				    .k = a->k,
				    .v = a->v,
				    .n_valid = n_valid,
				    .rows = ROWS,
				    .q = a->q,
				    .m = a->m,
				    .l = a->l,
				    .acc = a->acc };
	float k[DIMS], v[DIMS];

	random_state = 77;
	memset(a, 0x7e, sizeof(*a));
	numbers(a->q, ROWS * DIMS);
	if (bad_q >= 0)
		a->q[BAD_ROW * DIMS + bad_q] = kind;
	for (unsigned j = 0; j < POSITIONS; j++) {
		numbers(k, DIMS);
		numbers(v, DIMS);
		if (j == BAD_AT && bad_k >= 0)
			k[bad_k] = kind;
		if (j == BAD_AT && bad_v >= 0)
			v[bad_v] = kind;
		f->kv_store(type, DIMS, j, k, v, a->k, a->v);
	}
	for (unsigned r = 0; r < ROWS; r++) {
		a->m[r] = -INFINITY;
		a->l[r] = 0;
	}
	memset(a->acc, 0, sizeof(a->acc));
	f->attend_query(a->q, ROWS, DIMS);
	f->attend(&args);
}

static void attend(const struct float_ops *f, enum kv_type type, unsigned n_valid, float kind,
		   int bad_k, int bad_v, struct attention *a)
{
	attend_with(f, type, n_valid, kind, bad_k, bad_v, -1, a);
}

static void check_cache(const struct float_ops *f)
{
	static struct attention good, bad;

	for (int type = KV_F16; type <= KV_Q8_0; type++)
		for (unsigned i = 0; i < 4 * DIMS; i++) {
			const int at = (int)(i % DIMS);

			/* before the position nobody sees it */
			attend(f, (enum kv_type)type, BAD_AT, 0, -1, -1, &good);
			attend(f, (enum kv_type)type, BAD_AT, kinds[i / DIMS], at, at, &bad);
			assert_memory_equal(bad.acc, good.acc, sizeof(good.acc));
			assert_memory_equal(bad.l, good.l, sizeof(good.l));
			attend(f, (enum kv_type)type, POSITIONS, kinds[i / DIMS], at, -1, &bad);
			none(bad.acc, ROWS * DIMS);
			none(bad.l, ROWS);
			attend(f, (enum kv_type)type, POSITIONS, kinds[i / DIMS], -1, at, &bad);
			for (unsigned r = 0; r < ROWS; r++)
				assert_false(isfinite(bad.acc[r * DIMS + (unsigned)at]));
		}
}

/* A query that is no number shows in its row, and in no other. */
static void check_query(const struct float_ops *f)
{
	static struct attention good, bad;
	const size_t before = BAD_ROW * DIMS, behind = (BAD_ROW + 1) * DIMS;

	for (int type = KV_F16; type <= KV_Q8_0; type++)
		for (unsigned i = 0; i < 4 * DIMS; i++) {
			attend(f, (enum kv_type)type, POSITIONS, 0, -1, -1, &good);
			attend_with(f, (enum kv_type)type, POSITIONS, kinds[i / DIMS], -1, -1,
				    (int)(i % DIMS), &bad);
			none(bad.acc + before, DIMS);
			none(bad.l + BAD_ROW, 1);
			assert_memory_equal(bad.acc, good.acc, before * sizeof(float));
			assert_memory_equal(bad.acc + behind, good.acc + behind,
					    (ROWS * DIMS - behind) * sizeof(float));
		}
}

static void test_query(void **state)
{
	(void)state;
	each_level(check_query);
}

static void test_cache(void **state)
{
	(void)state;
	each_level(check_cache);
}

/* Every level writes the same bytes also for what is no number, but for the sign of a NaN. */
static void test_cache_bytes(void **state)
{
	static struct attention a, b;

	(void)state;
	for (int level = CPU_SCALAR + 1; level < CPU_LEVEL_NR; level++)
		for (unsigned i = 0; float_ops_get((enum cpu_level)level) && i < 4; i++) {
			attend(float_ops_get(CPU_SCALAR), KV_Q8_0, 1, kinds[i], 3, 9, &a);
			attend(float_ops_get((enum cpu_level)level), KV_Q8_0, 1, kinds[i], 3, 9,
			       &b);
			assert_memory_equal(a.k, b.k, kv_block_bytes(KV_Q8_0, DIMS));
			assert_memory_equal(a.v, b.v, kv_block_bytes(KV_Q8_0, DIMS));
		}
}

/* A state, a value or a gate that is no number shows in the output of its lane. */
static void check_delta(const struct float_ops *f)
{
	enum { dim = 32 };

	for (unsigned i = 0; i < 16; i++) {
		float strip[dim * DELTA_LANES], x[2][2 * dim + DELTA_LANES], o[2][DELTA_LANES];
		float decay[2] = { 0.5f, 0.25f }, beta[2] = { 0.5f, 0.75f }, kq[2];
		struct delta_args a = { .strip = strip,
					.dim = dim,
					.n_tokens = 2,
					.q = x[0],
					.k = x[0] + dim,
					.v = x[0] + 2 * dim,
					.ld = 2 * dim + DELTA_LANES,
					.decay = decay,
					.beta = beta,
					.ld_gate = 1,
					.kq = kq,
					.ld_kq = 1,
					.o = o[0],
					.ld_o = DELTA_LANES };

		random_state = i;
		numbers(strip, dim * DELTA_LANES);
		numbers(x[0], 2 * (2 * dim + DELTA_LANES));
		for (unsigned t = 0; t < 2; t++)
			kq[t] = f->dot(x[t], x[t] + dim, dim);
		if (i % 4 == 0)
			strip[5 * DELTA_LANES + 9] = kinds[i / 4];
		else if (i % 4 == 1)
			x[0][2 * dim + 9] = kinds[i / 4];
		else if (i % 4 == 2)
			decay[0] = NAN;
		else
			beta[0] = NAN;
		f->delta(&a);
		for (unsigned lane = 0; lane < DELTA_LANES; lane++) {
			const bool bad = i % 4 >= 2 || lane == 9;

			assert_true(isfinite(o[0][lane]) != bad);
			assert_true(isfinite(o[1][lane]) != bad); /* and stays in the state */
		}
	}
}

static void test_delta(void **state)
{
	(void)state;
	each_level(check_delta);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns),	    cmocka_unit_test(test_rows),
		cmocka_unit_test(test_elements),    cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_query),	    cmocka_unit_test(test_cache),
		cmocka_unit_test(test_cache_bytes), cmocka_unit_test(test_delta),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
