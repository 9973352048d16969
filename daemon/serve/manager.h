/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/manager.h: datagrams to the service manager's socket (NOTIFY_SOCKET), see sd_notify(3). Unlike that
 * function it waits for a manager that does not read no longer than it is told to. Main thread.
 */
#ifndef SLUICE_SERVE_MANAGER_H
#define SLUICE_SERVE_MANAGER_H

/*
 * Sends @state, with the descriptor @fd (-1: none), which stays the caller's. 0 or -errno: -ENOTCONN: there is no
 * manager; -EAGAIN: it has not read for @wait_ms what lies before its door already, and @state is not sent.
 */
int manager_send(const char *state, int fd, int wait_ms);

/* Waits until the manager has read all that was sent, @wait_ms at most. 0 or -errno, -ETIMEDOUT: it has not. */
int manager_barrier(int wait_ms);

#endif
