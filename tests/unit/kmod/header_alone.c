/* SPDX-License-Identifier: MIT */
/*
 * The ABI header by itself: compiled in C11 and, as C++17, by a rule
 * (tests/targets.mk) with
 * -Wpedantic -Wpadded. Holds the layout that programs in the field were compiled with: a number
 * changed here is a broken ABI.
 */
#include "uapi/sluice_telemetry.h"

#ifndef __cplusplus
#define static_assert _Static_assert
#endif

#define AT(type, field, offset) \
	static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define BYTES(type, bytes) static_assert(sizeof(struct type) == (bytes), #type)

BYTES(sluice_page, 208);
AT(sluice_page, magic, 0);
AT(sluice_page, abi_version, 8);
AT(sluice_page, page_bytes, 12);
AT(sluice_page, head_bytes, 16);
AT(sluice_page, node_offset, 20);
AT(sluice_page, pci_offset, 32);
AT(sluice_page, pmu_offset, 44);
AT(sluice_page, seq, 56);
AT(sluice_page, flags, 60);
AT(sluice_page, period_ns, 64);
AT(sluice_page, updated_ns, 72);
AT(sluice_page, sample_nr, 80);
AT(sluice_page, overrun_nr, 88);
AT(sluice_page, node_cost_ns, 96);
AT(sluice_page, cost_total_ns, 128);
AT(sluice_page, node_ops, 136);
AT(sluice_page, open_nr, 152);

BYTES(sluice_node, 192);
AT(sluice_node, flags, 4);
AT(sluice_node, updated_ns, 8);
AT(sluice_node, total_bytes, 16);
AT(sluice_node, free_bytes, 24);
AT(sluice_node, file_thp_bytes, 104);
AT(sluice_node, distance, 128);

BYTES(sluice_pci, 120);
AT(sluice_pci, generation, 4);
AT(sluice_pci, domain, 16);
AT(sluice_pci, node, 24);
AT(sluice_pci, cur_speed_mts, 36);
AT(sluice_pci, limit_mbps, 52);
AT(sluice_pci, error_bits, 70);

BYTES(sluice_pmu, 120);
AT(sluice_pmu, type, 16);
AT(sluice_pmu, config, 32);
AT(sluice_pmu, count, 64);
AT(sluice_pmu, running_ns, 80);

BYTES(sluice_get_info, 96);
AT(sluice_get_info, page_bytes, 24);
AT(sluice_get_info, module_version, 64);
BYTES(sluice_watch_pci, 24);
AT(sluice_watch_pci, slot, 16);
BYTES(sluice_watch_pmu, 64);
AT(sluice_watch_pmu, config, 16);
AT(sluice_watch_pmu, slot, 56);
BYTES(sluice_unwatch, 16);
BYTES(sluice_set_period, 16);

static_assert(SLUICE_GET_INFO == 0xef00 && SLUICE_SET_PERIOD == 0xef04, "ioctl numbers");
