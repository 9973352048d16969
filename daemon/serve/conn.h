/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/conn.h: a client's connection: a descriptor in the loop, a session, a bounded queue of
 * what the descriptor did not take, deadlines. What the bytes mean is the transport's.
 *
 * Out: a packet is tried at once; what the socket does not take is queued. While anything is queued
 * the session is not asked for more (its buffers hold it) and nothing new is read, so the queue
 * stays at a few packets. A queue that does not move for stall_ms ends the connection. A connection
 * that ends ends its session. Main thread. Frees nothing while a batch of events is handled:
 * conn_sweep() does that after it.
 */
#ifndef SLUICE_SERVE_CONN_H
#define SLUICE_SERVE_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "serve/session.h"

/* What an epoll event points to; first member of struct conn and of struct source_fd. */
enum source {
	SOURCE_LISTEN,
	SOURCE_SIGNAL,
	SOURCE_WAKE,
	SOURCE_ENGINE,
	SOURCE_CONN,
	SOURCE_OTHER /* of an attachment (serve/attach.h) */
};

struct conn;

struct transport {
	size_t conn_bytes; /* of its struct, which begins with a struct conn and is zero at first */

	/* Takes one message that came, and answers it; false: there is none now, or no more at all. */
	bool (*receive)(struct conn *c);

	/* Puts an event on the wire. May take what the event owns. */
	void (*render)(struct conn *c, struct event *e);

	/* How long the client may take for what is due from it now, in ms, since since_ns; 0: for ever.
	 * Only asked while nothing is queued for it. */
	uint32_t (*patience_ms)(const struct conn *c);

	/* The last words to a client that was late; drops the connection. */
	void (*expire)(struct conn *c);

	/*
	 * A packet of conn_write() that has a descriptor was not sent, because too many are on their way
	 * already (ETOOMANYREFS); the connection goes on. NULL where none are sent.
	 */
	void (*unsent)(struct conn *c, const void *data, size_t len);
};

struct packet { /* one that the socket did not take at once */
	struct packet *next;
	int fd; /* -1, or owned */
	size_t len;
	uint8_t data[];
};

struct conn {
	enum source source;
	const struct transport *transport;
	struct serve *serve;
	struct conn *next;
	struct session session;
	int fd;
	uid_t uid;
	bool dead; /* freed after the current batch of events */
	struct packet *out, **out_tail;
	unsigned n_out;
	uint32_t events;   /* what epoll watches */
	uint64_t since_ns; /* connected, or: out is not empty and nothing went since */
};

/* Takes over @fd; 0 or -errno (then @fd is still the caller's). */
int conn_create(struct serve *s, const struct transport *transport, int fd, uid_t uid);

/* What epoll says of it. */
void conn_event(struct conn *c, uint32_t events);

/* Ends its session; memory goes in conn_sweep(). */
void conn_drop(struct conn *c);

/* Sends or queues one packet, with a descriptor (-1: none), which is taken over. */
void conn_write(struct conn *c, const void *data, size_t len, int fd);

/* Sends what its session has. */
void conn_pump(struct conn *c);

/* ms until the next deadline, -1: none. */
int conn_deadline_ms(const struct serve *s);

/* Drops the late (where @expire) and frees the dead. */
void conn_sweep(struct serve *s, bool expire);

#endif
