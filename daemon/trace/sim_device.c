/* SPDX-License-Identifier: MIT */
/* daemon/trace/sim_device.c: see sim_device.h. */
#include "trace/sim_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILLS_MOST 64 /* begun between two steps, as the daemon has it */

static uint64_t bytes_of(const struct route_trace *t, uint32_t layer)
{
	return t->layers[layer].expert_bytes ? t->layers[layer].expert_bytes : 1;
}

static uint32_t free_of(void *ctx, uint32_t cls)
{
	return ((const struct sim_device *)ctx)->free_slots[cls];
}

static bool may_come(void *ctx, uint32_t id)
{
	const struct sim_device *d = ctx;

	return !d->present[id] && !d->coming[id];
}

static bool may_go(void *ctx, uint32_t id)
{
	return ((const struct sim_device *)ctx)->present[id];
}

int sim_device_open(struct sim_device *d, const struct route_trace *t, uint32_t n_classes,
		    const uint32_t *class_of_layer, uint32_t *free_slots, bool *present,
		    const struct policy_ops *ops, struct policy *policy, double experts_per_layer)
{
	const size_t n = (size_t)t->n_layers * t->n_expert;
	double bytes = 0;

	memset(d, 0, sizeof(*d));
	d->t = t;
	d->class_of_layer = class_of_layer;
	d->free_slots = free_slots;
	d->present = present;
	d->coming = calloc(n + 1, sizeof(*d->coming));
	d->ids = calloc(FILLS_MOST, sizeof(*d->ids));
	d->class_bytes = calloc((size_t)n_classes + 1, sizeof(*d->class_bytes));
	if (!d->coming || !d->ids || !d->class_bytes)
		return -ENOMEM;
	for (uint32_t l = 0; l < t->n_layers; l++)
		if (class_of_layer[l] < n_classes) {
			d->class_bytes[class_of_layer[l]] = bytes_of(t, l);
			bytes += (double)bytes_of(t, l) * experts_per_layer;
		}
	d->per_token = (uint64_t)bytes + 1;
	promoter_init(&d->promoter, &(struct promoter_config){ .ops = ops,
							       .policy = policy,
							       .n_classes = n_classes,
							       .class_bytes = d->class_bytes,
							       .free_slots = free_of,
							       .filter = { may_come, may_go, d },
							       .bytes_per_token = d->per_token });
	return 0;
}

void sim_device_close(struct sim_device *d)
{
	free(d->coming);
	free(d->ids);
	free(d->class_bytes);
}

static void land(struct sim_device *d)
{
	for (uint32_t i = 0; i < d->n_ids; i++) {
		d->coming[d->ids[i]] = false;
		d->present[d->ids[i]] = true;
	}
	d->n_ids = 0;
}

void sim_device_boundary(struct sim_device *d, uint32_t n_tokens)
{
	const struct promoter_config *c = &d->promoter.c;
	struct policy_move move;
	uint32_t cls;

	land(d);
	promoter_step(&d->promoter, n_tokens, 0);
	d->allowed_bytes += d->per_token * n_tokens;
	while (d->n_ids < FILLS_MOST && promoter_next(&d->promoter, false, &move, &cls)) {
		if (move.victim == POLICY_NONE) {
			d->free_slots[cls]--;
		} else {
			d->present[move.victim] = false;
			c->ops->removed(c->policy, move.victim);
		}
		c->ops->inserted(c->policy, move.id);
		d->coming[move.id] = true;
		d->ids[d->n_ids++] = move.id;
		d->fills++;
		d->fill_bytes += d->class_bytes[cls];
	}
}
