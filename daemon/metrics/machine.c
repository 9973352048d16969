/* SPDX-License-Identifier: MIT */
/* daemon/metrics/machine.c: the series of the machine, out of telemetry; see metrics.h. */
#include <assert.h>

#include "base/num.h"
#include "metrics/metrics.h"

static_assert(TELEMETRY_UNKNOWN == UINT64_MAX && LIMITS_UNKNOWN == UINT64_MAX,
	      "what metric_print() leaves out");

#define G(name, help, type, field, factor)                              \
	{                                                               \
		name, METRIC_GAUGE, help, offsetof(struct type, field), \
			sizeof(((struct type *)0)->field), factor       \
	}

static const struct metric nodes[] = {
	G("sluice_node_memory_bytes", "Memory of a NUMA node", telemetry_node, total_bytes, 1),
	G("sluice_node_free_bytes", "Free memory of a NUMA node", telemetry_node, free_bytes, 1),
	G("sluice_node_read_bytes_per_second", "Read from a node's memory", telemetry_node,
	  rate.read_bytes_per_s, 1),
	G("sluice_node_write_bytes_per_second", "Written to a node's memory", telemetry_node,
	  rate.write_bytes_per_s, 1),
	G("sluice_node_total_bytes_per_second", "Both", telemetry_node, rate.total_bytes_per_s, 1),
	G("sluice_node_peak_bytes_per_second", "What a node's memory can deliver", telemetry_node,
	  peak_bytes_per_s, 1),
};

static const struct metric links[] = {
	G("sluice_link_transfers_per_second", "A PCIe link's speed now, per lane", telemetry_pci,
	  speed_mts, 1e6),
	G("sluice_link_max_transfers_per_second", "What both ends can do", telemetry_pci,
	  max_speed_mts, 1e6),
	G("sluice_link_lanes", "A PCIe link's width now", telemetry_pci, width, 1),
	G("sluice_link_max_lanes", "What both ends can do", telemetry_pci, max_width, 1),
	G("sluice_link_bytes_per_second", "The narrowest link to the root, one way", telemetry_pci,
	  bandwidth_bytes_per_s, 1),
};

static const struct metric disks[] = {
	G("sluice_disk_read_bytes_per_second", "Read from a disk by anyone", telemetry_disk,
	  read_bytes_per_s, 1),
	G("sluice_disk_inflight_requests", "A disk's requests in flight", telemetry_disk, inflight,
	  1),
};

static const struct metric gpus[] = {
	G("sluice_gpu_memory_bytes", "Memory of a GPU", telemetry_gpu, memory_total_bytes, 1),
	G("sluice_gpu_free_bytes", "Free memory of a GPU", telemetry_gpu, memory_free_bytes, 1),
	G("sluice_gpu_receive_bytes_per_second", "Over PCIe to a GPU", telemetry_gpu,
	  rx_bytes_per_s, 1),
	G("sluice_gpu_send_bytes_per_second", "Over PCIe from a GPU", telemetry_gpu, tx_bytes_per_s,
	  1),
	G("sluice_gpu_clock_hertz", "A GPU's clock", telemetry_gpu, sm_clock_mhz, 1e6),
	G("sluice_gpu_temperature_celsius", "A GPU's temperature", telemetry_gpu, temperature_c, 1),
	G("sluice_gpu_power_watts", "A GPU's power", telemetry_gpu, power_mw, 1e-3),
	G("sluice_gpu_throttle_reasons", "NVML's bits of why clocks are low", telemetry_gpu,
	  throttle_bits, 1),
};

/* Of the whole, which is not always the sum of the nodes; and of this process (base/limits.h). */
static const struct metric memory[] = {
	G("sluice_machine_memory_bytes", "Memory of the machine", limits, machine_bytes, 1),
	G("sluice_machine_available_bytes", "Of it, what programs may still take", limits,
	  available_bytes, 1),
	G("sluice_limit_bytes", "Memory limit of this command's control groups, or machine", limits,
	  limit_bytes, 1),
	G("sluice_room_bytes", "Memory that this command may still take", limits, room_bytes, 1),
};

static void name_node(char *ret, size_t len, const void *entry)
{
	snprintf(ret, len, "%d", ((const struct telemetry_node *)entry)->id);
}

static void name_link(char *ret, size_t len, const void *entry)
{
	snprintf(ret, len, "%s", ((const struct telemetry_pci *)entry)->bdf);
}

static void name_disk(char *ret, size_t len, const void *entry)
{
	snprintf(ret, len, "%s", ((const struct telemetry_disk *)entry)->name);
}

static void name_gpu(char *ret, size_t len, const void *entry)
{
	snprintf(ret, len, "%s", ((const struct telemetry_gpu *)entry)->bdf);
}

static void print_sources(FILE *out, const struct telemetry_snapshot *t)
{
	metric_print_head(out, "sluice_telemetry_source", METRIC_GAUGE,
			  "1: who measures this kind of value");
	for (int g = 0; g < TELEMETRY_GROUP_NR; g++)
		fprintf(out, "sluice_telemetry_source{group=\"%s\",source=\"%s\"} 1\n",
			telemetry_group_name(g), telemetry_source_name(t->groups[g].source));
}

void metrics_print_machine(FILE *out, const struct telemetry_snapshot *machine,
			   const struct limits *limits)
{
	const struct telemetry_snapshot *t = machine;
	const struct metric_entries all = { .base = limits, .n = 1 };
	const struct metric_entries by_node = { t->nodes, sizeof(t->nodes[0]), t->n_nodes, "node",
						name_node };
	const struct metric_entries by_link = { t->pci, sizeof(t->pci[0]), t->n_pci, "device",
						name_link };
	const struct metric_entries by_disk = { t->disks, sizeof(t->disks[0]), t->n_disks, "disk",
						name_disk };
	const struct metric_entries by_gpu = { t->gpus, sizeof(t->gpus[0]), t->n_gpus, "device",
					       name_gpu };

	print_sources(out, t);
	metric_print(out, memory, ARRAY_LEN(memory), &all);
	metric_print(out, nodes, ARRAY_LEN(nodes), &by_node);
	metric_print(out, links, ARRAY_LEN(links), &by_link);
	metric_print(out, disks, ARRAY_LEN(disks), &by_disk);
	metric_print(out, gpus, ARRAY_LEN(gpus), &by_gpu);
}
