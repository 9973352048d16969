/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/follow.h: requests with the same new beginning that come together: one reads it, the
 * others wait for that and take it up (reuse.h), instead of each reading it.
 *
 * Who is seated looks for a place whose tokens begin as its own do, further than what is cached. A
 * model without recurrent state takes up at once what that place has read, and else waits for the
 * rest; with recurrent state the one that reads stops where the two part, and leaves a point there.
 * Only a request that has not read anything itself waits, and never for one that waits, so there is
 * no circle. A wait ends when that position is read, and when the one that reads is cancelled, fails,
 * is paused or ends; what it has left is taken up, and the request reads on or waits for another.
 * Turns count for all of them: the one that reads has the turn of the first who waits for it, and
 * what it reads is served to each of their clients.
 * Called by sched.c. Engine thread, between steps; does nothing where nothing is reused.
 */
#ifndef SLUICE_ENGINE_FOLLOW_H
#define SLUICE_ENGINE_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

struct engine;
struct active;

/* Of a request in a place. */
struct follow {
	struct active *first; /* whom it waits for; NULL: nobody */
	uint32_t number;      /* that request */
	uint32_t at;	      /* tokens that are read then */
	bool never;	      /* once waited for in vain */
};

/* @a was seated and has taken up what is cached. True: it waits. */
bool follow_begin(struct engine *e, struct active *a);
/* Those whose wait is over take up what was read; @begun is called for who waits no more. */
void follow_turn(struct engine *e, void (*begun)(struct engine *e, struct active *a));
/* A step had @n tokens of @a's: they count for its client, and for those whose requests wait for them. */
void follow_serve(struct engine *e, const struct active *a, uint32_t n);
/* Who has to read for @a to go on: itself, or the one it waits for. */
struct active *follow_reader(const struct active *a);

#endif
