/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/team_private.h: what team.c (jobs, phases, units) and team_wait.c (waiting, and
 * whose core is whose) share. Nobody else includes it.
 */
#ifndef SLUICE_ENGINE_TEAM_PRIVATE_H
#define SLUICE_ENGINE_TEAM_PRIVATE_H

#include <pthread.h>
#include <setjmp.h>
#include <sys/types.h>

#include "base/futex.h"
#include "engine/team.h"
#include "engine/topology.h"

/* The phase's word: number, how many have entered and left, next unit. */
#define PHASE_BITS    28
#define PHASE_MASK    ((1u << PHASE_BITS) - 1)
#define ENTERED_SHIFT PHASE_BITS
#define LEFT_SHIFT    (PHASE_BITS + 10)
#define UNIT_SHIFT    (PHASE_BITS + 20) /* at the top: more than fits is lost, not added */
#define ENTERED_ONE   (1ull << ENTERED_SHIFT)
#define LEFT_ONE      (1ull << LEFT_SHIFT)
#define UNIT_ONE      (1ull << UNIT_SHIFT)
#define THREADS_MASK  1023u

_Static_assert(TEAM_MAX < THREADS_MASK && TEAM_UNITS + TEAM_MAX < 1 << (64 - UNIT_SHIFT),
	       "the word's fields");

#define JOB_OPEN 1u

static inline uint32_t word_phase(uint64_t word)
{
	return (uint32_t)word & PHASE_MASK;
}

static inline unsigned word_entered(uint64_t word)
{
	return (unsigned)(word >> ENTERED_SHIFT) & THREADS_MASK;
}

static inline unsigned word_left(uint64_t word)
{
	return (unsigned)(word >> LEFT_SHIFT) & THREADS_MASK;
}

/* Those who sleep until something changes, and the word that they sleep on. */
struct bell {
	_Alignas(64) _Atomic uint32_t rung;
	_Atomic uint32_t sleepers;
};

/* After the change, which was seq_cst: a sleeper is seen here, or sees the change before it sleeps. */
static inline void bell_ring(struct bell *b)
{
	if (!atomic_load(&b->sleepers))
		return;
	atomic_fetch_add(&b->rung, 1);
	futex_wake_all(&b->rung);
}

enum await {
	AWAIT_TURN, /* the phase is over */
	AWAIT_JOB,  /* there is a job, or the team is to end */
	AWAIT_IDLE, /* tid 0: nobody is at work */
	AWAIT_NR
};

struct worker {
	/* its own */
	_Alignas(64) struct team *team;
	unsigned tid;
	uint32_t job, phase, first_phase; /* first_phase: of the job */
	size_t base, unit; /* units of the phase's loops before this one; taken and not yet given */
	unsigned misses
		[AWAIT_NR]; /* waits that spinning did not see the end of, less those it did */
	jmp_buf gone;
	/* read by others */
	_Alignas(64) _Atomic bool inside; /* of a phase */
	_Atomic bool active;		  /* runs the job's function, and not waiting in it */
	_Atomic bool rests;
	_Atomic int cpu; /* that it is pinned to now, -1: none; written under team.swapping */
	/* set before the first job */
	int place, node;	 /* the core kept for it */
	clockid_t clock;	 /* of its processor time; set before: */
	_Atomic pid_t thread_id; /* 0: not known */
};

struct team {
	unsigned n;
	bool may_spin, wait_for_all;
	_Atomic uint64_t expect_ns; /* team_expect(); who is late may look at it between jobs */
	/* of the open job */
	void (*fn)(void *arg, unsigned tid);
	void *arg;
	uint32_t first_phase;
	_Alignas(64) _Atomic uint64_t word;
	_Alignas(64) _Atomic uint32_t job; /* odd: open */
	_Atomic bool stop;
	struct bell turn, begun, idle; /* the phase has turned; a job is open; a thread is idle */
	_Alignas(64) _Atomic bool swapping;
	_Atomic uint64_t n_handed, handed_ns; /* when last */
	pthread_t caller;		      /* tid 0 */
	pthread_t *threads;
	struct worker *workers;
	unsigned n_started;
};

/*
 * Returns when it is so. AWAIT_TURN returns at work; where the job was closed meanwhile it does not
 * return but jumps to w->gone.
 */
void team_await(struct team *t, struct worker *w, enum await what);

/* False: the job is closed, and the thread is idle. */
bool team_set_active(struct team *t, struct worker *w, uint32_t job);
void team_set_idle(struct team *t, struct worker *w);

/* The calling thread is @w: whom to ask of its processor time, and whom to move. */
void team_know_thread(struct worker *w);
/* @thread_id 0: the caller; cpu -1: nothing is done. 0 or -errno. */
int team_pin(pid_t thread_id, int cpu);

#endif
