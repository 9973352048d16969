/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/sim_ahead.c: reads ahead of the layers that come, as engine/supply_ahead.c posts them.
 */
#include <string.h>

#include "base/num.h"
#include "trace/sim_private.h"

static bool gives_way(void *ctx, uint32_t id)
{
	const struct sim *s = ctx;

	return !s->pinned[id] && !s->expected[id];
}

/*
 * What the oracle says of the rows from @at on, which are one layer's; no more tokens than are guessed for,
 * and of a step that comes after this one only those that decode.
 */
static uint32_t ask_oracle(struct sim *s, size_t at, bool next_step, double share)
{
	const struct trace_row *first = &s->t->rows[at];
	bool *expected = s->expected + (size_t)first->layer * s->t->n_expert;
	uint32_t n = 0, tokens = 0;

	memset(expected, 0, s->t->n_expert * sizeof(*expected));
	for (; at < s->t->n_rows; at++) {
		const struct trace_row *row = &s->t->rows[at];

		if (row->step != first->step || row->layer != first->layer)
			break;
		if (++tokens > PREDICT_TOKENS)
			return 0;
		for (uint32_t k = 0; k < row->n; k++) {
			uint32_t e = s->t->uses[row->first + k].expert;

			if (expected[e] || (next_step && row->phase != TRACE_DECODE) ||
			    !predict_coin(row->seq, row->pos, row->layer, e, share))
				continue;
			expected[e] = true;
			s->guess[n++] =
				(struct predict_guess){ .id = row->layer * s->t->n_expert + e,
							.chance = 1 };
		}
	}
	return n;
}

/* The first @n guesses, all of @layer: those that are absent and worth it are read; @most bytes, 0: as usual. */
static void read_guesses(struct sim *s, uint32_t layer, uint32_t n, uint64_t most)
{
	uint32_t cls = s->class_of_layer[layer];
	uint64_t bytes = u64_max(1, s->t->layers[layer].expert_bytes);
	struct predict_tier t = {
		.ops = s->ops,
		.policy = s->policy,
		.cls = cls,
		.held_most = predict_held_most(s->class_slots[cls], s->t->n_expert_used),
		.most = most ? most : predict_bytes_most(bytes, s->t->n_expert_used),
		.expert_bytes = bytes,
		.evictable = gives_way,
		.ctx = s,
	};

	for (uint32_t i = 0; i < s->n_ahead; i++)
		t.held += s->class_of_layer[s->ahead[i] / s->t->n_expert] == cls;
	predict_sort(s->guess, n);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t id = s->guess[i].id, victim;

		if (s->present[id] || s->n_ahead == PREDICT_LAYERS * s->t->n_expert)
			continue;
		t.free_slots = s->free_slots[cls];
		victim = predict_slot(&t, &s->guess[i]);
		if (victim == POLICY_NONE)
			continue;
		sim_take_slot(s, id, cls, victim == PREDICT_FREE_SLOT ? POLICY_NONE : victim);
		s->ahead[s->n_ahead++] = id;
		t.held++;
		t.in_flight += bytes;
		s->result.predicted.reads++;
	}
}

/* Where the rows of the layer after that of row @at begin. */
static size_t next_layer(const struct route_trace *t, size_t at)
{
	const struct trace_row *first = &t->rows[at];

	while (at < t->n_rows && t->rows[at].step == first->step &&
	       t->rows[at].layer == first->layer)
		at++;
	return at;
}

void sim_look_ahead(struct sim *s, size_t at, uint64_t step, bool decode, double share)
{
	uint64_t n = decode ? u64_min(PREDICT_LAYERS, u64_max(s->t->n_layers - 1, 1)) : 1;

	for (uint64_t i = 0; i < n && at < s->t->n_rows; i++, at = next_layer(s->t, at)) {
		bool next_step = s->t->rows[at].step != step;

		if (next_step && !decode)
			return;
		read_guesses(s, s->t->rows[at].layer, ask_oracle(s, at, next_step, share), 0);
	}
}

/* ---- the same for steps of many tokens, as engine/ahead.c has it ---- */

void sim_crowd_begin(struct sim *s, uint32_t n_tokens)
{
	float share = predict_crowd_share(n_tokens, s->t->n_expert_used, s->t->n_expert);

	s->crowd_share = predict_is_crowd(n_tokens, share) ? share : 0;
	s->absent_of = UINT32_MAX;
}

void sim_crowd_joined(struct sim *s, uint64_t step, size_t next)
{
	const struct trace_row *row = &s->t->rows[next];
	float chance = predict_crowd_chance(&s->crowd, s->crowd_share);
	uint32_t n = s->t->n_expert, base;

	if (s->crowd_share <= 0 || next >= s->t->n_rows || row->step != step)
		return;
	s->absent_of = row->layer;
	base = row->layer * n;
	for (uint32_t e = 0; e < n; e++) {
		s->absent[e] = !s->present[base + e];
		s->guess[e] = (struct predict_guess){ .id = base + e, .chance = chance };
		s->expected[base + e] |= chance > 0; /* those that are there stay */
	}
	if (chance > 0)
		read_guesses(s, row->layer, n, PREDICT_CROWD_BYTES);
}

void sim_crowd_learn(struct sim *s, uint32_t layer)
{
	uint32_t absent = 0, used = 0;

	if (s->absent_of != layer)
		return;
	s->absent_of = UINT32_MAX;
	for (uint32_t e = 0; e < s->t->n_expert; e++)
		absent += s->absent[e];
	for (uint32_t i = 0; i < s->n; i++)
		used += s->absent[s->ids[i] % s->t->n_expert];
	predict_crowd_learn(&s->crowd, s->crowd_share, absent, used);
}

void sim_judge_ahead(struct sim *s, uint32_t layer)
{
	memset(s->expected + (size_t)layer * s->t->n_expert, 0,
	       s->t->n_expert * sizeof(*s->expected));
	for (uint32_t k = 0; k < s->n_ahead;) {
		uint32_t id = s->ahead[k], i = 0;

		if (id / s->t->n_expert != layer) {
			k++;
			continue;
		}
		while (i < s->n && s->ids[i] != id)
			i++;
		s->pinned[id] = i < s->n;
		s->result.predicted.useful += i < s->n;
		s->result.predicted.wasted += i == s->n;
		s->ahead[k] = s->ahead[--s->n_ahead];
	}
}
