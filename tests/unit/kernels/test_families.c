/* SPDX-License-Identifier: MIT */
/*
 * Description: what only some families ask of the float tables, on every level against double: the
 * activations, the soft cap, windows that begin inside a block, values of another width than keys.
 * An element's bits depend on its own inputs alone; what is not finite becomes NaN.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/fops.h"

enum { MAX_N = 200 };

static uint64_t state;

/* Uniform in [-1, 1). */
static float random_float(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(state >> 40) * 0x1p-23 - 1.0);
}

static void fill(float *x, size_t n, float scale)
{
	for (size_t i = 0; i < n; i++)
		x[i] = random_float() * scale;
}

static void each_level(void (*test)(const struct float_ops *f))
{
	unsigned n = 0;

	for (int level = 0; level < CPU_LEVEL_NR; level++) {
		const struct float_ops *f = float_ops_get((enum cpu_level)level);

		if (!f)
			continue;
		state = 4321;
		test(f);
		n++;
	}
	assert_true(n >= 1);
}

static void assert_near(double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance))
		fail_msg("%.9g instead of %.9g, allowed %g", got, want, tolerance);
}

static double sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

/* As docs/models.md writes them. */
static double glu_in_double(enum glu kind, double g, double u)
{
	switch (kind) {
	case GLU_SILU:
		return g * sigmoid(g) * u;
	case GLU_CLAMPED:
		g = fmin(g, 7);
		u = fmax(fmin(u, 7), -7);
		return g * sigmoid(1.702 * g) * (u + 1);
	case GLU_GELU:
		return 0.5 * g * (1 + tanh(sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) * u;
	default:
		return u > 0 ? u * u : 0;
	}
}

/* sigmoid(a g) is off by the rounding of a g (|a g| ulps), exp, a sum and a quotient. */
static double glu_bound(enum glu kind, double g, double u, double want)
{
	double size = kind == GLU_GELU ? fabs(1.6 * g * (1 + 0.045 * g * g)) : fabs(1.702 * g);

	return 0x1p-24 * (fabs(want) * (12 + 3 * size) + fabs(g * sigmoid(g)) * fabs(u)) + 1e-36;
}

static void check_glu(const struct float_ops *f)
{
	float g[MAX_N], u[MAX_N], out[MAX_N + 1], one;

	for (int kind = 0; kind < GLU_NR; kind++)
		for (size_t n = 1; n < MAX_N; n += n < 70 ? 1 : 53) {
			fill(g, n, n % 3 ? 9.0f : 0.1f);
			fill(u, n, n % 2 ? 9.0f : 0.5f);
			out[n] = 77.0f; /* must stay */
			f->glu((enum glu)kind, kind == GLU_RELU2 ? NULL : g, u, out, n);
			assert_true(out[n] == 77.0f);
			for (size_t i = 0; i < n; i++) {
				double want = glu_in_double((enum glu)kind, g[i], u[i]);

				assert_near(out[i], want,
					    glu_bound((enum glu)kind, g[i], u[i], want));
				f->glu((enum glu)kind, g + i, u + i, &one, 1);
				assert_memory_equal(&one, out + i, sizeof(one));
			}
			/* in place, over either */
			one = out[n - 1];
			f->glu((enum glu)kind, g, u, n % 2 ? g : u, n);
			assert_memory_equal(n % 2 ? g + n - 1 : u + n - 1, &one, sizeof(one));
		}
}

static void test_glu(void **unused)
{
	(void)unused;
	each_level(check_glu);
}

/* SiLU has two names, which must not part. */
static void check_silu(const struct float_ops *f)
{
	float g[MAX_N], u[MAX_N], a[MAX_N], b[MAX_N];

	fill(g, MAX_N, 30.0f);
	fill(u, MAX_N, 5.0f);
	f->glu(GLU_SILU, g, u, a, MAX_N);
	f->silu_mul(g, u, b, MAX_N);
	assert_memory_equal(a, b, sizeof(a));
}

static void test_silu(void **unused)
{
	(void)unused;
	each_level(check_silu);
}

/* The law of activations: every level gives the scalar level's bits, extremes included. */
static void check_law(const struct float_ops *f)
{
	const struct float_ops *scalar = float_ops_get(CPU_SCALAR);
	static const float scales[] = { 1e-30f, 0.01f, 1.0f, 20.0f, 95.0f, 1e10f };
	float g[MAX_N], u[MAX_N], a[MAX_N], b[MAX_N];

	for (int kind = 0; kind < GLU_NR; kind++)
		for (unsigned round = 0; round < 300; round++) {
			fill(g, MAX_N, scales[round % ARRAY_LEN(scales)]);
			fill(u, MAX_N, scales[round / 6 % 4]);
			scalar->glu((enum glu)kind, g, u, a, MAX_N);
			f->glu((enum glu)kind, g, u, b, MAX_N);
			for (unsigned i = 0; i < MAX_N; i++)
				if (f32_bits(a[i]) != f32_bits(b[i]))
					fail_msg("activation %d of %a, %a: %a, scalar %a", kind,
						 g[i], u[i], b[i], a[i]);
		}
}

static void test_law(void **unused)
{
	(void)unused;
	each_level(check_law);
}

/* The ends of the clamps, and values whose cube or exponential overflows. */
static void check_extremes(const struct float_ops *f)
{
	static const float values[] = {
		7.0f, -7.0f, 7.5f, -7.5f, 0.0f, 60.0f, -60.0f, 1e20f, -1e20f
	};

	for (int kind = GLU_CLAMPED; kind < GLU_NR; kind++)
		for (size_t i = 0; i < ARRAY_LEN(values); i++)
			for (size_t j = 0; j < 7; j++) {
				float g = values[i], u = values[j], out;
				double want = glu_in_double((enum glu)kind, g, u);

				f->glu((enum glu)kind, &g, &u, &out, 1);
				assert_near(out, want,
					    glu_bound((enum glu)kind, g > 60 ? 60 : g, u, want));
			}
}

static void test_extremes(void **unused)
{
	(void)unused;
	each_level(check_extremes);
}

static void check_not_finite(const struct float_ops *f)
{
	static const float kinds[] = { NAN, -NAN, INFINITY, -INFINITY };
	float g[40], u[40], out[40];

	for (int kind = 0; kind < GLU_NR; kind++)
		for (unsigned i = 0; i < 80; i++) {
			fill(g, 40, 3.0f);
			fill(u, 40, 3.0f);
			*(i % 2 && kind != GLU_RELU2 ? &g[i / 2] : &u[i / 2]) = kinds[i % 4];
			f->glu((enum glu)kind, g, u, out, 40);
			for (unsigned j = 0; j < 40; j++)
				assert_true(isfinite(out[j]) == (j != i / 2));
			g[i / 2] = kinds[i % 4];
			f->softcap(30.0f, g, out, 40);
			for (unsigned j = 0; j < 40; j++)
				assert_true(isfinite(out[j]) == (j != i / 2));
		}
}

static void test_not_finite(void **unused)
{
	(void)unused;
	each_level(check_not_finite);
}

static void check_softcap(const struct float_ops *f)
{
	float x[MAX_N], out[MAX_N], one;

	for (int power = -20; power < 30; power++) {
		fill(x, MAX_N, (float)ldexp(1, power));
		f->softcap(30.0f, x, out, MAX_N);
		for (size_t i = 0; i < MAX_N; i++) {
			double want = 30 * tanh(x[i] / 30.0);

			assert_near(out[i], want, 8 * 0x1p-24 * fabs(want));
			f->softcap(30.0f, x + i, &one, 1);
			assert_memory_equal(&one, out + i, sizeof(one));
		}
	}
	one = 0.0f;
	f->softcap(50.0f, &one, &one, 1);
	assert_true(one == 0.0f);
}

static void test_softcap(void **unused)
{
	(void)unused;
	each_level(check_softcap);
}

/* more keys than are widened together, more rows than go together */
enum { KEY_DIM = 288, VALUE_DIM = 64, WIDEST = 320, ROWS = 173 };

/* What the cache holds of KV_BLOCK positions, as floats; K and V of different widths. */
struct cache {
	size_t k_dim, v_dim;
	uint8_t *k, *v;
	float keys[KV_BLOCK][WIDEST], values[KV_BLOCK][WIDEST];
};

/* Small integers over a power of two, one of them the largest: both types hold them exactly. */
static void exact_values(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = i % KV_Q8 ? roundf(random_float() * 126) / 64 : 127.0f / 64;
}

static void store(const struct float_ops *f, enum kv_type type, struct cache *c, size_t k_dim,
		  size_t v_dim)
{
	c->k_dim = k_dim;
	c->v_dim = v_dim;
	c->k = malloc(kv_block_bytes(type, k_dim));
	c->v = malloc(kv_block_bytes(type, v_dim));
	for (unsigned j = 0; j < KV_BLOCK; j++) {
		exact_values(c->keys[j], k_dim);
		exact_values(c->values[j], v_dim);
		f->kv_store_k(type, k_dim, j, c->keys[j], c->k);
		f->kv_store_v(type, v_dim, j, c->values[j], c->v);
	}
}

struct rows {
	float told[ROWS * WIDEST]; /* queries before attend_query() */
	float q[ROWS * WIDEST], m[ROWS], l[ROWS], acc[ROWS * WIDEST];
};

/* A block of which positions [first, end) are seen. */
struct window {
	unsigned first, end;
};

static void run_block(const struct float_ops *f, enum kv_type type, const struct cache *c,
		      const struct cache *next, struct window w, size_t row, size_t n,
		      struct rows *r)
{
	const struct attend_args a = { .type = type,
				       .head_dim = c->k_dim,
				       .value_dim = c->v_dim == c->k_dim ? 0 : c->v_dim,
				       .k = c->k,
				       .v = c->v,
				       .next_k = next ? next->k : NULL,
				       .first = w.first,
				       .n_valid = w.end,
				       .rows = n,
				       .q = r->q + row * c->k_dim,
				       .m = r->m + row,
				       .l = r->l + row,
				       .acc = r->acc + row * c->v_dim };

	f->attend(&a);
}

/* Two blocks, one after the other. */
static void run(const struct float_ops *f, enum kv_type type, const struct cache c[2],
		const struct window w[2], size_t row, size_t n, struct rows *r)
{
	for (size_t i = row; i < row + n; i++) {
		r->m[i] = -INFINITY;
		r->l[i] = 0;
	}
	memset(r->acc + row * c->v_dim, 0, n * c->v_dim * sizeof(*r->acc));
	run_block(f, type, &c[0], &c[1], w[0], row, n, r);
	run_block(f, type, &c[1], NULL, w[1], row, n, r);
}

static bool seen(const struct window w[2], unsigned j)
{
	return j % KV_BLOCK >= w[j / KV_BLOCK].first && j % KV_BLOCK < w[j / KV_BLOCK].end;
}

static void compare_row(const struct float_ops *f, const struct cache c[2],
			const struct window w[2], const struct rows *r, size_t row)
{
	/* numbers of 14 bits are as near to keys and values as the cache's halves */
	const double near = f->level != CPU_SCALAR ? 4e-4 : 2e-5;
	double p[2 * KV_BLOCK], max = -INFINITY, sum = 0;

	for (unsigned j = 0; j < ARRAY_LEN(p); j++) {
		p[j] = seen(w, j) ? 0 : -INFINITY;
		for (size_t d = 0; d < c->k_dim; d++)
			p[j] += (double)r->told[row * c->k_dim + d] *
				c[j / KV_BLOCK].keys[j % KV_BLOCK][d];
		max = fmax(max, p[j]);
	}
	for (unsigned j = 0; j < ARRAY_LEN(p); j++)
		sum += p[j] = exp(p[j] - max);
	assert_near(r->m[row], max, near);
	for (size_t d = 0; d < c->v_dim; d++) {
		double o = 0;

		for (unsigned j = 0; j < ARRAY_LEN(p); j++)
			o += p[j] * c[j / KV_BLOCK].values[j % KV_BLOCK][d];
		assert_near(r->acc[row * c->v_dim + d] / r->l[row], o / sum, near);
	}
}

/* Positions outside of the window hold NaN: they must not be seen. */
static void blind(const struct float_ops *f, enum kv_type type, struct cache *c, struct window w)
{
	float none[WIDEST];

	for (size_t i = 0; i < WIDEST; i++)
		none[i] = NAN;
	for (unsigned j = 0; j < KV_BLOCK; j++) {
		const bool shown = j >= w.first && j < w.end;

		f->kv_store_k(type, c->k_dim, j, shown ? c->keys[j] : none, c->k);
		f->kv_store_v(type, c->v_dim, j, shown ? c->values[j] : none, c->v);
	}
}

static void attend_case(const struct float_ops *f, enum kv_type type, size_t k_dim, size_t v_dim)
{
	static const struct window windows[] = { { 0, 64 },  { 1, 64 },	 { 15, 16 }, { 16, 17 },
						 { 17, 64 }, { 40, 63 }, { 63, 64 }, { 33, 50 } };
	static struct cache c[2];
	static struct rows together, alone;

	for (unsigned i = 0; i < 2; i++)
		store(f, type, &c[i], k_dim, v_dim);
	for (unsigned i = 0; i < ARRAY_LEN(windows); i++) {
		const struct window w[2] = { windows[i], windows[(i + 3) % ARRAY_LEN(windows)] };

		/* behind those that go together others do as well, or are too few for it */
		const size_t n = i % 2 ? ROWS : ROWS - 32;

		fill(together.told, ROWS * k_dim, 0.2f);
		memcpy(together.q, together.told, sizeof(together.q));
		f->attend_query(together.q, ROWS, k_dim);
		memcpy(alone.q, together.q, sizeof(alone.q));
		blind(f, type, &c[0], w[0]);
		blind(f, type, &c[1], w[1]);
		run(f, type, c, w, 0, n, &together);
		for (size_t row = 0; row < n; row++) {
			if (row % 8 == 0)
				compare_row(f, c, w, &together, row);
			run(f, type, c, w, row, 1, &alone);
		}
		assert_memory_equal(alone.m, together.m, n * sizeof(float));
		assert_memory_equal(alone.l, together.l, n * sizeof(float));
		assert_memory_equal(alone.acc, together.acc, n * v_dim * sizeof(float));
	}
	for (unsigned i = 0; i < 2; i++) {
		free(c[i].k);
		free(c[i].v);
	}
}

static void check_windows(const struct float_ops *f)
{
	for (int type = KV_F16; type <= KV_Q8_0; type++) {
		attend_case(f, (enum kv_type)type, 64, 64);
		attend_case(f, (enum kv_type)type, KEY_DIM, VALUE_DIM);
		attend_case(f, (enum kv_type)type, VALUE_DIM, WIDEST);
	}
	attend_case(f, KV_F16, 48, 80); /* an odd number of tiles */
}

static void test_windows(void **unused)
{
	(void)unused;
	each_level(check_windows);
}

/* A norm without weights is one whose weights are 1. */
static void check_norm(const struct float_ops *f)
{
	float x[MAX_N], ones[MAX_N], a[MAX_N], b[MAX_N];

	for (size_t n = 1; n < MAX_N; n += 7) {
		fill(x, n, 3.0f);
		for (size_t i = 0; i < n; i++)
			ones[i] = 1.0f;
		f->rmsnorm(x, ones, n, 1e-6f, a);
		f->rmsnorm(x, NULL, n, 1e-6f, b);
		assert_memory_equal(a, b, n * sizeof(*a));
	}
}

static void test_norm(void **unused)
{
	(void)unused;
	each_level(check_norm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_glu),	   cmocka_unit_test(test_silu),
		cmocka_unit_test(test_law),	   cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_not_finite), cmocka_unit_test(test_softcap),
		cmocka_unit_test(test_windows),	   cmocka_unit_test(test_norm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
