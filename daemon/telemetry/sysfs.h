/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/sysfs.h: the parts of the sysfs source, and the looks at the machine that the
 * other sources share (which PCI functions matter, which socket a CPU is on). Internal to the room.
 */
#ifndef SLUICE_TELEMETRY_SYSFS_H
#define SLUICE_TELEMETRY_SYSFS_H

#include <stdint.h>

#include "base/fs.h"
#include "telemetry/telemetry.h"

_Static_assert(FS_UNKNOWN == TELEMETRY_UNKNOWN, "a file that says nothing is an unknown value");

#define SYSFS_PCI_DEPTH 16

/* A PCI function and the bridges above it, as found: [0] is nearest to the root. */
struct sysfs_path {
	char bdf[SYSFS_PCI_DEPTH][16];
	uint32_t n;
};

/* Nodes: which there are, their CPUs, sockets, distances, HMAT. Keeps values of nodes it knows. */
void sysfs_node_topology(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now);

/* Bytes of every node in @s. */
void sysfs_node_memory(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now);

/* Hugepages and NUMA counters of every node in @s. */
void sysfs_node_slow(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now);

/* Package of a CPU, or -1. */
int sysfs_cpu_socket(const struct fs *fs, unsigned cpu);

/* The functions worth looking at, most interesting first (GPUs, accelerators, storage, network), at
 * most @room. Returns how many; *ret_more says whether there were others. */
uint32_t sysfs_pci_find(const struct fs *fs, char (*bdf)[16], uint32_t room, bool *ret_more);

/* The way from the root to @bdf; n = 0: not known. */
void sysfs_pci_path(const struct fs *fs, const char *bdf, struct sysfs_path *ret);

/* One function: constant values and links as they are now. A sleeping one keeps its last links. */
void sysfs_pci_constant(const struct fs *fs, const struct sysfs_path *path,
			struct telemetry_pci *p);
void sysfs_pci_links(const struct fs *fs, const struct sysfs_path *path, struct telemetry_pci *p);

/* Whole disks of /proc/diskstats. @buf is scratch memory. */
void sysfs_disks(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now, char *buf,
		 size_t room);

void sysfs_pressure(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now);

#endif
