/* SPDX-License-Identifier: MIT */
/*
 * Description: the pool of sequences: nothing overlaps, sizes add up, models that do not fit the
 * layouts are refused with a sentence, and memory comes and goes with use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "engine/seq.h"

enum { LAYERS = 5, KV_HEADS = 2, DIM = 64, K_HEADS = 2, V_HEADS = 4, STATE_DIM = 32, TAPS = 4 };
enum { CHANNELS = (2 * K_HEADS + V_HEADS) * STATE_DIM };

static struct layer layers[LAYERS];

static struct model make_model(void)
{
	struct model m = { .n_layers = LAYERS,
			   .layers = layers,
			   .attention = { .n_head = 4,
					  .n_head_kv = KV_HEADS,
					  .head_dim = DIM,
					  .value_dim = DIM },
			   .ssm_k_heads = K_HEADS,
			   .ssm_v_heads = V_HEADS,
			   .ssm_head_dim = STATE_DIM,
			   .ssm_conv_kernel = TAPS };

	for (unsigned i = 0; i < LAYERS; i++) {
		layers[i].n_blocks = 1;
		layers[i].blocks[0].kind = i % 2 ? BLOCK_ATTENTION : BLOCK_DELTANET;
		layers[i].attention = m.attention;
	}
	return m;
}

/* Writes a different byte into everything a sequence has, then looks whether all stayed. */
static uint8_t mark(unsigned seq, unsigned thing, unsigned part)
{
	return (uint8_t)(1 + (seq * 101 + thing * 7 + part) % 255);
}

static void check_bytes(const void *p, size_t n, uint8_t want, bool write)
{
	if (write)
		memset((void *)(uintptr_t)p, want, n);
	for (size_t i = 0; i < n; i++)
		if (((const uint8_t *)p)[i] != want)
			fail_msg("byte %zu is %u instead of %u", i, ((const uint8_t *)p)[i], want);
}

static void visit(struct seq *s, unsigned number, bool write)
{
	size_t bytes = kv_block_bytes(seq_kv_type(s), DIM);

	for (uint32_t l = 0; l < LAYERS; l++) {
		if (l % 2 == 0) {
			check_bytes(seq_floats(s, l), (TAPS - 1) * CHANNELS * sizeof(float),
				    mark(number, l, 0), write);
			check_bytes((seq_floats(s, l) + (TAPS - 1) * CHANNELS),
				    V_HEADS * STATE_DIM * STATE_DIM * sizeof(float),
				    mark(number, l, 1), write);
			continue;
		}
		for (uint32_t h = 0; h < KV_HEADS; h++)
			for (uint32_t b = 0; b < seq_ctx(s) / KV_BLOCK; b++) {
				void *k, *v;

				seq_kv(s, l, h, b, &k, &v);
				check_bytes(k, bytes, mark(number, l, 2 + b * 4 + h * 2), write);
				check_bytes(v, bytes, mark(number, l, 3 + b * 4 + h * 2), write);
			}
	}
}

static void test_layout(void **unused)
{
	struct model m = make_model();

	for (int type = KV_F16; type <= KV_Q8_0; type++) {
		struct seq_pool *pool;
		struct seq *seqs[3];
		size_t state_bytes;
		uint8_t *state;

		assert_int_equal(seq_pool_create(&m, 3, 200, 0, (enum kv_type)type, &pool, NULL),
				 0);
		for (unsigned i = 0; i < 3; i++) {
			seqs[i] = seq_get(pool);
			assert_non_null(seqs[i]);
			assert_int_equal(seq_ctx(seqs[i]), 256);
			assert_int_equal(seq_kv_type(seqs[i]), type);
			assert_int_equal(seq_reserve(seqs[i], 256), 0);
			visit(seqs[i], i, true);
		}
		assert_null(seq_get(pool));
		for (unsigned i = 0; i < 3; i++)
			visit(seqs[i], i, false);
		/* all recurrent state, and no more, in the range for snapshots */
		state = seq_state(seqs[1], &state_bytes);
		memset(state, mark(9, 0, 0), state_bytes);
		for (uint32_t l = 0; l < LAYERS; l += 2) {
			check_bytes(seq_floats(seqs[1], l), (TAPS - 1) * CHANNELS * sizeof(float),
				    mark(9, 0, 0), false);
			check_bytes((seq_floats(seqs[1], l) + (TAPS - 1) * CHANNELS),
				    V_HEADS * STATE_DIM * STATE_DIM * sizeof(float), mark(9, 0, 0),
				    false);
		}
		visit(seqs[0], 0, false);
		visit(seqs[2], 2, false);
		seq_put(pool, seqs[1]);
		assert_ptr_equal(seq_get(pool), seqs[1]);
		assert_int_equal(seq_len(seqs[1]), 0);
		seq_pool_destroy(pool);
	}
}

static void test_length(void **unused)
{
	struct model m = make_model();
	struct seq_pool *pool;
	struct seq *s;

	assert_int_equal(seq_pool_create(&m, 1, 64, 0, KV_F16, &pool, NULL), 0);
	s = seq_get(pool);
	seq_advance(s, 63);
	seq_advance(s, 1);
	assert_int_equal(seq_len(s), 64);
	seq_put(pool, s);
	s = seq_get(pool);
	assert_int_equal(seq_len(s), 0);
	seq_pool_destroy(pool);
	seq_pool_destroy(NULL);
}

static void test_sizes(void **unused)
{
	struct model m = make_model();
	uint64_t cache = 2ull * 2 * KV_HEADS * 1024 * DIM; /* values, 2 attention layers */
	uint64_t state = 3ull * ((TAPS - 1) * CHANNELS + V_HEADS * STATE_DIM * STATE_DIM) * 4;

	assert_true(seq_pool_bytes(&m, 1, 1024, KV_F16) == cache * 2 + align_up(state, 4096));
	assert_true(seq_pool_bytes(&m, 1, 1024, KV_Q8_0) ==
		    cache / 32 * 34 + align_up(state, 4096));
	assert_true(seq_pool_bytes(&m, 7, 1024, KV_F16) == 7 * seq_pool_bytes(&m, 1, 1024, KV_F16));
}

static void refuse(const struct model *m, uint32_t n_ctx, enum kv_type type, int code,
		   const char *text)
{
	struct seq_pool *pool = NULL;
	struct err err = { 0 };

	assert_int_equal(seq_pool_create(m, 2, n_ctx, 0, type, &pool, &err), code);
	if (!strstr(err.text, text))
		fail_msg("\"%s\" does not say \"%s\"", err.text, text);
	assert_null(pool);
	assert_true(seq_pool_bytes(m, 2, n_ctx, type) == 0);
}

static void test_refusals(void **unused)
{
	struct model m = make_model(), bad;

	bad = m;
	layers[1].attention.head_dim = 80;
	refuse(&bad, 64, KV_Q8_0, -ENOTSUP, "q8_0 needs attention heads of a multiple of 32");
	assert_true(seq_pool_bytes(&bad, 2, 64, KV_F16) > 0);
	layers[3].attention.head_dim = 2048;
	refuse(&bad, 64, KV_F16, -ENOTSUP, "up to 1024");
	layers[3].attention = m.attention;
	layers[3].attention.n_head = 5;
	refuse(&bad, 64, KV_F16, -ENOTSUP, "do not share 2 KV heads");
	m = make_model();
	bad = m;
	bad.ssm_head_dim = 48;
	refuse(&bad, 64, KV_F16, -ENOTSUP, "multiple of 32 dimensions");
	bad = m;
	bad.ssm_k_heads = 3;
	refuse(&bad, 64, KV_F16, -ENOTSUP, "do not share 3 key heads");
	bad = m;
	bad.ssm_conv_kernel = 0;
	refuse(&bad, 64, KV_F16, -ENOTSUP, "0 taps");
	bad.ssm_conv_kernel = 17;
	refuse(&bad, 64, KV_F16, -ENOTSUP, "17 taps");
	refuse(&m, 0, KV_F16, -EINVAL, "0 positions");
	refuse(&m, UINT32_MAX, KV_F16, -EINVAL, "not possible");
}

/* All of a page holds @byte. */
static void check_page(const struct seq_pool *pool, uint32_t page, uint8_t byte)
{
	check_bytes(seq_page_memory(pool, page), seq_page_bytes(pool), byte, false);
}

/* Whole pages are held by two, the last one is copied; each comes back when nobody holds it. */
static void test_share(void **unused)
{
	struct model m = make_model();
	struct seq_pool *pool;
	struct pages *pages;
	struct seq *a, *b;
	uint32_t table[3];

	assert_int_equal(seq_pool_create(&m, 2, 192, 5, KV_F16, &pool, NULL), 0);
	pages = seq_pool_pages(pool);
	a = seq_get(pool);
	b = seq_get(pool);
	assert_int_equal(seq_lacks(a, 65), 2);
	assert_int_equal(seq_reserve(a, 150), 0);
	assert_int_equal(pages->n_free, 2);
	for (unsigned i = 0; i < 3; i++) {
		table[i] = seq_page(a, i);
		memset(seq_page_memory(pool, table[i]), (int)i + 1, seq_page_bytes(pool));
	}
	seq_advance(a, 150);
	assert_int_equal(seq_lacks(a, 42), 0);
	assert_int_equal(seq_share(b, table, 140), 0);
	assert_int_equal(seq_len(b), 140);
	assert_int_equal(pages->n_free, 1);
	assert_int_equal(seq_page(b, 0), table[0]);
	assert_int_equal(seq_page(b, 1), table[1]);
	assert_int_not_equal(seq_page(b, 2), table[2]);
	check_page(pool, seq_page(b, 2), 3);
	/* each writes its own */
	memset(seq_page_memory(pool, seq_page(b, 2)), 9, seq_page_bytes(pool));
	check_page(pool, table[2], 3);
	seq_cut(a, 64);
	assert_int_equal(pages->n_free, 2); /* the second one is held by b */
	assert_int_equal(seq_reserve(a, 128), 0);
	assert_int_equal(pages->n_free, 0);
	seq_put(pool, a);
	a = seq_get(pool);
	assert_int_equal(seq_reserve(a, 192), -ENOSPC);
	assert_int_equal(pages->n_free, 2);
	assert_int_equal(seq_share(a, table, 64), 0);
	assert_int_equal(pages->n_free, 2);
	assert_int_equal(page_holders(pages, table[0]), 2);
	check_page(pool, seq_page(b, 1), 2);
	seq_put(pool, b);
	seq_put(pool, a);
	assert_int_equal(pages->n_free, 5);
	seq_pool_destroy(pool);
}

/* A state in pages, whatever numbers they have. */
static void test_state_in_pages(void **unused)
{
	struct model m = make_model();
	struct seq_pool *pool;
	struct seq *a, *b;
	uint32_t list[32], n;
	size_t bytes;
	uint8_t *from, *to;

	for (unsigned i = 0; i < LAYERS; i++) /* without a cache pages are small */
		layers[i].blocks[0].kind = BLOCK_DELTANET;
	assert_int_equal(seq_pool_create(&m, 2, 64, 32, KV_F16, &pool, NULL), 0);
	n = seq_state_pages(pool);
	assert_in_range(n, 2, 31);
	a = seq_get(pool);
	b = seq_get(pool);
	from = seq_state(a, &bytes);
	to = seq_state(b, &bytes);
	for (size_t i = 0; i < bytes; i++)
		from[i] = (uint8_t)(i * 7 + i / 251);
	memset(to, 0, bytes);
	for (uint32_t i = 0; i < n; i++)
		list[i] = 31 - i;
	seq_save_state(a, list);
	memset(from, 0, bytes);
	seq_load_state(b, list);
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(to[i], (uint8_t)(i * 7 + i / 251));
	seq_pool_destroy(pool);
}

static uint64_t resident_bytes(void)
{
	unsigned long size, pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &size, &pages), 2);
	fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A large pool costs nothing until it is written, and a long sequence gives its pages back. */
static void test_memory(void **unused)
{
	const uint64_t mib = 1 << 20;
	struct model m = make_model();
	struct seq_pool *pool;
	uint64_t before = resident_bytes(), grown;
	struct seq *s;
	uint32_t n = 256 * 1024;

	/* 2 KiB per position here: 512 MiB each */
	assert_int_equal(seq_pool_create(&m, 64, n, 0, KV_F16, &pool, NULL), 0);
	assert_true(resident_bytes() < before + 16 * mib);
	s = seq_get(pool);
	assert_int_equal(seq_reserve(s, n / 2), 0);
	for (uint32_t b = 0; b < n / 2 / KV_BLOCK; b++) {
		void *k, *v;

		for (uint32_t l = 1; l < LAYERS; l += 2)
			for (uint32_t h = 0; h < KV_HEADS; h++) {
				seq_kv(s, l, h, b, &k, &v);
				memset(k, 1, 2 * kv_block_bytes(KV_F16, DIM));
			}
	}
	seq_advance(s, n / 2);
	grown = resident_bytes();
	assert_true(grown >= before + 120 * mib);
	seq_put(pool, s);
	assert_true(resident_bytes() + 40 * mib <= grown);
	seq_pool_destroy(pool);
}

/* States take what memory_plan() counts for them, in huge pages too, but for the end of the last. */
static void test_state_memory(void **unused)
{
	enum { N = 32 };
	struct model m = make_model();
	uint64_t before, all = 0;
	struct seq_pool *pool;

	assert_int_equal(seq_pool_create(&m, N, 64, 0, KV_F16, &pool, NULL), 0);
	before = resident_bytes();
	for (unsigned i = 0; i < N; i++) {
		size_t bytes;
		void *state = seq_state(seq_get(pool), &bytes);

		memset(state, 1, bytes);
		all += bytes;
	}
	assert_true(resident_bytes() <= before + all + (4 << 20));
	seq_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),	       cmocka_unit_test(test_length),
		cmocka_unit_test(test_sizes),	       cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_memory),	       cmocka_unit_test(test_share),
		cmocka_unit_test(test_state_in_pages), cmocka_unit_test(test_state_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
