/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/replay.h: memory for what drafted tokens leave behind (struct batch_run.store).
 *
 * Recurrent state cannot be cut back like a KV cache, so it never takes drafts in: their inputs are
 * kept here, DRAFT_MAX of them for each layer that has such state, and those that were right go
 * through the recurrence at the beginning of the next run (block/deltanet.c). Taken at start for all
 * places as address space; pages appear where a model has such layers and drafts are made. Engine
 * thread; the blocks write it SPMD.
 */
#ifndef SLUICE_ENGINE_REPLAY_H
#define SLUICE_ENGINE_REPLAY_H

#include "model/model.h"

struct replay;

/* Bytes for @n sequences; 0 for a model without recurrent layers. */
uint64_t replay_bytes(const struct model *m, uint32_t n);

/* 0 or -ENOMEM. */
int replay_create(const struct model *m, uint32_t n, struct replay **ret);
void replay_destroy(struct replay *r); /* NULL is fine */

/* The store of sequence @i < n; NULL where the model needs none. */
float *replay_store(const struct replay *r, uint32_t i);

#endif
