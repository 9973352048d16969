/* SPDX-License-Identifier: MIT */
/*
 * uapi/sluice_status.h: what sluiced tells of itself, the fixed part of STATUS_REPLY (sluice_proto.h).
 * Grows at its end alone, as all fixed parts do: zeros are of a daemon that does not tell.
 */
#ifndef SLUICE_STATUS_H
#define SLUICE_STATUS_H

#include <stdint.h>

#include "sluice_proto.h"

enum sluice_state { SLUICE_STATE_STARTING = 0, SLUICE_STATE_READY = 1, SLUICE_STATE_FAILED = 2 };

/* A NUMA node that holds rows of every expert. */
struct sluice_status_node {
	int32_t node;	    /* the kernel's number; -1: rows cut without a node (--numa split:N) */
	uint32_t workers;   /* compute threads pinned there */
	uint32_t share_ppm; /* of every expert's rows, parts per million */
	uint32_t reserved;
	uint64_t arena_bytes; /* of expert memory there, estimated from samples of pages */
};
SLUICE_LAYOUT(sizeof(struct sluice_status_node) == 24, "wire");
#define SLUICE_STATUS_NODES 8

/* Slots of one size for experts. */
struct sluice_status_slots {
	uint64_t slot_bytes, slots, experts;
};
SLUICE_LAYOUT(sizeof(struct sluice_status_slots) == 24, "wire");
#define SLUICE_STATUS_SLOTS 32

/*
 * How long something took, by fixed upper bounds in ms: 1 2 5 10 20 50 100 200 500 1000 2000 5000 10000
 * 20000 60000 120000 300000, and the last bucket for what took longer. Each counts alone.
 */
#define SLUICE_BUCKETS 18
struct sluice_histogram {
	uint64_t counts[SLUICE_BUCKETS];
	uint64_t sum_ns;
};
SLUICE_LAYOUT(sizeof(struct sluice_histogram) == 152, "wire");

enum sluice_latency {
	SLUICE_LATENCY_QUEUE = 0, /* from a request to its place among those that are computed */
	SLUICE_LATENCY_FIRST = 1, /* ... to the first token of its answer */
	SLUICE_LATENCY_TOKEN = 2, /* from one token of an answer to the next */
	SLUICE_LATENCY_WHOLE = 3, /* from a request to its end */
};
#define SLUICE_LATENCIES 4

/* Of steps in which one sequence decoded alone with so many columns: its last token and its drafts. */
struct sluice_column_cost {
	uint64_t steps;
	uint64_t step_ns;   /* that they took */
	uint64_t expert_ns; /* of it: routed experts, waits for their reads included */
	uint64_t experts;   /* distinct ones, summed over layers */
};
SLUICE_LAYOUT(sizeof(struct sluice_column_cost) == 32, "wire");
#define SLUICE_COLUMNS 8

/* Whose guesses are read before a layer asks: `sluiced --predict`. */
enum sluice_predict {
	SLUICE_PREDICT_UNKNOWN = 0, /* a daemon that does not tell */
	SLUICE_PREDICT_AUTO = 1,    /* an early look at the next layer's router, while that pays */
	SLUICE_PREDICT_OFF = 2,
	SLUICE_PREDICT_ROUTER = 3,
	SLUICE_PREDICT_ORACLE = 4, /* a recorded trace */
};

/* Reads of experts ahead of the layers that may use them. */
struct sluice_predict_counts {
	uint32_t mode;	   /* enum sluice_predict */
	uint32_t on;	   /* 1: steps are taken with guesses now */
	uint64_t steps;	   /* with guesses */
	uint64_t uses;	   /* distinct experts of layers that had been guessed at */
	uint64_t foreseen; /* of them: guessed */
	uint64_t reads, useful, late, wasted; /* late: still under way when asked for */
	uint64_t wasted_bytes;
	uint64_t
		gain_ppm; /* of steps with guesses over those without, when last compared; 0: not yet */
};
SLUICE_LAYOUT(sizeof(struct sluice_predict_counts) == 80, "wire");

/* A device beside the host's memory: daemon/device/device.h. name "": there is none. */
struct sluice_status_device {
	char name[128];
	char state[16];		     /* "ok", "failed", "lost", "fills stopped" (they do not pay) */
	uint64_t vram_bytes;	     /* taken of its memory */
	uint64_t slots, resident;    /* of experts; those that lie in one */
	uint64_t hits, misses;	     /* uses of experts that lay in a slot; the others */
	uint64_t fills, fill_bytes;  /* experts that were brought there */
	uint64_t launches;	     /* of kernels */
	uint64_t layers, handoff_ns; /* layers with experts; what handing them over took in all */
};

/* Memory that outlives the daemon where a service manager keeps it, and what of it was there at the start. */
struct sluice_status_warm {
	uint32_t kept;	 /* 1: it has such memory */
	uint32_t handed; /* 1: memory was handed over to it */
	uint32_t warm;	 /* 1: and taken; its three sizes: */
	uint32_t reserved;
	uint64_t experts, expert_bytes, dense_bytes; /* there at the start and not read */
	uint64_t starts;			     /* daemons that used it, this one included */
	char why[256];				     /* handed over and not taken: why */
};
SLUICE_LAYOUT(sizeof(struct sluice_status_warm) == 304, "wire");

/* Forms that answers are held to, and their masks: what requests of the same form share. */
struct sluice_status_forms {
	uint64_t compiled, found;     /* forms; those that were there from an earlier request */
	uint64_t masks, masks_cached; /* of requests that are through; those that were there */
	uint64_t bytes;		      /* kept now, in so many: */
	uint32_t forms, matchers;
};
SLUICE_LAYOUT(sizeof(struct sluice_status_forms) == 48, "wire");

/* Fills of a device's slots; zeros without one. */
struct sluice_status_device_fills {
	uint64_t link_ns,
		link_bytes; /* copies of fills: their time, without what they waited for others */
	uint64_t stops;	    /* times that fills were stopped for not paying */
	int64_t gain_ppm;   /* of a layer's time by fills, when judged last; 0: not yet */
};
SLUICE_LAYOUT(sizeof(struct sluice_status_device_fills) == 32, "wire");

/* How much of a device is used; zeros without one. */
struct sluice_status_device_use {
	/* of layers that were looked at, of a device that computes: hits there and misses on the CPUs ran at the
	 * same time, and either did */
	uint64_t both_ns, either_ns;
	uint64_t
		link_free; /* bytes a second that the link carries beside others' use of it; 0: not known yet */
};
SLUICE_LAYOUT(sizeof(struct sluice_status_device_use) == 24, "wire");

/* Counters only grow while the daemon runs. Payload: fallbacks, one sentence a line. */
struct sluice_status_info {
	uint32_t struct_size;
	uint32_t state;	  /* enum sluice_state */
	uint32_t filling; /* 1: experts are being brought in while the budget is not full */
	uint32_t threads;
	uint32_t n_ctx, n_parallel, n_batch;
	uint32_t active, waiting; /* requests */
	uint32_t connections;
	uint64_t load_bytes, load_bytes_total; /* dense weights read so far */
	uint64_t budget_bytes, resident_bytes, dense_bytes, kv_bytes;
	uint64_t experts_total, experts_resident;
	uint64_t hits, misses; /* per expert use */
	uint64_t bytes_read;   /* expert bytes from disk */
	uint64_t stall_ns;
	uint64_t tokens_generated, tokens_prefilled, steps;
	uint64_t uptime_ns;
	uint64_t payload_bytes;
	char arch[32], cpu[16], io[16], arena[16], kv[16], policy[64], version[32];
	char model[128];
	char failure[256];		    /* SLUICE_STATE_FAILED: why */
	uint64_t read_busy_ns;		    /* time with at least one read from disk in flight */
	uint64_t local_bytes, remote_bytes; /* expert weights multiplied on their node, and not */
	uint32_t n_nodes;		    /* 0: experts are not cut by node */
	uint32_t reserved;
	struct sluice_status_node nodes[SLUICE_STATUS_NODES];
	char telemetry[256]; /* "group=source" of each kind of measurement, by spaces */
	/* what the daemon's process may use: the least of machine and control groups, and what was
	 * left of it when the daemon started; UINT64_MAX: the kernel does not say, 0: a daemon
	 * that does not tell */
	uint64_t memory_limit_bytes, memory_room_bytes;
	uint32_t cpus; /* by affinity and quota, 0: a daemon that does not tell */
	uint32_t reserved2;
	char memory_from[256], cpus_from[256]; /* who says so: "machine", "cgroup /sys/..." */
	/* the plan of memory, as `sluice plan` tells it; zeros: a daemon that does not tell, whose
	 * kv_bytes are with the states */
	uint64_t dense_memory_bytes, state_bytes, scratch_bytes;
	uint64_t budget_least_bytes, budget_all_bytes;
	uint32_t n_slots; /* size classes, more than SLUICE_STATUS_SLOTS where not all are told */
	uint32_t reserved3;
	struct sluice_status_slots slots[SLUICE_STATUS_SLOTS];
	char reasons[2048]; /* why, one sentence a line */
	/* speculation; zeros: a daemon that does not tell */
	uint32_t spec_mode; /* enum sluice_spec of requests that do not say */
	uint32_t reserved4;
	uint64_t spec_bytes; /* of scratch_bytes: sources of drafts, and what drafts leave */
	uint64_t
		dropped_uses; /* of experts, by drafts alone that did not stay: in no other count */
	struct sluice_spec_counts spec;
	struct sluice_histogram latency[SLUICE_LATENCIES]; /* enum sluice_latency */
	uint64_t ended[4];				   /* requests, by enum sluice_stop */
	uint64_t pauses; /* of sequences that gave their memory to others */
	/* reuse of what was read */
	uint64_t prefix_bytes;	/* for it, beside what sequences leave free */
	uint64_t tokens_reused; /* of prompts */
	struct sluice_column_cost columns[SLUICE_COLUMNS]; /* [n - 1]: of n columns */
	struct sluice_predict_counts predict;
	uint64_t prefix_lookups,
		prefix_found; /* prompts that were looked up, and found to begin so */
	uint32_t prefix_pages, prefix_points; /* kept now: pages of 64 tokens, copies of states */
	uint64_t fills;			      /* experts read before they were asked for */
	uint32_t reads_in_flight;	      /* pieces of expert and dense weights */
	uint32_t reserved5;
	/* bounds and sums in thousandths (microseconds for ms): pieces read, and waits for them */
	struct sluice_histogram reads, stalls;
	struct sluice_status_device device;
	struct sluice_status_warm warm;
	struct sluice_status_forms forms;
	struct sluice_status_device_fills device_fills;
	struct sluice_status_device_use device_use;
	uint64_t form_bytes; /* of scratch_bytes: for forms of answers that are kept compiled */
};
SLUICE_LAYOUT(sizeof(struct sluice_status_info) ==
		      40 + 17 * 8 + 192 + 128 + 256 + 32 + 192 + 256 + 24 + 512 + 48 + 32 * 24 +
			      2048 + 24 + 104 + 4 * 152 + 40 + 16 + 8 * 32 + 80 + 16 + 8 + 8 + 8 +
			      2 * 152 + 224 + 304 + 48 + 32 + 24 + 8,
	      "wire");

#endif
