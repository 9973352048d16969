/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/notify.h: the service manager keeps descriptors of memory for the process after this one, see
 * FileDescriptorStoreMax= in systemd.service(5); what it kept comes back through handed.h. Main thread.
 */
#ifndef SLUICE_SERVE_NOTIFY_H
#define SLUICE_SERVE_NOTIFY_H

#include <stdbool.h>

#include "store/warm.h"

/*
 * Does the environment offer to keep so many? FDSTORE is set by systemd 254 and later; before that the unit
 * sets it.
 */
bool notify_store_offered(void);

/* Has the manager keep them, by enum warm_memory, -1: none. 0 or -errno; -ENOTCONN: there is no manager. */
int notify_keep(const int fd[WARM_NR]);

/* The manager lets go of what it keeps; returns when it has, or after some seconds. @arg: nothing. */
void notify_forget(void *arg);

#endif
