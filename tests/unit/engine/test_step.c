/* SPDX-License-Identifier: MIT */
/*
 * Description: a step of the decoder alone, on the bundled model and a disk of memory: layers in their
 * order, each one's reads over before the next; the logits that are wanted and no others; the same bits
 * for any cut, company, budget and number of threads; a step that is given up ends before the next
 * layer or in the middle of its reads, advances nobody, and what follows reads no more than it needs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "tests/unit/engine/decoder_rig.h"
#include "tests/unit/engine/engine_rig.h"

enum { TOKENS = 24 };

static struct engine_rig all; /* model and disk; no engine */
static struct decoder_rig d;
static uint32_t layers_done;	    /* as on_layer() told */
static _Atomic uint32_t give_up_at; /* so many layers; UINT32_MAX: never */
static bool in_order;		    /* of what on_layer() saw */
static bool fresh;		    /* no expert was in memory when the step began */

static bool given_up(void *arg)
{
	return layers_done >= atomic_load(&give_up_at);
}

/* In the middle of a parallel region: notes what is wrong for decoder_run's caller. */
static void on_layer(void *arg, uint32_t n_layers)
{
	uint32_t n_expert = all.model->n_expert;

	in_order &= n_layers == ++layers_done;
	if (atomic_load(&give_up_at) != UINT32_MAX)
		return; /* a layer that was left in the middle has reads in flight */
	residency_settle(d.supply.residency); /* books what has landed */
	in_order &= residency_reading(d.supply.residency) == 0;
	for (uint32_t id = n_layers * n_expert; fresh && id < all.model->n_layers * n_expert; id++)
		in_order &= residency_state(d.supply.residency, TIER_HOST, id) == COPY_ABSENT;
}

static void open_decoder(double share, unsigned threads, uint32_t depth)
{
	d = (struct decoder_rig){ .model = all.model,
				  .disk = &all.disk,
				  .ops = cpu_ops_best(),
				  .threads = threads,
				  .share = share,
				  .depth = depth,
				  .given_up = given_up,
				  .on_layer = on_layer };
	decoder_open(&d);
}

static int setup(void **state)
{
	layers_done = 0;
	fresh = false;
	in_order = true;
	atomic_store(&give_up_at, UINT32_MAX);
	rig_open(&all);
	return 0;
}

static int teardown(void **state)
{
	decoder_close(&d);
	rig_close(&all);
	return 0;
}

static void some_tokens(uint32_t *tokens, uint32_t n, unsigned seed)
{
	for (uint32_t i = 0; i < n; i++) {
		seed = seed * 1103515245u + 12345u;
		tokens[i] = (seed >> 8) % (all.model->n_vocab - 100);
	}
}

static float *room(uint32_t n)
{
	float *logits = calloc((size_t)n * all.model->n_vocab, sizeof(*logits));

	assert_non_null(logits);
	return logits;
}

/* The tokens of @seed in steps of @cut. */
static float *sequence(unsigned seed, uint32_t cut)
{
	struct seq *s = seq_get(d.pool);
	float *logits = room(TOKENS);
	uint32_t tokens[TOKENS];

	some_tokens(tokens, TOKENS, seed);
	for (uint32_t at = 0; at < TOKENS; at += cut) {
		struct decoder_part p = { s, tokens + at, (uint32_t)u64_min(cut, TOKENS - at),
					  logits + (size_t)at * all.model->n_vocab };

		layers_done = 0;
		assert_int_equal(decoder_run(&d, &p, 1, NULL), 0);
		assert_int_equal(layers_done, all.model->n_layers);
		assert_true(in_order);
		assert_int_equal(seq_len(s), at + p.n);
	}
	seq_put(d.pool, s);
	return logits;
}

static size_t bytes_of(uint32_t n)
{
	return (size_t)n * all.model->n_vocab * sizeof(float);
}

static void test_layers_in_order(void **state)
{
	open_decoder(1, 2, 4);
	fresh = true;
	free(sequence(1, TOKENS));
}

static void test_same_bits(void **state)
{
	static const struct {
		double share;
		unsigned threads;
		uint32_t cut;
	} ways[] = { { 0, 1, TOKENS }, { 0.5, 3, 5 }, { 0, 2, 1 } };
	float *first, *other;

	open_decoder(1, 2, 4);
	first = sequence(1, TOKENS);
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		decoder_close(&d);
		open_decoder(ways[i].share, ways[i].threads, 1 + i);
		other = sequence(1, ways[i].cut);
		assert_memory_equal(first, other, bytes_of(TOKENS));
		free(other);
	}
	free(first);
}

/* Three in one step; of the second no logits are wanted, of the others every row comes once. */
static void test_wanted_logits(void **state)
{
	float *alone[3], *got[3] = { NULL };
	struct decoder_part parts[3];
	uint32_t tokens[3][TOKENS];
	const uint32_t n[3] = { 3, 9, TOKENS };

	open_decoder(0.5, 2, 4);
	for (unsigned i = 0; i < 3; i++) {
		alone[i] = sequence(7 + i, TOKENS);
		some_tokens(tokens[i], TOKENS, 7 + i);
		got[i] = i == 1 ? NULL : room(n[i]);
		parts[i] = (struct decoder_part){ seq_get(d.pool), tokens[i], n[i], got[i] };
	}
	layers_done = 0;
	assert_int_equal(decoder_run(&d, parts, 3, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		if (got[i])
			assert_memory_equal(alone[i], got[i], bytes_of(n[i]));
		assert_int_equal(seq_len(parts[i].seq), n[i]);
		free(alone[i]);
		free(got[i]);
	}
}

/* After each number of layers in turn: nobody advances, no logits, no read of a later layer. */
static void test_given_up_between_layers(void **state)
{
	float *first, *other, *unused = room(TOKENS);
	uint32_t tokens[TOKENS];
	uint64_t reads = 0;

	open_decoder(0, 2, 4);
	some_tokens(tokens, TOKENS, 5);
	for (uint32_t at = 0; at < all.model->n_layers; at++) {
		struct decoder_part p = { seq_get(d.pool), tokens, TOKENS, unused };
		uint64_t before = atomic_load(&all.disk.reads);

		layers_done = 0;
		atomic_store(&give_up_at, at);
		assert_int_equal(decoder_run(&d, &p, 1, NULL), -ECANCELED);
		assert_int_equal(layers_done, at);
		assert_int_equal(seq_len(p.seq), 0);
		seq_put(d.pool, p.seq);
		before = atomic_load(&all.disk.reads) - before;
		assert_true(at ? before >= reads : before == 0);
		reads = before;
	}
	atomic_store(&give_up_at, UINT32_MAX);
	first = sequence(5, TOKENS);
	decoder_close(&d);
	open_decoder(1, 1, 4);
	other = sequence(5, TOKENS);
	assert_memory_equal(first, other, bytes_of(TOKENS));
	free(first);
	free(other);
	free(unused);
}

static void *give_up_soon(void *arg)
{
	const struct reader_stats *was = arg;
	struct reader_stats now;

	do { /* until a read is in flight, which the disk holds */
		usleep(500);
		reader_get_stats(d.supply.reader, &now);
	} while (now.pieces == was->pieces);
	atomic_store(&give_up_at, 0);
	return NULL;
}

/* While the disk does not answer: the step ends all the same; of its reads one had been begun. */
static void test_given_up_while_reading(void **state)
{
	uint32_t tokens[TOKENS];
	float *logits = room(TOKENS), *other;
	struct decoder_part p;
	struct reader_stats was;
	uint64_t before, plain;
	pthread_t t;

	open_decoder(1, 2, 1);
	before = atomic_load(&all.disk.reads);
	free(sequence(3, TOKENS));
	plain = atomic_load(&all.disk.reads) - before;
	decoder_close(&d);

	open_decoder(1, 2, 1);
	some_tokens(tokens, TOKENS, 3);
	reader_memory_hold(&all.disk);
	reader_get_stats(d.supply.reader, &was);
	before = atomic_load(&all.disk.reads);
	layers_done = 0;
	p = (struct decoder_part){ seq_get(d.pool), tokens, TOKENS, logits };
	assert_int_equal(pthread_create(&t, NULL, give_up_soon, &was), 0);
	assert_int_equal(decoder_run(&d, &p, 1, NULL), -ECANCELED);
	pthread_join(t, NULL);
	assert_int_equal(seq_len(p.seq), 0);
	seq_put(d.pool, p.seq);
	atomic_store(&give_up_at, UINT32_MAX);
	reader_memory_release(&all.disk);
	other = sequence(3, TOKENS);
	/* what was in flight is read twice at the most */
	assert_in_range(atomic_load(&all.disk.reads) - before, plain, plain + 1);
	free(logits);
	free(other);
}

/* Two sequences; a broken expert of the last layer spoils those that need it and no other. */
static void test_failed_read(void **state)
{
	const struct expert_part *x = &all.model->layers[all.model->n_layers - 1].experts.part[0];
	uint32_t tokens[2][4], n_one = 0, n_none = 0;
	float *good[2], *bad = room(8);
	int errors[DECODER_TOKENS];

	open_decoder(0, 2, 4);
	for (unsigned i = 0; i < 2; i++) {
		struct decoder_part p = { seq_get(d.pool), tokens[i], 4, good[i] = room(4) };

		some_tokens(tokens[i], 4, 40 + i);
		layers_done = 0;
		assert_int_equal(decoder_run(&d, &p, 1, NULL), 0);
		seq_put(d.pool, p.seq);
	}
	for (uint32_t e = 0; e < all.model->n_expert; e++) {
		struct decoder_part p[2];
		unsigned failed = 0;

		for (unsigned i = 0; i < 2; i++)
			p[i] = (struct decoder_part){ seq_get(d.pool), tokens[i], 4,
						      bad + (size_t)i * 4 * all.model->n_vocab };
		atomic_store(&all.disk.bad_from, x->offset + e * x->bytes + x->bytes / 2);
		atomic_store(&all.disk.bad_to, x->offset + e * x->bytes + x->bytes / 2 + 1);
		atomic_store(&all.disk.bad_times, UINT32_MAX);
		layers_done = 0;
		assert_int_equal(decoder_run(&d, p, 2, errors), 0);
		atomic_store(&all.disk.bad_times, 0);
		for (unsigned i = 0; i < 2; i++) {
			bool spoilt = false;

			for (uint32_t k = 0; k < 4; k++)
				if (errors[i * 4 + k]) {
					assert_int_equal(errors[i * 4 + k], -EIO);
					spoilt = true;
				} else if (!spoilt) {
					assert_memory_equal(
						good[i] + (size_t)k * all.model->n_vocab,
						p[i].logits + (size_t)k * all.model->n_vocab,
						bytes_of(1));
				}
			failed += spoilt;
			seq_put(d.pool, p[i].seq);
		}
		n_one += failed == 1;
		n_none += failed == 0;
	}
	assert_true(n_one && n_none); /* else the tokens are no test */
	free(good[0]);
	free(good[1]);
	free(bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_layers_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wanted_logits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up_between_layers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up_while_reading, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
