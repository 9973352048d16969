/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/prefix_value.c: what the prefix tree forgets first. See prefix_tree.h.
 *
 * Worth grows from points that a newer one has replaced, over those within a prompt, to the newest
 * end of an answer, of a user's message, and of system and tools; what was taken up again among the
 * last requests is worth more than all that was not. A page whose end no point is on is worth nothing
 * to a model that needs points. Among equals the one that was used longest ago goes first.
 */
#include "engine/prefix_private.h"

#define RECENT	  64 /* look-ups in which a use counts */
#define MANY	  2  /* uses of a point by those who went on from it, each in its own way */
#define PROTECTED 16 /* added to the worth of what was taken up again */
#define YOUNG	  16 /* look-ups in which a newcomer does not displace something longer */

/* A point, or a leaf where that is NULL. */
struct victim {
	struct prefix_node *node;
	struct prefix_point *point;
	unsigned worth;
	uint64_t used;
};

static unsigned worth_of(const struct prefix_tree *t, unsigned base, uint32_t hits, uint64_t used)
{
	return base + (hits && t->now - used < RECENT ? PROTECTED : 0);
}

static const unsigned kind_worth[] = {
	[PREFIX_OLD] = 1,  [PREFIX_EVERY] = 2,	[PREFIX_FORK] = 2,   [PREFIX_PROMPT] = 3,
	[PREFIX_USER] = 4, [PREFIX_ANSWER] = 4, [PREFIX_SYSTEM] = 5,
};

/* An end of a chat is taken up by its next turn; where several began is as good as a system's text. */
static unsigned point_worth(const struct prefix_tree *t, const struct prefix_point *p)
{
	unsigned base = kind_worth[p->hits > MANY ? PREFIX_SYSTEM : p->kind];

	return worth_of(t, base, p->hits, p->used);
}

/* What asks for room. */
struct asker {
	enum prefix_need need;
	uint32_t length;
	unsigned worth;
};

static bool may_go(const struct prefix_tree *t, const struct victim *v, const struct asker *a)
{
	if (a->need == PREFIX_FOR_LIFE)
		return true;
	if (v->worth > a->worth)
		return false;
	return a->need == PREFIX_FOR_KNOWN || t->now - v->used > YOUNG ||
	       (v->node->depth + 1) * KV_BLOCK <= a->length + KV_BLOCK;
}

static void consider(const struct prefix_tree *t, struct victim v, const struct asker *a,
		     struct victim *best)
{
	if (best->node &&
	    (v.worth > best->worth || (v.worth == best->worth && v.used >= best->used)))
		return;
	if (may_go(t, &v, a))
		*best = v;
}

static bool gives_room(const struct prefix_tree *t, const struct prefix_node *n)
{
	return n->page == PAGE_NONE || page_holders(t->c.pages, n->page) == 1;
}

static struct victim least_worth(const struct prefix_tree *t, const struct asker *a)
{
	struct victim best = { 0 };

	for (struct prefix_node *n = t->nodes; n; n = n->list_next) {
		struct victim v = { .node = n, .used = n->used };

		for (struct prefix_point *p = n->points; p; p = p->next)
			consider(t,
				 (struct victim){ .node = n,
						  .point = p,
						  .worth = point_worth(t, p),
						  .used = p->used },
				 a, &best);
		if (n->child || n->points || !gives_room(t, n))
			continue;
		if (!t->c.state_pages)
			v.worth = worth_of(t, 4, n->hits, n->used);
		consider(t, v, a, &best);
	}
	return best;
}

/*
 * Forgets a victim, and where it was the end of something the pages before it that are worth no more,
 * while they are needed.
 */
static void forget(struct prefix_tree *t, const struct victim *v, uint32_t want)
{
	struct prefix_node *n = v->node, *parent;

	if (v->point) {
		prefix_drop_point(t, n, v->point);
		return;
	}
	do {
		parent = n->parent;
		prefix_drop_node(t, n);
		n = parent;
	} while (t->c.pages->n_free < want && n && !n->child && !n->points && gives_room(t, n) &&
		 n->used <= v->used &&
		 (t->c.state_pages || worth_of(t, 4, n->hits, n->used) <= v->worth));
}

bool prefix_make_free(struct prefix_tree *t, uint32_t want, enum prefix_need need, uint32_t length,
		      enum prefix_kind kind)
{
	struct asker a = { .need = need, .length = length, .worth = kind_worth[kind] };

	if (need == PREFIX_FOR_KNOWN)
		a.worth += PROTECTED;
	while (t->c.pages->n_free < want) {
		struct victim v = least_worth(t, &a);

		if (!v.node)
			return false;
		forget(t, &v, want);
	}
	return true;
}

uint32_t prefix_can_free(const struct prefix_tree *t)
{
	uint32_t count = 0;

	for (const struct prefix_node *n = t->nodes; n; n = n->list_next) {
		count += n->page != PAGE_NONE && gives_room(t, n);
		for (const struct prefix_point *p = n->points; p; p = p->next)
			for (uint32_t i = 0; i < t->c.state_pages; i++)
				count += page_holders(t->c.pages, p->pages[i]) == 1;
	}
	return count;
}
