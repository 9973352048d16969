/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/seq.c: see seq.h.
 *
 * One mapping for all sequences, without swap reservation: what a sequence does not use costs no
 * memory. A sequence that is given back keeps its state's pages and the first KEEP_BYTES of its
 * cache, since the next request would only fault them in again (slower than computing on them).
 */
#include "engine/seq.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"

#define HUGE_PAGE  (2u << 20)
#define KEEP_BYTES (64u << 20)

struct seq {
	struct seq_pool *pool;
	uint8_t *state, *cache;
	uint32_t len;
	bool used;
};

struct seq_pool {
	struct kv_shape shape;
	uint32_t n_seq;
	struct kv_layer *layers; /* of the model: where their part of the cache is */
	struct seq *seqs;
	uint8_t *base;
	size_t bytes;
};

/* Bytes of one sequence with both parts at huge page boundaries; false where it does not fit. */
static bool seq_room(const struct kv_shape *s, uint64_t *ret_state, uint64_t *ret_all)
{
	*ret_state = align_up(s->state_bytes, HUGE_PAGE);
	*ret_all = *ret_state + align_up(s->cache_bytes, HUGE_PAGE);
	return *ret_all <= SIZE_MAX / 2;
}

int seq_pool_create(const struct model *m, uint32_t n_seq, uint32_t n_ctx, enum kv_type type,
		    struct seq_pool **ret, struct err *err)
{
	struct seq_pool *p = calloc(1, sizeof(*p));
	uint64_t state, room, bytes;
	int rc = -ENOMEM;

	if (!p)
		return err_set(err, -ENOMEM, "no memory for the sequences");
	p->base = MAP_FAILED;
	p->layers = calloc(m->n_layers, sizeof(*p->layers));
	if (!p->layers)
		goto out_fail;
	rc = kv_shape_init(&p->shape, m, n_ctx, type, p->layers, err);
	if (rc)
		goto out_fail;
	rc = -ENOMEM;
	if (!seq_room(&p->shape, &state, &room) || u64_mul_overflow(room, n_seq, &bytes) ||
	    bytes > SIZE_MAX / 2)
		goto out_fail;
	p->n_seq = n_seq;
	p->bytes = bytes + HUGE_PAGE;
	p->seqs = calloc(n_seq, sizeof(*p->seqs));
	if (!p->seqs)
		goto out_fail;
	p->base = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->base == MAP_FAILED)
		goto out_fail;
	madvise(p->base, p->bytes, MADV_HUGEPAGE); /* a wish: refused, it only costs speed */
	for (uint32_t i = 0; i < n_seq; i++) {
		uint8_t *first = (uint8_t *)align_up((uintptr_t)p->base, HUGE_PAGE) + i * room;

		p->seqs[i] = (struct seq){ .pool = p, .state = first, .cache = first + state };
	}
	*ret = p;
	return 0;
out_fail:
	seq_pool_destroy(p);
	return err_set(err, rc, "no address space for %u sequences of %u positions", n_seq, n_ctx);
}

void seq_pool_destroy(struct seq_pool *p)
{
	if (!p)
		return;
	if (p->base != MAP_FAILED)
		munmap(p->base, p->bytes);
	free(p->layers);
	free(p->seqs);
	free(p);
}

uint64_t seq_pool_bytes(const struct model *m, uint32_t n_seq, uint32_t n_ctx, enum kv_type type)
{
	struct kv_shape shape;
	uint64_t bytes;

	if (kv_shape_init(&shape, m, n_ctx, type, NULL, NULL) ||
	    u64_mul_overflow(shape.state_bytes + shape.cache_bytes, n_seq, &bytes))
		return 0;
	return bytes;
}

struct seq *seq_get(struct seq_pool *p)
{
	for (uint32_t i = 0; i < p->n_seq; i++) {
		struct seq *s = &p->seqs[i];

		if (s->used)
			continue;
		s->used = true;
		s->len = 0;
		return s;
	}
	return NULL;
}

void seq_put(struct seq_pool *p, struct seq *s)
{
	uint64_t written;

	assert(s->pool == p && s->used);
	written = div_ceil(s->len, KV_BLOCK) * p->shape.block_bytes;
	if (written > KEEP_BYTES)
		madvise(s->cache + KEEP_BYTES, align_up(written - KEEP_BYTES, HUGE_PAGE),
			MADV_DONTNEED);
	s->used = false;
}

uint32_t seq_len(const struct seq *s)
{
	return s->len;
}

uint32_t seq_ctx(const struct seq *s)
{
	return s->pool->shape.n_ctx;
}

void seq_advance(struct seq *s, uint32_t n)
{
	assert(n <= s->pool->shape.n_ctx - s->len);
	s->len += n;
}

enum kv_type seq_kv_type(const struct seq *s)
{
	return s->pool->shape.type;
}

void seq_kv(const struct seq *s, uint32_t layer, uint32_t head, uint32_t block, void **ret_k,
	    void **ret_v)
{
	const struct kv_layer *place = &s->pool->layers[layer];
	uint8_t *k = s->cache + kv_offset(&s->pool->shape, place, head, block);

	*ret_k = k;
	*ret_v = k + place->k_bytes;
}

float *seq_floats(const struct seq *s, uint32_t layer)
{
	return (float *)s->state + s->pool->layers[layer].first_float;
}

void *seq_state(const struct seq *s, size_t *ret_bytes)
{
	*ret_bytes = s->pool->shape.state_bytes;
	return s->state;
}
