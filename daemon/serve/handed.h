/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/handed.h: listening sockets that the service manager opened and handed over
 * (sd_listen_fds(3)): Unix sockets of packets are the native protocol's, streams are HTTP's. Main
 * thread.
 */
#ifndef SLUICE_SERVE_HANDED_H
#define SLUICE_SERVE_HANDED_H

#include <stdbool.h>

#include "base/err.h"

enum handed_kind { HANDED_NATIVE, HANDED_HTTP, HANDED_NR };

/*
 * Looks at what the environment says, before other descriptors are opened. 0, also where nothing was
 * handed over to this process; -EINVAL and a sentence that names a descriptor which is no listening
 * socket of either kind, or a second native one.
 */
int handed_open(struct err *err);

/* Sockets of a kind that nobody has taken. */
unsigned handed_count(enum handed_kind kind);

/* The next one, close-on-exec and without blocking, now the caller's; -1: there is none. */
int handed_take(enum handed_kind kind);

#endif
