/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/handed.h: what the service manager hands over (sd_listen_fds(3)): listening sockets that it
 * opened, Unix sockets of packets for the native protocol and streams for HTTP; and, by their names, the
 * memory that a process before this one had it keep (store/warm.h). Main thread.
 */
#ifndef SLUICE_SERVE_HANDED_H
#define SLUICE_SERVE_HANDED_H

#include <stdbool.h>

#include "base/err.h"
#include "store/warm.h"

enum handed_kind { HANDED_NATIVE, HANDED_HTTP, HANDED_NR };

/*
 * Looks at what the environment says, before other descriptors are opened. 0, also where nothing was
 * handed over to this process; -EINVAL and a sentence that names a descriptor which is no listening
 * socket of either kind, or a second native one.
 */
int handed_open(struct err *err);

/*
 * What was handed over under the names of warm_name(), into ret_fd by enum warm_memory, -1 where there is none:
 * the caller's from now on, and may be anything. Two of a name: the second is closed, and *ret_wrong says so
 * (else NULL). Returns whether there was any.
 */
bool handed_memory(int ret_fd[WARM_NR], const char **ret_wrong);

/* Sockets of a kind that nobody has taken. */
unsigned handed_count(enum handed_kind kind);

/* Where the native one lies, also when it is taken; NULL: there is none, or it has no path. Lives on. */
const char *handed_native_path(void);

/* The next one, close-on-exec and without blocking, now the caller's; -1: there is none. */
int handed_take(enum handed_kind kind);

#endif
