/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/team_wait.c: how threads of a team wait for each other; see team.h.
 *
 * First by spinning, because a phase's units end within microseconds of each other and a wake-up costs
 * 5 to 200 us: for as long as spinning has lately seen the end, and the less the more often it has not.
 * Then the waiting thread looks at the processor time of the one that holds all up. If it stands
 * still, that thread has lost its core to another program, and would get it back after a slice of
 * some milliseconds: the two exchange cores, and now it is the waiting thread that has none, which
 * nobody misses. Then by a futex.
 */
#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/team_private.h"

#define SPIN_NS	   64000   /* longer than units that are about to end */
#define LOOK_NS	   30000   /* of processor time that stands still: the core is lost */
#define SWAP_NS	   300000  /* between two exchanges at least: each costs some 20 us */
#define DOZE_NS	   500000  /* until a sleeper looks again who holds it up; doubled up to: */
#define DOZE_MOST  8000000 /* where that thread really works */
#define MISSES_MAX 4

void team_know_thread(struct worker *w)
{
	if (!pthread_getcpuclockid(pthread_self(), &w->clock)) /* else nobody can look */
		atomic_store(&w->thread_id, (pid_t)syscall(SYS_gettid));
}

int team_pin(pid_t thread_id, int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(thread_id, sizeof(set), &set) ? -errno : 0;
}

bool team_set_active(struct team *t, struct worker *w, uint32_t job)
{
	atomic_store(&w->active, true);
	if (atomic_load(&t->job) == job)
		return true;
	team_set_idle(t, w);
	return false;
}

void team_set_idle(struct team *t, struct worker *w)
{
	atomic_store(&w->active, false); /* releases what it has done */
	bell_ring(&t->idle);
}

static bool others_idle(const struct team *t)
{
	for (unsigned i = 1; i < t->n; i++)
		if (atomic_load(&t->workers[i].active))
			return false;
	return true;
}

static bool is_over(const struct team *t, const struct worker *w, enum await what)
{
	uint32_t job, ahead;

	switch (what) {
	case AWAIT_TURN:
		/* past it: others may know of a phase that is not open yet, see team_skip_to() */
		ahead = word_phase(atomic_load_explicit(&t->word, memory_order_acquire)) - w->phase;
		ahead &= PHASE_MASK;
		return ahead && ahead <= PHASE_MASK / 2;
	case AWAIT_JOB:
		job = atomic_load_explicit(&t->job, memory_order_acquire);
		return (job & JOB_OPEN && job != w->job) ||
		       atomic_load_explicit(&t->stop, memory_order_acquire);
	default:
		return others_idle(t);
	}
}

/* Spins until it is over or @ns have passed. */
static bool spin(const struct team *t, const struct worker *w, enum await what, uint64_t ns)
{
	uint64_t start = 0;

	for (unsigned i = 0;; i++) {
		if (is_over(t, w, what))
			return true;
		cpu_relax();
		if (i % 32 != 31)
			continue;
		if (!start)
			start = now_ns();
		else if (now_ns() - start >= ns)
			return false;
	}
}

/* Is everybody waiting for @v? */
static bool holds_up(const struct worker *v, enum await what)
{
	if (atomic_load_explicit(&v->rests, memory_order_relaxed))
		return false;
	switch (what) {
	case AWAIT_TURN:
		return atomic_load_explicit(&v->inside, memory_order_relaxed);
	case AWAIT_JOB:
		return v->tid == 0; /* between jobs, or far behind in one */
	default:
		return atomic_load_explicit(&v->active, memory_order_relaxed);
	}
}

static uint64_t processor_ns(const struct worker *v)
{
	struct timespec ts;

	if (clock_gettime(v->clock, &ts))
		return UINT64_MAX;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void exchange(struct team *t, struct worker *w, struct worker *v)
{
	int mine, its;

	if (atomic_exchange(&t->swapping, true))
		return;
	mine = atomic_load(&w->cpu);
	its = atomic_load(&v->cpu);
	if (mine >= 0 && its >= 0 && !team_pin(atomic_load(&v->thread_id), mine)) {
		atomic_store(&v->cpu, mine);
		atomic_store(&w->cpu, its);
		atomic_fetch_add_explicit(&t->n_handed, 1, memory_order_relaxed);
		atomic_store_explicit(&t->handed_ns, now_ns(), memory_order_relaxed);
		team_pin(0, its); /* from here on others run on this core */
	}
	atomic_store(&t->swapping, false);
}

/* Gives this core to a thread that holds all up because it has none. True: it is over meanwhile. */
static bool hand_over(struct team *t, struct worker *w, enum await what)
{
	if (atomic_load(&w->cpu) < 0 ||
	    now_ns() - atomic_load_explicit(&t->handed_ns, memory_order_relaxed) < SWAP_NS)
		return false;
	for (unsigned i = 0; i < t->n; i++) {
		struct worker *v = &t->workers[i];
		uint64_t ran, start;

		if (v == w || !holds_up(v, what) || !atomic_load(&v->thread_id) ||
		    v->node != w->node || atomic_load(&v->cpu) < 0)
			continue;
		ran = processor_ns(v);
		start = now_ns();
		if (spin(t, w, what, LOOK_NS))
			return true;
		if ((processor_ns(v) - ran) * 4 >= now_ns() - start || !holds_up(v, what))
			continue;
		exchange(t, w, v);
		return false;
	}
	return false;
}

static struct bell *bell_of(struct team *t, enum await what)
{
	return what == AWAIT_TURN ? &t->turn : what == AWAIT_JOB ? &t->begun : &t->idle;
}

static void doze(struct team *t, const struct worker *w, enum await what, uint64_t ns)
{
	struct bell *b = bell_of(t, what);
	uint32_t seen;

	atomic_fetch_add(&b->sleepers, 1);
	seen = atomic_load(&b->rung);
	if (!is_over(t, w, what))
		futex_wait(&b->rung, seen, ns);
	atomic_fetch_sub(&b->sleepers, 1);
}

static void wait_long(struct team *t, struct worker *w, enum await what)
{
	uint64_t ns = DOZE_NS;

	for (unsigned looks = 0; !is_over(t, w, what); looks++) {
		/* for a job one may wait for hours: two looks are enough */
		doze(t, w, what, what == AWAIT_JOB && looks ? 0 : ns);
		if (is_over(t, w, what) || hand_over(t, w, what))
			return;
		ns = ns * 2 < DOZE_MOST ? ns * 2 : DOZE_MOST;
	}
}

static void wait(struct team *t, struct worker *w, enum await what)
{
	unsigned *misses = &w->misses[what];
	const uint64_t expect = what == AWAIT_TURN && w->tid && t->may_spin
					? atomic_load_explicit(&t->expect_ns, memory_order_relaxed)
					: 0;

	if (expect) {
		if (!spin(t, w, what, expect) && !hand_over(t, w, what))
			wait_long(t, w, what);
		return;
	}
	if (spin(t, w, what, t->may_spin ? SPIN_NS >> *misses : 0)) {
		*misses -= *misses > 0;
		return;
	}
	if (hand_over(t, w, what)) { /* a little longer would have done */
		*misses -= *misses > 0;
		return;
	}
	*misses += *misses < MISSES_MAX;
	wait_long(t, w, what);
}

void team_await(struct team *t, struct worker *w, enum await what)
{
	if (is_over(t, w, what))
		return;
	if (what != AWAIT_TURN || w->tid == 0) {
		wait(t, w, what);
		return;
	}
	/* who waits is not at work: the job may end without it */
	team_set_idle(t, w);
	wait(t, w, what);
	if (!team_set_active(t, w, w->job))
		longjmp(w->gone, 1);
}
