/* SPDX-License-Identifier: MIT */
/*
 * base/limits.h: what this process may use of the machine: the one place that reads it.
 *
 * Memory: what the kernel says is available, or the room that is left in a control group of this
 * process or in any group above it, whichever is less. Page cache that a group can give back counts
 * as room. CPUs: those that the process may run on, or the quota of its control groups, whichever is
 * less. Huge pages: the pool of 2 MiB pages and the control groups' bound on them.
 *
 * What cannot be read is unknown, never 0. Changes nothing. Any thread; no state: every call reads
 * anew, which costs some twenty small files.
 */
#ifndef SLUICE_BASE_LIMITS_H
#define SLUICE_BASE_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#define LIMITS_UNKNOWN	 UINT64_MAX
#define LIMITS_HUGE_PAGE (2ull << 20) /* bytes of the huge pages that are looked at */

struct limits {
	/* bytes; LIMITS_UNKNOWN where the kernel does not say */
	uint64_t machine_bytes;	  /* memory of the machine */
	uint64_t available_bytes; /* of it, what programs may still take */
	uint64_t limit_bytes;	  /* the least of the machine's and the groups' limits */
	uint64_t room_bytes;	  /* what this process may still take */
	/* who says room_bytes: "machine", "cgroup /sys/fs/cgroup/...", or "unknown" */
	char memory_from[512];

	/* pages of LIMITS_HUGE_PAGE: zeros where the kernel has no such pool */
	bool huge_pool;	     /* it has one, empty or not */
	uint64_t huge_total; /* nr_hugepages, the pages lent beyond it included */
	uint64_t huge_free;  /* free and promised to nobody */
	/* bytes of them that the control groups allow, LIMITS_UNKNOWN: no bound. Under a bound even
	 * a page that was reserved may be refused, by SIGBUS, when it is touched. */
	uint64_t huge_room_bytes;

	unsigned allowed_cpus;	  /* by affinity (a cpuset included); 0: unknown */
	uint64_t quota_millicpus; /* 1500: one and a half CPUs; LIMITS_UNKNOWN: no quota */
	unsigned cpus;		  /* of both the less, rounded down, at least 1 */
	char cpus_from[512];	  /* "affinity" or "quota of cgroup /sys/fs/cgroup/..." */
};

/*
 * Fills *ret. @root: a folder that holds a copy of /sys and /proc (tests), NULL: the machine's own.
 * CPUs by affinity are always those of the calling thread. Cannot fail: see LIMITS_UNKNOWN.
 */
void limits_read(const char *root, struct limits *ret);

/* Bytes of free 2 MiB pages that this process may take. */
uint64_t limits_huge_bytes(const struct limits *l);

/*
 * What to go by where room_bytes is unknown: half of the memory that the kernel counts as free
 * without /proc (sysinfo(2)), at most LIMITS_ASSUME_MOST, since a control group may bound it
 * unseen.
 */
uint64_t limits_assume_bytes(void);
#define LIMITS_ASSUME_MOST (4ull << 30)

#endif
