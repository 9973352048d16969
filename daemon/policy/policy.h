/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/policy.h: which expert is worth its slot. Pure decisions.
 *
 * One instance decides for one tier. It is told what was used, what came in and what went out, and
 * is asked for victims, for what to bring next, and whether that is worth a move. It does no I/O,
 * takes no locks and reads no clock: the same calls give the same answers, so the simulator and the
 * daemon link the same file. One file per policy; adding one means adding its ops to policy_table[]
 * in policy.c.
 * Includes nothing but base/. Memory is taken in create(). One thread (the engine's).
 */
#ifndef SLUICE_POLICY_POLICY_H
#define SLUICE_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define POLICY_NONE	UINT32_MAX
#define POLICY_NO_CLASS UINT32_MAX /* of a layer without experts: its ids are never used */

/* A step of more tokens is part of a prompt to those who tell them apart (device/device.h's decode). */
#define POLICY_DECODE_TOKENS 8

struct policy_geometry {
	uint32_t n_layers, n_expert, n_expert_used;
	uint32_t n_classes;
	/* n_layers entries, POLICY_NO_CLASS for layers without experts; copied by create() */
	const uint32_t *class_of_layer;
	const uint32_t *class_slots; /* n_classes entries: slots of each size class, copied */
};

/*
 * What a policy may be given besides the geometry. Policies open no files: the caller reads what the
 * argument of "name:FILE" names (trace/policy_input.h) and hands it over. Borrowed during create() only.
 */
enum policy_wants {
	POLICY_WANTS_NOTHING,
	POLICY_WANTS_LIST,
	POLICY_WANTS_USES,
	POLICY_WANTS_SEED, /* a number, which may be left out */
};

struct policy_call { /* one call of used() that will come: ids[first] to ids[first + n - 1] */
	uint32_t layer, n;
	size_t first;
};

struct policy_input {
	const uint32_t *ids;		 /* expert ids, all within the geometry */
	size_t n_ids;			 /* POLICY_WANTS_LIST: distinct ones, worth most first */
	const struct policy_call *calls; /* POLICY_WANTS_USES: in order */
	size_t n_calls;
	uint64_t seed; /* POLICY_WANTS_SEED */
};

struct policy; /* each policy's own */

/* May the engine evict this expert now (unpinned, not being read, not needed by this wave)? */
typedef bool (*policy_evictable_fn)(void *ctx, uint32_t id);

/* Of a move that nobody waits for: what may come (its bytes are at hand), what may go. */
struct policy_filter {
	policy_evictable_fn may_come, may_go;
	void *ctx;
};

struct policy_move {
	uint32_t id, victim; /* victim POLICY_NONE: a free slot is taken */
};

struct policy_ops {
	const char *name; /* as in --policy name[:FILE] */
	const char *help; /* one line */
	enum policy_wants
		wants; /* what of @input create() reads; with NOTHING a ":FILE" is refused */

	/* Experts are ids layer * n_expert + expert. @input: as wanted, else NULL. 0 or -ENOMEM. */
	int (*create)(const struct policy_geometry *geometry, const struct policy_input *input,
		      struct policy **ret, struct err *err);
	void (*destroy)(struct policy *p); /* NULL is fine */

	/*
	 * One layer of one step has routed: @ids (distinct, @n of them) were used, counts[i] times
	 * (tokens of the batch). @step counts engine steps from 1. Called before victim() for the
	 * same layer.
	 */
	void (*used)(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
		     const uint32_t *counts, uint32_t n);

	/* The expert took / gave up a slot. */
	void (*inserted)(struct policy *p, uint32_t id);
	void (*removed)(struct policy *p, uint32_t id);

	/*
	 * The resident expert of class @cls that is worth least among those that evictable() allows,
	 * or POLICY_NONE. Does not remove it: the engine calls removed() once it is out.
	 */
	uint32_t (*victim)(struct policy *p, uint32_t cls, policy_evictable_fn evictable,
			   void *ctx);

	/*
	 * Would the tier gain if absent @id had the slot of resident @victim? Asked before a move that
	 * nobody waits for; a miss takes its slot without asking. False where both are worth the same.
	 */
	bool (*admit)(struct policy *p, uint32_t id, uint32_t victim);

	/*
	 * The same of an absent @id that the layer after this one will use with probability @chance:
	 * would the tier gain if it had the slot of resident @victim then?
	 */
	bool (*expect)(struct policy *p, uint32_t id, float chance, uint32_t victim);

	/*
	 * The best move of class @cls that nobody waits for: the absent expert worth most of those
	 * that may come, in a free slot where there is one (@has_free), else in the place of the
	 * resident one worth least of those that may go, if the tier gains by the policy's own margin.
	 * False: none. Moves nothing: the caller calls removed() and inserted().
	 */
	bool (*promote)(struct policy *p, uint32_t cls, bool has_free,
			const struct policy_filter *filter, struct policy_move *ret);

	/*
	 * The best absent expert to bring in while slots of class @cls are free, or POLICY_NONE.
	 * Successive calls without inserted() may return the same.
	 */
	uint32_t (*next)(struct policy *p, uint32_t cls);

	/* A prompt is over: what it used decides from here on. NULL: it makes no difference. */
	void (*repin)(struct policy *p);

	/* NULL: it does not matter. Class @cls has @slots from here on, which its residents fit into. */
	void (*resize)(struct policy *p, uint32_t cls, uint32_t slots);
};

/*
 * The row that @spec ("lfu", "lru", "static:FILE", "belady:FILE") names, and the text after the colon
 * or NULL. 0, or -EINVAL and a sentence: no such policy, an argument too many or too few.
 */
int policy_find(const char *spec, const struct policy_ops **ret_ops, const char **ret_arg,
		struct err *err);

/* NULL-terminated table of what there is, for help and tools. */
extern const struct policy_ops *const policy_table[];

#endif
