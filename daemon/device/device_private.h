/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/device_private.h: what a kind of device is made of, and the sizes of its buffers, for the
 * files of this room alone.
 */
#ifndef SLUICE_DEVICE_DEVICE_PRIVATE_H
#define SLUICE_DEVICE_DEVICE_PRIVATE_H

#include <stdatomic.h>

#include "device/blocks.h"
#include "device/device.h"

/* The calls of device.h; those of steps are NULL where the host computes all. */
struct device_ops {
	void (*close)(struct device *d);
	void (*get_info)(const struct device *d, struct device_info *ret);
	int (*load)(struct device *d, uint32_t layer, enum role role, const struct device_matrix *w,
		    struct err *err);
	void (*register_host)(struct device *d, const void *base, uint64_t bytes, struct err *note);
	int (*publish)(struct device *d, struct err *err);
	int (*fill)(struct device *d, const struct device_fill *fill, struct err *err);
	int (*fills_done)(struct device *d, uint64_t *ret_n, struct err *err);
	const uint8_t *(*slot_at)(const struct device *d, uint32_t layer, uint32_t slot);
	float *(*input)(struct device *d);
	int (*step_begin)(struct device *d, const struct device_run *runs, uint32_t n_runs,
			  uint32_t n_tokens, struct err *err);
	int (*launch)(struct device *d, uint32_t layer, struct err *err);
	int (*route)(struct device *d, struct device_route *ret, struct err *err);
	int (*step_end)(struct device *d, const uint32_t *rows, uint32_t n,
			const float **ret_logits, struct err *err);
	void (*step_drop)(struct device *d);
	bool (*is_lost)(const struct device *d);
	int (*multiply)(struct device *d, const struct device_fill *from,
			const struct device_pair *pairs, uint32_t n, struct err *err);
	int (*sent)(struct device *d, struct err *err);
	/* of memory in blocks; NULL: all is fixed */
	uint32_t (*slots)(const struct device *d, uint32_t cls);
	int (*hold)(struct device *d, uint32_t seq, uint32_t len, struct err *err);
	void (*let)(struct device *d, uint32_t seq);
	bool (*could_hold)(const struct device *d, uint32_t len, uint32_t n, uint64_t positions);
	uint32_t (*most_positions)(const struct device *d, uint32_t seq);
	uint32_t (*victim)(const struct device *d, uint32_t *ret_slots);
	int (*shrink)(struct device *d, uint32_t cls, struct err *err);
	uint32_t (*grow)(struct device *d, uint64_t now_ns);
	bool (*trim)(struct device *d, uint64_t now_ns);
	void (*set_budget)(struct device *d, uint64_t bytes);
};

/* What the link carried: the copies alone, not their wait for others. Written by the engine's thread. */
struct device_link {
	_Atomic uint64_t bytes, ns,
		rate; /* rate: of the best of late, bytes per second; 0: none yet */
};

/* What every kind begins with. */
struct device {
	const struct device_ops *ops;
	struct device_config c;
	struct device_plan plan;
	uint32_t *table; /* [n_layers][n_expert] */
	uint32_t fills;	 /* under way at once, at the most */
	struct device_link link;
};

/* A copy of @bytes took @ns; 0: it could not be measured, which changes nothing. */
void device_link_carried(struct device_link *link, uint64_t bytes, uint64_t ns);

/* cuda.c, emu.c: open(); all but ops is the caller's to set and to free. */
int cuda_open(const struct device_config *config, struct device **ret, struct err *err);
int cuda_find(struct err *err);
int emu_open(const struct device_config *config, struct device **ret, struct err *err);

/* plan.c: a table without slots; NULL: no memory. */
uint32_t *device_new_table(const struct model *m);

#define DEVICE_FEW	  8   /* columns of a matvec */
#define DEVICE_PART	  256 /* positions of a part of attention: fixed, since bits depend on it */
#define DEVICE_PAIRS	  1024 /* rows times parts of one launch of attention, where they are so many */
#define DEVICE_FORMS	  2 /* int8 forms of a row */
#define DEVICE_FILLS	  64
#define DEVICE_GROUP	  8	/* experts of a prompt that are multiplied together */
#define DEVICE_GROUP_HEAD 256	/* bytes before the tokens of a group */
#define DEVICE_RING	  16	/* slots that experts of prompts pass through */
#define DEVICE_MOST_PAIRS 65535 /* tokens times experts used with the shared one, of a step */

/* Bytes of each buffer of a step in the device's memory; plan.c. */
struct device_sizes {
	size_t tokens, embd, mid, hidden, wide, second, values; /* elements: rows, then widths */
	size_t stream;						/* [tokens][embd] floats */
	size_t a, b, q, heads;
	size_t router_logits, router_weights, router_ids;
	size_t logits, index, pages, rope, attend;
	size_t partial, group_hidden, list, place, slot_table, rows;
	size_t prompt_rows, prompt_floats, prompt_args; /* of cuda_prompt.c */
	size_t scratch;					/* the sum of these */
	size_t pinned;					/* of the host's memory */
};
void device_sizes(const struct device_config *c, bool slots, struct device_sizes *ret);

/*
 * Of one layer and sequence: a page of keys and values, or the recurrent state: @ret_window bytes of the
 * convolution's window, then S; 0 where it has none. All layers that have one have the same (device_supports()).
 */
size_t device_page_bytes(const struct device_config *c, uint32_t layer);
size_t device_state_bytes(const struct device_config *c, uint32_t layer, size_t *ret_window);
/* Tokens times parts of their contexts that one launch of attention takes. */
size_t device_attend_pairs(const struct device_config *c);

/* Regions of a device's blocks: pages of all sequences, states, then the classes of slots. */
enum { DEVICE_REGION_PAGES, DEVICE_REGION_STATES, DEVICE_REGION_SLOTS };
#define DEVICE_MOST_PAGES (UINT32_MAX / 1024) /* times layers it is a number in tables */
/* The books of @p's memory, nothing of it taken. 0 or -errno. */
int device_blocks_init(const struct device_config *c, const struct device_plan *p,
		       const struct blocks_ops *ops, void *ctx, struct blocks *ret);
/* Rows of floats with both int8 forms. */
size_t device_rows_bytes(size_t rows, size_t n);
/* Experts of a token: those chosen, and the shared one where a layer has it. */
uint32_t device_ranks(const struct model *m);
/* Numbers in the index of a step: positions, places, lengths; runs; its tick. */
size_t device_index_n(const struct device_config *c);

#endif
