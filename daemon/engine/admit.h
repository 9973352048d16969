/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/admit.h: whose turn it is, and how many prompt tokens a step takes beside those that
 * decode. Pure: no clock, no memory but what is taken at the start. Called by sched.c, engine thread.
 *
 * Turns: each client has a count of tokens computed for it, and the client with the least is next;
 * among its requests, and among equals, the one that came first. Who comes back after a while starts
 * at the least count of those who are there, so that nobody saves up turns (virtual token counter:
 * Sheng et al., Fairness in Serving Large Language Models, arXiv 2401.00588).
 *
 * Pace: a step that reads prompt tokens takes longer for all who decode. The number of tokens is
 * steered so that such steps take the target, by default twice what a plain step (only decoding)
 * takes: one of all the sequences that are there, those that read too, since that is what everybody
 * gets once they decode. So who decodes alone waits longer for many that come together, and they do
 * not trickle in. A few tokens cost nearly what many do (each brings experts of its own), and whoever
 * reads few at a time is beside the others for long: up to PACE_FEW tokens such steps may take half
 * again the default target; one that was given is kept. Plain steps are measured by how many decode, and now and then one is made for that.
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

#define PACE_SIZES 7  /* numbers of decoding sequences: 1, 2, 3-4, 5-8, ... more than 32 */
#define PACE_LEAST 8  /* prompt tokens of a step at least: somebody waits for them */
#define PACE_FEW   64 /* below so many most of what they cost is had by any number of them */
#define PACE_FIRST 64 /* before anything is known */
#define PACE_MIXED 64 /* steps with prompt tokens in a row before a plain one is measured again */

struct pace {
	uint64_t target_ns;	     /* 0: twice the plain step */
	double plain_ns[PACE_SIZES]; /* 0: not measured yet */
	double tokens;		     /* of the next step with prompt tokens */
	uint32_t n_mixed;	     /* such steps since the last plain one */
};

void pace_init(struct pace *p, uint64_t target_ns);
/*
 * Most prompt tokens of the next step beside @n_decoding sequences that decode: 0 where a plain step
 * has to be measured first; UINT32_MAX where nobody decodes.
 */
uint32_t pace_tokens(const struct pace *p, uint32_t n_decoding);
/* A step of @n_decoding that decode, of @n_all that are there. @n_prompt tokens were read in it, all
 * that pace_tokens() allowed where @full. */
struct pace_step {
	uint32_t n_decoding, n_all, n_prompt;
	bool full;
	uint64_t ns;
};
void pace_learn(struct pace *p, const struct pace_step *step);

#endif
