/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/draft_ngram.c: drafts from the sequence's own tokens: what followed the last place
 * where it ended as it does now.
 *
 * For each of a few lengths a table leads from the hash of so many tokens to the place after their
 * last occurrence; the longest that occurred is taken. A table's entry may be another suffix's, or an
 * older sequence's: the tokens themselves are compared. Memory is linear in the context, a token
 * costs one look into each table. Engine thread.
 */
#include "engine/draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static const uint32_t lengths[] = { 2, 3, 5, 8 }; /* tokens; guesses are classed by them */

#define N_LENGTHS ARRAY_LEN(lengths)

struct ngram {
	uint32_t n_ctx, mask; /* of the tables */
	uint32_t *ids;	      /* [n_ctx] the sequence */
	uint32_t *table[N_LENGTHS];
	uint32_t len;
	uint32_t found, length; /* where what followed begins, and by which length; 0: nowhere */
};

static uint32_t entries(uint32_t n_ctx)
{
	uint32_t n = 16;

	while (n < n_ctx && n < 1u << 30)
		n *= 2;
	return n;
}

static uint64_t bytes(const struct draft_config *c)
{
	return sizeof(struct ngram) +
	       ((uint64_t)c->n_ctx + (uint64_t)N_LENGTHS * entries(c->n_ctx)) * sizeof(uint32_t);
}

static void destroy(void *d)
{
	struct ngram *g = d;

	if (!g)
		return;
	for (unsigned i = 0; i < N_LENGTHS; i++)
		free(g->table[i]);
	free(g->ids);
	free(g);
}

static int create(const struct draft_config *c, void **ret)
{
	struct ngram *g = calloc(1, sizeof(*g));
	bool all = g != NULL;

	if (!g)
		return -ENOMEM;
	g->n_ctx = c->n_ctx;
	g->ids = calloc(c->n_ctx, sizeof(*g->ids));
	for (unsigned i = 0; i < N_LENGTHS; i++) {
		g->table[i] = calloc(entries(c->n_ctx), sizeof(*g->table[i]));
		all &= g->table[i] != NULL;
	}
	if (!all || !g->ids) {
		destroy(g);
		return -ENOMEM;
	}
	*ret = g;
	return 0;
}

static void begin(void *d, const struct request *r)
{
	struct ngram *g = d;
	uint64_t most = (uint64_t)r->n_tokens + r->max_tokens;

	/* a short request does not pay for clearing what a long context needs */
	g->mask = entries((uint32_t)u64_min(most, g->n_ctx)) - 1;
	for (unsigned i = 0; i < N_LENGTHS; i++)
		memset(g->table[i], 0, ((size_t)g->mask + 1) * sizeof(*g->table[i]));
	g->len = g->found = g->length = 0;
}

/* Of the last @n tokens. Multiplication by an odd constant, as FNV does it, a word at a time. */
static uint32_t hash_suffix(const struct ngram *g, uint32_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (uint32_t i = g->len - n; i < g->len; i++)
		h = (h ^ g->ids[i]) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 32) & g->mask;
}

/* Is what ends before @at the same as the last @n tokens? */
static bool same(const struct ngram *g, uint32_t at, uint32_t n)
{
	return at >= n && at < g->len &&
	       !memcmp(g->ids + at - n, g->ids + g->len - n, n * sizeof(*g->ids));
}

static void add_one(struct ngram *g, uint32_t id)
{
	if (g->len == g->n_ctx)
		return;
	g->ids[g->len++] = id;
	g->found = g->length = 0;
	for (unsigned i = 0; i < N_LENGTHS && lengths[i] <= g->len; i++) {
		uint32_t *entry = &g->table[i][hash_suffix(g, lengths[i])];

		if (same(g, *entry, lengths[i])) {
			g->found = *entry;
			g->length = i;
		}
		*entry = g->len;
	}
}

static void add(void *d, const uint32_t *ids, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		add_one(d, ids[i]);
}

static uint32_t guess(void *d, uint32_t most, struct draft_guess *ret)
{
	const struct ngram *g = d;

	if (!g->found)
		return 0;
	for (uint32_t i = 0; i < most; i++) {
		uint32_t at = g->found + i;

		/* what follows reaches the end: it goes on with itself */
		ret[i].id = at < g->len ? g->ids[at] : ret[at - g->len].id;
		ret[i].class = g->length;
	}
	return most;
}

static float expect(uint32_t class)
{
	static const float shares[] = { 0.3f, 0.45f, 0.6f, 0.8f };

	return class < ARRAY_LEN(shares) ? shares[class] : 0.5f;
}

const struct draft_ops draft_ngram = {
	.name = "ngram",
	.bytes = bytes,
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.add = add,
	.guess = guess,
	.expect = expect,
};
