/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/memory.h: how the memory of one process is laid out for a model.
 *
 * Pure arithmetic: no file, no clock, no state. engine_create() takes memory by it and daemon/plan
 * prints it, so that what is planned is what is taken. Refuses what cannot fit, with both numbers
 * and the option to change (budget.h). Any thread.
 */
#ifndef SLUICE_ENGINE_MEMORY_H
#define SLUICE_ENGINE_MEMORY_H

#include "base/divide.h"
#include "base/err.h"
#include "base/limits.h"
#include "engine/seq.h"
#include "kernels/cpu/cpu.h"
#include "model/model.h"
#include "policy/placement.h"
#include "base/nodes.h"

struct memory_ask {
	const struct model *model;
	const struct model *head;    /* that drafts; NULL: none */
	const struct cpu_ops *ops;   /* whose activations and scratch are laid out */
	const struct limits *limits; /* of the process; its cpus bound the default of threads */
	uint64_t assume_bytes;	     /* limits_assume_bytes(), used where limits know no memory */
	uint32_t align;		     /* reader_align() of the model's disk */
	unsigned cores; /* physical cores that may be used, for the default of threads */
	bool on_gpu;	/* a GPU computes the dense part: longer steps by default */

	/* as in struct engine_config; 0: the default */
	unsigned threads;
	uint32_t n_ctx, n_parallel, n_batch;
	enum kv_type kv_type;
	uint64_t prefix_cache; /* bytes for what may be reused; 0: the default, PREFIX_CACHE_OFF */
	uint64_t kv_budget;    /* bytes of keys and values of all sequences; 0: all may be full */
	uint64_t host_budget;
	unsigned budget_percent;
	int numa;
	const struct bandwidth_node
		*nodes; /* with memory, workers filled in; looked at by numa 0 */
	uint32_t n_nodes;
};

/* Said where n_ctx is larger than model.n_ctx_train. */
#define MEMORY_BEYOND_TRAINING                                          \
	"--ctx is more than the model was trained for; what it writes " \
	"beyond that is likely to be poor"

#define MEMORY_REASONS	 4
#define MEMORY_SEQUENCES 4 /* where n_parallel is not given */

struct memory_plan {
	/* what was asked for, or what the defaults became */
	unsigned threads;
	uint32_t n_ctx, n_parallel, n_batch, max_logits; /* max_logits: rows computed at a time */
	struct node_split split;			 /* of every expert's rows */

	uint64_t dense_bytes;	     /* dense weights as the file has them */
	uint64_t dense_memory_bytes; /* with the padding of direct reads, vectors as floats */
	uint64_t kv_bytes;	     /* keys and values of all sequences */
	uint32_t kv_pages;	     /* that these are cut into, KV_BLOCK positions each */
	uint64_t prefix_bytes;	     /* for what may be reused of sequences that ended */
	uint32_t prefix_pages;	     /* that these are cut into */
	uint64_t state_bytes;	     /* recurrent state of all sequences */
	uint64_t
		scratch_bytes; /* activations, logits, samplers, tokens, drafts, stacks of threads */
	uint64_t spec_bytes;   /* of these: sources of drafts, and what drafts leave behind */
	uint64_t
		form_bytes; /* of these: forms of answers that are kept compiled (grammar/form_cache.h) */
	uint64_t expert_bytes; /* that experts may take; not all of it divides into slots */
	uint64_t budget_bytes; /* of their slots */
	uint64_t budget_least_bytes, budget_all_bytes;
	uint64_t margin_bytes; /* left to the system by an automatic budget, else 0 */
	uint64_t room_bytes;   /* what the process may take, as gone by */

	uint32_t n_classes;
	struct slot_share *classes; /* n_classes, owned */
	uint32_t *class_of_layer;   /* of the model; >= n_classes without experts; owned */

	char note[384]; /* what was assumed or lowered, else empty: the daemon logs it */
	char reasons[MEMORY_REASONS][512];
	unsigned n_reasons; /* why this budget, what limits it */
};

/* 0, or -ENOSPC, -ENOTSUP, -EOVERFLOW, -EINVAL or -ENOMEM and a sentence. *ret is set on success only
 * and then freed with memory_plan_fini(). */
int memory_plan(const struct memory_ask *ask, struct memory_plan *ret, struct err *err);
void memory_plan_fini(struct memory_plan *p);

/* What depends on no option: the dense bytes, the budgets and the size classes of one node. 0 or
 * -ENOMEM; freed with memory_plan_fini(). */
int memory_sizes(const struct model *m, uint32_t align, struct memory_plan *ret, struct err *err);

/* "auto", "off" or a size as struct memory_ask.prefix_cache has it; 0 or -EINVAL and a sentence. */
int prefix_cache_parse(const char *text, uint64_t *ret, struct err *err);

/*
 * The largest context in tokens, a multiple of KV_BLOCK, that @n_parallel sequences can be asked for
 * with everything else of @ask as it is: an automatic budget then shrinks to the least, and the slack
 * of budget_sure_room() stays free, so that the next start takes it too. 0: not even one block fits.
 * What the memory does not bound ends at @most.
 */
uint32_t memory_largest_ctx(const struct memory_ask *ask, uint32_t n_parallel, uint32_t most);

#endif
