/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/predict.h: which experts are read before a layer asks for them, and whether that pays.
 *
 * Guesses come with a chance: how often experts at that place of an early look at the next layer's
 * router were used indeed. A guess is worth a read while its chance is fair, few slots and bytes are
 * taken by others, and a slot is free or held by an expert that is worth less. Whether reading ahead
 * pays is found out by doing without it for a few steps: what comes out is the gain, and below a little
 * it is left alone for longer and longer.
 *
 * Pure: no clock, no files, no locks; the engine's supply and the simulator link this file. One thread.
 */
#ifndef SLUICE_POLICY_PREDICT_H
#define SLUICE_POLICY_PREDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "policy/policy.h"

enum predict_mode {
	PREDICT_AUTO,	/* the next layer's router, while that pays */
	PREDICT_OFF,	/* nothing is read ahead */
	PREDICT_ROUTER, /* the next layer's router, always */
	PREDICT_ORACLE, /* what a recorded trace of the same requests uses, in part: for studies */
};

struct predict_choice {
	enum predict_mode mode;
	double share;	  /* ORACLE: of the experts that will be used, those that are guessed */
	const char *path; /* ORACLE: the trace, in the text that was parsed; NULL: not named */
};

/* "auto", "off", "router", "oracle:R" or "oracle:R:FILE". 0, or -EINVAL and a sentence. */
int predict_parse(const char *text, struct predict_choice *ret, struct err *err);

/* Steps of more tokens are a crowd, below: no router is asked early for them. */
#define PREDICT_TOKENS 16

/* So many layers with experts ahead an oracle tells what they will use, the next step's first ones too. */
#define PREDICT_LAYERS 3

/* ---- one guess ---- */

struct predict_guess {
	uint32_t id; /* of an expert, as policies number them */
	float chance;
};

/* The tier that would be read to, as it stands. */
struct predict_tier {
	const struct policy_ops *ops;
	struct policy *policy;
	uint32_t cls, free_slots;      /* the size class of the guess, and what is free of it */
	uint32_t held, held_most;      /* slots that guesses hold, and may */
	uint64_t in_flight, most;      /* bytes that guesses are reading, and may */
	uint64_t expert_bytes;	       /* that this one would read */
	policy_evictable_fn evictable; /* also false for what is guessed itself */
	void *ctx;
};

#define PREDICT_FREE_SLOT (POLICY_NONE - 1)

/* Is the chance fair enough for a read? */
bool predict_worth(const struct predict_guess *g);

/* Where an absent guess goes: PREDICT_FREE_SLOT, the expert to evict for it, or POLICY_NONE: nowhere. */
uint32_t predict_slot(const struct predict_tier *t, const struct predict_guess *g);

/* Slots of a class that guesses may hold, so that a layer's own experts always find some. */
uint32_t predict_held_most(uint32_t class_slots, uint32_t n_expert_used);

/* Bytes that guesses may be reading at a time. */
uint64_t predict_bytes_most(uint64_t expert_bytes, uint32_t n_expert_used);

/* Likeliest first, then by id. */
void predict_sort(struct predict_guess *g, uint32_t n);

/* The oracle's coin for an expert that position @pos of request @seq uses in @layer. */
bool predict_coin(uint32_t seq, uint32_t pos, uint32_t layer, uint32_t expert, double share);

/* ---- how sure places are: of one layer ---- */

#define PREDICT_RANKS 64

struct predict_ranks {
	/* of guesses at this place that were used: of experts in memory, and of absent ones */
	float share[2][PREDICT_RANKS];
};

/* Before anything is known; @n_used: experts of a token. */
void predict_ranks_init(struct predict_ranks *r, uint32_t n_used);
void predict_ranks_learn(struct predict_ranks *r, bool absent, uint32_t rank, bool used);

/* How many places of a layer's router are looked at for a token. */
uint32_t predict_ranks_of(uint32_t n_used, uint32_t n_expert);

/* ---- steps of many tokens, which use most experts: whichever are absent are wanted ---- */

/* Bytes in flight at most from one layer's end to the next one's beginning: a mixer has all of those tokens then. */
#define PREDICT_CROWD_BYTES (256ull << 20)

struct predict_crowd {
	float right; /* of the absent, how many were used, over what would be if all were alike; lately */
};

void predict_crowd_init(struct predict_crowd *c);
/* The share of experts that so many tokens use where they choose without favourites. */
float predict_crowd_share(uint32_t n_tokens, uint32_t n_used, uint32_t n_expert);
/* Is a step a crowd, by that share? */
bool predict_is_crowd(uint32_t n_tokens, float share);
/* How likely an absent one is used then; below what is worth a read: 0. */
float predict_crowd_chance(const struct predict_crowd *c, float share);
/* Of @absent ones so many were used. */
void predict_crowd_learn(struct predict_crowd *c, float share, uint32_t absent, uint32_t used);

/* ---- does it pay ---- */

#define PREDICT_BLOCK 8 /* steps in a row with guesses, or without, while both are compared */

enum predict_phase { PREDICT_WATCH, PREDICT_TRIAL, PREDICT_ON };

struct predict_control {
	enum predict_phase phase;
	float stall;		   /* share of steps' time that waited for reads, lately */
	float right, right_before; /* share of reads that were useful: lately, when it was tried */
	uint32_t steps;		   /* in this phase */
	uint32_t wait, next_wait;  /* steps until it is tried, after a trial that lost */
	uint32_t n[2];		   /* steps compared: without, with */
	float ns[2][4 * PREDICT_BLOCK]; /* of each, by column, in ms */
	double lost;			/* by the trial so far, in steps without */
	double gain;			/* of the last trial; 0: none yet */
};

struct predict_step { /* of decoding alone */
	uint64_t ns, stall_ns;
	uint32_t columns;
	uint64_t posted, useful; /* reads ahead of it, and of them what was used */
};

void predict_control_init(struct predict_control *c);
/* Is the step that comes one with guesses? */
bool predict_control_on(const struct predict_control *c);
/* It was, or was not, and took so long. */
void predict_control_learn(struct predict_control *c, const struct predict_step *s);

#endif
