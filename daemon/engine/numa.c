/* SPDX-License-Identifier: MIT */
/* daemon/engine/numa.c: see numa.h. */
#include "engine/numa.h"

#include <errno.h>
#include <numa.h>
#include <string.h>

#include "base/num.h"

#define KEEP_FREE 16 /* one part in this many of a node's memory stays the system's */

static uint32_t ask_libnuma(struct bandwidth_node ret[NODES_KNOWN])
{
	struct bitmask *mems;
	uint32_t n = 0;

	if (numa_available() < 0)
		return 0;
	mems = numa_get_mems_allowed();
	for (int id = 0; mems && id <= numa_max_node() && n < NODES_KNOWN; id++) {
		long long bytes = numa_node_size64(id, NULL);

		if (!numa_bitmask_isbitset(mems, (unsigned)id) || bytes <= 0)
			continue;
		ret[n++] = (struct bandwidth_node){ .id = id,
						    .free_bytes = (uint64_t)bytes,
						    .in_use = -1 };
	}
	if (mems)
		numa_bitmask_free(mems);
	return n;
}

uint32_t nodes_describe(const struct engine_config *config, const struct team *team,
			struct bandwidth_node ret[NODES_KNOWN])
{
	uint32_t n = config->bandwidth ? config->bandwidth(config->bandwidth_arg, ret, NODES_KNOWN)
				       : 0;

	if (!n)
		n = ask_libnuma(ret);
	for (uint32_t i = 0; i < n; i++) {
		ret[i].workers = 0;
		for (unsigned tid = 0; tid < team_size(team); tid++)
			ret[i].workers += team_node(team, tid) == ret[i].id;
	}
	return n;
}

/*
 * On some virtual machines the nodes' files tell of less than half of what /proc/meminfo does. The
 * machine is as large as its larger view: what the nodes lack is dealt to them in proportion.
 */
static void scale_to_machine(struct bandwidth_node *nodes, uint32_t n, const struct limits *limits)
{
	uint64_t sum = 0;

	if (!limits || limits->available_bytes == LIMITS_UNKNOWN)
		return;
	for (uint32_t i = 0; i < n; i++)
		if (nodes[i].free_bytes == UINT64_MAX ||
		    u64_add_overflow(sum, nodes[i].free_bytes, &sum))
			return;
	if (!sum || sum >= limits->available_bytes)
		return;
	for (uint32_t i = 0; i < n; i++)
		nodes[i].free_bytes = (uint64_t)((double)nodes[i].free_bytes / (double)sum *
						 (double)limits->available_bytes);
}

int nodes_parse(const char *text, int *ret_numa, struct err *err)
{
	if (!strcmp(text, "auto"))
		*ret_numa = ENGINE_NUMA_AUTO;
	else if (!strcmp(text, "off"))
		*ret_numa = ENGINE_NUMA_OFF;
	else if (!strncmp(text, "split:", 6) && text[6] >= '1' && text[6] <= '8' && !text[7])
		*ret_numa = text[6] - '0';
	else
		return err_set(err, -EINVAL, "%s is not auto, off or split:1 to split:8", text);
	return 0;
}

struct node_split nodes_split(int numa, const struct bandwidth_node *known, uint32_t n,
			      const struct limits *limits, uint64_t bytes)
{
	struct bandwidth_node nodes[NODES_KNOWN];
	struct node_split split = node_split_one();

	if (numa == ENGINE_NUMA_OFF)
		return split;
	if (numa > 0) { /* rows cut without nodes to bind them to */
		split.n = (uint32_t)numa;
		for (uint32_t i = 0; i < split.n; i++) {
			split.node[i] = -1;
			split.share[i] = NODES_SHARE / split.n;
		}
		split.share[0] += NODES_SHARE % split.n;
		return split;
	}
	n = n < NODES_KNOWN ? n : NODES_KNOWN;
	for (uint32_t i = 0; i < n; i++)
		nodes[i] = known[i];
	scale_to_machine(nodes, n, limits);
	for (uint32_t i = 0; i < n; i++)
		if (nodes[i].free_bytes != UINT64_MAX)
			nodes[i].free_bytes -= nodes[i].free_bytes / KEEP_FREE;
	placement_choose(nodes, n, bytes, &split);
	if (split.n == 1 && n <= 1)
		split.node[0] = -1; /* nothing to bind: there is one node */
	return split;
}
