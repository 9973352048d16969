/* SPDX-License-Identifier: MIT */
/*
 * Description: files of /sys and /proc that lie: every file of every recorded machine in turn is
 * empty, garbage, huge, binary, a folder, missing, a FIFO or a link into nowhere. Nothing crashes or
 * hangs, every value is unknown or in its range, and a value that cannot be is not shown.
 */
#include "common.h"
#include "base/fs.h"
#include "telemetry/perf.h"

static struct telemetry_snapshot snap;

static const char *const lies[] = {
	"",
	"\n",
	"garbage\n",
	"-1\n",
	"18446744073709551615\n",
	"18446744073709551616\n",
	"99999999999999999999999999999999\n",
	"0x\n",
	"1 2 3 4 5 6 7 8 9 10\n",
	"0-4294967295\n",
	"0-8191,0-8191\n",
	"5-2\n",
	",,,,\n",
	"Node 0 MemTotal: 18446744073709551615 kB\nNode 0 MemFree: 3 kB\n",
	"Node 0 MemTotal: 5 kB\nNode 0 MemFree: 7 kB\n",
	"MemTotal:\nMemFree: x kB\n",
	"some avg10=999.99 avg60=x total=99999999999999999999\nfull\n",
	"  1 2 ../../x 1 2 3 4 5 6 7 8 9 10 11\n 8 0 sda\n 8 0 sda 1 2 18446744073709551615 4 5 6 7 8 9\n",
	"999999999 GT/s PCIe\n",
	"8.0\n",
	"event=0xffffffffffffffff,umask=,=,,event\n",
	"config:63-0,9999999999999999999999\n",
	"config:\n",
	"\xff\xfe\x00\x01",
};

static int fake_open(void *arg, const struct pmu_counter *c)
{
	return 3;
}

static int fake_read(void *arg, int fd, struct perf_value *ret)
{
	static uint64_t n;

	n = n * 6364136223846793005u + 1442695040888963407u;
	*ret = (struct perf_value){ n, n >> 7, n >> 9 };
	return 0;
}

static void fake_close(void *arg, int fd)
{
}

static const struct telemetry_perf_ops fake = { fake_open, fake_read, fake_close, NULL };

static void check_snapshot(void)
{
	assert_true(snap.n_nodes <= NODES_KNOWN && snap.n_pci <= TELEMETRY_MAX_PCI);
	for (uint32_t i = 0; i < snap.n_nodes; i++) {
		const struct telemetry_node *n = &snap.nodes[i];

		assert_in_range(n->id, 0, NODES_KNOWN - 1);
		assert_true(!i || n->id > snap.nodes[i - 1].id);
		assert_true(n->n_huge <= TELEMETRY_MAX_HUGE_SIZES);
		if (n->total_bytes != UNKNOWN && n->free_bytes != UNKNOWN)
			assert_true(n->free_bytes <= n->total_bytes);
	}
	for (uint32_t i = 0; i < snap.n_pci; i++) {
		const struct telemetry_pci *p = &snap.pci[i];

		assert_true(text_is_bdf(p->bdf, strlen(p->bdf)));
		assert_true(p->width == UNKNOWN || (p->width >= 1 && p->width <= 32));
		assert_true(p->speed_mts == UNKNOWN || p->speed_mts < 1000000);
		assert_true(p->node >= -1 && p->node < NODES_KNOWN);
	}
	for (uint32_t i = 0; i < snap.n_disks; i++)
		assert_null(strchr(snap.disks[i].name, '/'));
	assert_true(snap.pressure.cpu.some_avg10 == UNKNOWN ||
		    snap.pressure.cpu.some_avg10 <= 10099);
}

static void sample(const struct tree *tree)
{
	struct telemetry_config config = tree_config(tree);
	struct telemetry *t;

	config.perf = &fake;
	t = open_tree(&config);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(telemetry_read(t, &snap), 0);
		check_snapshot();
		test_clock_ns += 100 * MS;
	}
	telemetry_destroy(t);
}

/* The files of a tree, so that they can be replaced one at a time. */
static char paths[512][256];
static unsigned n_paths;
static size_t root_len;

static int remember(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_F && n_paths < 512)
		snprintf(paths[n_paths++], sizeof(paths[0]), "%s", path + root_len + 1);
	return 0;
}

static void read_whole(const struct tree *tree, const char *path, char *buf, size_t room,
		       size_t *ret_n)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", tree->root, path);
	f = fopen(full, "r");
	assert_non_null(f);
	*ret_n = fread(buf, 1, room, f);
	fclose(f);
}

static void spoil_each(const char *name)
{
	struct tree tree = tree_make(name);

	n_paths = 0;
	root_len = strlen(tree.root);
	nftw(tree.root, remember, 16, FTW_PHYS);
	assert_true(n_paths > 10 && n_paths < 512);
	for (unsigned i = 0; i < n_paths; i++) {
		char full[512], was[8192];
		size_t n;

		read_whole(&tree, paths[i], was, sizeof(was), &n);
		snprintf(full, sizeof(full), "%s/%s", tree.root, paths[i]);
		/* one lie a file here, all of them over the files; each starts elsewhere */
		for (size_t k = 0; k < 3; k++) {
			const char *lie = lies[(i * 7 + k * 5) % (sizeof(lies) / sizeof(lies[0]))];

			tree_text(&tree, paths[i], lie);
			sample(&tree);
		}
		tree_write(&tree, paths[i], "\0\0\0\0", 4);
		sample(&tree);
		assert_int_equal(unlink(full), 0);
		switch (i % 4) {
		case 0: /* missing */
			break;
		case 1:
			assert_int_equal(mkdir(full, 0755), 0);
			break;
		case 2: /* nobody writes it: must not block */
			assert_int_equal(mkfifo(full, 0644), 0);
			break;
		case 3:
			assert_int_equal(symlink("nowhere", full), 0);
			break;
		}
		sample(&tree);
		remove(full);
		tree_write(&tree, paths[i], was, n);
	}
	tree_remove(&tree);
}

static void test_xeon(void **state)
{
	spoil_each("xeon");
}

static void test_epyc(void **state)
{
	spoil_each("epyc");
}

static void test_vm(void **state)
{
	spoil_each("vm");
}

/* Every lie in every hot file. */
static void test_every_lie(void **state)
{
	static const char *const hot[] = {
		"sys/devices/system/node/online",
		"sys/devices/system/node/node0/cpulist",
		"sys/devices/system/node/node0/distance",
		"sys/devices/system/node/node0/meminfo",
		"sys/devices/system/node/node0/numastat",
		"proc/diskstats",
		"proc/pressure/cpu",
		"proc/cpuinfo",
		"sys/bus/event_source/devices/amd_df/cpumask",
		"sys/bus/event_source/devices/amd_df/type",
		"sys/bus/event_source/devices/amd_df/format/event",
		"sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/class",
		"sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/numa_node",
		"sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/current_link_speed",
		"sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/current_link_width",
		"sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/aer_dev_correctable",
	};

	for (size_t i = 0; i < sizeof(hot) / sizeof(hot[0]); i++) {
		struct tree tree = tree_make("epyc");

		for (size_t k = 0; k < sizeof(lies) / sizeof(lies[0]); k++) {
			tree_text(&tree, hot[i], lies[k]);
			sample(&tree);
		}
		tree_remove(&tree);
	}
}

/* Far more than fits into any buffer. */
static void test_long(void **state)
{
	static const char *const files[] = { "sys/devices/system/node/node0/meminfo",
					     "sys/devices/system/node/node0/distance",
					     "sys/devices/system/node/node0/cpulist",
					     "sys/devices/system/node/online",
					     "proc/diskstats",
					     "proc/cpuinfo",
					     "proc/pressure/io" };
	struct tree tree = tree_make("epyc");
	size_t n = 1 << 20;
	char *much = malloc(n);

	assert_non_null(much);
	for (size_t i = 0; i < n; i++)
		much[i] = "0,1 2\n"[i % 6];
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		tree_write(&tree, files[i], much, n);
		sample(&tree);
	}
	memset(much, '7', n);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		tree_write(&tree, files[i], much, n);
		sample(&tree);
	}
	free(much);
	tree_remove(&tree);
}

/* Links that lead in circles, out of the tree, or to something else. */
static void test_links(void **state)
{
	static const char *const targets[] = { "0000:41:00.0",
					       "..",
					       "/",
					       "/proc/self",
					       "nowhere",
					       "0000:41:00.0/0000:41:00.0",
					       "../0000:99:00.0/0000:98:00.0" };

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct tree tree = tree_make("epyc");

		tree_delete(&tree, "sys/bus/pci/devices/0000:41:00.0");
		tree_link(&tree, "sys/bus/pci/devices/0000:41:00.0", targets[i]);
		tree_delete(&tree, "sys/block/nvme0n1");
		tree_link(&tree, "sys/block/nvme0n1", targets[i]);
		sample(&tree);
		tree_remove(&tree);
	}
}

static void test_text(void **state)
{
	uint64_t value = 5, bits[2];

	assert_true(text_u64(" 12\n", &value));
	assert_int_equal(value, 12);
	assert_true(text_u64("0x1F", &value));
	assert_int_equal(value, 31);
	assert_false(text_u64("", &value));
	assert_false(text_u64("1 2", &value));
	assert_false(text_u64("+1", &value));
	assert_false(text_u64("0x", &value));
	assert_false(text_u64("18446744073709551615", &value)); /* that is unknown */
	assert_int_equal(value, 31);
	assert_int_equal(text_list("0-3,8", bits, 2), 5);
	assert_int_equal(bits[0], 0x10f);
	assert_int_equal(text_list("127", bits, 2), 1);
	assert_int_equal(bits[1], 1ull << 63);
	assert_int_equal(text_list("3,3,2-3\n", bits, 2), 2);
	assert_int_equal(text_list("\n", bits, 2), 0);
	assert_true(text_list("128", bits, 2) < 0);
	assert_true(text_list("1-", bits, 2) < 0);
	assert_true(text_list("a", bits, 2) < 0);
	assert_true(text_list("1;2", bits, 2) < 0);
	assert_true(text_is_bdf("0000:01:00.7", 12));
	assert_true(text_is_bdf("10000:e1:00.0", 13));
	assert_false(text_is_bdf("0000:01:00.8", 12));
	assert_false(text_is_bdf("0000:01:00", 10));
	assert_false(text_is_bdf("0000-01:00.0", 12));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_xeon), cmocka_unit_test(test_epyc),
		cmocka_unit_test(test_vm),   cmocka_unit_test(test_every_lie),
		cmocka_unit_test(test_long), cmocka_unit_test(test_links),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
