/* SPDX-License-Identifier: MIT */
/* tools/doctor_machine.c: see doctor_machine.h. */
#include "tools/doctor_machine.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/size.h"
#include "plan/plan.h"
#include "tools/device_shown.h"
#include "tools/input.h"
#include "tools/memread.h"

#define LOCAL_ENOUGH	 0.9 /* share of a node's rows that should lie there */
#define GPU_DRIVER_LEAST 580 /* of CUDA 13 */

static void count_governors(const char *root, struct machine *m)
{
	for (unsigned cpu = 0; cpu < MEMREAD_MAX_CORES; cpu++) {
		char path[512], line[32] = "";
		FILE *f;

		snprintf(path, sizeof(path),
			 "%s/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor",
			 root ? root : "", cpu);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(line, sizeof(line), f) && strncmp(line, "performance", 11))
			m->n_governors++;
		fclose(f);
	}
}

/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun ...": the first number with a dot. */
static void read_gpu_driver(const char *root, struct machine *m)
{
	char path[512], line[256] = "", *rest = line, *word;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/driver/nvidia/version", root ? root : "");
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	while ((word = strsep(&rest, " \t\n")) != NULL)
		if (word[0] >= '0' && word[0] <= '9' && strchr(word, '.') &&
		    strspn(word, "0123456789.") == strlen(word)) {
			snprintf(m->gpu_driver, sizeof(m->gpu_driver), "%.31s", word);
			return;
		}
}

int machine_look(const char *root, struct machine *m, struct err *err)
{
	struct telemetry_config config = { .root = root };
	struct telemetry *t;
	int rc = telemetry_create(&config, &t, err);

	if (rc)
		return rc;
	rc = telemetry_read(t, &m->now);
	for (unsigned i = 0; i < TELEMETRY_MAX_NOTES && telemetry_note(t, i); i++)
		snprintf(m->notes[m->n_notes++], sizeof(m->notes[0]), "%s", telemetry_note(t, i));
	telemetry_destroy(t);
	count_governors(root, m);
	read_gpu_driver(root, m);
	return rc ? err_set(err, rc, "nothing can be read of this machine: %s", strerror(-rc)) : 0;
}

int machine_measure_nodes(struct machine *m, const unsigned *cpus, unsigned n_cpus, double seconds,
			  struct err *err)
{
	unsigned mine[MEMREAD_MAX_CORES];

	if (m->now.n_nodes < 2 || numa_available() < 0)
		return 0;
	for (uint32_t i = 0; i < m->now.n_nodes; i++) {
		uint64_t each, free_bytes = m->now.nodes[i].free_bytes;
		unsigned n = 0;
		int rc;

		for (unsigned k = 0; k < n_cpus; k++)
			if (numa_node_of_cpu((int)cpus[k]) == m->now.nodes[i].id)
				mine[n++] = cpus[k];
		if (!n || free_bytes == TELEMETRY_UNKNOWN)
			continue;
		each = u64_min((uint64_t)256 << 20, free_bytes / 4 / n);
		rc = memread_measure(mine, n, each, seconds, &m->node_gbs[i], err);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- advice ---- */

static void advise_pages(const struct machine *m, uint64_t want, machine_advise_fn advise,
			 void *arg)
{
	for (uint32_t i = 0; i < m->now.n_nodes && m->now.n_nodes > 1; i++) {
		const struct telemetry_node *n = &m->now.nodes[i];
		uint64_t share = want / m->now.n_nodes;

		for (uint32_t k = 0; k < n->n_huge; k++) {
			const struct telemetry_huge *h = &n->huge[k];
			char problem[256], command[256], size[32];

			if (h->page_bytes != 2 << 20 || h->free == TELEMETRY_UNKNOWN ||
			    h->total == TELEMETRY_UNKNOWN || h->free * h->page_bytes >= share)
				continue;
			snprintf(problem, sizeof(problem),
				 "node %d has %" PRIu64
				 " free huge pages, its share of the experts "
				 "would take %s",
				 n->id, h->free, size_format(size, sizeof(size), share));
			snprintf(command, sizeof(command),
				 "echo %" PRIu64 " | sudo tee /sys/devices/system/node/node%d/"
				 "hugepages/hugepages-2048kB/nr_hugepages",
				 h->total - h->free + share / h->page_bytes + 1, n->id);
			advise(arg, command, problem);
		}
	}
}

static void advise_links(const struct machine *m, machine_advise_fn advise, void *arg)
{
	for (uint32_t i = 0; i < m->now.n_pci; i++) {
		const struct telemetry_pci *p = &m->now.pci[i];
		char problem[256], command[64];

		if (p->degraded != TELEMETRY_YES)
			continue;
		snprintf(problem, sizeof(problem),
			 "the PCIe link of %s runs at %.1f GT/s x%" PRIu64 ", both ends could do "
			 "%.1f GT/s x%" PRIu64 ": check the slot, the riser and the BIOS setting",
			 p->bdf, (double)p->speed_mts / 1e3, p->width,
			 (double)p->max_speed_mts / 1e3, p->max_width);
		snprintf(command, sizeof(command), "sudo lspci -vv -s %s | grep -i lnk", p->bdf);
		advise(arg, command, problem);
	}
}

static void advise_placement(const struct machine *m, machine_advise_fn advise, void *arg)
{
	const struct sluice_status_info *d = &m->daemon;
	uint64_t there = 0, all = d->local_bytes + d->remote_bytes;
	char problem[256];

	for (uint32_t i = 0; i < d->n_nodes && i < SLUICE_STATUS_NODES; i++)
		there += d->nodes[i].arena_bytes;
	for (uint32_t i = 0; i < d->n_nodes && i < SLUICE_STATUS_NODES && there; i++) {
		double share = d->nodes[i].share_ppm / 1e6;
		double real = (double)d->nodes[i].arena_bytes / (double)there;

		if (d->nodes[i].node < 0 || real >= LOCAL_ENOUGH * share)
			continue;
		snprintf(
			problem, sizeof(problem),
			"node %d holds %.0f %% of the experts' memory instead of %.0f %%: its pages "
			"ran out when the daemon started",
			d->nodes[i].node, 100 * real, 100 * share);
		advise(arg, "free memory on that node, then restart sluiced", problem);
	}
	if (all && (double)d->local_bytes < LOCAL_ENOUGH * (double)all) {
		snprintf(problem, sizeof(problem),
			 "%.0f %% of expert bytes are multiplied by threads of another node",
			 100 * (double)d->remote_bytes / (double)all);
		advise(arg, "give sluiced --threads of every node that holds experts", problem);
	}
}

void machine_advise(const struct machine *m, uint64_t want_bytes, machine_advise_fn advise,
		    void *arg)
{
	char problem[128];

	if (m->n_governors) {
		snprintf(problem, sizeof(problem),
			 "%u CPUs are not under the performance governor: clocks fall while the "
			 "disk is waited for",
			 m->n_governors);
		advise(arg, "sudo cpupower frequency-set -g performance", problem);
	}
	if (m->gpu_driver[0] && atoi(m->gpu_driver) < GPU_DRIVER_LEAST) {
		snprintf(problem, sizeof(problem),
			 "the NVIDIA driver is %s: --device cuda needs r%d or newer (CUDA 13)",
			 m->gpu_driver, GPU_DRIVER_LEAST);
		advise(arg, "install NVIDIA's driver r580 or newer", problem);
	}
	advise_pages(m, want_bytes, advise, arg);
	advise_links(m, advise, arg);
	if (m->daemon_asked)
		advise_placement(m, advise, arg);
}

/* ---- telling ---- */

static void print_node(const struct machine *m, uint32_t i)
{
	const struct telemetry_node *n = &m->now.nodes[i];
	char a[32], b[32];

	printf("node %-5d %u CPUs", n->id, n->n_cpus);
	if (n->total_bytes != TELEMETRY_UNKNOWN && n->free_bytes != TELEMETRY_UNKNOWN)
		printf(", %s, %s free", size_format(a, sizeof(a), n->total_bytes),
		       size_format(b, sizeof(b), n->free_bytes));
	for (uint32_t k = 0; k < n->n_huge; k++)
		if (n->huge[k].total && n->huge[k].total != TELEMETRY_UNKNOWN)
			printf(", %" PRIu64 " of %" PRIu64 " pages of %s free", n->huge[k].free,
			       n->huge[k].total, size_format(a, sizeof(a), n->huge[k].page_bytes));
	if (m->now.n_nodes > 1) {
		printf(", distances");
		for (uint32_t k = 0; k < m->now.n_nodes; k++)
			printf(" %u", n->distance[m->now.nodes[k].id]);
	}
	if (m->node_gbs[i] > 0)
		printf(", reads %.1f GB/s", m->node_gbs[i]);
	else if (n->peak_bytes_per_s != TELEMETRY_UNKNOWN)
		printf(", firmware says %.1f GB/s", (double)n->peak_bytes_per_s / 1e9);
	putchar('\n');
}

static void print_link(const struct telemetry_pci *p)
{
	static const char *const verdict[] = { "", ", below its maximum",
					       ", below its maximum (it may be idle)" };

	printf("pci        %s", p->bdf);
	if (p->node >= 0)
		printf(" node %d", p->node);
	if (p->speed_mts == TELEMETRY_UNKNOWN || p->width == TELEMETRY_UNKNOWN) {
		printf(", no link\n");
		return;
	}
	printf(", %.1f GT/s x%" PRIu64, (double)p->speed_mts / 1e3, p->width);
	if (p->max_bandwidth_bytes_per_s != TELEMETRY_UNKNOWN)
		printf(", %.1f GB/s to the root", (double)p->max_bandwidth_bytes_per_s / 1e9);
	printf("%s\n", verdict[p->degraded % ARRAY_LEN(verdict)]);
}

static void print_gpu(const struct telemetry_gpu *g)
{
	char a[32], b[32];

	printf("gpu        %s %s", g->bdf, g->name);
	if (g->memory_total_bytes != TELEMETRY_UNKNOWN && g->memory_free_bytes != TELEMETRY_UNKNOWN)
		printf(", %s of %s free", size_format(a, sizeof(a), g->memory_free_bytes),
		       size_format(b, sizeof(b), g->memory_total_bytes));
	if (g->max_link_gen != TELEMETRY_UNKNOWN && g->max_link_width != TELEMETRY_UNKNOWN)
		printf(", link up to gen %" PRIu64 " x%" PRIu64, g->max_link_gen,
		       g->max_link_width);
	putchar('\n');
}

static void print_device(const struct machine *m)
{
	struct device_seen d;

	device_seen_take(&m->daemon, &d);
	device_seen_print("device", &d);
}

void machine_print(const struct machine *m)
{
	for (uint32_t i = 0; i < m->now.n_nodes; i++)
		print_node(m, i);
	for (uint32_t i = 0; i < m->now.n_pci; i++)
		print_link(&m->now.pci[i]);
	for (uint32_t i = 0; i < m->now.n_gpus; i++)
		print_gpu(&m->now.gpus[i]);
	printf("telemetry ");
	for (int g = 0; g < TELEMETRY_GROUP_NR; g++)
		printf(" %s %s%s", telemetry_group_name(g),
		       telemetry_source_name(m->now.groups[g].source),
		       g + 1 < TELEMETRY_GROUP_NR ? "," : "\n");
	for (unsigned i = 0; i < m->n_notes; i++)
		printf("           %s\n", m->notes[i]);
	for (uint32_t i = 0; m->daemon_asked && i < m->daemon.n_nodes; i++) {
		const struct sluice_status_node *n = &m->daemon.nodes[i % SLUICE_STATUS_NODES];
		char a[32];

		printf("placement  node %d: %.1f %% of every expert, %s of the arena, %u threads\n",
		       n->node, n->share_ppm / 1e4, size_format(a, sizeof(a), n->arena_bytes),
		       n->workers);
	}
	if (m->daemon_asked && !m->daemon.n_nodes)
		printf("placement  experts are not cut by node, arena %s\n", m->daemon.arena);
	if (m->daemon_asked)
		print_device(m);
}

static json_t *number_or_null(uint64_t value)
{
	return value == TELEMETRY_UNKNOWN ? json_null() : json_integer((json_int_t)value);
}

static json_t *gpus_json(const struct machine *m)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < m->now.n_gpus; i++) {
		const struct telemetry_gpu *g = &m->now.gpus[i];

		json_array_append_new(
			list, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "bdf", g->bdf, "name",
					input_json_text(g->name, strlen(g->name)), "memory_bytes",
					number_or_null(g->memory_total_bytes), "memory_free_bytes",
					number_or_null(g->memory_free_bytes), "max_link_gen",
					number_or_null(g->max_link_gen), "max_link_width",
					number_or_null(g->max_link_width)));
	}
	return list;
}

/* Of the daemon that was asked: as its status has it. */
static json_t *daemon_device_json(const struct machine *m)
{
	struct device_seen d;

	device_seen_take(&m->daemon, &d);
	return device_seen_json(&d);
}

void machine_json(const struct machine *m, json_t *o)
{
	json_t *nodes = json_array(), *links = json_array(), *notes = json_array();

	for (uint32_t i = 0; i < m->now.n_nodes; i++) {
		const struct telemetry_node *n = &m->now.nodes[i];
		json_t *read = m->node_gbs[i] > 0 ? json_integer((json_int_t)(m->node_gbs[i] * 1e9))
						  : json_null();

		json_array_append_new(nodes, json_pack("{s:i, s:i, s:o, s:o, s:o, s:o}", "id",
						       n->id, "cpus", (int)n->n_cpus, "total_bytes",
						       number_or_null(n->total_bytes), "free_bytes",
						       number_or_null(n->free_bytes), "room_bytes",
						       number_or_null(plan_room_on(n)),
						       "read_bytes_per_s", read));
	}
	for (uint32_t i = 0; i < m->now.n_pci; i++) {
		const struct telemetry_pci *p = &m->now.pci[i];

		json_array_append_new(
			links,
			json_pack("{s:s, s:o, s:o, s:o}", "bdf", p->bdf, "bandwidth_bytes_per_s",
				  number_or_null(p->bandwidth_bytes_per_s),
				  "max_bandwidth_bytes_per_s",
				  number_or_null(p->max_bandwidth_bytes_per_s), "degraded",
				  p->degraded == TELEMETRY_MAYBE
					  ? json_null()
					  : json_boolean(p->degraded == TELEMETRY_YES)));
	}
	json_object_set_new(o, "gpu_driver",
			    m->gpu_driver[0] ? input_json_text(m->gpu_driver, strlen(m->gpu_driver))
					     : json_null());
	for (unsigned i = 0; i < m->n_notes; i++)
		json_array_append_new(notes, input_json_text(m->notes[i], strlen(m->notes[i])));
	json_object_set_new(o, "nodes", nodes);
	json_object_set_new(o, "pci", links);
	json_object_set_new(o, "telemetry_notes", notes);
	json_object_set_new(o, "gpus", gpus_json(m));
	if (m->daemon_asked)
		json_object_set_new(o, "device", daemon_device_json(m));
	if (m->daemon_asked)
		json_object_set_new(o, "arena_local_share",
				    m->daemon.local_bytes + m->daemon.remote_bytes
					    ? json_real((double)m->daemon.local_bytes /
							(double)(m->daemon.local_bytes +
								 m->daemon.remote_bytes))
					    : json_null());
}
