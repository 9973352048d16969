/* SPDX-License-Identifier: MIT */
/*
 * base/histogram.h: how long things took, counted in fixed buckets.
 *
 * The bounds are the same for all, in a 1-2-5 row from a millisecond to five minutes, so that any two
 * can be compared and added; a fine one has thousandths of them, for what takes microseconds. Any thread observes; a reader sees counts that only grow, not all of one
 * instant.
 */
#ifndef SLUICE_BASE_HISTOGRAM_H
#define SLUICE_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUNDS  17
#define HISTOGRAM_BUCKETS (HISTOGRAM_BOUNDS + 1) /* the last: longer than every bound */

struct histogram {
	_Atomic uint64_t counts[HISTOGRAM_BUCKETS]; /* of each bucket alone */
	_Atomic uint64_t sum_ns;
};

/* What it held at some time. */
struct histogram_values {
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t sum_ns;
};

/* Upper bounds, included, in nanoseconds. */
extern const uint64_t histogram_bounds[HISTOGRAM_BOUNDS];

void histogram_observe(struct histogram *h, uint64_t ns);
/* Into a fine one: its bounds and its sum are in HISTOGRAM_FINE-ths of those of the others. */
#define HISTOGRAM_FINE 1000
static inline void histogram_observe_fine(struct histogram *h, uint64_t ns)
{
	histogram_observe(h, ns * HISTOGRAM_FINE);
}

void histogram_read(const struct histogram *h, struct histogram_values *ret);

#endif
