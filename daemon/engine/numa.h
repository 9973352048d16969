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

/*
 * How to cut @bytes of experts: config->numa decides, "auto" by placement_choose(). Where the nodes
 * together tell of less free memory than config->limits, that is dealt to them in proportion.
 */
struct node_split nodes_split(const struct engine_config *config, const struct team *team,
			      uint64_t bytes);

#endif
