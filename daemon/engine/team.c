/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/team.c: see team.h.
 *
 * One central barrier: the last to arrive opens the next phase. At the thread counts of one socket
 * its cost (a few hundred nanoseconds) is small beside a layer. Waiting is spin first, because a
 * layer's parts end within microseconds of each other and a futex wake-up costs 5-200 us; then
 * futex, because while experts come from disk the cores are worth more to the io thread.
 */
#include "engine/team.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"
#include "engine/topology.h"

#define SPIN_NS 150000 /* longer than any imbalance between threads that are really running */

struct team {
	unsigned n;
	uint64_t spin_ns;
	void (*fn)(void *arg, unsigned tid); /* published by `job` */
	void *arg;
	_Alignas(64) _Atomic uint32_t job; /* odd-even counter: a new value is a new job */
	_Atomic bool stop;
	_Alignas(64) _Atomic uint32_t arrived;
	_Alignas(64) _Atomic uint32_t phase;
	_Atomic uint32_t sleepers; /* how many wait in futex on phase or job */
	pthread_t *threads;
	struct worker {
		struct team *team;
		unsigned tid;
		struct cpu_place place;
	} * workers;
	unsigned n_started;
};

/* Returns once *word != seen. Acquire: pairs with the release store of whoever changed it. */
static void wait_change(struct team *t, _Atomic uint32_t *word, uint32_t seen)
{
	uint64_t deadline = 0;

	for (unsigned i = 0;; i++) {
		if (atomic_load_explicit(word, memory_order_acquire) != seen)
			return;
		cpu_relax();
		if (i % 64 != 63)
			continue;
		if (!deadline)
			deadline = now_ns() + t->spin_ns;
		else if (now_ns() >= deadline)
			break;
	}
	/* seq_cst on sleepers and on the word: either the waker sees us or we see the new value */
	atomic_fetch_add(&t->sleepers, 1);
	while (atomic_load(word) == seen)
		futex_wait(word, seen, 0);
	atomic_fetch_sub(&t->sleepers, 1);
}

static void change(struct team *t, _Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	if (atomic_load(&t->sleepers))
		futex_wake_all(word);
}

void team_barrier(struct team *t)
{
	uint32_t phase;

	if (t->n == 1)
		return;
	phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
	if (atomic_fetch_add(&t->arrived, 1) + 1 == t->n) {
		atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
		change(t, &t->phase);
	} else {
		wait_change(t, &t->phase, phase);
	}
}

static void pin_to(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct team *t = w->team;
	uint32_t seen = 0;

	pthread_setname_np(pthread_self(), "sluice-worker");
	pin_to(w->place.cpu);
	for (;;) {
		wait_change(t, &t->job, seen);
		seen = atomic_load_explicit(&t->job, memory_order_acquire);
		if (atomic_load_explicit(&t->stop, memory_order_acquire))
			return NULL;
		t->fn(t->arg, w->tid);
		team_barrier(t);
	}
}

void team_run(struct team *t, void (*fn)(void *arg, unsigned tid), void *arg)
{
	if (t->n == 1) {
		fn(arg, 0);
		return;
	}
	t->fn = fn;
	t->arg = arg;
	change(t, &t->job);
	fn(arg, 0);
	team_barrier(t);
}

unsigned team_size(const struct team *t)
{
	return t->n;
}

static int choose_cpus(struct team *t, bool pin)
{
	struct cpu_place *places = calloc(t->n, sizeof(*places));
	bool enough;

	if (!places)
		return -ENOMEM;
	enough = !topology_choose(t->n, places);
	if (!enough)
		t->spin_ns = 0; /* a spinning thread would keep the one it waits for from running */
	for (unsigned i = 0; i < t->n; i++)
		t->workers[i].place = pin && enough ? places[i]
						    : (struct cpu_place){ .cpu = -1, .node = -1 };
	free(places);
	return 0;
}

int team_node(const struct team *t, unsigned tid)
{
	return t->workers[tid].place.node;
}

int team_create(unsigned n, bool pin, struct team **ret, struct err *err)
{
	struct team *t;

	if (n < 1 || n > 1024)
		return err_set(err, -EINVAL, "threads: %u is not between 1 and 1024", n);
	t = aligned_alloc(64, align_up(sizeof(*t), 64));
	if (!t)
		return err_set(err, -ENOMEM, "no memory for %u threads", n);
	memset(t, 0, sizeof(*t));
	t->n = n;
	t->spin_ns = SPIN_NS;
	t->workers = calloc(n, sizeof(*t->workers));
	t->threads = calloc(n, sizeof(*t->threads));
	if (!t->workers || !t->threads || choose_cpus(t, pin)) {
		team_destroy(t);
		return err_set(err, -ENOMEM, "no memory for %u threads", n);
	}
	for (unsigned i = 1; i < n; i++) {
		int rc;

		t->workers[i].team = t;
		t->workers[i].tid = i;
		rc = pthread_create(&t->threads[i], NULL, worker_main, &t->workers[i]);
		if (rc) {
			team_destroy(t);
			return err_set(err, -rc, "thread %u of %u: %s", i, n, strerror(rc));
		}
		t->n_started++;
	}
	*ret = t;
	return 0;
}

void team_pin_caller(const struct team *t)
{
	pin_to(t->workers[0].place.cpu);
}

void team_destroy(struct team *t)
{
	if (!t)
		return;
	atomic_store(&t->stop, true);
	change(t, &t->job);
	for (unsigned i = 1; i <= t->n_started; i++)
		pthread_join(t->threads[i], NULL);
	free(t->threads);
	free(t->workers);
	free(t);
}
