/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/stop.h: what ends a compilation early: whoever asked has gone, the daemon stops, or
 * it takes too long. Loops that may run long look every so many rounds, so that an end is seen within
 * a millisecond or two. Inline; any thread.
 */
#ifndef SLUICE_GRAMMAR_STOP_H
#define SLUICE_GRAMMAR_STOP_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

/* Compiling may take so long where the caller sets no other deadline. */
#define GRAMMAR_MAX_NS 5000000000u

struct grammar_stop {
	const _Atomic bool *unwanted; /* NULL: nobody takes it back */
	uint64_t deadline_ns;	      /* of now_ns(); 0: none */
};

/* Now: 0, -ECANCELED or -ETIME. NULL never stops. */
static inline int stop_now(const struct grammar_stop *stop)
{
	if (!stop)
		return 0;
	if (stop->unwanted && atomic_load_explicit(stop->unwanted, memory_order_relaxed))
		return -ECANCELED;
	return stop->deadline_ns && now_ns() > stop->deadline_ns ? -ETIME : 0;
}

/* The same every 256th time, which *rounds counts. */
static inline int stop_look(const struct grammar_stop *stop, uint32_t *rounds)
{
	return ++*rounds % 256 ? 0 : stop_now(stop);
}

#endif
