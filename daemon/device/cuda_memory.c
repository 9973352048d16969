/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_memory.c: memory that sequences and slots share: one range of addresses, and blocks of memory
 * that are put behind them (device/blocks.h says which, cuda_driver.c does). See device.h. Engine thread.
 *
 * What recorded graphs and tables hold are addresses of the range, which never change. A sequence's page has the
 * keys and values of all layers, its state those of all layers: a layer's part of page p is at
 * pool + p * (layers with attention) * (bytes of a layer's part), so tables for the kernels hold p times the
 * number of layers, and the same of states. Nothing is unmapped while a step or a fill could use it: sequences
 * are let go and slots given up between steps, slots when their fills have ended.
 */
#include "device/cuda_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/size.h"

#define MARGIN_LEAST (16ull << 20) /* a smaller rest at start says nothing of others */

#define NO_PAGE UINT32_MAX

/* ---- at start and at the end ---- */

/* Where layers find their parts. */
static void set_addresses(struct cuda_device *d)
{
	const struct cuda_memory *m = d->memory;
	uint8_t *page =
		(uint8_t *)(uintptr_t)(m->range + blocks_at(&m->blocks, DEVICE_REGION_PAGES, 0));
	uint8_t *state =
		(uint8_t *)(uintptr_t)(m->range + blocks_at(&m->blocks, DEVICE_REGION_STATES, 0));

	for (uint32_t i = 0; i < d->base.c.model->n_layers; i++) {
		const size_t kv = device_page_bytes(&d->base.c, i);
		struct cuda_layer *l = &d->layers[i];
		size_t window, bytes = device_state_bytes(&d->base.c, i, &window);

		l->pool = kv ? page : NULL;
		l->conv = bytes ? (float *)state : NULL;
		l->state = bytes ? (float *)(state + window) : NULL;
		page += kv;
		state += bytes;
	}
}

/* Layers of each kind. */
static void count_layers(struct cuda_device *d)
{
	for (uint32_t i = 0; i < d->base.c.model->n_layers; i++) {
		size_t window, bytes = device_state_bytes(&d->base.c, i, &window);

		d->n_attention += device_page_bytes(&d->base.c, i) > 0;
		d->n_delta += bytes > 0;
		if (bytes)
			d->state_floats = bytes / sizeof(float);
	}
}

static int take_books(struct cuda_device *d, struct err *err)
{
	struct cuda_memory *m = d->memory;
	const size_t n = d->base.c.n_seq;
	int rc = device_blocks_init(&d->base.c, &d->base.plan, &cuda_block_ops, m, &m->blocks);

	d->pages = d->base.plan.n_pages;
	m->places = calloc(n, sizeof(*m->places));
	m->page_used = calloc(n * d->pages, sizeof(*m->page_used));
	/* a block is taken when none is spare, or to be kept: more are never spare */
	m->spare = calloc(m->blocks.n + (size_t)d->base.plan.kept_blocks + 1, sizeof(*m->spare));
	m->at = calloc(m->blocks.n + (size_t)1, sizeof(*m->at));
	m->chosen = calloc(d->pages + (size_t)1, sizeof(*m->chosen));
	m->counted = calloc(m->blocks.n + (size_t)1, sizeof(*m->counted));
	if (rc || !m->places || !m->page_used || !m->spare || !m->at || !m->chosen || !m->counted)
		return err_set(err, -ENOMEM, "no memory for the device");
	rc = cuda_pin(&m->pages, n * d->pages * sizeof(*m->pages), err);
	if (rc)
		return rc;
	memset(m->pages, 0, n * d->pages * sizeof(*m->pages));
	m->pages_changed = true;
	return cuda_take(d, &d->table, n * d->pages * sizeof(*m->pages), "tables of pages", err);
}

/* What others are left, as far as they had it when all was taken: @free_bytes of @all. */
static uint64_t find_margin(uint64_t free_bytes, uint64_t all)
{
	const uint64_t margin = u64_min(free_bytes, all - device_default_room(all)) / 2;

	return margin < MARGIN_LEAST ? u64_min(margin, free_bytes / 4) : margin;
}

int cuda_take_memory(struct cuda_device *d, struct err *err)
{
	const struct device_plan *p = &d->base.plan;
	struct cuda_memory *m = d->memory;
	int rc;

	count_layers(d);
	rc = take_books(d, err);
	if (rc)
		return rc;
	if (m->blocks.n)
		rc = cuda_range_take(m, err);
	if (rc)
		return rc;
	set_addresses(d);
	m->fixed_bytes = p->dense_bytes + p->scratch_bytes;
	m->first_blocks = p->n_blocks;
	blocks_limit(&m->blocks, p->n_blocks);
	while (blocks_grow(&m->blocks, 0) != BLOCKS_NONE)
		;
	rc = blocks_keep(&m->blocks, err);
	/* with none at the start no sequence would ever have begun */
	if (!rc && blocks_most(&m->blocks) < u64_min(p->kept_blocks, p->n_blocks))
		rc = err_set(
			err, -ENOMEM,
			"the device's memory: a sequence's %u blocks of %llu bytes are not to be "
			"had, though the driver has said that they are free",
			p->kept_blocks, (unsigned long long)p->block_bytes);
	return rc;
}

void cuda_free_memory(struct cuda_device *d)
{
	struct cuda_memory *m = d->memory;

	if (!m)
		return;
	cuda_range_free(m);
	cudaFreeHost(m->pages);
}

void cuda_forget_memory(struct cuda_device *d)
{
	struct cuda_memory *m = d->memory;

	if (!m)
		return;
	blocks_fini(&m->blocks);
	free(m->spare);
	free(m->at);
	free(m->places);
	free(m->page_used);
	free(m->chosen);
	free(m->counted);
	free(m);
	d->memory = NULL;
}

uint64_t cuda_blocks_bytes(const struct cuda_device *d)
{
	return blocks_held(&d->memory->blocks) * d->memory->blocks.block_bytes;
}

/* ---- sequences ---- */

/* The first free page behind which memory is, or will be by what is counted, else the first free one. */
static uint32_t find_page(const struct cuda_device *d)
{
	const struct cuda_memory *m = d->memory;
	const uint32_t n = (uint32_t)(d->base.c.n_seq * d->pages);
	uint32_t first = NO_PAGE;

	for (uint32_t i = 0; i < n; i++) {
		if (m->page_used[i])
			continue;
		if (!blocks_lacks(&m->blocks, DEVICE_REGION_PAGES, i, m->counted))
			return i;
		if (first == NO_PAGE)
			first = i;
	}
	return first;
}

/* Pages for @seq up to @want of them: m->chosen. Blocks that it lacks with these and its state. */
static uint32_t choose_pages(struct cuda_device *d, uint32_t seq, uint32_t want)
{
	struct cuda_memory *m = d->memory;
	const struct cuda_place *p = &m->places[seq];
	uint32_t lacks = 0;

	memset(m->counted, 0, m->blocks.n * sizeof(*m->counted));
	if (d->n_delta && !p->state)
		lacks = blocks_count(&m->blocks, DEVICE_REGION_STATES, seq, m->counted);
	for (uint32_t i = p->n_pages; i < want; i++) {
		m->chosen[i] = find_page(d);
		m->page_used[m->chosen[i]] = true;
		lacks += blocks_count(&m->blocks, DEVICE_REGION_PAGES, m->chosen[i], m->counted);
	}
	for (uint32_t i = p->n_pages; i < want; i++)
		m->page_used[m->chosen[i]] = false;
	return lacks;
}

/* What it has beyond @n_pages pages, and its state if @state, goes. */
static void give_back(struct cuda_device *d, uint32_t seq, uint32_t n_pages, bool state)
{
	struct cuda_memory *m = d->memory;
	struct cuda_place *p = &m->places[seq];
	const uint64_t now = now_ns();

	if (state && p->state) {
		blocks_let(&m->blocks, DEVICE_REGION_STATES, seq, now);
		p->state = false;
	}
	while (p->n_pages > n_pages) {
		const uint32_t page = m->pages[seq * d->pages + --p->n_pages] / d->n_attention;

		m->page_used[page] = false;
		blocks_let(&m->blocks, DEVICE_REGION_PAGES, page, now);
	}
}

/* Pages that are chosen, and a state. What is refused on the way leaves all as it was. */
static int take_items(struct cuda_device *d, uint32_t seq, uint32_t want, struct err *err)
{
	struct cuda_memory *m = d->memory;
	struct cuda_place *p = &m->places[seq];
	const uint32_t had = p->n_pages;
	const bool new_state = d->n_delta && !p->state;
	int rc = 0;

	if (new_state) {
		rc = blocks_hold(&m->blocks, DEVICE_REGION_STATES, seq, err);
		p->state = !rc;
	}
	while (!rc && p->n_pages < want) {
		const uint32_t page = m->chosen[p->n_pages];

		rc = blocks_hold(&m->blocks, DEVICE_REGION_PAGES, page, err);
		if (rc)
			break;
		m->page_used[page] = true;
		m->pages[seq * d->pages + p->n_pages++] = page * d->n_attention;
		m->pages_changed = true;
	}
	if (rc)
		give_back(d, seq, had, new_state);
	return rc;
}

int cuda_hold(struct device *base, uint32_t seq, uint32_t len, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	const struct cuda_memory *m = d->memory;
	const struct cuda_place *p = &m->places[seq];
	const uint32_t want = d->n_attention ? (uint32_t)div_ceil(len, CUDA_KV_PAGE) : 0;
	uint32_t lacks;

	if (p->n_pages >= want && (p->state || !d->n_delta))
		return 0;
	lacks = choose_pages(d, seq, want);
	if (lacks > blocks_left(&m->blocks))
		return -EAGAIN;
	if (lacks > blocks_room(&m->blocks))
		return -ENOSPC;
	return take_items(d, seq, want, err);
}

void cuda_let(struct device *base, uint32_t seq)
{
	struct cuda_device *d = cuda_of(base);

	give_back(d, seq, 0, true);
	d->lengths[seq] = 0;
}

/* Blocks of @n sequences with @positions together. Items of one among several may lie across blocks. */
static uint64_t blocks_wanted(const struct cuda_device *d, uint32_t n, uint64_t positions)
{
	const struct device_plan *p = &d->base.plan;
	const uint64_t pages = div_ceil(positions, CUDA_KV_PAGE) + n - 1;

	return blocks_for(p->block_bytes, p->page_bytes, pages) +
	       blocks_for(p->block_bytes, p->one_state, n) + (d->base.c.n_seq > 1 ? 2 : 0);
}

bool cuda_could_hold(const struct device *base, uint32_t len, uint32_t n, uint64_t positions)
{
	const struct cuda_device *d = cuda_of(base);
	const struct blocks *b = &d->memory->blocks;

	return blocks_wanted(d, 1, len) <= blocks_left(b) &&
	       blocks_wanted(d, n + 1, positions + len) <= blocks_most(b);
}

/* Alone it has the first pages, which lie side by side. */
uint32_t cuda_most_positions(const struct device *base, uint32_t seq)
{
	const struct cuda_device *d = cuda_of(base);
	const struct blocks *b = &d->memory->blocks;
	const uint32_t state = blocks_take(b, DEVICE_REGION_STATES, seq);
	const uint32_t left = blocks_most(b) > state ? blocks_most(b) - state : 0;
	const uint64_t page = d->base.plan.page_bytes;

	if (blocks_most(b) < state)
		return 0;
	if (!page)
		return d->base.c.n_ctx;
	return (uint32_t)u64_min(d->base.c.n_ctx,
				 left * b->block_bytes / page * (uint64_t)CUDA_KV_PAGE);
}

int cuda_send_pages(struct cuda_device *d, struct err *err)
{
	struct cuda_memory *m = d->memory;
	int rc;

	if (!m->pages_changed)
		return 0;
	rc = cuda_said(cudaMemcpyAsync(d->table, m->pages,
				       d->base.c.n_seq * d->pages * sizeof(*m->pages),
				       cudaMemcpyHostToDevice, d->stream),
		       "tables of pages", err);
	m->pages_changed = rc != 0;
	return rc;
}

int cuda_reset_state(struct cuda_device *d, uint32_t seq, struct err *err)
{
	const struct cuda_memory *m = d->memory;

	if (!d->n_delta)
		return 0;
	return cuda_said(cudaMemsetAsync((void *)(uintptr_t)(m->range +
							     blocks_at(&m->blocks,
								       DEVICE_REGION_STATES, seq)),
					 0, d->base.plan.one_state, d->stream),
			 "a state", err);
}

/* ---- slots ---- */

uint8_t *cuda_slots_at(const struct cuda_device *d, uint32_t cls)
{
	return (uint8_t *)(uintptr_t)(d->memory->range +
				      blocks_at(&d->memory->blocks, DEVICE_REGION_SLOTS + cls, 0));
}

uint32_t cuda_slots(const struct device *base, uint32_t cls)
{
	return blocks_slots(&cuda_of(base)->memory->blocks, DEVICE_REGION_SLOTS + cls);
}

uint32_t cuda_victim(const struct device *base, uint32_t *ret_slots)
{
	const uint32_t r = blocks_victim(&cuda_of(base)->memory->blocks, ret_slots);

	return r == BLOCKS_NONE ? DEVICE_NO_CLASS : r - DEVICE_REGION_SLOTS;
}

int cuda_shrink(struct device *base, uint32_t cls, struct err *err)
{
	return blocks_shrink(&cuda_of(base)->memory->blocks, DEVICE_REGION_SLOTS + cls, err);
}

uint32_t cuda_grow(struct device *base, uint64_t now)
{
	const uint32_t r = blocks_grow(&cuda_of(base)->memory->blocks, now);

	return r == BLOCKS_NONE ? DEVICE_NO_CLASS : r - DEVICE_REGION_SLOTS;
}

/* ---- limits ---- */

bool cuda_trim(struct device *base, uint64_t now)
{
	struct cuda_memory *m = cuda_of(base)->memory;
	size_t free_bytes, all;

	if ((!m->measured || m->margin || m->blocks.others != UINT32_MAX) &&
	    blocks_poll(&m->blocks, now) && cudaMemGetInfo(&free_bytes, &all) == cudaSuccess) {
		if (!m->measured) /* by now the weights are there */
			m->margin = find_margin(free_bytes, all);
		m->measured = true;
		blocks_told(&m->blocks, free_bytes, m->margin);
	}
	return blocks_trim(&m->blocks) > 0;
}

void cuda_set_budget(struct device *base, uint64_t bytes)
{
	struct cuda_memory *m = cuda_of(base)->memory;
	const uint64_t left = bytes > m->fixed_bytes ? bytes - m->fixed_bytes : 0;

	blocks_limit(&m->blocks,
		     (uint32_t)(bytes ? u64_min(left / m->blocks.block_bytes, UINT32_MAX)
				      : m->first_blocks));
}
