/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/budget.h: how much memory goes to what: experts, KV cache, the rest.
 *
 * Pure arithmetic on what this process may take (base/limits.h) and what the model needs. Decides
 * the expert budget, and the context and the number of sequences where they were not given; refuses
 * what was asked for and cannot fit, with both numbers and the option to change. Called by
 * engine/memory.c.
 */
#ifndef SLUICE_ENGINE_BUDGET_H
#define SLUICE_ENGINE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

#define BUDGET_SLACK_LEAST (4ull << 20)
#define BUDGET_SLACK_PART  100

struct budget_ask {
	const struct limits *limits;
	uint64_t assume_bytes; /* to go by where limits know no memory; 0: LIMITS_ASSUME_MOST */
	uint64_t least_bytes, all_bytes; /* struct residency_need; zeros: a model without experts */
	uint64_t dense_bytes;		 /* of the dense weights in memory */
	uint64_t buffer_bytes;		 /* of everything else but cache and experts */
	/* bytes of the KV cache and the states of @n_parallel sequences of @n_ctx positions,
	 * UINT64_MAX where that is no number */
	uint64_t (*cache_bytes)(const void *arg, uint32_t n_parallel, uint32_t n_ctx);
	const void *arg;
	uint64_t prefix_bytes; /* of them: what --prefix-cache asked for, else 0 */

	uint64_t host_budget; /* as asked for, 0: by percent, or automatic where that is 0 too */
	unsigned percent;
	uint32_t n_ctx, n_parallel;	/* asked for, or the defaults */
	bool ctx_given, parallel_given; /* asked for: kept or refused, never lowered */
};

struct budget {
	uint64_t expert_bytes; /* of expert slots, 0 for a model without experts */
	uint32_t n_ctx, n_parallel;
	uint64_t room_bytes;   /* what was gone by */
	uint64_t margin_bytes; /* left to the system by an automatic budget, else 0 */
	char why[384];	       /* the experts' budget in a sentence */
	char note[384];	       /* what was assumed or lowered, else empty */
};

/*
 * What advice counts on of a room of @room bytes: all but a slack, whole MiB of it. What a group or
 * the machine has already counted moves between two starts of the same daemon (its program, page
 * tables, memory of the kernel, other processes), so a number that fills the room to the byte would
 * be refused a moment later. The slack: BUDGET_SLACK_LEAST, or one part in BUDGET_SLACK_PART where
 * that is more. LIMITS_UNKNOWN stays what it is. Pure; any thread.
 */
uint64_t budget_sure_room(uint64_t room);

/* 0, or -ENOSPC and a sentence. *ret is set on success only. */
int budget_choose(const struct budget_ask *ask, struct budget *ret, struct err *err);

#endif
