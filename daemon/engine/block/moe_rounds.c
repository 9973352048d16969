/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/moe_rounds.c: what one thread does for a layer's experts (see moe.h): groups tokens
 * by expert, has supply post the reads, and makes rounds of what supply hands out.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/ahead.h"
#include "engine/block/moe.h"
#include "engine/routed.h"
#include "engine/vram.h"
#include "trace/record.h"

static struct wmat expert_wmat(const struct expert_layout *l, enum expert_matrix which)
{
	return (struct wmat){ .type = l->matrix[which].type,
			      .n_in = l->matrix[which].n_in,
			      .n_out = l->matrix[which].n_out,
			      .row_bytes = l->matrix[which].row_bytes,
			      .act = quant_format(l->matrix[which].type)->act };
}

static int by_count(const void *a, const void *b)
{
	const struct expert_work *x = a, *y = b;

	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	return x->expert < y->expert ? -1 : 1;
}

/* One thread: counting sort of the chosen (token, rank) pairs by expert. */
static void plan(const struct block_args *a)
{
	struct moe *f = moe_of(a);
	uint32_t n_tokens = a->batch->n_tokens, at = 0;

	memset(f->place, 0, f->n_expert * sizeof(*f->place));
	for (uint32_t i = 0; i < n_tokens * f->n_used; i++)
		f->place[f->ids[i]]++;
	f->n_work = 0;
	for (uint32_t e = 0; e < f->n_expert; e++) {
		if (!f->place[e])
			continue;
		f->work[f->n_work++] =
			(struct expert_work){ .expert = e, .first = at, .count = f->place[e] };
		at += f->place[e];
		f->place[e] = at - f->place[e];
	}
	for (uint32_t t = 0; t < n_tokens; t++)
		for (uint32_t r = 0; r < f->n_used; r++)
			f->entries[f->place[f->ids[t * f->n_used + r]]++] =
				(struct device_pair){ .token = t, .rank = r };
	if (n_tokens > 8) /* largest first keeps the threads busy to the end */
		qsort(f->work, f->n_work, sizeof(*f->work), by_count);
	for (uint32_t i = 0; i < f->n_work; i++) {
		f->list[i] = f->work[i].expert;
		f->list_counts[i] = f->work[i].count;
		f->failed[i] = 0;
	}
	f->n_handed = f->n_taken = 0;
}

/* One thread: of a step with drafts, how many of an expert's tokens are none. */
static void count_sure(const struct block_args *a)
{
	struct moe *f = moe_of(a);

	for (uint32_t i = 0; i < a->batch->n_runs; i++) {
		const struct batch_run *run = &a->batch->runs[i];

		for (uint32_t k = 0; k < run->count; k++)
			f->drafted[run->first + k] = k >= run->count - run->drafted;
	}
	for (uint32_t i = 0; i < f->n_work; i++)
		for (uint32_t k = 0; k < f->work[i].count; k++)
			f->list_counts[i] -= f->drafted[f->entries[f->work[i].first + k].token];
}

/* One thread: which stays is known when the step has ended. */
static void hold(const struct block_args *a)
{
	struct moe *f = moe_of(a);

	memset(f->only_drafts, 0, f->n_expert);
	for (uint32_t i = 0; i < f->n_work; i++)
		if (!f->list_counts[i])
			f->only_drafts[f->list[i]] = (uint8_t)supply_where(f->c.supply, i);
	routed_layer(a->routed, a->batch, a->layer_index, f->ids, f->weights, f->n_ranks,
		     f->only_drafts);
}

static void record(const struct block_args *a)
{
	struct moe *f = moe_of(a);

	for (uint32_t i = 0; i < a->batch->n_runs && a->trace; i++) {
		const struct batch_run *run = &a->batch->runs[i];

		for (uint32_t k = 0; k < run->count; k++) {
			uint32_t t = run->first + k;

			trace_layer(a->trace, a->step, run->number, run->pos + k, a->layer_index,
				    f->ids + (size_t)t * f->n_used,
				    f->weights + (size_t)t * f->n_ranks, f->n_used);
		}
	}
}

/* One thread: books an expert that could not be read to the tokens that needed it. */
static void book_failure(const struct block_args *a, uint32_t index)
{
	struct moe *f = moe_of(a);
	const struct expert_work *w = &f->work[index];

	for (uint32_t k = 0; k < w->count; k++)
		a->token_error[f->entries[w->first + k].token] = f->failed[index];
}

/* One thread: whether a device takes work @i of a prompt off the host; it has been handed over then. */
static bool hand_over(const struct block_args *a, uint32_t i)
{
	struct moe *f = moe_of(a);
	const struct block_routes *r = a->routes;
	const struct expert_work *w = &f->work[i];
	const bool resident = supply_unit(f->c.supply, i) == UNIT_DEVICE;
	struct device_fill from = { .layer = a->layer_index, .slot = DEVICE_NO_SLOT };
	struct expert_view view;

	if (!r || !r->device || f->failed[i] || *r->device_rc ||
	    (!resident && w->count < r->send_from))
		return false;
	if (resident) {
		from.slot = device_table(r->device)[a->layer_index * f->n_expert + w->expert];
	} else {
		view = supply_view(f->c.supply, i);
		vram_pieces(a->layer, &f->c.split, &view, &from);
	}
	*r->device_rc =
		device_multiply(r->device, &from, f->entries + w->first, w->count, r->device_err);
	return true;
}

/* One thread: what was sent to a device has been read there, and the host's copies may go. */
static void await_sent(const struct block_args *a)
{
	const struct block_routes *r = a->routes;

	if (r && r->device && !*r->device_rc)
		*r->device_rc = device_sent(r->device, r->device_err);
}

/* One thread: of the first @n that supply has handed out those that the host computes, and how. */
static void take_handed(const struct block_args *a, int32_t n)
{
	struct moe *f = moe_of(a);
	const struct expert_layout *l = &a->layer->experts;
	uint32_t total = 0, largest = 0;

	f->n_handed = f->n_taken = 0;
	for (int32_t i = 0; i < n; i++) { /* given up: the step ends before the next layer */
		uint32_t index = f->handed[i];
		struct expert_work *w = &f->work[index];

		if (hand_over(a, index) ||
		    (!f->failed[index] && supply_unit(f->c.supply, index) == UNIT_DEVICE))
			continue;
		f->handed[f->n_handed++] = index;
		if (f->failed[index]) {
			book_failure(a, index);
			continue;
		}
		w->view = supply_view(f->c.supply, index);
		for (int k = 0; k < EXPERT_MATRIX_NR; k++)
			w->m[k] = expert_wmat(l, k);
		total += w->count;
		largest = w->count > largest ? w->count : largest;
	}
	f->whole = total > SMALL_ENTRIES && f->n_handed >= 2 * team_size(a->team) &&
		   largest <= total / team_size(a->team);
}

/* One thread: waits until there is something for the host, or everything has been handed out. */
static void await_handed(const struct block_args *a, unsigned tid)
{
	struct moe *f = moe_of(a);
	int32_t n;

	do {
		team_rests(a->team, tid, true); /* it may wait for the disk */
		await_sent(a);
		n = supply_next(f->c.supply, f->handed, f->failed);
		team_rests(a->team, tid, false);
		if (!n && a->ahead)
			ahead_joined(a->ahead, a->layer_index);
		take_handed(a, n);
	} while (n > 0 && !f->n_handed);
}

/* One thread: of what has been handed out, and not been taken, as much as there is room for becomes round @r. */
static void make_round(struct moe *f, struct round *r)
{
	uint32_t hidden = 0;

	r->n_ready = 0;
	r->whole = f->whole;
	r->down_rows = 0;
	for (uint32_t i = 0; i < f->c.split.n; i++) {
		atomic_store_explicit(&r->cursor[0][i].next, 0, memory_order_relaxed);
		atomic_store_explicit(&r->cursor[1][i].next, 0, memory_order_relaxed);
	}
	while (f->n_taken < f->n_handed) {
		uint32_t index = f->handed[f->n_taken], count = f->work[index].count;

		if (!f->whole && hidden + count > f->max_hidden)
			break;
		r->slot[r->n_ready] = hidden;
		r->ready[r->n_ready++] = index;
		if (!f->whole && !f->failed[index])
			r->down_rows += f->n_embd;
		hidden += count;
		f->n_taken++;
	}
}

void moe_next_round(const struct block_args *a, struct round *r, unsigned tid)
{
	struct moe *f = moe_of(a);

	if (f->n_taken == f->n_handed)
		await_handed(a, tid);
	make_round(f, r);
	if (r->n_ready)
		return;
	f->routed_ns += now_ns() - f->routed_began;
	atomic_store_explicit(&f->joined[a->layer_index], team_place(a->team, tid) + 1,
			      memory_order_relaxed); /* the next barrier publishes it */
}

void moe_first_round(const struct block_args *a)
{
	struct moe *f = moe_of(a);

	take_handed(a, (int32_t)supply_present(f->c.supply, f->handed, f->failed));
	make_round(f, &f->rounds[0]);
}

void moe_post(const struct block_args *a)
{
	struct moe *f = moe_of(a);

	f->rows = a->routes ? a->routes->partial : f->partial;
	f->rows_ranks = a->routes ? a->routes->ranks : f->n_ranks;
	plan(a);
	if (a->routed)
		count_sure(a);
	else
		record(a);
	supply_begin(f->c.supply, a->step, a->layer_index, f->list, f->list_counts, f->n_work);
	if (a->routed)
		hold(a);
	if (a->ahead)
		ahead_used(a->ahead, a->layer_index, f->list, f->n_work);
	f->n_routed += f->n_work;
	f->routed_began = now_ns();
}
