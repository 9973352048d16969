/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/matcher_impl.h: the insides of a matcher, shared by its files.
 *
 *	matcher.c		life, bytes, tokens
 *	matcher_sets.c		sets of stacks
 *	matcher_states.c	states and their transitions; forgetting
 *	mask.c			tokens: the walk over the trie
 *
 * A set of stacks is a list of frames: where to go on, a counter, and the set of stacks below. Equal
 * sets have one number, so states that mean the same are the same. Sets are made after those below
 * them: a parent's number is smaller.
 *
 * Counters within a walk: a token has at most VOCAB_SHORT bytes (longer ones are walked apart, and
 * exactly), so a counter further than that from both of its bounds acts alike whatever it is. In
 * far states such counters are two values, COUNT_LOW (below the minimum throughout) and
 * COUNT_FREE (between the bounds throughout): one mask serves the whole middle of a long text.
 */
#ifndef SLUICE_GRAMMAR_MATCHER_IMPL_H
#define SLUICE_GRAMMAR_MATCHER_IMPL_H

#include "grammar/matcher.h"
#include "grammar/program.h"
#include "grammar/vocab.h"

#define MAX_SETS   (1u << 16)
#define MAX_FRAMES (1u << 18)
#define MAX_STATES (1u << 14)
#define MAX_ITEMS  (1u << 18)
#define MAX_UNION  4096 /* frames of one set */
#define MAX_MASKS  1024
#define MASK_BYTES (4u << 20) /* of all of them; 16 masks at least */
#define MAX_STEPS  20000000   /* of one mask, or of one byte: tenths of a second */

#define COUNT_LOW  0xfffffffeu
#define COUNT_FREE 0xffffffffu

#define STATE_UNKNOWN 0u /* a transition that nobody asked for yet */
#define STATE_DEAD    1u

struct frame {
	uint32_t pc, count, parent;
};

struct stacks { /* a set of them */
	uint32_t first, n;
	uint32_t depth;
};

struct item { /* the instruction takes the next byte, above these stacks */
	uint32_t pc, stacks;
};

struct state {
	uint32_t first, n; /* items, by pc */
	bool accepts, far;
};

struct matcher {
	const struct program *p;
	const struct vocab *v;
	void *map;
	size_t map_bytes;

	struct stacks *sets;
	struct frame *frames;
	uint32_t *set_slots; /* 2 * MAX_SETS, number + 1 */
	uint32_t *far_of;    /* per set; known for the first n_far */
	uint32_t n_sets, n_frames, n_far;

	struct state *states;
	struct item *items;
	uint32_t *next;	       /* per state and class */
	uint32_t *state_slots; /* 2 * MAX_STATES, number + 1 */
	uint32_t *mask_of;     /* per state: a place in masks + 1 */
	uint32_t n_states, n_items;

	/* of the state that is being found */
	uint32_t *seen, *stacks_at, *todo, *takers; /* per instruction */
	uint8_t *queued;
	uint32_t epoch, n_todo, n_takers;
	bool accepts, far;
	struct frame *merged; /* 2 * MAX_UNION */
	bool full, ambiguous;
	bool collected; /* once at least: all of the memory may have been touched */
	uint64_t steps; /* since the mask, or the byte, was begun */

	uint64_t *masks; /* n_masks of n_words, and one more for the answer */
	uint32_t *mask_owner;
	uint32_t n_words, n_masks, next_mask;
	uint32_t *path; /* states on the way to a node of the trie */

	uint32_t start, now;
	struct matcher_counts counts;
};

/* matcher_sets.c: numbers of sets; where they do not fit, m->full or m->ambiguous and any number. */
uint32_t sets_one(struct matcher *m, struct frame f);
uint32_t sets_union(struct matcher *m, uint32_t a, uint32_t b);
uint32_t sets_far(struct matcher *m, uint32_t set);
/* The counter as far states have it. */
uint32_t count_far(const struct bounds *b, uint32_t count);
/* All sets but those that @keep[0..n) stand on are forgotten; @keep is renumbered. */
void sets_collect(struct matcher *m, struct item *keep, uint32_t n);
/* The set of one empty stack, number 0; once, in memory that is all zero. */
void sets_start(struct matcher *m);

/* matcher_states.c */
uint32_t states_find(struct matcher *m, uint32_t state, uint32_t class); /* fills one transition */
uint32_t states_start(struct matcher *m);
/* @state with its counters far from their bounds made alike. */
uint32_t states_far(struct matcher *m, uint32_t state);
/* Forgets all but m->now. False: even that does not fit. */
bool states_collect(struct matcher *m);

static inline uint32_t states_next(struct matcher *m, uint32_t state, uint32_t class)
{
	uint32_t next = m->next[(size_t)state * m->p->n_classes + class];

	return next != STATE_UNKNOWN ? next : states_find(m, state, class);
}

#endif
