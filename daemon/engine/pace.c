/* SPDX-License-Identifier: MIT */
/* daemon/engine/pace.c: see pace.h. */
#include "engine/pace.h"

#include <math.h>

#define PLAIN_WEIGHT 0.2  /* of the newest plain step in the average */
#define PACE_WEIGHT  0.3  /* of the newest bite, in all sizes */
#define BITE_WEIGHT  0.15 /* ... and in its own beside, the more the longer it was not seen: */
#define BITE_AGE     64	  /* all of it after so many bites */
#define MOST_CHANGE  3.0  /* of what was expected, that one measurement counts as */
#define NOISE	     1.5  /* by which measurements may contradict each other */
#define OLD	     256 /* bites after which it is not known any more what smaller ones cost, ... */
#define SURE	     0.9  /* ... and what larger ones do is looked at, ... */
#define VERY_OLD     1024 /* or only after so many, where they can hardly be better */
#define RISE	     0.58 /* of the logarithm, beyond what is known: 1.5 for twice the tokens */
#define CHEAP	     0.45 /* of what a token costs in the largest bites: good enough */
#define BEST	     0.85 /* ... where the target cannot be kept in each step */
#define PREFILL	     64	 /* tokens from which a step where nobody decodes tells what a bite costs */
#define LEAST_SHARE  0.2 /* of the time is for prompts, whatever the target */
#define SLACK	     0.25 /* of a target may be owed */

static unsigned size_of(uint32_t n_decoding)
{
	unsigned size = 0;

	while (size + 1 < PACE_SIZES && (1u << size) < n_decoding)
		size++;
	return size;
}

static double tokens_of(unsigned bite)
{
	return (double)((uint64_t)PACE_LEAST << bite);
}

/* The size whose number of tokens is the nearest. */
static unsigned bite_of(double n)
{
	double at = log2(n / PACE_LEAST) + 0.5;

	return at < 0 ? 0 : at >= PACE_BITES ? PACE_BITES - 1 : (unsigned)at;
}

void pace_init(struct pace *p, uint64_t target_ns, uint32_t most)
{
	*p = (struct pace){ .target_ns = target_ns, .most = most };
}

/* A plain step of @n; of a number that was not seen from the nearest that was. 0: none was. */
static double plain_of(const struct pace *p, uint32_t n)
{
	unsigned size = size_of(n);

	if (p->plain_ns[size] > 0)
		return p->plain_ns[size];
	for (unsigned d = 1; d < PACE_SIZES; d++) { /* more columns cost more, but less than each */
		if (size >= d && p->plain_ns[size - d] > 0)
			return p->plain_ns[size - d] * exp2(0.5 * d);
		if (size + d < PACE_SIZES && p->plain_ns[size + d] > 0)
			return p->plain_ns[size + d] * exp2(-0.5 * d);
	}
	return 0;
}

/* What steps should take in the mean. */
static double target_of(const struct pace *p, uint32_t n_decoding, uint32_t n_all)
{
	double plain = plain_of(p, n_decoding), all = plain_of(p, n_all);
	double target = p->target_ns ? (double)p->target_ns : 2 * (all > plain ? all : plain);
	double least = plain / (1 - LEAST_SHARE);

	return target > least ? target : least;
}

static unsigned largest_known(const struct pace *p)
{
	unsigned i = PACE_BITES;

	while (i && !(p->bite_ns[i - 1] > 0))
		i--;
	return i;
}

/*
 * Between two sizes that are known a power of the tokens; below the smallest in proportion to them, so
 * that small bites are tried; above the largest by RISE, so that large ones are.
 */
double pace_cost(const struct pace *p, double n)
{
	unsigned above = 0, below, end = largest_known(p);
	double a, b;

	if (!end)
		return 0;
	while (above < end && !(p->bite_ns[above] > 0 && tokens_of(above) >= n))
		above++;
	if (above == end)
		return p->bite_ns[end - 1] * pow(n / tokens_of(end - 1), RISE);
	below = above;
	while (below && !(p->bite_ns[below - 1] > 0))
		below--;
	if (!below)
		return p->bite_ns[above] * n / tokens_of(above);
	a = tokens_of(below - 1);
	b = tokens_of(above);
	return p->bite_ns[below - 1] *
	       pow(p->bite_ns[above] / p->bite_ns[below - 1], log(n / a) / log(b / a));
}

/* The numbers of tokens that are considered, from few to many. */
static double next_number(double n)
{
	return ceil(n * 1.125);
}

/* Most tokens that take no longer than @ns, PACE_LEAST at least. */
static double fit(const struct pace *p, double ns, double most)
{
	double n = PACE_LEAST, more;

	for (more = next_number(n); n < most; more = next_number(more)) {
		more = more < most ? more : most;
		if (pace_cost(p, more) > ns)
			break;
		n = more;
	}
	return n;
}

/* What a token costs in a bite of @best tokens, in parts of what it does in one of @n. */
static double worth(const struct pace *p, double n, double best)
{
	double cost = pace_cost(p, n) / n;

	return cost > 0 ? pace_cost(p, best) / best / cost : 1;
}

/* As many as take a step to @ns, or, where a token costs too much then, 0. */
static double small_bite(const struct pace *p, double ns, double most, double largest)
{
	double n = fit(p, ns, most), as_good = worth(p, n, most);

	if (p->age[bite_of(largest)] > (as_good < SURE ? OLD : VERY_OLD))
		return largest;
	return as_good < CHEAP ? 0 : n;
}

static struct pace_bite choose(const struct pace *p, double plain, double target, double most)
{
	double longest = PACE_LONGEST * plain, largest, n;
	unsigned end = largest_known(p);

	if (!end)
		return (struct pace_bite){ .most = PACE_FIRST };
	longest = longest > PACE_LONGEST_NS ? longest : PACE_LONGEST_NS;
	/* what has not been seen is tried step by step */
	largest = fit(p, longest, fmin(most, 2 * tokens_of(end - 1)));
	n = small_bite(p, target - plain, most, largest);
	if (!(n > 0))
		n = small_bite(p, PACE_OVER * target - plain, most, largest);
	if (n > 0)
		return (struct pace_bite){ .most = (uint32_t)n };
	n = PACE_LEAST;
	while (n < largest && worth(p, n, most) < BEST)
		n = next_number(n);
	n = fmin(n, largest);
	return (struct pace_bite){ .most = (uint32_t)n, .more = (uint32_t)(n / 2) };
}

struct pace_bite pace_next(const struct pace *p, uint32_t n_decoding, uint32_t n_all)
{
	double plain, target, most = p->most > PACE_LEAST ? p->most : PACE_LEAST;

	if (!n_decoding)
		return (struct pace_bite){ .most = UINT32_MAX };
	if (!(p->plain_ns[size_of(n_decoding)] > 0) || p->n_mixed >= PACE_MIXED)
		return (struct pace_bite){ .plain = true };
	plain = plain_of(p, n_decoding);
	target = target_of(p, n_decoding, n_all);
	if (p->debt_ns > SLACK * target)
		return (struct pace_bite){ .plain = p->n_tails >= PACE_MIXED };
	return choose(p, plain, target, most);
}

/* What is old goes where something larger was seen, or @bite for the first time for as long. */
static void forget(struct pace *p, unsigned bite)
{
	for (unsigned i = 0; i < PACE_BITES; i++)
		if (++p->age[i] > OLD && i != bite && (i < bite || p->age[bite] >= OLD))
			p->bite_ns[i] = 0;
}

/* More tokens do not cost less, and no more than in proportion to their number; but for noise. */
static void hold_together(struct pace *p, unsigned bite)
{
	double ns = p->bite_ns[bite];

	for (unsigned i = 0; i < PACE_BITES; i++) {
		double share = ns * tokens_of(i) / tokens_of(bite);
		double least = fmin(ns, share) / NOISE, most = fmax(ns, share) * NOISE;

		if (p->bite_ns[i] > 0 && i != bite)
			p->bite_ns[i] = fmax(fmin(p->bite_ns[i], most), least);
	}
}

/* @n prompt tokens took @ns more. */
static void learn_bite(struct pace *p, double n, double ns)
{
	unsigned bite = bite_of(n);
	double known, scale, change, weight;

	forget(p, bite);
	known = pace_cost(p, n);
	scale = known > 0 ? pace_cost(p, tokens_of(bite)) / known : tokens_of(bite) / n;
	if (!(p->bite_ns[bite] > 0)) {
		p->bite_ns[bite] = (known > 0 ? fmin(ns, MOST_CHANGE * known) : ns) * scale;
	} else {
		weight = fmin(p->age[bite], BITE_AGE) / BITE_AGE;
		weight = BITE_WEIGHT + (1 - PACE_WEIGHT - BITE_WEIGHT) * weight;
		change = fmin(ns / known, MOST_CHANGE) - 1;
		for (unsigned i = 0; i < PACE_BITES; i++)
			p->bite_ns[i] *= 1 + PACE_WEIGHT * change;
		p->bite_ns[bite] *= 1 + weight * change;
	}
	p->age[bite] = 0;
	hold_together(p, bite);
}

/* What the step was longer than it should have been is owed; nothing is saved up. */
static void book(struct pace *p, const struct pace_step *s)
{
	double plain = plain_of(p, s->n_decoding), most = PACE_LONGEST * plain;

	if (!s->n_decoding || !(plain > 0)) {
		p->debt_ns = 0;
		return;
	}
	most = most > PACE_LONGEST_NS ? most : PACE_LONGEST_NS;
	p->debt_ns += (double)s->ns - target_of(p, s->n_decoding, s->n_all);
	p->debt_ns = p->debt_ns < 0 ? 0 : p->debt_ns > most ? most : p->debt_ns;
}

/* A step that had prompt tokens beside those that decode. */
static void learn_mixed(struct pace *p, const struct pace_step *s)
{
	double *plain = &p->plain_ns[size_of(s->n_decoding)], ns = (double)s->ns, more;

	if (*plain > NOISE * ns) /* a plain one takes no longer */
		*plain = ns;
	if (s->n_prompt <= s->n_tail) {
		p->n_tails = s->waits ? p->n_tails + 1 : 0;
		return;
	}
	p->n_tails = 0;
	if (!(plain_of(p, s->n_decoding) > 0))
		return;
	p->n_mixed++;
	more = ns - plain_of(p, s->n_decoding);
	learn_bite(p, s->n_prompt, more > ns / 16 ? more : ns / 16);
}

void pace_learn(struct pace *p, const struct pace_step *s)
{
	double *plain = &p->plain_ns[size_of(s->n_decoding)], ns = (double)s->ns;

	if (!s->ns)
		return;
	if (!s->n_decoding) {
		if (s->n_prompt >= PREFILL)
			learn_bite(p, s->n_prompt, ns);
	} else if (!s->n_prompt) {
		*plain += *plain > 0 ? PLAIN_WEIGHT * (ns - *plain) : ns;
		p->n_mixed = 0;
	} else {
		learn_mixed(p, s);
	}
	book(p, s);
}
