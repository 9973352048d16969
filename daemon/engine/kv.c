/* SPDX-License-Identifier: MIT */
/* daemon/engine/kv.c: see kv.h. */
#include "engine/kv.h"

#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/fops.h"

static int check_attention(enum kv_type type, const struct attention_spec *a, struct err *err)
{
	const uint32_t dims[] = { a->head_dim, a->value_dim };

	for (unsigned i = 0; i < ARRAY_LEN(dims); i++)
		if (dims[i] % kv_granule(type) || dims[i] > KV_MAX_HEAD_DIM)
			return err_set(err, -ENOTSUP,
				       "a KV cache of type %s needs attention heads of a multiple "
				       "of %zu up to %d dimensions, this model has %u",
				       type == KV_F16 ? "f16" : "q8_0", kv_granule(type),
				       KV_MAX_HEAD_DIM, dims[i]);
	if (!a->n_head_kv || a->n_head % a->n_head_kv)
		return err_set(err, -ENOTSUP, "%u attention heads do not share %u KV heads evenly",
			       a->n_head, a->n_head_kv);
	return 0;
}

static int check_delta(const struct model *m, struct err *err)
{
	if (m->ssm_head_dim % DELTA_LANES)
		return err_set(err, -ENOTSUP,
			       "DeltaNet heads need a multiple of %d dimensions, this model has %u",
			       DELTA_LANES, m->ssm_head_dim);
	if (!m->ssm_k_heads || m->ssm_v_heads % m->ssm_k_heads)
		return err_set(err, -ENOTSUP,
			       "%u DeltaNet value heads do not share %u key heads evenly",
			       m->ssm_v_heads, m->ssm_k_heads);
	if (m->ssm_conv_kernel < 1 || m->ssm_conv_kernel > CONV_MAX_TAPS)
		return err_set(err, -ENOTSUP, "a convolution of %u taps, at most %d are possible",
			       m->ssm_conv_kernel, CONV_MAX_TAPS);
	return 0;
}

/* Adds what layer @i of the model remembers. */
static int add_layer(struct kv_shape *s, const struct model *m, uint32_t i, struct kv_layer *ret,
		     struct err *err)
{
	const struct layer *l = &m->layers[i];
	struct kv_layer place = { .offset = s->block_bytes };
	int rc = 0;

	if (layer_has(l, BLOCK_ATTENTION) || layer_has(l, BLOCK_LATENT)) {
		rc = check_attention(s->type, &l->attention, err);
		place.k_bytes = kv_block_bytes(s->type, l->attention.head_dim);
		place.v_bytes = kv_block_bytes(s->type, l->attention.value_dim);
		s->block_bytes += (place.k_bytes + place.v_bytes) * l->attention.n_head_kv;
	} else if (layer_has(l, BLOCK_DELTANET)) {
		rc = s->n_delta++ ? 0 : check_delta(m, err);
	}
	if (ret)
		*ret = place;
	return rc;
}

int kv_shape_init(struct kv_shape *s, const struct model *m, uint32_t n_ctx, enum kv_type type,
		  struct kv_layer *layers, struct err *err)
{
	uint64_t channels = (2 * (uint64_t)m->ssm_k_heads + m->ssm_v_heads) * m->ssm_head_dim;
	uint64_t state;
	int rc = 0;

	memset(s, 0, sizeof(*s));
	s->type = type;
	if (n_ctx == 0 || n_ctx > UINT32_MAX - KV_BLOCK)
		return err_set(err, -EINVAL, "a context of %u positions is not possible", n_ctx);
	s->n_ctx = (uint32_t)align_up(n_ctx, KV_BLOCK);
	for (uint32_t i = 0; i < m->n_layers && !rc; i++)
		rc = add_layer(s, m, i, layers ? &layers[i] : NULL, err);
	if (rc)
		return rc;
	if (s->n_delta) {
		s->conv_floats = (m->ssm_conv_kernel - 1) * channels;
		s->delta_floats = (size_t)m->ssm_v_heads * m->ssm_head_dim * m->ssm_head_dim;
	}
	if (u64_mul_overflow(s->n_delta * sizeof(float), s->conv_floats + s->delta_floats,
			     &state) ||
	    u64_mul_overflow(s->n_ctx / KV_BLOCK, s->block_bytes, &s->cache_bytes) ||
	    state > UINT64_MAX / 4 || s->cache_bytes > UINT64_MAX / 4)
		return err_set(err, -EOVERFLOW, "the state of a sequence does not fit into memory");
	s->state_bytes = align_up(state, 4096);
	s->cache_bytes = align_up(s->cache_bytes, 4096);
	return 0;
}
