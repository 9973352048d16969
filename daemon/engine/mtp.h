/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/mtp.h: drafts by a prediction head: a layer of its own that guesses the token after the
 * next one (docs/models.md 2.6).
 *
 * After each step the head reads what stayed of it: at a position the token that follows it and the
 * main model's hidden vector there, after its last norm. Its own cache holds these. From the last one
 * on it guesses, and goes on with its guess and its own hidden vector, while it is sure enough; these
 * positions are cut off again. Of prompts it reads as much as takes a small share of their time
 * (mtp_budget.h). Its logits are those of the first MTP_VOCAB tokens alone, the ones that byte pair
 * encodings merged first: no copy of the output matrix, and a fraction of its bytes. All of its experts
 * are kept in memory. A head that fails or does not pay is left out: no token depends on it. Engine
 * thread, which takes the team along.
 */
#ifndef SLUICE_ENGINE_MTP_H
#define SLUICE_ENGINE_MTP_H

#include "engine/batch.h"
#include "engine/draft.h"
#include "engine/memory.h"

#define MTP_VOCAB 32768 /* rows of the output matrix that are looked at */

struct active;
struct engine;
struct mtp;

/* What the plan counts for @ask->head with these sizes; 0 without one. */
uint64_t mtp_bytes(const struct memory_ask *ask, unsigned threads, uint32_t n_parallel,
		   uint32_t n_ctx);

/* A head for e's places. 0, or -errno and a sentence. */
int mtp_create(struct engine *e, const struct model *head, struct mtp **ret, struct err *err);
void mtp_destroy(struct mtp *m); /* no reads in flight: mtp_drain(); NULL is fine */
void mtp_drain(struct mtp *m);

/* Reads its weights, all experts among them, after the main model's. 0 or -errno and a sentence. */
int mtp_load(struct mtp *m, struct engine *e, struct err *err);

/* The source of place @i (draft_mtp). */
void *mtp_source(struct mtp *m, uint32_t i);

/* Place @i begins anew: its cache is empty. */
void mtp_forget(struct mtp *m, uint32_t i);

/* After a step that took so long, before its tokens: reads of pieces of prompts what may be. */
void mtp_read_prompts(struct mtp *m, struct engine *e, const struct batch *b, uint64_t step_ns);

/*
 * After a step and its tokens: reads what stayed of the runs whose places want it, and guesses for
 * those that decode. Returns the time it took.
 */
uint64_t mtp_after_step(struct mtp *m, struct engine *e, const struct batch *b);

/*
 * A step with or without the head's drafts gave @kept tokens and cost, with the head's own time, so
 * many plain steps: where that does not pay the head rests for a while, longer each time.
 */
void mtp_learn(struct mtp *m, uint32_t i, uint32_t kept, double cost);

extern const struct draft_ops draft_mtp;

#endif
