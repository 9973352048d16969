/* SPDX-License-Identifier: MIT */
/* daemon/engine/pace.c: see pace.h. */
#include "engine/pace.h"

#include <math.h>

#define PLAIN_WEIGHT 0.2  /* of the newest plain step in the average, ... */
#define PLAIN_CHANGE 1.5  /* ... which counts as so many of it at most */
#define DOWN_WEIGHT  0.3  /* of the newest in what is no disturbance, where it is shorter, ... */
#define UP_WEIGHT    0.05 /* ... and longer */
#define MOST_CHANGE  3.0  /* of what was expected, that one measurement counts as */
#define NOISE	     1.5  /* by which measurements may contradict each other */
#define SEEN	     3	  /* measurements before it is sure that a bite costs too much, ... */
#define FAR	     0.1  /* ... or one where a token costs more than ten times as much */
#define STALE	     48	  /* bites after which it has to be measured anew */
#define SOON	     8	  /* bites between the first looks at larger ones, ... */
#define OLD	     128  /* bites after which it is looked what larger ones cost, ... */
#define VERY_OLD     1024 /* ... or less hopefully; after which what was measured is forgotten */
#define LARGER	     4	  /* times the bite in use are looked at */
#define RISE	     0.58 /* of the logarithm, where one size is known: 1.5 for twice the tokens */
#define HOPE	     0.2 /* ... less than between the largest two that are known, where there are two */
#define GOOD	     0.8  /* of what a token costs in the largest bites: nothing more is wanted */
#define HOPED	     0.5  /* below this larger ones are looked at, up to the largest, ... */
#define CHEAP	     0.33 /* ... and what it may be at least */
#define CHEAP_READ   0.45 /* ... where experts are missing */
#define BEST	     0.85 /* ... where the target cannot be kept in each step */
#define PREFILL	     64	 /* tokens from which a step where nobody decodes tells what a bite costs */
#define LEAST_SHARE  0.2 /* of the time is for prompts, whatever the target */
#define SLACK	     0.25 /* of a target may be owed, ... */
#define SAVED	     0.5  /* ... and so much of it saved: less than a plain step leaves */

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

/* The same, but for what other programs do: what a bite comes on top of. */
static double quiet_of(const struct pace *p, uint32_t n)
{
	unsigned size = size_of(n);

	return p->quiet_ns[size] > 0 ? p->quiet_ns[size] : plain_of(p, n);
}

/* What steps should take in the mean. */
static double target_of(const struct pace *p, uint32_t n_decoding, uint32_t n_all)
{
	double plain = plain_of(p, n_decoding), all = plain_of(p, n_all);
	double target = p->target_ns ? (double)p->target_ns : 2 * (all > plain ? all : plain);
	double least = plain / (1 - LEAST_SHARE);

	return target > least ? target : least;
}

static bool known(const struct pace *p, unsigned bite)
{
	return p->bites[bite].n > 0;
}

/* The largest size below @end that is known, plus one; 0: none. */
static unsigned last_known(const struct pace *p, unsigned end)
{
	while (end && !known(p, end - 1))
		end--;
	return end;
}

/* Of the logarithm of a bite's cost by that of its tokens, beyond the largest size that is known. */
static double rise(const struct pace *p, unsigned end)
{
	unsigned below = last_known(p, end - 1);
	double e;

	if (!below)
		return RISE;
	e = log2(p->bites[end - 1].ns / p->bites[below - 1].ns) / (end - below) - HOPE;
	return fmax(fmin(e, 1), 0);
}

/*
 * Between two sizes that are known a power of the tokens; below the smallest in proportion to them, so
 * that small bites are tried; above the largest somewhat less than so far, so that large ones are.
 */
double pace_cost(const struct pace *p, double n)
{
	unsigned above = 0, below, end = last_known(p, PACE_BITES);
	double a, b;

	if (!end)
		return 0;
	while (above < end && !(known(p, above) && tokens_of(above) >= n))
		above++;
	if (above == end)
		return p->bites[end - 1].ns * pow(n / tokens_of(end - 1), rise(p, end));
	below = last_known(p, above);
	if (!below)
		return p->bites[above].ns * n / tokens_of(above);
	a = tokens_of(below - 1);
	b = tokens_of(above);
	return p->bites[below - 1].ns *
	       pow(p->bites[above].ns / p->bites[below - 1].ns, log(n / a) / log(b / a));
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

/* Was no bite seen for long, or often enough, that is much larger than one of @n? */
static bool look_larger(const struct pace *p, double n, double most)
{
	uint32_t age = UINT32_MAX;
	unsigned seen = 0;

	for (unsigned i = bite_of(LARGER / 2 * n); i < PACE_BITES; i++) {
		age = p->bites[i].age < age ? p->bites[i].age : age;
		seen = p->bites[i].times > seen ? p->bites[i].times : seen;
	}
	if (seen < SEEN)
		return age > SOON;
	return age > (worth(p, n, most) < HOPED ? OLD : VERY_OLD);
}

/* Do tokens cost too much in a bite of @n, as far as that is known by now? */
static bool is_dear(const struct pace *p, double n, double most)
{
	const struct pace_size *s = &p->bites[bite_of(n)];
	double as_good = worth(p, n, most);

	return as_good < (p->reads ? CHEAP_READ : CHEAP) && s->n >= (as_good < FAR ? 1 : SEEN) &&
	       s->age <= STALE;
}

/*
 * How many tokens such a look has: beyond those that are known where a token may cost far less there, but of @longest
 * at most.
 */
static double larger(const struct pace *p, double n, double most, double largest, double longest)
{
	double known = tokens_of(last_known(p, PACE_BITES) - 1);
	double look = LARGER * (worth(p, n, most) < HOPED ? fmax(n, known) : n);

	return fmax(n, fmin(fit(p, longest, largest), look));
}

static struct pace_bite choose(const struct pace *p, double plain, double target, double most)
{
	double longest = fmax(PACE_LONGEST * plain, PACE_LONGEST_NS), largest, n, end;
	unsigned last = last_known(p, PACE_BITES);

	if (!last)
		return (struct pace_bite){ .most = PACE_FIRST };
	most = fit(p, longest, most);
	/* what has not been seen is tried step by step */
	largest = fmin(most, 2 * tokens_of(last - 1));
	n = fit(p, target - plain, most);
	end = fit(p, (p->reads ? PACE_OVER_READ : PACE_OVER) * target - plain, most);
	while (n < end && worth(p, n, most) < GOOD)
		n = next_number(n);
	n = fmin(n, end);
	if (!is_dear(p, n, most)) {
		if (look_larger(p, n, most))
			n = larger(p, n, most, largest, PACE_LONGEST * plain);
		return (struct pace_bite){ .most = (uint32_t)n };
	}
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
	plain = quiet_of(p, n_decoding);
	target = target_of(p, n_decoding, n_all);
	if (p->debt_ns > SLACK * target)
		return (struct pace_bite){ .plain = p->n_tails >= PACE_MIXED };
	return choose(p, plain, target, most);
}

static void scale_size(struct pace_size *s, double by)
{
	for (unsigned k = 0; k < s->n; k++)
		s->recent[k] *= by;
	s->ns *= by;
}

/*
 * What is very old goes, sooner where nobody decoded beside it: it may be of a machine that had just begun. What
 * was seen beside others stays, or by long steps it would have to be found out again and again.
 */
static void forget(struct pace *p, unsigned bite)
{
	for (unsigned i = 0; i < PACE_BITES; i++) {
		struct pace_size *s = &p->bites[i];

		if (++s->age > (s->beside ? VERY_OLD : 2 * OLD) && i != bite)
			s->n = s->times = 0;
	}
}

/*
 * More tokens do not cost less, and no more than in proportion to their number; but for noise. What is
 * known less well than @bite gives way.
 */
static void hold_together(struct pace *p, unsigned bite)
{
	const struct pace_size *sure = &p->bites[bite];

	for (unsigned i = 0; i < PACE_BITES; i++) {
		struct pace_size *s = &p->bites[i];
		double share = sure->ns * tokens_of(i) / tokens_of(bite);
		double least = fmin(sure->ns, share) / NOISE, most = fmax(sure->ns, share) * NOISE;

		if (i != bite && s->n && (s->n < sure->n || s->age > STALE))
			scale_size(s, fmax(fmin(s->ns, most), least) / s->ns);
	}
}

/* A low one of the recent measurements: other programs make steps longer, and nothing makes them shorter. */
static double typical(const struct pace_size *s)
{
	double sorted[PACE_RECENT];

	for (unsigned k = 0, i; k < s->n; k++) {
		for (i = k; i && sorted[i - 1] > s->recent[k]; i--)
			sorted[i] = sorted[i - 1];
		sorted[i] = s->recent[k];
	}
	return sorted[(s->n - 1) / 3];
}

/* @n prompt tokens took @ns more, @beside others that decode or not. */
static void learn_bite(struct pace *p, double n, double ns, bool beside)
{
	unsigned bite = bite_of(n);
	struct pace_size *s = &p->bites[bite];
	double expected, was = 0;

	forget(p, bite);
	expected = pace_cost(p, n);
	if (expected > 0) /* as if there had been as many tokens as the size has */
		ns = fmin(ns, MOST_CHANGE * expected) * pace_cost(p, tokens_of(bite)) / expected;
	else
		ns *= tokens_of(bite) / n;
	if (s->age > STALE)
		s->n = 0;
	if (s->n == PACE_RECENT)
		was = s->ns;
	s->at = s->n < PACE_RECENT ? s->n : (s->at + 1) % PACE_RECENT;
	s->n += s->n < PACE_RECENT;
	s->recent[s->at] = ns;
	s->ns = typical(s);
	s->age = 0;
	s->beside = beside;
	s->times++;
	/* what slows down one size does so to all: a longer context, other work on the machine */
	for (unsigned i = 0; i < PACE_BITES && was > 0; i++)
		if (i != bite && known(p, i))
			scale_size(&p->bites[i], s->ns / was);
	hold_together(p, bite);
}

/*
 * What the step was longer than it should have been is owed. What it was shorter is saved for the next bite, up to
 * what one plain step leaves: else part of what such a step paid off would be lost.
 */
static void book(struct pace *p, const struct pace_step *s)
{
	double plain = plain_of(p, s->n_decoding), most = PACE_LONGEST * plain, ns = (double)s->ns;
	double target = target_of(p, s->n_decoding, s->n_all);

	if (!s->n_decoding || !(plain > 0)) {
		p->debt_ns = 0;
		return;
	}
	most = most > PACE_LONGEST_NS ? most : PACE_LONGEST_NS;
	/* a plain step owes what it counts in the mean, or prompts never come where some take long by themselves */
	if (!s->n_prompt)
		ns = fmin(ns, PLAIN_CHANGE * plain);
	p->debt_ns = fmax(fmin(p->debt_ns + ns - target, most), -SAVED * target);
}

/* A step that had prompt tokens beside those that decode. */
static void learn_mixed(struct pace *p, const struct pace_step *s)
{
	unsigned size = size_of(s->n_decoding);
	double *plain = &p->plain_ns[size], *quiet = &p->quiet_ns[size], ns = (double)s->ns, more;

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
	if (*quiet > ns) { /* what it took more is not known: a plain one comes next */
		*quiet = ns;
		p->n_mixed = PACE_MIXED;
		return;
	}
	more = ns - quiet_of(p, s->n_decoding);
	learn_bite(p, s->n_prompt, more > ns / 16 ? more : ns / 16, true);
}

static void learn_plain(struct pace *p, unsigned size, double ns)
{
	double *plain = &p->plain_ns[size], *quiet = &p->quiet_ns[size];

	if (!(*plain > 0)) {
		*plain = *quiet = ns;
		return;
	}
	*plain += PLAIN_WEIGHT * (fmin(ns, PLAIN_CHANGE * *plain) - *plain);
	*quiet += (ns < *quiet ? DOWN_WEIGHT : UP_WEIGHT) *
		  (fmin(ns, PLAIN_CHANGE * *quiet) - *quiet);
	*quiet = fmin(*quiet, *plain);
}

void pace_learn(struct pace *p, const struct pace_step *s)
{
	double ns = (double)s->ns;

	if (!s->ns)
		return;
	if (!s->n_decoding) {
		if (s->n_prompt >= PREFILL)
			learn_bite(p, s->n_prompt, ns, false);
	} else if (!s->n_prompt) {
		learn_plain(p, size_of(s->n_decoding), ns);
		p->n_mixed = 0;
	} else {
		learn_mixed(p, s);
	}
	book(p, s);
}
