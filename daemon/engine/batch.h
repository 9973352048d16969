/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/batch.h: the tokens of one step.
 *
 * A step takes one or more runs: consecutive tokens of one sequence (a prompt chunk, or one token
 * to decode). Columns of every activation matrix are the tokens in this order. Filled by the
 * scheduler, constant during the step.
 */
#ifndef SLUICE_ENGINE_BATCH_H
#define SLUICE_ENGINE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

struct seq;

struct batch_run {
	struct seq *seq; /* each sequence at most once per step */
	uint32_t first;	 /* column of its first token */
	uint32_t count;
	uint32_t pos;	 /* absolute position of its first token: the sequence's length so far */
	uint32_t number; /* of the request, for traces */
};

struct batch {
	uint32_t n_tokens, n_runs;
	const uint32_t *tokens; /* n_tokens ids, < n_vocab */
	const struct batch_run *runs;
	const bool *want_logits; /* per token */
};

#endif
