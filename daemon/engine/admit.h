/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/admit.h: whose turn it is. Pure: no clock, no memory but what is taken at the start. Called by
 * sched.c, engine thread.
 *
 * Turns: each client has a count of tokens computed for it, and the client with the least is next;
 * among its requests, and among equals, the one that came first. Who comes back after a while starts
 * at the least count of those who are there, so that nobody saves up turns (virtual token counter:
 * Sheng et al., Fairness in Serving Large Language Models, arXiv 2401.00588).
 */
#ifndef SLUICE_ENGINE_ADMIT_H
#define SLUICE_ENGINE_ADMIT_H

#include <stdbool.h>
#include <stdint.h>

struct client {
	uint64_t key;
	uint64_t served;   /* tokens */
	uint32_t n_inside; /* its requests that wait or run; 0: the entry is free */
};

struct turns {
	struct client *clients;
	uint32_t n, most;
};

/* Room for clients of @most requests at a time. 0 or -ENOMEM. */
int turns_init(struct turns *t, uint32_t most);
void turns_fini(struct turns *t);

/* A request of client @key comes: its client's number until turns_leave(). */
uint32_t turns_enter(struct turns *t, uint64_t key);
void turns_leave(struct turns *t, uint32_t client);
void turns_serve(struct turns *t, uint32_t client, uint32_t tokens);

/* Is a request of client @a, the @a_came-th to come, before the other one? */
bool turns_before(const struct turns *t, uint32_t a, uint64_t a_came, uint32_t b, uint64_t b_came);

#endif
