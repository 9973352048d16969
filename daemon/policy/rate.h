/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/rate.h: a bound on bytes per second, for moves that nobody waits for.
 *
 * A bucket that fills at the rate and holds a quarter of a second of it, at least one move: what
 * was not used for long does not turn into a burst that delays those who wait. Pure arithmetic on
 * the time that the caller hands in; the engine's thread.
 */
#ifndef SLUICE_POLICY_RATE_H
#define SLUICE_POLICY_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct byte_rate {
	uint64_t bytes_per_s; /* 0: no bound */
	uint64_t last_ns;     /* when the bucket was looked at last; 0: never, it is full */
	double bytes;	      /* in the bucket; below 0 after a move larger than it */
};

/* A full bucket. */
static inline struct byte_rate rate_make(uint64_t bytes_per_s)
{
	return (struct byte_rate){ .bytes_per_s = bytes_per_s };
}

/* May @bytes be moved now? Takes them out of the bucket if so. @now_ns never falls. */
bool rate_take(struct byte_rate *b, uint64_t now_ns, uint64_t bytes);

/* Nanoseconds until rate_take() can say yes, 0 where it would now. */
uint64_t rate_wait_ns(const struct byte_rate *b, uint64_t now_ns);

#endif
