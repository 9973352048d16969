/* SPDX-License-Identifier: MIT */
/* daemon/policy/layer_time.c: see layer_time.h. */
#include "policy/layer_time.h"

#include <math.h>

static double takes_ns(double bytes, double rate)
{
	return rate > 0 ? bytes / rate * 1e9 : 0;
}

double layer_link_left(double rate, double capacity, double in_use, double ours)
{
	const double others = fmax(0, in_use - fmax(0, ours)), full = fmax(rate, capacity);

	rate = rate > 0 ? rate : capacity;
	return rate > 0 ? fmax(0.1 * rate, fmin(rate, full - others)) : 0;
}

double layer_free_fills(const struct layer_rates *r)
{
	const double rate = r->memory > 0 ? fmin(r->link, r->memory) : r->link;

	return rate > 0 ? r->fixed_ns * 1e-9 * rate : 0;
}

uint64_t layer_token_fills(const struct layer_rates *r, uint32_t layers, uint64_t most,
			   uint64_t least)
{
	const double bytes = layer_free_fills(r) * layers;

	if (bytes <= 0 || bytes >= (double)most)
		return most;
	return bytes > (double)least ? (uint64_t)bytes + 1 : least < most ? least : most;
}

double layer_time_ns(const struct layer_rates *r, const struct layer_load *l)
{
	const double fills = l->fills - fmin(l->fills, layer_free_fills(r));
	double ns = takes_ns(l->misses, r->cpu);

	ns = fmax(ns, takes_ns(l->misses + fills, r->memory));
	ns = fmax(ns, takes_ns(fills, r->link));
	ns = fmax(ns, takes_ns(l->hits, r->device));
	return r->fixed_ns + ns;
}
