/* SPDX-License-Identifier: MIT */
/*
 * Description: attention of AVX2 and of AVX-512 are the same bits: numbers of queries, scores' largest,
 * sums of weights and of values, for both types of the cache, whole blocks and windows of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/fops.h"

#define ROWS   23
#define WIDEST 576
#define BLOCKS 3

static uint64_t state = 20261130;

/* Uniform in [-1, 1), but for one in sixteen, which is up to 30 times as large. */
static float random_float(void)
{
	float x;

	state = state * 6364136223846793005u + 1442695040888963407u;
	x = (float)((double)(state >> 40) * 0x1p-23 - 1.0);
	return state >> 36 & 15 ? x : 30 * x;
}

static struct {
	size_t k_dim, v_dim;
	enum kv_type type;
	uint8_t k[BLOCKS][KV_BLOCK * WIDEST * 2], v[BLOCKS][KV_BLOCK * WIDEST * 2];
	unsigned first, end; /* seen of the first and of the last block */
} cache;

static void fill_cache(const struct float_ops *f, enum kv_type type, size_t k_dim, size_t v_dim)
{
	float k[WIDEST], v[WIDEST];

	cache.type = type;
	cache.k_dim = k_dim;
	cache.v_dim = v_dim;
	for (unsigned b = 0; b < BLOCKS; b++)
		for (unsigned j = 0; j < KV_BLOCK; j++) {
			/* positions of very different sizes, and some of zeros */
			const float size = j % 7 ? ldexpf(1.0f, (int)(j % 29) - 20) : 0.0f;

			for (size_t d = 0; d < WIDEST; d++) {
				k[d] = random_float() * (j % 3 ? 1.0f : size);
				v[d] = random_float() * size;
			}
			f->kv_store_k(type, k_dim, j, k, cache.k[b]);
			f->kv_store_v(type, v_dim, j, v, cache.v[b]);
		}
}

struct result {
	float q[ROWS * WIDEST], m[ROWS], l[ROWS], acc[ROWS * WIDEST];
};

static void run(const struct float_ops *f, const float *q, struct result *r)
{
	memset(r, 0, sizeof(*r));
	for (unsigned i = 0; i < ROWS; i++)
		r->m[i] = -INFINITY;
	memcpy(r->q, q, ROWS * cache.k_dim * sizeof(*q));
	f->attend_query(r->q, ROWS, cache.k_dim);
	for (unsigned b = 0; b < BLOCKS; b++) {
		const struct attend_args a = { .type = cache.type,
					       .head_dim = cache.k_dim,
					       .value_dim = cache.v_dim,
					       .k = cache.k[b],
					       .v = cache.v[b],
					       .first = b ? 0 : cache.first,
					       .n_valid = b + 1 < BLOCKS ? KV_BLOCK : cache.end,
					       .rows = ROWS,
					       .q = r->q,
					       .m = r->m,
					       .l = r->l,
					       .acc = r->acc };

		f->attend(&a);
	}
}

static void compare(const struct float_ops *one, const struct float_ops *other)
{
	static struct result a, b;
	static float q[ROWS * WIDEST];

	for (size_t i = 0; i < ROWS * cache.k_dim; i++)
		q[i] = i / cache.k_dim == 5 ? 0.0f : random_float() * 0.2f;
	run(one, q, &a);
	run(other, q, &b);
	assert_memory_equal(a.q, b.q, sizeof(a.q));
	assert_memory_equal(a.m, b.m, sizeof(a.m));
	assert_memory_equal(a.l, b.l, sizeof(a.l));
	assert_memory_equal(a.acc, b.acc, sizeof(a.acc));
	for (size_t i = 0; i < ROWS * cache.v_dim; i++)
		assert_true(isfinite(a.acc[i]));
}

static void test_levels(void **unused)
{
	static const size_t dims[][2] = { { 32, 32 },	{ 64, 64 },   { 96, 160 },
					  { 128, 128 }, { 256, 256 }, { 576, 512 } };
	static const unsigned ends[] = { 1, 15, 17, 50, 64 };
	const struct float_ops *one = float_ops_get(CPU_AVX2), *other = float_ops_get(CPU_AVX512);

	(void)unused;
	if (!one || !other)
		skip();
	for (unsigned d = 0; d < ARRAY_LEN(dims); d++)
		for (int type = KV_F16; type <= KV_Q8_0; type++) {
			fill_cache(one, (enum kv_type)type, dims[d][0], dims[d][1]);
			for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
				cache.first = KV_BLOCK - ends[i];
				cache.end = ends[i];
				compare(one, other);
			}
		}
	fill_cache(one, KV_F16, 48, 80); /* an odd number of tiles */
	compare(one, other);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_levels) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
