/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/merge.c: one sample out of those of several sources. What a better source said
 * stays; the next one fills the holes, datum by datum, and each datum keeps its own origin. Pure.
 */
#include <string.h>

#include "base/num.h"
#include "telemetry/telemetry.h"

static void fill(uint64_t *into, uint64_t from)
{
	if (*into == TELEMETRY_UNKNOWN)
		*into = from;
}

static bool lacks(const struct telemetry_origin *into, const struct telemetry_origin *from)
{
	return into->source == TELEMETRY_NONE && from->source != TELEMETRY_NONE;
}

static void merge_node(struct telemetry_node *into, const struct telemetry_node *from)
{
	if (into->socket < 0)
		into->socket = from->socket;
	if (!into->n_cpus)
		into->n_cpus = from->n_cpus;
	if (lacks(&into->memory, &from->memory))
		into->memory = from->memory;
	fill(&into->total_bytes, from->total_bytes);
	fill(&into->free_bytes, from->free_bytes);
	fill(&into->file_bytes, from->file_bytes);
	fill(&into->anon_bytes, from->anon_bytes);
	if (lacks(&into->hugepages, &from->hugepages)) {
		into->n_huge = from->n_huge;
		memcpy(into->huge, from->huge, sizeof(into->huge));
		into->hugepages = from->hugepages;
	}
	if (lacks(&into->distances, &from->distances)) {
		memcpy(into->distance, from->distance, sizeof(into->distance));
		into->distances = from->distances;
	}
	if (lacks(&into->numastat, &from->numastat)) {
		into->numa_hit = from->numa_hit;
		into->numa_miss = from->numa_miss;
		into->other_node = from->other_node;
		into->numastat = from->numastat;
	}
	if (lacks(&into->rate.origin, &from->rate.origin))
		into->rate = from->rate;
	if (lacks(&into->peak, &from->peak)) {
		into->peak_bytes_per_s = from->peak_bytes_per_s;
		into->read_latency_ns = from->read_latency_ns;
		into->write_latency_ns = from->write_latency_ns;
		into->peak = from->peak;
	}
}

static void merge_pci(struct telemetry_pci *into, const struct telemetry_pci *from)
{
	struct telemetry_pci was = *into;

	*into = *from;
	if (was.origin.source == TELEMETRY_NONE)
		return;
	into->origin = was.origin;
	if (was.node >= 0)
		into->node = was.node;
	if (was.class_code)
		into->class_code = was.class_code;
	/* Speed, width and judgement go together; of a link nobody else knows, theirs stays. */
	if (was.speed_mts != TELEMETRY_UNKNOWN || was.width != TELEMETRY_UNKNOWN) {
		into->speed_mts = was.speed_mts;
		into->width = was.width;
		fill(&was.max_speed_mts, from->max_speed_mts);
		fill(&was.max_width, from->max_width);
		into->max_speed_mts = was.max_speed_mts;
		into->max_width = was.max_width;
		into->below = was.below;
		into->may_idle = was.may_idle;
		into->degraded = was.degraded;
	}
	if (was.bandwidth_bytes_per_s != TELEMETRY_UNKNOWN) {
		into->bandwidth_bytes_per_s = was.bandwidth_bytes_per_s;
		memcpy(into->limit_bdf, was.limit_bdf, sizeof(into->limit_bdf));
	}
	if (was.asleep != TELEMETRY_MAYBE)
		into->asleep = was.asleep;
}

static bool has_socket(const struct telemetry_sample *s, uint32_t n, int socket)
{
	for (uint32_t i = 0; i < n; i++)
		if (s->counters[i].socket == socket)
			return true;
	return false;
}

static void merge_counters(struct telemetry_sample *into, const struct telemetry_sample *from)
{
	uint32_t had = into->n_counters;

	for (uint32_t i = 0; i < from->n_counters; i++) {
		struct telemetry_counter *c;

		if (has_socket(into, had, from->counters[i].socket))
			continue;
		c = telemetry_counter_add(into);
		if (!c)
			return;
		*c = from->counters[i];
	}
}

void telemetry_merge(struct telemetry_sample *into, const struct telemetry_sample *from)
{
	struct telemetry_snapshot *a = &into->state;
	const struct telemetry_snapshot *b = &from->state;

	a->truncated |= b->truncated;
	for (uint32_t i = 0; i < b->n_nodes; i++) {
		struct telemetry_node *n = telemetry_node_at(a, b->nodes[i].id);

		if (n)
			merge_node(n, &b->nodes[i]);
	}
	for (uint32_t i = 0; i < b->n_pci; i++) {
		struct telemetry_pci *p = telemetry_pci_at(a, b->pci[i].bdf);

		if (p)
			merge_pci(p, &b->pci[i]);
	}
	for (uint32_t i = 0; i < b->n_disks; i++) {
		struct telemetry_disk *d = telemetry_disk_at(a, b->disks[i].name);

		if (d && d->origin.source == TELEMETRY_NONE)
			*d = b->disks[i];
	}
	for (uint32_t i = 0; i < b->n_gpus; i++) {
		struct telemetry_gpu *g = telemetry_gpu_add(a);

		if (g)
			*g = b->gpus[i];
	}
	if (lacks(&a->groups[TELEMETRY_GROUP_PRESSURE], &b->groups[TELEMETRY_GROUP_PRESSURE])) {
		a->pressure = b->pressure;
		a->groups[TELEMETRY_GROUP_PRESSURE] = b->groups[TELEMETRY_GROUP_PRESSURE];
	}
	merge_counters(into, from);
}

static void take(struct telemetry_snapshot *s, enum telemetry_group group,
		 const struct telemetry_origin *o)
{
	if (o->source != TELEMETRY_NONE)
		telemetry_mark(s, group, NULL, o->source, o->updated_ns);
}

void telemetry_regroup(struct telemetry_snapshot *s)
{
	struct telemetry_origin pressure = s->groups[TELEMETRY_GROUP_PRESSURE];

	memset(s->groups, 0, sizeof(s->groups));
	s->groups[TELEMETRY_GROUP_PRESSURE] = pressure;
	for (uint32_t i = 0; i < s->n_nodes; i++) {
		const struct telemetry_node *n = &s->nodes[i];

		take(s, TELEMETRY_GROUP_MEMORY, &n->memory);
		take(s, TELEMETRY_GROUP_HUGEPAGES, &n->hugepages);
		take(s, TELEMETRY_GROUP_DISTANCE, &n->distances);
		take(s, TELEMETRY_GROUP_NUMASTAT, &n->numastat);
		take(s, TELEMETRY_GROUP_BANDWIDTH, &n->rate.origin);
		take(s, TELEMETRY_GROUP_PEAK, &n->peak);
	}
	for (uint32_t i = 0; i < s->n_sockets; i++)
		take(s, TELEMETRY_GROUP_BANDWIDTH, &s->sockets[i].rate.origin);
	for (uint32_t i = 0; i < s->n_pci; i++)
		take(s, TELEMETRY_GROUP_PCI, &s->pci[i].origin);
	for (uint32_t i = 0; i < s->n_disks; i++)
		take(s, TELEMETRY_GROUP_DISK, &s->disks[i].origin);
	for (uint32_t i = 0; i < s->n_gpus; i++)
		take(s, TELEMETRY_GROUP_GPU, &s->gpus[i].origin);
}
