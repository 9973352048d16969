/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/peaks.h: what `sluice doctor --json` measured on this machine, read back.
 *
 * The daemon does not measure at start: it would cost seconds and disturb whoever else is there. An
 * operator measures once and names the file (`sluiced --peaks FILE`). Any thread.
 */
#ifndef SLUICE_TELEMETRY_PEAKS_H
#define SLUICE_TELEMETRY_PEAKS_H

#include "telemetry/telemetry.h"

/*
 * Reads nodes[].{id, read_bytes_per_s} of the file into @ret, at most @max entries; nodes without a
 * figure are left out, and a file of one node may give mem_read_gbs alone. Returns their number, or
 * -errno with a sentence that names the file.
 */
int telemetry_load_peaks(const char *path, struct telemetry_peak *ret, unsigned max,
			 struct err *err);

#endif
