/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/engine_private.h: struct engine, shared by engine.c (life, status) and sched.c (the
 * engine thread's loop). Nobody else includes it.
 */
#ifndef SLUICE_ENGINE_ENGINE_PRIVATE_H
#define SLUICE_ENGINE_ENGINE_PRIVATE_H

#include <pthread.h>

#include "base/limits.h"
#include "engine/admit.h"
#include "engine/engine.h"
#include "engine/follow.h"
#include "engine/memory.h"
#include "engine/pace.h"
#include "engine/reuse.h"
#include "engine/sampler.h"
#include "engine/spec.h"
#include "engine/step.h"
#include "engine/supply.h"
#include "engine/team.h"
#include "engine/vram.h"
#include "policy/fill_pace.h"
#include "trace/record.h"
#include "engine/weights.h"
#include "store/arena.h"
#include "store/residency.h"

#define MAX_WAITING 1024 /* requests accepted and not yet begun */

struct saver;

/* keep.c: memory that outlives the process. */
struct keep {
	struct engine_keep given;
	struct warm_shape shape;
	struct arena *arena[WARM_NR]; /* until experts and weights have them */
	struct warm *warm;	      /* NULL: nothing is kept */
	bool taken, budget_assumed;
	uint64_t experts, expert_bytes; /* taken over */
	struct err why;			/* handed over and of no use */
};

/* struct engine_place, for other threads. */
struct place_figures {
	_Atomic uint32_t state; /* bits: busy, paused */
	_Atomic uint32_t number, n_prompt, n_cached, n_read, n_generated, max_tokens;
};

/*
 * A request in one of the n_parallel places. When it has ended ids, n_ids, tenant and the counts stay
 * those of it until the next one.
 */
struct active {
	struct request *request; /* NULL: the place is free */
	struct seq *seq;
	struct sampler sampler;
	uint32_t *ids;	   /* n_ctx + 1, the place's own: the prompt, then what was generated */
	uint64_t tenant;   /* whose they are */
	uint32_t n_prompt; /* of them: the prompt */
	uint32_t n_ids;	   /* known; where it decodes all but the last are in the KV cache */
	struct reuse reuse;
	struct follow follow;
	bool spoilt;	    /* a step with it was given up: its sequence is no use to anybody */
	bool paused;	    /* its pages were given to others: what is known is read again */
	uint32_t number;    /* counts requests, for traces */
	uint32_t n_done;    /* prompt tokens that went through a step */
	uint32_t n_in_step; /* ... and will in the step that runs; 0: none */
	uint32_t n_generated, max_tokens;
	struct speculation spec;
	struct token_logprobs logprobs[DRAFT_MAX + 1]; /* of what was picked, where wanted */
	bool device_short;			       /* the device has no memory for it */
	struct err short_note;			       /* ... and why */
	int short_error;			       /* ... as -errno */
	bool on_device;				       /* it has memory there */
	bool anew; /* ... and had, alone, but where nothing could be added: it begins once more */
	bool waits; /* it decodes, and is not in the step: fills of slots that it is to have end first */
	bool no_number;	   /* a row of logits was not finite, or nothing could be picked */
	uint32_t n_broken; /* with no_number: how many logits of that row are not finite */
	uint64_t timed_ns; /* start of the timed part */
	uint64_t prompt_end_ns, last_token_ns;
	uint64_t hits, misses, bytes_read, stall_ns; /* the counters at timed_ns */
};

struct engine {
	struct engine_config config;
	const struct model *model;
	const struct tokenizer *tokenizer;
	const struct float_ops *fops;
	struct limits limits;	 /* of this process when memory was planned */
	struct memory_plan plan; /* what lies where */

	struct reader *reader;
	struct weights *weights;
	struct arena *arena; /* NULL for dense models, as are the next four */
	struct residency *residency;
	const struct policy_ops *policy_ops;
	struct policy *policy;
	struct supply *supply;
	struct ahead *ahead; /* NULL: nothing is read ahead */
	struct seq_pool *seqs;
	uint32_t *ends, n_ends; /* tokens that end an answer */
	struct histogram latency[LATENCY_NR];
	_Atomic uint64_t ended[STOP_NR]; /* requests, by how */
	struct prefix_tree *prefixes;	 /* NULL: nothing is reused */
	uint32_t *reuse_pages;		 /* of a whole context, for reuse.c */
	struct saver *saver;		 /* NULL: sequences are not saved */
	struct place_figures *figures;	 /* n_parallel */
	struct team *team;
	struct device *device;	    /* NULL: none */
	_Atomic bool device_failed; /* in the newest step that ended */
	_Atomic bool device_lost;   /* the CPU computes alone */
	uint32_t device_failures;   /* steps that failed in a row */
	struct device_look {	    /* at what the device took: see on_device.c */
		uint64_t at_ns, layers, handoff_ns, misses, routed_ns, link_bytes;
	} device_look, device_took; /* when the step began; by steps that decode, of late */
	uint32_t device_steps;	    /* of those */
	bool device_decodes;	    /* the step that began last */
	double device_expert_bytes; /* mean */
	_Atomic uint64_t device_link_free;
	_Atomic uint64_t
		device_budget; /* of engine_set_device_budget(); config has what is gone by */
	bool is_short;	    /* a sequence that has no memory there is to end before the next step */
	bool memory_failed; /* ... because the driver failed: counts as a failed step */
	struct err short_note; /* ... and what it said */
	bool device_dense;     /* it computes all but experts; else it has slots alone */
	struct vram *vram;     /* what lies in its slots; NULL: it has none */
	struct err device_note, slots_note, auto_note, lost_note;
	struct decoder *decoder;
	struct spec *spec;
	struct trace *trace;
	bool memory_registered;
	struct keep keep;
	struct node_split split; /* of expert rows over NUMA nodes */

	pthread_t thread;
	bool started;
	int state_fd;
	_Atomic int state;  /* enum engine_state */
	struct err failure; /* written before state becomes ENGINE_FAILED */
	_Atomic bool stop;
	_Atomic bool filling;
	_Atomic(struct request *) inbox; /* newest first; the engine takes the whole chain */
	_Atomic uint32_t n_waiting;
	_Atomic uint32_t own_event; /* woken by submit where there is no residency */

	/* engine thread */
	struct active *active; /* n_parallel */
	struct request *queue_head, **queue_tail;
	struct turns turns; /* whose request is next */
	struct pace pace;   /* of prompts beside those that decode */
	uint64_t n_came;    /* requests so far */
	uint32_t n_requests;
	uint64_t step;
	const struct batch *batch; /* of the step that runs */
	struct batch_run *runs;
	uint32_t *run_owner; /* index into active, per run */
	uint32_t *tokens;    /* n_batch */
	bool *want;
	uint32_t *token_run; /* per token of the step: its run */
	int *token_error;
	bool *taken;	     /* n_parallel: places whose turn it was in the step that is built */
	bool *in_step;	     /* ... and those with a run in it: nobody takes their pages now */
	bool bite_waits;     /* a prompt has none of it for want of a bite */
	uint32_t n_decoding; /* sequences that decode in the step */
	uint32_t n_seated;   /* ... and that are there when it is built, but for the paused */
	uint32_t n_tail;     /* ends of prompts in it, tokens: as pace.h has them */

	uint64_t progress_ns; /* when the last report from within a step was made */

	unsigned fill_depth;	/* of background reads while nothing is decoded; looked at again */
	uint64_t fill_depth_ns; /* from time to time, last at this one */
	bool was_idle;		/* no step since the last look at what fills took */
	struct fill_pace fill_pace;

	_Atomic uint64_t n_generated, n_prefilled, n_steps, n_paused, n_reused;
	_Atomic uint64_t n_lookups, n_found;
	_Atomic uint32_t n_prefix_pages, n_prefix_points;
	_Atomic uint64_t n_layers_done; /* of all steps */
	_Atomic uint64_t itl_target_ns; /* of engine_set_itl_target(); pace takes it each step */
	_Atomic uint32_t n_active;

	/* filled from the front by one thread at a time; entries, and their texts, never change. Stored
	 * with release order, so that whoever sees a pointer sees its text. */
	_Atomic(const char *) fallbacks[ENGINE_FALLBACKS];
	struct err register_note, trace_note;
};

/* How weights are read: the model's, and a prediction head's in a file of its own. */
static inline struct reader_config engine_reader_config(const struct engine_config *c)
{
	return (struct reader_config){ .kind = c->io,
				       .depth = c->io_depth,
				       .request_bytes = c->io_request_bytes,
				       .ops = c->reader_ops,
				       .ops_arg = c->reader_ops_arg };
}

/* One more sentence for the status; @text must live as long as the engine. Engine thread or start. */
void engine_add_fallback(struct engine *e, const char *text);

/*
 * keep.c. keep_init(): first of all, what the config says is the engine's. keep_begin(): before memory is planned: who the model is, what was handed over counts as room and,
 * where no budget is asked for, as the budget. keep_failed(): the plan does not work with it; true: again,
 * without. keep_memory(): with the plan made: the arenas of experts and dense weights, taken over both or new
 * both; where they cannot be kept keep.arena is NULL and others are made. keep_experts(): residency's marks;
 * -ESTALE: what was taken over cannot be used; residency and arena are gone, and there are new ones to take. keep_end() frees what is left.
 */
void keep_init(struct engine *e);
int keep_begin(struct engine *e, struct err *err);
bool keep_failed(struct engine *e, const struct err *why);
int keep_memory(struct engine *e, struct err *err);
int keep_experts(struct engine *e, struct err *err);
void keep_end(struct engine *e);
struct arena *keep_arena(struct engine *e, enum warm_memory m); /* its owner from now on; or NULL */
void keep_get_status(const struct engine *e, struct engine_warm *ret);

/*
 * on_device.c: the device that the options name. engine_create_device() when memory is planned and before
 * the experts' arena; engine_create_slots() when residency is there; engine_load_device() on the engine's
 * thread with the dense weights in memory, which are let go of where the device has them.
 */
int engine_create_device(struct engine *e, struct err *err);
int engine_create_slots(struct engine *e, struct err *err);
/* What of this machine's memory an emulated device will take: not to be given to experts twice. */
uint64_t engine_device_takes(const struct engine *e);
/* Whether a GPU is asked for by name, or would be found: before engine_create_device(). */
bool engine_device_wanted(const struct engine *e);
/* Between two steps: fills, the table of slots; @n_tokens of the next one, 0: there is none. 0 or -EIO. */
int engine_device_boundary(struct engine *e, uint32_t n_tokens, struct err *err);
/* Are there fills that want to be looked at soon? */
bool engine_device_busy(const struct engine *e);
/* Before the end: fills read the arena. */
void engine_drain_device(struct engine *e);
int engine_load_device(struct engine *e);
/*
 * After a step, which @failed on the device or did not, or where none was made because of e->memory_failed, which
 * counts as one that failed and stays set where the device is gone: is it gone, now? Once true.
 */
bool engine_device_gone(struct engine *e, bool failed);
/*
 * The CPU goes on alone: dense weights are read again, what lay in slots is the host's. Sequences are the
 * caller's to end. 0, or -errno and e->failure: nothing can be computed any more. Between steps.
 */
int engine_lose_device(struct engine *e);
void engine_get_device(const struct engine *e, struct engine_device *ret);

/*
 * device_memory.c: memory of the device for the next @n tokens of @a, if need be from slots; all of it, or @a has
 * what it had before. Without a device that computes sequences there always is. Before a step.
 */
enum device_memory {
	DEVICE_HAS,
	DEVICE_WAITS, /* not in this step: what it is to have is being filled, and soon is not */
	DEVICE_LACKS, /* others have too much; where nobody else has any, @a is to begin once more */
	/* there can never be enough, or the driver fails (e->memory_failed): a->device_short, a->short_note why */
	DEVICE_ENDS
};
enum device_memory engine_device_hold(struct engine *e, struct active *a, uint32_t n);
/* @a has nothing on the device any more. */
void engine_device_let(struct engine *e, struct active *a);
/* Has nobody but @a anything on the device that computes sequences? */
bool engine_device_alone(const struct engine *e, const struct active *a);
/* Is there memory for one more sequence of @n tokens beside all that those which run will have, slots given up for it? */
bool engine_device_could_seat(const struct engine *e, uint32_t n);
/* Between two steps: a budget that changed, what others want, slots that may be had again. */
void engine_device_memory(struct engine *e);

/*
 * The token of @a at the next position, from its row of logits, behind what it has and what this step
 * picked already; and its log-probabilities where they are wanted. As sampler_pick(). (pick.c)
 */
int engine_pick(struct engine *e, struct active *a, const float *row, uint32_t *ret_id);
/* How many of the likeliest tokens are told with each, where any are. */
static inline uint32_t engine_n_likely(const struct request *r)
{
	uint32_t n = r->n_logprobs ? r->n_logprobs - 1 : 0;

	return n < LOGPROBS_MAX ? n : LOGPROBS_MAX;
}
/* A token of @a was computed by @now, its first or not: latencies. (pick.c) */
void engine_observe_token(struct engine *e, const struct active *a, uint64_t now);

/* The engine thread looks again at what it has to do. Any thread. */
void engine_wake(struct engine *e);

/* place.c: what the places do, for engine_get_place(). Engine thread, between steps. */
void places_publish(struct engine *e);

/* Finds the tokens that end an answer and tells the samplers of all places. 0 or -ENOMEM. */
int engine_find_ends(struct engine *e);

/* Does nobody want the step that runs any more? @arg: the engine. Engine thread, during a step. */
bool engine_given_up(void *arg);

/* waiting.c: the queue of requests that wait for a place. All by the engine thread. */
bool request_is_cancelled(struct request *r);
/* Has the request had all the time that it may take? */
bool request_is_over_time(const struct request *r, uint64_t now);
/* The last words to a request that has (or never had) a place. */
void engine_finish_request(struct engine *e, struct request *r,
			   const struct request_result *result);
/* Moves what was submitted behind what waits, oldest first. */
void waiting_take_inbox(struct engine *e);
/* Whose turn it is among those that wait and may have place @i: where it is in the queue; NULL: nobody. */
struct request **waiting_next(struct engine *e, uint32_t i);
/* Takes the request out of the queue that is at @at in it. */
struct request *waiting_take(struct engine *e, struct request **at);
/* Ends all that wait: with an error, but for those that were cancelled before. */
void waiting_end(struct engine *e, int error, const char *why);
/* Requests that were cancelled, or took too long, leave the queue wherever they stand in it. */
void waiting_drop(struct engine *e, uint64_t now);

/* compose.c: the tokens and runs of the next step, none where there is nothing to compute. */
void compose_step(struct engine *e, struct batch *b);
/* The timed part of @a begins now. (sched.c) */
void engine_start_clock(struct engine *e, struct active *a);

/* Is every known token of @a but the last one in its KV cache? */
bool engine_decoding(const struct active *a);

/*
 * room.c: pages for the next @n tokens of @a, if need be from those who came last: they are paused,
 * and so is @a where it is the last. False: it is not in this step. Engine thread, before a step.
 */
bool room_make(struct engine *e, struct active *a, uint32_t n);
/* As many of @n tokens of @a as there is room for without pausing anybody who decodes. */
uint32_t room_for(struct engine *e, struct active *a, uint32_t n);
/* Are there pages for a request of @n tokens beside those who are there? Nobody is paused then. */
bool room_to_seat(struct engine *e, uint32_t n);
/* Those who were paused go on as far as there is room, the first to come first. */
void room_resume(struct engine *e);

/* idle.c: background reads beside the step that is about to run. */
void engine_fill(struct engine *e);
/* There is nothing to compute: fills, then sleeps until something happens. */
void engine_idle(struct engine *e);
void engine_check_trace(struct engine *e);

/* progress.c: decoder_layer_fn, and after a step that read some of @a's prompt. */
void progress_layer(void *engine, uint32_t n_layers);
void progress_step(struct engine *e, const struct active *a);

/* The engine thread's main function. */
void *engine_main(void *arg);

#endif
