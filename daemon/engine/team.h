/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/team.h: the compute threads, what they do together, and how they meet.
 *
 * A step is one job: every thread of the team runs the same function with its own tid (0 is the
 * engine thread). Barriers cut a job into phases. All the work of a phase is in units that threads
 * take from a common counter, so that any of them can do all of it, and a phase ends when its units
 * are done, not when everybody has come: who lost its core to another program is not waited for. It
 * catches up by running through the phases that are over, in which it is given no unit.
 *
 * From that follow the rules for a job. Every thread makes the same calls in the same order, whatever
 * it was given; what they depend on must not change while the job runs, or be read by who is in time
 * only (team_in_time()). Everything else is done in a unit. What one phase leaves, the next finds.
 *
 * A thread that lost its core in the middle of a unit is waited for, but the first to wait long gives
 * it its own core. Waiting spins for about as long as it has lately been worth, then sleeps on a
 * futex, so that a stalled team leaves its cores to the io thread. No locks, no allocation after
 * team_create().
 *
 * A barrier costs some microseconds, more with many threads. What little comes after the units of a phase is
 * therefore done by the unit that makes it possible: who does the last part of something (team_last()).
 */
#ifndef SLUICE_ENGINE_TEAM_H
#define SLUICE_ENGINE_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TEAM_MAX   1000	 /* threads */
#define TEAM_UNITS 60000 /* of a phase, at most */

struct team;

/*
 * @n >= 1 compute threads, the caller's included: n - 1 are started and sleep. Threads are pinned
 * one per allowed CPU (topology.h) when @pin and n does not exceed the CPUs allowed. 0 or -errno.
 */
int team_create(unsigned n, bool pin, struct team **ret, struct err *err);
void team_destroy(struct team *t); /* NULL is fine */

unsigned team_size(const struct team *t);

/* The NUMA node that thread tid is pinned to, -1: not pinned. tids of a node are neighbours. */
int team_node(const struct team *t, unsigned tid);

/* Are threads pinned to more than one node? */
bool team_has_nodes(const struct team *t);

/* Pins the calling thread to the core kept for tid 0; the engine thread calls it once. */
void team_pin_caller(struct team *t);

/*
 * Everybody is waited for at every barrier, and then tid 0 may be the one who works, as team_once() has it:
 * for a device, whose calls belong to one thread. So it is in any case for threads on several nodes, whose
 * rows are theirs, and for large teams, where one thread's part is small. Between jobs.
 */
void team_wait_for_all(struct team *t);

/*
 * In the jobs that follow threads other than tid 0 spin at a barrier for @ns before they sleep, whether spinning has
 * been worth it or not: tid 0 waits for something that takes about that long in every phase, and a wake-up each
 * time would cost more. 0: as ever. Engine thread, between jobs.
 */
void team_expect(struct team *t, uint64_t ns);

/* Engine thread only: runs fn(arg, tid) on every thread, tid 0 on the caller; returns when all is done. */
void team_run(struct team *t, void (*fn)(void *arg, unsigned tid), void *arg);

/* How often a thread got the core of one that waited for it. Any thread. */
uint64_t team_handed_over(const struct team *t);

/*
 * Thread @tid waits for something that is no thread of the team, until it says false: nobody need
 * give it a core. tid 0 may say so outside of jobs. Own thread.
 */
void team_rests(struct team *t, unsigned tid, bool rests);

/* ---- inside a job, by every thread ---- */

/*
 * for (size_t i; team_take(t, tid, n, &i);): gives each of the units [0, n) to one thread. The loop
 * must run to its end. What was done by a unit is there for all after the next barrier; it may still be
 * worked on when the next one is asked for.
 */
bool team_take(struct team *t, unsigned tid, size_t n, size_t *ret_unit);

/*
 * After a loop over units: which unit of the loop that comes next in this phase this thread has been given,
 * should it have so many; SIZE_MAX: none. A hint of what it will do.
 */
size_t team_given(const struct team *t, unsigned tid);

/* As team_take() with pieces [*ret_first, *ret_end) of [0, n), cut at multiples of @grain. */
bool team_take_range(struct team *t, unsigned tid, size_t n, size_t grain, size_t *ret_first,
		     size_t *ret_end);

/*
 * if (team_once(t, tid)): true for one thread, whichever comes first; for tid 0 where everybody is waited
 * for.
 */
bool team_once(struct team *t, unsigned tid);

/*
 * In a unit: @n more of the @all parts of something are done. True for the thread that does the last, which finds
 * what the others have left and may go on from there in the same phase. *done is 0 before and after.
 */
static inline bool team_last(_Atomic uint32_t *done, size_t n, size_t all)
{
	/* release: what this thread has done; acquire: what those before have */
	if (atomic_fetch_add_explicit(done, (uint32_t)n, memory_order_acq_rel) + n < all)
		return false;
	atomic_store_explicit(done, 0, memory_order_relaxed); /* the next barrier publishes it */
	return true;
}

/* Is the phase that this thread is in still going on? It cannot end before the thread's next barrier. */
bool team_in_time(const struct team *t, unsigned tid);

/* Ends the phase for this thread. Returns when all its units are done. A full memory barrier. */
void team_barrier(struct team *t, unsigned tid);

/*
 * Where this thread is: the job in the upper half, in the lower the number of barriers that it has
 * passed in it. For decisions that are left for who comes late (team_skip_to()).
 */
uint64_t team_place(const struct team *t, unsigned tid);
/* A thread that is late goes on at @place of the same job, behind a barrier that others come to. */
void team_skip_to(struct team *t, unsigned tid, uint64_t place);

/* Thread tid's half-open share of [0, n), cut at multiples of @grain: what lies on its node. */
static inline void team_share(size_t n, size_t grain, unsigned tid, unsigned n_threads,
			      size_t *ret_first, size_t *ret_end)
{
	size_t grains = n / grain + (n % grain != 0);
	size_t a = grains * tid / n_threads * grain, b = grains * (tid + 1) / n_threads * grain;

	*ret_first = a < n ? a : n;
	*ret_end = b < n ? b : n;
}

#endif
