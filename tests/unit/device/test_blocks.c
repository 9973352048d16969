/* SPDX-License-Identifier: MIT */
/*
 * Description: who has the blocks of a device's memory: sequences take from slots and give back after a rest,
 * limits are kept by giving up, and what the driver refuses changes nothing; a scripted clock, memory that counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/blocks.h"

#define BLOCK 1000
#define MOST  200 /* blocks of the range */
#define SEC   1000000000ull

/* Memory that counts, and refuses what the test says. */
struct memory {
	uint32_t there; /* blocks that can be taken in all */
	uint32_t taken, spare;
	bool mapped[MOST];
	bool no_map, no_unmap;
};

static int take(void *ctx, struct err *err)
{
	struct memory *m = ctx;

	if (m->taken >= m->there)
		return err_set(err, -ENOMEM, "no memory");
	m->taken++;
	m->spare++;
	return 0;
}

static void drop(void *ctx)
{
	struct memory *m = ctx;

	assert_true(m->spare && m->taken);
	m->spare--;
	m->taken--;
}

static int map(void *ctx, uint32_t at, struct err *err)
{
	struct memory *m = ctx;

	assert_true(at < MOST && !m->mapped[at] && m->spare);
	if (m->no_map)
		return err_set(err, -EIO, "no map");
	m->mapped[at] = true;
	m->spare--;
	return 0;
}

static int unmap(void *ctx, uint32_t at, struct err *err)
{
	struct memory *m = ctx;

	assert_true(at < MOST && m->mapped[at]);
	if (m->no_unmap)
		return err_set(err, -EIO, "no unmap");
	m->mapped[at] = false;
	m->spare++;
	return 0;
}

static const struct blocks_ops ops = { take, drop, map, unmap };

enum { PAGES, STATES, SMALL, LARGE };

/* 100 pages of 0.3 blocks; 4 states of 2.5; 20 slots of 0.7; 10 of 1.5. */
static const struct blocks_region regions[] = {
	{ .item_bytes = 300, .items = 100 },
	{ .item_bytes = 2500, .items = 4 },
	{ .item_bytes = 700, .items = 20, .slots = true },
	{ .item_bytes = 1500, .items = 10, .slots = true }
};

static void check(const struct blocks *b, const struct memory *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->n; i++) {
		assert_int_equal(b->mapped[i], m->mapped[i]);
		assert_true(!b->users[i] || b->mapped[i]);
		n += b->mapped[i];
	}
	assert_int_equal(blocks_held(b), m->taken);
	assert_int_equal(b->spare, m->spare);
	assert_int_equal(n + b->spare, m->taken);
	for (uint32_t r = SMALL; r <= LARGE; r++)
		for (uint32_t i = 0; i < b->regions[r].n; i++)
			assert_int_equal(b->mapped[b->regions[r].first + i],
					 i < b->regions[r].n_mapped);
}

static void begin(struct blocks *b, struct memory *m, uint32_t there, uint32_t most, uint32_t kept)
{
	*m = (struct memory){ .there = there };
	assert_int_equal(blocks_init(b, BLOCK, regions, 4, kept, &ops, m), 0);
	assert_int_equal(b->n, 30 + 10 + 14 + 15);
	blocks_limit(b, most);
	while (blocks_grow(b, SEC) != BLOCKS_NONE)
		check(b, m);
	check(b, m);
}

static void test_start(void **state)
{
	struct blocks b;
	struct memory m;

	begin(&b, &m, 100, 20, 4);
	assert_int_equal(blocks_of_slots(&b), 16);
	assert_int_equal(blocks_held(&b), 16);
	assert_int_equal(blocks_room(&b), 4);
	/* in equal shares, and no block in which nothing is whole but the last */
	assert_true(blocks_slots(&b, SMALL) >= 9 && blocks_slots(&b, LARGE) >= 5);
	blocks_limit(&b, 1000); /* all of them */
	while (blocks_grow(&b, SEC) != BLOCKS_NONE)
		;
	assert_int_equal(blocks_slots(&b, SMALL), 20);
	assert_int_equal(blocks_slots(&b, LARGE), 10);
	assert_int_equal(blocks_of_slots(&b), 29);
	check(&b, &m);
	blocks_fini(&b);
	begin(&b, &m, 100, 4, 4); /* none */
	assert_int_equal(blocks_of_slots(&b), 0);
	assert_int_equal(blocks_victim(&b, NULL), BLOCKS_NONE);
	blocks_fini(&b);
	begin(&b, &m, 7, 20, 4); /* less memory than was said */
	assert_int_equal(blocks_held(&b), 7);
	assert_int_equal(b.others, 7);
	blocks_fini(&b);
}

/* A block of slots becomes spare. */
static void give(struct blocks *b, struct memory *m)
{
	uint32_t slots = 99, r = blocks_victim(b, &slots);

	assert_int_not_equal(r, BLOCKS_NONE);
	assert_true(slots <= blocks_slots(b, r));
	assert_int_equal(blocks_shrink(b, r, NULL), 0);
	assert_int_equal(blocks_slots(b, r), slots);
	check(b, m);
}

static void test_sequences(void **state)
{
	struct blocks b;
	struct memory m;
	uint32_t slots;

	begin(&b, &m, 100, 20, 4);
	slots = blocks_of_slots(&b);
	assert_int_equal(blocks_hold(&b, STATES, 0, NULL), 0); /* 3 of the 4 that are kept */
	assert_int_equal(blocks_hold(&b, PAGES, 0, NULL), 0);
	assert_int_equal(blocks_hold(&b, PAGES, 1, NULL), 0); /* in the same block */
	assert_int_equal(blocks_room(&b), 0);
	assert_int_equal(blocks_hold(&b, STATES, 1, NULL), -ENOSPC);
	check(&b, &m);
	give(&b, &m);
	assert_int_equal(blocks_hold(&b, STATES, 1, NULL), -ENOSPC); /* it shares one, lacks two */
	give(&b, &m);
	assert_int_equal(blocks_hold(&b, STATES, 1, NULL), 0);
	assert_true(!blocks_lacks(&b, STATES, 1, NULL) && blocks_lacks(&b, STATES, 2, NULL));
	assert_int_equal(blocks_of_slots(&b), slots - 2);
	check(&b, &m);

	/* back, after a rest; what is shared stays as long as one of both */
	blocks_let(&b, STATES, 0, 10 * SEC);
	assert_true(!blocks_lacks(&b, STATES, 1, NULL));
	blocks_let(&b, STATES, 1, 10 * SEC);
	assert_int_equal(blocks_grow(&b, 10 * SEC), BLOCKS_NONE);
	assert_int_equal(blocks_grow(&b, 11 * SEC - 1), BLOCKS_NONE);
	while (blocks_grow(&b, 11 * SEC) != BLOCKS_NONE)
		check(&b, &m);
	assert_int_equal(blocks_of_slots(&b), slots);
	blocks_let(&b, PAGES, 0, 12 * SEC);
	assert_true(!blocks_lacks(&b, PAGES, 1, NULL));
	blocks_let(&b, PAGES, 1, 12 * SEC);
	check(&b, &m);
	blocks_fini(&b);
}

static void test_limits(void **state)
{
	struct blocks b;
	struct memory m;

	begin(&b, &m, 100, 20, 4);
	assert_int_equal(blocks_hold(&b, STATES, 0, NULL), 0);
	blocks_limit(&b, 10);
	assert_int_equal(blocks_trim(&b), 10); /* four stay with sequences */
	for (int i = 0; i < 10; i++)
		give(&b, &m);
	assert_int_equal(blocks_trim(&b), 0);
	assert_int_equal(m.taken, 10);
	assert_int_equal(blocks_grow(&b, 99 * SEC), BLOCKS_NONE);
	blocks_limit(&b, 2); /* less than the sequence has: it keeps what it has */
	while (blocks_of_slots(&b))
		give(&b, &m);
	assert_int_equal(blocks_trim(&b), 1);
	assert_int_equal(m.taken, 3);
	assert_int_equal(blocks_hold(&b, PAGES, 0, NULL), -ENOSPC);
	blocks_let(&b, STATES, 0, 100 * SEC);
	assert_int_equal(blocks_trim(&b), 0);
	assert_int_equal(m.taken, 2);
	blocks_limit(&b, 20);
	while (blocks_grow(&b, 101 * SEC) != BLOCKS_NONE)
		;
	assert_int_equal(blocks_of_slots(&b), 16);
	check(&b, &m);
	blocks_fini(&b);
}

/* What others want: told once a second. */
static void test_others(void **state)
{
	struct blocks b;
	struct memory m;

	begin(&b, &m, 100, 20, 4);
	assert_true(blocks_poll(&b, 5 * SEC));
	assert_false(blocks_poll(&b, 6 * SEC - 1));
	assert_true(blocks_poll(&b, 6 * SEC));
	blocks_told(&b, 5000, 3000); /* enough */
	assert_int_equal(blocks_trim(&b), 0);
	blocks_told(&b, 1500, 3000);
	assert_int_equal(blocks_trim(&b), 6);
	for (int i = 0; i < 6; i++)
		give(&b, &m);
	assert_int_equal(blocks_trim(&b), 0);
	assert_int_equal(m.taken, 14);
	blocks_told(&b, 4999, 3000); /* one more would be too near */
	assert_int_equal(blocks_grow(&b, 99 * SEC), BLOCKS_NONE);
	blocks_told(&b, 5000, 3000);
	assert_int_not_equal(blocks_grow(&b, 99 * SEC), BLOCKS_NONE);
	assert_int_not_equal(blocks_grow(&b, 99 * SEC), BLOCKS_NONE);
	/* what is kept for sequences */
	assert_int_equal(blocks_grow(&b, 99 * SEC), BLOCKS_NONE);
	assert_int_equal(blocks_room(&b), 4);
	blocks_told(&b, 99000, 3000);
	assert_int_equal(b.others, BLOCKS_NONE);
	/* the last one comes back when it alone is there */
	b.others = 19;
	blocks_told(&b, 3000 + (19 - m.taken) * 1000, 3000);
	assert_int_equal(b.others, 19);
	while (blocks_grow(&b, 99 * SEC) != BLOCKS_NONE)
		;
	assert_int_equal(blocks_keep(&b, NULL), 0);
	assert_int_equal(m.taken, 19);
	blocks_told(&b, 4000, 3000);
	assert_int_equal(b.others, BLOCKS_NONE);
	blocks_told(&b, 0, 99000); /* more than there is */
	assert_true(blocks_trim(&b) >= 12);
	blocks_fini(&b);
}

static void test_refused(void **state)
{
	const struct blocks_region huge = { .item_bytes = UINT64_MAX, .items = 3 };
	struct blocks b;
	struct memory m;
	struct err err = { { 0 } };

	begin(&b, &m, 18, 20, 4); /* two less than the limit */
	assert_int_equal(blocks_hold(&b, STATES, 0, &err), -ENOSPC);
	assert_int_equal(b.others, 18);
	check(&b, &m);
	give(&b, &m);
	assert_int_equal(blocks_hold(&b, STATES, 0, &err), 0);
	m.no_unmap = true;
	blocks_let(&b, STATES, 0, SEC); /* it stays behind its addresses, and is used there again */
	check(&b, &m);
	assert_int_equal(blocks_shrink(&b, blocks_victim(&b, &(uint32_t){ 0 }), &err), -EIO);
	m.no_map = true;
	assert_int_equal(blocks_hold(&b, STATES, 0, &err), 0);
	m.no_unmap = false;
	blocks_let(&b, STATES, 0, SEC);
	assert_int_equal(blocks_hold(&b, STATES, 0, &err), -EIO);
	check(&b, &m);
	blocks_fini(&b);
	assert_int_equal(blocks_init(&b, 1, &huge, 1, 0, &ops, &m), -EOVERFLOW);
}

/* By lot: books and memory agree, limits hold, and who holds an item has memory. */
static void test_by_lot(void **state)
{
	struct blocks b;
	struct memory m;
	bool pages[100] = { 0 }, states[4] = { 0 };
	uint64_t now = SEC;

	srand(7);
	begin(&b, &m, 60, 40, 4);
	for (int i = 0; i < 20000; i++) {
		const uint32_t r = (uint32_t)rand() % 2;
		bool *held = r ? states : pages;
		const uint32_t item = (uint32_t)rand() % (r ? 4 : 100);
		int rc;

		now += (uint64_t)rand() % (SEC / 2);
		if (held[item]) {
			assert_true(!blocks_lacks(&b, r, item, NULL));
			blocks_let(&b, r, item, now);
			held[item] = false;
		} else {
			while ((rc = blocks_hold(&b, r, item, NULL)) == -ENOSPC &&
			       blocks_of_slots(&b))
				give(&b, &m);
			held[item] = rc == 0;
		}
		if (i % 50 == 0)
			blocks_limit(&b, 10 + (uint32_t)rand() % 50);
		if (i % 70 == 0 && blocks_poll(&b, now))
			blocks_told(&b, (uint64_t)rand() % 9000, 4000);
		while (blocks_trim(&b) && blocks_of_slots(&b))
			give(&b, &m);
		blocks_grow(&b, now);
		check(&b, &m);
		for (uint32_t k = 0; k < 100; k++)
			assert_true(!pages[k] || !blocks_lacks(&b, PAGES, k, NULL));
	}
	blocks_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),	cmocka_unit_test(test_sequences),
		cmocka_unit_test(test_limits),	cmocka_unit_test(test_others),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_by_lot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
