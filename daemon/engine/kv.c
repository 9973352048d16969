/* SPDX-License-Identifier: MIT */
/* daemon/engine/kv.c: see kv.h. */
#include "engine/kv.h"

#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "engine/block/block.h"

/* Adds what layer @i of the model remembers; @floats so far. */
static int add_layer(struct kv_shape *s, const struct model *m, uint32_t i, uint64_t *floats,
		     struct kv_layer *ret, struct err *err)
{
	const struct layer *l = &m->layers[i];
	struct kv_layer place = { .offset = s->block_bytes, .first_float = *floats };
	int rc = 0;

	for (uint32_t k = 0; k < l->n_blocks && !rc; k++) {
		const struct block_ops *block = block_table[l->blocks[k].kind];
		struct kv_need need = { 0 };

		rc = block->remembers ? block->remembers(m, l, s->type, &need, err) : 0;
		if (need.k_bytes) { /* one block of a layer at most has a cache */
			place.k_bytes = need.k_bytes;
			place.v_bytes = need.v_bytes;
		}
		s->block_bytes += (need.k_bytes + need.v_bytes) * need.n_heads;
		*floats += need.floats;
	}
	if (ret)
		*ret = place;
	return rc;
}

int kv_shape_init(struct kv_shape *s, const struct model *m, uint32_t n_ctx, enum kv_type type,
		  struct kv_layer *layers, struct err *err)
{
	uint64_t floats = 0;
	int rc = 0;

	memset(s, 0, sizeof(*s));
	s->type = type;
	if (n_ctx == 0 || n_ctx > UINT32_MAX - KV_BLOCK)
		return err_set(err, -EINVAL, "a context of %u positions is not possible", n_ctx);
	s->n_ctx = (uint32_t)align_up(n_ctx, KV_BLOCK);
	for (uint32_t i = 0; i < m->n_layers && !rc; i++)
		rc = add_layer(s, m, i, &floats, layers ? &layers[i] : NULL, err);
	if (rc)
		return rc;
	if (u64_mul_overflow(s->n_ctx / KV_BLOCK, s->block_bytes, &s->cache_bytes) ||
	    floats > UINT64_MAX / 16 || s->cache_bytes > UINT64_MAX / 4)
		return err_set(err, -EOVERFLOW, "the state of a sequence does not fit into memory");
	s->state_bytes = align_up(floats * sizeof(float), 4096);
	s->cache_bytes = align_up(s->cache_bytes, 4096);
	return 0;
}
