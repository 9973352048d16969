/* SPDX-License-Identifier: MIT */
/* daemon/engine/mtp_budget.c: see mtp_budget.h. */
#include "engine/mtp_budget.h"

#define FIRST_SIZE 4
#define NEWEST	   0.3	/* weight of the newest measurement */
#define HOPE	   0.98 /* so much of its cost is left of a size that was not read */

uint32_t mtp_budget_columns(struct mtp_budget *b, uint64_t step_ns)
{
	double most = MTP_PROMPT_SHARE * (double)step_ns;
	uint32_t best = 0, size = FIRST_SIZE;

	for (unsigned i = 0; i < MTP_SIZES; i++, size *= 2) {
		if (i && !(b->ns[i] > 0)) {
			b->ns[i] = 2 * b->ns[i - 1];
			if (!(b->ns[i] > 0))
				break;
		}
		if (b->ns[i] <= most)
			best = size;
	}
	if (best == MTP_BATCH && b->ns[MTP_SIZES - 1] > 0)
		best *= (uint32_t)(most / b->ns[MTP_SIZES - 1]);
	for (unsigned i = 0, n = FIRST_SIZE; i < MTP_SIZES; i++, n *= 2)
		if (n > best)
			b->ns[i] *= HOPE;
	return best;
}

void mtp_budget_learn(struct mtp_budget *b, uint32_t columns, uint64_t ns)
{
	double cost = (double)ns;
	uint32_t size = FIRST_SIZE;
	unsigned i = 0;

	if (!columns)
		return;
	if (columns > MTP_BATCH) /* several steps: one of them */
		cost *= (double)MTP_BATCH / columns;
	for (; i + 1 < MTP_SIZES && size < columns; size *= 2)
		i++;
	b->ns[i] += (b->ns[i] > 0 ? NEWEST : 1) * (cost - b->ns[i]);
}
