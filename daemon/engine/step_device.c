/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/step_device.c: a step with a device, which computes all but the experts. See step.h.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/num.h"
#include "engine/step_private.h"

/* How long threads spin while the first waits for a layer: some four times what it takes, within these. */
#define EXPECT_LEAST 200000
#define EXPECT_MOST  2000000

uint64_t step_device_wait(const struct decoder *d)
{
	return u64_max(EXPECT_LEAST, u64_min(4 * d->handoff_ns, EXPECT_MOST));
}

static int device_begin(struct decoder *d)
{
	for (uint32_t i = 0; i < d->batch->n_runs; i++) {
		const struct batch_run *r = &d->batch->runs[i];

		d->runs[i] = (struct device_run){ .seq = seq_number(r->seq),
						  .first = r->first,
						  .count = r->count,
						  .pos = r->pos };
	}
	return device_step_begin(d->c.device, d->runs, d->batch->n_runs, d->batch->n_tokens,
				 &d->device_err);
}

/* Layer @i up to its experts; ids index memory here, so a device that failed unseen must not choose. */
static int device_layer(struct decoder *d, uint32_t i)
{
	const size_t n = (size_t)d->batch->n_tokens * d->c.model->n_expert_used;
	const uint64_t began = now_ns();
	int rc = device_launch(d->c.device, i, &d->device_err);

	if (!rc && d->c.on_launch)
		d->c.on_launch(d->c.arg);
	rc = rc ? rc : device_route(d->c.device, &d->route, &d->device_err);
	if (!rc && d->route.ids)
		d->handoff_ns += (int64_t)(now_ns() - began - d->handoff_ns) / 8;
	for (size_t k = 0; k < n && !rc && d->route.ids; k++)
		if (d->route.ids[k] >= d->c.model->n_expert)
			rc = err_set(&d->device_err, -EIO,
				     "layer %u: the device chose expert %u of %u", i,
				     d->route.ids[k], d->c.model->n_expert);
	return rc;
}

/* SPMD. The experts that the device's router chose, but for those that it computes itself. */
static void device_experts(struct decoder *d, uint32_t i, unsigned tid)
{
	const struct block_routes routes = { .ids = d->route.ids,
					     .weights = d->route.weights,
					     .ld = d->route.ld,
					     .partial = d->route.partial,
					     .ranks = d->route.ranks,
					     .device = d->route.multiplies ? d->c.device : NULL,
					     .send_from = d->route.send_from,
					     .device_rc = &d->device_rc,
					     .device_err = &d->device_err };
	struct block_args args = { .layer_index = i,
				   .layer = &d->c.model->layers[i],
				   .weights = &d->c.weights->layers[i],
				   .model_weights = &d->c.weights->model,
				   .batch = d->batch,
				   .x = d->route.x,
				   .residual = d->route.x,
				   .lanes = d->lanes,
				   .step = d->step,
				   .trace = d->c.trace,
				   .routes = &routes,
				   .token_error = d->token_error };

	block_take_all(d->blocks, BLOCK_MOE, &args, tid);
	block_forward(d->blocks, BLOCK_MOE, &args, tid);
	team_barrier(d->c.team, tid);
}

/* tid 0: logits of the wanted rows, a group at a time. */
static int device_head(struct decoder *d)
{
	const float *logits = NULL;
	int rc = 0;

	for (uint32_t at = 0; at < d->n_columns && !rc; at += d->c.max_logits) {
		uint32_t group = (uint32_t)u64_min(d->n_columns - at, d->c.max_logits);

		rc = device_step_end(d->c.device, d->columns + at, group, &logits, &d->device_err);
		if (!rc)
			d->fn(d->arg, d->columns + at, group, logits, d->n_vocab);
	}
	return rc ? rc : device_step_end(d->c.device, NULL, 0, &logits, &d->device_err);
}

void step_run_device(void *arg, unsigned tid)
{
	struct decoder *d = arg;
	struct team *team = d->c.team;
	size_t first, end;

	while (team_take_range(team, tid, d->batch->n_tokens, 1, &first, &end))
		step_embed(d, device_input(d->c.device), first, end);
	team_barrier(team, tid);
	if (tid == 0 && !d->device_rc)
		d->device_rc = device_begin(d);
	for (uint32_t i = 0; i < d->c.model->n_layers; i++) {
		if (tid == 0) {
			d->given_up = d->c.given_up && d->c.given_up(d->c.arg);
			if (!d->given_up && !d->device_rc)
				d->device_rc = device_layer(d, i);
		}
		team_barrier(team, tid);
		if (d->given_up || d->device_rc)
			break;
		if (d->route.ids)
			device_experts(d, i, tid);
		else /* who is slow reads all this before tid 0 writes the next layer's */
			team_barrier(team, tid);
		if (tid == 0 && d->c.on_layer)
			d->c.on_layer(d->c.arg, i + 1);
	}
	if (tid)
		return;
	d->given_up = d->given_up || (d->c.given_up && d->c.given_up(d->c.arg));
	if (!d->device_rc && !d->given_up)
		d->device_rc = device_head(d);
	if (d->device_rc || d->given_up) /* what was begun goes by the memory of the next step */
		device_step_drop(d->c.device);
}

const char *decoder_device_error(const struct decoder *d)
{
	return d->device_rc ? d->device_err.text : "";
}

void decoder_drop_device(struct decoder *d)
{
	d->c.device = NULL;
	d->c.on_begin = NULL;
	d->c.on_launch = NULL;
	d->device_rc = 0;
}
