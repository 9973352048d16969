/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/prefix_tree.h: what sequences have computed, to be taken up again: one tree over tokens.
 *
 * A node is a page: up to KV_BLOCK tokens and the page with their keys and values. Only full nodes
 * have children; siblings may begin alike. The way from the root to a token is a sequence's beginning,
 * and the page of each node is right for it alone, since keys and values depend on all before. A
 * point is a copy of the recurrent state at one position; models that have such a state can be taken
 * up at points only, others at any position.
 *
 * What is asked for is compared by text: a cached token stands for other tokens of the same bytes (an
 * answer comes back as text, and may be cut into tokens otherwise), control tokens for themselves
 * alone. Tenants see their own sequences.
 *
 * The tree holds pages (pages.h) and writes none: whoever adds a point fills its pages. It knows no
 * sequences, no requests and no clock but the number of look-ups. Engine thread, between steps.
 */
#ifndef SLUICE_ENGINE_PREFIX_TREE_H
#define SLUICE_ENGINE_PREFIX_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/pages.h"
#include "kernels/cpu/kv_block.h"

struct prefix_tree;
struct prefix_node;
struct prefix_point;

/* Why a point is where it is; the later ones are kept longer. */
enum prefix_kind {
	PREFIX_OLD,    /* a newer one of its kind came behind it */
	PREFIX_EVERY,  /* some way into a long prompt */
	PREFIX_FORK,   /* where a request left what was cached */
	PREFIX_PROMPT, /* before the last generation prompt */
	PREFIX_USER,   /* the end of a user's message */
	PREFIX_ANSWER, /* the end of an answer */
	PREFIX_SYSTEM, /* behind system text and tools */
};

struct prefix_config {
	struct pages *pages;
	bool has_cache;	      /* nodes have pages; else they are tokens only */
	uint32_t state_pages; /* of a point; 0: every position can be taken up */
	/* The bytes of token @id; true: it is a control token, which stands for itself alone. */
	bool (*piece)(void *arg, uint32_t id, const char **ret_bytes, size_t *ret_n);
	void *arg;
};

int prefix_tree_create(const struct prefix_config *config, struct prefix_tree **ret);
void prefix_tree_destroy(struct prefix_tree *t); /* drops all pages; NULL is fine */

/* A beginning that is cached. Valid until the tree changes. */
struct prefix_match {
	struct prefix_node *node;
	struct prefix_point *point; /* NULL: none is needed */
	uint32_t n;		    /* positions; 0: nothing was found */
	uint32_t n_asked;	    /* tokens asked for that they stand for: < n of prefix_find() */
	uint32_t fork;		    /* tokens asked for that are cached, point or not: >= n_asked */
};

/*
 * The longest beginning of @ids that can be taken up and leaves one token at least. @exact: token by
 * token, not by text. Counts as a use of all that it goes through.
 */
void prefix_find(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
		 bool exact, struct prefix_match *ret);
/* Its tokens (@ids: n of them) and pages (@pages: n / KV_BLOCK rounded up). Either may be NULL. */
void prefix_get(const struct prefix_match *m, uint32_t *ids, uint32_t *pages);
/* The pages of its point. */
const uint32_t *prefix_state(const struct prefix_match *m);

/*
 * Adds the first @n positions of a sequence: tokens and the pages that they lie in, which are held
 * from now on. The last one may be written on by who took it, behind position @n. @known: it began
 * with something that was taken up, and is worth as much. 0 or -ENOMEM: then a beginning of it may be
 * there.
 */
int prefix_add(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
	       const uint32_t *pages, bool known);
/*
 * A point at the end of what prefix_add() was given just now. 0, and *ret_pages are to be filled with
 * the state, or NULL where there is one already; -ENOSPC where too few pages are free, -ENOMEM.
 */
int prefix_add_point(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
		     enum prefix_kind kind, bool known, const uint32_t **ret_pages);
/* The same with a state that is in @pages already: they are taken over in any case. 0 or -ENOMEM. */
int prefix_adopt_point(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
		       enum prefix_kind kind, const uint32_t *pages);

/* The points on the way to what was found, ascending, the last @max of them. Returns their number. */
struct prefix_on_way {
	uint32_t at; /* positions */
	enum prefix_kind kind;
	const uint32_t *pages;
};
uint32_t prefix_points(const struct prefix_match *m, struct prefix_on_way *ret, uint32_t max);

/*
 * Forgets the end of what was found, back to where another sequence parts from it. Returns how many
 * of its tokens are gone.
 */
uint32_t prefix_forget(struct prefix_tree *t, const struct prefix_match *m);

/* For whom room is made: what may go for it. */
enum prefix_need {
	PREFIX_FOR_NEW,	  /* a beginning that was never taken up: not for what was, nor for what is
			  * longer and was there among the last requests */
	PREFIX_FOR_KNOWN, /* one that was taken up */
	PREFIX_FOR_LIFE,  /* sequences that run: anything */
};

/*
 * Forgets what is worth least until @want pages are free: first what was never taken up again, the
 * oldest first; of a beginning its end first. @length and @kind: of what is to be kept there, in
 * positions, which nothing gives way to that is worth more; not looked at for PREFIX_FOR_LIFE. False:
 * fewer are free.
 */
bool prefix_make_free(struct prefix_tree *t, uint32_t want, enum prefix_need need, uint32_t length,
		      enum prefix_kind kind);

/* Pages that nobody else holds: the most that PREFIX_FOR_LIFE can free. */
uint32_t prefix_can_free(const struct prefix_tree *t);

/* For the status: nodes and points, which are counted as they come and go. */
void prefix_count(const struct prefix_tree *t, uint32_t *ret_nodes, uint32_t *ret_points);

#endif
