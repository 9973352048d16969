/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/topology.h: which CPUs the compute threads sit on, and which NUMA node is theirs.
 *
 * Threads are spread evenly over the nodes (every node's memory controllers are to work), one per
 * physical core before a second on any, and numbered node by node, so that shares of consecutive
 * rows belong to one node. Reads sysfs once, at start; no state.
 */
#ifndef SLUICE_ENGINE_TOPOLOGY_H
#define SLUICE_ENGINE_TOPOLOGY_H

struct cpu_place {
	int cpu;  /* -1: not pinned */
	int node; /* -1: unknown, or not pinned */
};

/* Physical cores among the CPUs of the affinity, at least 1. Quotas: base/limits.h. */
unsigned topology_cores(void);

/* Places for @n threads; 0, or -ENOSPC where fewer CPUs than that are allowed (all set to -1). */
int topology_choose(unsigned n, struct cpu_place *ret);

#endif
