/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/kv.h: where things lie in a sequence's memory.
 *
 * A sequence is one range: first its recurrent state, then its KV cache.
 *   state   [DeltaNet layer]{ conv window [kernel - 1][Cd], oldest first; S [Hv][D / 32][D][32] }
 *           S of a head as kernels/cpu/fops.h wants it (struct delta_args), all f32
 *   KV      [block][attention layer][KV head]{ K, V } in the layouts of kernels/cpu/kv_block.h
 * With the block outermost memory grows with the positions written, huge pages fill up, and what
 * decode streams at a time is still some ten KiB in one piece. Pure arithmetic, any thread.
 */
#ifndef SLUICE_ENGINE_KV_H
#define SLUICE_ENGINE_KV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/cpu/kv_block.h"
#include "model/model.h"

#define CONV_MAX_TAPS 16

/* What one layer's attention puts into a block of the cache. */
struct kv_layer {
	size_t k_bytes, v_bytes; /* of one head and block */
	size_t offset;		 /* of its first head in a block of all layers */
};

struct kv_shape {
	enum kv_type type;
	uint32_t n_ctx; /* rounded up to whole blocks */
	uint32_t n_delta;
	size_t block_bytes; /* all layers and heads of one block */
	size_t conv_floats; /* of one DeltaNet layer */
	size_t delta_floats;
	uint64_t state_bytes; /* all layers, a multiple of 4096 */
	uint64_t cache_bytes; /* all blocks, a multiple of 4096 */
};

/*
 * Works out the shape for @n_ctx positions of @m, and per layer of the model (where @layers is not
 * NULL: n_layers of them) its place in a block. 0; -ENOTSUP and a sentence where the model's head
 * sizes do not fit the layouts (head_dim a multiple of 16, for q8_0 of 32; DeltaNet heads a
 * multiple of 32); -EOVERFLOW where sizes do not fit.
 */
int kv_shape_init(struct kv_shape *s, const struct model *m, uint32_t n_ctx, enum kv_type type,
		  struct kv_layer *layers, struct err *err);

/* Byte offset of K of (block, layer, head) in the cache; V follows k_bytes on. */
static inline size_t kv_offset(const struct kv_shape *s, const struct kv_layer *layer,
			       uint32_t head, uint32_t block)
{
	return block * s->block_bytes + layer->offset + head * (layer->k_bytes + layer->v_bytes);
}

#endif
