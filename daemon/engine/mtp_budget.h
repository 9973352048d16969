/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/mtp_budget.h: how many columns of a prompt a prediction head reads.
 *
 * Whoever waits for a prompt, and whoever decodes beside it, waits for the head too, so it has a small share
 * of the step that read the prompt. What columns cost is measured by sizes that double; a size that was not
 * measured costs at most twice what the one before does, and one that was dear becomes cheaper by being left
 * out, so that it is tried again. Pure. Engine thread.
 */
#ifndef SLUICE_ENGINE_MTP_BUDGET_H
#define SLUICE_ENGINE_MTP_BUDGET_H

#include <stdint.h>

#define MTP_PROMPT_SHARE 0.03 /* of the step's time */
#define MTP_BATCH	 64 /* most columns of a step of the head; larger sizes are several of these */
#define MTP_SIZES	 5 /* 4, 8, 16, 32, 64 */

struct mtp_budget {
	double ns[MTP_SIZES]; /* of a step of the head, measured or at most; 0: nothing is known */
};

/* The most columns that are expected to be read within the share of a step that took @step_ns. */
uint32_t mtp_budget_columns(struct mtp_budget *b, uint64_t step_ns);
/* So many took @ns. */
void mtp_budget_learn(struct mtp_budget *b, uint32_t columns, uint64_t ns);

#endif
