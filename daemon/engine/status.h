/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/status.h: what engine_get_status() tells: what was planned, what happened since the start,
 * what happens now. Texts behind pointers live as long as the engine.
 */
#ifndef SLUICE_ENGINE_STATUS_H
#define SLUICE_ENGINE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/divide.h"
#include "base/histogram.h"
#include "base/nodes.h"
#include "engine/ahead.h"
#include "engine/request.h"

/* Of the steps in which one sequence decoded alone with so many columns (its last token and drafts). */
#define ENGINE_COLUMNS 8
struct column_cost {
	uint64_t steps;
	uint64_t step_ns;   /* that they took */
	uint64_t expert_ns; /* of it: routed experts, waits for their reads included */
	uint64_t experts;   /* distinct ones, summed over layers */
};

enum engine_state { ENGINE_STARTING, ENGINE_READY, ENGINE_FAILED };

#define ENGINE_FALLBACKS 8
#define ENGINE_CLASSES	 32 /* size classes that a status tells of */

enum engine_latency {
	LATENCY_QUEUE, /* from engine_submit() to a place */
	LATENCY_FIRST, /* ... to the first token of the answer */
	LATENCY_TOKEN, /* from one token of an answer to the next */
	LATENCY_WHOLE, /* from engine_submit() to the end of a request that had a place */
	LATENCY_NR,
};

struct engine_status {
	enum engine_state state;
	char failure[256];		       /* ENGINE_FAILED: why */
	uint64_t load_bytes, load_bytes_total; /* dense weights read so far */
	bool filling;
	uint64_t budget_bytes, resident_bytes, dense_bytes, kv_bytes;
	/* as planned (memory.h); kv_bytes is without the states */
	uint64_t dense_memory_bytes, state_bytes, scratch_bytes;
	uint64_t budget_least_bytes, budget_all_bytes;
	uint32_t n_classes; /* may be more than there is room for here */
	struct slot_share classes[ENGINE_CLASSES];
	unsigned n_reasons;
	const char (*reasons)[512]; /* why the memory is divided like this, as long as the engine */
	uint64_t experts_total, experts_resident;
	uint64_t hits, misses; /* per expert use */
	uint64_t bytes_read;   /* expert bytes from disk */
	uint64_t stall_ns;     /* time in which compute waited for reads with nothing else to do */
	uint64_t tokens_generated, tokens_prefilled, steps;
	struct histogram_values latency[LATENCY_NR];
	uint64_t ended[STOP_NR];	       /* requests that had a place, by enum request_stop */
	uint64_t pauses;		       /* of sequences that gave their pages to others */
	uint64_t tokens_reused;		       /* of prompts, from what was cached */
	uint64_t prefix_bytes;		       /* as planned, for what may be reused */
	uint64_t prefix_lookups, prefix_found; /* prompts that may begin so, and those that did */
	uint32_t prefix_pages, prefix_points;  /* kept now: pages of tokens, states */
	uint64_t fills;			       /* experts read before they were asked for */
	uint32_t reads_in_flight;	       /* pieces */
	struct histogram_values reads, stalls; /* fine: of pieces, of waits for them */
	struct spec_counts spec;
	struct column_cost columns[ENGINE_COLUMNS]; /* [n - 1]: of n columns */
	enum spec_mode spec_mode;		    /* of requests that do not say */
	uint64_t spec_bytes, form_bytes;	    /* parts of scratch_bytes */
	uint64_t dropped; /* uses of experts by drafts alone that did not stay: in no other count */
	/* reads ahead of layers; mode OFF and zeros without experts or with a device */
	struct ahead_counts ahead;
	uint64_t predicted, predicted_useful, predicted_late, predicted_wasted; /* reads */
	uint64_t predicted_wasted_bytes;
	uint32_t active, waiting; /* requests */
	uint32_t n_ctx, n_parallel, n_batch;
	unsigned threads;
	/* struct limits when memory was planned: LIMITS_UNKNOWN where the kernel does not say */
	uint64_t memory_limit_bytes, memory_room_bytes;
	const char *memory_from, *cpus_from;
	unsigned cpus;
	/* the NUMA nodes that hold experts; 0: experts are not cut by node */
	uint32_t n_nodes;
	struct engine_node {
		int32_t node;	  /* -1: a part bound to no node */
		uint32_t workers; /* compute threads pinned there */
		double share;	  /* of every expert's rows */
		uint64_t
			arena_bytes; /* of the experts' arena that the kernel says is there, estimated
				       * from samples */
	} nodes[NODES_SPLIT];
	/* expert weight bytes multiplied by threads of the node that holds them, and by others */
	uint64_t local_bytes, remote_bytes;
	uint64_t read_busy_ns; /* time with at least one read from disk in flight */
	const char *cpu, *io, *arena, *policy, *kv;
	struct engine_device {
		char name[128]; /* "": there is none */
		const char *option,
			*state; /* as --device has it; "ok", "failed" in the newest step, "lost",
				   * "fills stopped": they did not pay */
		const char *policy;
		uint64_t vram_bytes, slots, resident, hits, misses, fills, fill_bytes;
		uint64_t launches, layers, handoff_ns; /* layers: with experts; their hand-offs */
		uint64_t link_ns, link_bytes, stops;   /* see device_info, vram_counters */
		int64_t gain_ppm;
		uint64_t both_ns, either_ns; /* see device_info */
		uint64_t link_free; /* bytes a second of the link that others leave; 0: unknown */
	} device;
	struct engine_warm {
		bool kept;   /* memory outlives this process where somebody holds it */
		bool handed; /* memory was handed over to it */
		bool warm;   /* ... and taken: */
		uint64_t experts, expert_bytes, dense_bytes; /* there at the start, not read */
		uint64_t starts; /* processes that used it, this included */
		const char *why; /* handed and not taken: a sentence that begins with "it" */
	} warm;
	const char *device_note; /* why "auto" took no device; NULL: it did, or was not asked */
	const char *fallbacks[ENGINE_FALLBACKS]; /* sentences, NULL after the last */
};

#endif
