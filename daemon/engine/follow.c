/* SPDX-License-Identifier: MIT */
/* daemon/engine/follow.c: see follow.h. */
#include "engine/follow.h"

#include "base/num.h"
#include "engine/engine_private.h"

struct active *follow_reader(const struct active *a)
{
	return a->follow.first ? a->follow.first : (struct active *)(uintptr_t)a;
}

/* Does a request of @a's client among the places before @end wait for @first? */
static bool counted(const struct engine *e, const struct active *a, const struct active *first,
		    uint32_t end)
{
	for (uint32_t i = 0; i < end; i++)
		if (e->active[i].request && e->active[i].follow.first == first &&
		    e->active[i].request->turn == a->request->turn)
			return true;
	return a->request->turn == first->request->turn;
}

void follow_serve(struct engine *e, const struct active *a, uint32_t n)
{
	turns_serve(&e->turns, a->request->turn, n);
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		const struct active *f = &e->active[i];

		if (f->request && f->follow.first == a && !counted(e, f, a, i))
			turns_serve(&e->turns, f->request->turn, n);
	}
}

/* May what @b reads be taken up by @a? */
static bool may_follow(const struct active *a, const struct active *b)
{
	return b != a && b->request && b->reuse.on && !b->paused && !b->spoilt &&
	       !b->follow.first && b->tenant == a->tenant;
}

/* Tokens with which both begin, of what @b knows; one of @a's prompt is left at least. */
static uint32_t common(const struct active *a, const struct active *b)
{
	uint32_t known = engine_decoding(b) ? seq_len(b->seq) : b->n_prompt;
	uint32_t most = (uint32_t)u64_min(a->n_prompt - 1, known), n = 0;

	while (n < most && a->ids[n] == b->ids[n])
		n++;
	return n;
}

/* The place that will have read the most of @a's prompt, and how much; NULL: none is worth a wait. */
static struct active *find_first(struct engine *e, const struct active *a, uint32_t *ret_at)
{
	struct active *best = NULL;

	*ret_at = seq_len(a->seq) + REUSE_LEAST - 1;
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *b = &e->active[i];
		uint32_t at;

		if (!may_follow(a, b))
			continue;
		at = common(a, b);
		if (at > *ret_at)
			at = reuse_reach(e, b, at);
		/* who came later gives way where pages are short: it must not be waited for */
		if (at <= *ret_at || (at > seq_len(b->seq) && b->request->came > a->request->came))
			continue;
		best = b;
		*ret_at = at;
	}
	return best;
}

/* What @a needs is read: it is kept, and @a has it. */
static void take(struct engine *e, struct active *a, const struct active *b, uint32_t at)
{
	uint32_t had = seq_len(a->seq);

	if (b)
		reuse_keep_part(e, b, at);
	reuse_again(e, a);
	/* the cache had no room for it: whoever waits again would wait in vain again */
	a->follow.never = b && seq_len(a->seq) <= had;
}

bool follow_begin(struct engine *e, struct active *a)
{
	struct active *b;
	uint32_t at;

	a->follow.first = NULL;
	if (a->request->n_untimed) /* a benchmark's: what is to be timed is computed */
		return false;
	while (a->reuse.on && !a->follow.never && (b = find_first(e, a, &at))) {
		if (seq_len(b->seq) >= at) { /* it is there already */
			take(e, a, b, at);
			continue;
		}
		a->follow.first = b;
		a->follow.number = b->number;
		a->follow.at = at;
		return true;
	}
	return false;
}

/* Whom @a waits for, as long as it can be waited for. */
static const struct active *waits_for(const struct active *a)
{
	const struct active *b = a->follow.first;

	return b->request && b->number == a->follow.number && !b->paused ? b : NULL;
}

void follow_turn(struct engine *e, void (*begun)(struct engine *e, struct active *a))
{
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];
		const struct active *b;

		if (!a->request || !a->follow.first)
			continue;
		b = waits_for(a);
		if (b && seq_len(b->seq) < a->follow.at && !a->paused)
			continue;
		a->follow.first = NULL;
		if (!a->paused) { /* or it is resumed with what is cached then */
			take(e, a, b, a->follow.at);
			if (follow_begin(e, a))
				continue;
		}
		begun(e, a);
	}
}
