/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/seq.h: what a sequence remembers: KV cache of the attention layers and recurrent
 * state of the DeltaNet layers.
 *
 * One pool owns the memory of --parallel sequences of --ctx positions each, reserved at start
 * (address space; it becomes present as positions are first written). KV rows are stored in pages of
 * KV_BLOCK absolute positions, so that attention walks the same blocks in the same order however a
 * prompt was cut and wherever its pages lie: the same bits. Pages may be held by several sequences
 * and by the prefix tree (pages.h): positions that are written are never written again by anybody
 * else. Engine thread, except where the mixers write it SPMD.
 */
#ifndef SLUICE_ENGINE_SEQ_H
#define SLUICE_ENGINE_SEQ_H

#include <stdint.h>

#include "base/err.h"
#include "engine/kv.h"
#include "engine/pages.h"
#include "kernels/cpu/kv_block.h"
#include "model/model.h"

struct seq;
struct seq_pool;

/* Bytes of a page for models without a cache: their states are saved in such. */
#define SEQ_LEAST_PAGE 4096u

/*
 * Reserves address space for @n_seq sequences of @n_ctx positions and @n_pages pages, 0: as many as
 * all sequences take when full. 0, or -errno and a sentence (-ENOTSUP: head sizes that the cache type
 * cannot hold; -ENOMEM).
 */
int seq_pool_create(const struct model *m, uint32_t n_seq, uint32_t n_ctx, uint32_t n_pages,
		    enum kv_type type, struct seq_pool **ret, struct err *err);
void seq_pool_destroy(struct seq_pool *p); /* NULL is fine */

/* Most bytes that a pool with pages for all can come to hold; 0 where seq_pool_create would refuse. */
uint64_t seq_pool_bytes(const struct model *m, uint32_t n_seq, uint32_t n_ctx, enum kv_type type);

/*
 * A free sequence of length 0, or NULL. Its memory is not cleared here: the mixers take the
 * recurrent state as zero at position 0, in the caches and by all threads, and no position of the
 * KV cache counts before it is written.
 */
struct seq *seq_get(struct seq_pool *p);
/* Gives it back with its pages; what nobody holds beyond 64 MiB is released to the system. */
void seq_put(struct seq_pool *p, struct seq *s);

uint32_t seq_number(const struct seq *s);    /* its place in the pool, from 0 */
uint32_t seq_len(const struct seq *s);	     /* positions written */
uint32_t seq_ctx(const struct seq *s);	     /* most that fit */
void seq_advance(struct seq *s, uint32_t n); /* after a step, once for all layers */

/* Pages that seq_reserve() would take. */
uint32_t seq_lacks(const struct seq *s, uint32_t n);
/* Before a step: pages for the next @n positions, which fit. 0 or -ENOSPC, and then none was taken. */
int seq_reserve(struct seq *s, uint32_t n);
/*
 * Forgets what was written from position @len on and gives back the pages behind it; 0 makes it
 * empty. Keys and values only: the recurrent state stays what it is. Never below what others were
 * given of its last page, since that is then written again.
 */
void seq_cut(struct seq *s, uint32_t len);
/*
 * An empty sequence becomes one of @len positions, those of @pages: whole pages are held by one more,
 * of a last one that is not full it gets a copy. 0 or -ENOSPC: no page for the copy.
 */
int seq_share(struct seq *s, const uint32_t *pages, uint32_t len);

/* The pool's pages, to hold and to drop. */
struct pages *seq_pool_pages(struct seq_pool *p);
/* The page of a block (position / KV_BLOCK) that has positions written or reserved. */
uint32_t seq_page(const struct seq *s, uint32_t block);
/* The memory of a page, seq_page_bytes() of it. */
void *seq_page_memory(const struct seq_pool *p, uint32_t page);
size_t seq_page_bytes(const struct seq_pool *p);

/* A free page for whoever fills it, held once, or PAGE_NONE. page_drop() gives it back. */
uint32_t seq_take_page(struct seq_pool *p);
/* @bytes of @data into pages, one after the other. */
void seq_fill_pages(struct seq_pool *p, const uint32_t *pages, const void *data, uint64_t bytes);

/* Bytes of the recurrent state; 0 for models without one. */
uint64_t seq_state_bytes(const struct seq_pool *p);
/* Pages that a copy of the recurrent state takes; 0 for models without one. */
uint32_t seq_state_pages(const struct seq_pool *p);
/* The state into so many pages, and from there. Any sequence of the pool; meaningful at its length. */
void seq_save_state(const struct seq *s, const uint32_t *pages);
void seq_load_state(struct seq *s, const uint32_t *pages);

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
