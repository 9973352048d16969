/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/vram.c: who lies in the slots of a device, where nothing has to come in.
 *
 * A miss is computed by the CPU, so an expert moves in only where that pays: fills cost the link and
 * the memory that misses are read from. Worth is the chance that a token uses an expert, as two memories
 * tell it: uses of late (RECENT tokens' half-life) and of long (LASTING). Which of them foretells this
 * model's and this text's uses better is found out as tokens come, by the likelihood of what was used:
 * some models use what they just used, most what they use at all. Free slots are filled by the long memory,
 * since who comes there stays. A newcomer must be worth more than who leaves by a margin: of two that are
 * worth about the same neither is carried in and out.
 *
 * At the end of a prompt (repin) the memory of late becomes that of the whole prompt. What nobody uses loses
 * worth as time passes, so all are looked at again in turn: a part of a layer each time the layer is used.
 * The engine's thread.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policies.h"

/* docs/trace.md has the figures behind them */
#define RECENT	 8.0 /* tokens */
#define LASTING	 8192.0
#define SHARE	 0.3 /* of the recent memory in worth, where the lasting one foretells better */
#define MARGIN	 1.05
#define UNSEEN	 0.375 /* uses that every expert is taken to have had, in comparing the two */
#define FORGETS	 0.98  /* of the comparison, a token */
#define TURNS	 8     /* times that a layer is used until all of it was looked at again */
#define PROMPT	 64.0  /* tokens that a prompt weighs in the recent memory, at the most */
#define LOOKS	 64    /* ... at experts before one of them comes in, at the most */
#define FARTHEST 400.0

/* Uses, later ones weighing more instead of all others less: what counts is uses over total. */
struct memory {
	double half_life, age; /* in half-lives */
	double weight, total;  /* of a use in this step; of all tokens */
	double *uses;	       /* per expert */
};

struct policy {
	struct ranking *ranking; /* first, see policies.h */
	struct policy_geometry g;
	uint32_t *class_of_layer, *class_slots, *residents; /* residents: per class */
	struct memory recent, lasting;
	uint32_t *next_look; /* per layer: the expert that is looked at again next */
	uint64_t step;
	bool is_prompt;		   /* the step */
	uint32_t *prompt;	   /* uses per expert since the prompt began */
	double n_prompt;	   /* tokens of it */
	double evidence;	   /* log likelihood of what was used by recent over that by both */
	bool by_recent, *was_full; /* was_full: per class */
};

static void vram_destroy(struct policy *p)
{
	if (!p)
		return;
	ranking_destroy(p->ranking);
	free(p->class_of_layer);
	free(p->class_slots);
	free(p->residents);
	free(p->was_full);
	free(p->recent.uses);
	free(p->lasting.uses);
	free(p->next_look);
	free(p->prompt);
	free(p);
}

static int take_memory(struct policy *p, const struct policy_geometry *g)
{
	const size_t n = (size_t)g->n_layers * g->n_expert;

	p->class_of_layer = calloc(g->n_layers, sizeof(*p->class_of_layer));
	p->class_slots = calloc(g->n_classes, sizeof(*p->class_slots));
	p->residents = calloc(g->n_classes, sizeof(*p->residents));
	p->was_full = calloc(g->n_classes, sizeof(*p->was_full));
	p->recent.uses = calloc(n, sizeof(*p->recent.uses));
	p->lasting.uses = calloc(n, sizeof(*p->lasting.uses));
	p->next_look = calloc(g->n_layers, sizeof(*p->next_look));
	p->prompt = calloc(n, sizeof(*p->prompt));
	if (!p->class_of_layer || !p->class_slots || !p->residents || !p->was_full ||
	    !p->recent.uses || !p->lasting.uses || !p->next_look || !p->prompt)
		return -ENOMEM;
	memcpy(p->class_of_layer, g->class_of_layer, g->n_layers * sizeof(*g->class_of_layer));
	memcpy(p->class_slots, g->class_slots, g->n_classes * sizeof(*g->class_slots));
	return 0;
}

static int vram_create(const struct policy_geometry *g, const struct policy_input *input,
		       struct policy **ret, struct err *err)
{
	struct policy *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	p->g = *g;
	p->recent.half_life = RECENT;
	p->lasting.half_life = LASTING;
	rc = ranking_create(g, TIES_SPREAD, &p->ranking, err);
	rc = rc ? rc : take_memory(p, g);
	if (rc) {
		vram_destroy(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static uint32_t class_of(const struct policy *p, uint32_t id)
{
	return p->class_of_layer[id / p->g.n_expert];
}

/* In the lasting memory's uses, which stay what they are while an expert is not used. */
static double worth(const struct policy *p, uint32_t id)
{
	const uint32_t cls = class_of(p, id);
	double recent;

	if (!p->by_recent && p->residents[cls] < p->class_slots[cls])
		return p->lasting.uses[id];
	if (p->recent.total <= 0)
		return 0; /* nothing was used yet */
	recent = p->recent.uses[id] * p->lasting.total / p->recent.total;
	return p->by_recent ? recent : SHARE / (1 - SHARE) * recent + p->lasting.uses[id];
}

static void look(struct policy *p, uint32_t id)
{
	ranking_set(p->ranking, id, worth(p, id));
}

static void look_at_all(struct policy *p)
{
	for (uint32_t id = 0; id < ranking_size(p->ranking); id++)
		if (class_of(p, id) != POLICY_NO_CLASS)
			look(p, id);
}

/* @tokens come: the mean weight of a use, where the last of them weighs 2^age. True: all weigh less now. */
static bool age(struct memory *m, uint32_t n, double tokens)
{
	const double decay = exp2(-1 / m->half_life);
	const bool far = m->age + tokens / m->half_life > FARTHEST;

	m->age += tokens / m->half_life;
	if (far) {
		const double back = exp2(-m->age);

		for (uint32_t i = 0; i < n; i++)
			m->uses[i] *= back;
		m->total *= back;
		m->age = 0;
	}
	m->weight = exp2(m->age) * (1 - pow(decay, tokens)) / (tokens * (1 - decay));
	m->total += m->weight * tokens;
	return far;
}

static void new_step(struct policy *p, uint64_t step, const uint32_t *counts, uint32_t n)
{
	const uint32_t n_used = p->g.n_expert_used ? p->g.n_expert_used : 1;
	const bool was = p->by_recent;
	bool back;
	double uses = 0, tokens;

	for (uint32_t i = 0; i < n; i++)
		uses += counts[i];
	tokens = fmax(1, uses / n_used);
	p->step = step;
	p->is_prompt = tokens > POLICY_DECODE_TOKENS;
	p->n_prompt += p->is_prompt ? tokens : 0;
	age(&p->recent, ranking_size(p->ranking), tokens);
	back = age(&p->lasting, ranking_size(p->ranking), tokens);
	p->by_recent = p->evidence > 0;
	p->evidence *= pow(FORGETS, tokens);
	for (uint32_t k = 0; k < p->g.n_classes; k++) {
		back |= p->was_full[k] != (p->residents[k] == p->class_slots[k]);
		p->was_full[k] = p->residents[k] == p->class_slots[k];
	}
	if (back || p->by_recent != was)
		look_at_all(p);
}

/* The chance that @m gave to a use of the expert, every expert having been seen a little. */
static double chance(const struct policy *p, const struct memory *m, uint32_t id)
{
	const double unseen = UNSEEN * exp2(m->age);
	const double experts = (double)p->g.n_expert / fmax(1, p->g.n_expert_used);

	return (m->uses[id] + unseen) / (m->total + unseen * experts);
}

/* At residents of the layer, who may have to go, and at a part of the others. */
static void look_again(struct policy *p, uint32_t layer)
{
	const uint32_t n = p->g.n_expert, first = layer * n, turn = n / TURNS + 1;

	for (uint32_t e = 0; e < n; e++)
		if (ranking_resident(p->ranking, first + e))
			look(p, first + e);
	for (uint32_t i = 0; i < turn; i++) {
		look(p, first + p->next_look[layer]);
		p->next_look[layer] = (p->next_look[layer] + 1) % n;
	}
}

static void vram_used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
		      const uint32_t *counts, uint32_t n)
{
	if (step != p->step)
		new_step(p, step, counts, n);
	for (uint32_t i = 0; i < n && !p->is_prompt; i++) {
		const double recent = chance(p, &p->recent, ids[i]);
		const double both = SHARE * recent + (1 - SHARE) * chance(p, &p->lasting, ids[i]);

		p->evidence += counts[i] * log(recent / both);
	}
	for (uint32_t i = 0; i < n; i++) {
		p->recent.uses[ids[i]] += p->recent.weight * counts[i];
		p->lasting.uses[ids[i]] += p->lasting.weight * counts[i];
		p->prompt[ids[i]] += p->is_prompt ? counts[i] : 0;
		look(p, ids[i]);
	}
	look_again(p, layer);
}

/* The recent memory is as full as it ever gets, of the prompt's uses; it decides until shown otherwise. */
static void vram_repin(struct policy *p)
{
	const uint32_t n = ranking_size(p->ranking);

	if (p->n_prompt <= 0)
		return;
	p->recent.age = 0;
	p->recent.weight = 1;
	p->recent.total = fmin(PROMPT, p->n_prompt);
	p->evidence = 0;
	p->by_recent = true;
	for (uint32_t id = 0; id < n; id++) {
		p->recent.uses[id] = p->prompt[id] * p->recent.total / p->n_prompt;
		p->prompt[id] = 0;
	}
	look_at_all(p);
	p->n_prompt = 0;
}

static void vram_inserted(struct policy *p, uint32_t id)
{
	p->residents[class_of(p, id)] += !ranking_resident(p->ranking, id);
	ranked_inserted(p, id);
}

static void vram_removed(struct policy *p, uint32_t id)
{
	p->residents[class_of(p, id)] -= ranking_resident(p->ranking, id);
	ranked_removed(p, id);
}

static void vram_resize(struct policy *p, uint32_t cls, uint32_t slots)
{
	p->class_slots[cls] = slots;
}

static bool vram_promote(struct policy *p, uint32_t cls, bool has_free,
			 const struct policy_filter *filter, struct policy_move *ret)
{
	/* what was not looked at of late is worth less than it seems: look until the best one stays so */
	for (int i = 0; i < LOOKS; i++) {
		const uint32_t id = ranking_best(p->ranking, cls, filter->may_come, filter->ctx);
		const double seemed = id == POLICY_NONE ? 0 : ranking_worth(p->ranking, id);

		if (id == POLICY_NONE || worth(p, id) == seemed)
			break;
		look(p, id);
	}
	return ranking_promote(p->ranking, cls, has_free, MARGIN, filter, ret);
}

const struct policy_ops policy_vram = {
	.name = "vram",
	.help = "uses of late and of long, whichever foretells better, where a newcomer must be worth more "
		"by a margin: for slots that only fills reach",
	.create = vram_create,
	.destroy = vram_destroy,
	.used = vram_used,
	.expect = ranked_expect,
	.inserted = vram_inserted,
	.removed = vram_removed,
	.victim = ranked_victim,
	.admit = ranked_admit,
	.next = ranked_next,
	.promote = vram_promote,
	.repin = vram_repin,
	.resize = vram_resize,
};
