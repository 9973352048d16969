/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/attach.h: a second server in the loop of serve.c, which has its own connections and
 * reads and writes them itself (http.c: libmicrohttpd does). It shares sessions with the first: what
 * clients may ask and hear is decided in session.c for both. serve.c knows only this, so it links
 * without the other. Main thread.
 */
#ifndef SLUICE_SERVE_ATTACH_H
#define SLUICE_SERVE_ATTACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "serve/conn.h"

/* A descriptor in the loop's epoll set: event data points to this. */
struct source_fd {
	enum source source;				     /* SOURCE_OTHER */
	void (*event)(struct source_fd *f, uint32_t events); /* must not free what others of the
							      * same batch may point to */
};

struct attachment {
	/* After each batch of events: does all that can be done now. May free. */
	void (*pump)(struct attachment *a);
	/* ms until it wants pump() without an event, -1: none. */
	int (*timeout_ms)(struct attachment *a);
	/* Takes no new connections and requests; those that run go on. */
	void (*quiet)(struct attachment *a);
	/* Is a request open, or an answer not yet taken? */
	bool (*busy)(const struct attachment *a);
	/*
	 * A client of the first server (user @uid) is to be served by this one on @fd, a connected
	 * stream socket: 0, or an enum sluice_error_code and a sentence. @fd is taken over in any case.
	 */
	int (*adopt)(struct attachment *a, int fd, uid_t uid, struct err *err);
	uint32_t drain_ms; /* how long its open requests may go on at SIGTERM */
};

/* At most one, before serve_run(); NULL takes it away. Borrowed. */
void serve_attach(struct serve *s, struct attachment *a);

#endif
