/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/fill_pace.h: how often a slot of host memory is filled while somebody computes.
 *
 * A read itself costs a step next to nothing. What costs is that nobody has touched the slot's pages before: the
 * kernel clears them in the thread that begins the read, and where the machine is virtual the host may have to
 * find each of them first, which was measured as 4.4 ms for 2 MiB instead of 0.2. That thread takes
 * a processor from those who compute. So this is told what processor time fills took, and lets the next begin
 * when FILL_REST times that has passed since the last did, or FILL_REST_MOST_NS, if that is sooner: the
 * fill of all slots must end, however dear each is.
 * Pure: the caller hands in both clocks; the engine's thread.
 */
#ifndef SLUICE_POLICY_FILL_PACE_H
#define SLUICE_POLICY_FILL_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define FILL_REST	  10
#define FILL_REST_MOST_NS 100000000

struct fill_pace {
	uint64_t spent_ns; /* processor time of fills that rests were taken for */
	uint64_t until_ns; /* of the rest; without one, when the last fill began */
};

/* Steps begin at @now_ns after a time in which nobody computed: what fills took meanwhile is no debt. */
static inline void fill_pace_begin(struct fill_pace *p, uint64_t now_ns, uint64_t spent_ns)
{
	*p = (struct fill_pace){ .spent_ns = spent_ns, .until_ns = now_ns };
}

/* May a fill begin beside the step that begins at @now_ns? @spent_ns: what all fills took; only grows. */
bool fill_pace_may(struct fill_pace *p, uint64_t now_ns, uint64_t spent_ns);

#endif
