/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/engine.h: the decoder as the rest of the daemon sees it.
 *
 * engine_create() checks everything that can be refused (budget, options) and takes all address
 * space; engine_start() starts the engine thread, which loads the dense weights, becomes ready, and
 * then takes requests: several at a time in one step, prompts in chunks, experts brought in on
 * demand while the rest of the budget is filled in the background.
 *
 * Requests are handed over with engine_submit() from any thread, also while the engine is still
 * starting (they wait). Answers come through the request's callbacks on the engine thread, which
 * must not block: copy and signal.
 */
#ifndef SLUICE_ENGINE_ENGINE_H
#define SLUICE_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/nodes.h"
#include "base/limits.h"
#include "engine/request.h"
#include "engine/seq.h"
#include "engine/status.h"
#include "kernels/cpu/cpu.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "policy/placement.h"
#include "policy/predict.h"
#include "store/arena.h"
#include "store/reader.h"
#include "store/warm.h"

struct engine;

/* struct engine_config.numa beside numbers of parts */
enum { ENGINE_NUMA_AUTO = 0, ENGINE_NUMA_OFF = -1 };

/*
 * Expert slots and dense weights in memory that outlives this process (store/warm.h), and what of it another
 * process left: descriptors by enum warm_memory, -1 for none, the engine's from engine_create() on.
 */
struct engine_keep {
	enum arena_keep
		keep; /* ARENA_OWN: nothing is kept, and what was handed over is let go of */
	int fd[WARM_NR];
	bool handed;	   /* something was handed over, be it of use or not */
	const char *wrong; /* why it is of no use, NULL: nothing is known against it */
	/* It is of no use: who else holds it is to let go of it, before this returns. NULL: nobody does. */
	void (*let_go)(void *arg);
	void *arg;
};

#define PREFIX_CACHE_OFF UINT64_MAX

struct engine_config {
	uint64_t host_budget; /* bytes of expert slots with padding; 0: what free memory allows */
	unsigned budget_percent; /* 1..100: of all experts' slots; used where host_budget is 0 */
	unsigned threads;	 /* compute threads, 0: one per allowed core (2 hyperthreads = 1),
				    no more than the CPU quota */
	uint32_t n_ctx;		 /* per sequence, 0: the smaller of the model's and 16384, less
				    where memory is short */
	uint32_t n_parallel;	 /* sequences decoded together, 0: 4, less where memory is short */
	uint32_t n_batch;	 /* most tokens in a step, 0: 512, with a GPU 2048 */
	uint64_t itl_target_ns;	 /* mean of steps that read prompts beside decoding; 0: twice what
				    a step takes that only decodes */
	uint64_t prefix_cache;	 /* bytes for what may be reused beside the sequences' own; 0: some
				    states where the model has such; PREFIX_CACHE_OFF: none */
	bool prefix_share;	 /* tenants see each other's */
	const char *save_path;	 /* a directory for saved.h; NULL: nothing is saved */
	uint64_t kv_budget;	 /* bytes of keys and values of all sequences; 0: all may be full */
	enum kv_type kv_type;
	enum reader_kind io;
	uint32_t io_depth, io_request_bytes; /* 0: the reader's own */
	const struct cpu_ops *ops;	     /* not NULL */
	const char *policy;		     /* "lfu" by default (NULL) */
	const char *device; /* "none" by default (NULL), or as device/device.h says; "auto": cuda
				      where a GPU and the model fit each other, else none */
	uint64_t device_budget;	   /* bytes of the device's memory; 0: what is free of it */
	const char *device_policy; /* "cpu", or as vram.h says; "vram" by default (NULL) */
	uint64_t device_fill_rate; /* bytes per second of fills; 0: no bound but that of tokens */
	const char *trace_path;	   /* NULL: no routing trace */
	bool trace_overwrite;	   /* a file that is there already is replaced */
	bool no_fill;		   /* no background fill (experiments, tests) */
	enum spec_mode spec;	   /* of requests that do not say; DEFAULT: AUTO */
	/* A prediction head from another file, of such a model (model_open_head()); NULL: the
	 * model's own where it has one. Outlives the engine. */
	const struct model *head;
	uint64_t fill_bytes_per_s; /* of the background fill; 0: no bound */
	struct predict_choice
		predict; /* reads ahead of layers; its path lives as long as create() */
	/* AUTO: rows of every expert to the NUMA nodes (base/nodes.h) by their bandwidth; OFF: pages
	 * interleaved; 1 .. NODES_SPLIT: cut in so many parts, bound to nothing (experiments, tests) */
	int numa;
	/* What telemetry knows of the nodes' memory now (workers are left 0), at most @max entries;
	 * returns their number, 0: nothing. Must not block. NULL: libnuma's sizes alone. */
	uint32_t (*bandwidth)(void *arg, struct bandwidth_node *ret, uint32_t max);
	void *bandwidth_arg;
	/* The same of the link to the GPU at the PCI address @bdf: what it can carry there, and what it carries now,
	 * bytes per second, 0: unknown. False: nothing is known. */
	bool (*link)(void *arg, const char *bdf, double *ret_capacity, double *ret_in_use);
	const struct reader_ops *reader_ops; /* NULL, or a test's disk instead of io */
	void *reader_ops_arg;
	const struct limits *limits;	/* what this process may use; copied. NULL: read now */
	const struct engine_keep *keep; /* read by engine_create() alone. NULL: nothing is kept */
};

/* The model and the tokenizer must outlive the engine. 0 or -errno and a sentence. */
int engine_create(const struct engine_config *config, const struct model *model,
		  const struct tokenizer *tokenizer, struct engine **ret, struct err *err);
/* Once. 0 or -errno and a sentence. */
int engine_start(struct engine *e, struct err *err);
/*
 * Ends what runs and what waits (STOP_ERROR with -ESHUTDOWN, within a layer of the step) and refuses
 * what comes later. Returns at once, done() of the requests comes as ever. Any thread.
 */
void engine_stop(struct engine *e);
/* engine_stop(), then waits for reads in flight, joins the threads, frees.
 * NULL is fine. */
void engine_destroy(struct engine *e);

/*
 * Memory that is to outlive this process and that nobody else holds yet: its descriptors, the engine's own, -1
 * where there is none. False: there is nothing to hand to anybody. After engine_create().
 */
bool engine_get_kept(const struct engine *e, int ret_fd[WARM_NR]);

/* A descriptor that becomes readable (eventfd) when the state changes: ready or failed. */
int engine_state_fd(const struct engine *e);

/* Any thread, any time, no system call but for nodes; counters are monotonic, the whole is not one
 * instant. */
void engine_get_status(const struct engine *e, struct engine_status *ret);

/*
 * A number that grows as long as the engine gets anywhere: weights loaded, layers computed, experts read.
 * One that stands still while requests are active is an engine that hangs. Any thread.
 */
uint64_t engine_progress(const struct engine *e);

/* Another engine_config.device_budget, from the next step on. Any thread. */
void engine_set_device_budget(struct engine *e, uint64_t bytes);
/* Another engine_config.itl_target_ns, from the next step on. Any thread. */
void engine_set_itl_target(struct engine *e, uint64_t target_ns);

/* One of the n_parallel places for sequences: what its request does, or did that was there last. */
struct engine_place {
	bool busy, paused;
	uint32_t number; /* of the request, counted from 1; 0: there was none yet */
	uint32_t n_prompt, n_cached,
		n_read; /* tokens of its prompt; from the cache; known so far */
	uint32_t n_generated, max_tokens;
};

/*
 * Uses of the experts of a layer (n_expert of them) since the start; they wrap. False: the layer, or the
 * model, has none. Any thread.
 */
bool engine_get_uses(const struct engine *e, uint32_t layer, uint32_t *ret);

/* @i < n_parallel. Any thread; the whole is not one instant. */
void engine_get_place(const struct engine *e, uint32_t i, struct engine_place *ret);

/* Tokens that a sequence may have: constant, so that a request need not ask for the whole status. */
uint32_t engine_n_ctx(const struct engine *e);

/*
 * A sentence where the model's files changed under us: -ESTALE with it where they were cut or written
 * to, 0 with it where the path only names other files now; 0 and none where all is as it was. Looks
 * at every file: for who asks how things are, not for each request. Any thread.
 */
int engine_check_files(const struct engine *e, struct err *err);

/*
 * Any thread. 0, or -errno and a sentence where the request can never run (-EINVAL empty prompt or
 * bad token id, -E2BIG longer than the context, -EBUSY too many waiting, -ESHUTDOWN): then no
 * callback comes. After 0 exactly one done() comes, on the engine thread.
 */
int engine_submit(struct engine *e, struct request *r, struct err *err);

#endif
