/* SPDX-License-Identifier: MIT */
/* daemon/engine/saved_private.h: what saved.c and saved_pages.c share. */
#ifndef SLUICE_ENGINE_SAVED_PRIVATE_H
#define SLUICE_ENGINE_SAVED_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/saved.h"

enum saved_stage {
	STAGE_NEW,   /* engine thread: waits for the place */
	STAGE_WRITE, /* file thread */
	STAGE_HEAD,  /* file thread */
	STAGE_TAKE,  /* engine thread: pages for what HEAD told */
	STAGE_FILL,  /* file thread */
	STAGE_ADD,   /* engine thread */
	STAGE_OVER,  /* engine thread: lets go */
};

struct saver {
	int dir;
	_Atomic unsigned n_asks;	   /* begun and not ended */
	_Atomic(struct saved_ask *) inbox; /* new ones, and those that come from the file thread */
	uint32_t n_held;		   /* engine thread: pages that all of them hold */
	struct saved_ask *waiting; /* engine thread: for their places, the first to come first */

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t come;
	struct saved_ask *queue, **queue_end;
	bool end;
	_Atomic bool stop; /* gives up the file that is being written or read */

	/* file thread */
	bool known; /* the model's identity */
	uint64_t model;
};

/* ---- saved.c ---- */

/* Hands it to the thread of files, for @stage. */
void saved_to_files(struct engine *e, struct saved_ask *a, enum saved_stage stage);
/* Lets go of everything and says what came of it. */
void saved_finish(struct engine *e, struct saved_ask *a);
/* The same with an error, of which the first sentence counts. */
void saved_fail(struct engine *e, struct saved_ask *a, int error, const char *why);

/* ---- saved_pages.c: each hands the ask on, or ends it ---- */

/* What is kept of its place: held, and on to be written. */
void saved_hold(struct engine *e, struct saved_ask *a);
/* What is kept of its place is forgotten. */
void saved_forget(struct engine *e, struct saved_ask *a);
/* Pages for what its file has, which are to be filled. */
void saved_take(struct engine *e, struct saved_ask *a);
/* Those, full, to the prefix tree. */
void saved_add(struct engine *e, struct saved_ask *a);

#endif
