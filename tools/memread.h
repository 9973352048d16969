/* SPDX-License-Identifier: MIT */
/*
 * tools/memread.h: how fast this machine reads memory: every core streams through memory of its
 * own with the widest loads that it has. What a decoder can at best get; and how many products it can
 * make of bytes, which is the same for prefill.
 */
#ifndef SLUICE_TOOLS_MEMREAD_H
#define SLUICE_TOOLS_MEMREAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MEMREAD_MAX_CORES 1024

/* The processor as the kernel calls it, or "unknown". */
void memread_cpu_name(char *buf, size_t len);

/* One CPU number for each core that this process may use (of two hyperthreads one): how many. */
unsigned memread_cores(unsigned *ret_cpus, unsigned room);

/*
 * Reads @bytes_per_core on each of @n cpus over and over for about @seconds. 0 and the best rate of
 * several rounds in 10^9 bytes per second; or -errno and a sentence.
 */
int memread_measure(const unsigned *cpus, unsigned n, uint64_t bytes_per_core, double seconds,
		    double *ret_gbs, struct err *err);

/*
 * The same of multiply-adds of bytes that lie in the first cache level, by the instructions that the
 * fastest CPU level here multiplies with: 10^9 per second of all @n cpus.
 */
int memread_multiply(const unsigned *cpus, unsigned n, double seconds, double *ret_gmadds,
		     struct err *err);

#endif
