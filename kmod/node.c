// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
/*
 * Memory of each NUMA node, from the counters the kernel keeps anyway: what
 * /sys/devices/system/node/nodeN/meminfo shows, without its text. Called by the sampler with its
 * lock held. The helpers that sum these up are not exported, so the arrays are read directly; they
 * need no lock. A node that goes offline keeps its pgdat.
 */
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/nodemask.h>
#include <linux/topology.h>
#include <linux/vmstat.h>

#include "sluice.h"

u32 node_list(struct sampler *s, bool *ret_truncated)
{
	u32 nr = 0;
	int nid;

	*ret_truncated = num_possible_nodes() > SLUICE_MAX_NODES;
	nid = first_node(node_possible_map);
	while (nid < MAX_NUMNODES && nr < SLUICE_MAX_NODES) {
		s->node_ids[nr++] = nid;
		nid = next_node(nid, node_possible_map);
	}
	return nr;
}

/* The counters may dip below zero for a moment: CPUs fold their parts in at different times. */
static u64 node_bytes(const struct pglist_data *pgdat, enum node_stat_item item)
{
	long pages = atomic_long_read(&pgdat->vm_stat[item]);

	return pages < 0 ? 0 : (u64)pages << PAGE_SHIFT;
}

static void sum_zones(struct pglist_data *pgdat, struct sluice_node *out)
{
	u64 managed = 0, free = 0;
	int i;

	for (i = 0; i < MAX_NR_ZONES; i++) {
		struct zone *zone = &pgdat->node_zones[i];

		managed += zone_managed_pages(zone);
		free += zone_page_state(zone, NR_FREE_PAGES);
	}
	out->total_bytes = managed << PAGE_SHIFT;
	out->free_bytes = free << PAGE_SHIFT;
}

static void fill_online(struct sluice_node *out, int nid)
{
	struct pglist_data *pgdat = NODE_DATA(nid);

	sum_zones(pgdat, out);
	out->file_bytes = node_bytes(pgdat, NR_FILE_PAGES);
	out->anon_bytes = node_bytes(pgdat, NR_ANON_MAPPED);
	out->shmem_bytes = node_bytes(pgdat, NR_SHMEM);
	out->dirty_bytes = node_bytes(pgdat, NR_FILE_DIRTY);
	out->writeback_bytes = node_bytes(pgdat, NR_WRITEBACK);
	out->slab_reclaimable_bytes = node_bytes(pgdat, NR_SLAB_RECLAIMABLE_B);
	out->slab_unreclaimable_bytes = node_bytes(pgdat, NR_SLAB_UNRECLAIMABLE_B);
	out->anon_thp_bytes = node_bytes(pgdat, NR_ANON_THPS);
	out->shmem_thp_bytes = node_bytes(pgdat, NR_SHMEM_THPS);
	out->file_thp_bytes = node_bytes(pgdat, NR_FILE_THPS);
	out->flags = SLUICE_NODE_ONLINE;
	out->flags |= node_state(nid, N_CPU) ? SLUICE_NODE_HAS_CPU : 0;
	out->flags |= node_state(nid, N_MEMORY) ? SLUICE_NODE_HAS_MEMORY : 0;
}

void node_sample(struct sampler *s)
{
	struct sluice_page *head = s->shadow;
	u32 i, j;

	head->node_ops = 0;
	for (i = 0; i < head->node_nr; i++) {
		struct sluice_node *out = &page_node(head)[i];
		int nid = s->node_ids[i];

		memset(out, 0, sizeof(*out));
		out->node = nid;
		out->updated_ns = head->updated_ns;
		if (!node_online(nid))
			continue;
		fill_online(out, nid);
		for (j = 0; j < head->node_nr; j++)
			if (node_online(s->node_ids[j]))
				out->distance[j] = node_distance(nid, s->node_ids[j]);
		head->node_ops++;
	}
}
