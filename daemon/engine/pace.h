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
 * - as many as take a step to the target, in every step, where a token then costs little more than in
 *   the largest bites (the share is in pace.c);
 * - or as many as take it to PACE_OVER targets, where that is so of them;
 * - else so many that a token costs hardly more than in the largest, but none that takes longer than
 *   PACE_LONGEST_NS or PACE_LONGEST plain steps: prompts in few large bites.
 *
 * The mean holds in all three: what a step was longer than the target is a debt, which plain steps pay
 * off before the next bite. By default the target is twice the plain step of all the sequences that are
 * there, those that read too, since that is what everybody gets once they decode. The last few tokens
 * of a prompt (a model with recurrent state stops before them, to keep a copy) wait for no bite, but for
 * a step in which nothing is to be read so that its time can be measured, and where a longer prompt has
 * waited for so many of them that what they took has to be paid off for it.
 *
 * Nothing is drawn from few measurements for ever: what slows down one number of tokens slows down the
 * others (other work on the machine, a longer context), small ones that have not been seen for long are
 * tried again, and so is a large one, less often where it can hardly be better than those in use.
 */
#ifndef SLUICE_ENGINE_PACE_H
#define SLUICE_ENGINE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_SIZES 7  /* numbers of decoding sequences: 1, 2, 3-4, 5-8, ... more than 32 */
#define PACE_BITES 14 /* numbers of prompt tokens: PACE_LEAST << i */
#define PACE_LEAST 8  /* prompt tokens of a bite at least: somebody waits for them */
#define PACE_TAIL  8  /* so few that a prompt ends with are in the next step, whatever the debt */
#define PACE_FIRST 64 /* before anything is known */
/* steps with bites in a row before a plain one is measured again; with ends of prompts, before they wait for
 * another prompt that does */
#define PACE_MIXED 64

#define PACE_OVER	1.75 /* targets that a bite may take the step to, where few tokens cost much */
#define PACE_LONGEST	16  /* plain steps that one may take ... */
#define PACE_LONGEST_NS 2e9 /* ... or so long, whichever is more */

struct pace {
	uint64_t target_ns;	     /* 0: twice the plain step */
	uint32_t most;		     /* prompt tokens that a step has room for */
	double plain_ns[PACE_SIZES]; /* 0: not measured yet */
	double bite_ns[PACE_BITES]; /* what PACE_LEAST << i prompt tokens take more; 0: not known */
	uint32_t age[PACE_BITES];   /* bites since that was measured */
	double debt_ns;		    /* how much longer than the target the steps took so far */
	uint32_t n_mixed;	    /* bites since the last plain step */
	uint32_t n_tails;	    /* steps with ends of prompts since one that waits had a bite */
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
