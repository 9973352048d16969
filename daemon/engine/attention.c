/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/attention.c: softmax attention over the KV cache, gated or not. See mixer.h.
 *
 * Formulas: docs/models.md 2.4 (gated full attention, rope). Stages, a barrier between them:
 *   quantise the input | q, k, v projections | norm and rotate heads, write the cache |
 *   attend | gate and quantise | output projection
 * In the attend stage a (token, KV head) walks the cache in segments and blocks of absolute
 * positions, whoever computes it: prompts take tiles of tokens through the blocks together, decode
 * of few tokens divides the segments between threads. Same order, same bits.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "engine/mixer_private.h"

/* Query rows of a KV head. */
static uint32_t group_of(const struct mixer_args *a)
{
	return a->layer->attention.n_head / a->layer->attention.n_head_kv;
}

/* First row of (KV head, column) in the query and in the totals. */
static size_t row_of(const struct mixer_args *a, uint32_t head, size_t column)
{
	return ((size_t)head * a->batch->n_tokens + column) * group_of(a);
}

static struct partial rows_from(struct partial p, size_t row, size_t head_dim)
{
	return (struct partial){ p.m + row, p.l + row, p.acc + row * head_dim };
}

static void clear(struct partial p, size_t rows, size_t head_dim)
{
	for (size_t r = 0; r < rows; r++) {
		p.m[r] = -INFINITY;
		p.l[r] = 0.0f;
	}
	memset(p.acc, 0, rows * head_dim * sizeof(*p.acc));
}

/* total <- total and part, for so many rows */
static void merge(const struct mixer_args *a, struct partial total, struct partial part,
		  size_t rows)
{
	size_t dims = a->layer->attention.head_dim;

	for (size_t r = 0; r < rows; r++)
		a->fops->attend_merge(&total.m[r], &total.l[r], total.acc + r * dims, part.m[r],
				      part.l[r], part.acc + r * dims, dims);
}

static const struct batch_run *run_of(const struct batch *b, uint32_t column)
{
	const struct batch_run *run = b->runs;

	while (column - run->first >= run->count)
		run++;
	return run;
}

/* Cosines and sines of each column's position; kept from layer to layer of a step. */
static void prepare_angles(const struct mixer_args *a, unsigned tid)
{
	struct mixer_scratch *s = a->scratch;
	size_t first, end, half = s->rope.half;

	team_share(a->batch->n_tokens, 1, tid, team_size(a->team), &first, &end);
	for (size_t c = first; c < end; c++) {
		const struct batch_run *run = run_of(a->batch, (uint32_t)c);
		uint32_t position = run->pos + (uint32_t)c - run->first;

		if (s->attention.angle_of[c] == position + 1)
			continue;
		s->attention.angle_of[c] = position + 1;
		rope_angles(&s->rope, position, s->attention.cosine + c * half,
			    s->attention.sine + c * half);
	}
}

static void prepare_query(const struct mixer_args *a, size_t column, uint32_t head)
{
	const struct mixer_scratch *s = a->scratch;
	size_t dims = a->layer->attention.head_dim, half = s->rope.half;
	size_t stride = dims * (a->layer->attention.gated ? 2 : 1);
	const float *src = s->attention.q + (column * a->layer->attention.n_head + head) * stride;
	size_t row = row_of(a, head / group_of(a), column) + head % group_of(a);
	float *q = s->attention.query + row * dims;

	a->fops->rmsnorm(src, layer_floats(a->weights, ROLE_Q_NORM), dims, a->model->rms_eps, q);
	a->fops->rope(q, s->attention.cosine + column * half, s->attention.sine + column * half,
		      half);
	a->fops->scale(a->layer->attention.scale, q, q, dims);
}

static void write_cache(const struct mixer_args *a, unsigned tid, size_t column, uint32_t head)
{
	const struct mixer_scratch *s = a->scratch;
	const struct batch_run *run = run_of(a->batch, (uint32_t)column);
	uint32_t position = run->pos + (uint32_t)column - run->first;
	size_t dims = a->layer->attention.head_dim, half = s->rope.half;
	size_t at = (column * a->layer->attention.n_head_kv + head) * dims;
	float *k = a->lanes[tid].tmp;
	void *k_block, *v_block;

	assert(a->lanes[tid].tmp_floats >= dims);
	a->fops->rmsnorm(s->attention.k + at, layer_floats(a->weights, ROLE_K_NORM), dims,
			 a->model->rms_eps, k);
	a->fops->rope(k, s->attention.cosine + column * half, s->attention.sine + column * half,
		      half);
	seq_kv(run->seq, a->layer_index, head, position / KV_BLOCK, &k_block, &v_block);
	a->fops->kv_store(seq_kv_type(run->seq), dims, position % KV_BLOCK, k, s->attention.v + at,
			  k_block, v_block);
}

/* Norm, rotation and cache for this thread's share of (token, head). */
static void prepare_heads(const struct mixer_args *a, unsigned tid)
{
	uint32_t n_q = a->layer->attention.n_head, n = n_q + a->layer->attention.n_head_kv;
	size_t first, end;

	team_share((size_t)a->batch->n_tokens * n, 1, tid, team_size(a->team), &first, &end);
	for (size_t i = first; i < end; i++) {
		uint32_t head = (uint32_t)(i % n);

		if (head < n_q)
			prepare_query(a, i / n, head);
		else
			write_cache(a, tid, i / n, head - n_q);
	}
}

/*
 * Rows [row, row + rows) of the query against @n_valid positions of a block, into @p; @more: the
 * next block follows.
 */
static void attend_block(const struct mixer_args *a, const struct batch_run *run, uint32_t head,
			 uint32_t block, unsigned n_valid, bool more, size_t row, size_t rows,
			 struct partial p)
{
	size_t dims = a->layer->attention.head_dim;
	struct attend_args args = {
		.type = seq_kv_type(run->seq),
		.head_dim = dims,
		.n_valid = n_valid,
		.rows = rows,
		.q = a->scratch->attention.query + row * dims,
		.m = p.m,
		.l = p.l,
		.acc = p.acc,
	};
	void *k, *v, *next;

	seq_kv(run->seq, a->layer_index, head, block, &k, &v);
	args.k = k;
	args.v = v;
	if (more) {
		seq_kv(run->seq, a->layer_index, head, block + 1, &next, &v);
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
 * One block for the tokens [from, n) of a tile. Those that see all of it go together; the others,
 * at whose position the block ends, one by one.
 */
static void tile_block(const struct mixer_args *a, const struct tile *t, uint32_t block,
		       uint32_t from, struct partial p)
{
	uint32_t group = group_of(a), start = block * KV_BLOCK, pos = t->run->pos + t->t0;
	uint32_t full = start + KV_BLOCK - 1 > pos ? start + KV_BLOCK - 1 - pos : 0;
	uint32_t i = start > pos + from ? start - pos : from;
	size_t row = row_of(a, t->head, t->run->first + t->t0), dims = a->layer->attention.head_dim;

	for (; i < t->n && i < full; i++)
		attend_block(a, t->run, t->head, block, pos + i - start + 1, false, row + i * group,
			     group, rows_from(p, i * group, dims));
	if (i < t->n)
		attend_block(a, t->run, t->head, block, KV_BLOCK, start + KV_BLOCK < pos + t->n,
			     row + i * group, (t->n - i) * group, rows_from(p, i * group, dims));
}

static void run_tile(const struct mixer_args *a, unsigned tid, const struct tile *t)
{
	uint32_t group = group_of(a), pos = t->run->pos + t->t0, last = pos + t->n - 1;
	size_t dims = a->layer->attention.head_dim;
	struct partial total = rows_from(a->scratch->attention.total,
					 row_of(a, t->head, t->run->first + t->t0), dims);

	for (uint32_t segment = 0; segment <= last / SEGMENT; segment++) {
		uint32_t start = segment * SEGMENT, from = start > pos ? start - pos : 0;
		struct partial part = segment ? a->scratch->attention.tiles[tid] : total;

		clear(part, t->n * group, dims);
		for (uint32_t b = 0; b < SEGMENT_BLOCKS && start + b * KV_BLOCK <= last; b++)
			tile_block(a, t, segment * SEGMENT_BLOCKS + b, from, part);
		if (segment)
			merge(a, rows_from(total, from * group, dims),
			      rows_from(part, from * group, dims), (t->n - from) * group);
	}
}

/* Tiles are taken from a common counter, the longest contexts first. */
static void attend_tiles(const struct mixer_args *a, unsigned tid)
{
	const struct batch *b = a->batch;
	uint32_t n_heads = a->layer->attention.n_head_kv, group = group_of(a), n_tasks = 0, tokens;
	size_t pairs = (size_t)b->n_tokens * n_heads;

	tokens = (uint32_t)u64_max(1, u64_min(TILE_ROWS / group, pairs / 4 / team_size(a->team)));
	for (uint32_t i = 0; i < b->n_runs; i++)
		n_tasks += (uint32_t)div_ceil(b->runs[i].count, tokens) * n_heads;
	for (;;) {
		/* relaxed: what the tile reads was written before the last barrier */
		uint32_t task =
			atomic_fetch_add_explicit(&a->scratch->next_task, 1, memory_order_relaxed);
		const struct batch_run *run = b->runs;
		struct tile t;

		if (task >= n_tasks)
			return;
		task = n_tasks - 1 - task;
		while (task >= div_ceil(run->count, tokens) * n_heads)
			task -= (uint32_t)div_ceil(run++->count, tokens) * n_heads;
		t.run = run;
		t.head = task % n_heads;
		t.t0 = task / n_heads * tokens;
		t.n = (uint32_t)u64_min(tokens, run->count - t.t0);
		run_tile(a, tid, &t);
	}
}

/* Segments of one column's position. */
static uint32_t segments_of(const struct mixer_args *a, uint32_t column)
{
	const struct batch_run *run = run_of(a->batch, column);

	return (run->pos + column - run->first) / SEGMENT + 1;
}

static void run_segment(const struct mixer_args *a, uint32_t column, uint32_t head,
			uint32_t segment, struct partial slot)
{
	const struct batch_run *run = run_of(a->batch, column);
	uint32_t position = run->pos + column - run->first, group = group_of(a);

	clear(slot, group, a->layer->attention.head_dim);
	for (uint32_t b = segment * SEGMENT_BLOCKS; b < (segment + 1) * SEGMENT_BLOCKS; b++) {
		if (b * KV_BLOCK > position)
			break;
		attend_block(a, run, head, b,
			     (unsigned)u64_min(KV_BLOCK, position + 1 - b * KV_BLOCK),
			     (b + 1) * KV_BLOCK <= position, row_of(a, head, column), group, slot);
	}
}

/* This thread's share of the segments [first, first + window) of every (column, KV head). */
static void segment_window(const struct mixer_args *a, unsigned tid, uint32_t first,
			   uint32_t window)
{
	uint32_t n_heads = a->layer->attention.n_head_kv, pairs = a->batch->n_tokens * n_heads;
	size_t n = 0, at = 0, begin, end;

	for (uint32_t c = 0; c < a->batch->n_tokens; c++) {
		uint32_t segments = segments_of(a, c);

		n += segments > first ? u64_min(window, segments - first) * n_heads : 0;
	}
	team_share(n, 1, tid, team_size(a->team), &begin, &end);
	for (uint32_t p = 0; p < pairs; p++) {
		uint32_t segments = segments_of(a, p / n_heads);

		for (uint32_t s = first; s < first + window && s < segments; s++, at++)
			if (at >= begin && at < end)
				run_segment(a, p / n_heads, p % n_heads, s,
					    a->scratch->attention.slots[p * window + s - first]);
	}
}

/* Adds a window's parts to the totals, in order. */
static void merge_window(const struct mixer_args *a, unsigned tid, uint32_t first, uint32_t window)
{
	uint32_t n_heads = a->layer->attention.n_head_kv, group = group_of(a);
	size_t begin, end, dims = a->layer->attention.head_dim;

	team_share((size_t)a->batch->n_tokens * n_heads, 1, tid, team_size(a->team), &begin, &end);
	for (size_t p = begin; p < end; p++) {
		uint32_t column = (uint32_t)(p / n_heads), head = (uint32_t)(p % n_heads);
		uint32_t segments = segments_of(a, column);
		struct partial total =
			rows_from(a->scratch->attention.total, row_of(a, head, column), dims);

		for (uint32_t s = first; s < first + window && s < segments; s++) {
			struct partial slot = a->scratch->attention.slots[p * window + s - first];

			if (s) {
				merge(a, total, slot, group);
				continue;
			}
			memcpy(total.m, slot.m, group * sizeof(*total.m));
			memcpy(total.l, slot.l, group * sizeof(*total.l));
			memcpy(total.acc, slot.acc, group * dims * sizeof(*total.acc));
		}
	}
}

static void attend(const struct mixer_args *a, unsigned tid)
{
	uint32_t pairs = a->batch->n_tokens * a->layer->attention.n_head_kv, longest = 0, window;

	for (uint32_t i = 0; i < a->batch->n_runs; i++) {
		const struct batch_run *run = &a->batch->runs[i];

		longest = (uint32_t)u64_max(longest, (run->pos + run->count - 1) / SEGMENT + 1);
	}
	/* enough for everyone without cutting contexts, or nothing to cut */
	if (longest == 1 || team_size(a->team) == 1 || pairs >= 4 * team_size(a->team)) {
		attend_tiles(a, tid);
		return;
	}
	window = a->scratch->n_slots / pairs;
	for (uint32_t first = 0; first < longest; first += window) {
		segment_window(a, tid, first, window);
		team_barrier(a->team);
		merge_window(a, tid, first, window);
		if (first + window < longest)
			team_barrier(a->team);
	}
}

/* acc / l, times the gate where there is one: heads [first, end) / head_dim of a column */
static float *finish_heads(const struct mixer_args *a, unsigned tid, size_t column, size_t first,
			   size_t end)
{
	const struct attention_buffers *b = &a->scratch->attention;
	size_t dims = a->layer->attention.head_dim;
	float *out =
		b->query + column * a->layer->attention.n_head * dims; /* queries are done with */

	for (size_t head = first / dims; head * dims < end; head++) {
		size_t row = row_of(a, (uint32_t)head / group_of(a), column) + head % group_of(a);
		float *o = out + head * dims;

		a->fops->scale(1.0f / b->total.l[row], b->total.acc + row * dims, o, dims);
		if (a->layer->attention.gated)
			a->fops->sigmoid_mul(
				o,
				b->q + ((column * a->layer->attention.n_head + head) * 2 + 1) *
						dims,
				o, dims);
	}
	return out;
}

void attention_forward(const struct mixer_args *a, unsigned tid)
{
	const struct layer_weights *w = a->weights;
	struct mixer_scratch *s = a->scratch;
	struct lane *lane = &a->lanes[tid];
	size_t columns = a->batch->n_tokens;
	unsigned done = 0;

	assert(columns <= s->max_tokens && team_size(a->team) <= s->n_threads);
	if (tid == 0)
		atomic_store_explicit(&s->next_task, 0, memory_order_relaxed);
	mixer_input(a, tid, w->w[ROLE_WQ].act, &done);
	mixer_input(a, tid, w->w[ROLE_WK].act, &done);
	mixer_input(a, tid, w->w[ROLE_WV].act, &done);
	prepare_angles(a, tid);
	team_barrier(a->team);
	linear(&w->w[ROLE_WQ], &s->in[w->w[ROLE_WQ].act], columns, s->attention.q,
	       w->w[ROLE_WQ].n_out, a->team, tid, lane);
	linear(&w->w[ROLE_WK], &s->in[w->w[ROLE_WK].act], columns, s->attention.k,
	       w->w[ROLE_WK].n_out, a->team, tid, lane);
	linear(&w->w[ROLE_WV], &s->in[w->w[ROLE_WV].act], columns, s->attention.v,
	       w->w[ROLE_WV].n_out, a->team, tid, lane);
	team_barrier(a->team);
	prepare_heads(a, tid);
	team_barrier(a->team);
	attend(a, tid);
	team_barrier(a->team);
	mixer_output(a, tid, &w->w[ROLE_WO], a->layer->attention.head_dim, finish_heads);
}
