/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda.h: struct device over the CUDA runtime, shared by cuda.c (memory, weights) and
 * cuda_step.c (a step). Nobody else includes it.
 */
#ifndef SLUICE_DEVICE_CUDA_H
#define SLUICE_DEVICE_CUDA_H

#include <cuda_runtime_api.h>

#include "device/device.h"
#include "kernels/cuda/ops.h"

#define CUDA_FEW	 8   /* columns of a matvec */
#define CUDA_ATTEND_PART 256 /* positions of a part: fixed, since bits depend on it */
#define CUDA_ATTEND_ROWS 8   /* tokens of one launch of attention */
#define CUDA_FORMS	 2   /* int8 forms of a row */

/* A weight in the device's memory; p NULL: absent. */
struct cuda_weight {
	uint32_t type;
	size_t n, rows, row_bytes;
	void *p;
};

struct cuda_layer {
	struct cuda_weight w[ROLE_NR];
	void *pool;	     /* KV pages of all sequences */
	float *conv, *state; /* [n_seq]... */
};

/* Rows of floats and their int8 forms, made when a product first asks for one. */
struct cuda_rows {
	float *f;
	void *act[CUDA_FORMS];
	bool made[CUDA_FORMS];
	size_t n;
};

struct device {
	struct device_config c;
	char name[128];
	cudaStream_t stream;
	cudaEvent_t ready; /* what the host waits for in device_route() */
	void **owned;	   /* every piece of device memory */
	size_t n_owned, room_owned;
	uint64_t memory_bytes, dense_bytes;
	_Atomic uint64_t steps, launches;

	struct cuda_weight w[ROLE_NR]; /* outside the layers */
	struct cuda_layer *layers;
	struct cuda_delta_shape delta;

	/* the host's, pinned */
	float *in_x, *out_x, *sum, *weights, *logits;
	uint32_t *ids;
	uint32_t *lengths;    /* [n_seq] positions of each sequence that lie on the device */
	uint32_t *host_index; /* pos, seq, len [max_tokens], start [n_seq + 1], slot [n_seq] */

	/* the device's */
	float *x, *y; /* the stream; the result that waits to be added */
	bool waiting; /* y holds one */
	struct cuda_rows in, mid, head, hidden;
	float *a, *b, *q, *shared; /* scratch of blocks */
	float *alpha, *beta;
	float *router_logits, *router_weights, *d_logits;
	uint32_t *router_ids, *index, *table;
	float *rope;
	void *scratch;
	size_t pages; /* of a sequence */

	/* the step that runs */
	uint32_t n_tokens, n_runs, max_run, max_len;
	bool normed;
};

/* index of @host_index and @index */
static inline size_t cuda_start_at(const struct device *d)
{
	return 3 * (size_t)d->c.max_tokens;
}

static inline size_t cuda_slot_at(const struct device *d)
{
	return cuda_start_at(d) + d->c.n_seq + 1;
}

/* 0, or -EIO and what the runtime said of @what. */
int cuda_said(cudaError_t e, const char *what, struct err *err);

#endif
