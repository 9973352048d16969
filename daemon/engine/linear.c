/* SPDX-License-Identifier: MIT */
/* daemon/engine/linear.c: see linear.h. */
#include "engine/linear.h"

#include <string.h>

#include "base/num.h"

#define UNIT_LEAST  (64 << 10) /* bytes of weights */
#define UNIT_MOST   (1 << 20)  /* some 36 us */
#define UNITS_EACH  3	       /* for a thread, where these bounds allow it */
#define UNITS_MOST  2048       /* of a product */
#define FEW_COLUMNS 8	       /* up to these, rows cost what their bytes do */
#define FEW_TILE    8	       /* rows that are multiplied side by side then */
#define TAIL_TILE   16	       /* the same, of any level and format */

void actbuf_carve(struct actbuf *a, struct carver *c, const struct cpu_ops *ops, size_t max_n,
		  size_t max_cols)
{
	size_t stride = 0;

	for (int kind = ACT_F32; kind < ACT_NR; kind++) {
		size_t bytes = ops->act_bytes(kind, align_up(max_n, 256));

		stride = bytes > stride ? bytes : stride;
	}
	memset(a, 0, sizeof(*a));
	a->ops = ops;
	a->max_cols = max_cols;
	a->data = carve(c, max_cols, stride);
	a->x = carve(c, max_cols, sizeof(*a->x));
}

void actbuf_describe(struct actbuf *a, enum act_kind kind, size_t n, size_t cols)
{
	a->kind = kind;
	a->n = n;
	a->stride = a->ops->act_bytes(kind, n);
	for (size_t c = 0; c < cols; c++)
		a->x[c] = a->data + c * a->stride;
}

/*
 * Rows of a unit: enough that going from one to another, about two microseconds where memory is fast, costs little
 * beside it, few enough that the last ones end together and that a thread which loses its core holds little.
 */
static size_t unit_rows(const struct wmat *w, const struct actbuf *a, size_t cols,
			unsigned n_threads)
{
	size_t tile = cols > FEW_COLUMNS ? a->ops->row_tile : FEW_TILE, rows;
	size_t all = w->n_out * w->row_bytes, bytes = all / (n_threads * UNITS_EACH);

	bytes = bytes < UNIT_LEAST ? UNIT_LEAST : bytes > UNIT_MOST ? UNIT_MOST : bytes;
	rows = cols > FEW_COLUMNS ? tile : align_up(div_ceil(w->n_out, div_ceil(all, bytes)), tile);
	while (div_ceil(w->n_out, rows) > UNITS_MOST)
		rows *= 2;
	return rows;
}

static void multiply(const struct wmat *w, const float *bias, const struct actbuf *a,
		     struct matmul *m)
{
	a->ops->matmul(m);
	for (size_t c = 0; bias && c < m->cols; c++)
		for (size_t r = m->row0; r < m->row1; r++)
			m->y[c][r] += bias[r];
}

size_t linear_body(size_t row_bytes, size_t rows, size_t cols)
{
	size_t tail = align_up(div_ceil(MATMUL_AHEAD, row_bytes), TAIL_TILE);

	return cols > FEW_COLUMNS || rows <= tail ? 0 : (rows - tail) / TAIL_TILE * TAIL_TILE;
}

/* What this thread is likely to read when it has done its last unit of a product: of @then, which comes next. */
static const void *next_product(const struct wmat *then, const struct actbuf *a, size_t cols,
				const struct team *team, unsigned tid)
{
	size_t rows, unit;

	if (!then || !then->data)
		return NULL;
	rows = unit_rows(then, a, cols, team_size(team));
	unit = team_given(team, tid);
	return unit < div_ceil(then->n_out, rows) ? then->data + unit * rows * then->row_bytes
						  : NULL;
}

void groups_count(const struct groups *g, unsigned tid, size_t n, size_t first, size_t end)
{
	while (g && first < end) {
		size_t size = u64_min(g->size, n), group = first / size;
		size_t last = u64_min((group + 1) * size, n), to = u64_min(last, end);

		if (team_last(&g->done[group], to - first, (last - group * size) * g->products))
			g->finish(g->arg, tid, group);
		first = to;
	}
}

void linear(const struct wmat *w, const float *bias, const struct actbuf *a, size_t cols, float *y,
	    size_t ldy, struct team *team, unsigned tid, struct lane *lane)
{
	linear_then(w, NULL, NULL, bias, a, cols, y, ldy, team, tid, lane);
}

void linear_then(const struct wmat *w, const struct wmat *then, const struct groups *groups,
		 const float *bias, const struct actbuf *a, size_t cols, float *y, size_t ldy,
		 struct team *team, unsigned tid, struct lane *lane)
{
	struct matmul m = {
		.type = w->type,
		.w = w->data,
		.row_bytes = w->row_bytes,
		.n = w->n_in,
		.x = a->x,
		.y = lane->y,
		.cols = cols,
		.scratch = lane->scratch,
	};
	size_t rows, unit;

	for (size_t c = 0; c < cols; c++)
		lane->y[c] = y + c * ldy;
	if (team_has_nodes(team)) { /* these rows lie on this thread's node: weights.c */
		team_share(w->n_out, a->ops->row_tile, tid, team_size(team), &m.row0, &m.row1);
		if (m.row0 < m.row1)
			multiply(w, bias, a, &m);
		groups_count(groups, tid, w->n_out, m.row0, m.row1);
		return;
	}
	rows = unit_rows(w, a, cols, team_size(team));
	for (bool taken = team_take(team, tid, div_ceil(w->n_out, rows), &unit); taken;) {
		const size_t first = unit * rows, end = u64_min(first + rows, w->n_out);

		m.row0 = first;
		m.row1 = m.row0 + linear_body(w->row_bytes, end - m.row0, cols);
		m.next = NULL; /* in one piece with what comes next */
		if (m.row0 < m.row1)
			multiply(w, bias, a, &m);
		/* the unit after this one is known before the last rows, and no earlier than it must be */
		taken = team_take(team, tid, div_ceil(w->n_out, rows), &unit);
		m.row0 = m.row1;
		m.row1 = end;
		m.next = taken ? w->data + unit * rows * w->row_bytes
			       : next_product(then, a, cols, team, tid);
		multiply(w, bias, a, &m);
		groups_count(groups, tid, w->n_out, first, end);
	}
}
