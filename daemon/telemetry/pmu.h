/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/pmu.h: which hardware counters tell the traffic of this machine's memory
 * controllers, and how they are encoded. Reads sysfs only: opens no counter. Used by perf.c and by
 * module.c, which hands the same encodings to the kernel module. Any thread.
 */
#ifndef SLUICE_TELEMETRY_PMU_H
#define SLUICE_TELEMETRY_PMU_H

#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"
#include "telemetry/telemetry.h"

struct pmu_counter {
	uint32_t type, cpu; /* perf_event_attr.type, and the CPU it is read on */
	uint64_t config, config1, config2;
	uint64_t bytes_per_count;
	enum telemetry_kind kind;
	int socket;
	char name[64]; /* "uncore_imc_3/cas_count_read", for messages */
};

/*
 * All counters that together make the traffic of every socket, at most @room. Returns how many, 0
 * with a sentence in @why: there are none, or the machine's are not known to us. -E2BIG: more than
 * @room (a part would look like less traffic, so none are used).
 */
int pmu_find(const struct fs *fs, struct pmu_counter *ret, uint32_t room, struct err *why);

/*
 * "event=0x04,umask=0x03" by the PMU's format folder into config words. @dir is the PMU's folder.
 * 0, or -EINVAL for a term that the format does not have or a value too large for its bits.
 */
int pmu_encode(const struct fs *fs, const char *dir, const char *terms, uint64_t config[3]);

/* Bytes for one count from an event's .scale and .unit texts; 0: not a whole number of bytes. */
uint64_t pmu_bytes_per_count(const char *scale, const char *unit);

#endif
