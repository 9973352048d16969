/* SPDX-License-Identifier: MIT */
/*
 * Description: the books of a tier: every transition and refusal, and random calls against a model
 * that is too simple to be wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "store/copies.h"

#define LAYERS	  3
#define PER_LAYER 4
#define N	  (LAYERS * PER_LAYER)

static const uint32_t class_of[LAYERS] = { 0, 1, 0 };
static const uint32_t class_slots[2] = { 3, 2 };

static struct copies *open_copies(void)
{
	struct copies *c;

	assert_int_equal(copies_create(N, PER_LAYER, class_of, 2, class_slots, &c), 0);
	return c;
}

static unsigned n_changed;
static uint32_t last_changed;
static bool last_present;

static void changed(void *arg, uint32_t id, bool present)
{
	n_changed++;
	last_changed = id;
	last_present = present;
}

static void test_life(void **state)
{
	struct copies *c = open_copies();
	uint32_t slot;

	n_changed = 0;
	assert_int_equal(copies_state(c, 1), COPY_ABSENT);
	assert_int_equal(copies_slot(c, 1), COPIES_NO_SLOT);
	assert_int_equal(copies_pin(c, 1), -ENOENT);
	assert_int_equal(copies_evict(c, 1), -ENOENT);
	assert_int_equal(copies_begin(c, 1, &slot), 0);
	assert_int_equal(copies_begin(c, 1, &slot), -EBUSY);
	assert_int_equal(copies_state(c, 1), COPY_FILLING);
	assert_int_equal(copies_slot(c, 1), slot);
	assert_true(copies_pinned(c, 1));
	assert_int_equal(copies_status(c, 1), 0);
	assert_int_equal(copies_evict(c, 1), -EBUSY);
	copies_settle(c, changed, NULL);
	assert_int_equal(n_changed, 0);
	copies_filled(c, slot, 0);
	assert_int_equal(copies_status(c, 1), 1);
	assert_int_equal(copies_state(c, 1), COPY_FILLING); /* until it is booked */
	copies_settle(c, changed, NULL);
	assert_int_equal(n_changed, 1);
	assert_int_equal(last_changed, 1);
	assert_true(last_present);
	assert_int_equal(copies_state(c, 1), COPY_PRESENT);
	assert_int_equal(copies_evict(c, 1), -EBUSY); /* still pinned */
	copies_unpin(c, 1);
	assert_int_equal(copies_free_slots(c, 0), 2);
	assert_int_equal(copies_evict(c, 1), 0);
	assert_int_equal(copies_free_slots(c, 0), 3);
	copies_destroy(c);
}

/* Those who wait for a fill see that it failed; then the expert may be tried again. */
static void test_failure(void **state)
{
	struct copies *c = open_copies();
	uint32_t slot, again;

	n_changed = 0;
	assert_int_equal(copies_begin(c, 5, &slot), 0);
	assert_int_equal(copies_pin(c, 5), 0);
	copies_filled(c, slot, -EIO);
	copies_settle(c, changed, NULL);
	assert_int_equal(copies_status(c, 5), -EIO);
	copies_unpin(c, 5);
	copies_settle(c, changed, NULL);
	assert_int_equal(copies_begin(c, 5, &again), -EBUSY);
	assert_int_equal(copies_free_slots(c, 1), 1);
	copies_unpin(c, 5);
	copies_settle(c, changed, NULL);
	assert_int_equal(n_changed, 1);
	assert_false(last_present);
	assert_int_equal(copies_state(c, 5), COPY_ABSENT);
	assert_int_equal(copies_free_slots(c, 1), 2);
	assert_int_equal(copies_begin(c, 5, &again), 0);
	assert_int_equal(copies_status(c, 5), 0); /* the slot does not remember */
	copies_destroy(c);
}

static void test_classes(void **state)
{
	struct copies *c = open_copies();
	uint32_t slot, seen = 0;

	for (uint32_t id = 0; id < 3; id++) { /* three slots serve layers 0 and 2 */
		assert_int_equal(copies_begin(c, id == 2 ? 8 : id, &slot), 0);
		assert_true(slot < 3 && !(seen & 1u << slot));
		seen |= 1u << slot;
	}
	assert_int_equal(copies_begin(c, 9, &slot), -ENOSPC);
	assert_int_equal(copies_begin(c, 4, &slot), 0);
	assert_true(slot >= 3);
	assert_int_equal(copies_filling(c), 4);
	copies_destroy(c);
}

struct simple {
	int state[N], pins[N],
		result[N]; /* result: 2 while filling, as copies_filled() said after */
	uint32_t slot[N];
};

static void model_settle(struct simple *m)
{
	for (int i = 0; i < N; i++) {
		if (m->state[i] != COPY_FILLING || m->result[i] == 2)
			continue;
		if (!m->result[i])
			m->state[i] = COPY_PRESENT;
		else if (!m->pins[i])
			m->state[i] = COPY_ABSENT;
	}
}

static unsigned model_used(const struct simple *m, uint32_t cls)
{
	unsigned n = 0;

	for (int i = 0; i < N; i++)
		n += m->state[i] != COPY_ABSENT && class_of[i / PER_LAYER] == cls;
	return n;
}

static void one_call(struct copies *c, struct simple *m)
{
	uint32_t id = (uint32_t)rand() % N, cls = class_of[id / PER_LAYER], slot = 77;

	switch (rand() % 6) {
	case 0: {
		int want = m->state[id] != COPY_ABSENT		    ? -EBUSY
			   : model_used(m, cls) == class_slots[cls] ? -ENOSPC
								    : 0;

		assert_int_equal(copies_begin(c, id, &slot), want);
		if (want)
			return;
		m->state[id] = COPY_FILLING;
		m->pins[id] = 1;
		m->result[id] = 2;
		m->slot[id] = slot;
		return;
	}
	case 1:
		assert_int_equal(copies_pin(c, id), m->state[id] == COPY_ABSENT ? -ENOENT : 0);
		m->pins[id] += m->state[id] != COPY_ABSENT;
		return;
	case 2:
		if (m->pins[id]) {
			copies_unpin(c, id);
			m->pins[id]--;
		}
		return;
	case 3:
		if (m->state[id] == COPY_FILLING && m->result[id] == 2) {
			m->result[id] = rand() % 3 ? 0 : -EIO;
			copies_filled(c, m->slot[id], m->result[id]);
		}
		return;
	case 4: {
		int want = m->state[id] == COPY_ABSENT			 ? -ENOENT
			   : m->state[id] == COPY_FILLING || m->pins[id] ? -EBUSY
									 : 0;

		assert_int_equal(copies_evict(c, id), want);
		if (!want)
			m->state[id] = COPY_ABSENT;
		return;
	}
	default:
		copies_settle(c, changed, NULL);
		model_settle(m);
	}
}

static void test_random(void **state)
{
	for (unsigned seed = 1; seed <= 10; seed++) {
		struct copies *c = open_copies();
		struct simple m;

		memset(&m, 0, sizeof(m));
		srand(seed);
		for (int i = 0; i < 20000; i++) {
			unsigned filling = 0;

			one_call(c, &m);
			for (uint32_t id = 0; id < N; id++) {
				assert_int_equal(copies_state(c, id), m.state[id]);
				assert_int_equal(copies_pinned(c, id), m.pins[id] > 0);
				filling += m.state[id] == COPY_FILLING;
				if (m.state[id] != COPY_ABSENT)
					assert_int_equal(copies_slot(c, id), m.slot[id]);
			}
			assert_int_equal(copies_filling(c), filling);
			for (uint32_t k = 0; k < 2; k++)
				assert_int_equal(copies_free_slots(c, k),
						 class_slots[k] - model_used(&m, k));
		}
		copies_destroy(c);
	}
}

/* Slots that come and go at the end of a class; those that are taken stay where they are. */
static void test_limit(void **state)
{
	static const uint32_t of_layer[] = { 0, 1 }, slots[] = { 4, 3 };
	struct copies *c = NULL;
	uint32_t slot;

	assert_int_equal(copies_create(20, 10, of_layer, 2, slots, &c), 0);
	assert_int_equal(copies_limit(c, 0, 2), 0);
	assert_int_equal(copies_free_slots(c, 0), 2);
	assert_int_equal(copies_free_slots(c, 1), 3);
	assert_int_equal(copies_begin(c, 0, &slot), 0);
	assert_int_equal(slot, 0);
	assert_int_equal(copies_begin(c, 1, &slot), 0);
	assert_int_equal(slot, 1);
	assert_int_equal(copies_begin(c, 2, &slot), -ENOSPC);
	assert_int_equal(copies_limit(c, 0, 1), -EBUSY);
	assert_int_equal(copies_limit(c, 0, 3), 0);
	assert_int_equal(copies_begin(c, 2, &slot), 0);
	assert_int_equal(slot, 2);
	copies_filled(c, 1, 0);
	copies_unpin(c, 1);
	copies_settle(c, changed, NULL);
	assert_int_equal(copies_evict(c, 1), 0);
	assert_int_equal(copies_limit(c, 0, 2), -EBUSY); /* the last is taken */
	assert_int_equal(copies_free_slots(c, 0), 1);
	copies_filled(c, 2, -EIO);
	copies_unpin(c, 2);
	copies_settle(c, changed, NULL);
	assert_int_equal(copies_limit(c, 0, 1), 0);
	assert_int_equal(copies_free_slots(c, 0), 0);
	assert_int_equal(copies_limit(c, 1, 0), 0);
	assert_int_equal(copies_begin(c, 10, &slot), -ENOSPC);
	assert_int_equal(copies_limit(c, 1, 1), 0);
	assert_int_equal(copies_begin(c, 10, &slot), 0);
	assert_int_equal(slot, 4);
	copies_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),	cmocka_unit_test(test_failure),
		cmocka_unit_test(test_classes), cmocka_unit_test(test_random),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
