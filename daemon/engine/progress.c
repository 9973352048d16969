/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/progress.c: tells requests how far the reading of their prompts is: after each step
 * that read some of it and, since a step of many tokens may wait long for the disk, now and then
 * between its layers. Engine thread; between layers the thread of the team that has that unit, one at a time.
 */
#include "base/clock.h"
#include "base/num.h"
#include "engine/engine_private.h"

#define PROGRESS_NS 100000000 /* between two reports within a step */

static void report(const struct engine *e, const struct active *a, uint32_t n_layers)
{
	struct request *r = a->request;
	double in_step = (double)a->n_in_step * n_layers / e->model->n_layers;

	if (r->want_progress && r->ops->progress)
		r->ops->progress(r, (uint32_t)u64_min(a->n_done, r->n_tokens),
				 (a->n_done + in_step) / a->n_prompt);
}

void progress_layer(void *arg, uint32_t n_layers)
{
	struct engine *e = arg;
	uint64_t now = now_ns();

	atomic_fetch_add_explicit(&e->n_layers_done, 1, memory_order_relaxed);
	if (now - e->progress_ns < PROGRESS_NS)
		return;
	e->progress_ns = now;
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];

		if (a->request && a->n_in_step && a->n_done < a->n_prompt)
			report(e, a, n_layers);
	}
}

void progress_step(struct engine *e, const struct active *a)
{
	report(e, a, 0);
}
