/* SPDX-License-Identifier: MIT */
/* daemon/engine/linear.c: see linear.h. */
#include "engine/linear.h"

#include <string.h>

#include "base/num.h"

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

void actbuf_quantize(struct actbuf *a, struct team *team, unsigned tid, enum act_kind kind,
		     const float *x, size_t ldx, size_t n, size_t cols)
{
	size_t stride = a->ops->act_bytes(kind, n);
	unsigned n_threads = team_size(team);
	size_t first, end;

	if (tid == 0) {
		a->kind = kind;
		a->n = n;
		a->stride = stride;
		for (size_t c = 0; c < cols; c++)
			a->x[c] = a->data + c * stride;
	}
	if (cols >= n_threads) {
		team_share(cols, 1, tid, n_threads, &first, &end);
		for (size_t c = first; c < end; c++)
			a->ops->act_quantize(kind, x + c * ldx, n, a->data + c * stride);
		return;
	}
	team_share(n, 256, tid, n_threads, &first, &end);
	for (size_t c = 0; c < cols && first < end; c++)
		a->ops->act_quantize_part(kind, x + c * ldx, n, a->data + c * stride, first,
					  end - first);
}

void linear(const struct wmat *w, const float *bias, const struct actbuf *a, size_t cols, float *y,
	    size_t ldy, struct team *team, unsigned tid, struct lane *lane)
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

	team_share(w->n_out, a->ops->row_tile, tid, team_size(team), &m.row0, &m.row1);
	if (m.row0 == m.row1)
		return;
	for (size_t c = 0; c < cols; c++)
		lane->y[c] = y + c * ldy;
	a->ops->matmul(&m);
	for (size_t c = 0; bias && c < cols; c++)
		for (size_t r = m.row0; r < m.row1; r++)
			lane->y[c][r] += bias[r];
}
