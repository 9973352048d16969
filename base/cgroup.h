/* SPDX-License-Identifier: MIT */
/*
 * base/cgroup.h: where the control groups of this process are.
 *
 * Finds the process's own group of a controller and every level above it that can be seen, in
 * version 1, version 2 and on machines that mount both, from /proc/self/cgroup and
 * /proc/self/mountinfo. Inside a container a mount shows a part of the tree, and a namespace hides
 * the levels above it: those are left out. Reads nothing of what a level says; that is
 * base/limits.c's. Any thread; no state.
 */
#ifndef SLUICE_BASE_CGROUP_H
#define SLUICE_BASE_CGROUP_H

#include <stdbool.h>

#include "base/fs.h"

struct cgroup_level {
	const char *dir; /* its folder, without the leading slash: what fs_text() takes */
	bool v2;
};

/* False ends the walk along this mount: what is above does not count. */
typedef bool (*cgroup_level_fn)(void *arg, const struct fs *fs, const struct cgroup_level *level);

/*
 * Calls @each for every level of @controller ("memory", "cpu", "hugetlb"), the process's own group
 * first. A level of version 2 is shown for every controller: files that are not there belong to one
 * that is not enabled. Returns how many levels were shown; 0 where nothing can be known.
 */
unsigned cgroup_walk(const struct fs *fs, const char *controller, cgroup_level_fn each, void *arg);

#endif
