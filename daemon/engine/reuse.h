/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/reuse.h: where the prefix tree meets the scheduler: what a request takes up when it is seated,
 * where its prompt stops for a point to be kept, and what stays of it. Called by sched.c and room.c.
 * Engine thread, between steps; does nothing where there is no tree.
 *
 * Models with recurrent state are taken up at points only (prefix_tree.h). A point is kept where the
 * request's marks say (struct prompt_mark), or without marks at the first and the last end of a
 * message in the prompt; where it left what was cached; every REUSE_EVERY tokens of a long prompt;
 * and at the end of the answer.
 */
#ifndef SLUICE_ENGINE_REUSE_H
#define SLUICE_ENGINE_REUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/prefix_tree.h"

#define REUSE_EVERY 8192
#define REUSE_LEAST 64 /* tokens that are worth keeping, and worth a stop */
#define REUSE_STOPS 12

struct engine;
struct active;

/* Of a request in a place. */
struct reuse {
	bool on;	   /* it may be kept */
	uint32_t n_cached; /* prompt tokens that were taken up */
	uint32_t n_stops, next;
	struct reuse_stop {
		uint32_t at;
		enum prefix_kind kind;
	} stops[REUSE_STOPS]; /* ascending */
};

/* 0 or -ENOMEM; after the pool of sequences. */
int reuse_create(struct engine *e);
void reuse_destroy(struct engine *e);

/* A place was seated with @a's request and an empty sequence: ids, n_prompt, n_ids and n_done are set. */
void reuse_begin(struct engine *e, struct active *a);
/* It has read nothing itself yet, and more may be cached by now: the same tokens, taken up anew. */
void reuse_again(struct engine *e, struct active *a);
/*
 * What others may take up of the first @at positions of @a, which it has read or will read: @at or less,
 * 0: nothing that is still to come. Where a point is needed for that, @a stops there from now on.
 */
uint32_t reuse_reach(const struct engine *e, struct active *a, uint32_t at);
/* @a has read @at positions or more: the first @at are kept for others, where no point is needed. */
void reuse_keep_part(struct engine *e, const struct active *a, uint32_t at);
/* It was paused and goes on: what is left of it is taken up. */
void reuse_resume(struct engine *e, struct active *a);
/* Where the chunk that begins at the sequence's length ends at the latest; UINT32_MAX: anywhere. */
uint32_t reuse_stop(const struct engine *e, const struct active *a);
/* After a step that read some of its prompt. */
void reuse_reached(struct engine *e, struct active *a);
/* Its sequence is sound and about to be given back, or to be paused where @paused. */
void reuse_keep(struct engine *e, struct active *a, bool paused);
/* Pages for sequences that run, from what is kept; false: fewer than @n are free. */
bool reuse_make_free(struct engine *e, uint32_t n);

#endif
