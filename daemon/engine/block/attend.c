/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/attend.c: queries over the KV cache, in segments and blocks of absolute
 * positions. See attention.h.
 *
 * Prompts take tiles of tokens through the blocks together; decode of few tokens divides the
 * segments between threads. A position sees the positions from first_seen() up to itself; blocks
 * and segments before are not looked at.
 */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "engine/block/attention.h"

static struct partial rows_from(struct partial p, size_t row, size_t dims)
{
	return (struct partial){ p.m + row, p.l + row, p.acc + row * dims };
}

static void clear(struct partial p, size_t rows, size_t dims)
{
	for (size_t r = 0; r < rows; r++) {
		p.m[r] = -INFINITY;
		p.l[r] = 0.0f;
	}
	memset(p.acc, 0, rows * dims * sizeof(*p.acc));
}

/* total <- total and part, for so many rows */
static void merge(const struct block_args *a, struct partial total, struct partial part,
		  size_t rows)
{
	size_t dims = a->layer->attention.value_dim;

	for (size_t r = 0; r < rows; r++)
		a->fops->attend_merge(&total.m[r], &total.l[r], total.acc + r * dims, part.m[r],
				      part.l[r], part.acc + r * dims, dims);
}

/* The first position that @position sees. */
static uint32_t first_seen(const struct block_args *a, uint32_t position)
{
	uint32_t window = a->layer->attention.window;

	return window && position >= window ? position - window + 1 : 0;
}

/* Positions [first, end) of a block, for rows [row, row + rows) of the query. */
struct view {
	uint32_t block;
	unsigned first, end;
	bool more; /* the next block follows */
	size_t row, rows;
};

/* Of block @block what @position sees; it sees something. */
static struct view view_of(const struct block_args *a, uint32_t block, uint32_t position)
{
	uint32_t start = block * KV_BLOCK, from = first_seen(a, position);

	return (struct view){ .block = block,
			      .first = from > start ? from - start : 0,
			      .end = (unsigned)u64_min(KV_BLOCK, position + 1 - start) };
}

static void attend_block(const struct block_args *a, const struct batch_run *run, uint32_t head,
			 const struct view *w, struct partial p)
{
	size_t dims = a->layer->attention.head_dim;
	struct attend_args args = {
		.type = seq_kv_type(run->seq),
		.head_dim = dims,
		.value_dim = a->layer->attention.value_dim,
		.first = w->first,
		.n_valid = w->end,
		.rows = w->rows,
		.q = attention_buffers(a)->query + w->row * dims,
		.m = p.m,
		.l = p.l,
		.acc = p.acc,
	};
	void *k, *v, *next;

	seq_kv(run->seq, a->layer_index, head, w->block, &k, &v);
	args.k = k;
	args.v = v;
	if (w->more) {
		seq_kv(run->seq, a->layer_index, head, w->block + 1, &next, &v);
		args.next_k = next;
	}
	a->fops->attend(&args);
}

/* A tile: @n tokens of a run from its token @t0 on, and one KV head. */
struct tile {
	const struct batch_run *run;
	uint32_t head, t0, n;
};

/*
 * One block for the tokens [from, to) of a tile, all of which see some of it. Neighbours that see
 * all of it go together; the others, at whose position or window it is cut, one by one.
 */
static void tile_block(const struct block_args *a, const struct tile *t, uint32_t block,
		       uint32_t from, uint32_t to, struct partial p)
{
	uint32_t group = group_of(a), start = block * KV_BLOCK, pos = t->run->pos + t->t0;
	size_t row = row_of(a, t->head, t->run->first + t->t0),
	       dims = a->layer->attention.value_dim;

	for (uint32_t i = start > pos + from ? start - pos : from, next; i < to; i = next) {
		struct view w = view_of(a, block, pos + i);

		next = i + 1;
		if (first_seen(a, pos + i) >= start + KV_BLOCK)
			continue;
		while (w.first == 0 && w.end == KV_BLOCK && next < to &&
		       first_seen(a, pos + next) <= start)
			next++;
		w.more = w.end == KV_BLOCK && start + KV_BLOCK < pos + t->n;
		w.row = row + i * group;
		w.rows = (next - i) * group;
		attend_block(a, t->run, t->head, &w, rows_from(p, i * group, dims));
	}
}

static void run_tile(const struct block_args *a, unsigned tid, const struct tile *t)
{
	struct attention_buffers *buffers = attention_buffers(a);
	uint32_t group = group_of(a), pos = t->run->pos + t->t0, last = pos + t->n - 1;
	size_t dims = a->layer->attention.value_dim;
	struct partial total =
		rows_from(buffers->total, row_of(a, t->head, t->run->first + t->t0), dims);

	clear(total, t->n * group, dims);
	for (uint32_t segment = first_seen(a, pos) / SEGMENT; segment <= last / SEGMENT;
	     segment++) {
		/* tokens [from, to) see some of it */
		uint32_t start = segment * SEGMENT, from = start > pos ? start - pos : 0, to = t->n;
		struct partial part = segment ? buffers->tiles[tid] : total;

		while (to > from && first_seen(a, pos + to - 1) >= start + SEGMENT)
			to--;
		if (segment)
			clear(part, t->n * group, dims);
		for (uint32_t b = 0; b < SEGMENT_BLOCKS && start + b * KV_BLOCK <= last; b++)
			tile_block(a, t, segment * SEGMENT_BLOCKS + b, from, to, part);
		if (segment)
			merge(a, rows_from(total, from * group, dims),
			      rows_from(part, from * group, dims), (to - from) * group);
	}
}

typedef void (*finish_fn)(const struct block_args *a, unsigned tid, size_t column, uint32_t head);

/* Task @task: KV heads within tiles of @tokens within runs. */
static void run_task(const struct block_args *a, unsigned tid, uint32_t task, uint32_t tokens,
		     finish_fn finish)
{
	const struct batch_run *run = a->batch->runs;
	uint32_t n_heads = a->layer->attention.n_head_kv;
	struct tile t;

	while (task >= div_ceil(run->count, tokens) * n_heads)
		task -= (uint32_t)div_ceil(run++->count, tokens) * n_heads;
	t.run = run;
	t.head = task % n_heads;
	t.t0 = task / n_heads * tokens;
	t.n = (uint32_t)u64_min(tokens, run->count - t.t0);
	run_tile(a, tid, &t);
	for (uint32_t i = 0; finish && i < t.n; i++)
		finish(a, tid, run->first + t.t0 + i, t.head);
}

/* The tiles of the longest contexts are given out first. */
static void attend_tiles(const struct block_args *a, unsigned tid, finish_fn finish)
{
	const struct batch *b = a->batch;
	uint32_t n_heads = a->layer->attention.n_head_kv, group = group_of(a), n_tasks = 0, tokens;
	size_t pairs = (size_t)b->n_tokens * n_heads, first, end;

	tokens = (uint32_t)u64_max(1, u64_min(TILE_ROWS / group, pairs / 4 / team_size(a->team)));
	for (uint32_t i = 0; i < b->n_runs; i++)
		n_tasks += (uint32_t)div_ceil(b->runs[i].count, tokens) * n_heads;
	while (team_take_range(a->team, tid, n_tasks, 1, &first, &end))
		for (size_t i = first; i < end; i++)
			run_task(a, tid, n_tasks - 1 - (uint32_t)i, tokens, finish);
}

static uint32_t position_of(const struct block_args *a, uint32_t column)
{
	const struct batch_run *run = run_of(a->batch, column);

	return run->pos + column - run->first;
}

/* The segments [*ret_first, *ret_end) that a position sees. */
static void segments_of(const struct block_args *a, uint32_t position, uint32_t *ret_first,
			uint32_t *ret_end)
{
	*ret_first = first_seen(a, position) / SEGMENT;
	*ret_end = position / SEGMENT + 1;
}

static void run_segment(const struct block_args *a, uint32_t column, uint32_t head,
			uint32_t segment, struct partial slot)
{
	const struct batch_run *run = run_of(a->batch, column);
	uint32_t position = run->pos + column - run->first, group = group_of(a);

	clear(slot, group, a->layer->attention.value_dim);
	for (uint32_t b = segment * SEGMENT_BLOCKS; b < (segment + 1) * SEGMENT_BLOCKS; b++) {
		struct view w;

		if (b * KV_BLOCK > position)
			break;
		if (first_seen(a, position) >= (b + 1) * KV_BLOCK)
			continue;
		w = view_of(a, b, position);
		w.more = (b + 1) * KV_BLOCK <= position;
		w.row = row_of(a, head, column);
		w.rows = group;
		attend_block(a, run, head, &w, slot);
	}
}

/* Of each (column, KV head) the segments [first, first + window) of its own. */
static void segment_window(const struct block_args *a, unsigned tid, uint32_t first,
			   uint32_t window)
{
	uint32_t n_heads = a->layer->attention.n_head_kv, pairs = a->batch->n_tokens * n_heads;

	for (uint32_t p = 0; p < pairs; p++) {
		uint32_t from, to, n;

		segments_of(a, position_of(a, p / n_heads), &from, &to);
		n = to - from > first ? (uint32_t)u64_min(window, to - from - first) : 0;
		for (size_t s; team_take(a->team, tid, n, &s);)
			run_segment(a, p / n_heads, p % n_heads, from + first + (uint32_t)s,
				    attention_buffers(a)->slots[p * window + s]);
	}
}

/* Adds a window's parts to the totals, in order. */
static void merge_window(const struct block_args *a, unsigned tid, uint32_t first, uint32_t window,
			 finish_fn finish)
{
	uint32_t n_heads = a->layer->attention.n_head_kv, group = group_of(a), from, to;
	size_t dims = a->layer->attention.value_dim;

	for (size_t p; team_take(a->team, tid, (size_t)a->batch->n_tokens * n_heads, &p);) {
		uint32_t column = (uint32_t)(p / n_heads), head = (uint32_t)(p % n_heads);
		struct partial total =
			rows_from(attention_buffers(a)->total, row_of(a, head, column), dims);

		segments_of(a, position_of(a, column), &from, &to);
		for (uint32_t s = first; s < first + window && from + s < to; s++) {
			struct partial slot = attention_buffers(a)->slots[p * window + s - first];

			/* as run_tile(): only the very first segment begins a total */
			if (s == 0 && from)
				clear(total, group, dims);
			if (s || from) {
				merge(a, total, slot, group);
				continue;
			}
			memcpy(total.m, slot.m, group * sizeof(*total.m));
			memcpy(total.l, slot.l, group * sizeof(*total.l));
			memcpy(total.acc, slot.acc, group * dims * sizeof(*total.acc));
		}
		if (finish && first < to - from && to - from <= first + window)
			finish(a, tid, column, head);
	}
}

void attend(const struct block_args *a, unsigned tid, finish_fn finish)
{
	uint32_t pairs = a->batch->n_tokens * a->layer->attention.n_head_kv;
	uint32_t longest = 0, window, from, to;

	for (uint32_t i = 0; i < a->batch->n_runs; i++) {
		const struct batch_run *run = &a->batch->runs[i];

		segments_of(a, run->pos + run->count - 1, &from, &to);
		longest = (uint32_t)u64_max(longest, to - from);
	}
	/* enough for everyone without cutting contexts, or nothing to cut */
	if (longest == 1 || team_size(a->team) == 1 || pairs >= 4 * team_size(a->team)) {
		attend_tiles(a, tid, finish);
		return;
	}
	window = attention_buffers(a)->n_slots / pairs;
	for (uint32_t first = 0; first < longest; first += window) {
		segment_window(a, tid, first, window);
		team_barrier(a->team, tid);
		merge_window(a, tid, first, window, finish);
		if (first + window < longest)
			team_barrier(a->team, tid);
	}
}
