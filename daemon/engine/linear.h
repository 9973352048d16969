/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/linear.h: dense weights in memory, and products with them by the whole team.
 *
 * All calls marked SPMD are made by every thread of the team with the same arguments and their own
 * tid; none of them contains a barrier unless its comment says so.
 */
#ifndef SLUICE_ENGINE_LINEAR_H
#define SLUICE_ENGINE_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#include "engine/carve.h"
#include "engine/team.h"
#include "kernels/cpu/cpu.h"
#include "model/role.h"

/* A weight matrix that lies in memory: n_out rows of n_in weights. data == NULL: absent. */
struct wmat {
	uint32_t type;
	size_t n_in, n_out, row_bytes;
	const uint8_t *data;
	enum act_kind act; /* the form its columns take */
};

/* The dense weights of a layer in memory, by role; what the model does not have has no data. */
struct layer_weights {
	struct wmat w[ROLE_NR];
};

/* A weight of the kind ROLE_FLOATS; NULL where it is absent. */
static inline const float *layer_floats(const struct layer_weights *w, enum role role)
{
	return (const float *)w->w[role].data;
}

/*
 * Activations of up to max_cols columns in one quantised form, and the pointer lists that matmul
 * wants. Memory is the owner's, taken at start; see actbuf_carve().
 */
struct actbuf {
	const struct cpu_ops *ops;
	enum act_kind kind;
	size_t n;      /* values per column */
	size_t stride; /* bytes per column */
	size_t max_cols;
	uint8_t *data;	/* max_cols * stride, 64-byte aligned */
	const void **x; /* max_cols pointers into data */
};

/* Takes room for @max_cols columns of up to @max_n values in the widest form from @c. */
void actbuf_carve(struct actbuf *a, struct carver *c, const struct cpu_ops *ops, size_t max_n,
		  size_t max_cols);

/* By one thread: @a holds @cols columns of @n values in the form @kind, which are written elsewhere. */
void actbuf_describe(struct actbuf *a, enum act_kind kind, size_t n, size_t cols);

/* What every thread needs to multiply: its scratch and a list of output columns. */
struct lane {
	void *scratch;	/* matmul scratch, see cpu_ops */
	float **y;	/* max_cols pointers */
	const void **x; /* max_cols pointers, for gathered columns */
	float *tmp;	/* lane_tmp_floats floats, 64-byte aligned, for the mixers' own use */
	size_t tmp_floats;
};

/*
 * What is done with results as soon as they are there: @n of them are cut in groups of @size (the last may be
 * smaller, and more than @n is one group), and who completes a group calls finish() for it, in the same phase.
 */
struct groups {
	_Atomic uint32_t *done; /* per group: results that are there; 0 between phases */
	size_t size;
	size_t products; /* that count into the groups, each with as many results */
	void (*finish)(const void *arg, unsigned tid, size_t group);
	const void *arg;
};

/* In a unit: results [first, end) of @n are there. @g NULL: nobody waits for them. */
void groups_count(const struct groups *g, unsigned tid, size_t n, size_t first, size_t end);

/*
 * SPMD. y[c * ldy + r] = dot(row r of w, column c of a) + bias[r] for every row (@bias NULL: none),
 * rows given out to the team (on several NUMA nodes: each thread's own). a must hold the form w->act.
 * No barrier before or after.
 */
void linear(const struct wmat *w, const float *bias, const struct actbuf *a, size_t cols, float *y,
	    size_t ldy, struct team *team, unsigned tid, struct lane *lane);

/*
 * The same. @then: the product that comes next in this phase, whose memory is asked for at the end of this one;
 * @groups: of rows, in all columns. Both may be NULL.
 */
void linear_then(const struct wmat *w, const struct wmat *then, const struct groups *groups,
		 const float *bias, const struct actbuf *a, size_t cols, float *y, size_t ldy,
		 struct team *team, unsigned tid, struct lane *lane);

/*
 * Of @rows rows that a thread multiplies in one go the number of those before which it need not know what it
 * does next: kernels ask for memory ahead, and behind the last rows lies what another thread reads. 0: none.
 */
size_t linear_body(size_t row_bytes, size_t rows, size_t cols);

#endif
