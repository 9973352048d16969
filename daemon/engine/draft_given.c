/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/draft_given.c: a draft that came with the request: the answer as somebody expects it,
 * token for token (struct request.draft). For studies: `sluice bench --spec-oracle`. It stands at
 * the answer's own positions: a wrong token in it costs that token alone. Engine thread.
 */
#include "engine/draft.h"

#include <errno.h>
#include <stdlib.h>

struct given {
	const uint32_t *ids; /* the request's */
	uint32_t n, n_prompt, len;
};

static uint64_t bytes(const struct draft_config *c)
{
	return sizeof(struct given);
}

static int create(const struct draft_config *c, void **ret)
{
	*ret = calloc(1, sizeof(struct given));
	return *ret ? 0 : -ENOMEM;
}

static void begin(void *d, const struct request *r)
{
	*(struct given *)d = (struct given){ r->draft, r->n_draft, r->n_tokens, 0 };
}

static void grow(void *d, const uint32_t *ids, uint32_t n)
{
	((struct given *)d)->len += n;
}

static uint32_t guess(void *d, uint32_t most, struct draft_guess *ret)
{
	const struct given *g = d;
	uint32_t n = 0, at = g->len - g->n_prompt;

	if (g->len < g->n_prompt)
		return 0;
	for (; n < most && at + n < g->n; n++)
		ret[n] = (struct draft_guess){ .id = g->ids[at + n] };
	return n;
}

static float expect(uint32_t class)
{
	return 0.7f;
}

const struct draft_ops draft_given = {
	.name = "given",
	.bytes = bytes,
	.create = create,
	.destroy = free,
	.begin = begin,
	.add = grow,
	.guess = guess,
	.expect = expect,
	.is_alone = true,
};
