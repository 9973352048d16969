/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/placement.h: which share of every expert each NUMA node holds, and how hard the
 * machine may be worked beside decoding.
 *
 * Both are pure functions of what telemetry measured. The time of a layer is that of the slowest
 * node, so a node's share follows the bandwidth that it has left: its peak times what nobody uses.
 * Nodes without workers (memory expanders) hold something only when the others are full.
 */
#ifndef SLUICE_POLICY_PLACEMENT_H
#define SLUICE_POLICY_PLACEMENT_H

#include <stdint.h>

#include "base/nodes.h"

/* The bandwidth input: what telemetry says of one node's memory. */
struct bandwidth_node {
	int32_t id;
	uint32_t workers;	 /* compute threads pinned there */
	uint64_t free_bytes;	 /* that the experts may take; UINT64_MAX: unknown */
	double peak_bytes_per_s; /* of its memory, 0: unknown */
	double in_use;		 /* share of the peak in use now, 0 .. 1; negative: unknown */
};

/*
 * Shares of @bytes for the nodes. In proportion to peak * (1 - in_use) where every node with workers
 * has a known peak (an unknown use counts as none), else to their workers; never more of @bytes than
 * a node has free, as long as the machine has room at all. Nodes with no share are left out; one node,
 * or more than NODES_SPLIT of them: no cut.
 */
void placement_choose(const struct bandwidth_node *nodes, uint32_t n_nodes, uint64_t bytes,
		      struct node_split *ret);

/*
 * How many background reads may be in flight while nothing is decoded, so that what uses the memory
 * then is other programs: @most where it is less than half used or nothing is known of it, down to
 * 1 at nine tenths of the busiest node with workers. Reads for experts that are needed now are
 * never held back.
 */
uint32_t placement_fill_depth(const struct bandwidth_node *nodes, uint32_t n_nodes, uint32_t most);

#endif
