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

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/divide.h"
#include "base/err.h"
#include "base/histogram.h"
#include "base/nodes.h"
#include "base/limits.h"
#include "engine/ahead.h"
#include "engine/seq.h"
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

/* What drafts tokens, see draft.h; and which of it a request or the daemon wants. */
enum draft_source { DRAFT_GIVEN, DRAFT_NGRAM, DRAFT_MTP, DRAFT_NR };
enum spec_mode { SPEC_DEFAULT, SPEC_AUTO, SPEC_OFF, SPEC_NGRAM, SPEC_MTP };

/* Does an engine of this mode keep a prediction head? */
static inline bool spec_wants_head(enum spec_mode mode)
{
	return mode != SPEC_OFF && mode != SPEC_NGRAM;
}

/* Of the steps in which a request, or all, decoded and no prompt was read. */
struct spec_counts {
	uint64_t drafted[DRAFT_NR], accepted[DRAFT_NR]; /* tokens */
	uint64_t steps, columns,
		tokens;	   /* of a sequence each: a step of three counts three times */
	uint64_t plain_ns; /* what its tokens would have taken without drafts, as plain steps did */
	uint64_t step_ns;  /* what the steps took */
};

/* Of the steps in which one sequence decoded alone with so many columns (its last token and drafts). */
#define ENGINE_COLUMNS 8
struct column_cost {
	uint64_t steps;
	uint64_t step_ns;   /* that they took */
	uint64_t expert_ns; /* of it: routed experts, waits for their reads included */
	uint64_t experts;   /* distinct ones, summed over layers */
};

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

enum engine_state { ENGINE_STARTING, ENGINE_READY, ENGINE_FAILED };

#define ENGINE_FALLBACKS 8
#define ENGINE_CLASSES	 32 /* size classes that a status tells of */

enum request_stop { STOP_EOG, STOP_LENGTH, STOP_CANCELLED, STOP_ERROR, STOP_NR };

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

struct logit_bias {
	uint32_t id;
	float bias; /* added to the logit; -INFINITY: never chosen */
};

/* How a token is chosen from logits; zero everywhere is greedy. Order and formulas: sampler.h. */
struct sampling {
	float temperature; /* 0: greedy */
	uint32_t top_k;	   /* 0: off */
	float top_p;	   /* 1 (or 0): off */
	float min_p;	   /* 0: off */
	uint64_t seed;

	float repeat_penalty;			   /* 1 (or 0): off */
	float frequency_penalty, presence_penalty; /* 0: off */
	int32_t penalty_last_n; /* tokens that the penalties look at; 0: 64, -1: all */
	uint32_t min_tokens;	/* before so many were generated, none that ends the answer */
	const struct logit_bias *bias; /* of different tokens; as long as the request */
	uint32_t n_bias;

	float typical_p;		      /* 1 (or 0): off */
	float top_n_sigma;		      /* 0 or less: off */
	float xtc_probability, xtc_threshold; /* a probability of 0 or a threshold over 0.5: off */
	float dry_multiplier, dry_base;	      /* 0: off; 0: 1.75 */
	uint32_t dry_allowed_length;	      /* 0: 2 */
	int32_t dry_last_n;		      /* tokens that it looks at; 0 or -1: all */
	const uint8_t *dry_breaks; /* a bit for each token: ends a repetition; NULL: none does */
};

#define LOGPROBS_MAX 20

/* A generated token and the likeliest in its place, by the model's own logits: no sampling in it. */
struct token_logprobs {
	float logprob; /* natural */
	uint32_t n;
	uint32_t ids[LOGPROBS_MAX]; /* likeliest first */
	float logprobs[LOGPROBS_MAX];
};

struct request_result {
	enum request_stop stop;
	int error;	   /* STOP_ERROR: -errno; -ESHUTDOWN where engine_destroy() cut it */
	struct err err;	   /* STOP_ERROR: a sentence */
	uint32_t n_prompt; /* tokens of the prompt that were read, or taken from the cache */
	uint32_t n_cached; /* of them: taken from the cache */
	uint32_t n_generated;
	uint32_t place;	     /* where it was computed, counted from 1; 0: nowhere */
	uint64_t prompt_ns;  /* from the first timed prompt token's step to the end of the prompt */
	uint64_t predict_ns; /* from the first generated token to the last */
	uint64_t ttft_ns;    /* submit to first token */
	/* the engine's counters over the timed part (all requests together) */
	uint64_t hits, misses, bytes_read, stall_ns, span_ns;
	struct spec_counts spec;
};

/* Where a next request may begin to differ: after the first @at tokens of the prompt. */
enum mark_kind {
	MARK_SYSTEM, /* behind system text and tools */
	MARK_USER,   /* the end of a real user's message */
	MARK_PROMPT, /* before the last generation prompt */
};

struct prompt_mark {
	uint32_t at;
	enum mark_kind kind;
};

struct request;
struct matcher; /* grammar/matcher.h */

struct request_ops {
	/*
	 * It has a place (counted from 1), and of its @n_prompt tokens @n_cached are known already: a
	 * prompt that stands for its text may have other tokens than were asked for. Before all others.
	 * NULL: not wanted.
	 */
	void (*begun)(struct request *r, uint32_t place, uint32_t n_prompt, uint32_t n_cached);
	/*
	 * Reading the prompt: @n_read of its tokens went through all layers, @done (0 to 1) of the
	 * work is done. After each step that read some, before its tokens, and now and then within
	 * one. Only where want_progress. NULL otherwise.
	 */
	void (*progress)(struct request *r, uint32_t n_read, double done);
	/* A token was generated (the end-of-generation token included). NULL: not wanted. */
	void (*token)(struct request *r, uint32_t id);
	/* Of the token that comes next. Only where n_logprobs. NULL otherwise. */
	void (*token_logprobs)(struct request *r, const struct token_logprobs *l);
	/*
	 * Logits of the prompt positions [first, first + n): row i at logits + i * ld, n_vocab floats.
	 * Valid during the call. Only where want_logits. NULL otherwise.
	 */
	void (*logits)(struct request *r, uint32_t first, uint32_t n, const float *logits,
		       size_t ld);
	/* Log-probability (natural) of prompt token i given those before, 1 <= i < n. Only where
	 * want_logprobs. NULL otherwise. */
	void (*logprob)(struct request *r, uint32_t i, double logprob);
	/* Last call for this request: the owner may free it after that. Never NULL. */
	void (*done)(struct request *r, const struct request_result *result);
};

/* Owned by the submitter, untouched between engine_submit() and done() except cancel. */
struct request {
	const struct request_ops *ops;
	void *arg;
	const uint32_t *tokens; /* prompt, >= 1 ids < n_vocab; n_tokens + max_tokens <= n_ctx */
	uint32_t n_tokens;
	uint32_t max_tokens; /* 0: score or prefill only */
	uint32_t n_untimed;  /* the first so many prompt tokens are not timed (bench at depth) */
	uint64_t max_ns;     /* from engine_submit() on, 0: no bound. Then an answer that has begun
			      * ends as if it had max_tokens, and before that comes -ETIME */
	uint64_t
		client; /* whose it is: clients take turns, whatever number of requests they have */
	uint64_t tenant; /* whose cached prefixes it sees and adds to; 0: of all without a name */
	const struct prompt_mark *marks; /* ascending; none: the prompt's own tokens are gone by */
	uint32_t n_marks;
	bool respell; /* the prompt stands for its text: cached tokens with the same bytes will do, and
			* it may come to other numbers of tokens than n_tokens */
	bool no_reuse;	/* read it all, and keep nothing of it */
	uint32_t place; /* 0: any; else the place that it must have, counted from 1 */
	struct sampling sampling;
	bool ignore_eog, want_progress, want_logits, want_logprobs;
	uint32_t n_logprobs; /* 0: none; else 1 + how many likeliest, up to LOGPROBS_MAX */
	enum spec_mode spec;
	uint32_t draft_length; /* 0: as it pays; else so many in every step (experiments, tests) */
	const uint32_t *draft; /* the expected answer, ids < n_vocab: drafts come from it alone */
	uint32_t n_draft;      /* 0: none */
	/* The form that the answer is held to, at its beginning; its vocabulary is the model's. NULL: any
	 * answer. The engine moves it with each token; drafts that it does not allow are wrong ones. */
	struct matcher *form;
	_Atomic bool cancel; /* set by any thread; seen before the next step */

	/* private to the engine */
	struct request *next;
	uint64_t submitted_ns, came;
	uint32_t turn;
};

/*
 * Any thread. 0, or -errno and a sentence where the request can never run (-EINVAL empty prompt or
 * bad token id, -E2BIG longer than the context, -EBUSY too many waiting, -ESHUTDOWN): then no
 * callback comes. After 0 exactly one done() comes, on the engine thread.
 */
int engine_submit(struct engine *e, struct request *r, struct err *err);

#endif
