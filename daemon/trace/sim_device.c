/* SPDX-License-Identifier: MIT */
/* daemon/trace/sim_device.c: see sim_device.h. */
#include "trace/sim_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static uint64_t bytes_of(const struct route_trace *t, uint32_t layer)
{
	return t->layers[layer].expert_bytes ? t->layers[layer].expert_bytes : 1;
}

static uint32_t free_of(void *ctx, uint32_t cls)
{
	return ((const struct sim_device *)ctx)->c.free_slots[cls];
}

static bool may_come(void *ctx, uint32_t id)
{
	const struct sim_device *d = ctx;

	return !d->c.present[id] && !d->coming[id];
}

static bool may_go(void *ctx, uint32_t id)
{
	return ((const struct sim_device *)ctx)->c.present[id];
}

static bool has_time(const struct sim_device *d)
{
	return d->c.rates.link > 0;
}

int sim_device_open(struct sim_device *d, const struct sim_device_config *config)
{
	const struct route_trace *t = config->t;
	const size_t n = (size_t)t->n_layers * t->n_expert;
	struct promoter_config p = { .ops = config->ops,
				     .policy = config->policy,
				     .n_classes = config->n_classes,
				     .free_slots = free_of,
				     .filter = { may_come, may_go, d } };
	double bytes = 0;

	memset(d, 0, sizeof(*d));
	d->c = *config;
	d->now_ns = 1; /* 0 is no time to a promoter */
	d->coming = calloc(n + 1, sizeof(*d->coming));
	d->class_bytes = calloc((size_t)config->n_classes + 1, sizeof(*d->class_bytes));
	if (!d->coming || !d->class_bytes || fill_control_init(&d->control, (uint32_t)n))
		return -ENOMEM;
	for (uint32_t l = 0; l < t->n_layers; l++)
		if (config->class_of_layer[l] < config->n_classes) {
			const uint32_t cls = config->class_of_layer[l];

			d->class_bytes[cls] = u64_max(d->class_bytes[cls], bytes_of(t, l));
			bytes += (double)bytes_of(t, l) * config->experts_per_layer;
			d->layers++;
		}
	d->per_token = config->experts_per_layer > 0 ? (uint64_t)bytes + 1 : 0;
	d->most = promoter_most_moves(config->slots);
	p.class_bytes = d->class_bytes;
	p.bytes_per_token = d->per_token;
	p.bytes_per_s = has_time(d) ? config->bytes_per_s : 0;
	promoter_init(&d->promoter, &p);
	if (has_time(d) && d->per_token && config->control) {
		d->per_token = layer_token_fills(&config->rates, d->layers, d->per_token,
						 d->promoter.largest);
		promoter_budget(&d->promoter, p.bytes_per_s, d->per_token);
	}
	return 0;
}

void sim_device_close(struct sim_device *d)
{
	fill_control_fini(&d->control);
	free(d->coming);
	free(d->class_bytes);
}

static void land(struct sim_device *d)
{
	for (; d->landed < d->begun; d->landed++) {
		const struct sim_coming *c = &d->ring[d->landed % PROMOTER_MOVES];

		if ((double)c->at_ns > d->now_ns)
			return;
		d->coming[c->id] = false;
		d->c.present[c->id] = true;
	}
}

/* One move of the policy's. False: none, or it cannot be made now. */
static bool move(struct sim_device *d, bool idle)
{
	const struct sim_device_config *c = &d->c;
	struct policy_move m;
	uint64_t bytes;
	uint32_t cls;

	if (d->begun - d->landed >= d->most || !promoter_next(&d->promoter, idle, &m, &cls))
		return false;
	if (m.victim == POLICY_NONE) {
		c->free_slots[cls]--;
	} else {
		c->present[m.victim] = false;
		c->ops->removed(c->policy, m.victim);
	}
	c->ops->inserted(c->policy, m.id);
	bytes = bytes_of(c->t, m.id / c->t->n_expert);
	d->coming[m.id] = true;
	if (has_time(d)) {
		if (d->link_free_ns < d->now_ns)
			d->link_free_ns = d->now_ns;
		d->link_free_ns += (double)bytes / c->rates.link * 1e9;
	}
	d->ring[d->begun++ % PROMOTER_MOVES] =
		(struct sim_coming){ m.id, (uint64_t)d->link_free_ns };
	d->fills++;
	d->fill_bytes += bytes;
	return true;
}

static bool is_present(void *ctx, uint32_t id)
{
	return ((const struct sim_device *)ctx)->c.present[id];
}

void sim_device_boundary(struct sim_device *d, uint32_t n_tokens)
{
	const uint64_t before = d->fill_bytes;

	land(d);
	if (promoter_step(&d->promoter, n_tokens, (uint64_t)d->now_ns))
		fill_control_prompt(&d->control);
	d->promoter.off = !fill_control_step(&d->control, n_tokens, d->layers,
					     d->fill_bytes - d->told_bytes, &d->c.rates, is_present,
					     d) &&
			  d->c.control;
	d->told_bytes = d->fill_bytes;
	d->allowed_bytes += d->per_token * n_tokens;
	while (move(d, n_tokens == 0))
		;
	d->decodes = n_tokens <= POLICY_DECODE_TOKENS;
	d->step_fills = (double)(d->fill_bytes - before) / (d->layers ? d->layers : 1);
}

void sim_device_layer(struct sim_device *d, uint32_t layer, const uint32_t *ids, uint32_t n)
{
	const double bytes = (double)bytes_of(d->c.t, layer);
	struct layer_load load = { .fills = d->step_fills };
	double ns;

	for (uint32_t i = 0; i < n; i++) {
		const bool hit = d->c.present[ids[i]];

		load.hits += hit ? bytes : 0;
		load.misses += hit ? 0 : bytes;
		if (d->decodes)
			fill_control_used(&d->control, ids[i], bytes, hit);
	}
	if (!has_time(d))
		return;
	ns = layer_time_ns(&d->c.rates, &load);
	d->now_ns += ns;
	d->decode_ns += d->decodes ? ns : 0;
}
