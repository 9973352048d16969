/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/kv.h: where things lie in a sequence's memory.
 *
 * A sequence has a recurrent state in one range, and its KV cache in pages of KV_BLOCK positions.
 *   state   [layer]{ what its blocks keep in f32 }
 *   page    [attention layer][KV head]{ K, V } in the layouts of kernels/cpu/kv_block.h
 * With all layers in a page memory grows with the positions written, huge pages fill up, and what
 * decode streams at a time is still some ten KiB in one piece. Pure arithmetic, any thread.
 */
#ifndef SLUICE_ENGINE_KV_H
#define SLUICE_ENGINE_KV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/cpu/kv_block.h"
#include "model/model.h"

/* What a layer remembers of a sequence: said by its block (struct block_ops). */
struct kv_need {
	size_t k_bytes, v_bytes; /* of KV_BLOCK positions of one head; 0: no cache */
	uint32_t n_heads;	 /* of keys and values */
	size_t floats;		 /* recurrent state */
};

/* Where it lies. */
struct kv_layer {
	size_t k_bytes, v_bytes; /* of one head and block */
	size_t offset;		 /* of its first head in a page */
	size_t first_float;	 /* in the state */
};

struct kv_shape {
	enum kv_type type;
	uint32_t n_ctx;	      /* rounded up to whole blocks */
	size_t block_bytes;   /* of a page: all layers and heads of one block */
	uint64_t state_bytes; /* all layers, a multiple of 4096 */
	uint64_t cache_bytes; /* all blocks, a multiple of 4096 */
};

/*
 * Works out the shape for @n_ctx positions of @m, and per layer of the model (where @layers is not
 * NULL: n_layers of them) its places. 0; -ENOTSUP and a sentence where a block cannot work with the
 * model's sizes or with the cache's type; -EOVERFLOW where sizes do not fit.
 */
int kv_shape_init(struct kv_shape *s, const struct model *m, uint32_t n_ctx, enum kv_type type,
		  struct kv_layer *layers, struct err *err);

/* Byte offset of K of (page, layer, head) in the pages; V follows k_bytes on. */
static inline size_t kv_offset(const struct kv_shape *s, const struct kv_layer *layer,
			       uint32_t head, uint32_t page)
{
	return page * s->block_bytes + layer->offset + head * (layer->k_bytes + layer->v_bytes);
}

#endif
