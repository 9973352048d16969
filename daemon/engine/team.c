/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/team.c: jobs, phases and units; see team.h. How threads wait is in team_wait.c.
 *
 * One word holds the phase: its number, who has entered it, who has left it, and the next unit. A
 * thread enters only the phase that it has come to, and leaves when no unit is left to take; units
 * that were taken belong to threads that are inside. So whoever leaves last finds all done, and opens
 * the next phase. Who comes to a phase that is over does not enter: nothing that it could read then
 * is sure, and nothing is given to it.
 *
 * A job ends for the engine thread when it has come to the end and nobody else is at work. Threads
 * that were waiting at a barrier are not: they find the job closed and leave it by longjmp, since what
 * their stack refers to may be gone.
 */
#include "engine/team.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "base/num.h"
#include "engine/team_private.h"

#define PIECES	  16 /* of a range, for each thread */
#define ALL_FROM  17 /* threads: from here on everybody is waited for */
#define UNIT_NONE SIZE_MAX

static uint64_t turn_over(uint64_t word)
{
	return (word + 1) & PHASE_MASK; /* nobody inside, no unit taken */
}

static bool all_through(const struct team *t, uint64_t word)
{
	return word_left(word) == (t->wait_for_all ? t->n : word_entered(word));
}

static void enter(struct team *t, struct worker *w)
{
	uint64_t word = atomic_load_explicit(&t->word, memory_order_relaxed);

	w->base = 0;
	w->unit = UNIT_NONE;
	do {
		if (word_phase(word) != w->phase) {
			atomic_store_explicit(&w->inside, false, memory_order_relaxed);
			return;
		}
		/* acquire: what the phases before have left */
	} while (!atomic_compare_exchange_weak_explicit(
		&t->word, &word, word + ENTERED_ONE, memory_order_acq_rel, memory_order_relaxed));
	atomic_store_explicit(&w->inside, true, memory_order_relaxed);
}

static void leave(struct team *t, struct worker *w)
{
	uint64_t word = atomic_load_explicit(&t->word, memory_order_relaxed), next;
	bool turns;

	atomic_store_explicit(&w->inside, false, memory_order_relaxed);
	do {
		next = word + LEFT_ONE;
		turns = all_through(t, next);
		if (turns)
			next = turn_over(next);
		/* release: what this thread has done; seq_cst with the sleepers of the bell */
	} while (!atomic_compare_exchange_weak(&t->word, &word, next));
	if (turns)
		bell_ring(&t->turn);
}

static size_t claim(struct team *t)
{
	/* inside: the phase cannot change under this */
	return (size_t)(atomic_fetch_add_explicit(&t->word, UNIT_ONE, memory_order_relaxed) >>
			UNIT_SHIFT);
}

bool team_in_time(const struct team *t, unsigned tid)
{
	return atomic_load_explicit(&t->workers[tid].inside, memory_order_relaxed);
}

bool team_take(struct team *t, unsigned tid, size_t n, size_t *ret_unit)
{
	struct worker *w = &t->workers[tid];

	if (!team_in_time(t, tid))
		return false;
	if (w->unit == UNIT_NONE)
		w->unit = claim(t);
	assert(w->base + n <= TEAM_UNITS);
	if (w->unit >= w->base + n) {
		w->base += n;
		return false;
	}
	*ret_unit = w->unit - w->base;
	w->unit = UNIT_NONE;
	return true;
}

size_t team_given(const struct team *t, unsigned tid)
{
	const struct worker *w = &t->workers[tid];

	return team_in_time(t, tid) && w->unit != UNIT_NONE ? w->unit - w->base : SIZE_MAX;
}

bool team_take_range(struct team *t, unsigned tid, size_t n, size_t grain, size_t *ret_first,
		     size_t *ret_end)
{
	size_t grains = div_ceil(n, grain), per = div_ceil(grains, (size_t)t->n * PIECES), unit;

	per = (per ? per : 1) * grain;
	if (!team_take(t, tid, div_ceil(n, per), &unit))
		return false;
	*ret_first = unit * per;
	*ret_end = u64_min(n, (unit + 1) * per);
	return true;
}

bool team_once(struct team *t, unsigned tid)
{
	struct worker *w = &t->workers[tid];
	size_t unit;
	bool mine;

	if (t->wait_for_all)
		return tid == 0; /* it comes for sure, and a device's calls are its own */
	mine = team_take(t, tid, 1, &unit);
	if (mine)
		w->base++; /* the loop is over, as it would have been told when asking again */
	return mine;
}

static void leave_and_wait(struct team *t, struct worker *w)
{
	if (team_in_time(t, w->tid))
		leave(t, w);
	team_await(t, w, AWAIT_TURN);
}

void team_barrier(struct team *t, unsigned tid)
{
	struct worker *w = &t->workers[tid];

	leave_and_wait(t, w);
	w->phase = (w->phase + 1) & PHASE_MASK;
	enter(t, w);
}

uint64_t team_place(const struct team *t, unsigned tid)
{
	const struct worker *w = &t->workers[tid];

	return (uint64_t)w->job << 32 | ((w->phase - w->first_phase) & PHASE_MASK);
}

void team_skip_to(struct team *t, unsigned tid, uint64_t place)
{
	struct worker *w = &t->workers[tid];

	if (team_in_time(t, tid))
		return;
	/* as from the barrier before it, which the others may not have passed yet */
	w->phase = (w->first_phase + (uint32_t)place - 1) & PHASE_MASK;
	team_barrier(t, tid);
}

/* ---- jobs ---- */

/* A job begins for this thread. */
static void begin(struct team *t, struct worker *w, uint32_t job)
{
	w->job = job;
	w->phase = w->first_phase = t->first_phase;
	enter(t, w);
}

/* It has come to the end of the job's function. */
static void end(struct team *t, struct worker *w)
{
	if (t->wait_for_all) /* nobody begins the next before all have ended this one */
		leave_and_wait(t, w);
	else if (team_in_time(t, w->tid))
		leave(t, w);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct team *t = w->team;

	pthread_setname_np(pthread_self(), "sluice-worker");
	team_know_thread(w);
	team_pin(0, atomic_load(&w->cpu));
	setjmp(w->gone); /* from a barrier of a job that ended meanwhile */
	for (;;) {
		uint32_t job;

		team_await(t, w, AWAIT_JOB);
		if (atomic_load_explicit(&t->stop, memory_order_acquire))
			return NULL;
		job = atomic_load(&t->job);
		if (!(job & JOB_OPEN) || !team_set_active(t, w, job))
			continue;
		begin(t, w, job);
		t->fn(t->arg, w->tid);
		end(t, w);
		team_set_idle(t, w);
	}
}

void team_run(struct team *t, void (*fn)(void *arg, unsigned tid), void *arg)
{
	struct worker *w = &t->workers[0];

	if (!pthread_equal(t->caller, pthread_self()) || !atomic_load(&w->thread_id)) {
		t->caller = pthread_self();
		team_know_thread(w);
	}
	t->fn = fn;
	t->arg = arg;
	t->first_phase = word_phase(atomic_load(&t->word));
	atomic_fetch_add(&t->job, 1); /* open: odd */
	bell_ring(&t->begun);
	begin(t, w, atomic_load(&t->job));
	fn(arg, 0);
	end(t, w);
	/* seq_cst with team_set_active(): a thread sees the job closed, or we see it at work */
	atomic_fetch_add(&t->job, 1);
	team_await(t, w, AWAIT_IDLE);
}

unsigned team_size(const struct team *t)
{
	return t->n;
}

int team_node(const struct team *t, unsigned tid)
{
	return t->workers[tid].node;
}

bool team_has_nodes(const struct team *t)
{
	/* tids are sorted by node */
	return team_node(t, 0) != team_node(t, t->n - 1);
}

void team_expect(struct team *t, uint64_t ns)
{
	atomic_store_explicit(&t->expect_ns, ns, memory_order_relaxed);
}

void team_wait_for_all(struct team *t)
{
	t->wait_for_all = true;
}

uint64_t team_handed_over(const struct team *t)
{
	return atomic_load_explicit(&t->n_handed, memory_order_relaxed);
}

void team_rests(struct team *t, unsigned tid, bool rests)
{
	atomic_store_explicit(&t->workers[tid].rests, rests, memory_order_relaxed);
}

static int choose_cpus(struct team *t, bool pin)
{
	struct cpu_place *places = calloc(t->n, sizeof(*places));
	bool enough;

	if (!places)
		return -ENOMEM;
	enough = !topology_choose(t->n, places);
	t->may_spin = enough; /* else a spinner would keep the one it waits for from running */
	for (unsigned i = 0; i < t->n; i++) {
		struct worker *w = &t->workers[i];

		w->node = pin && enough ? places[i].node : -1;
		w->place = pin && enough ? places[i].cpu : -1;
		atomic_init(&w->cpu, i ? w->place : -1); /* tid 0: team_pin_caller() */
	}
	free(places);
	return 0;
}

static struct team *allocate(unsigned n)
{
	struct team *t = aligned_alloc(64, align_up(sizeof(*t), 64));

	if (!t)
		return NULL;
	memset(t, 0, sizeof(*t));
	t->n = n;
	t->workers = aligned_alloc(64, n * sizeof(*t->workers)); /* whole lines each */
	t->threads = calloc(n, sizeof(*t->threads));
	if (t->workers)
		memset(t->workers, 0, n * sizeof(*t->workers));
	if (t->workers && t->threads)
		return t;
	free(t->workers);
	free(t->threads);
	free(t);
	return NULL;
}

static int start(struct team *t, unsigned tid, struct err *err)
{
	int rc = pthread_create(&t->threads[tid], NULL, worker_main, &t->workers[tid]);

	if (rc)
		return err_set(err, -rc, "thread %u of %u: %s", tid, t->n, strerror(rc));
	t->n_started++;
	return 0;
}

int team_create(unsigned n, bool pin, struct team **ret, struct err *err)
{
	struct team *t;
	int rc = 0;

	if (n < 1 || n > TEAM_MAX)
		return err_set(err, -EINVAL, "threads: %u is not between 1 and %d", n, TEAM_MAX);
	t = allocate(n);
	if (!t || choose_cpus(t, pin)) {
		team_destroy(t);
		return err_set(err, -ENOMEM, "no memory for %u threads", n);
	}
	t->wait_for_all = n >= ALL_FROM || team_has_nodes(t);
	for (unsigned i = 0; i < n; i++) {
		t->workers[i].team = t;
		t->workers[i].tid = i;
	}
	for (unsigned i = 1; i < n && !rc; i++)
		rc = start(t, i, err);
	if (rc) {
		team_destroy(t);
		return rc;
	}
	*ret = t;
	return 0;
}

void team_pin_caller(struct team *t)
{
	struct worker *w = &t->workers[0];

	t->caller = pthread_self();
	team_know_thread(w);
	atomic_store(&w->cpu, w->place);
	team_pin(0, w->place);
}

void team_destroy(struct team *t)
{
	if (!t)
		return;
	atomic_store(&t->stop, true);
	bell_ring(&t->begun);
	for (unsigned i = 1; i <= t->n_started; i++)
		pthread_join(t->threads[i], NULL);
	free(t->threads);
	free(t->workers);
	free(t);
}
