/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/seq.c: see seq.h.
 *
 * One mapping for all, without swap reservation: first the states of the sequences, then the pages.
 * What is not used costs no memory. States keep their memory when a sequence is given back, and so do
 * KEEP_BYTES of the free pages, since the next request would only fault them in again (slower than
 * computing on them).
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
#define SMALL_PAGE 4096u /* of the system */

struct seq {
	struct seq_pool *pool;
	uint8_t *state;
	uint32_t *table;  /* the page of each block */
	uint32_t n_table; /* blocks that have one */
	uint32_t len;
	bool used;
};

struct seq_pool {
	struct kv_shape shape;
	uint32_t n_seq;
	struct kv_layer *layers; /* of the model: where their part of a page is */
	struct seq *seqs;
	uint32_t *tables;
	struct pages pages;
	bool *present; /* pages that were written and not released since */
	uint8_t *base, *first_page;
	size_t bytes, page_bytes;
};

/* Bytes of the mapping, and of all states in it; false where it does not fit. */
static bool pool_room(const struct seq_pool *p, uint64_t *ret_states, uint64_t *ret_all)
{
	uint64_t states, pages;

	if (u64_mul_overflow(p->shape.state_bytes, p->n_seq, &states) ||
	    u64_mul_overflow(p->page_bytes, p->pages.n, &pages) || states > SIZE_MAX / 4 ||
	    pages > SIZE_MAX / 4)
		return false;
	*ret_states = align_up(states, HUGE_PAGE);
	*ret_all = *ret_states + align_up(pages, HUGE_PAGE) + HUGE_PAGE;
	return true;
}

/* States lie side by side: one with huge pages of its own would take more than memory.h plans for it. */
static int map_memory(struct seq_pool *p)
{
	uint64_t states, bytes;
	uint8_t *first;

	if (!pool_room(p, &states, &bytes))
		return -ENOMEM;
	p->bytes = bytes;
	p->base = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->base == MAP_FAILED)
		return -ENOMEM;
	madvise(p->base, p->bytes, MADV_HUGEPAGE); /* a wish: refused, it only costs speed */
	first = (uint8_t *)align_up((uintptr_t)p->base, HUGE_PAGE);
	for (uint32_t i = 0; i < p->n_seq; i++)
		p->seqs[i].state = first + i * p->shape.state_bytes;
	p->first_page = first + states;
	return 0;
}

static int take_tables(struct seq_pool *p, uint64_t n_pages)
{
	uint32_t blocks = p->shape.n_ctx / KV_BLOCK;

	if (!n_pages)
		n_pages = p->shape.block_bytes ? (uint64_t)blocks * p->n_seq : 0;
	if (n_pages >= PAGE_NONE || pages_init(&p->pages, (uint32_t)n_pages))
		return -ENOMEM;
	p->page_bytes = p->shape.block_bytes ? p->shape.block_bytes : SEQ_LEAST_PAGE;
	p->present = calloc(p->pages.n + 1, sizeof(*p->present));
	p->seqs = calloc(p->n_seq, sizeof(*p->seqs));
	p->tables = calloc((size_t)p->n_seq * blocks, sizeof(*p->tables));
	if (!p->present || !p->seqs || !p->tables)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->n_seq; i++)
		p->seqs[i] = (struct seq){ .pool = p, .table = p->tables + (size_t)i * blocks };
	return 0;
}

int seq_pool_create(const struct model *m, uint32_t n_seq, uint32_t n_ctx, uint32_t n_pages,
		    enum kv_type type, struct seq_pool **ret, struct err *err)
{
	struct seq_pool *p = calloc(1, sizeof(*p));
	int rc = -ENOMEM;

	if (!p)
		return err_set(err, -ENOMEM, "no memory for the sequences");
	p->base = MAP_FAILED;
	p->n_seq = n_seq;
	p->layers = calloc(m->n_layers, sizeof(*p->layers));
	if (p->layers)
		rc = kv_shape_init(&p->shape, m, n_ctx, type, p->layers, err);
	if (!rc)
		rc = take_tables(p, n_pages);
	if (!rc)
		rc = map_memory(p);
	if (!rc) {
		*ret = p;
		return 0;
	}
	seq_pool_destroy(p);
	return err_set(err, rc, "no address space for %u sequences of %u positions", n_seq, n_ctx);
}

void seq_pool_destroy(struct seq_pool *p)
{
	if (!p)
		return;
	if (p->base != MAP_FAILED)
		munmap(p->base, p->bytes);
	pages_fini(&p->pages);
	free(p->present);
	free(p->layers);
	free(p->tables);
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

/* ---- pages ---- */

static uint32_t take(struct seq_pool *p)
{
	uint32_t page = page_take(&p->pages);

	if (page != PAGE_NONE)
		p->present[page] = true;
	return page;
}

/* Pages [first, end), all free, to the system: as far as they are whole pages of the system. */
static void release(struct seq_pool *p, uint32_t first, uint32_t end)
{
	uintptr_t from = align_up((uintptr_t)seq_page_memory(p, first), SMALL_PAGE);
	uintptr_t to = (uintptr_t)seq_page_memory(p, end) / SMALL_PAGE * SMALL_PAGE;

	if (from < to)
		madvise((void *)from, to - from, MADV_DONTNEED);
	for (uint32_t i = first; i < end; i++)
		p->present[i] = false;
}

/* Pages that nobody holds and that take memory. */
static uint32_t present_and_free(const struct seq_pool *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->pages.n_free; i++)
		n += p->present[p->pages.free[i]];
	return n;
}

/*
 * Gives back the pages from block @first on, the last one first, so that the first is the next to be
 * taken. Of those that nobody holds the last ones go back to the system, as far as there are more
 * free ones than are kept; neighbours in one call.
 */
static void drop_from(struct seq *s, uint32_t first)
{
	struct seq_pool *p = s->pool;
	uint32_t keep = (uint32_t)(KEEP_BYTES / p->page_bytes), from = 0, end = 0, excess;

	excess = present_and_free(p);
	for (uint32_t b = first; b < s->n_table; b++)
		excess += page_holders(&p->pages, s->table[b]) == 1;
	excess -= (uint32_t)u64_min(excess, keep);
	for (; s->n_table > first; s->n_table--) {
		uint32_t page = s->table[s->n_table - 1];

		if (!page_drop(&p->pages, page) || !excess)
			continue;
		excess--;
		if (end > from && page + 1 != from) {
			release(p, from, end);
			end = 0;
		}
		end = end ? end : page + 1;
		from = page;
	}
	if (end > from)
		release(p, from, end);
}

void seq_put(struct seq_pool *p, struct seq *s)
{
	assert(s->pool == p && s->used);
	drop_from(s, 0);
	s->used = false;
}

uint32_t seq_lacks(const struct seq *s, uint32_t n)
{
	uint32_t blocks = (uint32_t)div_ceil((uint64_t)s->len + n, KV_BLOCK);

	if (!s->pool->shape.block_bytes)
		return 0;
	return blocks > s->n_table ? blocks - s->n_table : 0;
}

int seq_reserve(struct seq *s, uint32_t n)
{
	uint32_t lacks = seq_lacks(s, n);

	assert(n <= s->pool->shape.n_ctx - s->len);
	if (lacks > s->pool->pages.n_free)
		return -ENOSPC;
	for (uint32_t i = 0; i < lacks; i++)
		s->table[s->n_table++] = take(s->pool);
	return 0;
}

void seq_cut(struct seq *s, uint32_t len)
{
	assert(len <= s->len);
	s->len = len;
	drop_from(s, (uint32_t)div_ceil(len, KV_BLOCK));
}

int seq_share(struct seq *s, const uint32_t *pages, uint32_t len)
{
	struct seq_pool *p = s->pool;
	uint32_t whole = len / KV_BLOCK, copy;

	assert(!s->len && !s->n_table && len <= p->shape.n_ctx);
	if (p->shape.block_bytes && len % KV_BLOCK) {
		copy = take(p);
		if (copy == PAGE_NONE)
			return -ENOSPC;
		memcpy(seq_page_memory(p, copy), seq_page_memory(p, pages[whole]), p->page_bytes);
		s->table[whole] = copy;
		s->n_table = whole + 1;
	} else if (p->shape.block_bytes) {
		s->n_table = whole;
	}
	for (uint32_t b = 0; b < whole && p->shape.block_bytes; b++) {
		page_hold(&p->pages, pages[b]);
		s->table[b] = pages[b];
	}
	s->len = len;
	return 0;
}

uint32_t seq_take_page(struct seq_pool *p)
{
	return take(p);
}

struct pages *seq_pool_pages(struct seq_pool *p)
{
	return &p->pages;
}

uint32_t seq_page(const struct seq *s, uint32_t block)
{
	assert(block < s->n_table);
	return s->table[block];
}

void *seq_page_memory(const struct seq_pool *p, uint32_t page)
{
	return p->first_page + page * p->page_bytes;
}

size_t seq_page_bytes(const struct seq_pool *p)
{
	return p->page_bytes;
}

/* ---- states ---- */

uint32_t seq_state_pages(const struct seq_pool *p)
{
	return (uint32_t)div_ceil(p->shape.state_bytes, p->page_bytes);
}

uint64_t seq_state_bytes(const struct seq_pool *p)
{
	return p->shape.state_bytes;
}

void seq_fill_pages(struct seq_pool *p, const uint32_t *pages, const void *data, uint64_t bytes)
{
	const uint8_t *from = data;

	for (size_t n; bytes; bytes -= n, from += n, pages++) {
		n = u64_min(bytes, p->page_bytes);
		memcpy(seq_page_memory(p, *pages), from, n);
		p->present[*pages] = true;
	}
}

void seq_save_state(const struct seq *s, const uint32_t *pages)
{
	seq_fill_pages(s->pool, pages, s->state, s->pool->shape.state_bytes);
}

void seq_load_state(struct seq *s, const uint32_t *pages)
{
	const struct seq_pool *p = s->pool;
	uint64_t left = p->shape.state_bytes;

	for (uint64_t at = 0; left; at++) {
		size_t n = u64_min(left, p->page_bytes);

		memcpy(s->state + at * p->page_bytes, seq_page_memory(p, pages[at]), n);
		left -= n;
	}
}

uint32_t seq_number(const struct seq *s)
{
	return (uint32_t)(s - s->pool->seqs);
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
	const struct seq_pool *p = s->pool;
	const struct kv_layer *place = &p->layers[layer];
	uint8_t *k = p->first_page + kv_offset(&p->shape, place, head, s->table[block]);

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
