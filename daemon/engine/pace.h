/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/pace.h: how many prompt tokens a step takes beside those that decode. Pure: no clock, no
 * memory of its own but the struct. Called by sched.c, engine thread.
 *
 * A step that reads prompts takes longer for all who decode, and what it takes longer is not in
 * proportion to the tokens: a few of them need nearly all experts that many need, from memory and from
 * disk. So the time of such steps, less that of a plain one (only decoding), is measured by the number
 * of prompt tokens, and a step's share of them (a bite) is chosen by what a token costs in it:
 *
 * - as many as take a step to the target, and more, up to PACE_OVER targets, where that makes a token
 *   cheaper (the shares are in pace.c); so gaps stay below twice the target;
 * - where a token costs far too much then, and that was measured more than once: so many that it costs
 *   hardly more than in the largest, but none that takes longer than PACE_LONGEST_NS or PACE_LONGEST plain
 *   steps: prompts in few large bites.
 *
 * What is far too much depends: where experts are missing (reads), what few tokens cost are mostly reads, which
 * more tokens would share, and all that is read wears out what those who decode have in memory; so larger bites
 * are taken sooner there, and steps with them go to PACE_OVER_READ targets.
 *
 * The mean holds in both: what a step was longer than the target is a debt, which plain steps pay
 * off before the next bite, and what the last of these was too short is left for it. By default the
 * target is twice the plain step of all the sequences that are
 * there, those that read too, since that is what everybody gets once they decode. The last few tokens
 * of a prompt (a model with recurrent state stops before them, to keep a copy) wait for no bite, but for
 * a step in which nothing is to be read so that its time can be measured, and where a longer prompt has
 * waited for so many of them that what they took has to be paid off for it.
 *
 * A size is known by a low one of its last measurements, since other programs only make steps longer, and
 * one that took long by chance must not look dear for ever: small bites that are not in use are measured
 * anew now and then, and so is one LARGER (pace.c) than those in use, less often where it can hardly be
 * better. What slows down the size in use slows down the others: a context that grows, other work.
 */
#ifndef SLUICE_ENGINE_PACE_H
#define SLUICE_ENGINE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_SIZES  7  /* numbers of decoding sequences: 1, 2, 3-4, 5-8, ... more than 32 */
#define PACE_BITES  15 /* numbers of prompt tokens: PACE_LEAST << i */
#define PACE_LEAST  4  /* prompt tokens of a bite at least: somebody waits for them */
#define PACE_TAIL   8  /* so few that a prompt ends with are in the next step, whatever the debt */
#define PACE_FIRST  16 /* before anything is known */
#define PACE_RECENT 5  /* measurements that are kept of a number of tokens */
/* steps with bites in a row before a plain one is measured again; with ends of prompts, before they wait for
 * another prompt that does */
#define PACE_MIXED  64

#define PACE_OVER	1.3 /* targets that a bite may take the step to, where few tokens cost much */
#define PACE_OVER_READ	1.6 /* ... where experts are missing */
#define PACE_LONGEST	16  /* plain steps that one may take ... */
#define PACE_LONGEST_NS 2e9 /* ... or so long, whichever is more */

struct pace {
	uint64_t target_ns;	     /* 0: twice the plain step */
	uint32_t most;		     /* prompt tokens that a step has room for */
	bool reads;		     /* experts are missing: see below. Its owner's to set */
	double plain_ns[PACE_SIZES]; /* mean; 0: not measured yet */
	double quiet_ns[PACE_SIZES]; /* what of it is no disturbance: a low one */
	struct pace_size {
		double ns; /* what PACE_LEAST << i prompt tokens take more; n > 0 */
		double recent[PACE_RECENT];
		unsigned n, at; /* of these; 0: not known */
		uint32_t age;	/* bites since the newest */
		unsigned times; /* that it was measured, until it was forgotten */
		bool beside;	/* others that decoded, the newest */
	} bites[PACE_BITES];
	double debt_ns;	  /* how much longer than the target the steps took so far; < 0: shorter */
	uint32_t n_mixed; /* bites since the last plain step */
	uint32_t n_tails; /* steps with ends of prompts since one that waits had a bite */
};

void pace_init(struct pace *p, uint64_t target_ns, uint32_t most);

/*
 * Prompt tokens of the next step: @most, 0 where a plain step has to be made first, for measuring or to
 * pay off; and up to @more beside where the prompt that they cut ends with them: a bite of its own
 * would cost more. @plain: ends of prompts wait as well.
 */
struct pace_bite {
	uint32_t most, more;
	bool plain;
};

/* Beside @n_decoding sequences that decode, of @n_all that are there; no bound where nobody decodes. */
struct pace_bite pace_next(const struct pace *p, uint32_t n_decoding, uint32_t n_all);

/* A step of @n_decoding that decode, of @n_all that are there. */
struct pace_step {
	uint32_t n_decoding, n_all;
	uint32_t n_prompt; /* tokens of prompts in it, ends of PACE_TAIL or fewer among them */
	uint32_t n_tail;   /* of these: such ends */
	uint64_t ns;
	bool waits; /* a prompt has none of it for want of a bite */
};
void pace_learn(struct pace *p, const struct pace_step *step);

/* What @n prompt tokens take a step longer, by what is known; 0: nothing is. For tests. */
double pace_cost(const struct pace *p, double n);

#endif
