/* SPDX-License-Identifier: MIT */
/*
 * Description: memory-controller counters: which ones a recorded machine has and how they are
 * encoded, and what becomes of them through a fake perf_event_open: rates with and without
 * multiplexing, permission refused, a counter that is lost and comes back. No real PMU is used.
 */
#include <errno.h>

#include "common.h"
#include "telemetry/perf.h"

static struct telemetry_snapshot snap;

/* ---- a fake of the kernel's counters ---- */

#define FAKE_MAX 64

static struct {
	struct pmu_counter counter;
	struct perf_value value;
	bool open;
} fake[FAKE_MAX];
static int n_fake, fail_open, fail_read = -1;

static int fake_open(void *arg, const struct pmu_counter *c)
{
	if (fail_open)
		return fail_open;
	for (int i = 0; i < n_fake; i++)
		if (!fake[i].open && fake[i].counter.type == c->type &&
		    fake[i].counter.config == c->config && fake[i].counter.cpu == c->cpu) {
			fake[i].open = true;
			fake[i].value = (struct perf_value){ 0 };
			return i + 100;
		}
	assert_true(n_fake < FAKE_MAX);
	fake[n_fake].counter = *c;
	fake[n_fake].open = true;
	return n_fake++ + 100;
}

static int fake_read(void *arg, int fd, struct perf_value *ret)
{
	assert_true(fake[fd - 100].open);
	if (fd - 100 == fail_read)
		return -ENODEV;
	*ret = fake[fd - 100].value;
	return 0;
}

static void fake_close(void *arg, int fd)
{
	assert_true(fake[fd - 100].open);
	fake[fd - 100].open = false;
}

static const struct telemetry_perf_ops fake_ops = { fake_open, fake_read, fake_close, NULL };

static struct telemetry *open_fake(const struct tree *tree)
{
	struct telemetry_config config = tree_config(tree);

	memset(fake, 0, sizeof(fake));
	n_fake = 0;
	fail_read = -1;
	config.perf = &fake_ops;
	return open_tree(&config);
}

static void step(uint64_t ns, uint64_t running_ns)
{
	test_clock_ns += ns;
	for (int i = 0; i < n_fake; i++) {
		fake[i].value.enabled_ns += ns;
		fake[i].value.running_ns += running_ns;
	}
}

/* ---- encodings ---- */

static void test_encode(void **state)
{
	struct tree tree = tree_make("epyc");
	const char *dir = "sys/bus/event_source/devices/amd_df";
	uint64_t config[3];
	struct fs fs;

	tree_text(&tree, "sys/bus/event_source/devices/amd_df/format/ldlat", "config1:0-15\n");
	tree_text(&tree, "sys/bus/event_source/devices/amd_df/format/inv", "config:23\n");
	tree_text(&tree, "sys/bus/event_source/devices/amd_df/format/bad", "config9:0-1\n");
	tree_text(&tree, "sys/bus/event_source/devices/amd_df/format/worse", "config:70\n");
	assert_int_equal(fs_open(&fs, tree.root), 0);
	assert_int_equal(pmu_encode(&fs, dir, "event=0x107,umask=0x38\n", config), 0);
	assert_int_equal(config[0], 0x07 | 0x38 << 8 | (uint64_t)1 << 32);
	assert_int_equal(pmu_encode(&fs, dir, "event=0x1c7,inv,ldlat=3", config), 0);
	assert_int_equal(config[0], 0xc7 | 1 << 23 | (uint64_t)1 << 32);
	assert_int_equal(config[1], 3);
	assert_int_equal(pmu_encode(&fs, dir, "config=0x1234,config2=5", config), 0);
	assert_int_equal(config[0], 0x1234);
	assert_int_equal(config[2], 5);
	assert_int_equal(pmu_encode(&fs, dir, "umask=0x100", config), -EINVAL); /* 9 bits in 8 */
	assert_int_equal(pmu_encode(&fs, dir, "nonsense=1", config), -EINVAL);
	assert_int_equal(pmu_encode(&fs, dir, "bad=1", config), -EINVAL);
	assert_int_equal(pmu_encode(&fs, dir, "worse=1", config), -EINVAL);
	assert_int_equal(pmu_encode(&fs, dir, "event=x", config), -EINVAL);
	assert_int_equal(pmu_encode(&fs, dir, "../type=1", config), -EINVAL);
	assert_int_equal(pmu_encode(&fs, dir, "", config), -EINVAL);
	fs_close(&fs);
	tree_remove(&tree);
}

static void test_scale(void **state)
{
	assert_int_equal(pmu_bytes_per_count("6.103515625e-5\n", "MiB\n"), 64);
	assert_int_equal(pmu_bytes_per_count("6.1e-5\n", "MiB\n"), 64);
	assert_int_equal(pmu_bytes_per_count("0.0625", "KiB"), 64);
	assert_int_equal(pmu_bytes_per_count("32", "Bytes"), 32);
	assert_int_equal(pmu_bytes_per_count("6.1e-5", "Joules"), 0);
	assert_int_equal(pmu_bytes_per_count("", "MiB"), 0);
	assert_int_equal(pmu_bytes_per_count("nan", "B"), 0);
	assert_int_equal(pmu_bytes_per_count("inf", "B"), 0);
	assert_int_equal(pmu_bytes_per_count("-64", "B"), 0);
	assert_int_equal(pmu_bytes_per_count("1e300", "MiB"), 0);
	assert_int_equal(pmu_bytes_per_count("64x", "B"), 0);
	assert_int_equal(pmu_bytes_per_count("1.5", "B"), 0);
}

static int find(const char *name, struct pmu_counter *found, uint32_t room, struct err *why)
{
	struct tree tree = tree_make(name);
	struct fs fs;
	int n;

	assert_int_equal(fs_open(&fs, tree.root), 0);
	n = pmu_find(&fs, found, room, why);
	fs_close(&fs);
	tree_remove(&tree);
	return n;
}

static void test_find(void **state)
{
	struct pmu_counter found[64];
	struct err why = { { 0 } };

	/* two controllers, reads and writes, two sockets; the second kind of counters left out */
	assert_int_equal(find("xeon", found, 64, &why), 8);
	assert_int_equal(found[0].type, 14);
	assert_int_equal(found[0].config, 0x0304);
	assert_int_equal(found[0].cpu, 0);
	assert_int_equal(found[0].socket, 0);
	assert_int_equal(found[0].kind, TELEMETRY_READ);
	assert_int_equal(found[0].bytes_per_count, 64);
	assert_int_equal(found[1].cpu, 4);
	assert_int_equal(found[1].socket, 1);
	assert_int_equal(found[2].config, 0x0c04);
	assert_int_equal(found[2].kind, TELEMETRY_WRITE);
	assert_int_equal(found[7].type, 15);
	/* eight channels of the fabric, reads and writes together */
	assert_int_equal(find("epyc", found, 64, &why), 8);
	for (int i = 0; i < 8; i++) {
		uint64_t event = 0x07 + 0x40 * (uint64_t)i;

		assert_int_equal(found[i].type, 10);
		assert_int_equal(found[i].kind, TELEMETRY_TOTAL);
		assert_int_equal(found[i].config, (event & 0xff) | 0x38 << 8 | (event >> 8) << 32);
	}
	/* both halves of a controller */
	assert_int_equal(find("snc", found, 64, &why), 4);
	assert_int_equal(found[0].config, 0xcf05);
	assert_int_equal(found[1].config, 0xcf06);
	assert_string_equal(why.text, "");
	assert_int_equal(find("xeon", found, 7, &why), -E2BIG);
	why.text[0] = '\0';
	assert_int_equal(find("vm", found, 64, &why), 0);
	assert_non_null(strstr(why.text, "no memory-controller counters"));
}

#define UMC "sys/bus/event_source/devices/amd_umc_"

static void test_umc(void **state)
{
	struct tree tree = tree_make("epyc");
	struct pmu_counter found[64];
	struct err why = { { 0 } };
	struct fs fs;

	for (int i = 0; i < 12; i++) {
		char path[128], text[32];

		snprintf(path, sizeof(path), UMC "%d/type", i);
		snprintf(text, sizeof(text), "%d\n", 30 + i);
		tree_text(&tree, path, text);
		snprintf(path, sizeof(path), UMC "%d/cpumask", i);
		tree_text(&tree, path, "0\n");
		snprintf(path, sizeof(path), UMC "%d/format/event", i);
		tree_text(&tree, path, "config:0-7\n");
		snprintf(path, sizeof(path), UMC "%d/format/rdwrmask", i);
		tree_text(&tree, path, "config:8-9\n");
	}
	assert_int_equal(fs_open(&fs, tree.root), 0);
	/* Zen 2 has no such PMUs: what we know of it is the fabric */
	assert_int_equal(pmu_find(&fs, found, 64, &why), 8);
	assert_int_equal(found[0].type, 10);
	tree_text(&tree, "proc/cpuinfo", /* Zen 4 */
		  "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n");
	assert_int_equal(pmu_find(&fs, found, 64, &why), 24);
	assert_int_equal(found[0].type, 30);
	assert_int_equal(found[0].config, 0x10a);
	assert_int_equal(found[1].config, 0x20a);
	assert_int_equal(found[1].kind, TELEMETRY_WRITE);
	assert_int_equal(found[4].type, 32); /* in the order of their numbers */
	tree_text(&tree, "proc/cpuinfo",
		  "vendor_id\t: AuthenticAMD\ncpu family\t: 99\nmodel\t: 1\n");
	assert_int_equal(pmu_find(&fs, found, 64, &why), 0); /* not guessed at */
	assert_non_null(strstr(why.text, "not known to us"));
	fs_close(&fs);
	tree_remove(&tree);
}

/* ---- through the source ---- */

static void test_rates(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t = open_fake(&tree);

	telemetry_read(t, &snap);
	assert_int_equal(n_fake, 8);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, UNKNOWN);
	step(100 * MS, 100 * MS);
	for (int i = 0; i < n_fake; i++)
		fake[i].value.count = fake[i].counter.socket ? 10 : 1000000;
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, 2 * 1000000ull * 64 * 10);
	assert_int_equal(node_of(&snap, 0)->rate.write_bytes_per_s, 2 * 1000000ull * 64 * 10);
	assert_int_equal(node_of(&snap, 0)->rate.total_bytes_per_s, 4 * 1000000ull * 64 * 10);
	assert_int_equal(node_of(&snap, 1)->rate.total_bytes_per_s, 4 * 10 * 64 * 10);
	assert_int_equal(node_of(&snap, 0)->rate.origin.source, TELEMETRY_PERF);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_BANDWIDTH].source, TELEMETRY_PERF);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_MEMORY].source, TELEMETRY_SYSFS);
	/* 2.56 GB/s of the 200 GiB/s that HMAT names: 11 thousandths */
	assert_int_equal(telemetry_node_load(&snap, 0), 11);
	telemetry_destroy(t);
	for (int i = 0; i < n_fake; i++)
		assert_false(fake[i].open);
	tree_remove(&tree);
}

/* Eight events on four counters: each runs half of the time. */
static void test_multiplexed(void **state)
{
	struct tree tree = tree_make("epyc");
	struct telemetry *t = open_fake(&tree);

	telemetry_read(t, &snap);
	step(100 * MS, 50 * MS);
	for (int i = 0; i < n_fake; i++)
		fake[i].value.count += 1000;
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.total_bytes_per_s, 8 * 2000 * 64 * 10);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, UNKNOWN);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_per_socket(void **state)
{
	struct tree tree = tree_make("snc");
	struct telemetry *t = open_fake(&tree);

	telemetry_read(t, &snap);
	step(100 * MS, 100 * MS);
	telemetry_read(t, &snap);
	assert_int_equal(snap.n_sockets, 1);
	assert_int_equal(snap.sockets[0].nodes, 3);
	assert_int_equal(snap.sockets[0].rate.total_bytes_per_s, 0);
	assert_int_equal(node_of(&snap, 0)->rate.total_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_BANDWIDTH].source, TELEMETRY_PERF);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_lost(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t = open_fake(&tree);

	telemetry_read(t, &snap);
	step(100 * MS, 100 * MS);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.total_bytes_per_s, 0);
	fail_read = 0; /* a read counter of socket 0 */
	fail_open = -ENODEV;
	step(100 * MS, 100 * MS);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, UNKNOWN);
	assert_int_equal(node_of(&snap, 0)->rate.write_bytes_per_s, 0);
	assert_int_equal(node_of(&snap, 0)->rate.total_bytes_per_s, UNKNOWN);
	assert_int_equal(node_of(&snap, 1)->rate.total_bytes_per_s, 0);
	fail_read = -1;
	fail_open = 0;
	step(100 * MS, 100 * MS);
	telemetry_read(t, &snap); /* not tried again so soon */
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, UNKNOWN);
	step(SECOND, SECOND);
	telemetry_read(t, &snap); /* open again, but it began at zero */
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, UNKNOWN);
	step(100 * MS, 100 * MS);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, 0);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_refused(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t = open_fake(&tree);

	fail_open = -EACCES;
	telemetry_read(t, &snap);
	assert_true(has_note(t, "no permission to read the memory controllers"));
	assert_true(has_note(t, "CAP_PERFMON"));
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_BANDWIDTH].source, TELEMETRY_NONE);
	assert_int_equal(node_of(&snap, 0)->total_bytes, 197000000ull * 1024); /* the rest works */
	fail_open = 0; /* granted, and found a while later */
	test_clock_ns += 31 * SECOND;
	telemetry_read(t, &snap);
	step(100 * MS, 100 * MS);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, 0);
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* A counter that cannot be had makes none of the others useful. */
static void test_incomplete(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t;

	tree_text(&tree, "sys/bus/event_source/devices/uncore_imc_1/events/cas_count_read.scale",
		  "x\n");
	tree_delete(&tree, "sys/bus/event_source/devices/uncore_imc_free_running_0/type");
	t = open_fake(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(n_fake, 0);
	assert_true(has_note(t, "not known to us"));
	telemetry_destroy(t);
	tree_remove(&tree);
}

#define IMC "sys/bus/event_source/devices/uncore_imc_0"

/*
 * The real system call on the one counter that every machine has: the CPU clock, a nanosecond a
 * count, dressed up as a memory controller. A sandbox may refuse it: then that is what is said.
 */
static void test_real_call(void **state)
{
	struct tree tree = tree_make("vm");
	struct telemetry_config config = { .root = tree.root, .no_module = true };
	struct telemetry *t;
	uint64_t rate = 0;

	tree_text(&tree, IMC "/type", "1\n");
	tree_text(&tree, IMC "/cpumask", "0\n");
	tree_text(&tree, IMC "/events/cas_count_read", "config=0\n");
	tree_text(&tree, IMC "/events/cas_count_read.scale", "64\n");
	tree_text(&tree, IMC "/events/cas_count_read.unit", "B\n");
	t = open_tree(&config);
	telemetry_read(t, &snap);
	/* again where the machine stood still between the counter and the clock */
	for (int i = 0; i < 40 && (rate < 32000000000 || rate > 96000000000); i++) {
		usleep(50000);
		telemetry_read(t, &snap);
		rate = node_of(&snap, 0)->rate.read_bytes_per_s;
		if (rate == UNKNOWN)
			break;
	}
	if (rate == UNKNOWN) {
		print_message("refused here: %s\n", telemetry_note(t, 0));
		assert_true(has_note(t, "memory bandwidth is unknown"));
	} else {
		/* 64 bytes times 10^9 a second, for what a busy machine makes of 50 ms */
		print_message("%.3f ns a nanosecond\n", (double)rate / 64e9);
		assert_in_range(rate, 32000000000, 96000000000);
		assert_int_equal(node_of(&snap, 0)->rate.origin.source, TELEMETRY_PERF);
	}
	telemetry_destroy(t);
	tree_remove(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encode),	   cmocka_unit_test(test_scale),
		cmocka_unit_test(test_find),	   cmocka_unit_test(test_umc),
		cmocka_unit_test(test_rates),	   cmocka_unit_test(test_multiplexed),
		cmocka_unit_test(test_per_socket), cmocka_unit_test(test_lost),
		cmocka_unit_test(test_refused),	   cmocka_unit_test(test_incomplete),
		cmocka_unit_test(test_real_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
