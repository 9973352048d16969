/* SPDX-License-Identifier: MIT */
/* daemon/policy/fill_control.c: see fill_control.h. */
#include "policy/fill_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

int fill_control_init(struct fill_control *c, uint32_t n_experts)
{
	memset(c, 0, sizeof(*c));
	c->n = n_experts;
	c->on = true;
	c->pause = FILL_PAUSE;
	c->frozen = calloc((size_t)n_experts + 1, sizeof(*c->frozen));
	return c->frozen ? 0 : -ENOMEM;
}

void fill_control_fini(struct fill_control *c)
{
	free(c->frozen);
	c->frozen = NULL;
}

void fill_control_used(struct fill_control *c, uint32_t id, double bytes, bool hit)
{
	if (!c->begun)
		return;
	c->bytes += bytes;
	c->hit_bytes += hit ? bytes : 0;
	c->frozen_bytes += c->frozen[id] ? bytes : 0;
}

static void begin(struct fill_control *c, fill_resident_fn resident, void *ctx)
{
	for (uint32_t id = 0; id < c->n; id++)
		c->frozen[id] = resident(ctx, id);
	c->begun = true;
	c->tokens = c->steps = 0;
	c->bytes = c->hit_bytes = c->frozen_bytes = c->fill_bytes = 0;
}

/* How much longer a layer would have taken without the window's fills, as a share of what it took. */
static double gain_of(const struct fill_control *c, uint32_t layers,
		      const struct layer_rates *rates)
{
	const double n = (double)c->steps * (layers ? layers : 1);
	const struct layer_load live = { c->hit_bytes / n, (c->bytes - c->hit_bytes) / n,
					 c->fill_bytes / n },
				frozen = { c->frozen_bytes / n, (c->bytes - c->frozen_bytes) / n,
					   0 };
	const double ns = layer_time_ns(rates, &live);

	return ns > 0 ? layer_time_ns(rates, &frozen) / ns - 1 : 0;
}

static void decide(struct fill_control *c, uint32_t layers, const struct layer_rates *rates)
{
	struct layer_rates r = *rates;

	if (r.cpu <= 0) /* nothing was measured yet: misses are what takes time */
		r.cpu = r.memory > 0 ? r.memory : 1e9;
	c->gain = gain_of(c, layers, &r);
	c->judged = true;
	c->begun = false;
	if (c->gain >= FILL_GAIN) {
		c->pause = FILL_PAUSE;
		return;
	}
	c->on = false;
	c->stops++;
	c->tokens = c->pause;
	c->pause = c->pause < FILL_PAUSE_MOST / 2 ? c->pause * 2 : FILL_PAUSE_MOST;
}

bool fill_control_step(struct fill_control *c, uint32_t n_tokens, uint32_t layers,
		       uint64_t fill_bytes, const struct layer_rates *rates,
		       fill_resident_fn resident, void *ctx)
{
	c->fill_bytes += (double)fill_bytes;
	if (!n_tokens)
		return c->on;
	if (n_tokens > POLICY_DECODE_TOKENS) { /* of prompts nothing is learnt */
		c->begun = false;
		return c->on;
	}
	if (!c->on) {
		c->tokens -= n_tokens < c->tokens ? n_tokens : c->tokens;
		c->on = !c->tokens;
		c->begun = false;
	}
	if (c->on && c->begun && c->tokens >= FILL_WINDOW) {
		if (c->fill_bytes > 0)
			decide(c, layers, rates);
		c->begun = false;
	}
	if (c->on && !c->begun)
		begin(c, resident, ctx);
	c->tokens += c->on ? n_tokens : 0;
	c->steps += c->on;
	return c->on;
}

void fill_control_prompt(struct fill_control *c)
{
	c->on = true;
	c->begun = false;
	c->tokens = 0;
}
