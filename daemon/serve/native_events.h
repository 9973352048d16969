/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/native_events.h: messages of the native protocol to a client. Main thread. A client that
 * takes none is dropped; nothing is returned.
 */
#ifndef SLUICE_SERVE_NATIVE_EVENTS_H
#define SLUICE_SERVE_NATIVE_EVENTS_H

#include <stdint.h>

struct conn;
struct event;

/* Sends or queues a message. Takes over @fd (-1: none); a long payload travels in a memfd. */
void native_send(struct conn *c, uint16_t type, uint64_t id, const void *fixed, const void *payload,
		 uint64_t payload_bytes, int fd);

/* ERROR; the connection ends where the code says so. */
void native_fail(struct conn *c, uint64_t id, int code, const char *text);

/* The message for @e. */
void native_render(struct conn *c, struct event *e);

#endif
