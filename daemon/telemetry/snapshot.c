/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/snapshot.c: making, finding and marking the entries of a sample. Pure, bounded by
 * the arrays in the struct: what does not fit sets truncated and is left out. Any thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "telemetry/telemetry.h"

static const char *const source_names[] = {
#define X(id, text) text,
	TELEMETRY_SOURCES(X)
#undef X
};

static const char *const group_names[] = {
#define X(id, text) text,
	TELEMETRY_GROUPS(X)
#undef X
};

const char *telemetry_source_name(enum telemetry_source source)
{
	return (unsigned)source < ARRAY_LEN(source_names) ? source_names[source] : "none";
}

const char *telemetry_group_name(enum telemetry_group group)
{
	return (unsigned)group < ARRAY_LEN(group_names) ? group_names[group] : "none";
}

static const struct telemetry_rate no_rate = {
	TELEMETRY_UNKNOWN, TELEMETRY_UNKNOWN, TELEMETRY_UNKNOWN, { TELEMETRY_NONE, 0 }
};
static const struct telemetry_stall no_stall = { TELEMETRY_UNKNOWN, TELEMETRY_UNKNOWN,
						 TELEMETRY_UNKNOWN, TELEMETRY_UNKNOWN };

void telemetry_sample_init(struct telemetry_sample *s)
{
	memset(s, 0, sizeof(*s));
	s->state.interval_ns = TELEMETRY_UNKNOWN;
	s->state.cost_ns = TELEMETRY_UNKNOWN;
	s->state.pressure = (struct telemetry_pressure){ no_stall, no_stall, no_stall };
}

static void node_init(struct telemetry_node *n, int id)
{
	*n = (struct telemetry_node){ .id = id,
				      .socket = -1,
				      .total_bytes = TELEMETRY_UNKNOWN,
				      .free_bytes = TELEMETRY_UNKNOWN,
				      .file_bytes = TELEMETRY_UNKNOWN,
				      .anon_bytes = TELEMETRY_UNKNOWN,
				      .numa_hit = TELEMETRY_UNKNOWN,
				      .numa_miss = TELEMETRY_UNKNOWN,
				      .other_node = TELEMETRY_UNKNOWN,
				      .rate = no_rate,
				      .peak_bytes_per_s = TELEMETRY_UNKNOWN,
				      .read_latency_ns = TELEMETRY_UNKNOWN,
				      .write_latency_ns = TELEMETRY_UNKNOWN };
}

struct telemetry_node *telemetry_node_at(struct telemetry_snapshot *s, int id)
{
	uint32_t at = 0;

	while (at < s->n_nodes && s->nodes[at].id < id)
		at++;
	if (at < s->n_nodes && s->nodes[at].id == id)
		return &s->nodes[at];
	if (id < 0 || id >= NODES_KNOWN || s->n_nodes == NODES_KNOWN) {
		s->truncated = true;
		return NULL;
	}
	memmove(&s->nodes[at + 1], &s->nodes[at], (s->n_nodes - at) * sizeof(s->nodes[0]));
	s->n_nodes++;
	node_init(&s->nodes[at], id);
	return &s->nodes[at];
}

const struct telemetry_node *telemetry_find_node(const struct telemetry_snapshot *s, int id)
{
	for (uint32_t i = 0; i < s->n_nodes; i++)
		if (s->nodes[i].id == id)
			return &s->nodes[i];
	return NULL;
}

struct telemetry_pci *telemetry_pci_at(struct telemetry_snapshot *s, const char *bdf)
{
	struct telemetry_pci *p;

	for (uint32_t i = 0; i < s->n_pci; i++)
		if (!strcmp(s->pci[i].bdf, bdf))
			return &s->pci[i];
	if (s->n_pci == TELEMETRY_MAX_PCI || strlen(bdf) >= sizeof(p->bdf)) {
		s->truncated = true;
		return NULL;
	}
	p = &s->pci[s->n_pci++];
	*p = (struct telemetry_pci){ .node = -1,
				     .speed_mts = TELEMETRY_UNKNOWN,
				     .width = TELEMETRY_UNKNOWN,
				     .max_speed_mts = TELEMETRY_UNKNOWN,
				     .max_width = TELEMETRY_UNKNOWN,
				     .bandwidth_bytes_per_s = TELEMETRY_UNKNOWN,
				     .max_bandwidth_bytes_per_s = TELEMETRY_UNKNOWN,
				     .below = TELEMETRY_MAYBE,
				     .may_idle = TELEMETRY_MAYBE,
				     .degraded = TELEMETRY_MAYBE,
				     .asleep = TELEMETRY_MAYBE,
				     .aer_correctable = TELEMETRY_UNKNOWN,
				     .aer_fatal = TELEMETRY_UNKNOWN,
				     .aer_nonfatal = TELEMETRY_UNKNOWN };
	snprintf(p->bdf, sizeof(p->bdf), "%s", bdf);
	return p;
}

struct telemetry_disk *telemetry_disk_at(struct telemetry_snapshot *s, const char *name)
{
	struct telemetry_disk *d;

	for (uint32_t i = 0; i < s->n_disks; i++)
		if (!strcmp(s->disks[i].name, name))
			return &s->disks[i];
	if (s->n_disks == TELEMETRY_MAX_DISKS || strlen(name) >= sizeof(d->name)) {
		s->truncated = true;
		return NULL;
	}
	d = &s->disks[s->n_disks++];
	*d = (struct telemetry_disk){ .node = -1,
				      .read_bytes = TELEMETRY_UNKNOWN,
				      .read_bytes_per_s = TELEMETRY_UNKNOWN,
				      .inflight = TELEMETRY_UNKNOWN };
	snprintf(d->name, sizeof(d->name), "%s", name);
	return d;
}

struct telemetry_gpu *telemetry_gpu_add(struct telemetry_snapshot *s)
{
	struct telemetry_gpu *g;

	if (s->n_gpus == TELEMETRY_MAX_GPUS) {
		s->truncated = true;
		return NULL;
	}
	g = &s->gpus[s->n_gpus++];
	*g = (struct telemetry_gpu){ .memory_total_bytes = TELEMETRY_UNKNOWN,
				     .memory_free_bytes = TELEMETRY_UNKNOWN,
				     .link_gen = TELEMETRY_UNKNOWN,
				     .link_width = TELEMETRY_UNKNOWN,
				     .max_link_gen = TELEMETRY_UNKNOWN,
				     .max_link_width = TELEMETRY_UNKNOWN,
				     .rx_bytes_per_s = TELEMETRY_UNKNOWN,
				     .tx_bytes_per_s = TELEMETRY_UNKNOWN,
				     .sm_clock_mhz = TELEMETRY_UNKNOWN,
				     .max_sm_clock_mhz = TELEMETRY_UNKNOWN,
				     .memory_clock_mhz = TELEMETRY_UNKNOWN,
				     .max_memory_clock_mhz = TELEMETRY_UNKNOWN,
				     .busy_percent = TELEMETRY_UNKNOWN,
				     .temperature_c = TELEMETRY_UNKNOWN,
				     .power_mw = TELEMETRY_UNKNOWN,
				     .power_limit_mw = TELEMETRY_UNKNOWN,
				     .throttle_bits = TELEMETRY_UNKNOWN,
				     .throttled = TELEMETRY_MAYBE };
	return g;
}

struct telemetry_counter *telemetry_counter_add(struct telemetry_sample *s)
{
	struct telemetry_counter *c;

	if (s->n_counters == TELEMETRY_MAX_COUNTERS) {
		s->state.truncated = true;
		return NULL;
	}
	c = &s->counters[s->n_counters++];
	*c = (struct telemetry_counter){ .socket = -1 };
	return c;
}

void telemetry_mark(struct telemetry_snapshot *s, enum telemetry_group group,
		    struct telemetry_origin *origin, enum telemetry_source source, uint64_t at)
{
	struct telemetry_origin *g = &s->groups[group];

	if (origin)
		*origin = (struct telemetry_origin){ source, at };
	if (g->source == TELEMETRY_NONE || source < g->source)
		*g = (struct telemetry_origin){ source, at };
	else if (g->source == source && at > g->updated_ns)
		g->updated_ns = at;
}

uint64_t telemetry_age_ns(const struct telemetry_snapshot *s, const struct telemetry_origin *o)
{
	if (o->source == TELEMETRY_NONE)
		return TELEMETRY_UNKNOWN;
	return s->updated_ns > o->updated_ns ? s->updated_ns - o->updated_ns : 0;
}

uint64_t telemetry_node_load(const struct telemetry_snapshot *s, int id)
{
	const struct telemetry_node *n = telemetry_find_node(s, id);
	uint64_t thousand;

	if (!n || n->rate.total_bytes_per_s == TELEMETRY_UNKNOWN || !n->peak_bytes_per_s ||
	    n->peak_bytes_per_s == TELEMETRY_UNKNOWN ||
	    u64_mul_overflow(n->rate.total_bytes_per_s, 1000, &thousand))
		return TELEMETRY_UNKNOWN;
	return thousand / n->peak_bytes_per_s;
}
