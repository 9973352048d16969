/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/seq.h: what a sequence remembers: KV cache of the attention layers and recurrent
 * state of the DeltaNet layers.
 *
 * One pool owns the memory of --parallel sequences of --ctx positions each, reserved at start
 * (address space; pages appear as positions are first written). KV rows are stored in blocks of
 * KV_BLOCK absolute positions so that attention walks the same blocks in the same order however a
 * prompt was cut: the same bits. Engine thread, except where the mixers write it SPMD.
 */
#ifndef SLUICE_ENGINE_SEQ_H
#define SLUICE_ENGINE_SEQ_H

#include <stdint.h>

#include "base/err.h"
#include "model/model.h"

#define KV_BLOCK 64 /* positions */

enum kv_type { KV_F16, KV_Q8_0 };

struct seq;
struct seq_pool;

int seq_pool_create(const struct model *m, uint32_t n_seq, uint32_t n_ctx, enum kv_type type,
		    struct seq_pool **ret, struct err *err);
void seq_pool_destroy(struct seq_pool *p); /* NULL is fine */

/* Most bytes that the pool can come to hold. */
uint64_t seq_pool_bytes(const struct model *m, uint32_t n_seq, uint32_t n_ctx, enum kv_type type);

/* A free sequence of length 0 with zeroed recurrent state, or NULL. */
struct seq *seq_get(struct seq_pool *p);
/* Gives it back; its pages are released to the system where it was long (MADV_DONTNEED). */
void seq_put(struct seq_pool *p, struct seq *s);

uint32_t seq_len(const struct seq *s);	  /* positions written */
uint32_t seq_ctx(const struct seq *s);	  /* most that fit */
void seq_advance(struct seq *s, uint32_t n); /* after a step, once for all layers */

#endif
