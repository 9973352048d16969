/* SPDX-License-Identifier: MIT */
/*
 * tools/device_shown.h: what a daemon says of its device, in the words and numbers that `sluice status`, `bench`
 * and `doctor` share. Pure but for printing on stdout. One thread.
 */
#ifndef SLUICE_TOOLS_DEVICE_SHOWN_H
#define SLUICE_TOOLS_DEVICE_SHOWN_H

#include <jansson.h>
#include <stdbool.h>

#include "uapi/sluice_status.h"

/* The parts of a status that are about the device; name "": there is none. */
struct device_seen {
	struct sluice_status_device device;
	struct sluice_status_device_fills fills;
	struct sluice_status_device_use use;
};

void device_seen_take(const struct sluice_status_info *s, struct device_seen *ret);
/* What was counted between two statuses is added to @sum's counters; all else is as it is now. */
void device_seen_add(struct device_seen *sum, const struct sluice_status_info *before,
		     const struct sluice_status_info *now);

/* Shares, 1e9 bytes a second, microseconds of a layer; < 0: nothing was counted. */
double device_seen_hit_rate(const struct device_seen *d);
double device_seen_link_gbs(const struct device_seen *d);
double device_seen_handoff_us(const struct device_seen *d);
/* Of the time in which the device was at hits or the host at misses: both were. */
double device_seen_overlap(const struct device_seen *d);

/* null without a device. New reference. */
json_t *device_seen_json(const struct device_seen *d);
/* @label, then further lines under it; nothing without a device. */
void device_seen_print(const char *label, const struct device_seen *d);

#endif
