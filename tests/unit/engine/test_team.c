/* SPDX-License-Identifier: MIT */
/*
 * Description: the team runs a job on every thread, meets at barriers, and shares ranges without
 * gaps or overlaps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "engine/team.h"

#define ROUNDS	    2000
#define MAX_THREADS 8

struct job {
	struct team *team;
	unsigned n;
	uint32_t value[MAX_THREADS]; /* plain memory: the barrier must order it */
	uint32_t wrong;
	bool slow;
};

static void rounds(void *arg, unsigned tid)
{
	struct job *j = arg;

	for (uint32_t r = 1; r <= ROUNDS; r++) {
		j->value[tid] = r;
		if (j->slow && tid == r % j->n && r % 500 == 0)
			usleep(2000); /* the others fall asleep on the futex */
		team_barrier(j->team);
		for (unsigned i = 0; i < j->n; i++)
			if (j->value[i] != r)
				__atomic_fetch_add(&j->wrong, 1, __ATOMIC_RELAXED);
		team_barrier(j->team);
	}
}

static void test_barriers(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 4; n++) {
		struct job j = { .n = n, .slow = true };

		assert_int_equal(team_create(n, true, &j.team, NULL), 0);
		assert_int_equal(team_size(j.team), n);
		for (int again = 0; again < 3; again++) {
			memset(j.value, 0, sizeof(j.value));
			team_run(j.team, rounds, &j);
		}
		assert_int_equal(j.wrong, 0);
		team_destroy(j.team);
	}
}

static void count_visit(void *arg, unsigned tid)
{
	uint32_t *visits = arg;

	__atomic_fetch_add(&visits[tid], 1, __ATOMIC_RELAXED);
}

static void test_runs_after_sleep(void **state)
{
	uint32_t visits[MAX_THREADS] = { 0 };
	struct team *t;

	(void)state;
	assert_int_equal(team_create(3, true, &t, NULL), 0);
	for (int i = 0; i < 20; i++) {
		if (i % 5 == 0)
			usleep(3000); /* longer than the spin: workers sleep */
		team_run(t, count_visit, visits);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(visits[i], 20);
	team_destroy(t);
}

static void test_refuses_none(void **state)
{
	struct err err = { { 0 } };
	struct team *t;

	(void)state;
	assert_true(team_create(0, true, &t, &err) < 0);
	assert_true(err.text[0] != '\0');
	team_destroy(NULL);
}

static void test_shares(void **state)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 17, 255, 256, 1000, 4096 };
	static const size_t grains[] = { 1, 16, 256 };

	(void)state;
	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++)
		for (size_t g = 0; g < 3; g++)
			for (unsigned n = 1; n < 9; n++) {
				size_t at = 0;

				for (unsigned tid = 0; tid < n; tid++) {
					size_t first, end;

					team_share(sizes[s], grains[g], tid, n, &first, &end);
					assert_int_equal(first, at);
					assert_true(end >= first);
					assert_true(end == sizes[s] || end % grains[g] == 0);
					at = end;
				}
				assert_int_equal(at, sizes[s]);
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_barriers),
		cmocka_unit_test(test_runs_after_sleep),
		cmocka_unit_test(test_refuses_none),
		cmocka_unit_test(test_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
