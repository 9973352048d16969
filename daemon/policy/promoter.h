/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/promoter.h: which moves into a device's slots begin between two steps, within a budget.
 *
 * What a policy thinks worth a move is not yet free: a fill takes the link, and the memory that misses
 * are read from. So there are two buckets, bytes per second and bytes per token; a move begins only when
 * both hold all of it, so that what moved never exceeds either from the first token on. While nothing is
 * computed only the seconds count. The daemon (engine/vram.h) and the simulator (trace/sim_device.h) ask
 * the same promoter. Pure: the caller hands in time and state; any one thread.
 */
#ifndef SLUICE_POLICY_PROMOTER_H
#define SLUICE_POLICY_PROMOTER_H

#include "policy/policy.h"

struct promoter_config { /* borrowed, all of it */
	const struct policy_ops *ops;
	struct policy *policy;
	uint32_t n_classes;
	const uint64_t *class_bytes; /* of a move into a slot of each class */
	/* free slots of a class now; filter.ctx is handed in */
	uint32_t (*free_slots)(void *ctx, uint32_t cls);
	struct policy_filter filter;
	uint64_t bytes_per_s, bytes_per_token; /* 0: no bound */
	bool only_free;			       /* free slots are filled, nobody leaves */
};

struct promoter {
	struct promoter_config c;
	uint64_t largest;  /* of class_bytes */
	double of_seconds; /* bytes in the buckets */
	double of_tokens;
	uint64_t last_ns; /* 0: not yet */
	uint32_t at;	  /* the class that is asked next */
	bool in_prompt;	  /* the last step was part of one */
	bool off;	  /* nothing moves but while the machine is idle */
};

void promoter_init(struct promoter *p, const struct promoter_config *config);

/*
 * A step of @n tokens comes, at @now_ns, which never falls; 0: nothing is computed. Fills the buckets; at the
 * end of a prompt tells the policy so. True: a prompt ended.
 */
bool promoter_step(struct promoter *p, uint32_t n, uint64_t now_ns);

/* Other bounds from here on, 0 none: what is in the buckets stays. */
void promoter_budget(struct promoter *p, uint64_t bytes_per_s, uint64_t bytes_per_token);

/* Moves that may be under way at once: of a few slots most hold what is used, not what is on its way. */
#define PROMOTER_MOVES 64
uint64_t promoter_most_moves(uint64_t slots);

/*
 * The next move, classes in turn: takes its bytes out of the buckets. @idle: bytes per token do not
 * count. False: no policy gains by one, or there is no room in a bucket. The caller moves before it asks
 * again.
 */
bool promoter_next(struct promoter *p, bool idle, struct policy_move *ret, uint32_t *ret_class);

/* Nanoseconds until the seconds' bucket may hold a move again; 0: it does, or has no bound. */
uint64_t promoter_wait_ns(const struct promoter *p);

#endif
