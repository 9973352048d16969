/* SPDX-License-Identifier: MIT */
/*
 * Description: the team gives every unit out once, orders phases, goes on without a thread that does
 * not come and takes it in again, and gives a core to one that holds all up. Who completes a group of
 * results goes on from all of them, once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/linear.h"
#include "engine/team.h"

#define ROUNDS	    2000
#define MAX_THREADS 8
#define UNITS	    37

struct job {
	struct team *team;
	unsigned n;
	uint32_t value[UNITS]; /* plain memory: the barrier must order it */
	_Atomic uint32_t wrong, given;
	bool slow;
};

static void add(_Atomic uint32_t *to)
{
	atomic_fetch_add_explicit(to, 1, memory_order_relaxed);
}

/* The second barrier keeps the next round from what is being looked at; who is late sees nothing. */
static void rounds(void *arg, unsigned tid)
{
	struct job *j = arg;

	for (uint32_t r = 1; r <= ROUNDS; r++) {
		for (size_t i; team_take(j->team, tid, UNITS, &i);) {
			if (j->value[i] != r - 1)
				add(&j->wrong);
			j->value[i] = r;
			add(&j->given);
			if (j->slow && i == r % UNITS && r % 500 == 0)
				usleep(2000); /* the others fall asleep on the futex */
		}
		team_barrier(j->team, tid);
		for (unsigned i = 0; i < UNITS && team_in_time(j->team, tid); i++)
			if (j->value[i] != r)
				add(&j->wrong);
		team_barrier(j->team, tid);
	}
}

static void test_barriers(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 4; n++)
		for (int all = 0; all < 2; all++) {
			struct job j = { .n = n, .slow = true };

			assert_int_equal(team_create(n, true, &j.team, NULL), 0);
			assert_int_equal(team_size(j.team), n);
			if (all)
				team_wait_for_all(j.team);
			for (int again = 0; again < 3; again++) {
				memset(j.value, 0, sizeof(j.value));
				team_run(j.team, rounds, &j);
			}
			assert_int_equal(j.wrong, 0);
			assert_int_equal(j.given, 3 * ROUNDS * UNITS);
			team_destroy(j.team);
		}
}

/* Two loops over THINGS results each, cut in groups; plain memory, that the count must order. */
#define THINGS 1000
#define GROUP  48 /* the last of them has 40 */
#define GROUPS 21

struct grouped {
	struct team *team;
	uint32_t value[2][THINGS], round;
	_Atomic uint32_t done[GROUPS], whole, finished, ended, wrong;
};

static void finish_group(const void *arg, unsigned tid, size_t group)
{
	struct grouped *g = *(struct grouped *const *)arg;

	for (size_t i = group * GROUP; i < (group + 1) * GROUP && i < THINGS; i++)
		if (g->value[0][i] != g->round + 1 || g->value[1][i] != g->round + 1)
			add(&g->wrong);
	add(&g->finished);
	if (!team_last(&g->whole, 1, GROUPS))
		return;
	g->round++; /* all the others are done with it */
	add(&g->ended);
}

static void group_rounds(void *arg, unsigned tid)
{
	struct grouped *g = arg;
	const struct groups groups = { g->done, GROUP, 2, finish_group, &g };
	size_t first, end;

	for (uint32_t r = 0; r < ROUNDS; r++) {
		for (unsigned k = 0; k < 2; k++)
			while (team_take_range(g->team, tid, THINGS, 16, &first, &end)) {
				for (size_t i = first; i < end; i++)
					g->value[k][i] = r + 1;
				groups_count(&groups, tid, THINGS, first, end);
			}
		team_barrier(g->team, tid);
	}
}

static void test_groups(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 4; n++) {
		struct grouped g = { 0 };

		assert_int_equal(team_create(n, true, &g.team, NULL), 0);
		team_run(g.team, group_rounds, &g);
		assert_int_equal(g.wrong, 0);
		assert_int_equal(g.finished, ROUNDS * GROUPS);
		assert_int_equal(g.ended, ROUNDS);
		team_destroy(g.team);
	}
}

/* Loops of all kinds in one phase: everything is given to one thread, once. */
struct kinds {
	struct team *team;
	bool all;
	_Atomic uint32_t unit[UNITS], thing[1000], once[3], none;
};

static void all_kinds(void *arg, unsigned tid)
{
	struct kinds *k = arg;
	size_t first, end;

	if (team_once(k->team, tid))
		add(k->all && tid ? &k->none : &k->once[0]);
	for (size_t i; team_take(k->team, tid, UNITS, &i);)
		add(&k->unit[i]);
	for (size_t i; team_take(k->team, tid, 0, &i);)
		add(&k->none);
	if (team_once(k->team, tid))
		add(&k->once[1]);
	while (team_take_range(k->team, tid, 1000, 16, &first, &end)) {
		assert_true(first % 16 == 0 && first < end && (end % 16 == 0 || end == 1000));
		for (size_t i = first; i < end; i++)
			add(&k->thing[i]);
	}
	if (team_once(k->team, tid))
		add(&k->once[2]);
	team_barrier(k->team, tid);
}

static void test_kinds_of_units(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 10; n++) {
		struct kinds k = { .all = n > 5 };

		assert_int_equal(team_create(k.all ? n - 5 : n, true, &k.team, NULL), 0);
		if (k.all)
			team_wait_for_all(k.team);
		for (int again = 0; again < 200; again++)
			team_run(k.team, all_kinds, &k);
		for (unsigned i = 0; i < UNITS; i++)
			assert_int_equal(k.unit[i], 200);
		for (unsigned i = 0; i < 1000; i++)
			assert_int_equal(k.thing[i], 200);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(k.once[i], 200);
		assert_int_equal(k.none, 0);
		team_destroy(k.team);
	}
}

static void count_visit(void *arg, unsigned tid)
{
	_Atomic uint32_t *visits = arg;

	add(&visits[tid]);
}

/* With everybody waited for, everybody comes. */
static void test_waits_for_all(void **state)
{
	_Atomic uint32_t visits[MAX_THREADS] = { 0 };
	struct team *t;

	(void)state;
	assert_int_equal(team_create(3, true, &t, NULL), 0);
	team_wait_for_all(t);
	for (int i = 0; i < 20; i++) {
		if (i % 5 == 0)
			usleep(3000); /* longer than the spin: workers sleep */
		team_run(t, count_visit, visits);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(visits[i], 20);
	team_destroy(t);
}

/* ---- tid 0 waits for something in every phase, longer than a spin is worth ---- */

#define WAITS	 200
#define WAITS_NS 150000 /* a mixer on a device */

struct waits {
	struct team *team;
	long slept; /* how often tid 1 gave its core up, in the second half */
};

static long sleeps(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_THREAD, &u), 0);
	return u.ru_nvcsw;
}

static void wait_often(void *arg, unsigned tid)
{
	struct waits *w = arg;
	long before = 0;

	for (int i = 0; i < WAITS; i++) {
		const uint64_t until = now_ns() + WAITS_NS;

		if (i == WAITS / 2)
			before = sleeps();
		while (tid == 0 && now_ns() < until)
			;
		team_barrier(w->team, tid);
	}
	if (tid)
		w->slept = sleeps() - before;
}

static void test_expects(void **state)
{
	struct waits w = { 0 };
	cpu_set_t set;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	if (CPU_COUNT(&set) < 2) {
		print_message("one CPU: nobody spins\n");
		skip();
	}
	assert_int_equal(team_create(2, true, &w.team, NULL), 0);
	team_wait_for_all(w.team);
	team_run(w.team, wait_often, &w);
	assert_true(w.slept > 10);
	team_expect(w.team, 2000000000); /* more than a loaded machine takes a core away for */
	team_run(w.team, wait_often, &w);
	assert_int_equal(w.slept, 0);
	team_expect(w.team, 0);
	team_run(w.team, wait_often, &w);
	assert_true(w.slept > 10);
	team_destroy(w.team);
}

/* ---- a thread that does not come ---- */

#define HELD_NS 400000000u

static _Atomic bool held_now, release_it;

static void hold(int signal)
{
	uint64_t until = now_ns() + 20 * (uint64_t)HELD_NS;

	(void)signal;
	held_now = true;
	while (!release_it && now_ns() < until)
		usleep(1000);
	held_now = false;
}

struct held {
	struct team *team;
	pid_t worker;		   /* the thread of tid 1 */
	_Atomic uint32_t in_place; /* tid 1 has nothing more to do in the first phase */
	_Atomic uint32_t phases[2], jobs_of_1;
	_Atomic uint64_t place;
};

/*
 * In the first phase tid 0 has the one unit, and holds tid 1 up in a signal handler at the barrier. The
 * phases after it are tid 0's alone.
 */
static void go_without(void *arg, unsigned tid)
{
	struct held *h = arg;

	if (tid) {
		h->worker = (pid_t)syscall(SYS_gettid);
		add(&h->jobs_of_1);
	}
	while (tid == 0 && !h->jobs_of_1)
		sched_yield(); /* inside the phase: it waits for us to come */
	if (tid)
		h->in_place = 1;
	while (tid == 0 && !h->in_place)
		sched_yield();
	if (tid == 0) {
		usleep(20000); /* by now it waits at the barrier */
		assert_int_equal(syscall(SYS_tgkill, getpid(), h->worker, SIGUSR1), 0);
		while (!held_now)
			usleep(100);
	}
	team_barrier(h->team, tid);
	for (int i = 0; i < 1000; i++) {
		if (team_once(h->team, tid))
			add(&h->phases[tid]);
		team_barrier(h->team, tid);
	}
}

static void count_job(void *arg, unsigned tid)
{
	struct held *h = arg;

	if (tid)
		add(&h->jobs_of_1);
	else if (!held_now)
		usleep(2000); /* inside: there is time to come */
	for (int i = 0; i < 50; i++) {
		if (team_once(h->team, tid))
			add(&h->phases[tid]);
		team_barrier(h->team, tid);
	}
}

static void test_goes_on_without(void **state)
{
	struct sigaction act = { .sa_handler = hold };
	struct held h = { 0 };
	uint64_t start;

	(void)state;
	release_it = false;
	assert_int_equal(sigaction(SIGUSR1, &act, NULL), 0);
	assert_int_equal(team_create(2, false, &h.team, NULL), 0);
	start = now_ns();
	team_run(h.team, go_without, &h); /* returns while the other is held */
	assert_true(held_now);
	assert_int_equal(h.phases[0], 1000);
	assert_int_equal(h.phases[1], 0);
	team_run(h.team, count_job, &h); /* so does another job */
	assert_true(held_now);
	assert_int_equal(h.phases[0], 1050);
	assert_true(now_ns() - start < 20 * (uint64_t)HELD_NS);
	assert_int_equal(h.jobs_of_1, 1);
	release_it =
		true; /* it leaves the first job, of which there is nothing left, and takes part */
	start = now_ns();
	while (h.jobs_of_1 < 2 && now_ns() - start < 20000000000u) {
		team_run(h.team, count_job, &h);
		usleep(1000);
	}
	assert_true(h.jobs_of_1 >= 2);
	team_destroy(h.team);
}

/* Late in a job that goes on: the held thread passes the phases that are over, or skips them. */
static void catch_up(void *arg, unsigned tid)
{
	struct held *h = arg;

	if (tid) {
		h->worker = (pid_t)syscall(SYS_gettid);
		add(&h->jobs_of_1);
		h->in_place = 1;
	}
	while (tid == 0 && !h->in_place)
		sched_yield();
	if (tid == 0) {
		usleep(20000);
		assert_int_equal(syscall(SYS_tgkill, getpid(), h->worker, SIGUSR1), 0);
		while (!held_now)
			usleep(100);
	}
	team_barrier(h->team, tid);
	for (int i = 0; i < 100; i++) {
		if (team_once(h->team, tid) && i == 99) {
			/* a decision for who is late, who may hear of it before this barrier */
			h->place = team_place(h->team, tid) + 1;
			release_it = true;
			while (held_now)
				sched_yield();
			usleep(20000);
		}
		team_barrier(h->team, tid);
		if (i == 50 && !team_in_time(h->team, tid)) {
			team_skip_to(h->team, tid, h->place);
			break;
		}
	}
	if (tid)
		assert_true(team_in_time(h->team, tid)); /* tid 0 waits in this phase */
	/* a long phase: now it is there again */
	for (size_t i; team_take(h->team, tid, 2, &i);) {
		uint64_t start = now_ns();

		add(&h->phases[tid]);
		while (!(h->phases[0] && h->phases[1]) && now_ns() - start < 20000000000u)
			sched_yield();
	}
	team_barrier(h->team, tid);
}

static void test_catches_up(void **state)
{
	struct held h = { 0 };

	(void)state;
	release_it = false;
	assert_int_equal(team_create(2, false, &h.team, NULL), 0);
	team_run(h.team, catch_up, &h);
	assert_int_equal(h.phases[0], 1);
	assert_int_equal(h.phases[1], 1);
	team_destroy(h.team);
}

/* ---- whose core is whose ---- */

struct cores {
	struct team *team;
	bool rests;
	_Atomic uint32_t there;
	cpu_set_t before[2], after[2];
};

static void sleep_in_unit(void *arg, unsigned tid)
{
	struct cores *c = arg;

	sched_getaffinity(0, sizeof(c->before[tid]), &c->before[tid]);
	add(&c->there);
	while (c->there < 2)
		sched_yield();
	if (tid == 1) { /* inside a phase and not running, as if another program had its core */
		team_rests(c->team, tid, c->rests);
		usleep(30000);
		team_rests(c->team, tid, false);
	}
	team_barrier(c->team, tid);
}

static void where_am_i(void *arg, unsigned tid)
{
	struct cores *c = arg;

	sched_getaffinity(0, sizeof(c->after[tid]), &c->after[tid]);
	add(&c->there);
	while (c->there < 2)
		sched_yield();
	team_barrier(c->team, tid);
}

static void test_gives_its_core(void **state)
{
	cpu_set_t allowed;

	(void)state;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) || CPU_COUNT(&allowed) < 2) {
		print_message("fewer than two CPUs may be used\n");
		skip();
	}
	for (int rests = 0; rests < 2; rests++) {
		struct cores c = { .rests = rests };

		assert_int_equal(team_create(2, true, &c.team, NULL), 0);
		team_pin_caller(c.team);
		/* on a crowded machine it may have slept enough before anybody looks */
		for (int i = 0; i < 100 && !(i && (rests || team_handed_over(c.team))); i++) {
			c.there = 0;
			team_run(c.team, sleep_in_unit, &c);
		}
		c.there = 0;
		team_run(c.team, where_am_i, &c);
		assert_int_equal(CPU_COUNT(&c.after[0]), 1);
		assert_int_equal(CPU_COUNT(&c.after[1]), 1);
		assert_false(CPU_EQUAL(&c.after[0], &c.after[1]));
		if (!rests)
			assert_true(team_handed_over(c.team) > 0);
		team_destroy(c.team);
		sched_setaffinity(0, sizeof(allowed), &allowed);
	}
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
		cmocka_unit_test(test_barriers),	cmocka_unit_test(test_kinds_of_units),
		cmocka_unit_test(test_waits_for_all),	cmocka_unit_test(test_expects),
		cmocka_unit_test(test_goes_on_without), cmocka_unit_test(test_catches_up),
		cmocka_unit_test(test_gives_its_core),	cmocka_unit_test(test_refuses_none),
		cmocka_unit_test(test_shares),		cmocka_unit_test(test_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
