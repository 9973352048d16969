/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/draft.h: sources of drafts: guesses at the tokens that a sequence goes on with.
 *
 * A source is one file and one row of draft_table. It may guess as it likes: a draft is checked by
 * the model itself (spec.c) and changes no token, only how many come out of a step. One instance per
 * place, memory taken at create(). Engine thread.
 */
#ifndef SLUICE_ENGINE_DRAFT_H
#define SLUICE_ENGINE_DRAFT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/request.h"

struct draft_config {
	uint32_t n_ctx; /* most tokens of a sequence */
	uint32_t n_vocab;
};

/* How sure a source is of a guess: its own classes, over which acceptance is measured. */
#define DRAFT_CLASSES 8

struct draft_guess {
	uint32_t id;
	uint32_t class; /* < DRAFT_CLASSES */
};

struct draft_ops {
	const char *name;
	uint64_t (*bytes)(const struct draft_config *c); /* that create() takes */
	int (*create)(const struct draft_config *c, void **ret);
	void (*destroy)(void *d); /* NULL is fine */
	/* A new request begins; none of its tokens has been added. */
	void (*begin)(void *d, const struct request *r);
	/* The sequence has grown by @n tokens, those of the prompt included. */
	void (*add)(void *d, const uint32_t *ids, uint32_t n);
	/* Guesses at the next tokens, at most @most; returns how many. No side effects. */
	uint32_t (*guess)(void *d, uint32_t most, struct draft_guess *ret);
	/* Share of guesses of a class that are taken to be right before any was measured. */
	float (*expect)(uint32_t class);
	/* What was right in one request says nothing of another. */
	bool is_alone;
};

/* By enum draft_source; where several have a guess the first one's is taken. */
extern const struct draft_ops *const draft_table[DRAFT_NR];
extern const struct draft_ops draft_given, draft_ngram;

#endif
