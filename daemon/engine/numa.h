/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/numa.h: what the engine asks of the machine's NUMA nodes.
 *
 * Joins what is measured (from the caller's bandwidth source, else from libnuma) with where the
 * compute threads are, and lets policy/placement decide. Engine thread, and whoever creates it.
 */
#ifndef SLUICE_ENGINE_NUMA_H
#define SLUICE_ENGINE_NUMA_H

#include <stdint.h>

#include "engine/engine.h"
#include "engine/team.h"
#include "policy/placement.h"
#include "base/nodes.h"

/* Nodes with memory, workers filled in; returns their number, 0 where nothing is known. */
uint32_t nodes_describe(const struct engine_config *config, const struct team *team,
			struct bandwidth_node ret[NODES_KNOWN]);

/* "auto", "off" or "split:1" to "split:8" as struct engine_config has it; 0 or -EINVAL and a sentence. */
int nodes_parse(const char *text, int *ret_numa, struct err *err);

/*
 * How to cut @bytes of experts: @numa (struct engine_config) decides, "auto" by placement_choose() on
 * @nodes. Where the nodes together tell of less free memory than @limits (may be NULL), that is dealt
 * to them in proportion. Pure arithmetic.
 */
struct node_split nodes_split(int numa, const struct bandwidth_node *nodes, uint32_t n,
			      const struct limits *limits, uint64_t bytes);

#endif
