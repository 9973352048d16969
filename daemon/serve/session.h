/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/session.h: one client, whatever the wire: its open requests and what it may ask.
 *
 * Bounds: SERVE_MAX_REQUESTS open requests. When a session ends its requests are cancelled; what the
 * engine still holds of them belongs to the serve until the engine lets go. Main thread.
 */
#ifndef SLUICE_SERVE_SESSION_H
#define SLUICE_SERVE_SESSION_H

#include "serve/ask.h"

struct job;
struct pending;
struct serve;

struct session {
	struct serve *serve;
	struct pending *pending; /* requests whose form is being compiled, counted in n_jobs */
	struct job *jobs;	 /* open requests, newest first */
	struct job *turn;	 /* whose turn it is in session_next(); NULL: the first's */
	unsigned n_jobs;
};

void session_init(struct session *s, struct serve *serve);

/* Cancels what is open. The session may be freed after it. */
void session_end(struct session *s);

/*
 * Whether a request with this id could be taken now: 0, or an enum sluice_error_code and a sentence.
 * session_ask() looks itself; this is for a transport that need not read a long prompt in vain.
 */
int session_check(const struct session *s, uint64_t id, struct err *err);

/* Forgets the requests whose form is being compiled, or is there and has not been taken up. */
void session_drop_forms(struct session *s);

/*
 * Cancels the open request @id, of which the client hears nothing more from the session. Nothing where
 * there is none.
 */
void session_abandon(struct session *s, uint64_t id);

/* The daemon stops: forms that are being compiled are not waited for. */
void session_cut_forms(struct session *s);

/*
 * Takes an ask. True: *ret is the answer (the first of GENERATE and SCORE). False: there is none, or it
 * comes from session_next().
 */
bool session_ask(struct session *s, const struct ask *ask, struct event *ret);

/*
 * The next event of the open requests, in turn; false: none now. When there may be more the loop
 * looks again (serve_wake()).
 */
bool session_next(struct session *s, struct event *ret);

/* Frees the requests that are through. */
void session_reap(struct session *s);

/* The same for those whose session has ended, as soon as the engine has let them go. */
void session_reap_orphans(struct serve *s);

#endif
