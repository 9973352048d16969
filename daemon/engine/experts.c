/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/experts.c: the products of a list of experts (see ffn_private.h).
 *
 * Two ways over the same arithmetic, so the same bits:
 *   few entries (decode): all threads share the rows of all experts in chunks taken from a counter,
 *     gate and up of everything, barrier, activation, barrier, down of everything;
 *   many entries (prefill): each thread takes whole experts from a counter, largest first, and
 *     needs nobody: the hidden values stay in its own cache.
 */
#include <string.h>

#include "base/num.h"
#include "engine/ffn_private.h"

#define CHUNK_BYTES (128 << 10) /* of weights per taken chunk: some 10 us */

/* rows [row0, row1) of w times the columns x, into the columns y */
static void product(const struct ffn *f, const struct wmat *w, const void *const *x,
		    float *const *y, uint32_t cols, size_t row0, size_t row1, void *scratch)
{
	struct matmul m = { .type = w->type,
			    .w = w->data,
			    .row_bytes = w->row_bytes,
			    .n = w->n_in,
			    .row0 = row0,
			    .row1 = row1,
			    .x = x,
			    .y = y,
			    .cols = cols,
			    .scratch = scratch };

	f->c.ops->matmul(&m);
}

static size_t chunk_rows(const struct ffn *f, const struct wmat *w)
{
	size_t rows = CHUNK_BYTES / w->row_bytes, tile = f->c.ops->row_tile;

	return rows < tile ? tile : rows / tile * tile;
}

static void gather_inputs(const struct ffn *f, const struct expert_work *w, enum act_kind kind,
			  const void **x)
{
	const struct actbuf *in = &f->in.form[kind];

	for (uint32_t i = 0; i < w->count; i++)
		x[i] = in->x[f->entries[w->first + i].token];
}

/* One matrix of one expert in chunks; *chunk counts chunks over the whole list. */
static void share_rows(struct ffn *f, const struct wmat *w, const void *const *x, float *const *y,
		       uint32_t cols, uint32_t base, uint32_t *taken, _Atomic uint32_t *cursor,
		       void *scratch)
{
	size_t rows = chunk_rows(f, w);
	uint32_t n = (uint32_t)div_ceil(w->n_out, rows);

	while (*taken < base + n) {
		size_t row0 = (*taken - base) * rows;

		product(f, w, x, y, cols, row0, u64_min(row0 + rows, w->n_out), scratch);
		*taken = atomic_fetch_add_explicit(cursor, 1, memory_order_relaxed);
	}
}

static uint32_t n_chunks(const struct ffn *f, const struct wmat *w)
{
	return (uint32_t)div_ceil(w->n_out, chunk_rows(f, w));
}

static void rows_gate_up(struct ffn *f, unsigned tid)
{
	struct lane *lane = &f->c.lanes[tid];
	uint32_t taken = atomic_fetch_add_explicit(&f->cursor[0], 1, memory_order_relaxed);
	uint32_t base = 0;

	for (uint32_t i = 0; i < f->n_ready; i++) {
		const struct expert_work *w = &f->work[f->ready[i]];

		if (f->failed[f->ready[i]])
			continue;
		for (int up = 0; up < 2; up++) {
			const struct wmat *m = up ? &w->up : &w->gate;
			float *hidden = up ? f->hidden_up : f->hidden_gate;
			uint32_t n = n_chunks(f, m);

			if (taken < base + n) {
				gather_inputs(f, w, m->act, lane->x);
				for (uint32_t k = 0; k < w->count; k++)
					lane->y[k] = hidden + (f->slot[i] + k) * f->max_ff;
				share_rows(f, m, lane->x, lane->y, w->count, base, &taken,
					   &f->cursor[0], lane->scratch);
			}
			base += n;
		}
	}
}

/* SiLU and quantisation of the hidden values: few and short, dealt out column by column. */
static void rows_activate(struct ffn *f, unsigned tid)
{
	unsigned n_threads = team_size(f->c.team);

	for (uint32_t i = 0; i < f->n_ready; i++) {
		const struct expert_work *w = &f->work[f->ready[i]];
		const struct actbuf *a = &f->hidden.form[w->down.act];
		size_t n = w->down.n_in;

		if (f->failed[f->ready[i]])
			continue;
		for (uint32_t k = 0; k < w->count; k++) {
			size_t column = f->slot[i] + k;
			float *g = f->hidden_gate + column * f->max_ff;

			if (column % n_threads != tid)
				continue;
			f->c.fops->silu_mul(g, f->hidden_up + column * f->max_ff, g, n);
			f->c.ops->act_quantize(
				w->down.act, g, n,
				a->data + column * f->c.ops->act_bytes(w->down.act, n));
		}
	}
}

static void rows_down(struct ffn *f, unsigned tid)
{
	struct lane *lane = &f->c.lanes[tid];
	uint32_t taken = atomic_fetch_add_explicit(&f->cursor[1], 1, memory_order_relaxed);
	uint32_t base = 0;

	for (uint32_t i = 0; i < f->n_ready; i++) {
		const struct expert_work *w = &f->work[f->ready[i]];
		const struct actbuf *a = &f->hidden.form[w->down.act];
		size_t stride;
		uint32_t n;

		if (f->failed[f->ready[i]])
			continue;
		stride = f->c.ops->act_bytes(w->down.act, w->down.n_in);
		n = n_chunks(f, &w->down);
		if (taken < base + n) {
			for (uint32_t k = 0; k < w->count; k++) {
				lane->x[k] = a->data + (f->slot[i] + k) * stride;
				lane->y[k] = entry_partial(f, &f->entries[w->first + k]);
			}
			share_rows(f, &w->down, lane->x, lane->y, w->count, base, &taken,
				   &f->cursor[1], lane->scratch);
		}
		base += n;
	}
}

/* One expert from input to partial results by one thread. */
static void whole_expert(struct ffn *f, const struct expert_work *w, unsigned tid)
{
	struct lane *lane = &f->c.lanes[tid];
	struct own *own = &f->own[tid];
	size_t n_ff = w->down.n_in, stride = f->c.ops->act_bytes(w->down.act, n_ff);

	gather_inputs(f, w, w->gate.act, lane->x);
	for (uint32_t k = 0; k < w->count; k++)
		lane->y[k] = own->gate + k * n_ff;
	product(f, &w->gate, lane->x, lane->y, w->count, 0, w->gate.n_out, lane->scratch);
	gather_inputs(f, w, w->up.act, lane->x);
	for (uint32_t k = 0; k < w->count; k++)
		lane->y[k] = own->up + k * n_ff;
	product(f, &w->up, lane->x, lane->y, w->count, 0, w->up.n_out, lane->scratch);
	for (uint32_t k = 0; k < w->count; k++) {
		float *g = own->gate + k * n_ff;

		f->c.fops->silu_mul(g, own->up + k * n_ff, g, n_ff);
		lane->x[k] = own->act.data + k * stride;
		f->c.ops->act_quantize(w->down.act, g, n_ff, own->act.data + k * stride);
		lane->y[k] = entry_partial(f, &f->entries[w->first + k]);
	}
	product(f, &w->down, lane->x, lane->y, w->count, 0, w->down.n_out, lane->scratch);
}

static void clear_failed(struct ffn *f)
{
	for (uint32_t i = 0; i < f->n_ready; i++) {
		const struct expert_work *w = &f->work[f->ready[i]];

		for (uint32_t k = 0; k < w->count && f->failed[f->ready[i]]; k++)
			memset(entry_partial(f, &f->entries[w->first + k]), 0,
			       f->n_embd * sizeof(float));
	}
}

void experts_compute(struct ffn *f, unsigned tid)
{
	if (tid == 0)
		clear_failed(f);
	if (!f->whole) {
		rows_gate_up(f, tid);
		team_barrier(f->c.team);
		rows_activate(f, tid);
		team_barrier(f->c.team);
		rows_down(f, tid);
		return;
	}
	for (;;) {
		uint32_t i = atomic_fetch_add_explicit(&f->cursor[0], 1, memory_order_relaxed);

		if (i >= f->n_ready)
			return;
		if (!f->failed[f->ready[i]])
			whole_expert(f, &f->work[f->ready[i]], tid);
	}
}
