/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/perf.h: perf_event_open(2) behind a seam, so that tests count without hardware.
 */
#ifndef SLUICE_TELEMETRY_PERF_H
#define SLUICE_TELEMETRY_PERF_H

#include <stdint.h>

#include "telemetry/pmu.h"

/* What a counter says: raw, as the kernel returns it. */
struct perf_value {
	uint64_t count, enabled_ns, running_ns;
};

/* One thread at a time. Numbers from open() are >= 0 and given back to close(). */
struct telemetry_perf_ops {
	int (*open)(void *arg, const struct pmu_counter *counter); /* or -errno */
	int (*read)(void *arg, int fd, struct perf_value *ret);	   /* 0 or -errno */
	void (*close)(void *arg, int fd);
	void *arg;
};

#endif
