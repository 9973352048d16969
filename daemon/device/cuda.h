/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda.h: a device over the CUDA runtime, shared by cuda.c (opening, memory, weights),
 * cuda_slots.c (experts), cuda_blocks.c (blocks of a layer) and cuda_step.c (a step). Nobody else includes
 * it.
 */
#ifndef SLUICE_DEVICE_CUDA_H
#define SLUICE_DEVICE_CUDA_H

#include <cuda_runtime_api.h>
#include <stdatomic.h>

#include "device/device_private.h"
#include "kernels/cuda/ops.h"

#define CUDA_FEW DEVICE_FEW

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
	void *act[DEVICE_FORMS];
	bool made[DEVICE_FORMS];
	size_t n;
};

/* Memory of the host that the device reads and writes: the same bytes at two addresses. */
struct cuda_mapped {
	void *host, *device;
};

/* How fills reach the device. */
enum cuda_way {
	CUDA_REGISTERED, /* from where the host keeps the experts */
	CUDA_RING,	 /* through pinned memory of the device's own */
	CUDA_WAITING	 /* one copy after the other, waited for */
};

struct cuda_device {
	struct device base;
	int number;
	char name[128];
	cudaStream_t stream, fill_stream;
	void **owned; /* every piece of device memory */
	size_t n_owned, room_owned;
	_Atomic uint64_t memory_bytes,
		dense_bytes; /* read by any thread while weights are loaded */
	_Atomic uint64_t steps, launches, layers_done, handoff_ns;

	struct cuda_weight w[ROLE_NR]; /* outside the layers */
	struct cuda_layer *layers;
	struct cuda_delta_shape delta;

	/* the host's, pinned */
	float *in_x, *logits;
	uint32_t *lengths;    /* [n_seq] positions of each sequence that lie on the device */
	uint32_t *host_index; /* pos, seq, len [max_tokens], start [n_seq + 1], slot [n_seq] */
	uint32_t *host_table; /* what the device reads of base.table */
	/* the host's, mapped: what a layer tells it, and what it puts there for the next */
	struct cuda_mapped word, to_ids, to_weights, to_x, rows;

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

	/* slots */
	uint8_t **class_base;
	uint32_t *slot_table;
	struct cuda_expert_entry *list;
	uint32_t *list_n, *place;
	float *group_hidden, *partial;
	cudaEvent_t fill_done[DEVICE_FILLS];
	uint64_t fills_asked, fills_done;
	enum cuda_way way;
	const uint8_t *host_base; /* of what is registered */
	uint64_t host_bytes;
	uint8_t *ring;
	uint64_t ring_slot;

	/* the step that runs */
	uint32_t n_tokens, n_runs, max_run, max_len;
	bool normed;
	uint32_t routed;     /* the layer whose experts' sum is not made yet, or DEVICE_NO_LAYER */
	uint32_t word_value; /* that the layer launched last writes; 0 at first */
	bool has_experts;    /* that layer has some */
	uint64_t launched_ns;
};

static inline struct cuda_device *cuda_of(const struct device *d)
{
	return (struct cuda_device *)(uintptr_t)d;
}

/* index of @host_index and @index */
static inline size_t cuda_start_at(const struct cuda_device *d)
{
	return 3 * (size_t)d->base.c.max_tokens;
}

static inline size_t cuda_slot_at(const struct cuda_device *d)
{
	return cuda_start_at(d) + d->base.c.n_seq + 1;
}

/* ---- cuda.c ---- */

/* 0, or -EIO (-ENOMEM where memory is short) and what the runtime said of @what. */
int cuda_said(cudaError_t e, const char *what, struct err *err);
/* @bytes of the device, freed with it; they are put where @ret points. */
int cuda_take(struct cuda_device *d, void *ret, size_t bytes, const char *what, struct err *err);
int cuda_pin(void *ret, size_t bytes, struct err *err);

/* ---- cuda_slots.c ---- */

int cuda_take_slots(struct cuda_device *d, struct err *err);
void cuda_free_slots(struct cuda_device *d);
void cuda_register_host(struct device *d, const void *base, uint64_t bytes, struct err *note);
int cuda_publish_table(struct device *d, struct err *err);
int cuda_fill(struct device *d, const struct device_fill *fill, struct err *err);
int cuda_fills_done(struct device *d, uint64_t *ret_n, struct err *err);

/* ---- cuda_blocks.c: launches on d->stream, for the step that runs ---- */

/* An operation's return: 0, or a sentence that names it. */
int cuda_did(int rc, const char *what, struct err *err);
/* @r holds rows of @n new floats: no int8 form is made yet. */
void cuda_fresh(struct cuda_rows *r, size_t n);
/* The form of @r that weights of @type take, made if it is not there. */
int cuda_form(struct cuda_device *d, struct cuda_rows *r, uint32_t type, size_t tokens,
	      const void **ret, struct err *err);
/* y [tokens][w.rows] = W x */
int cuda_one_product(struct cuda_device *d, const struct cuda_weight *w, struct cuda_rows *x,
		     size_t tokens, float *y, struct err *err);
/* in = RMS(x + what waits; @norm), with the form that @first takes. */
int cuda_normed_input(struct cuda_device *d, const struct cuda_weight *norm,
		      const struct cuda_weight *first, struct err *err);
/* y = the block of the input; y waits to be added then. */
int cuda_attention(struct cuda_device *d, uint32_t layer, struct err *err);
int cuda_deltanet(struct cuda_device *d, uint32_t layer, struct err *err);
int cuda_triple(struct cuda_device *d, const struct cuda_weight *gate, const struct cuda_weight *up,
		const struct cuda_weight *down, float *y, struct err *err);

/* ---- cuda_step.c: see device.h ---- */

float *cuda_input(struct device *d);
int cuda_step_begin(struct device *d, const struct device_run *runs, uint32_t n_runs,
		    uint32_t n_tokens, struct err *err);
int cuda_launch(struct device *d, uint32_t layer, struct err *err);
int cuda_route(struct device *d, struct device_route *ret, struct err *err);
int cuda_step_end(struct device *d, const uint32_t *rows, uint32_t n, const float **ret_logits,
		  struct err *err);
void cuda_step_drop(struct device *d);

#endif
