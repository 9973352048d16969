/* SPDX-License-Identifier: MIT */
/*
 * tools/diskread.h: how fast the daemon's own reader reads a model's disk: random places, direct
 * reads, many in flight.
 */
#ifndef SLUICE_TOOLS_DISKREAD_H
#define SLUICE_TOOLS_DISKREAD_H

#include <stdint.h>

#include "base/err.h"

struct diskread {
	double gbs;
	uint64_t bytes;	    /* read */
	uint32_t align;	    /* of direct reads there */
	char io[16];	    /* "uring" or "pread" */
	char fallback[256]; /* why not better, or empty */
};

/*
 * @path: a GGUF file, or a directory, in which a file of half a GiB is written that has no name and
 * ends with the measurement, or with the program. Reads for about @seconds. 0, or -errno and a
 * sentence.
 */
int diskread_measure(const char *path, double seconds, struct diskread *ret, struct err *err);

#endif
