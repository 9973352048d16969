/* SPDX-License-Identifier: MIT */
/* base/histogram.c: see histogram.h. */
#include "base/histogram.h"

#include <stdatomic.h>

#define MS 1000000ull
#define S  1000000000ull

const uint64_t histogram_bounds[HISTOGRAM_BOUNDS] = {
	1 * MS, 2 * MS, 5 * MS, 10 * MS, 20 * MS, 50 * MS, 100 * MS, 200 * MS, 500 * MS,
	1 * S,	2 * S,	5 * S,	10 * S,	 20 * S,  60 * S,  120 * S,  300 * S,
};

void histogram_observe(struct histogram *h, uint64_t ns)
{
	unsigned i = 0;

	while (i < HISTOGRAM_BOUNDS && ns > histogram_bounds[i])
		i++;
	atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
}

void histogram_read(const struct histogram *h, struct histogram_values *ret)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		ret->counts[i] = atomic_load_explicit(&h->counts[i], memory_order_relaxed);
	ret->sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
}
