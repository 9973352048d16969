/* SPDX-License-Identifier: MIT */
/* daemon/engine/ahead.c: see ahead.h. */
#include "engine/ahead.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/supply.h"
#include "trace/read.h"

struct ahead {
	const struct model *model;
	struct supply *supply;
	struct predict_choice choice;
	struct predict_control control;
	struct predict_ranks *ranks; /* [n_layers] */
	uint32_t n_ranks;

	uint32_t *moe, n_moe; /* the layers with experts, in order */

	/* the guesses for a layer that comes */
	uint32_t layer;		     /* UINT32_MAX: none */
	struct predict_guess *guess; /* [n_expert] */
	uint32_t n_guess;
	uint32_t *place; /* [n_expert]: index into guess + 1; 0: none */
	struct look {
		uint32_t expert;
		bool absent;
	} * looked;	   /* [PREDICT_TOKENS][n_ranks] what was looked at, for learning */
	uint32_t n_looked; /* tokens; 0: nothing */
	bool *used;	   /* [n_expert] */

	/* steps of many tokens */
	struct predict_crowd crowd;
	float crowd_share; /* of experts that the step uses; 0: it is no such step */
	bool *absent;	   /* [n_expert] of the layer that comes, when that was looked at */

	/* the step */
	const struct batch *batch;	   /* NULL: no guesses are made in it */
	uint64_t stall_ns, posted, useful; /* the supply's when it began */

	/* an oracle's */
	struct route_trace *trace;
	uint32_t *order; /* rows by request, position and layer */

	_Atomic bool on;
	_Atomic uint64_t steps, uses, foreseen;
	_Atomic uint32_t gain_ppm;
};

static void add(_Atomic uint64_t *counter, uint64_t by)
{
	/* one writer: no need for a locked add */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static int compare_rows(const struct trace_row *x, uint32_t seq, uint32_t pos, uint32_t layer)
{
	if (x->seq != seq)
		return x->seq < seq ? -1 : 1;
	if (x->pos != pos)
		return x->pos < pos ? -1 : 1;
	return x->layer < layer ? -1 : x->layer > layer;
}

static int by_place(const void *x, const void *y, void *rows)
{
	const struct trace_row *all = rows, *a = &all[*(const uint32_t *)x],
			       *b = &all[*(const uint32_t *)y];

	return compare_rows(a, b->seq, b->pos, b->layer);
}

static int read_oracle(struct ahead *a, struct err *err)
{
	const struct model *m = a->model;
	struct route_trace *t;
	int rc = a->choice.path ? trace_read(a->choice.path, &a->trace, err)
				: err_set(err, -EINVAL, "an oracle needs a trace: oracle:R:FILE");

	if (rc)
		return err_prefix(err, rc, "--predict");
	t = a->trace;
	if (t->n_layers != m->n_layers || t->n_expert != m->n_expert || !t->n_rows ||
	    t->n_rows > UINT32_MAX)
		return err_set(
			err, -EINVAL,
			"--predict: %s is a trace of %zu rows, %u layers and %u experts; the "
			"model has %u and %u",
			a->choice.path, t->n_rows, t->n_layers, t->n_expert, m->n_layers,
			m->n_expert);
	a->order = malloc(t->n_rows * sizeof(*a->order));
	if (!a->order)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->n_rows; i++)
		a->order[i] = i;
	qsort_r(a->order, t->n_rows, sizeof(*a->order), by_place, t->rows);
	return 0;
}

int ahead_create(const struct model *m, struct supply *supply, const struct predict_choice *choice,
		 struct ahead **ret, struct err *err)
{
	struct ahead *a = calloc(1, sizeof(*a));
	uint32_t n = m->n_expert;
	int rc = 0;

	if (!a)
		return -ENOMEM;
	a->model = m;
	a->supply = supply;
	a->choice = *choice;
	a->layer = UINT32_MAX;
	a->n_ranks = predict_ranks_of(m->n_expert_used, n);
	predict_control_init(&a->control);
	predict_crowd_init(&a->crowd);
	a->ranks = calloc(m->n_layers, sizeof(*a->ranks));
	a->guess = calloc(n, sizeof(*a->guess));
	a->place = calloc(n, sizeof(*a->place));
	a->used = calloc(n, sizeof(*a->used));
	a->absent = calloc(n, sizeof(*a->absent));
	a->moe = calloc(m->n_layers, sizeof(*a->moe));
	a->looked = calloc((size_t)PREDICT_TOKENS * a->n_ranks, sizeof(*a->looked));
	if (!a->ranks || !a->guess || !a->place || !a->used || !a->absent || !a->looked || !a->moe)
		rc = -ENOMEM;
	for (uint32_t i = 0; !rc && i < m->n_layers; i++) {
		predict_ranks_init(&a->ranks[i], m->n_expert_used);
		if (layer_has(&m->layers[i], BLOCK_MOE))
			a->moe[a->n_moe++] = i;
	}
	if (!rc && choice->mode == PREDICT_ORACLE)
		rc = read_oracle(a, err);
	if (rc) {
		ahead_destroy(a);
		return rc;
	}
	*ret = a;
	return 0;
}

void ahead_destroy(struct ahead *a)
{
	if (!a)
		return;
	route_trace_destroy(a->trace);
	free(a->order);
	free(a->ranks);
	free(a->guess);
	free(a->place);
	free(a->used);
	free(a->absent);
	free(a->moe);
	free(a->looked);
	free(a);
}

/* ---- an oracle ---- */

static const struct trace_row *find_row(const struct ahead *a, uint32_t seq, uint32_t pos,
					uint32_t layer)
{
	size_t low = 0, high = a->trace->n_rows;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct trace_row *row = &a->trace->rows[a->order[mid]];
		int c = compare_rows(row, seq, pos, layer);

		if (!c)
			return row;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* Guesses for @layer come now; there is none yet. */
static void forget(struct ahead *a, uint32_t layer)
{
	a->layer = layer;
	a->n_guess = 0;
	memset(a->place, 0, a->model->n_expert * sizeof(*a->place));
}

/* One more reason to expect an expert. */
static void expect(struct ahead *a, uint32_t layer, uint32_t expert, float chance)
{
	struct predict_guess *g;

	if (!a->place[expert]) {
		a->guess[a->n_guess++] =
			(struct predict_guess){ .id = layer * a->model->n_expert + expert };
		a->place[expert] = a->n_guess;
	}
	g = &a->guess[a->place[expert] - 1];
	g->chance = 1 - (1 - g->chance) * (1 - chance);
}

/* The guesses of @layer become what the trace says of it, for the tokens of the step. */
static void ask_oracle(struct ahead *a, uint32_t layer, bool next_step)
{
	const struct batch *b = a->batch;

	forget(a, layer);
	for (uint32_t i = 0; i < b->n_runs; i++) {
		const struct batch_run *run = &b->runs[i];
		uint32_t n = next_step ? 1 : run->count, first = next_step ? run->count : 0;

		for (uint32_t k = first; k < first + n; k++) {
			const struct trace_row *row = find_row(a, run->number, run->pos + k, layer);

			for (uint32_t u = 0; row && u < row->n; u++) {
				uint32_t e = a->trace->uses[row->first + u].expert;

				if (predict_coin(run->number, run->pos + k, layer, e,
						 a->choice.share))
					expect(a, layer, e, 1);
			}
		}
	}
}

/*
 * Says what the layers with experts from place @at on use, where every sequence decodes one token the next
 * step's after the last one. Steps of more tokens need most slots for one layer.
 */
static void tell_oracle(struct ahead *a, uint32_t at)
{
	bool alone = a->batch->n_tokens == a->batch->n_runs;
	uint32_t n = alone ? (uint32_t)u64_min(PREDICT_LAYERS, u64_max(a->n_moe - 1, 1)) : 1;

	for (uint32_t i = at; i < at + n; i++) {
		bool next_step = i >= a->n_moe;

		if (next_step && !alone)
			return;
		ask_oracle(a, a->moe[i % a->n_moe], next_step);
		supply_predict(a->supply, a->layer, a->guess, a->n_guess, 0);
	}
}

/* ---- a step ---- */

static bool is_on(struct ahead *a, const struct batch *b)
{
	if (a->choice.mode == PREDICT_OFF || !supply_lacks(a->supply))
		return false;
	if (b->n_tokens > PREDICT_TOKENS)
		return a->crowd_share > 0;
	return a->choice.mode != PREDICT_AUTO || predict_control_on(&a->control);
}

/* Of the step's experts, where it is a crowd; an oracle knows without. */
static float crowd_share(const struct ahead *a, const struct batch *b)
{
	float share = predict_crowd_share(b->n_tokens, a->model->n_expert_used, a->model->n_expert);

	return a->choice.mode != PREDICT_ORACLE && predict_is_crowd(b->n_tokens, share) ? share : 0;
}

bool ahead_begin(struct ahead *a, const struct batch *b)
{
	const struct supply_counters *c = supply_counters(a->supply);
	bool on;

	a->crowd_share = crowd_share(a, b);
	on = is_on(a, b);

	a->stall_ns = atomic_load_explicit(&c->stall_ns, memory_order_relaxed);
	a->posted = atomic_load_explicit(&c->predicted, memory_order_relaxed);
	a->useful = atomic_load_explicit(&c->useful, memory_order_relaxed);
	a->layer = UINT32_MAX;
	a->n_looked = 0;
	a->batch = on ? b : NULL;
	atomic_store_explicit(&a->on, on, memory_order_relaxed);
	add(&a->steps, on);
	if (on && a->choice.mode == PREDICT_ORACLE && a->n_moe)
		tell_oracle(a, 0);
	return on;
}

void ahead_end(struct ahead *a, const struct batch *b, uint64_t ns, bool given_up)
{
	const struct supply_counters *c = supply_counters(a->supply);
	struct predict_step s = {
		.ns = ns,
		.stall_ns = atomic_load_explicit(&c->stall_ns, memory_order_relaxed) - a->stall_ns,
		.columns = b->n_tokens,
		.posted = atomic_load_explicit(&c->predicted, memory_order_relaxed) - a->posted,
		.useful = atomic_load_explicit(&c->useful, memory_order_relaxed) - a->useful,
	};

	a->layer = UINT32_MAX;
	if (given_up || a->choice.mode != PREDICT_AUTO || b->n_tokens > PREDICT_TOKENS ||
	    !supply_lacks(a->supply))
		return;
	predict_control_learn(&a->control, &s);
	atomic_store_explicit(&a->gain_ppm, (uint32_t)(a->control.gain * 1e6),
			      memory_order_relaxed);
}

uint32_t ahead_ranks(const struct ahead *a)
{
	return a->choice.mode == PREDICT_ORACLE || a->crowd_share > 0 ? 0 : a->n_ranks;
}

/* The layer with experts behind this one in the step; UINT32_MAX: none. */
static uint32_t next_layer(const struct ahead *a, uint32_t layer)
{
	for (uint32_t i = 0; i + 1 < a->n_moe; i++)
		if (a->moe[i] == layer)
			return a->moe[i + 1];
	return UINT32_MAX;
}

void ahead_joined(struct ahead *a, uint32_t layer)
{
	uint32_t next = a->crowd_share > 0 ? next_layer(a, layer) : UINT32_MAX;
	float chance = predict_crowd_chance(&a->crowd, a->crowd_share);

	if (next == UINT32_MAX)
		return;
	forget(a, next);
	for (uint32_t e = 0; e < a->model->n_expert; e++) {
		a->absent[e] = supply_absent(a->supply, next, e);
		expect(a, next, e, chance); /* those that are there too, so that they stay */
	}
	if (chance > 0)
		supply_predict(a->supply, next, a->guess, a->n_guess, PREDICT_CROWD_BYTES);
}

/* What the layer used of those that it had not. */
static void learn_crowd(struct ahead *a, const uint32_t *experts, uint32_t n)
{
	uint32_t absent = 0, used = 0;

	for (uint32_t e = 0; e < a->model->n_expert; e++)
		absent += a->absent[e];
	for (uint32_t i = 0; i < n; i++)
		used += a->absent[experts[i]];
	predict_crowd_learn(&a->crowd, a->crowd_share, absent, used);
}

void ahead_layer(struct ahead *a, const struct batch *b, uint32_t layer, const uint32_t *ids)
{
	const struct predict_ranks *ranks = &a->ranks[layer];

	forget(a, layer);
	a->n_looked = b->n_tokens;
	for (uint32_t t = 0; t < b->n_tokens; t++)
		for (uint32_t r = 0; r < a->n_ranks; r++) {
			uint32_t e = ids[t * a->n_ranks + r];
			bool absent = supply_absent(a->supply, layer, e);

			a->looked[t * a->n_ranks + r] = (struct look){ e, absent };
			expect(a, layer, e, ranks->share[absent][r]);
		}
	supply_predict(a->supply, layer, a->guess, a->n_guess, 0);
}

/* Of the guesses at hand: how many were right, and at which places of the look. */
static void learn(struct ahead *a, const uint32_t *experts, uint32_t n)
{
	struct predict_ranks *ranks = &a->ranks[a->layer];
	uint64_t foreseen = 0;

	memset(a->used, 0, a->model->n_expert * sizeof(*a->used));
	for (uint32_t i = 0; i < n; i++)
		a->used[experts[i]] = true;
	/* supply_predict() has sorted: places no longer say where a guess is */
	for (uint32_t i = 0; i < a->n_guess; i++)
		foreseen += a->used[a->guess[i].id % a->model->n_expert] &&
			    predict_worth(&a->guess[i]);
	add(&a->uses, n);
	add(&a->foreseen, foreseen);
	for (uint32_t t = 0; t < a->n_looked; t++)
		for (uint32_t r = 0; r < a->n_ranks; r++) {
			const struct look *l = &a->looked[t * a->n_ranks + r];

			predict_ranks_learn(ranks, l->absent, r, a->used[l->expert]);
		}
}

void ahead_used(struct ahead *a, uint32_t layer, const uint32_t *experts, uint32_t n)
{
	uint32_t at = 0;

	if (a->choice.mode == PREDICT_ORACLE)
		ask_oracle(a, layer, false);
	if (layer == a->layer && a->crowd_share > 0)
		learn_crowd(a, experts, n);
	else if (layer == a->layer)
		learn(a, experts, n);
	a->layer = UINT32_MAX;
	if (a->choice.mode != PREDICT_ORACLE)
		return;
	while (a->moe[at] != layer)
		at++;
	tell_oracle(a, at + 1);
}

void ahead_get_counts(const struct ahead *a, struct ahead_counts *ret)
{
	*ret = (struct ahead_counts){
		.mode = a->choice.mode,
		.on = atomic_load(&a->on),
		.steps = atomic_load(&a->steps),
		.uses = atomic_load(&a->uses),
		.foreseen = atomic_load(&a->foreseen),
		.gain = atomic_load(&a->gain_ppm) / 1e6,
	};
}
