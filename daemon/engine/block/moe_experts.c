/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/moe_experts.c: the products of a list of experts (see moe.h).
 *
 * Two ways over the same arithmetic, so the same bits:
 *   few entries (decode): all threads share the rows of all experts in chunks taken from a counter,
 *     gate and up of everything, barrier, down of everything; who completes gate and up of an expert
 *     does its activation; a thread is done when no chunk is left to take, so those that are there do
 *     what others would have done;
 *   many entries (prefill): each thread takes whole experts from a counter, largest first, and
 *     needs nobody: the hidden values stay in its own cache.
 * On several NUMA nodes the first way deals each node's rows to that node's threads (nodes.h), so
 * decode reads local memory only; the second reads each weight once for many columns, and is left
 * to whoever is free.
 */
#include <string.h>

#include "base/num.h"
#include "engine/activation.h"
#include "engine/block/moe.h"

#define CHUNK_LEAST (64 << 10)	/* bytes of weights of a taken chunk */
#define CHUNK_MOST  (640 << 10) /* some 24 us, and two to begin it */
#define CHUNKS_EACH 2		/* for a thread, of what is left of a phase */

/* A run of rows of one expert's matrix: those of one node. */
struct run {
	const struct wmat *w;
	const uint8_t *data; /* of row 0, which may lie outside the run */
	const float *bias;   /* of row 0; NULL: none */
	size_t first, end;
	uint32_t node; /* index into the split */
};

static const enum role bias_of[EXPERT_MATRIX_NR] = {
	[EXPERT_GATE] = ROLE_GATE_EXPS_BIAS,
	[EXPERT_UP] = ROLE_UP_EXPS_BIAS,
	[EXPERT_DOWN] = ROLE_DOWN_EXPS_BIAS,
};

/* The products before the activation are those of the matrices from here to EXPERT_UP. */
static int first_matrix(const struct expert_work *w)
{
	return w->m[EXPERT_GATE].n_out ? EXPERT_GATE : EXPERT_UP;
}

static struct run run_of(const struct block_args *a, const struct expert_work *w, int matrix,
			 uint32_t node)
{
	struct moe *f = moe_of(a);
	struct run r = { .w = &w->m[matrix], .data = w->view.at[matrix][node], .node = node };

	r.bias = layer_floats(a->weights, bias_of[matrix]);
	if (r.bias)
		r.bias += w->expert * r.w->n_out;
	node_split_rows(&f->c.split, r.w->n_out, node, &r.first, &r.end);
	return r;
}

static void count_bytes(const struct block_args *a, const struct run *r, size_t rows, unsigned tid)
{
	struct moe *f = moe_of(a);
	int node = f->c.split.node[r->node];
	_Atomic uint64_t *c = node == team_node(a->team, tid) ? &f->own[tid].local_bytes
							      : &f->own[tid].remote_bytes;

	if (node < 0)
		return;
	atomic_store_explicit(
		c, atomic_load_explicit(c, memory_order_relaxed) + rows * r->w->row_bytes,
		memory_order_relaxed);
}

/* rows [row0, row1) of the run times the columns x, plus bias, into the columns y; @next: see struct matmul */
static void product(const struct block_args *a, const struct run *r, const void *const *x,
		    float *const *y, uint32_t cols, size_t row0, size_t row1, const void *next,
		    unsigned tid)
{
	struct matmul m = { .type = r->w->type,
			    .w = r->data,
			    .row_bytes = r->w->row_bytes,
			    .n = r->w->n_in,
			    .row0 = row0,
			    .row1 = row1,
			    .x = x,
			    .y = y,
			    .cols = cols,
			    .scratch = a->lanes[tid].scratch,
			    .next = next };

	a->ops->matmul(&m);
	for (uint32_t c = 0; r->bias && c < cols; c++)
		for (size_t i = row0; i < row1; i++)
			y[c][i] += r->bias[i];
	count_bytes(a, r, row1 - row0, tid);
}

static void gather_inputs(const struct block_args *a, const struct expert_work *w,
			  enum act_kind kind, const void **x)
{
	struct moe *f = moe_of(a);
	const struct actbuf *in = &a->in[kind];

	for (uint32_t i = 0; i < w->count; i++)
		x[i] = in->x[f->entries[w->first + i].token];
}

/*
 * A thread on its way through the runs of a phase (gate and up of everything, or down) on a node. Their
 * chunks, numbered over all of it, are shared by a counter.
 */
struct walk {
	struct round *round;
	_Atomic uint32_t *next; /* chunk that nobody has taken */
	uint32_t taken;		/* the one that is this thread's */
	uint32_t base;		/* the first one of the run that it stands at */
	bool down;
	uint32_t node, i; /* it stands at a matrix of the ready work i */
	int matrix;
	struct run run;
	size_t rows;	   /* of a chunk of the run */
	uint32_t n_chunks; /* of the run */
};

/* Rows of a chunk where @k stands: the fewer the less is left of the phase, so that threads end together. */
static size_t chunk_rows(const struct block_args *a, const struct walk *k)
{
	const struct moe *f = moe_of(a);
	const struct round *r = k->round;
	const struct wmat *w = k->run.w;
	size_t n = k->run.end - k->run.first, threads = div_ceil(team_size(a->team), f->c.split.n);
	size_t bytes = (r->n_ready - k->i) * n * w->row_bytes / (threads * CHUNKS_EACH), chunks;

	if (!k->down && first_matrix(&f->work[r->ready[k->i]]) == EXPERT_GATE)
		bytes *= 2;
	bytes = u64_min(u64_max(bytes, CHUNK_LEAST), CHUNK_MOST);
	chunks = u64_max(1, div_ceil(n * w->row_bytes, bytes));
	return u64_max(1, div_ceil(n, chunks * a->ops->row_tile)) * a->ops->row_tile;
}

static void walk_take(struct walk *k)
{
	k->taken = atomic_fetch_add_explicit(k->next, 1, memory_order_relaxed);
}

/* Stands at the run that (i, matrix) says, or the first one behind it; false: there is none. */
static bool walk_stand(const struct block_args *a, struct walk *k)
{
	const struct moe *f = moe_of(a);
	const struct round *r = k->round;

	while (k->i < r->n_ready && f->failed[r->ready[k->i]])
		k->i++;
	if (k->i == r->n_ready)
		return false;
	if (k->matrix < 0)
		k->matrix = k->down ? EXPERT_DOWN : first_matrix(&f->work[r->ready[k->i]]);
	k->run = run_of(a, &f->work[r->ready[k->i]], k->matrix, k->node);
	k->rows = chunk_rows(a, k);
	k->n_chunks = (uint32_t)div_ceil(k->run.end - k->run.first, k->rows);
	return true;
}

static bool walk_begin(const struct block_args *a, struct round *r, struct walk *k, bool down,
		       uint32_t node)
{
	*k = (struct walk){ .round = r,
			    .next = &r->cursor[down][node].next,
			    .down = down,
			    .node = node,
			    .matrix = -1 };
	return walk_stand(a, k);
}

static bool walk_on(const struct block_args *a, struct walk *k)
{
	k->base += k->n_chunks;
	if (k->matrix == EXPERT_GATE) {
		k->matrix = EXPERT_UP;
	} else {
		k->i++;
		k->matrix = -1;
	}
	return walk_stand(a, k);
}

static const struct expert_work *walk_work(const struct block_args *a, const struct walk *k)
{
	const struct moe *f = moe_of(a);

	return &f->work[k->round->ready[k->i]];
}

/* Where the chunk that was taken begins; behind the last of gate and up, one of down that may come next. */
static const void *taken_chunk(const struct block_args *a, struct walk k, unsigned tid)
{
	while (k.taken >= k.base + k.n_chunks)
		if (!walk_on(a, &k)) {
			if (k.down || !walk_begin(a, k.round, &k, true, k.node))
				return NULL;
			k.taken = tid;
		}
	return k.run.data + (k.run.first + (k.taken - k.base) * k.rows) * k.run.w->row_bytes;
}

/*
 * The chunks of the run at hand that come to this thread: those of lane->x and lane->y, @cols of each. The rows are
 * counted in @done; true where they are the last of @all.
 */
static bool share_rows(const struct block_args *a, uint32_t cols, struct walk *k,
		       _Atomic uint32_t *done, size_t all, unsigned tid)
{
	const struct lane *lane = &a->lanes[tid];
	const struct run *r = &k->run;
	size_t n = 0;

	while (k->taken < k->base + k->n_chunks) {
		size_t row0 = r->first + (k->taken - k->base) * k->rows;
		size_t end = u64_min(row0 + k->rows, r->end);
		size_t tail = row0 + linear_body(r->w->row_bytes, end - row0, cols);

		if (row0 < tail)
			product(a, r, lane->x, lane->y, cols, row0, tail, NULL, tid);
		walk_take(k);
		product(a, r, lane->x, lane->y, cols, tail, end, taken_chunk(a, *k, tid), tid);
		n += end - row0;
	}
	return n && team_last(done, n, all);
}

/* Activation and quantisation of the hidden values of a work, whose first column is @column. */
static void activate_work(const struct block_args *a, const struct expert_work *w, size_t column)
{
	struct moe *f = moe_of(a);
	const struct wmat *down = &w->m[EXPERT_DOWN];
	const struct actbuf *act = &f->hidden.form[down->act];
	size_t n = down->n_in, stride = a->ops->act_bytes(down->act, n);

	for (size_t end = column + w->count; column < end; column++) {
		float *g = f->hidden_gate + column * f->max_ff;

		activate(a->model->activation, a->fops, g, f->hidden_up + column * f->max_ff, g, n);
		a->ops->act_quantize(down->act, g, n, act->data + column * stride);
	}
}

static void rows_gate_up(const struct block_args *a, struct round *r, uint32_t node, unsigned tid)
{
	struct moe *f = moe_of(a);
	struct lane *lane = &a->lanes[tid];
	struct walk walk;
	bool more = walk_begin(a, r, &walk, false, node);

	for (walk_take(&walk); more; more = walk_on(a, &walk)) {
		const struct expert_work *w = walk_work(a, &walk);
		float *hidden = walk.matrix == EXPERT_UP ? f->hidden_up : f->hidden_gate;
		size_t all = w->m[EXPERT_GATE].n_out + w->m[EXPERT_UP].n_out;

		if (walk.taken >= walk.base + walk.n_chunks)
			continue;
		gather_inputs(a, w, walk.run.w->act, lane->x);
		for (uint32_t k = 0; k < w->count; k++)
			lane->y[k] = hidden + (r->slot[walk.i] + k) * f->max_ff;
		if (share_rows(a, w->count, &walk, &r->up_done[walk.i], all, tid))
			activate_work(a, w, r->slot[walk.i]);
	}
}

static bool rows_down(const struct block_args *a, struct round *r, uint32_t node, unsigned tid)
{
	struct moe *f = moe_of(a);
	struct lane *lane = &a->lanes[tid];
	struct walk walk;
	bool more = walk_begin(a, r, &walk, true, node), last = false;

	for (walk_take(&walk); more; more = walk_on(a, &walk)) {
		const struct expert_work *w = walk_work(a, &walk);
		const struct wmat *down = walk.run.w;
		const struct actbuf *act = &f->hidden.form[down->act];
		size_t stride = a->ops->act_bytes(down->act, down->n_in);

		if (walk.taken >= walk.base + walk.n_chunks)
			continue;
		for (uint32_t k = 0; k < w->count; k++) {
			lane->x[k] = act->data + (r->slot[walk.i] + k) * stride;
			lane->y[k] = entry_partial(f, &f->entries[w->first + k]);
		}
		last |= share_rows(a, w->count, &walk, &r->down_done, r->down_rows, tid);
	}
	return last;
}

/* All rows of one matrix by one thread, wherever they lie. */
static void whole_matrix(const struct block_args *a, const struct expert_work *w, int matrix,
			 unsigned tid)
{
	struct moe *f = moe_of(a);
	struct lane *lane = &a->lanes[tid];

	for (uint32_t i = 0; i < f->c.split.n; i++) {
		struct run r = run_of(a, w, matrix, i);

		if (r.first < r.end)
			product(a, &r, lane->x, lane->y, w->count, r.first, r.end, NULL, tid);
	}
}

/* One expert from input to partial results by one thread. */
static void whole_expert(const struct block_args *a, const struct expert_work *w, unsigned tid)
{
	struct moe *f = moe_of(a);
	struct lane *lane = &a->lanes[tid];
	struct own *own = &f->own[tid];
	enum act_kind kind = w->m[EXPERT_DOWN].act;
	size_t n_ff = w->m[EXPERT_DOWN].n_in, stride = a->ops->act_bytes(kind, n_ff);

	for (int matrix = first_matrix(w); matrix <= EXPERT_UP; matrix++) {
		gather_inputs(a, w, w->m[matrix].act, lane->x);
		for (uint32_t k = 0; k < w->count; k++)
			lane->y[k] = (matrix == EXPERT_UP ? own->up : own->gate) + k * n_ff;
		whole_matrix(a, w, matrix, tid);
	}
	for (uint32_t k = 0; k < w->count; k++) {
		float *g = own->gate + k * n_ff;

		activate(a->model->activation, a->fops, g, own->up + k * n_ff, g, n_ff);
		lane->x[k] = own->act.data + k * stride;
		a->ops->act_quantize(kind, g, n_ff, own->act.data + k * stride);
		lane->y[k] = entry_partial(f, &f->entries[w->first + k]);
	}
	whole_matrix(a, w, EXPERT_DOWN, tid);
}

static void clear_failed(const struct block_args *a, const struct round *r)
{
	struct moe *f = moe_of(a);

	for (uint32_t i = 0; i < r->n_ready; i++) {
		const struct expert_work *w = &f->work[r->ready[i]];

		for (uint32_t k = 0; k < w->count && f->failed[r->ready[i]]; k++)
			memset(entry_partial(f, &f->entries[w->first + k]), 0,
			       f->n_embd * sizeof(float));
	}
}

/* Whole experts from a counter. */
static void whole_experts(const struct block_args *a, struct round *r, unsigned tid)
{
	struct moe *f = moe_of(a);

	for (;;) {
		uint32_t i =
			atomic_fetch_add_explicit(&r->cursor[0][0].next, 1, memory_order_relaxed);

		if (i >= r->n_ready)
			return;
		if (!f->failed[r->ready[i]])
			whole_expert(a, &f->work[r->ready[i]], tid);
	}
}

/* The plan is there to be read by who is in time; the others find no row left. */
void experts_hidden(const struct block_args *a, struct round *r, unsigned tid)
{
	const struct own *own = &moe_of(a)->own[tid];

	if (team_once(a->team, tid))
		clear_failed(a, r);
	if (team_in_time(a->team, tid) && r->whole)
		whole_experts(a, r, tid);
	else if (team_in_time(a->team, tid))
		for (uint32_t i = 0; i < own->n_runs; i++)
			rows_gate_up(a, r, own->runs[i], tid);
}

bool experts_down(const struct block_args *a, struct round *r, unsigned tid)
{
	const struct own *own = &moe_of(a)->own[tid];
	bool last = team_once(a->team, tid) && !r->down_rows;

	if (team_in_time(a->team, tid) && r->down_rows)
		for (uint32_t i = 0; i < own->n_runs; i++)
			last |= rows_down(a, r, own->runs[i], tid);
	return last;
}
