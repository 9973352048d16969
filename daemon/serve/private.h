/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/private.h: the insides of serve/, shared by its files. Everything here is owned by
 * the main thread except what is marked atomic.
 */
#ifndef SLUICE_SERVE_PRIVATE_H
#define SLUICE_SERVE_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "serve/job.h"
#include "serve/serve.h"

/* What an epoll event points to; first member of struct conn. */
enum source { SOURCE_LISTEN, SOURCE_SIGNAL, SOURCE_WAKE, SOURCE_ENGINE, SOURCE_CONN };

struct packet { /* one that the socket did not take at once */
	struct packet *next;
	int fd; /* -1, or owned */
	size_t len;
	uint8_t data[];
};

struct conn {
	enum source source;
	struct serve *serve;
	struct conn *next;
	int fd;
	uid_t uid;
	bool greeted;
	bool dead; /* freed after the current batch of events */
	unsigned n_jobs;
	struct packet *out, **out_tail;
	unsigned n_out;
	uint32_t events; /* what epoll watches */
	uint64_t
		since_ns; /* connected (until HELLO), or: out is not empty and nothing went since */
};

struct serve {
	struct serve_config config;
	int epoll_fd, listen_fd, signal_fd, wake_fd;
	int reserve_fd; /* given up for a moment to refuse a client when descriptors run out */
	gid_t socket_gid;
	uint64_t socket_dev, socket_ino; /* of the file that we made */
	uint64_t started_ns;
	bool ready, stopping;
	_Atomic bool stop;
	_Atomic bool wake_pending;	 /* the eventfd has been written and not yet been read */
	_Atomic uint64_t logits_pending; /* bytes in chunks that are not sent */
	enum source sources[4];
	struct conn *conns;
	unsigned n_conns;
	struct job *jobs;
	uint8_t *packet; /* SLUICE_MSG_MAX, for receiving */
	uint8_t *built;	 /* SLUICE_MSG_MAX, for sending */
	char *text;	 /* detok_bound() */
	size_t text_room;
	uint64_t notices_ns; /* start of the current window of rate-limited notices */
	unsigned n_notices;
};

/* listen.c */
int listen_open(struct serve *s, struct err *err);
void listen_accept(struct serve *s);
void listen_close(struct serve *s);

/* conn.c */
int conn_create(struct serve *s, int fd, uid_t uid);
void conn_event(struct conn *c, uint32_t events);
void conn_drop(struct conn *c); /* cancels its requests; memory goes in conn_sweep() */
void conn_fail(struct conn *c, uint64_t id, int code, const char *text); /* ERROR; may drop */
/* Sends or queues a message. Takes over @fd (-1: none). */
void conn_send(struct conn *c, uint16_t type, uint64_t id, const void *fixed, const void *payload,
	       uint64_t payload_bytes, int fd);
void conn_pump(struct conn *c);		       /* sends what its jobs have */
int conn_deadline_ms(const struct serve *s);   /* until the next one, -1: none */
void conn_sweep(struct serve *s, bool expire); /* drops the late, frees the dead */

/* handle.c: a checked message of a connection. */
void handle_message(struct conn *c, const struct message *m, int fd);

/* info.c */
void info_model(const struct serve *s, struct sluice_model_info *ret);
/* @fallbacks: room for the payload; returns its bytes. */
size_t info_status(const struct serve *s, struct sluice_status_info *ret, char *fallbacks,
		   size_t room);

/* serve.c: any thread: makes the loop look at the jobs. */
void serve_wake(struct serve *s);
/* A notice about a client, at most ten in ten seconds. */
void serve_notice(struct serve *s, const char *msg, const struct conn *c, const char *cause);

/* notify.c: sd_notify(3), or nothing where it was not there to build with. */
void notify_manager(const char *state);

#endif
