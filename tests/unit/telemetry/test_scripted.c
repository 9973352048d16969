/* SPDX-License-Identifier: MIT */
/*
 * Description: snapshots from a script: every kind of line, unknown values, rates between samples,
 * the last sample repeated, and scripts that are refused with the line at fault.
 */
#include <errno.h>

#include "common.h"

static struct telemetry_snapshot snap;

static const char story[] =
	"# two nodes, one of them busy\n"
	"sample 0\n"
	"node 1 total=2000 free=0x64 socket=1 distance=21,10 total_rate=7 peak=70\n"
	"node 0 total=1000 free=? socket=0 cpus=8 distance=10,21 peak=128000 hit=5\n"
	"huge 0 2097152 total=10 free=3\n"
	"counter 1 kind=total socket=0 bytes=64 count=100 enabled=1000 running=1000\n"
	"pci 0000:01:00.0 node=0 class=0x030000 speed=16000 width=8 max_speed=16000 max_width=16\n"
	"disk nvme0n1 node=0 read=1000 inflight=4   # at work\n"
	"gpu 0000:01:00.0 memory_total=24 busy=90 rx=5\n"
	"pressure io some=123 full=4\n"
	"\n"
	"sample 500\r\n"
	"node 0 total=1000 free=900 socket=0 peak=128000\n"
	"node 1\n"
	"counter 1 kind=total socket=0 bytes=64 count=600 enabled=500001000 running=250001000\n"
	"disk nvme0n1 read=6000 inflight=0\n";

static struct telemetry *open_script(const struct tree *tree, const char *text)
{
	struct telemetry_config config = tree_config(tree);
	struct telemetry *t;
	struct err err = { { 0 } };
	static char path[128];

	tree_text(tree, "script", text);
	snprintf(path, sizeof(path), "%s/script", tree->root);
	config.script = path;
	if (telemetry_create(&config, &t, &err))
		fail_msg("%s", err.text);
	return t;
}

static void test_story(void **state)
{
	struct tree tree = tree_empty();
	struct telemetry *t = open_script(&tree, story);

	assert_int_equal(telemetry_read(t, &snap), 0);
	assert_int_equal(snap.n_nodes, 2);
	assert_int_equal(snap.nodes[0].id, 0);
	assert_int_equal(snap.nodes[0].total_bytes, 1000);
	assert_int_equal(snap.nodes[0].free_bytes, UNKNOWN);
	assert_int_equal(snap.nodes[0].n_cpus, 8);
	assert_int_equal(snap.nodes[0].distance[1], 21);
	assert_int_equal(snap.nodes[0].huge[0].free, 3);
	assert_int_equal(snap.nodes[0].huge[0].surplus, UNKNOWN);
	assert_int_equal(snap.nodes[0].rate.total_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.nodes[1].free_bytes, 100);
	assert_int_equal(snap.nodes[1].rate.total_bytes_per_s, 7);
	assert_int_equal(telemetry_node_load(&snap, 1), 100);
	assert_int_equal(snap.pci[0].degraded, TELEMETRY_YES);
	assert_int_equal(snap.pci[0].bandwidth_bytes_per_s, telemetry_link_bytes_per_s(16000, 8));
	assert_int_equal(snap.disks[0].inflight, 4);
	assert_int_equal(snap.gpus[0].busy_percent, 90);
	assert_int_equal(snap.gpus[0].tx_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.pressure.io.some_avg10, 123);
	assert_int_equal(snap.pressure.cpu.some_avg10, UNKNOWN);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_MEMORY].source, TELEMETRY_SCRIPT);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_PRESSURE].source, TELEMETRY_SCRIPT);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_HUGEPAGES].source, TELEMETRY_SCRIPT);
	test_clock_ns += 500 * MS;
	telemetry_read(t, &snap);
	/* 500 counts of 64 bytes in half a second, half of it counted: 128000 a second */
	assert_int_equal(snap.nodes[0].rate.total_bytes_per_s, 128000);
	assert_int_equal(telemetry_node_load(&snap, 0), 1000);
	assert_int_equal(snap.nodes[1].total_bytes, UNKNOWN);
	assert_int_equal(snap.disks[0].read_bytes_per_s, 10000);
	assert_int_equal(snap.n_pci, 0);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_PCI].source, TELEMETRY_NONE);
	test_clock_ns += 500 * MS;
	telemetry_read(t, &snap); /* the last one stays */
	assert_int_equal(snap.nodes[0].free_bytes, 900);
	assert_int_equal(snap.disks[0].read_bytes_per_s, 0);
	assert_int_equal(snap.nodes[0].rate.total_bytes_per_s, UNKNOWN); /* it did not run */
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void refuse(const char *text, const char *why)
{
	struct tree tree = tree_empty();
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t = NULL;
	struct err err = { { 0 } };
	char path[128];

	tree_text(&tree, "script", text);
	snprintf(path, sizeof(path), "%s/script", tree.root);
	config.script = path;
	assert_int_equal(telemetry_create(&config, &t, &err), -EINVAL);
	assert_null(t);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" lacks \"%s\"", err.text, why);
	tree_remove(&tree);
}

static void test_refused(void **state)
{
	struct telemetry_config config = { .script = "/nonexistent/script" };
	struct telemetry *t = NULL;
	struct err err = { { 0 } };
	char line[2048];

	refuse("", "no sample in it");
	refuse("# nothing\n\n", "no sample in it");
	refuse("node 0\n", "script:1:");
	refuse("sample x\n", "script:1:");
	refuse("sample 0\nnode 64\n", "script:2:");
	refuse("sample 0\nnode 0 total=-1\n", "script:2:");
	refuse("sample 0\nnode 0 total=18446744073709551616\n", "script:2:");
	refuse("sample 0\nnode 0 tota=1\n", "script:2:");
	refuse("sample 0\nnode 0 total\n", "script:2:");
	refuse("sample 0\nnode 0 distance=10,256\n", "script:2:");
	refuse("sample 0\nnode 0\nsample 1\nnode 0\n\nnod 0\n", "script:6:");
	refuse("sample 0\ncounter 1 kind=both\n", "script:2:");
	refuse("sample 0\npci 01:00.0\n", "script:2:");
	refuse("sample 0\npressure disk some=1\n", "script:2:");
	refuse("sample 0\nhuge 0\n", "script:2:");
	refuse("sample 0\ndisk\n", "script:2:");
	snprintf(line, sizeof(line), "sample 0\ndisk %01500d\n", 1);
	refuse(line, "script:2:");
	assert_int_equal(telemetry_create(&config, &t, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/script"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_story),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
