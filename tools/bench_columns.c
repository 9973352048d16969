/* SPDX-License-Identifier: MIT */
/*
 * tools/bench_columns.c: what the columns of a step cost, and the most that drafts can give on these
 * costs (bench.h). Pure. Any thread.
 */
#include "tools/bench.h"

void bench_columns_tell(const struct sluice_model_info *m,
			const struct sluice_column_cost sum[SLUICE_COLUMNS],
			struct bench_columns *ret)
{
	double ns[SLUICE_COLUMNS], step[SLUICE_COLUMNS], experts[SLUICE_COLUMNS];

	*ret = (struct bench_columns){ 0 };
	if (m->active_bytes_per_token)
		ret->routed_share =
			(double)m->routed_bytes_per_token / (double)m->active_bytes_per_token;
	for (unsigned i = 0; i < SLUICE_COLUMNS; i++) {
		double steps = (double)sum[i].steps;

		ns[i] = steps ? (double)(sum[i].step_ns - sum[i].expert_ns) / steps : 0;
		step[i] = steps ? (double)sum[i].step_ns / steps : 0;
		experts[i] = steps ? (double)sum[i].experts / steps : 0;
		ret->cost[i] = ns[0] > 0 ? ns[i] / ns[0] : 0;
		ret->step[i] = step[0] > 0 ? step[i] / step[0] : 0;
		ret->experts[i] = experts[0] > 0 ? experts[i] / experts[0] : 1;
	}
}

double bench_most(const struct bench_columns *c, double right, unsigned *ret_length)
{
	double most = 1, tokens = 0, reached = 1;

	*ret_length = 0;
	for (unsigned k = 0; k < SLUICE_COLUMNS; k++, reached *= right) {
		double cost = (1 - c->routed_share) * c->cost[k] + c->routed_share * c->experts[k];

		tokens += reached;
		if (c->cost[k] > 0 && tokens / cost > most) {
			most = tokens / cost;
			*ret_length = k;
		}
	}
	return most;
}
