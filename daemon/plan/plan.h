/* SPDX-License-Identifier: MIT */
/*
 * daemon/plan/plan.h: what lies where, and what a token costs, before anything is loaded.
 *
 * plan_make() is a pure function of the model, the daemon's options and numbers of a machine, which
 * need not be this one. The bytes are those of engine/memory.h, by which the daemon takes its memory;
 * here they are told by tier, with the bytes that a token reads and the contexts that would fit. For
 * the tools. Any thread.
 */
#ifndef SLUICE_PLAN_PLAN_H
#define SLUICE_PLAN_PLAN_H

#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/nodes.h"
#include "device/device.h"
#include "engine/engine.h"
#include "engine/memory.h"
#include "kernels/cpu/cpu.h"
#include "model/model.h"
#include "policy/placement.h"
#include "telemetry/telemetry.h"

#define PLAN_CONTEXTS	256	     /* numbers of sequences */
#define PLAN_MOST_CTX	16777216u    /* the most that --ctx takes */
#define PLAN_VRAM_PIECE (2ull << 20) /* cuMemGetAllocationGranularity() of NVIDIA's GPUs */

/* sluiced's options that change bytes; 0 (NULL): not given. */
struct plan_options {
	unsigned threads;
	uint32_t n_ctx, n_parallel, n_batch;
	enum kv_type kv_type;
	uint64_t kv_budget, prefix_cache;
	uint64_t host_budget;
	unsigned budget_percent;
	uint64_t device_budget; /* of a GPU's memory; 0: the machine's, but for a margin */
	int numa;		/* as struct engine_config has it */
	enum spec_mode spec;
	const struct model *head; /* of a file of its own (--draft-model), in the model's place */
	const struct cpu_ops *ops;
};

struct plan_node {
	struct bandwidth_node memory; /* its workers are filled in by plan_make() */
	uint32_t cpus;		      /* on which threads may be pinned */
};

struct plan_machine {
	struct limits limits;  /* LIMITS_UNKNOWN where nothing is known */
	uint64_t assume_bytes; /* to go by then; 0: LIMITS_ASSUME_MOST */
	unsigned cores;	       /* physical, that may be used; 0: unknown, one */
	uint32_t align;	       /* of direct reads from the disk with the model */
	uint64_t vram_bytes;   /* of the GPU that has most, 0: none */
	uint64_t vram_piece;   /* the least that their driver gives; 0: PLAN_VRAM_PIECE */
	uint32_t n_nodes;      /* with memory */
	struct plan_node nodes[NODES_KNOWN];
	double memory_bytes_per_s, disk_bytes_per_s; /* read rates, 0: unknown */
};

enum plan_tier_kind { PLAN_DISK, PLAN_HOST, PLAN_DEVICE, PLAN_TIERS };

struct plan_tier {
	const char *name;
	uint64_t capacity_bytes;  /* what may be used of it; LIMITS_UNKNOWN: unknown or unbounded */
	uint64_t bytes;		  /* that this model would use */
	uint64_t bytes_per_token; /* read from it for one token, experts used evenly */
	double bytes_per_s;	  /* its read rate, 0: unknown */
};

struct plan_context {
	uint32_t n_parallel;
	uint32_t n_ctx; /* 0: not one block fits; PLAN_MOST_CTX: memory is no bound */
};

struct plan {
	struct memory_plan memory;
	/* with --device cuda, on a machine that has a GPU or with a budget for one */
	bool has_device;
	struct device_plan device;
	struct err device_note; /* why there is none, else empty */
	struct plan_tier tiers[PLAN_TIERS];
	uint32_t n_contexts; /* 1, 2, ... sequences, up to those planned with; 0: memory unknown */
	struct plan_context contexts[PLAN_CONTEXTS];
	double experts_share; /* of all experts' slots that the budget holds; 1 without experts */
	double tokens_per_s;  /* at most, by the rates; 0: a rate that counts is unknown */
};

/*
 * 0, or what memory_plan() refuses, with its sentence. *ret is set on success only and then freed
 * with plan_fini(). The model is borrowed during the call.
 */
int plan_make(const struct model *m, const struct plan_options *o,
	      const struct plan_machine *machine, struct plan *ret, struct err *err);
void plan_fini(struct plan *p);

/* The value of --numa, as sluiced takes it; 0 or -EINVAL and a sentence. */
int plan_parse_numa(const char *text, int *ret_numa, struct err *err);

/* The value of --prefix-cache, likewise. */
int plan_parse_prefix(const char *text, uint64_t *ret, struct err *err);

/* here.c: the machine that this runs on. */

/* Limits, cores and the alignment of @m's disk (NULL: 4096) are filled in; nodes and rates are left
 * out. @root as limits_read(). Opens files. */
void plan_machine_here(const char *root, const struct model *m, struct plan_machine *ret);

/* What a node could give to experts: free pages and cached file pages, or free huge pages where those
 * are more. UINT64_MAX: unknown. */
uint64_t plan_room_on(const struct telemetry_node *n);

/*
 * The link to the GPU at the PCI address @bdf, towards it: what it can carry and what it carries, bytes per second;
 * 0: unknown. False: nothing is known of such a GPU.
 */
bool plan_link(const struct telemetry_snapshot *now, const char *bdf, double *ret_capacity,
	       double *ret_in_use);

/* The nodes' memory as a snapshot tells of it; at most @max, workers left 0. Returns their number. */
uint32_t plan_nodes(const struct telemetry_snapshot *now, struct bandwidth_node *ret, uint32_t max);

/* The nodes of @now into @ret, and the memory of its GPUs. */
void plan_machine_nodes(const struct telemetry_snapshot *now, struct plan_machine *ret);

/* reader_align() of the files of @m: how its slots are padded. 4096 where that cannot be asked. */
uint32_t plan_read_align(const struct model *m);

#endif
