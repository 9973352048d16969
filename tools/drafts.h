/* SPDX-License-Identifier: MIT */
/*
 * tools/drafts.h: speculation as the verbs ask for it and show it. One thread.
 */
#ifndef SLUICE_TOOLS_DRAFTS_H
#define SLUICE_TOOLS_DRAFTS_H

#include <jansson.h>

#include "uapi/sluice.h"

/* Choices of a verb's --spec; the index is enum sluice_spec. */
#define DRAFTS_CHOICES "default|auto|off|ngram|mtp"

/*
 * {"drafted": N, "accepted": N, "by": {"given": {"drafted": N, "accepted": N}, "ngram": .., "mtp": ..},
 * "steps": N, "columns_per_step": X, "tokens_per_step": X, "gain": X}; a share of no steps is null.
 * Gain: what the tokens would have taken by steps without drafts, divided by what they took.
 */
json_t *drafts_json(const struct sluice_spec_counts *c);

uint64_t drafts_drafted(const struct sluice_spec_counts *c);
uint64_t drafts_accepted(const struct sluice_spec_counts *c);
double drafts_gain(const struct sluice_spec_counts *c); /* 1 where nothing was measured */

/* *sum += *c */
void drafts_add(struct sluice_spec_counts *sum, const struct sluice_spec_counts *c);

#endif
