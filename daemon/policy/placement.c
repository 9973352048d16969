/* SPDX-License-Identifier: MIT */
/* daemon/policy/placement.c: see placement.h. */
#include "policy/placement.h"

#include <string.h>

#define LEAST_USE 0.05 /* a node is never counted as busier than all but this */
#define CALM	  0.5
#define BUSY	  0.9

static double free_share(const struct bandwidth_node *b)
{
	double left = b->in_use > 0 ? 1 - b->in_use : 1;

	return left < LEAST_USE ? LEAST_USE : left;
}

/* What each node's share is in proportion to. @peaks: all that count have one. */
static double weigh(const struct bandwidth_node *b, int peaks)
{
	double alone = b->workers ? b->workers : 1;

	return peaks ? b->peak_bytes_per_s * free_share(b) : alone;
}

/*
 * Deals @bytes to the nodes that @want says, in proportion to @weight and no more than each has
 * room for; a node that is full is set aside and the rest dealt again. Returns what is left over.
 */
static double deal(const struct bandwidth_node *nodes, uint32_t n, const double *weight,
		   const uint8_t *want, double bytes, double *given)
{
	for (uint32_t round = 0; round < n && bytes >= 1; round++) {
		double sum = 0, rest = 0;

		for (uint32_t i = 0; i < n; i++)
			if (want[i] && given[i] < (double)nodes[i].free_bytes)
				sum += weight[i];
		if (sum <= 0)
			break;
		for (uint32_t i = 0; i < n; i++) {
			double room = (double)nodes[i].free_bytes - given[i];
			double part = bytes * weight[i] / sum;

			if (!want[i] || room <= 0)
				continue;
			if (part > room) {
				rest += part - room;
				part = room;
			}
			given[i] += part;
		}
		bytes = rest;
	}
	return bytes;
}

static void round_shares(const struct bandwidth_node *nodes, uint32_t n, const double *given,
			 double total, struct node_split *ret)
{
	uint32_t left = NODES_SHARE, largest = 0;

	ret->n = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t share = (uint32_t)(given[i] / total * NODES_SHARE);

		if (!share || ret->n == NODES_SPLIT)
			continue;
		ret->node[ret->n] = nodes[i].id;
		ret->share[ret->n] = share;
		left -= share;
		if (share > ret->share[largest])
			largest = ret->n;
		ret->n++;
	}
	ret->share[largest] += left; /* what rounding left */
}

void placement_choose(const struct bandwidth_node *nodes, uint32_t n_nodes, uint64_t bytes,
		      struct node_split *ret)
{
	uint32_t n = n_nodes < NODES_KNOWN ? n_nodes : NODES_KNOWN, n_workers = 0, n_used = 0;
	double weight[NODES_KNOWN] = { 0 }, given[NODES_KNOWN] = { 0 }, total = 0, rest;
	uint8_t local[NODES_KNOWN] = { 0 }, remote[NODES_KNOWN] = { 0 };
	int peaks = 1;

	for (uint32_t i = 0; i < n; i++) {
		local[i] = nodes[i].workers > 0;
		remote[i] = !local[i];
		n_workers += local[i];
		if (local[i] && !(nodes[i].peak_bytes_per_s > 0))
			peaks = 0;
	}
	for (uint32_t i = 0; i < n; i++)
		weight[i] = weigh(&nodes[i], peaks);
	rest = deal(nodes, n, weight, n_workers ? local : remote, (double)bytes, given);
	if (rest >= 1)
		deal(nodes, n, weight, remote, rest, given);
	for (uint32_t i = 0; i < n; i++) {
		total += given[i];
		n_used += given[i] > 0;
	}
	memset(ret, 0, sizeof(*ret));
	if (n_used >= 1 && n_used <= NODES_SPLIT && n_nodes <= NODES_KNOWN)
		round_shares(nodes, n, given, total, ret);
	if (ret->n <= 1)
		*ret = (struct node_split){ .n = 1,
					    .node = { n_used == 1 ? ret->node[0] : -1 },
					    .share = { NODES_SHARE } };
}

uint32_t placement_fill_depth(const struct bandwidth_node *nodes, uint32_t n_nodes, uint32_t most)
{
	double busiest = 0;

	for (uint32_t i = 0; i < n_nodes; i++)
		if (nodes[i].workers && nodes[i].in_use > busiest)
			busiest = nodes[i].in_use;
	if (most <= 1 || busiest <= CALM)
		return most;
	if (busiest >= BUSY)
		return 1;
	return 1 + (uint32_t)((most - 1) * (BUSY - busiest) / (BUSY - CALM));
}
