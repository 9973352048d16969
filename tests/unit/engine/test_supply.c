/* SPDX-License-Identifier: MIT */
/*
 * Description: supply alone, on the bundled model and a disk of memory: what is asked for comes once and
 * with its bytes, in waves where the slots are few; reads are posted before anything is waited for;
 * a failed read is one expert's; fills stand behind demand, keep to their budget and give way; a layer that
 * was given up leaves nothing pinned; reads ahead come behind demand, hold slots until their layer begins, and
 * their faults are nobody's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <unistd.h>

#include "base/num.h"
#include "engine/supply.h"
#include "tests/unit/engine/engine_rig.h"
#include "tests/unit/engine/supply_rig.h"

static struct supply_rig s;
static struct engine_rig all; /* model and disk; no engine */
static _Atomic bool gives_up;

static bool given_up(void *arg)
{
	return atomic_load(&gives_up);
}

/* @share of all experts' slots, 0: the least; one thread reads, so that order can be seen. */
static void open_supply(double share, uint32_t depth, uint64_t fill_bytes_per_s)
{
	s.config = (struct supply_config){ .fill_bytes_per_s = fill_bytes_per_s,
					   .given_up = given_up };
	supply_open(&s, all.model, &all.disk, share, depth, NULL);
}

static int setup(void **state)
{
	memset(&s, 0, sizeof(s));
	atomic_store(&gives_up, false);
	rig_open(&all);
	return 0;
}

static int teardown(void **state)
{
	reader_memory_release(&all.disk);
	supply_close(&s);
	rig_close(&all);
	return 0;
}

static void check_bytes(uint32_t layer, uint32_t expert, uint32_t index)
{
	const struct expert_layout *l = &all.model->layers[layer].experts;
	struct expert_view v = supply_view(s.supply, index);

	assert_int_equal(supply_unit(s.supply, index), UNIT_HOST);
	for (int k = 0; k < EXPERT_MATRIX_NR; k++) {
		const struct expert_part *p = &l->part[l->matrix[k].part];

		assert_memory_equal(v.at[k][0],
				    all.content + p->offset + expert * p->bytes +
					    l->matrix[k].offset,
				    l->matrix[k].row_bytes * l->matrix[k].n_out);
	}
}

static void begin_layer(uint32_t layer, const uint32_t *experts, uint32_t n)
{
	uint32_t counts[512];

	for (uint32_t i = 0; i < n; i++)
		counts[i] = 1;
	supply_begin(s.supply, ++s.step, layer, experts, counts, n);
}

/* All that was begun; returns in how many handfuls it came. */
static unsigned take_layer(uint32_t layer, const uint32_t *experts, uint32_t n,
			   unsigned *ret_failed)
{
	uint32_t indices[512];
	int failed[512] = { 0 };
	bool seen[512] = { false };
	unsigned rounds = 0, n_failed = 0, total = 0;
	int32_t got;

	while ((got = supply_next(s.supply, indices, failed)) > 0) {
		rounds++;
		for (int32_t i = 0; i < got; i++) {
			assert_false(seen[indices[i]]);
			seen[indices[i]] = true;
			total++;
			if (failed[indices[i]])
				n_failed++;
			else
				check_bytes(layer, experts[indices[i]], indices[i]);
		}
	}
	assert_int_equal(got, 0);
	assert_int_equal(total, n);
	if (ret_failed)
		*ret_failed = n_failed;
	return rounds;
}

static unsigned run_layer(uint32_t layer, const uint32_t *experts, uint32_t n, unsigned *ret_failed)
{
	begin_layer(layer, experts, n);
	return take_layer(layer, experts, n, ret_failed);
}

static void all_experts(uint32_t *ids)
{
	for (uint32_t e = 0; e < all.model->n_expert; e++)
		ids[e] = (e * 7 + 3) % all.model->n_expert; /* 7 and a power of two */
}

static void test_waves(void **state)
{
	const struct model *m = all.model;
	uint32_t ids[512], slots;

	all_experts(ids);
	open_supply(0, 4, 0);
	for (uint32_t i = 0; i < m->n_layers; i++) {
		slots = residency_class_slots(s.residency, residency_class_of(s.residency, i));
		assert_true(run_layer(i, ids, m->n_expert, NULL) >= m->n_expert / slots);
	}
	assert_int_equal(atomic_load(&supply_counters(s.supply)->misses),
			 (uint64_t)m->n_expert * m->n_layers);
	assert_int_equal(atomic_load(&supply_counters(s.supply)->hits), 0);
}

static void test_hits(void **state)
{
	const struct model *m = all.model;
	uint32_t ids[512];
	uint64_t reads;

	all_experts(ids);
	open_supply(1, 4, 0);
	run_layer(0, ids, m->n_expert_used, NULL);
	reads = atomic_load(&all.disk.reads);
	assert_int_equal(run_layer(0, ids, m->n_expert_used, NULL), 1);
	assert_int_equal(atomic_load(&all.disk.reads), reads);
	assert_int_equal(atomic_load(&supply_counters(s.supply)->hits), m->n_expert_used);
}

/* Everything that has room is asked of the disk by supply_begin(), in the order of the list. */
static void test_posted_first(void **state)
{
	const struct model *m = all.model;
	uint32_t ids[512], counts[512] = { 1, 1, 1, 1, 1, 1, 1, 1 }, indices[512];
	int failed[512] = { 0 };

	all_experts(ids);
	open_supply(1, 1, 0);
	reader_memory_hold(&all.disk);
	supply_begin(s.supply, ++s.step, 0, ids, counts, 8);
	assert_int_equal(residency_reading(s.residency), 8);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(residency_state(s.residency, TIER_HOST, ids[i]), COPY_FILLING);
	reader_memory_release(&all.disk);
	/* one thread reads: a later one never lands before an earlier one */
	for (uint32_t at = 0; at < 8;) {
		int32_t n = supply_next(s.supply, indices, failed);

		for (int32_t i = 0; i < n; i++)
			assert_int_equal(indices[i], at++);
	}
	assert_int_equal(supply_next(s.supply, indices, failed), 0);
	assert_true(m->n_expert >= 8);
}

static void test_failed(void **state)
{
	const struct expert_part *p = &all.model->layers[1].experts.part[0];
	uint32_t ids[512];
	unsigned failed;

	all_experts(ids);
	open_supply(1, 4, 0);
	atomic_store(&all.disk.bad_from, p->offset + ids[2] * p->bytes + p->bytes / 2);
	atomic_store(&all.disk.bad_to, p->offset + ids[2] * p->bytes + p->bytes / 2 + 1);
	atomic_store(&all.disk.bad_times, UINT32_MAX);
	run_layer(1, ids, 6, &failed);
	assert_int_equal(failed, 1);
	run_layer(1, ids, 6, &failed); /* tried again, and again it is the only one */
	assert_int_equal(failed, 1);
	atomic_store(&all.disk.bad_times, 0);
	run_layer(1, ids, 6, &failed);
	assert_int_equal(failed, 0);
}

/* A fill that has been queued is what a layer needs: it goes ahead of the fills before it. */
static void test_fill_hurries(void **state)
{
	const struct model *m = all.model;
	uint32_t counts[1] = { 1 }, indices[512], wanted = UINT32_MAX;
	int failed[512] = { 0 };

	open_supply(1, 1, 0);
	reader_memory_hold(&all.disk);
	assert_true(supply_fill(s.supply, 8, 1));
	assert_int_equal(residency_reading(s.residency), 8);
	for (uint32_t id = 0; id < m->n_expert; id++) /* the last that was posted for layer 0 */
		if (residency_state(s.residency, TIER_HOST, id) == COPY_FILLING)
			wanted = id;
	assert_int_not_equal(wanted, UINT32_MAX);
	supply_begin(s.supply, ++s.step, 0, &wanted, counts, 1);
	reader_memory_release(&all.disk);
	assert_int_equal(supply_next(s.supply, indices, failed), 1);
	/* at most the fill that was being read already, and what landed since, came before it */
	check_bytes(0, wanted, 0);
	assert_int_equal(supply_next(s.supply, indices, failed), 0);
}

/* Steps begin: of many fills only what the one thread reads goes on, and what was withdrawn comes later. */
static void test_fills_give_way(void **state)
{
	const struct model *m = all.model;
	const struct supply_counters *counters;
	uint32_t n_experts = m->n_layers * m->n_expert;
	uint64_t reads = atomic_load(&all.disk.reads);
	struct reader_stats stats;

	open_supply(1, 1, 0);
	counters = supply_counters(s.supply);
	reader_memory_hold(&all.disk);
	assert_true(supply_fill(s.supply, 16, 1));
	do { /* until its first piece is in flight */
		usleep(1000);
		reader_get_stats(s.reader, &stats);
	} while (!stats.pieces);
	supply_withdraw_fills(s.supply);
	reader_memory_release(&all.disk);
	supply_drain(s.supply);
	assert_int_equal(atomic_load(&all.disk.reads) - reads, 1);
	for (uint32_t id = 0; id < n_experts; id++)
		assert_false(residency_pinned(s.residency, TIER_HOST, id));
	assert_int_equal(atomic_load(&counters->fills), 0);
	while (supply_fill(s.supply, 16, 1))
		supply_drain(s.supply);
	assert_int_equal(atomic_load(&counters->fills), n_experts);
}

static void test_fill_budget(void **state)
{
	uint64_t expert = all.model->layers[0].experts.bytes, now = 1000000000, reads = 0;

	open_supply(1, 4, 8 * expert); /* eight in a second, two at once */
	for (int i = 0; i < 100; i++) {
		assert_true(supply_fill(s.supply, 16, now));
		supply_drain(s.supply);
		now += 10000000;
	}
	reads = atomic_load(&supply_counters(s.supply)->fills);
	assert_in_range(reads, 8, 12);
	assert_true(supply_fill(s.supply, 16, now));
	assert_true(supply_fill_wait_ns(s.supply, now) < 1000000000);
}

static void test_given_up(void **state)
{
	const struct model *m = all.model;
	uint32_t ids[512], counts[512], indices[512];
	int failed[512] = { 0 };
	uint64_t reads;

	all_experts(ids);
	for (uint32_t i = 0; i < m->n_expert; i++)
		counts[i] = 1;
	open_supply(0.5, 2, 0);
	run_layer(0, ids, 4, NULL); /* some are there */
	reads = atomic_load(&all.disk.reads);
	reader_memory_hold(&all.disk);
	supply_begin(s.supply, ++s.step, 0, ids, counts, m->n_expert);
	assert_int_equal(supply_next(s.supply, indices, failed), 4);
	atomic_store(&gives_up, true);
	assert_int_equal(supply_next(s.supply, indices, failed), -ECANCELED);
	assert_int_equal(supply_next(s.supply, indices, failed), 0);
	reader_memory_release(&all.disk);
	supply_drain(s.supply);
	/* what two threads had begun; the rest was withdrawn */
	assert_true(atomic_load(&all.disk.reads) - reads <= 2 * 3);
	for (uint32_t id = 0; id < m->n_expert * m->n_layers; id++)
		assert_false(residency_pinned(s.residency, TIER_HOST, id));
	atomic_store(&gives_up, false);
	run_layer(0, ids, m->n_expert, NULL); /* policy and books agree: every slot can be used */
	assert_true(supply_fill(s.supply, 4, 1)); /* and fills have not ended */
}

/*
 * The next step needs an expert whose read was withdrawn in part: what was in flight is waited for
 * and the expert is read again; it is no failure of the new step.
 */
static void test_wanted_again(void **state)
{
	uint32_t ids[512], indices[512];
	int failed[512] = { 0 };
	struct reader_stats stats;
	unsigned n_failed;

	all_experts(ids);
	open_supply(1, 1, 0);
	reader_memory_hold(&all.disk);
	begin_layer(0, ids, 4);
	do { /* until the first piece is in flight */
		usleep(1000);
		reader_get_stats(s.reader, &stats);
	} while (!stats.pieces);
	atomic_store(&gives_up, true);
	assert_int_equal(supply_next(s.supply, indices, failed), -ECANCELED);
	atomic_store(&gives_up, false);
	assert_int_equal(residency_state(s.residency, TIER_HOST, ids[0]), COPY_FILLING);
	begin_layer(0, ids, 4);
	reader_memory_release(&all.disk);
	take_layer(0, ids, 4, &n_failed);
	assert_int_equal(n_failed, 0);
	residency_settle(s.residency);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(residency_state(s.residency, TIER_HOST, ids[i]), COPY_PRESENT);
}

/* What a withdrawal costs: the one piece that was in flight is read twice, and nothing else is. */
static void test_reads_after_withdrawal(void **state)
{
	uint32_t ids[512], indices[512];
	int failed[512] = { 0 };
	struct reader_stats stats, now;
	uint64_t before, per_expert;

	all_experts(ids);
	open_supply(1, 1, 0);
	before = atomic_load(&all.disk.reads);
	run_layer(1, ids, 4, NULL);
	per_expert = (atomic_load(&all.disk.reads) - before) / 4;
	assert_true(per_expert >= 2); /* or a withdrawal has nothing to take back */
	reader_get_stats(s.reader, &stats);
	reader_memory_hold(&all.disk);
	before = atomic_load(&all.disk.reads);
	begin_layer(0, ids, 4);
	do {
		usleep(1000);
		reader_get_stats(s.reader, &now);
	} while (now.pieces == stats.pieces);
	atomic_store(&gives_up, true);
	assert_int_equal(supply_next(s.supply, indices, failed), -ECANCELED);
	atomic_store(&gives_up, false);
	begin_layer(0, ids, 4);
	reader_memory_release(&all.disk);
	take_layer(0, ids, 4, NULL);
	assert_int_equal(atomic_load(&all.disk.reads) - before, 4 * per_expert + 1);
	before = atomic_load(&all.disk.reads);
	run_layer(0, ids, 4, NULL);
	assert_int_equal(atomic_load(&all.disk.reads), before);
}

/* One read that hangs, and step after step that begins with it and is given up: one load, one pin. */
static void test_given_up_again(void **state)
{
	uint32_t ids[512], indices[512];
	int failed[512] = { 0 };
	struct reader_stats stats;

	all_experts(ids);
	open_supply(1, 1, 0);
	reader_memory_hold(&all.disk);
	begin_layer(0, ids, 1);
	do { /* until its first piece is in flight */
		usleep(1000);
		reader_get_stats(s.reader, &stats);
	} while (!stats.pieces);
	atomic_store(&gives_up, true);
	assert_int_equal(supply_next(s.supply, indices, failed), -ECANCELED);
	for (int i = 0; i < 100; i++) {
		begin_layer(0, ids, 1);
		assert_int_equal(supply_next(s.supply, indices, failed), -ECANCELED);
	}
	reader_memory_release(&all.disk);
	supply_drain(s.supply);
	assert_int_equal(atomic_load(&supply_counters(s.supply)->fills), 1);
	assert_false(residency_pinned(s.residency, TIER_HOST, ids[0]));
	atomic_store(&gives_up, false);
	run_layer(0, ids, 4, NULL);
}

/* ---- reads ahead ---- */

static uint64_t counted(const _Atomic uint64_t *counter)
{
	return atomic_load(counter);
}

/* Guesses at these experts of a layer, sure of each. */
static void predict(uint32_t layer, const uint32_t *experts, uint32_t n)
{
	struct predict_guess guess[512];

	for (uint32_t i = 0; i < n; i++)
		guess[i] = (struct predict_guess){ layer * all.model->n_expert + experts[i], 1 };
	supply_predict(s.supply, layer, guess, n, 0);
}

/* Guessed, read and there when asked for; what was not asked for is let go. */
static void test_ahead(void **state)
{
	const struct supply_counters *c;
	uint32_t ids[512];

	all_experts(ids);
	open_supply(1, 4, 0);
	c = supply_counters(s.supply);
	run_layer(0, ids, 4, NULL);
	predict(1, ids, 6);
	assert_int_equal(counted(&c->predicted), 6);
	predict(1, ids, 6); /* they are there or on their way */
	assert_int_equal(counted(&c->predicted), 6);
	supply_drain(s.supply); /* lets go of them too */
	assert_int_equal(counted(&c->wasted), 6);
	assert_true(counted(&c->wasted_bytes) == 6 * all.model->layers[1].experts.bytes);
	predict(2, ids, 6);
	while (residency_reading(s.residency))
		residency_settle(s.residency);
	run_layer(2, ids, 4, NULL);
	assert_int_equal(counted(&c->useful), 4);
	assert_int_equal(counted(&c->wasted), 8);
	for (uint32_t i = 0; i < 6; i++)
		assert_false(
			residency_pinned(s.residency, TIER_HOST, 2 * all.model->n_expert + ids[i]));
}

/* A guess that is late: what is still queued goes on as demand, ahead of other guesses. */
static void test_ahead_late(void **state)
{
	const struct supply_counters *c;
	uint32_t ids[512], counts[1] = { 1 }, indices[512];
	int failed[512] = { 0 };

	all_experts(ids);
	open_supply(1, 1, 0);
	c = supply_counters(s.supply);
	reader_memory_hold(&all.disk);
	predict(0, ids, 6);
	supply_begin(s.supply, ++s.step, 0, &ids[5], counts, 1);
	assert_int_equal(counted(&c->late), 1);
	assert_int_equal(counted(&c->wasted), 5);
	assert_int_equal(counted(&c->misses), 1);
	reader_memory_release(&all.disk);
	assert_int_equal(supply_next(s.supply, indices, failed), 1);
	assert_int_equal(failed[0], 0);
	check_bytes(0, ids[5], 0);
	assert_int_equal(supply_next(s.supply, indices, failed), 0);
	supply_drain(s.supply);
	for (uint32_t i = 0; i < 6; i++)
		assert_false(residency_pinned(s.residency, TIER_HOST, ids[i]));
}

/* Demand goes first, whatever was guessed before it was asked for. */
static void test_ahead_of_nobody(void **state)
{
	uint32_t ids[512], indices[512], counts[2] = { 1, 1 };
	int failed[512] = { 0 };

	all_experts(ids);
	open_supply(1, 1, 0);
	reader_memory_hold(&all.disk);
	supply_begin(s.supply, ++s.step, 0, ids, counts, 2);
	predict(1, ids, 4);
	reader_memory_release(&all.disk);
	for (uint32_t n = 0; n < 2;)
		n += (uint32_t)supply_next(s.supply, indices, failed);
	/* one thread reads in order: of four guesses not all can be there as soon as the two are */
	assert_int_equal(supply_next(s.supply, indices, failed), 0);
	supply_drain(s.supply);
}

/* A guess whose read fails is nobody's fault: who needs the expert reads it again. */
static void test_ahead_failed(void **state)
{
	const struct expert_part *p = &all.model->layers[1].experts.part[0];
	uint32_t ids[512];
	unsigned failed;

	all_experts(ids);
	open_supply(1, 4, 0);
	atomic_store(&all.disk.bad_from, p->offset + ids[2] * p->bytes);
	atomic_store(&all.disk.bad_to, p->offset + ids[2] * p->bytes + 1);
	atomic_store(&all.disk.bad_times, UINT32_MAX);
	predict(1, ids, 4);
	/* the failed one stays in the books as being read until it is let go */
	for (unsigned i = 0; i < 10000 && residency_reading(s.residency) > 1; i++) {
		residency_settle(s.residency);
		usleep(100);
	}
	while (!residency_landed(s.residency, all.model->n_expert + ids[2]))
		usleep(100);
	atomic_store(&all.disk.bad_times, 0);
	run_layer(1, ids, 4, &failed);
	assert_int_equal(failed, 0);
	assert_int_equal(counted(&supply_counters(s.supply)->wasted), 1);
}

/* One that is late and fails then is read again for who needs it: the fault was the guess's. */
static void test_ahead_late_and_failed(void **state)
{
	const struct expert_part *p = &all.model->layers[1].experts.part[0];
	uint32_t ids[512], counts[1] = { 1 }, indices[512];
	int failed[512] = { 0 };

	all_experts(ids);
	open_supply(1, 1, 0);
	atomic_store(&all.disk.bad_from, p->offset + ids[0] * p->bytes);
	atomic_store(&all.disk.bad_to, p->offset + ids[0] * p->bytes + 1);
	reader_memory_hold(&all.disk);
	predict(1, ids, 3);
	supply_begin(s.supply, ++s.step, 1, ids, counts, 1);
	assert_int_equal(counted(&supply_counters(s.supply)->late), 1);
	atomic_store(&all.disk.bad_times, UINT32_MAX);
	reader_memory_release(&all.disk);
	while (!residency_landed(s.residency, all.model->n_expert + ids[0]))
		usleep(100);
	atomic_store(&all.disk.bad_times, 0);
	assert_int_equal(supply_next(s.supply, indices, failed), 1);
	assert_int_equal(failed[0], 0);
	check_bytes(1, ids[0], 0);
	assert_int_equal(supply_next(s.supply, indices, failed), 0);
}

/* With few slots guesses hold none that a layer needs, and give way where one is short. */
static void test_ahead_few_slots(void **state)
{
	const struct model *m = all.model;
	uint32_t ids[512];

	all_experts(ids);
	open_supply(0, 4, 0); /* one token's experts: no room for guesses */
	predict(1, ids, 4);
	assert_int_equal(counted(&supply_counters(s.supply)->predicted), 0);
	supply_drain(s.supply);
	supply_close(&s);
	memset(&s, 0, sizeof(s));
	open_supply(0.3, 4, 0);
	for (unsigned round = 0; round < 20; round++)
		for (uint32_t l = 0; l < m->n_layers; l++) {
			uint32_t next = (l + 1) % m->n_layers;

			begin_layer(l, ids + round, m->n_expert_used + round % 3);
			predict(next, ids + round + l, m->n_expert - round - l);
			take_layer(l, ids + round, m->n_expert_used + round % 3, NULL);
		}
	begin_layer(0, ids, m->n_expert); /* in waves */
	predict(1, ids, 4);
	take_layer(0, ids, m->n_expert, NULL);
}

/* What a step that was given up had guessed is let go by the next. */
static void test_ahead_given_up(void **state)
{
	uint32_t ids[512], counts[4] = { 1, 1, 1, 1 }, indices[512];
	int failed[512] = { 0 };

	all_experts(ids);
	open_supply(1, 1, 0);
	reader_memory_hold(&all.disk);
	supply_begin(s.supply, ++s.step, 0, ids, counts, 4);
	predict(1, ids, 4);
	atomic_store(&gives_up, true);
	assert_int_equal(supply_next(s.supply, indices, failed), -ECANCELED);
	atomic_store(&gives_up, false);
	reader_memory_release(&all.disk);
	run_layer(3, ids, 4, NULL);
	run_layer(1, ids, 4, NULL);
	supply_drain(s.supply);
	for (uint32_t id = 0; id < all.model->n_expert * all.model->n_layers; id++)
		assert_false(residency_pinned(s.residency, TIER_HOST, id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_waves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_posted_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fill_hurries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fills_give_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fill_budget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wanted_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reads_after_withdrawal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead_of_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead_late_and_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead_few_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead_given_up, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
