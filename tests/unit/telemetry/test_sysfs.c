/* SPDX-License-Identifier: MIT */
/*
 * Description: what sysfs says of recorded machines: nodes, huge pages, distances, HMAT, disks and
 * pressure; machines without NUMA, with holes in their node numbers, with nodes that come and go.
 */
#include "common.h"

static struct telemetry_snapshot snap;

static struct telemetry *read_tree(const struct tree *tree)
{
	struct telemetry_config config = tree_config(tree);
	struct telemetry *t = open_tree(&config);

	assert_int_equal(telemetry_read(t, &snap), 0);
	return t;
}

static void test_vm(void **state)
{
	struct tree tree = tree_make("vm");
	struct telemetry *t = read_tree(&tree);
	const struct telemetry_node *n = node_of(&snap, 0);
	const struct telemetry_disk *d = disk_of(&snap, "vda");

	assert_int_equal(snap.n_nodes, 1);
	assert_int_equal(n->total_bytes, 24684096ull * 1024);
	assert_int_equal(n->free_bytes, 14052684ull * 1024);
	assert_int_equal(n->file_bytes, 8366756ull * 1024);
	assert_int_equal(n->anon_bytes, 674504ull * 1024);
	assert_int_equal(n->memory.source, TELEMETRY_SYSFS);
	assert_int_equal(n->n_cpus, 2);
	assert_int_equal(n->socket, 0);
	assert_int_equal(n->distance[0], 10);
	assert_int_equal(n->distance[1], 0);
	assert_int_equal(n->numa_hit, 300378059);
	assert_int_equal(n->numa_miss, 0);
	assert_int_equal(n->n_huge, 2);
	assert_int_equal(n->huge[0].page_bytes, 2 << 20);
	assert_int_equal(n->huge[0].total, 128);
	assert_int_equal(n->huge[0].free, 28);
	assert_int_equal(n->huge[1].page_bytes, 1 << 30);
	assert_int_equal(n->huge[1].total, 0); /* none, which is not unknown */
	assert_int_equal(n->peak_bytes_per_s, UNKNOWN);
	assert_int_equal(n->rate.total_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_PEAK].source, TELEMETRY_NONE);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_MEMORY].source, TELEMETRY_SYSFS);
	assert_int_equal(snap.n_disks, 1); /* no partition, no loop device */
	assert_int_equal(d->read_bytes, 1395439823ull * 512);
	assert_int_equal(d->inflight, 3);
	assert_int_equal(d->node, -1);
	assert_int_equal(snap.n_pci, 1);
	assert_int_equal(pci_of(&snap, "0000:00:02.0")->class_code, 0x018000);
	assert_int_equal(pci_of(&snap, "0000:00:02.0")->speed_mts, UNKNOWN);
	assert_int_equal(pci_of(&snap, "0000:00:02.0")->degraded, TELEMETRY_MAYBE);
	assert_int_equal(snap.pressure.cpu.some_avg10, 9864);
	assert_int_equal(snap.pressure.memory.some_avg10, 5);
	assert_int_equal(snap.pressure.memory.full_total_us, 11043325);
	assert_int_equal(snap.pressure.io.some_avg10, UNKNOWN);
	assert_true(has_note(t, "sluice.ko is not loaded"));
	assert_true(has_note(t, "no memory-controller counters"));
	assert_null(telemetry_note(t, 2));
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_hmat(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry_peak peak = { 1, 123456789 };
	struct telemetry *t;

	config.no_perf = true;
	config.peaks = &peak;
	config.n_peaks = 1;
	t = open_tree(&config);
	telemetry_read(t, &snap);
	assert_int_equal(snap.n_nodes, 2);
	/* class 1 (CPUs only) goes before class 0; MiB/s */
	assert_int_equal(node_of(&snap, 0)->peak_bytes_per_s, 204800ull << 20);
	assert_int_equal(node_of(&snap, 0)->read_latency_ns, 80);
	assert_int_equal(node_of(&snap, 0)->write_latency_ns, 90);
	assert_int_equal(node_of(&snap, 0)->peak.source, TELEMETRY_SYSFS);
	/* measured goes before HMAT */
	assert_int_equal(node_of(&snap, 1)->peak_bytes_per_s, 123456789);
	assert_int_equal(node_of(&snap, 1)->peak.source, TELEMETRY_GIVEN);
	assert_int_equal(node_of(&snap, 0)->distance[1], 21);
	assert_int_equal(node_of(&snap, 1)->distance[0], 21);
	assert_int_equal(node_of(&snap, 0)->n_cpus, 8);
	assert_int_equal(node_of(&snap, 1)->socket, 1);
	assert_int_equal(node_of(&snap, 0)->other_node, 20);
	assert_int_equal(node_of(&snap, 0)->huge[0].free, 9400);
	assert_int_equal(node_of(&snap, 1)->n_huge, 0);
	assert_int_equal(node_of(&snap, 1)->hugepages.source, TELEMETRY_NONE);
	assert_int_equal(snap.n_sockets, 2);
	assert_int_equal(snap.sockets[1].nodes, 2);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_memoryless(void **state)
{
	struct tree tree = tree_make("memoryless");
	struct telemetry *t = read_tree(&tree);

	assert_int_equal(snap.n_nodes, 3);
	assert_int_equal(snap.nodes[2].id, 3);
	assert_int_equal(node_of(&snap, 1)->total_bytes, 0); /* none, which is known */
	assert_int_equal(node_of(&snap, 1)->free_bytes, 0);
	assert_int_equal(node_of(&snap, 1)->n_cpus, 2);
	assert_int_equal(node_of(&snap, 3)->n_cpus, 0);
	assert_int_equal(node_of(&snap, 3)->socket, -1);
	assert_int_equal(node_of(&snap, 3)->total_bytes, 4000000ull * 1024);
	/* columns are online nodes, not node numbers */
	assert_int_equal(node_of(&snap, 0)->distance[3], 30);
	assert_int_equal(node_of(&snap, 3)->distance[1], 40);
	assert_int_equal(node_of(&snap, 0)->distance[2], 0);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_without_numa(void **state)
{
	struct tree tree = tree_empty();
	struct telemetry *t;

	tree_text(&tree, "proc/meminfo",
		  "MemTotal:       1000 kB\nMemFree:         600 kB\nMemAvailable:    700 kB\n");
	t = read_tree(&tree);
	assert_int_equal(snap.n_nodes, 1);
	assert_int_equal(node_of(&snap, 0)->total_bytes, 1000 * 1024);
	assert_int_equal(node_of(&snap, 0)->free_bytes, 600 * 1024);
	assert_int_equal(node_of(&snap, 0)->distance[0], 0);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_disks(void **state)
{
	struct tree tree = tree_make("epyc");
	struct telemetry *t = read_tree(&tree);

	assert_int_equal(snap.n_disks, 2); /* no dm, no partition */
	assert_int_equal(disk_of(&snap, "nvme0n1")->node, 0);
	assert_int_equal(disk_of(&snap, "nvme0n1")->read_bytes_per_s, UNKNOWN);
	assert_int_equal(disk_of(&snap, "nvme1n1")->node, 0); /* through its controller */
	assert_int_equal(disk_of(&snap, "nvme1n1")->inflight, 31);
	test_clock_ns += 500 * MS;
	tree_text(&tree, "proc/diskstats",
		  "259 0 nvme0n1 1000 0 2008000 500 0 0 0 0 0 10 10\n"
		  "259 2 nvme1n1 10 0 2000 5 0 0 0 0 31 10 10\n");
	telemetry_read(t, &snap);
	assert_int_equal(snap.interval_ns, 500 * MS);
	assert_int_equal(disk_of(&snap, "nvme0n1")->read_bytes_per_s, 2000000ull * 512 * 2);
	/* it went back: it is another disk by now */
	assert_int_equal(disk_of(&snap, "nvme1n1")->read_bytes_per_s, UNKNOWN);
	test_clock_ns += 100 * MS;
	telemetry_read(t, &snap);
	assert_int_equal(disk_of(&snap, "nvme0n1")->read_bytes_per_s, 0); /* idle, known */
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_cadence(void **state)
{
	struct tree tree = tree_make("vm");
	struct telemetry *t = read_tree(&tree);
	const char *pool =
		"sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages";

	tree_text(&tree, pool, "5\n");
	tree_text(&tree, "sys/devices/system/node/node0/meminfo",
		  "Node 0 MemTotal: 100 kB\nNode 0 MemFree: 50 kB\n");
	test_clock_ns += 100 * MS;
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->free_bytes, 50 * 1024); /* every time */
	assert_int_equal(node_of(&snap, 0)->huge[0].free, 28);	    /* once a second */
	assert_int_equal(telemetry_age_ns(&snap, &node_of(&snap, 0)->hugepages), 100 * MS);
	assert_int_equal(telemetry_age_ns(&snap, &node_of(&snap, 0)->memory), 0);
	test_clock_ns += 900 * MS;
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->huge[0].free, 5);
	assert_int_equal(telemetry_age_ns(&snap, &node_of(&snap, 0)->hugepages), 0);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_hotplug(void **state)
{
	struct tree tree = tree_make("memoryless");
	struct telemetry *t = read_tree(&tree);

	tree_text(&tree, "sys/devices/system/node/online", "0,3\n");
	test_clock_ns += 5 * SECOND;
	telemetry_read(t, &snap);
	assert_int_equal(snap.n_nodes, 2);
	assert_null(telemetry_find_node(&snap, 1));
	/* three columns for two nodes: whose they are cannot be told */
	assert_int_equal(node_of(&snap, 0)->distance[3], 0);
	assert_int_equal(node_of(&snap, 0)->distances.source, TELEMETRY_NONE);
	assert_int_equal(node_of(&snap, 3)->total_bytes, 4000000ull * 1024);
	tree_text(&tree, "sys/devices/system/node/online", "0-1,3,70-80\n");
	test_clock_ns += 5 * SECOND;
	telemetry_read(t, &snap);
	assert_int_equal(snap.n_nodes, 3);
	assert_true(snap.truncated); /* nodes past what we hold */
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_nothing(void **state)
{
	struct tree tree = tree_empty();
	struct telemetry *t = read_tree(&tree);

	assert_int_equal(snap.n_nodes, 1);
	assert_int_equal(node_of(&snap, 0)->total_bytes, UNKNOWN);
	assert_int_equal(snap.n_pci + snap.n_disks + snap.n_gpus, 0);
	for (int g = 0; g < TELEMETRY_GROUP_NR; g++)
		assert_int_equal(snap.groups[g].source, TELEMETRY_NONE);
	telemetry_destroy(t);
	tree_remove(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vm),	   cmocka_unit_test(test_hmat),
		cmocka_unit_test(test_memoryless), cmocka_unit_test(test_without_numa),
		cmocka_unit_test(test_disks),	   cmocka_unit_test(test_cadence),
		cmocka_unit_test(test_hotplug),	   cmocka_unit_test(test_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
