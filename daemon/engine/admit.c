/* SPDX-License-Identifier: MIT */
/* daemon/engine/admit.c: see admit.h. */
#include "engine/admit.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define PLAIN_WEIGHT 0.2 /* of the newest plain step in the average */
#define LEAST_CHANGE 0.5 /* of the number of tokens from step to step */
#define MOST_CHANGE  2.0
#define FEW_TARGET   1.5 /* of the target, for PACE_FEW tokens */
#define MOST_TOKENS  1e6

int turns_init(struct turns *t, uint32_t most)
{
	*t = (struct turns){ .most = most };
	t->clients = calloc(most, sizeof(*t->clients));
	return t->clients ? 0 : -ENOMEM;
}

void turns_fini(struct turns *t)
{
	free(t->clients);
	*t = (struct turns){ 0 };
}

uint32_t turns_enter(struct turns *t, uint64_t key)
{
	uint64_t least = UINT64_MAX;
	uint32_t place = t->n;

	for (uint32_t i = 0; i < t->n; i++) {
		struct client *c = &t->clients[i];

		if (!c->n_inside) {
			place = i;
			continue;
		}
		if (c->key == key) {
			c->n_inside++;
			return i;
		}
		least = c->served < least ? c->served : least;
	}
	/* every client has a request, and there are not more than so many requests */
	assert(place < t->most);
	if (place == t->n)
		t->n++;
	t->clients[place] = (struct client){ .key = key,
					     .served = least == UINT64_MAX ? 0 : least,
					     .n_inside = 1 };
	return place;
}

void turns_leave(struct turns *t, uint32_t client)
{
	assert(client < t->n && t->clients[client].n_inside);
	t->clients[client].n_inside--;
	while (t->n && !t->clients[t->n - 1].n_inside)
		t->n--;
}

void turns_serve(struct turns *t, uint32_t client, uint32_t tokens)
{
	t->clients[client].served += tokens;
}

bool turns_before(const struct turns *t, uint32_t a, uint64_t a_came, uint32_t b, uint64_t b_came)
{
	uint64_t of_a = t->clients[a].served, of_b = t->clients[b].served;

	return a == b || of_a == of_b ? a_came < b_came : of_a < of_b;
}

static unsigned size_of(uint32_t n_decoding)
{
	unsigned size = 0;

	while (size + 1 < PACE_SIZES && (1u << size) < n_decoding)
		size++;
	return size;
}

void pace_init(struct pace *p, uint64_t target_ns)
{
	*p = (struct pace){ .target_ns = target_ns, .tokens = PACE_FIRST };
}

uint32_t pace_tokens(const struct pace *p, uint32_t n_decoding)
{
	if (!n_decoding)
		return UINT32_MAX;
	if (!p->target_ns && (!(p->plain_ns[size_of(n_decoding)] > 0) || p->n_mixed >= PACE_MIXED))
		return 0;
	return (uint32_t)p->tokens;
}

/* What a step with prompt tokens should take; 0: not known. */
static double target_of(const struct pace *p, const struct pace_step *s)
{
	double plain = p->plain_ns[size_of(s->n_decoding)];
	double all = p->plain_ns[size_of(s->n_all)];

	if (p->target_ns)
		return (double)p->target_ns;
	return 2 * (all > plain ? all : plain);
}

/*
 * Prompt tokens of a step of @target ns, after step @s: what they took is in proportion to their number,
 * what a plain step takes is not.
 */
static double tokens_for(const struct pace_step *s, double plain, double target)
{
	double ns = (double)s->ns, change = target / ns;

	if (plain > 0 && target > plain && ns > plain)
		change = (target - plain) / (ns - plain);
	change = change < LEAST_CHANGE ? LEAST_CHANGE : change;
	change = change > MOST_CHANGE ? MOST_CHANGE : change;
	return s->n_prompt * change;
}

void pace_learn(struct pace *p, const struct pace_step *s)
{
	double *plain, target, tokens, few, ns = (double)s->ns;

	if (!s->n_decoding)
		return;
	plain = &p->plain_ns[size_of(s->n_decoding)];
	if (!s->n_prompt) {
		*plain += *plain > 0 ? PLAIN_WEIGHT * (ns - *plain) : ns;
		p->n_mixed = 0;
		return;
	}
	p->n_mixed++;
	target = target_of(p, s);
	if (!(target > 0) || !s->ns)
		return;
	tokens = tokens_for(s, *plain, target);
	if (!p->target_ns && tokens < PACE_FEW) {
		few = tokens_for(s, *plain, FEW_TARGET * target);
		few = few > PACE_FEW ? PACE_FEW : few;
		tokens = tokens > few ? tokens : few;
	}
	if (tokens > s->n_prompt && !s->full) /* it says nothing about more than it had */
		return;
	tokens = tokens < PACE_LEAST ? PACE_LEAST : tokens;
	p->tokens = tokens > MOST_TOKENS ? MOST_TOKENS : tokens;
}
