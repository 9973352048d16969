/* SPDX-License-Identifier: MIT */
/*
 * base/nodes.h: how the rows of a matrix are dealt out to NUMA nodes, and how many nodes there can be.
 *
 * Every expert matrix (and every dense one) is cut into runs of rows, one for each node, and each
 * run lies in that node's memory, where the workers of that node multiply it: all nodes' memory
 * controllers work on every expert at once, and no weight crosses the interconnect. One node: one
 * run. The cut depends on the split and the number of rows alone, so that the room that places
 * bytes (residency) and the one that computes (engine) agree without asking each other. The results
 * do not depend on it: a row is always computed whole.
 */
#ifndef SLUICE_BASE_NODES_H
#define SLUICE_BASE_NODES_H

#include <stdint.h>

#define NODES_KNOWN   64    /* nodes that are looked at: their numbers are below this */
#define NODES_SPLIT   8	    /* nodes that share experts; more of them: memory is interleaved */
#define NODES_SHARE   65536 /* the sum of the shares */
#define NODES_GRANULE 16    /* rows: what the kernels unpack together */

struct node_split {
	uint32_t n;		     /* 1 .. NODES_SPLIT */
	int32_t node[NODES_SPLIT];   /* the kernel's node numbers; -1: memory is not bound */
	uint32_t share[NODES_SPLIT]; /* of NODES_SHARE */
};

/* Everything in one run, anywhere. */
static inline struct node_split node_split_one(void)
{
	return (struct node_split){ .n = 1, .node = { -1 }, .share = { NODES_SHARE } };
}

/* Rows [*ret_first, *ret_end) of @n_rows are node @i's; may be empty. */
static inline void node_split_rows(const struct node_split *s, uint64_t n_rows, uint32_t i,
				   uint64_t *ret_first, uint64_t *ret_end)
{
	uint64_t before = 0, end;

	for (uint32_t k = 0; k < i; k++)
		before += s->share[k];
	end = n_rows * (before + s->share[i]) / NODES_SHARE / NODES_GRANULE * NODES_GRANULE;
	*ret_first = n_rows * before / NODES_SHARE / NODES_GRANULE * NODES_GRANULE;
	*ret_end = i + 1 == s->n ? n_rows : end;
}

#endif
