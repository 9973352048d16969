/* SPDX-License-Identifier: MIT */
/* daemon/policy/promoter.c: see promoter.h. */
#include "policy/promoter.h"

#include <string.h>

#define BURST_S 0.25 /* what the seconds' bucket holds at the most, or one move */
#define HELD	4 /* tokens' worth that their bucket holds, or what the step brought, or one move */

static double larger(double a, double b)
{
	return a > b ? a : b;
}

static double held(double bytes, double most)
{
	return bytes < most ? bytes : most;
}

void promoter_init(struct promoter *p, const struct promoter_config *config)
{
	memset(p, 0, sizeof(*p));
	p->c = *config;
	for (uint32_t k = 0; k < config->n_classes; k++)
		if (config->class_bytes[k] > p->largest)
			p->largest = config->class_bytes[k];
}

bool promoter_step(struct promoter *p, uint32_t n, uint64_t now_ns)
{
	double rate = (double)p->c.bytes_per_s, token = (double)p->c.bytes_per_token;
	double largest = (double)p->largest;
	const bool ended = p->in_prompt && n <= POLICY_DECODE_TOKENS;

	if (ended && p->c.ops->repin)
		p->c.ops->repin(p->c.policy);
	p->in_prompt = n > POLICY_DECODE_TOKENS;
	if (p->last_ns)
		p->of_seconds = held(p->of_seconds + (double)(now_ns - p->last_ns) * 1e-9 * rate,
				     larger(rate * BURST_S, largest));
	p->last_ns = now_ns;
	p->of_tokens =
		held(p->of_tokens + n * token, larger(token * (n > HELD ? n : HELD), largest));
	return ended;
}

void promoter_budget(struct promoter *p, uint64_t bytes_per_s, uint64_t bytes_per_token)
{
	p->c.bytes_per_s = bytes_per_s;
	p->c.bytes_per_token = bytes_per_token;
}

uint64_t promoter_most_moves(uint64_t slots)
{
	return slots / 4 + 1 < PROMOTER_MOVES ? slots / 4 + 1 : PROMOTER_MOVES;
}

bool promoter_next(struct promoter *p, bool idle, struct policy_move *ret, uint32_t *ret_class)
{
	for (uint32_t i = 0; i < p->c.n_classes && (idle || !p->off); i++) {
		const uint32_t cls = (p->at + i) % p->c.n_classes;
		const double bytes = (double)p->c.class_bytes[cls];
		const bool has_free = p->c.free_slots(p->c.filter.ctx, cls) > 0;

		if ((p->c.bytes_per_s && p->of_seconds < bytes) ||
		    (p->c.bytes_per_token && !idle && p->of_tokens < bytes) ||
		    (p->c.only_free && !has_free))
			continue;
		if (!p->c.ops->promote(p->c.policy, cls, has_free, &p->c.filter, ret))
			continue;
		p->of_seconds -= p->c.bytes_per_s ? bytes : 0;
		p->of_tokens -= p->c.bytes_per_token && !idle ? bytes : 0;
		p->at = cls + 1;
		*ret_class = cls;
		return true;
	}
	return false;
}

uint64_t promoter_wait_ns(const struct promoter *p)
{
	double missing = (double)p->largest - p->of_seconds;

	if (!p->c.bytes_per_s || missing <= 0)
		return 0;
	return (uint64_t)(missing / (double)p->c.bytes_per_s * 1e9) + 1;
}
