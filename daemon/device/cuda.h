/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda.h: a device over the CUDA runtime, shared by cuda.c (opening, weights, buffers),
 * cuda_memory.c (memory that sequences and slots share), cuda_driver.c (the driver's calls for it), cuda_slots.c
 * (experts' slots), cuda_prompt.c (experts of prompts), cuda_blocks.c (blocks of a layer), cuda_experts.c (router,
 * hits, shared expert), cuda_graph.c (a layer recorded once) and cuda_step.c (a step). Nobody else includes it.
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

/*
 * What stands between a layer's launch and the next one's: what the next norm adds to the stream. A recorded
 * layer leaves it as its recording did.
 */
struct cuda_between {
	bool waiting;	  /* y holds the result of a block */
	bool has_experts; /* the layer launched last has some: its word will come */
	uint32_t routed;  /* the layer whose experts are not added up yet, or DEVICE_NO_LAYER */
};

/* A layer of decode as the runtime has recorded it; exec NULL: not yet. */
struct cuda_graph {
	cudaGraphExec_t exec;
	uint32_t most_len; /* positions that its attention is laid out for */
	uint64_t kernels;
	struct cuda_between after;
};

struct cuda_layer {
	struct cuda_weight w[ROLE_NR];
	void *pool;			   /* its part of the first page of keys and values */
	float *conv, *state;		   /* its parts of the first sequence's */
	struct cuda_graph graph[CUDA_FEW]; /* by the number of tokens, from 1 */
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

/*
 * cuda_step.c: one layer of each step of decode is looked at, each in its turn: events around its launch say how
 * long the device was at it, the clock how long the host then was at misses.
 */
struct cuda_watch {
	cudaEvent_t begun, done; /* NULL: nothing is looked at */
	uint32_t turn, layer;	 /* layer: of the step that runs; DEVICE_NO_LAYER: none */
	uint64_t word_ns;	 /* when its word was seen; 0: not yet */
	uint64_t handoff_ns, misses_ns;
	_Atomic uint64_t both_ns, either_ns;
};

/* How fills reach the device. */
enum cuda_way {
	CUDA_REGISTERED, /* from where the host keeps the experts */
	CUDA_RING,	 /* through pinned memory of the device's own */
	CUDA_WAITING	 /* one copy after the other, waited for */
};

#define CUDA_GROUP	 DEVICE_GROUP
#define CUDA_PROMPT_HEAD DEVICE_GROUP_HEAD

/* cuda_prompt.c: experts of a prompt's layer. */
struct cuda_prompt {
	bool open;			/* since the layer's word, until its end */
	uint32_t least;			/* tokens from which on an expert is sent */
	float *gate, *up;		/* [most][n_ff] */
	struct cuda_rows hidden;	/* of as many */
	uint8_t *ring;			/* DEVICE_RING slots */
	cudaEvent_t freed[DEVICE_RING]; /* the group that read the slot is done */
	cudaEvent_t landed;		/* what was sent last */
	uint64_t n_sent, n_awaited;	/* experts so far */
	uint8_t *args, *host_args;	/* pointers, offsets, tokens of the layer's groups */
	size_t args_at, most;
	uint32_t *host_place; /* [tokens][ranks] */
	uint32_t n_rows;      /* of results so far */

	/* the group that is collected */
	const void *w[EXPERT_MATRIX_NR][CUDA_GROUP];
	uint32_t offsets[CUDA_GROUP + 1];
	uint32_t n_experts, n_entries, n_sent_group;
};

/* What a group's products read beside weights, as the device has it. */
struct cuda_group_args {
	const void *const *w[EXPERT_MATRIX_NR];
	const uint32_t *offsets, *gather;
};

struct cuda_device {
	struct device base;
	int number;
	char name[128], bdf[16];
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
	struct cuda_rows in, mid, head, hidden;
	float *a, *b, *q; /* scratch of blocks */
	float *alpha, *beta;
	float *router_logits, *router_weights, *d_logits;
	uint32_t *router_ids, *index, *table;
	float *rope;
	void *scratch;
	size_t pages; /* of a sequence */
	struct cuda_memory *memory;
	size_t state_floats;	       /* from one layer's states to the next's */
	uint32_t n_attention, n_delta; /* layers */

	/* experts: the list of hits, where each (token, rank) has its row, and the rows of the device */
	struct cuda_expert_entry *list;
	uint32_t *list_n, *place;
	float *group_hidden, *partial;

	struct cuda_prompt prompt;

	/* slots */
	uint8_t **class_base;
	uint32_t *slot_table; /* NULL: no expert has a slot */
	/* around each fill's copies, and their bytes */
	cudaEvent_t fill_begun[DEVICE_FILLS], fill_done[DEVICE_FILLS];
	uint64_t fill_bytes[DEVICE_FILLS];
	uint64_t fills_asked, fills_done;
	enum cuda_way way;
	const uint8_t *host_base; /* of what is registered */
	uint64_t host_bytes;
	uint8_t *ring;
	uint64_t ring_slot;

	/* the step that runs */
	uint32_t n_tokens, n_runs, max_run, max_len;
	bool normed;
	struct cuda_between between;
	uint32_t tick;	   /* layer i of the step writes tick + i + 1 as its word */
	uint32_t launched; /* the layer launched last */
	uint64_t launched_ns;
	struct cuda_watch watch;

	bool lost;   /* every call fails since one did, or: */
	bool silent; /* it does not answer, and calls that wait for it never return */

	bool no_graphs; /* the runtime would not record one: layers are launched kernel by kernel */
	int64_t replayed; /* kernels launched by graphs, less those that were only recorded */
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

static inline size_t cuda_tick_at(const struct cuda_device *d)
{
	return cuda_slot_at(d) + d->base.c.n_seq;
}

/* The layer's shared expert, which is the last rank of a token; NULL: it has none. */
static inline const struct cuda_weight *cuda_shared(const struct cuda_device *d, uint32_t layer)
{
	const struct cuda_weight *w = d->layers[layer].w;

	return w[ROLE_SHARED_GATE].p ? w : NULL;
}

/* Ranks of a token in @layer: the experts chosen, and the shared one. */
static inline unsigned cuda_ranks(const struct cuda_device *d, uint32_t layer)
{
	return d->base.c.model->n_expert_used + (cuda_shared(d, layer) != NULL);
}

/* ---- cuda.c ---- */

/* 0, or -EIO (-ENOMEM where memory is short) and what the runtime said of @what. */
int cuda_said(cudaError_t e, const char *what, struct err *err);
/* @bytes of the device, freed with it; they are put where @ret points. */
int cuda_take(struct cuda_device *d, void *ret, size_t bytes, const char *what, struct err *err);
int cuda_pin(void *ret, size_t bytes, struct err *err);
int cuda_take_rows(struct cuda_device *d, struct cuda_rows *r, size_t rows, size_t n,
		   struct err *err);

/* ---- cuda_memory.c: see device.h ---- */

/* cuda_driver.c: the driver's calls, and the least block that it gives: config.block_least. Before the plan. */
int cuda_find_driver(struct cuda_device *d, struct err *err);
/* The range of addresses, with memory for what the plan has at start. */
int cuda_take_memory(struct cuda_device *d, struct err *err);
/* Nothing runs any more. */
void cuda_free_memory(struct cuda_device *d);
/* Frees the books. */
void cuda_forget_memory(struct cuda_device *d);
/* The pages of sequences, where they changed, to the device: before a step. */
int cuda_send_pages(struct cuda_device *d, struct err *err);
/* Zeroes what sequence @seq remembers but for keys and values. */
int cuda_reset_state(struct cuda_device *d, uint32_t seq, struct err *err);
/* Where slots of class @cls begin. */
uint8_t *cuda_slots_at(const struct cuda_device *d, uint32_t cls);
uint64_t cuda_blocks_bytes(const struct cuda_device *d);
uint32_t cuda_slots(const struct device *d, uint32_t cls);
int cuda_hold(struct device *d, uint32_t seq, uint32_t len, struct err *err);
void cuda_let(struct device *d, uint32_t seq);
bool cuda_could_hold(const struct device *d, uint32_t len, uint32_t n, uint64_t positions);
uint32_t cuda_most_positions(const struct device *d, uint32_t seq);
uint32_t cuda_victim(const struct device *d, uint32_t *ret_slots);
int cuda_shrink(struct device *d, uint32_t cls, struct err *err);
uint32_t cuda_grow(struct device *d, uint64_t now_ns);
bool cuda_trim(struct device *d, uint64_t now_ns);
void cuda_set_budget(struct device *d, uint64_t bytes);

/* ---- cuda_slots.c ---- */

int cuda_take_slots(struct cuda_device *d, struct err *err);
void cuda_free_slots(struct cuda_device *d);
void cuda_register_host(struct device *d, const void *base, uint64_t bytes, struct err *note);
int cuda_publish_table(struct device *d, struct err *err);
int cuda_fill(struct device *d, const struct device_fill *fill, struct err *err);
int cuda_fills_done(struct device *d, uint64_t *ret_n, struct err *err);
/* One piece from the host's memory to the device, on the stream of fills, without waiting. */
int cuda_send(struct cuda_device *d, uint8_t *to, const uint8_t *from, uint64_t bytes,
	      struct err *err);

/* ---- cuda_prompt.c ---- */

int cuda_take_prompt(struct cuda_device *d, const struct device_sizes *z, struct err *err);
void cuda_free_prompt(struct cuda_device *d);
/* Whether the host hands the step's experts over: device_route.multiplies. */
static inline bool cuda_is_prompt(const struct cuda_device *d)
{
	return d->n_tokens > CUDA_FEW && d->slot_table;
}
void cuda_prompt_begin(struct cuda_device *d);
int cuda_prompt_end(struct cuda_device *d, struct err *err);
int cuda_multiply(struct device *d, const struct device_fill *from, const struct device_pair *pairs,
		  uint32_t n, struct err *err);
int cuda_sent(struct device *d, struct err *err);

/* ---- cuda_blocks.c: launches on d->stream, for the step that runs ---- */

extern const struct cuda_act cuda_no_act;
/* An operation's return: 0, or a sentence that names it. */
int cuda_did(int rc, const char *what, struct err *err);
/* @r holds rows of @n new floats: no int8 form is made yet. */
void cuda_fresh(struct cuda_rows *r, size_t n);
/* The form of @r that weights of @type take, made if it is not there. */
int cuda_form(struct cuda_device *d, struct cuda_rows *r, uint32_t type, size_t tokens,
	      const void **ret, struct err *err);
/* y [tokens][w.rows] = W x, rows @ldy apart */
int cuda_one_product(struct cuda_device *d, const struct cuda_weight *w, struct cuda_rows *x,
		     size_t tokens, float *y, size_t ldy, struct err *err);
/* in = RMS(x + what waits; @norm), with the form that weights of @first take. */
int cuda_normed_input(struct cuda_device *d, const struct cuda_weight *norm, uint32_t first,
		      struct err *err);
/* y = the block of the input; y waits to be added then. */
int cuda_attention(struct cuda_device *d, uint32_t layer, struct err *err);
int cuda_deltanet(struct cuda_device *d, uint32_t layer, struct err *err);
/* y [tokens][n_embd], rows @ldy apart. */
int cuda_triple(struct cuda_device *d, const struct cuda_weight *gate, const struct cuda_weight *up,
		const struct cuda_weight *down, float *y, size_t ldy, struct err *err);

/* ---- cuda_experts.c: the same for what follows the second norm of a layer with experts ---- */

int cuda_experts(struct cuda_device *d, uint32_t layer, struct err *err);

/* ---- cuda_graph.c ---- */

/* The layer: recorded and launched as one where the step is of decode, kernel by kernel elsewhere. */
int cuda_launch_layer(struct cuda_device *d, uint32_t layer, struct err *err);
/* Positions that attention of the step is laid out for: no fewer than the longest sequence has. */
uint32_t cuda_most_len(const struct cuda_device *d);
void cuda_free_graphs(struct cuda_device *d);

/* ---- cuda_step.c: see device.h ---- */

float *cuda_input(struct device *d);
int cuda_step_begin(struct device *d, const struct device_run *runs, uint32_t n_runs,
		    uint32_t n_tokens, struct err *err);
int cuda_launch(struct device *d, uint32_t layer, struct err *err);
/* Until @event has come; *ret_waited where it had not. 0, or -EIO: also where the device is silent. */
int cuda_wait_event(struct cuda_device *d, cudaEvent_t event, bool *ret_waited, struct err *err);
/* The launches of a layer, one after the other. */
int cuda_put_layer(struct cuda_device *d, uint32_t layer, struct err *err);
int cuda_route(struct device *d, struct device_route *ret, struct err *err);
int cuda_step_end(struct device *d, const uint32_t *rows, uint32_t n, const float **ret_logits,
		  struct err *err);
void cuda_step_drop(struct device *d);
bool cuda_is_lost(const struct device *d);

#endif
