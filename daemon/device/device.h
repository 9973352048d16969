/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/device.h: memory and arithmetic beside the host's, as the engine sees them.
 *
 * "cuda": a GPU that computes everything of a model but the experts that it does not hold. It owns its
 * copy of the dense weights, the KV cache and recurrent state of every sequence, slots with experts, and
 * the residual stream of the step that runs. The engine puts a step in (device_step_begin), launches each
 * layer (device_launch), is told which experts the tokens chose (device_route), computes those that are in
 * no slot and leaves the results of each (token, rank) where it was told; the next layer begins with their
 * sum. It takes logits (device_step_end). A sequence has the number of its place, its recurrent state is
 * zeroed where a run begins at position 0; a run elsewhere goes on where the device left the sequence, or
 * is refused (-EINVAL).
 * "emu": slots alone, in this machine's memory, filled at the rate of a link that need not exist: for
 * studies of policies. Everything is computed by the CPU, from the slots too (device_slot_at).
 *
 * MEMORY: a sequence has memory for its positions and its state from device_hold() to device_let(), in blocks
 * that slots have meanwhile (device/blocks.h). Fewer may be had while running (device_set_budget()), and others
 * may want some.
 *
 * SLOTS: which expert is in which slot says the engine's table (device_table), which is taken as it is at
 * device_publish(), for the step that follows. Fills (device_fill) go on beside steps; the engine never
 * fills a slot that the published table names.
 *
 * What a token gets does not depend on how a prompt is cut, on company, budgets or where an expert was
 * computed: products of block formats and the experts follow the law of kernels/quant.h, everything else
 * depends on its own row alone. It differs in the last bits from what the CPU alone computes.
 *
 * "cuda" is over NVIDIA's runtime, or over the fake one of tests/gpu/emu in a build for tests; a build
 * without either refuses it by name. Every call is made by the engine's thread, but for device_multiply() and
 * device_sent(): any of the threads of a step, one at a time. Calls return 0 or -errno
 * and a sentence; -EIO: the device failed, and the step with it. A device that is lost is given no more calls
 * but device_close().
 */
#ifndef SLUICE_DEVICE_DEVICE_H
#define SLUICE_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/divide.h"
#include "base/err.h"
#include "model/model.h"

struct device;

struct device_config {
	const struct model *model; /* outlives the device */
	const char *name;	   /* "cuda", "cuda:N" or "emu:vram=SIZE,link=RATE" */
	bool kv_q8;		   /* KV cache as q8_0 instead of f16 */
	uint32_t n_seq, n_ctx;	   /* places of sequences, positions of each */
	uint32_t max_tokens;	   /* of a step */
	uint32_t max_logits;	   /* rows of a device_step_end() */
	uint64_t budget_bytes;	   /* of the device's memory; 0: what is free of it */
	bool no_slots;		   /* all experts stay with the host */
	uint64_t block_least;	   /* of memory, as the driver gives it; 0: not known */
	/* tokens from which on an expert of a prompt is sent to the device; 0: it is found out */
	uint32_t send_from;
	/* frequency of each rotated pair of dimensions, NULL without attention; n_rot / 2 */
	const double *rope;
};

/* ---- pure: any thread ---- */

/* "auto" | "none" | "cuda[:N]" | "emu:vram=SIZE[,link=RATE]": 0; -EINVAL and a sentence for anything else. */
int device_check_name(const char *name, struct err *err);
static inline bool device_is_none(const char *name)
{
	return !name || (name[0] == 'n' && name[1] == 'o');
}
/* Whether a device of this name would compute the dense part of a model. */
static inline bool device_is_dense(const char *name)
{
	return !device_is_none(name) && name[0] == 'c';
}
/* Of "emu:...": the memory, and the link's bytes per second. 0 or -EINVAL and a sentence. */
int device_emu_sizes(const char *name, uint64_t *ret_vram, uint64_t *ret_link, struct err *err);

/* 0, or -ENOTSUP and a sentence: what of the model "cuda" cannot compute. Reads the model alone. */
int device_supports(const struct model *m, struct err *err);

/* 0, or -ENODEV or -ENOTSUP and a sentence: why this build finds no GPU on this machine. Not pure: asks. */
int device_find(struct err *err);

/* 0, or -ENOTSUP and a sentence: why no experts of the model can be computed from slots of "cuda". */
int device_slots_fit(const struct model *m, struct err *err);

/* Where an expert's matrices lie in a slot of its layer, and how long that is; 256-aligned. */
struct device_slot {
	uint64_t at[EXPERT_MATRIX_NR], bytes;
};
void device_slot_layout(const struct layer *l, struct device_slot *ret);

/* Tokens of a step of "cuda" at the most. */
uint32_t device_most_tokens(const struct model *m);

/*
 * How the memory of a device is laid out at start: what every model takes, what is kept for a sequence that
 * begins, then slots. "cuda" has the last two in blocks, and may give a block of slots to sequences that need
 * more (device_hold()).
 */
struct device_plan {
	uint64_t dense_bytes;	/* its copy of the dense weights */
	uint64_t kv_bytes;	/* kept for keys and values */
	uint64_t state_bytes;	/* kept for a recurrent state */
	uint64_t scratch_bytes; /* activations, logits, tables */
	uint64_t slots_bytes;	/* of experts */
	uint64_t block_bytes;	/* of memory that is given and taken; 0: slots are all there is */
	uint64_t page_bytes;	/* CUDA_KV_PAGE positions of a sequence, all layers; 0: no cache */
	uint64_t one_state;    /* of a sequence, all layers, windows of convolutions too; 0: none */
	uint32_t n_pages;      /* of a sequence with the whole context */
	uint32_t n_blocks;     /* that the room holds */
	uint32_t kept_blocks;  /* of them for a sequence that begins */
	uint64_t ring_slot;    /* of each slot of the ring for prompts; in scratch_bytes */
	uint64_t pinned_bytes; /* of the host's memory, beside all these */
	uint32_t n_classes;    /* slots of one size each */
	struct slot_share *classes;
	uint32_t *class_of_layer; /* >= n_classes: a layer without experts */
};

/*
 * @room: bytes that may be taken. 0, or -ENOSPC with the numbers and the options to change, -ENOTSUP or
 * -ENOMEM. *ret is set on success only and then freed with device_plan_fini().
 */
int device_plan_make(const struct device_config *config, uint64_t room, struct device_plan *ret,
		     struct err *err);
void device_plan_fini(struct device_plan *p);
/* What is taken of @free_bytes where no budget says it: all but a margin for others. */
uint64_t device_default_room(uint64_t free_bytes);

/* ---- life ---- */

struct device_info {
	char name[128];
	char bdf[16];	       /* its PCI address; "": none */
	uint64_t memory_bytes; /* taken of the device */
	uint64_t dense_bytes;  /* of it the weights loaded so far */
	uint64_t steps, launches;
	uint64_t layers; /* with experts that went through device_route() */
	uint64_t
		handoff_ns; /* that the engine spent in all launching these and waiting for their routes */
	/* of fills: bytes and the time of the copies themselves; bytes per second of the best of late, 0: none yet */
	uint64_t link_bytes, link_ns, link_rate;
	/* of one layer of each step of decode: how long the host was at misses while the device was at hits and
	 * the shared expert, and how long either was; "cuda" alone */
	uint64_t both_ns, either_ns;
};

/*
 * Takes the device and its memory. -ENODEV, -ENOTSUP, -ENOSPC, -ENOMEM (with the number of bytes) and
 * a sentence.
 */
int device_open(const struct device_config *config, struct device **ret, struct err *err);
void device_close(struct device *d); /* NULL is fine */

/* Constant but for the counters. Any thread. */
void device_get_info(const struct device *d, struct device_info *ret);
/* As taken; as long as the device. */
const struct device_plan *device_get_plan(const struct device *d);

/* A weight in the host's memory, as the file has it (ROLE_FLOATS: floats). */
struct device_matrix {
	uint32_t type;
	size_t n_in, n_out, row_bytes;
	const void *data;
};

#define DEVICE_NO_LAYER UINT32_MAX

/* Copies a weight of @layer (or DEVICE_NO_LAYER) to the device; what the device does not use is left. */
int device_load(struct device *d, uint32_t layer, enum role role, const struct device_matrix *w,
		struct err *err);

/* ---- slots ---- */

/*
 * The memory that fills come from, so that they run beside everything else. Where it cannot be registered
 * fills take a detour, which @note (empty otherwise) tells: no error. Once, and until device_close().
 */
void device_register_host(struct device *d, const void *base, uint64_t bytes, struct err *note);

#define DEVICE_NO_SLOT UINT32_MAX
/* [n_layers][n_expert]: the slot of each expert, numbered within its class, or DEVICE_NO_SLOT: to be
 * written between steps. All NO_SLOT at first. */
uint32_t *device_table(struct device *d);
/* The next step goes by the table as it is now. */
int device_publish(struct device *d, struct err *err);

/* Slots of class @cls with memory, at present: numbered from 0. Any thread. */
uint32_t device_slots(const struct device *d, uint32_t cls);

#define DEVICE_NO_CLASS UINT32_MAX
/*
 * Memory that goes to and fro between slots and sequences ("cuda" alone; elsewhere all is fixed), between
 * two steps. hold: memory for the first @len positions of sequence @seq and its state, until device_let(), all
 * that it lacks or nothing: 0; -ENOSPC: not without blocks of the slots', which have enough; -EAGAIN: other
 * sequences hold too much, whatever slots give; or -EIO and a sentence. could: whether @len positions of one more
 * sequence would fit with blocks of the slots', beside what is held now and beside @n others that will have
 * @positions together. most: positions that @seq could have if it had the memory
 * for itself, the whole context at most.
 */
int device_hold(struct device *d, uint32_t seq, uint32_t len, struct err *err);
void device_let(struct device *d, uint32_t seq);
bool device_could_hold(const struct device *d, uint32_t len, uint32_t n, uint64_t positions);
uint32_t device_most_positions(const struct device *d, uint32_t seq);
/* The class that misses its last slots least, and how many it keeps without; DEVICE_NO_CLASS: none has any. */
uint32_t device_victim(const struct device *d, uint32_t *ret_slots);
/* Those slots are nobody's any more: no expert is in them, no fill is under way. 0 or -EIO and a sentence. */
int device_shrink(struct device *d, uint32_t cls, struct err *err);
/* A class that may have more slots now (device_slots()), or DEVICE_NO_CLASS. */
uint32_t device_grow(struct device *d, uint64_t now_ns);
/*
 * Asks the driver now and then whether others want memory; whether a block of slots is to be given up, and
 * device_trim() called again then.
 */
bool device_trim(struct device *d, uint64_t now_ns);
/* Another budget_bytes; 0: that of the start. What is too much device_trim() tells. */
void device_set_budget(struct device *d, uint64_t bytes);

#define DEVICE_PIECES (EXPERT_MATRIX_NR * 8)
/* A slot's new contents, piece by piece: @at as device_slot_layout() has it. */
struct device_fill {
	uint32_t layer, slot;
	uint32_t n;
	struct {
		const void *from; /* stays as it is until the fill is done */
		uint64_t at, bytes;
	} piece[DEVICE_PIECES];
};
/* How many fills may be under way at once. */
uint32_t device_fills(const struct device *d);
/* Begins a fill; the nth one (from 1) is done when device_fills_done() gives n. */
int device_fill(struct device *d, const struct device_fill *fill, struct err *err);
int device_fills_done(struct device *d, uint64_t *ret_n, struct err *err);
/* "emu" alone: where the host reads slot @slot of @layer. */
const uint8_t *device_slot_at(const struct device *d, uint32_t layer, uint32_t slot);

/* ---- a step: "cuda" alone ---- */

/* Consecutive tokens of one sequence. */
struct device_run {
	uint32_t seq;	/* < n_seq */
	uint32_t first; /* row of its first token */
	uint32_t count, pos;
};

/* Where the step's embeddings are put before device_step_begin(): [max_tokens][n_embd], the host's. */
float *device_input(struct device *d);
int device_step_begin(struct device *d, const struct device_run *runs, uint32_t n_runs,
		      uint32_t n_tokens, struct err *err);

/*
 * Layer @layer, up to its experts and those of them that have slots; layers come in order, each when what
 * the host computes of the one before is in place. Returns at once.
 */
int device_launch(struct device *d, uint32_t layer, struct err *err);

/* What the router of the layer launched last chose. ids NULL: the layer has no experts. */
struct device_route {
	const uint32_t *ids;  /* [n_tokens][n_expert_used] */
	const float *weights; /* [n_tokens][ld] */
	uint32_t ld;
	const float *x; /* [n_tokens][n_embd] the experts' input */
	/* [n_tokens][ranks][n_embd]: where the host puts what it computes for a (token, rank) */
	float *partial;
	uint32_t ranks;
	/*
	 * Of prompts: the device knows nothing of the experts until device_multiply() hands them to it, those
	 * that lie in slots, and others that at least @send_from tokens chose.
	 */
	bool multiplies;
	uint32_t send_from;
};

/* Waits until @ret is there; it stays valid until the next device_launch(). */
int device_route(struct device *d, struct device_route *ret, struct err *err);

struct device_pair {
	uint32_t token, rank;
};

/*
 * Where the route says multiplies: the expert that lies in from->slot, or with DEVICE_NO_SLOT the one whose
 * pieces are sent now, computes these pairs of the layer launched last, each expert once. Returns at once:
 * @pairs may go, the pieces' sources stay until device_sent(). 0 or -EIO.
 */
int device_multiply(struct device *d, const struct device_fill *from,
		    const struct device_pair *pairs, uint32_t n, struct err *err);
/* Waits until what was sent so far has been read. 0 or -EIO. */
int device_sent(struct device *d, struct err *err);

/*
 * Logits of @n <= max_logits rows of the step: *ret_logits [n][n_vocab], valid until the next call. May be
 * called several times; n 0: the step is over.
 */
int device_step_end(struct device *d, const uint32_t *rows, uint32_t n, const float **ret_logits,
		    struct err *err);
/*
 * Waits until nothing of a step that failed or was given up runs any more; a device that does not answer is
 * waited for no longer than it was given.
 */
void device_step_drop(struct device *d);
/* Whether the device is gone for good: it no longer answers, or every call fails since one did. */
bool device_is_lost(const struct device *d);

#endif
