/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/prefix_private.h: nodes of the prefix tree, shared by prefix_tree.c (looking up, adding) and
 * prefix_value.c (forgetting). Nobody else includes it.
 */
#ifndef SLUICE_ENGINE_PREFIX_PRIVATE_H
#define SLUICE_ENGINE_PREFIX_PRIVATE_H

#include "engine/prefix_tree.h"

struct prefix_point {
	struct prefix_point *next;
	uint32_t at; /* tokens of its node that are before it: 1 .. KV_BLOCK */
	enum prefix_kind kind;
	uint32_t hits;
	uint64_t used;
	uint32_t pages[];
};

struct prefix_root {
	struct prefix_root *next;
	uint64_t tenant;
	struct prefix_node *child;
};

struct prefix_node {
	struct prefix_root *root;
	struct prefix_node *parent, *child, *next;   /* NULL parent: the first page */
	struct prefix_node *list_next, *list_before; /* of all */
	struct prefix_point *points;
	uint32_t depth; /* pages before it */
	uint32_t page;	/* PAGE_NONE: models without a cache */
	uint32_t hits;
	uint64_t used; /* look-up number */
	uint32_t n;
	uint32_t tokens[KV_BLOCK];
};

struct prefix_tree {
	struct prefix_config c;
	struct prefix_root *roots;
	struct prefix_node *nodes;
	uint32_t n_nodes, n_points;
	uint64_t now; /* look-ups so far */
};

void prefix_drop_point(struct prefix_tree *t, struct prefix_node *n, struct prefix_point *p);
/* A leaf, with its points. */
void prefix_drop_node(struct prefix_tree *t, struct prefix_node *n);

#endif
