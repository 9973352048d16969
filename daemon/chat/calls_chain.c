/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_chain.c: calls inside of reasoning.
 *
 * A model may begin to call before it closed its thought. That counts if each call names a listed
 * function and nothing but calls follows, up to the end of the text: so they are kept until it ends,
 * and where anything else follows the first marker was reasoning after all. What was tried in vain
 * is marked (calls_impl.h), or a text of many calls would be read again from each of them.
 */
#include <errno.h>
#include <stdlib.h>

#include "chat/calls_impl.h"

static int remember(struct calls *c, size_t at, size_t n)
{
	if (c->n_spans == c->cap_spans) {
		size_t cap = c->cap_spans ? 2 * c->cap_spans : 16;
		struct span *p = realloc(c->spans, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		c->spans = p;
		c->cap_spans = cap;
	}
	c->spans[c->n_spans++] = (struct span){ at, n };
	return 0;
}

/* They were no calls: what led here leads nowhere, and the first marker is reasoning. */
static int chain_fails(struct calls *c)
{
	if (held_mark(&c->held, c->at, 1, DEAD_START))
		return -ENOMEM;
	for (size_t i = 0; i < c->n_spans; i++) {
		struct span s = c->spans[i];

		if (held_mark(&c->held, s.at, s.n ? s.n : 1,
			      s.n ? DEAD_VALUE | DEAD_KEY : DEAD_START))
			return -ENOMEM;
	}
	c->i = c->solid = c->at + c->marker_n;
	c->mode = M_THINK;
	return 0;
}

/* A call of the chain: listed, or the chain is none. */
static int chain_call(struct calls *c)
{
	struct call k;
	int rc;

	if (c->n_chain == c->cap_chain) {
		size_t cap = c->cap_chain ? 2 * c->cap_chain : 16;
		struct call *p = realloc(c->chain, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		c->chain = p;
		c->cap_chain = cap;
	}
	rc = calls_read(c, &c->chain_text, &k);
	if (rc)
		return rc;
	if (!toolbox_find(&c->tools, c->chain_text.p + k.name.at, k.name.n))
		return chain_fails(c);
	c->chain[c->n_chain++] = k;
	/* values, where an calls_attempt from inside would go the same way; glm's keys are not worth it */
	for (size_t i = 1; i < c->scan.n_pairs && !rc; i += 2)
		if (c->scan.pairs[i].n)
			rc = remember(c, c->scan.pairs[i].at, c->scan.pairs[i].n);
	return rc;
}

int calls_chain(struct calls *c, bool final)
{
	switch (calls_attempt(c, final)) {
	case SCAN_MORE:
		return 1;
	case SCAN_CALL:
		return chain_call(c);
	case SCAN_END:
		c->i = c->scan.end;
		c->mode = M_CHAIN_NEXT;
		return 0;
	case SCAN_NO:
		return chain_fails(c);
	default:
		return -ENOMEM;
	}
}

static int chain_counts(struct calls *c)
{
	int rc = 0;

	for (size_t i = 0; i < c->n_chain && !rc; i++)
		rc = calls_give(c, &c->chain_text, &c->chain[i]);
	calls_drop_to(c, c->held.n);
	c->mode = M_TEXT;
	return rc;
}

int calls_chain_next(struct calls *c, bool final)
{
	const char *word = NULL;
	enum match ends, starts;

	c->i = skip_space(c->held.text, c->held.n, c->i);
	if (c->i == c->held.n)
		return final ? chain_counts(c) : 1;
	ends = calls_match(c, c->i, calls_marks[c->format].ends, &word);
	if (ends == MATCH_YES) {
		c->i += strlen(word);
		return 0;
	}
	if (ends == MATCH_MORE && final)
		return chain_counts(c);
	starts = calls_match(c, c->i, calls_starts(c), &word);
	if (starts == MATCH_YES && !held_is_dead(&c->held, c->i, DEAD_START)) {
		if (remember(c, c->i, 0))
			return -ENOMEM;
		calls_begin_attempt(c, c->i, word);
		c->mode = M_CHAIN;
		return 0;
	}
	if ((ends == MATCH_MORE || starts == MATCH_MORE) && !final)
		return 1;
	return chain_fails(c);
}

int calls_begin_chain(struct calls *c, const char *marker)
{
	c->at = c->i;
	c->marker_n = strlen(marker);
	if (held_is_dead(&c->held, c->at, DEAD_START)) {
		c->i = c->solid = c->at + c->marker_n;
		return 0;
	}
	c->n_chain = c->n_spans = 0;
	c->chain_text.n = 0;
	calls_begin_attempt(c, c->at, marker);
	c->mode = M_CHAIN;
	return 0;
}
