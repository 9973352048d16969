/* SPDX-License-Identifier: MIT */
/* daemon/engine/mtp_private.h: a prediction head, for mtp.c and mtp_make.c. Engine thread. */
#ifndef SLUICE_ENGINE_MTP_PRIVATE_H
#define SLUICE_ENGINE_MTP_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/mtp.h"
#include "engine/mtp_budget.h"
#include "engine/step.h"
#include "engine/supply.h"
#include "engine/weights.h"

#define MTP_FIRST_REST 64 /* tokens */

struct mtp_place {
	struct seq *seq;
	uint32_t n; /* guesses for the next step */
	struct draft_guess guess[DRAFT_MAX];

	float value; /* tokens won by a step, less what it cost, in plain steps */
	uint32_t steps, rest, next_rest;

	/* the step that was: columns of it to be read, and the position of the first */
	uint32_t column, left, pos;
	/* columns before this position were dealt with while the prompt was read */
	uint32_t read_to;
	bool guesses;  /* it goes on guessing */
	uint32_t most; /* so many */
	float sure;    /* of all guesses so far */
	uint32_t row;  /* its column in the head's last step */
};

struct mtp {
	struct model model; /* the head, with fewer rows of output */
	struct reader *reader;
	struct weights *weights;
	struct arena *arena; /* NULL for a dense head, as are the next four */
	struct residency *residency;
	const struct policy_ops *policy_ops;
	struct policy *policy;
	struct supply *supply;
	struct seq_pool *seqs;
	struct decoder *decoder;
	uint64_t step;
	uint32_t n;
	struct mtp_place *places;
	struct mtp_budget budget;

	/* a step of the head */
	struct batch batch;
	struct batch_run *runs;
	uint32_t *owner; /* place of a run */
	uint32_t tokens[MTP_BATCH], run_of[MTP_BATCH];
	const float *hidden[MTP_BATCH];
	bool want[MTP_BATCH];
	int error[MTP_BATCH];
};

#endif
