/* SPDX-License-Identifier: MIT */
/* daemon/plan/here.c: the numbers of this machine for plan_make(). See plan.h. */
#include <string.h>

#include "base/num.h"
#include "engine/topology.h"
#include "plan/plan.h"
#include "store/reader.h"

#define USUAL_ALIGN 4096 /* of direct reads on nearly every disk */

uint32_t plan_read_align(const struct model *m)
{
	struct reader_config config = { .kind = READER_PREAD, .depth = 1 };
	struct reader *r;
	uint32_t align;

	if (!m || reader_create(m->gguf, &config, &r, NULL))
		return USUAL_ALIGN;
	align = reader_align(r);
	reader_destroy(r);
	return align;
}

void plan_machine_here(const char *root, const struct model *m, struct plan_machine *ret)
{
	memset(ret, 0, sizeof(*ret));
	limits_read(root, &ret->limits);
	ret->assume_bytes = limits_assume_bytes();
	ret->cores = topology_cores();
	ret->align = plan_read_align(m);
}

uint64_t plan_room_on(const struct telemetry_node *n)
{
	uint64_t room, huge = 0;

	if (n->free_bytes == TELEMETRY_UNKNOWN)
		return UINT64_MAX;
	room = n->free_bytes + (n->file_bytes == TELEMETRY_UNKNOWN ? 0 : n->file_bytes);
	for (uint32_t i = 0; i < n->n_huge; i++)
		if (n->huge[i].page_bytes == 2 << 20 && n->huge[i].free != TELEMETRY_UNKNOWN)
			huge = n->huge[i].free * n->huge[i].page_bytes;
	return u64_max(room, huge);
}

static struct bandwidth_node describe(const struct telemetry_snapshot *now,
				      const struct telemetry_node *node)
{
	uint64_t load = telemetry_node_load(now, node->id);

	return (struct bandwidth_node){
		.id = node->id,
		.free_bytes = plan_room_on(node),
		.peak_bytes_per_s = node->peak_bytes_per_s == TELEMETRY_UNKNOWN
					    ? 0
					    : (double)node->peak_bytes_per_s,
		.in_use = load == TELEMETRY_UNKNOWN ? -1 : (double)load / 1000,
	};
}

uint32_t plan_nodes(const struct telemetry_snapshot *now, struct bandwidth_node *ret, uint32_t max)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < now->n_nodes && n < max; i++)
		if (now->nodes[i].total_bytes) /* else CPUs without memory */
			ret[n++] = describe(now, &now->nodes[i]);
	return n;
}

bool plan_link(const struct telemetry_snapshot *now, const char *bdf, double *ret_capacity,
	       double *ret_in_use)
{
	bool known = false;

	*ret_capacity = *ret_in_use = 0;
	for (uint32_t i = 0; i < now->n_gpus; i++)
		if (!strcmp(now->gpus[i].bdf, bdf) &&
		    now->gpus[i].rx_bytes_per_s != TELEMETRY_UNKNOWN) {
			*ret_in_use = (double)now->gpus[i].rx_bytes_per_s;
			known = true;
		}
	for (uint32_t i = 0; i < now->n_pci && known; i++)
		if (!strcmp(now->pci[i].bdf, bdf) &&
		    now->pci[i].bandwidth_bytes_per_s != TELEMETRY_UNKNOWN)
			*ret_capacity = (double)now->pci[i].bandwidth_bytes_per_s;
	return known;
}

void plan_machine_nodes(const struct telemetry_snapshot *now, struct plan_machine *ret)
{
	ret->n_nodes = 0;
	for (uint32_t i = 0; i < now->n_nodes && ret->n_nodes < NODES_KNOWN; i++)
		if (now->nodes[i].total_bytes)
			ret->nodes[ret->n_nodes++] =
				(struct plan_node){ .memory = describe(now, &now->nodes[i]),
						    .cpus = now->nodes[i].n_cpus };
	ret->vram_bytes = 0;
	for (uint32_t i = 0; i < now->n_gpus; i++)
		if (now->gpus[i].memory_total_bytes != TELEMETRY_UNKNOWN)
			ret->vram_bytes = u64_max(ret->vram_bytes, now->gpus[i].memory_total_bytes);
}
