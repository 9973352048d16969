/* SPDX-License-Identifier: MIT */
/*
 * tools/trace.h: the parts of `sluice trace`. Private to tools/trace*.c. One thread.
 */
#ifndef SLUICE_TOOLS_TRACE_H
#define SLUICE_TOOLS_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/layer_time.h"
#include "policy/predict.h"
#include "trace/read.h"

#define TRACE_STDIN "/dev/stdin" /* the path that stands for - */

struct trace_args {
	const char *policy;	       /* "lfu,lru", NULL: the usual ones */
	const char *share;	       /* "6,12.5", percent */
	uint64_t budget;	       /* bytes, 0: by slots or share */
	uint32_t slots;		       /* 0: by share */
	struct predict_choice predict; /* OFF, or an oracle without a file */
	float device_fills;	       /* > 0: the slots are a device's */
	struct layer_rates device;     /* link > 0: it has time */
	bool fill, json, help;
	bool policy_given, slots_given, share_given, budget_given, predict_given, device_given,
		time_given;
};

/* `sluice trace stats` and `sluice trace sim`: print and return the exit status. */
int trace_stats(const struct route_trace *t, const char *path, const struct trace_args *args);
int trace_sim(const struct route_trace *t, const char *path, const struct trace_args *args);

/* How often each expert was used, from rows and frequencies alike: n_layers * n_expert numbers in
 * no unit but comparable. The caller frees; NULL: out of memory. */
double *trace_count_uses(const struct route_trace *t);

#endif
