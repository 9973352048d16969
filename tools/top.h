/* SPDX-License-Identifier: MIT */
/*
 * tools/top.h: what `sluice top` shows, drawn from two looks at a daemon's status. Pure functions.
 */
#ifndef SLUICE_TOOLS_TOP_H
#define SLUICE_TOOLS_TOP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "uapi/sluice.h"

#define TOP_HISTORY 60 /* looks that the curve of decoded tokens goes back */

struct top_look {
	struct sluice_status_info status;
	char fallbacks[4096];
	uint64_t ns; /* when */
};

struct top {
	struct top_look before, now; /* before.ns 0: there was none */
	double decoded[TOP_HISTORY]; /* tokens per second, newest last */
	unsigned n_decoded;
};

/* Takes a new look: @t->now becomes @t->before. Counters that went back (a new daemon) begin anew. */
void top_take(struct top *t, const struct sluice_status_info *status, const char *fallbacks,
	      uint64_t ns);

/* The screen in lines of at most @columns characters that end with "\n". */
void top_draw(const struct top *t, unsigned columns, FILE *out);

/*
 * The time in ns below which the share @q of what was observed between two states of a histogram lies,
 * as the upper bound of its bucket; 0: nothing was observed; UINT64_MAX: longer than every bound.
 */
uint64_t top_quantile(const struct sluice_histogram *from, const struct sluice_histogram *to,
		      double q);

#endif
