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

#include "serve/attach.h"
#include "serve/conn.h"
#include "serve/loop_time.h"
#include "serve/serve.h"

enum { LIVENESS_LATE = 4 };

/* What the service manager is told without being asked (notify.c). */
struct liveness {
	uint64_t watchdog_ns; /* 0: the unit has no watchdog */
	uint64_t next_ns;     /* the next look */
	uint64_t progress, moved_ns;
	bool deaf;		      /* the manager's queue was full */
	char late[LIVENESS_LATE][80]; /* what we are, while it does not take that; oldest first */
	unsigned n_late;
	uint64_t late_ns; /* the next try */
};

struct serve {
	struct serve_config config;
	int epoll_fd, listen_fd, signal_fd, wake_fd;
	int reserve_fd; /* given up for a moment to refuse a client when descriptors run out */
	gid_t socket_gid;
	uint64_t socket_dev, socket_ino; /* of the file that we made */
	uint64_t started_ns;
	int nice; /* of this process, before serve_come_first() */
	struct liveness liveness;
	struct loop_time loop_time;
	bool ready, stopping;
	_Atomic bool stop;
	_Atomic bool wake_pending;	 /* the eventfd has been written and not yet been read */
	_Atomic uint64_t logits_pending; /* bytes in chunks that are not sent */
	enum source sources[4];
	struct conn *conns;
	unsigned n_conns;
	struct attachment *attached; /* NULL: none */
	struct forms *forms;
	struct job *orphans; /* of sessions that have ended; the engine still holds them */
	uint8_t *packet;     /* SLUICE_MSG_MAX, for receiving */
	uint8_t *built;	     /* SLUICE_MSG_MAX, for sending */
	char *text;	     /* detok_bound() */
	size_t text_room;
	/* what session_ask() answers with, until its next call */
	struct sluice_model_info model_info;
	struct sluice_status_info status_info;
	char notes[4096];
	uint64_t notices_ns; /* start of the current window of rate-limited notices */
	unsigned n_notices;
};

/* listen.c */
int listen_open(struct serve *s, struct err *err);
void listen_accept(struct serve *s);
void listen_close(struct serve *s);

/* info.c */
void info_model(const struct serve *s, struct sluice_model_info *ret);
/* What a request, or all, made of speculation. */
struct sluice_spec_counts info_spec(const struct spec_counts *c);
/* @notes: what could not be had, one sentence a line; the model's files are looked at for it. NULL: not wanted. */
void info_status(const struct serve *s, struct sluice_status_info *ret, char *notes, size_t room);

/* serve.c: any thread: makes the loop look at the jobs. */
void serve_wake(struct serve *s);
/*
 * The thread that calls is run before those that compute, and before other programs, where this process
 * may ask for that (CAP_SYS_NICE, RLIMIT_NICE), and has early turns for short slices (base/turns.h), for
 * which nobody need be asked: it has little to do, and all clients wait for it.
 */
void serve_come_first(void);
/* A notice about a client, at most ten in ten seconds. */
void serve_notice(struct serve *s, const char *msg, const struct conn *c, const char *cause);

/* notify.c; none of it waits for the manager. */
void liveness_init(struct liveness *l, uint64_t now);
/* A state of ours, see sd_notify(3), which the manager hears later if it does not read now; at most 79 bytes. */
void liveness_tell(struct liveness *l, const char *state);
/* Where it is time: reports, and feeds the watchdog unless the engine has work and stands still. */
void liveness_look(struct liveness *l, const struct engine *engine, uint64_t now);
int liveness_deadline_ms(const struct liveness *l, uint64_t now); /* -1: none */

#endif
