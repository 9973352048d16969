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
#include "engine/kv.h"
#include "kernels/cpu/kv_block.h"
#include "model/model.h"

struct seq;
struct seq_pool;

/*
 * Reserves address space for @n_seq sequences of @n_ctx positions. 0, or -errno and a sentence
 * (-ENOTSUP: head sizes that the cache type cannot hold; -ENOMEM).
 */
int seq_pool_create(const struct model *m, uint32_t n_seq, uint32_t n_ctx, enum kv_type type,
		    struct seq_pool **ret, struct err *err);
void seq_pool_destroy(struct seq_pool *p); /* NULL is fine */

/* Most bytes that the pool can come to hold; 0 where seq_pool_create would refuse. */
uint64_t seq_pool_bytes(const struct model *m, uint32_t n_seq, uint32_t n_ctx, enum kv_type type);

/*
 * A free sequence of length 0, or NULL. Its memory is not cleared here: the mixers take the
 * recurrent state as zero at position 0, in the caches and by all threads, and no position of the
 * KV cache counts before it is written.
 */
struct seq *seq_get(struct seq_pool *p);
/* Gives it back; its pages are released to the system where it was long (MADV_DONTNEED). */
void seq_put(struct seq_pool *p, struct seq *s);

uint32_t seq_len(const struct seq *s);	     /* positions written */
uint32_t seq_ctx(const struct seq *s);	     /* most that fit */
void seq_advance(struct seq *s, uint32_t n); /* after a step, once for all layers */

/*
 * What the mixers work on, any thread of the team during a step. @layer is the model's index of a
 * layer of the kind asked for.
 */
enum kv_type seq_kv_type(const struct seq *s);
/* K and V of one KV head and block (position / KV_BLOCK). */
void seq_kv(const struct seq *s, uint32_t layer, uint32_t head, uint32_t block, void **ret_k,
	    void **ret_v);
/* The recurrent state of a layer, as its block lays it out. */
float *seq_floats(const struct seq *s, uint32_t layer);

/* The whole recurrent state as one range, for snapshots; meaningful where seq_len() > 0. */
void *seq_state(const struct seq *s, size_t *ret_bytes);

#endif
