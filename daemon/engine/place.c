/* SPDX-License-Identifier: MIT */
/* daemon/engine/place.c: what the places for sequences do, as other threads see it: engine.h. */
#include "engine/engine_private.h"

#define BUSY   1u
#define PAUSED 2u

static void put(_Atomic uint32_t *to, uint32_t value)
{
	atomic_store_explicit(to, value, memory_order_relaxed);
}

static uint32_t get(const _Atomic uint32_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

void places_publish(struct engine *e)
{
	uint32_t nodes = 0, points = 0;

	if (e->prefixes)
		prefix_count(e->prefixes, &nodes, &points);
	put(&e->n_prefix_pages, nodes);
	put(&e->n_prefix_points, points);
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		const struct active *a = &e->active[i];
		struct place_figures *f = &e->figures[i];

		put(&f->state, (a->request ? BUSY : 0) | (a->request && a->paused ? PAUSED : 0));
		put(&f->number, a->number);
		put(&f->n_prompt, a->n_prompt);
		put(&f->n_cached, a->reuse.n_cached);
		put(&f->n_read, a->n_done);
		put(&f->n_generated, a->n_generated);
		put(&f->max_tokens, a->max_tokens);
	}
}

void engine_get_place(const struct engine *e, uint32_t i, struct engine_place *ret)
{
	const struct place_figures *f = &e->figures[i];
	uint32_t state = get(&f->state);

	*ret = (struct engine_place){ .busy = state & BUSY,
				      .paused = state & PAUSED,
				      .number = get(&f->number),
				      .n_prompt = get(&f->n_prompt),
				      .n_cached = get(&f->n_cached),
				      .n_read = get(&f->n_read),
				      .n_generated = get(&f->n_generated),
				      .max_tokens = get(&f->max_tokens) };
}
