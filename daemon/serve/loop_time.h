/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/loop_time.h: how long the main thread's loop keeps others waiting: how late it hears of the
 * engine, and how long one pass takes, with the part of it that was computing. Where both are short, what
 * a client waits for is elsewhere: its own side, or other programs on the processors. Main thread, but for
 * loop_time_woken().
 */
#ifndef SLUICE_SERVE_LOOP_TIME_H
#define SLUICE_SERVE_LOOP_TIME_H

#include <stdint.h>
#include <stdio.h>

#include "base/histogram.h"

struct loop_time {
	struct histogram passes, wakes; /* both fine ones */
	uint64_t began_ns, began_cpu_ns;
	uint64_t longest_ns,
		longest_cpu_ns;	   /* of the longest pass: all of it, and what it computed */
	_Atomic uint64_t woken_ns; /* when the loop was last told to look */
};

/* A pass begins (events are there), and ends. */
void loop_time_begin(struct loop_time *t);
void loop_time_end(struct loop_time *t);
/* Any thread: the loop is told to look; and it does. */
void loop_time_woken(struct loop_time *t);
void loop_time_looks(struct loop_time *t);

/* The series, as Prometheus text. */
void loop_time_print(FILE *out, const struct loop_time *t);

#endif
