/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/layer_time.h: how long a layer takes with a device's slots, by what its parts can do.
 *
 * A layer begins with what nobody shares: dense work, router and hand-off. The link and the memory are
 * free then, so fills that fit into it cost nothing. Then the CPU reads the misses while the device reads
 * the hits, and what is left of the fills takes its share of the memory and of the link:
 *
 *	time = fixed + max(misses / cpu, (misses + fills') / memory, fills' / link, hits / device)
 *
 * (time in seconds, rates in bytes per second; fills' are the bytes that did not fit into the fixed part).
 * The daemon (policy/fill_control.h) and the simulator (trace/sim_device.h) ask the same model. Pure; any
 * thread.
 */
#ifndef SLUICE_POLICY_LAYER_TIME_H
#define SLUICE_POLICY_LAYER_TIME_H

#include <stdint.h>

struct layer_rates {
	double fixed_ns; /* of a layer, before its experts */
	/* bytes per second; <= 0: unknown, and no bound */
	double cpu;    /* at which the CPU multiplies misses */
	double memory; /* that memory gives to us in all, others' use taken off */
	double link;   /* from memory to the device */
	double device; /* at which the device multiplies hits */
};

struct layer_load { /* bytes of a layer in a step */
	double hits, misses, fills;
};

double layer_time_ns(const struct layer_rates *r, const struct layer_load *l);

/*
 * Of a link: what is left for our fills of @rate, which is measured on them, and of @capacity, which it is said to
 * carry, where it carries @in_use and @ours of that is ours; <= 0: unknown. Never less than a tenth, so that it goes
 * on being measured. What others took while @rate was measured is not counted twice.
 */
double layer_link_left(double rate, double capacity, double in_use, double ours);

/* Bytes of fills that a layer carries for nothing: while link and memory are idle. 0: link unknown. */
double layer_free_fills(const struct layer_rates *r);

/*
 * Bytes of fills that a token may bring: what its @layers carry for nothing, @most at the most, and all of that
 * where it is not known; never less than @least, so that fills go on being measured.
 */
uint64_t layer_token_fills(const struct layer_rates *r, uint32_t layers, uint64_t most,
			   uint64_t least);

#endif
