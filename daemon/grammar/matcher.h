/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/matcher.h: a text on its way through a grammar's program: which bytes, and which
 * tokens, may come next.
 *
 * Where a text stands is a state: every instruction that may take the next byte, each with all stacks
 * that it may be reached with. States are found when they are first needed and kept, as are their
 * transitions and the masks of tokens, in memory that is mapped in matcher_create() and has a bound:
 * when it is full, all but the current state is forgotten and found again. So nothing allocates
 * after that, and one token costs a walk over the vocabulary's trie the first time and nothing
 * when its state comes again.
 *
 * One sequence; one thread at a time. The program and the vocabulary are shared and constant.
 */
#ifndef SLUICE_GRAMMAR_MATCHER_H
#define SLUICE_GRAMMAR_MATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct matcher;
struct program;
struct vocab;

/* Frames on a stack. What would nest deeper is not allowed by the mask, and rejected. */
#define MATCHER_MAX_DEPTH 4096

/* @v NULL: bytes only. Both are borrowed. The address space is taken here. 0 or -ENOMEM. */
int matcher_create(const struct program *p, const struct vocab *v, struct matcher **ret);
void matcher_destroy(struct matcher *m); /* NULL is fine */

/* Back to the beginning of the text; what was found is kept. It may fail: matcher_is_whole(). */
void matcher_begin(struct matcher *m);

/*
 * Takes bytes as far as they fit: returns how many, @n where all do. What was taken stays taken.
 * -E2BIG: the grammar is so ambiguous that the stacks of one state do not fit.
 */
long matcher_bytes(struct matcher *m, const void *bytes, size_t n);

/* The text may end here. */
bool matcher_accepts(const struct matcher *m);
/* Nothing may follow: the text ends here (or never). */
bool matcher_ended(struct matcher *m);

/*
 * One bit for each token of the vocabulary: its bytes may come next, or it ends the text and the text
 * may end. *ret: (n_vocab + 63) / 64 words, valid until the next call. 0 or -E2BIG as above.
 */
int matcher_mask(struct matcher *m, const uint64_t **ret);

/*
 * Takes a token that the mask allows. 0; 1: it ended the text; -EINVAL: it does not fit (nothing is
 * taken); -E2BIG.
 */
int matcher_token(struct matcher *m, uint32_t id);

struct matcher_counts {
	uint64_t masks, masks_cached; /* asked for; of them found ready */
	uint64_t nodes;		      /* of the trie that were visited */
	uint32_t states, collections;
};
void matcher_get_counts(const struct matcher *m, struct matcher_counts *ret);
/* The same, and counts from 0 again. */
void matcher_take_counts(struct matcher *m, struct matcher_counts *ret);

/* It can begin again: no error has ended it. */
bool matcher_is_whole(const struct matcher *m);
/* Bytes of its memory that it has touched, an upper bound. */
size_t matcher_used_bytes(const struct matcher *m);

#endif
