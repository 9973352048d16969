/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/team.h: the compute threads and how they meet.
 *
 * A step is one parallel region: every thread of the team runs the same function (SPMD) with its
 * own tid (0 is the engine thread) and meets the others at barriers. A barrier spins a bounded time
 * and then sleeps on a futex, so a stalled team leaves its cores to the io thread. No locks, no
 * allocation after team_create().
 */
#ifndef SLUICE_ENGINE_TEAM_H
#define SLUICE_ENGINE_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

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

/* Pins the calling thread to the core kept for tid 0; the engine thread calls it once. */
void team_pin_caller(const struct team *t);

/* Engine thread only: runs fn(arg, tid) on every thread, tid 0 on the caller, and waits for all. */
void team_run(struct team *t, void (*fn)(void *arg, unsigned tid), void *arg);

/* Inside team_run: returns when every thread has called it. Acts as a full memory barrier. */
void team_barrier(struct team *t);

/* Thread tid's half-open share of [0, n), cut at multiples of @grain. Deterministic. */
static inline void team_share(size_t n, size_t grain, unsigned tid, unsigned n_threads,
			      size_t *ret_first, size_t *ret_end)
{
	size_t grains = n / grain + (n % grain != 0);
	size_t a = grains * tid / n_threads * grain, b = grains * (tid + 1) / n_threads * grain;

	*ret_first = a < n ? a : n;
	*ret_end = b < n ? b : n;
}

#endif
