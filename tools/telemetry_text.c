/* SPDX-License-Identifier: MIT */
/* tools/telemetry_text.c: a telemetry snapshot for people: tables, units, '?' for unknown. */
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "base/size.h"
#include "tools/telemetry.h"

#define CELL 32

static const char *bytes(char *buf, uint64_t value)
{
	return value == TELEMETRY_UNKNOWN ? "?" : size_format(buf, CELL, value);
}

static const char *rate(char *buf, uint64_t value)
{
	if (value == TELEMETRY_UNKNOWN)
		return "?";
	if (value >= 1000000000)
		snprintf(buf, CELL, "%.2f GB/s", (double)value / 1e9);
	else
		snprintf(buf, CELL, "%.2f MB/s", (double)value / 1e6);
	return buf;
}

static const char *count(char *buf, uint64_t value)
{
	if (value == TELEMETRY_UNKNOWN)
		return "?";
	snprintf(buf, CELL, "%" PRIu64, value);
	return buf;
}

static const char *node(char *buf, int id)
{
	return id < 0 ? "?" : count(buf, (uint64_t)id);
}

/* "16 GT/s x8" */
static const char *link_text(char *buf, uint64_t speed_mts, uint64_t width)
{
	char lanes[CELL];

	if (speed_mts == TELEMETRY_UNKNOWN && width == TELEMETRY_UNKNOWN)
		return "?";
	if (speed_mts == TELEMETRY_UNKNOWN)
		snprintf(buf, CELL, "? x%.8s", count(lanes, width));
	else
		snprintf(buf, CELL, "%g GT/s x%.8s", (double)speed_mts / 1000, count(lanes, width));
	return buf;
}

static void print_sources(FILE *out, const struct telemetry_snapshot *s)
{
	fprintf(out, "%-24s%-10s%s\n", "VALUES", "SOURCE", "AGE");
	for (int g = 0; g < TELEMETRY_GROUP_NR; g++) {
		const struct telemetry_origin *o = &s->groups[g];

		fprintf(out, "%-24s", telemetry_group_name((enum telemetry_group)g));
		if (o->source == TELEMETRY_NONE)
			fprintf(out, "%-10s%s\n", "none", "?");
		else
			fprintf(out, "%-10s%.0f ms\n", telemetry_source_name(o->source),
				(double)telemetry_age_ns(s, o) / 1e6);
	}
}

static void print_huge(FILE *out, const struct telemetry_node *n)
{
	char a[CELL], b[CELL], c[CELL];

	for (uint32_t i = 0; i < n->n_huge; i++)
		fprintf(out, "      huge pages of %s: %s free of %s\n",
			bytes(a, n->huge[i].page_bytes), count(b, n->huge[i].free),
			count(c, n->huge[i].total));
}

static void print_nodes(FILE *out, const struct telemetry_snapshot *s)
{
	char a[CELL], b[CELL], c[CELL], d[CELL], e[CELL], f[CELL];

	fprintf(out, "\n%-6s%-6s%13s%13s%15s%15s%15s%15s%7s  %s\n", "NODE", "CPUS", "TOTAL", "FREE",
		"READ", "WRITTEN", "BOTH", "PEAK", "USED", "DISTANCE");
	for (uint32_t i = 0; i < s->n_nodes; i++) {
		const struct telemetry_node *n = &s->nodes[i];
		uint64_t load = telemetry_node_load(s, n->id);

		fprintf(out, "%-6d%-6u%13s%13s%15s%15s%15s%15s", n->id, n->n_cpus,
			bytes(a, n->total_bytes), bytes(b, n->free_bytes),
			rate(c, n->rate.read_bytes_per_s), rate(d, n->rate.write_bytes_per_s),
			rate(e, n->rate.total_bytes_per_s), rate(f, n->peak_bytes_per_s));
		if (load == TELEMETRY_UNKNOWN)
			fprintf(out, "%7s ", "?");
		else
			fprintf(out, "%5.1f %% ", (double)load / 10);
		for (uint32_t k = 0; k < s->n_nodes; k++) {
			uint8_t to = n->distance[s->nodes[k].id];

			fprintf(out, " %s", to ? count(a, to) : "?");
		}
		fputc('\n', out);
		print_huge(out, n);
	}
	for (uint32_t i = 0; i < s->n_sockets; i++) {
		const struct telemetry_socket *k = &s->sockets[i];

		if (!(k->nodes & (k->nodes - 1)))
			continue; /* its only node says the same */
		fprintf(out, "socket %d, all its nodes: %s read, %s written, %s together\n", k->id,
			rate(a, k->rate.read_bytes_per_s), rate(b, k->rate.write_bytes_per_s),
			rate(c, k->rate.total_bytes_per_s));
	}
}

static const char *verdict(const struct telemetry_pci *p)
{
	if (p->asleep == TELEMETRY_YES)
		return "asleep";
	if (p->degraded == TELEMETRY_YES)
		return "DEGRADED: trained below what both ends can do";
	if (p->may_idle == TELEMETRY_YES)
		return p->degraded == TELEMETRY_NO ? "idle"
						   : "slow: idle, or degraded; look under load";
	if (p->degraded == TELEMETRY_NO)
		return "ok";
	return p->far_end_unknown && p->speed_mts != TELEMETRY_UNKNOWN
		       ? "? (the port above is not visible)"
		       : "?";
}

static const char *class_name(uint32_t class_code)
{
	switch (class_code >> 16) {
	case 0x01:
		return class_code >> 8 == 0x0108 ? "nvme" : "storage";
	case 0x02:
		return "network";
	case 0x03:
		return "gpu";
	case 0x12:
		return "accelerator";
	}
	return "other";
}

static void print_pci(FILE *out, const struct telemetry_snapshot *s)
{
	char a[CELL], b[CELL], c[CELL], d[CELL];

	if (s->n_pci)
		fprintf(out, "\n%-16s%-13s%-6s%-14s%-14s%15s  %s\n", "PCI", "KIND", "NODE", "LINK",
			"AT MOST", "TO THE ROOT", "STATE");
	for (uint32_t i = 0; i < s->n_pci; i++) {
		const struct telemetry_pci *p = &s->pci[i];

		fprintf(out, "%-16s%-13s%-6s%-14s%-14s%15s  %s\n", p->bdf,
			class_name(p->class_code), node(a, p->node),
			link_text(b, p->speed_mts, p->width),
			link_text(c, p->max_speed_mts, p->max_width),
			rate(d, p->bandwidth_bytes_per_s), verdict(p));
	}
}

static void print_gpus(FILE *out, const struct telemetry_snapshot *s)
{
	char a[CELL], b[CELL], c[CELL], d[CELL], e[CELL];

	for (uint32_t i = 0; i < s->n_gpus; i++) {
		const struct telemetry_gpu *g = &s->gpus[i];

		fprintf(out, "\nGPU %s %s\n", g->bdf, g->name);
		fprintf(out, "      memory %s free of %s; link gen %s x%s\n",
			bytes(a, g->memory_free_bytes), bytes(b, g->memory_total_bytes),
			count(c, g->link_gen), count(d, g->link_width));
		fprintf(out, "      to it %s, from it %s; clock %s of %s MHz, busy %s %%\n",
			rate(a, g->rx_bytes_per_s), rate(b, g->tx_bytes_per_s),
			count(c, g->sm_clock_mhz), count(d, g->max_sm_clock_mhz),
			count(e, g->busy_percent));
		if (g->throttled == TELEMETRY_YES)
			fprintf(out, "      THROTTLED: %s\n", g->throttle_text);
	}
}

static void print_disks(FILE *out, const struct telemetry_snapshot *s)
{
	char a[CELL], b[CELL], c[CELL];

	if (s->n_disks)
		fprintf(out, "\n%-16s%-6s%15s%12s\n", "DISK", "NODE", "READ", "IN FLIGHT");
	for (uint32_t i = 0; i < s->n_disks; i++)
		fprintf(out, "%-16s%-6s%15s%12s\n", s->disks[i].name, node(a, s->disks[i].node),
			rate(b, s->disks[i].read_bytes_per_s), count(c, s->disks[i].inflight));
}

static const char *percent(char *buf, uint64_t hundredths)
{
	if (hundredths == TELEMETRY_UNKNOWN)
		return "?";
	snprintf(buf, CELL, "%.2f %%", (double)hundredths / 100);
	return buf;
}

static void print_pressure(FILE *out, const struct telemetry_snapshot *s)
{
	const struct {
		const char *name;
		const struct telemetry_stall *stall;
	} kinds[] = { { "cpu", &s->pressure.cpu },
		      { "memory", &s->pressure.memory },
		      { "io", &s->pressure.io } };
	char a[CELL], b[CELL];

	fprintf(out, "\n%-16s%12s%12s  of the last 10 s\n", "STALLED", "SOME TASKS", "ALL TASKS");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		fprintf(out, "%-16s%12s%12s\n", kinds[i].name,
			percent(a, kinds[i].stall->some_avg10),
			percent(b, kinds[i].stall->full_avg10));
}

void telemetry_print(FILE *out, const struct telemetry_snapshot *s)
{
	print_sources(out, s);
	print_nodes(out, s);
	print_pci(out, s);
	print_gpus(out, s);
	print_disks(out, s);
	print_pressure(out, s);
	if (s->truncated)
		fprintf(out, "\nThere is more than fits: not all of it is shown.\n");
}
