/* SPDX-License-Identifier: MIT */
/* tools/telemetry_json.c: a telemetry snapshot as JSON. See telemetry.h. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "tools/input.h"
#include "tools/telemetry.h"

static json_t *number(uint64_t value)
{
	return value > INT64_MAX ? json_null() : json_integer((json_int_t)value);
}

static json_t *gts(uint64_t mts)
{
	return mts == TELEMETRY_UNKNOWN ? json_null() : json_real((double)mts / 1000);
}

static json_t *node_number(int node)
{
	return node < 0 ? json_null() : json_integer(node);
}

static json_t *answer(enum telemetry_answer a)
{
	return a == TELEMETRY_MAYBE ? json_null() : json_boolean(a == TELEMETRY_YES);
}

static json_t *text(const char *s)
{
	return *s ? input_json_text(s, strlen(s)) : json_null();
}

/* Share of the last ten seconds, 0 to 1. */
static json_t *share(uint64_t hundredths)
{
	return hundredths == TELEMETRY_UNKNOWN ? json_null()
					       : json_real((double)hundredths / 10000);
}

static json_t *source(const struct telemetry_origin *o)
{
	return o->source == TELEMETRY_NONE ? json_null()
					   : json_string(telemetry_source_name(o->source));
}

static void put(json_t *object, const char *name, json_t *value)
{
	json_object_set_new(object, name, value);
}

static void put_rate(json_t *o, const struct telemetry_rate *r)
{
	put(o, "read_bytes_per_s", number(r->read_bytes_per_s));
	put(o, "write_bytes_per_s", number(r->write_bytes_per_s));
	put(o, "total_bytes_per_s", number(r->total_bytes_per_s));
}

static json_t *hugepages(const struct telemetry_node *n)
{
	json_t *o = json_object();

	for (uint32_t i = 0; i < n->n_huge; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%llukB",
			 (unsigned long long)(n->huge[i].page_bytes / 1024));
		put(o, name,
		    json_pack("{s:o, s:o, s:o}", "total", number(n->huge[i].total), "free",
			      number(n->huge[i].free), "surplus", number(n->huge[i].surplus)));
	}
	return o;
}

static json_t *node_json(const struct telemetry_snapshot *s, const struct telemetry_node *n)
{
	uint64_t load = telemetry_node_load(s, n->id);
	json_t *o = json_object(), *distance = json_array();

	for (uint32_t i = 0; i < s->n_nodes; i++) {
		uint8_t d = n->distance[s->nodes[i].id];

		json_array_append_new(distance, d ? json_integer(d) : json_null());
	}
	put(o, "id", json_integer(n->id));
	put(o, "socket", node_number(n->socket));
	put(o, "cpus", json_integer(n->n_cpus));
	put(o, "total_bytes", number(n->total_bytes));
	put(o, "free_bytes", number(n->free_bytes));
	put(o, "file_bytes", number(n->file_bytes));
	put(o, "anon_bytes", number(n->anon_bytes));
	put(o, "hugepages", hugepages(n));
	put(o, "distance", distance);
	put_rate(o, &n->rate);
	put(o, "peak_bytes_per_s", number(n->peak_bytes_per_s));
	put(o, "load", load == TELEMETRY_UNKNOWN ? json_null() : json_real((double)load / 1000));
	put(o, "read_latency_ns", number(n->read_latency_ns));
	put(o, "write_latency_ns", number(n->write_latency_ns));
	put(o, "numa_hit_pages", number(n->numa_hit));
	put(o, "numa_miss_pages", number(n->numa_miss));
	put(o, "other_node_pages", number(n->other_node));
	put(o, "source", source(&n->memory));
	put(o, "bandwidth_source", source(&n->rate.origin));
	put(o, "peak_source", source(&n->peak));
	put(o, "age_ns", number(telemetry_age_ns(s, &n->memory)));
	put(o, "bandwidth_age_ns", number(telemetry_age_ns(s, &n->rate.origin)));
	return o;
}

static json_t *socket_json(const struct telemetry_snapshot *s, const struct telemetry_socket *k)
{
	json_t *o = json_object(), *nodes = json_array();

	for (int id = 0; id < NODES_KNOWN; id++)
		if (k->nodes >> id & 1)
			json_array_append_new(nodes, json_integer(id));
	put(o, "id", json_integer(k->id));
	put(o, "nodes", nodes);
	put_rate(o, &k->rate);
	put(o, "bandwidth_source", source(&k->rate.origin));
	put(o, "bandwidth_age_ns", number(telemetry_age_ns(s, &k->rate.origin)));
	return o;
}

static json_t *pci_json(const struct telemetry_snapshot *s, const struct telemetry_pci *p)
{
	json_t *o = json_object();
	char class_code[16];

	snprintf(class_code, sizeof(class_code), "0x%06x", p->class_code);
	put(o, "bdf", json_string(p->bdf));
	put(o, "node", node_number(p->node));
	put(o, "class", p->class_code ? json_string(class_code) : json_null());
	put(o, "speed_gts", gts(p->speed_mts));
	put(o, "width", number(p->width));
	put(o, "max_speed_gts", gts(p->max_speed_mts));
	put(o, "max_width", number(p->max_width));
	put(o, "bandwidth_bytes_per_s", number(p->bandwidth_bytes_per_s));
	put(o, "max_bandwidth_bytes_per_s", number(p->max_bandwidth_bytes_per_s));
	put(o, "limit_bdf", text(p->limit_bdf));
	put(o, "degraded", answer(p->degraded));
	put(o, "below_maximum", answer(p->below));
	put(o, "may_be_idle", answer(p->may_idle));
	put(o, "asleep", answer(p->asleep));
	put(o, "far_end_known", json_boolean(!p->far_end_unknown));
	put(o, "aer_correctable", number(p->aer_correctable));
	put(o, "aer_nonfatal", number(p->aer_nonfatal));
	put(o, "aer_fatal", number(p->aer_fatal));
	put(o, "source", source(&p->origin));
	put(o, "age_ns", number(telemetry_age_ns(s, &p->origin)));
	return o;
}

static json_t *disk_json(const struct telemetry_snapshot *s, const struct telemetry_disk *d)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", text(d->name), "node",
			 node_number(d->node), "read_bytes_per_s", number(d->read_bytes_per_s),
			 "inflight", number(d->inflight), "read_bytes", number(d->read_bytes),
			 "source", source(&d->origin), "age_ns",
			 number(telemetry_age_ns(s, &d->origin)));
}

static json_t *gpu_json(const struct telemetry_snapshot *s, const struct telemetry_gpu *g)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "memory_total_bytes", g->memory_total_bytes },
		{ "memory_free_bytes", g->memory_free_bytes },
		{ "link_gen", g->link_gen },
		{ "link_width", g->link_width },
		{ "max_link_gen", g->max_link_gen },
		{ "max_link_width", g->max_link_width },
		{ "rx_bytes_per_s", g->rx_bytes_per_s },
		{ "tx_bytes_per_s", g->tx_bytes_per_s },
		{ "sm_clock_mhz", g->sm_clock_mhz },
		{ "max_sm_clock_mhz", g->max_sm_clock_mhz },
		{ "memory_clock_mhz", g->memory_clock_mhz },
		{ "max_memory_clock_mhz", g->max_memory_clock_mhz },
		{ "busy_percent", g->busy_percent },
		{ "temperature_c", g->temperature_c },
		{ "power_mw", g->power_mw },
		{ "power_limit_mw", g->power_limit_mw },
		{ "throttle_bits", g->throttle_bits },
	};
	json_t *o = json_object();

	put(o, "name", text(g->name));
	put(o, "uuid", text(g->uuid));
	put(o, "bdf", text(g->bdf));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		put(o, numbers[i].name, number(numbers[i].value));
	put(o, "throttled", answer(g->throttled));
	put(o, "throttle", text(g->throttle_text));
	put(o, "source", source(&g->origin));
	put(o, "age_ns", number(telemetry_age_ns(s, &g->origin)));
	return o;
}

static json_t *stall_json(const struct telemetry_stall *s)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "some_avg10", share(s->some_avg10), "full_avg10",
			 share(s->full_avg10), "some_total_us", number(s->some_total_us),
			 "full_total_us", number(s->full_total_us));
}

static json_t *groups_json(const struct telemetry_snapshot *s, bool ages)
{
	json_t *o = json_object();

	for (int g = 0; g < TELEMETRY_GROUP_NR; g++)
		put(o, telemetry_group_name((enum telemetry_group)g),
		    ages ? number(telemetry_age_ns(s, &s->groups[g])) : source(&s->groups[g]));
	return o;
}

json_t *telemetry_to_json(const struct telemetry_snapshot *s, const struct telemetry *t)
{
	json_t *o = json_object(), *nodes = json_array(), *sockets = json_array(),
	       *pci = json_array(), *disks = json_array(), *gpus = json_array(),
	       *notes = json_array();

	for (uint32_t i = 0; i < s->n_nodes; i++)
		json_array_append_new(nodes, node_json(s, &s->nodes[i]));
	for (uint32_t i = 0; i < s->n_sockets; i++)
		json_array_append_new(sockets, socket_json(s, &s->sockets[i]));
	for (uint32_t i = 0; i < s->n_pci; i++)
		json_array_append_new(pci, pci_json(s, &s->pci[i]));
	for (uint32_t i = 0; i < s->n_disks; i++)
		json_array_append_new(disks, disk_json(s, &s->disks[i]));
	for (uint32_t i = 0; i < s->n_gpus; i++)
		json_array_append_new(gpus, gpu_json(s, &s->gpus[i]));
	for (unsigned i = 0; t && telemetry_note(t, i); i++)
		json_array_append_new(notes, text(telemetry_note(t, i)));
	put(o, "sources", groups_json(s, false));
	put(o, "updated_ns", number(s->updated_ns));
	put(o, "interval_ns", number(s->interval_ns));
	put(o, "cost_ns", number(s->cost_ns));
	put(o, "age_ns", groups_json(s, true));
	put(o, "truncated", json_boolean(s->truncated));
	put(o, "nodes", nodes);
	put(o, "sockets", sockets);
	put(o, "pci", pci);
	put(o, "disks", disks);
	put(o, "gpus", gpus);
	put(o, "pressure",
	    json_pack("{s:o, s:o, s:o}", "cpu", stall_json(&s->pressure.cpu), "memory",
		      stall_json(&s->pressure.memory), "io", stall_json(&s->pressure.io)));
	put(o, "notes", notes);
	return o;
}
