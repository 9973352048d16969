/* SPDX-License-Identifier: MIT */
/* daemon/policy/predict.c: see predict.h. */
#include "policy/predict.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define LEAST_CHANCE 0.45f /* of a guess that is read */
#define RANK_NEW     0.02f /* weight of the newest guess in a place's share */
#define LEAST_BYTES  (16ull << 20)
#define CROWD_LEAST  0.8f /* a wrong one costs what a right one gains, and a slot */

#define STALL_NEW   0.1f  /* weight of the newest step in the share of waits */
#define STALL_LEAST 0.04f /* below it there is little to be gained */
#define RIGHT_NEW   0.05f
#define FIRST_LOOK  16	 /* steps before the first trial */
#define LEAST_GAIN  1.01 /* that is worth going on for */
#define SURE_GAIN   1.1	 /* half a trial is enough for it */
#define MOST_LOST   0.4	 /* steps' time that a trial may lose */
#define ON_STEPS    512	 /* until it is tried again whether it still pays */
#define WAIT_LEAST  128
#define WAIT_MOST   4096

int predict_parse(const char *text, struct predict_choice *ret, struct err *err)
{
	static const char *const names[] = {
		[PREDICT_AUTO] = "auto", [PREDICT_OFF] = "off", [PREDICT_ROUTER] = "router"
	};
	struct predict_choice c = { .mode = PREDICT_ORACLE };
	char *end;

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(text, names[i])) {
			*ret = (struct predict_choice){ .mode = (enum predict_mode)i };
			return 0;
		}
	if (strncmp(text, "oracle:", 7))
		return err_set(err, -EINVAL, "\"%.80s\" is not auto, off, router or oracle:R:FILE",
			       text);
	c.share = strtod(text + 7, &end);
	if (end == text + 7 || !(c.share >= 0 && c.share <= 1) || (*end && *end != ':') ||
	    (*end && !end[1]))
		return err_set(err, -EINVAL,
			       "\"%.80s\": an oracle is oracle:R:FILE with a share R from 0 to 1 "
			       "and a recorded trace",
			       text);
	c.path = *end ? end + 1 : NULL;
	*ret = c;
	return 0;
}

bool predict_worth(const struct predict_guess *g)
{
	return g->chance >= LEAST_CHANCE;
}

uint32_t predict_slot(const struct predict_tier *t, const struct predict_guess *g)
{
	uint32_t victim;

	if (!predict_worth(g) || t->held >= t->held_most ||
	    t->in_flight + t->expert_bytes > t->most)
		return POLICY_NONE;
	if (t->free_slots)
		return PREDICT_FREE_SLOT;
	victim = t->ops->victim(t->policy, t->cls, t->evictable, t->ctx);
	if (victim == POLICY_NONE || !t->ops->expect(t->policy, g->id, g->chance, victim))
		return POLICY_NONE;
	return victim;
}

uint32_t predict_held_most(uint32_t class_slots, uint32_t n_expert_used)
{
	/* those of the layer that runs, and those that nobody guessed of the next */
	return class_slots > n_expert_used ? (class_slots - n_expert_used) / 2 : 0;
}

uint64_t predict_bytes_most(uint64_t expert_bytes, uint32_t n_expert_used)
{
	return u64_max(LEAST_BYTES, 2 * expert_bytes * n_expert_used);
}

static int by_chance(const void *a, const void *b)
{
	const struct predict_guess *x = a, *y = b;

	if (x->chance != y->chance)
		return x->chance < y->chance ? 1 : -1;
	return x->id < y->id ? -1 : x->id > y->id;
}

void predict_sort(struct predict_guess *g, uint32_t n)
{
	qsort(g, n, sizeof(*g), by_chance);
}

bool predict_coin(uint32_t seq, uint32_t pos, uint32_t layer, uint32_t expert, double share)
{
	/* splitmix64 over the numbers: the same use gives the same coin, whatever runs beside it */
	uint64_t z = ((uint64_t)seq << 32 | pos) * 0x9e3779b97f4a7c15u +
		     ((uint64_t)layer << 32 | expert);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return (double)(z >> 11) * 0x1p-53 < share;
}

void predict_ranks_init(struct predict_ranks *r, uint32_t n_used)
{
	/* usual shares of an early look: the first choices are the surest, the rare ones less so */
	for (uint32_t i = 0; i < PREDICT_RANKS; i++) {
		r->share[0][i] = i < n_used ? 0.9f - 0.4f * (float)i / (float)n_used : 0.3f;
		r->share[1][i] = 0.8f * r->share[0][i];
	}
}

void predict_ranks_learn(struct predict_ranks *r, bool absent, uint32_t rank, bool used)
{
	float *share = &r->share[absent][rank];

	if (rank < PREDICT_RANKS)
		*share += RANK_NEW * ((used ? 1.0f : 0.0f) - *share);
}

uint32_t predict_ranks_of(uint32_t n_used, uint32_t n_expert)
{
	return (uint32_t)u64_min(u64_min(n_used + (n_used + 1) / 2, n_expert), PREDICT_RANKS);
}

/* ---- a crowd ---- */

void predict_crowd_init(struct predict_crowd *c)
{
	c->right = 1;
}

float predict_crowd_share(uint32_t n_tokens, uint32_t n_used, uint32_t n_expert)
{
	return 1 - powf(1 - (float)n_used / (float)n_expert, (float)n_tokens);
}

bool predict_is_crowd(uint32_t n_tokens, float share)
{
	return n_tokens > PREDICT_TOKENS && share >= CROWD_LEAST;
}

float predict_crowd_chance(const struct predict_crowd *c, float share)
{
	float chance = share * c->right;

	return chance < CROWD_LEAST ? 0 : chance < 1 ? chance : 1;
}

void predict_crowd_learn(struct predict_crowd *c, float share, uint32_t absent, uint32_t used)
{
	if (absent)
		c->right += RIGHT_NEW * ((float)used / (float)absent / share - c->right);
}

/* ---- does it pay ---- */

void predict_control_init(struct predict_control *c)
{
	*c = (struct predict_control){ .next_wait = WAIT_LEAST, .right = 1 };
}

bool predict_control_on(const struct predict_control *c)
{
	/* without, with, with, without, and again: what drifts falls on both alike */
	uint32_t block = c->steps / PREDICT_BLOCK % 4;

	return c->phase == PREDICT_ON || (c->phase == PREDICT_TRIAL && (block == 1 || block == 2));
}

static void enter(struct predict_control *c, enum predict_phase phase)
{
	c->phase = phase;
	c->steps = 0;
	if (phase == PREDICT_TRIAL) {
		c->n[0] = c->n[1] = 0;
		c->lost = 0;
	}
}

static int by_float(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

/* The mean of the middle half: a step that a machine disturbed counts for nothing. */
static double middle(const float *ns, uint32_t n)
{
	float sorted[4 * PREDICT_BLOCK];
	uint32_t cut = n / 4;
	double sum = 0;

	if (!n)
		return 0;
	memcpy(sorted, ns, n * sizeof(*ns));
	qsort(sorted, n, sizeof(*sorted), by_float);
	for (uint32_t i = cut; i < n - cut; i++)
		sum += sorted[i];
	return sum / (n - 2 * cut);
}

static void give_up(struct predict_control *c)
{
	c->wait = c->next_wait;
	c->next_wait = (uint32_t)u64_min(2ull * c->next_wait, WAIT_MOST);
	enter(c, PREDICT_WATCH);
}

static void judge(struct predict_control *c, bool half)
{
	double without = middle(c->ns[0], c->n[0]), with = middle(c->ns[1], c->n[1]);

	if (!(with > 0))
		return;
	c->gain = without / with;
	if (half && c->gain < SURE_GAIN)
		return;
	if (c->gain < LEAST_GAIN) {
		give_up(c);
		return;
	}
	c->next_wait = WAIT_LEAST;
	c->right_before = c->right;
	enter(c, PREDICT_ON);
}

static void try_step(struct predict_control *c, const struct predict_step *s)
{
	bool with = predict_control_on(c);
	float ms = (float)((double)s->ns / 1e6 / (s->columns ? s->columns : 1));
	double without = middle(c->ns[0], c->n[0]);

	if (c->n[with] < 4 * PREDICT_BLOCK)
		c->ns[with][c->n[with]++] = ms;
	if (with && without > 0)
		c->lost += (double)ms < 2 * without ? (double)ms / without - 1 : 1;
	c->steps++;
	if (c->lost > MOST_LOST) {
		c->gain = without / middle(c->ns[1], c->n[1]);
		give_up(c);
	} else if (c->steps == 4 * PREDICT_BLOCK || c->steps == 8 * PREDICT_BLOCK) {
		judge(c, c->steps == 4 * PREDICT_BLOCK);
	}
}

void predict_control_learn(struct predict_control *c, const struct predict_step *s)
{
	float stall = s->ns ? (float)s->stall_ns / (float)s->ns : 0;

	if (s->posted)
		c->right += RIGHT_NEW * ((float)s->useful / (float)s->posted - c->right);
	if (c->phase == PREDICT_TRIAL) {
		try_step(c, s);
		return;
	}
	c->steps++;
	if (c->phase == PREDICT_ON) {
		/* guesses that became bad are looked at again at once */
		if (c->steps >= ON_STEPS || c->right < 0.5f * c->right_before)
			enter(c, PREDICT_TRIAL);
		return;
	}
	c->stall += STALL_NEW * (stall - c->stall);
	if (c->wait)
		c->wait--;
	else if (c->steps >= FIRST_LOOK && c->stall > STALL_LEAST)
		enter(c, PREDICT_TRIAL);
}
