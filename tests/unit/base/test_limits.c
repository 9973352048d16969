/* SPDX-License-Identifier: MIT */
/*
 * Description: what this process may use, over made-up trees of /proc and /sys: control groups of
 * version 1, version 2 and both, nested and inside containers; missing and damaged files are
 * unknown, never 0.
 */
#include "../tree.h"

#include <sched.h>

#include "base/limits.h"

#define MIB (1024ull * 1024)
#define GIB (1024 * MIB)

#define MEMINFO                                                      \
	"MemTotal:       16777216 kB\nMemFree:         1048576 kB\n" \
	"MemAvailable:   8388608 kB\nCached:          7340032 kB\n"
#define V1 "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
#define V2 "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"

static struct limits read_tree(const struct tree *t)
{
	struct limits l;

	limits_read(t->root, &l);
	return l;
}

/* A machine of 16 GiB, 8 available, this process in @groups with @mounts. */
static struct tree machine(const char *groups, const char *mounts)
{
	struct tree t = tree_empty();

	tree_text(&t, "proc/meminfo", MEMINFO);
	tree_text(&t, "proc/self/cgroup", groups);
	tree_text(&t, "proc/self/mountinfo", mounts);
	return t;
}

static void put(const struct tree *t, const char *dir, const char *file, const char *text)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	tree_text(t, path, text);
}

static void test_no_groups(void **state)
{
	struct tree t = tree_empty();
	struct limits l;

	tree_text(&t, "proc/meminfo", MEMINFO);
	l = read_tree(&t);
	assert_int_equal(l.machine_bytes, 16 * GIB);
	assert_int_equal(l.available_bytes, 8 * GIB);
	assert_int_equal(l.limit_bytes, 16 * GIB);
	assert_int_equal(l.room_bytes, 8 * GIB);
	assert_string_equal(l.memory_from, "machine");
	assert_true(l.quota_millicpus == LIMITS_UNKNOWN);
	assert_int_equal(l.huge_total, 0);
	assert_false(l.huge_pool);
	assert_int_equal(limits_huge_bytes(&l), 0);
	tree_remove(&t);
}

/* Nothing at all, a folder that is not there, and files with nothing usable in them. */
static void test_unknown(void **state)
{
	static const char *const bad[] = { "", "MemTotal\n", "MemTotal: x kB\nMemAvailable: 7 kB\n",
					   "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
					   "MemTotal: 99999999999999999999 kB\n" };
	struct tree t = tree_empty();
	struct limits l = read_tree(&t);

	assert_true(l.machine_bytes == LIMITS_UNKNOWN && l.available_bytes == LIMITS_UNKNOWN);
	assert_true(l.limit_bytes == LIMITS_UNKNOWN && l.room_bytes == LIMITS_UNKNOWN);
	assert_string_equal(l.memory_from, "unknown");
	assert_true(l.cpus >= 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		tree_text(&t, "proc/meminfo", bad[i]);
		l = read_tree(&t);
		if (l.machine_bytes != LIMITS_UNKNOWN || l.room_bytes != LIMITS_UNKNOWN)
			fail_msg("\"%s\" gives %llu bytes", bad[i],
				 (unsigned long long)l.room_bytes);
	}
	tree_remove(&t);
	limits_read("/nonexistent/tree", &l);
	assert_true(l.room_bytes == LIMITS_UNKNOWN && l.huge_room_bytes == LIMITS_UNKNOWN);
	assert_true(l.cpus >= 1);
	assert_true(limits_assume_bytes() > 0 && limits_assume_bytes() <= LIMITS_ASSUME_MOST);
}

/* A kernel that does not estimate what is available, and one that says more than there is. */
static void test_available(void **state)
{
	struct tree t = tree_empty();

	tree_text(&t, "proc/meminfo", "MemTotal: 4096 kB\nMemFree: 1024 kB\nCached: 512 kB\n");
	assert_int_equal(read_tree(&t).room_bytes, 1536 * 1024);
	tree_text(&t, "proc/meminfo", "MemTotal: 4096 kB\nMemAvailable: 8192 kB\n");
	assert_int_equal(read_tree(&t).room_bytes, 4096 * 1024);
	tree_text(&t, "proc/meminfo", "MemTotal: 4096 kB\n");
	assert_true(read_tree(&t).room_bytes == LIMITS_UNKNOWN);
	assert_int_equal(read_tree(&t).machine_bytes, 4096 * 1024);
	tree_remove(&t);
}

static void test_v1(void **state)
{
	struct tree t = machine("5:cpuset:/x\n4:hugetlb,memory:/a/b\n0::/\n", V1);
	struct limits l;

	put(&t, "sys/fs/cgroup/memory/a/b", "memory.limit_in_bytes", "1073741824\n");
	put(&t, "sys/fs/cgroup/memory/a/b", "memory.usage_in_bytes", "536870912\n");
	put(&t, "sys/fs/cgroup/memory/a/b", "memory.stat",
	    "cache 999\ninactive_file 1\nactive_file 1\nhierarchical_memory_limit 1073741824\n"
	    "total_cache 999\ntotal_inactive_file 104857600\ntotal_active_file 104857600\n");
	l = read_tree(&t);
	assert_int_equal(l.limit_bytes, GIB);
	assert_int_equal(l.room_bytes, 512 * MIB + 200 * MIB);
	assert_string_equal(l.memory_from, "cgroup /sys/fs/cgroup/memory/a/b");
	assert_int_equal(l.machine_bytes, 16 * GIB);

	/* the level above is tighter */
	put(&t, "sys/fs/cgroup/memory/a", "memory.limit_in_bytes", "805306368\n");
	put(&t, "sys/fs/cgroup/memory/a", "memory.usage_in_bytes", "700000000\n");
	l = read_tree(&t);
	assert_int_equal(l.limit_bytes, 768 * MIB);
	assert_int_equal(l.room_bytes, 768 * MIB - 700000000);
	assert_string_equal(l.memory_from, "cgroup /sys/fs/cgroup/memory/a");

	/* but does not count where groups are not charged for those below them */
	put(&t, "sys/fs/cgroup/memory/a", "memory.use_hierarchy", "0\n");
	assert_int_equal(read_tree(&t).room_bytes, 768 * MIB - 700000000);
	put(&t, "sys/fs/cgroup/memory/a/b", "memory.use_hierarchy", "0\n");
	assert_int_equal(read_tree(&t).room_bytes, 712 * MIB);

	/* no limit, and more in use than the limit */
	put(&t, "sys/fs/cgroup/memory/a/b", "memory.limit_in_bytes", "9223372036854771712\n");
	put(&t, "sys/fs/cgroup/memory/a/b", "memory.stat",
	    "hierarchical_memory_limit 9223372036854771712\n");
	l = read_tree(&t);
	assert_string_equal(l.memory_from, "machine");
	assert_int_equal(l.room_bytes, 8 * GIB);
	put(&t, "sys/fs/cgroup/memory/a/b", "memory.limit_in_bytes", "4096\n");
	assert_int_equal(read_tree(&t).room_bytes, 0);
	tree_remove(&t);
}

/* A level above a namespace cannot be seen; version 1 tells its limit all the same. */
static void test_v1_hidden_level(void **state)
{
	struct tree t = machine("4:memory:/\n", V1);
	struct limits l;

	put(&t, "sys/fs/cgroup/memory", "memory.limit_in_bytes", "9223372036854771712\n");
	put(&t, "sys/fs/cgroup/memory", "memory.usage_in_bytes", "1048576\n");
	put(&t, "sys/fs/cgroup/memory", "memory.stat", "hierarchical_memory_limit 3145728\n");
	l = read_tree(&t);
	assert_int_equal(l.room_bytes, 2 * MIB);
	assert_int_equal(l.limit_bytes, 3 * MIB);
	tree_remove(&t);
}

static void test_v2(void **state)
{
	struct tree t = machine("0::/kube.slice/pod/box\n", V2);
	struct limits l;

	put(&t, "sys/fs/cgroup/kube.slice/pod/box", "memory.max", "max\n");
	put(&t, "sys/fs/cgroup/kube.slice/pod/box", "memory.high", "max\n");
	put(&t, "sys/fs/cgroup/kube.slice/pod/box", "memory.current", "4096\n");
	put(&t, "sys/fs/cgroup/kube.slice/pod", "memory.max", "2147483648\n");
	put(&t, "sys/fs/cgroup/kube.slice/pod", "memory.current", "1073741824\n");
	put(&t, "sys/fs/cgroup/kube.slice/pod", "memory.stat",
	    "anon 100\nfile 999999999\ninactive_file 1048576\nactive_file 2097152\n");
	put(&t, "sys/fs/cgroup/kube.slice", "memory.max", "4294967296\n");
	put(&t, "sys/fs/cgroup/kube.slice", "memory.current", "1073741824\n");
	l = read_tree(&t);
	assert_int_equal(l.limit_bytes, 2 * GIB);
	assert_int_equal(l.room_bytes, GIB + 3 * MIB);
	assert_string_equal(l.memory_from, "cgroup /sys/fs/cgroup/kube.slice/pod");

	/* memory.high slows down whoever is above it: it is a limit too */
	put(&t, "sys/fs/cgroup/kube.slice/pod/box", "memory.high", "1048576\n");
	l = read_tree(&t);
	assert_int_equal(l.room_bytes, MIB - 4096);
	assert_string_equal(l.memory_from, "cgroup /sys/fs/cgroup/kube.slice/pod/box");

	/* more cache than is charged: no room is made up */
	put(&t, "sys/fs/cgroup/kube.slice/pod/box", "memory.stat",
	    "inactive_file 999999999\nactive_file 1\n");
	assert_int_equal(read_tree(&t).room_bytes, MIB);
	tree_remove(&t);
}

/* Limits that are no numbers do not count; what is in use and cannot be read counts as nothing. */
static void test_garbage(void **state)
{
	static const char *const bad[] = { "",	   "\n",      "x\n",
					   "-5\n", "12 13\n", "99999999999999999999999\n" };
	struct tree t = machine("garbage\n:\n::\n0::relative\n9:memory:\n0::/box\n",
				"garbage\n - \n1 2 3 - cgroup2 x y\n1 2 0:1 / - cgroup2 x y\n"
				"1 2 0:1 / / rw - cgroup2 x y\n" V2);

	put(&t, "sys/fs/cgroup/box", "memory.current", "x\n");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(&t, "sys/fs/cgroup/box", "memory.max", bad[i]);
		put(&t, "sys/fs/cgroup/box", "cpu.max", bad[i]);
		if (read_tree(&t).room_bytes != 8 * GIB)
			fail_msg("\"%s\" is taken for a limit", bad[i]);
		assert_true(i == 4 || read_tree(&t).quota_millicpus == LIMITS_UNKNOWN);
	}
	put(&t, "sys/fs/cgroup/box", "memory.max", "1048576\n");
	assert_int_equal(read_tree(&t).room_bytes, MIB);
	tree_remove(&t);
}

/* Both versions mounted, the memory controller in version 1 only: and in version 2 only. */
static void test_hybrid(void **state)
{
	struct tree t = machine("4:memory:/one\n0::/two\n",
				V1 "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");

	put(&t, "sys/fs/cgroup/memory/one", "memory.limit_in_bytes", "2097152\n");
	put(&t, "sys/fs/cgroup/unified/two", "cgroup.procs", "");
	assert_int_equal(read_tree(&t).room_bytes, 2 * MIB);
	assert_string_equal(read_tree(&t).memory_from, "cgroup /sys/fs/cgroup/memory/one");
	put(&t, "sys/fs/cgroup/unified/two", "memory.max", "1048576\n");
	assert_int_equal(read_tree(&t).room_bytes, MIB);
	assert_string_equal(read_tree(&t).memory_from, "cgroup /sys/fs/cgroup/unified/two");
	tree_remove(&t);
}

/* A container without a namespace: its part of the tree is mounted, its name tells the whole path. */
static void test_container(void **state)
{
	struct tree t =
		machine("4:memory:/docker/abc/inner\n",
			"9 8 0:3 /docker/abc /sys/fs/cgroup/memory ro - cgroup c rw,memory\n");

	put(&t, "sys/fs/cgroup/memory", "memory.limit_in_bytes", "3145728\n");
	put(&t, "sys/fs/cgroup/memory/inner", "memory.limit_in_bytes", "2097152\n");
	assert_int_equal(read_tree(&t).room_bytes, 2 * MIB);
	tree_text(&t, "proc/self/cgroup", "4:memory:/docker/abc\n");
	assert_int_equal(read_tree(&t).room_bytes, 3 * MIB);
	/* a sibling's name that begins alike is not below it: the mount point is what can be known */
	tree_text(&t, "proc/self/cgroup", "4:memory:/docker/abcd/inner\n");
	assert_int_equal(read_tree(&t).room_bytes, 3 * MIB);
	/* moved out of its namespace: nothing is known */
	tree_text(&t, "proc/self/cgroup", "4:memory:/../other\n");
	assert_int_equal(read_tree(&t).room_bytes, 8 * GIB);
	tree_remove(&t);

	/* a namespace whose root is the container: the mount shows the level above it too */
	t = machine("0::/\n", "30 23 0:26 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	put(&t, "sys/fs/cgroup", "memory.max", "5242880\n");
	assert_int_equal(read_tree(&t).room_bytes, 5 * MIB);
	tree_remove(&t);
}

/* The right mount is found between others, under a name with a space. */
static void test_mounts(void **state)
{
	struct tree t =
		machine("0::/g\n4:memory:/g\n",
			"1 2 0:1 / /proc rw - proc proc rw\n"
			"3 2 0:2 / /sys/fs/cgroup/mem rw - cgroup cgroup rw,memoryless\n"
			"4 2 0:3 / /mnt/my\\040groups rw shared:1 - cgroup c rw,cpu,memory\n");

	put(&t, "sys/fs/cgroup/mem/g", "memory.limit_in_bytes", "1048576\n");
	put(&t, "mnt/my groups/g", "memory.limit_in_bytes", "4194304\n");
	assert_int_equal(read_tree(&t).room_bytes, 4 * MIB);
	tree_delete(&t, "proc/self/mountinfo");
	assert_int_equal(read_tree(&t).room_bytes, 8 * GIB);
	tree_remove(&t);
}

/* The group's memory is known where the machine's is not. */
static void test_group_without_meminfo(void **state)
{
	struct tree t = machine("0::/g\n", V2);

	tree_delete(&t, "proc/meminfo");
	put(&t, "sys/fs/cgroup/g", "memory.max", "4194304\n");
	assert_int_equal(read_tree(&t).room_bytes, 4 * MIB);
	assert_int_equal(read_tree(&t).limit_bytes, 4 * MIB);
	assert_true(read_tree(&t).machine_bytes == LIMITS_UNKNOWN);
	tree_remove(&t);
}

static void test_huge_pages(void **state)
{
	struct tree t = machine("7:hugetlb:/g\n0::/g\n",
				"4 2 0:3 / /sys/fs/cgroup/hugetlb rw - cgroup c rw,hugetlb\n" V2);
	const char *pool = "sys/kernel/mm/hugepages/hugepages-2048kB";
	struct limits l;

	put(&t, pool, "nr_hugepages", "100\n");
	put(&t, pool, "free_hugepages", "60\n");
	put(&t, pool, "resv_hugepages", "10\n");
	l = read_tree(&t);
	assert_true(l.huge_pool);
	assert_int_equal(l.huge_total, 100);
	assert_int_equal(l.huge_free, 50);
	assert_true(l.huge_room_bytes == LIMITS_UNKNOWN);
	assert_int_equal(limits_huge_bytes(&l), 100 * MIB);

	put(&t, "sys/fs/cgroup/hugetlb/g", "hugetlb.2MB.limit_in_bytes", "9223372036852678656\n");
	assert_true(read_tree(&t).huge_room_bytes == LIMITS_UNKNOWN);
	put(&t, "sys/fs/cgroup/hugetlb", "hugetlb.2MB.limit_in_bytes", "20971520\n");
	put(&t, "sys/fs/cgroup/hugetlb", "hugetlb.2MB.usage_in_bytes", "4194304\n");
	l = read_tree(&t);
	assert_int_equal(l.huge_room_bytes, 16 * MIB);
	assert_int_equal(limits_huge_bytes(&l), 16 * MIB);
	put(&t, "sys/fs/cgroup/g", "hugetlb.2MB.max", "8388608\n");
	assert_int_equal(read_tree(&t).huge_room_bytes, 8 * MIB);
	put(&t, "sys/fs/cgroup/g", "hugetlb.2MB.rsvd.max", "0\n");
	assert_int_equal(read_tree(&t).huge_room_bytes, 0);
	put(&t, pool, "free_hugepages", "many\n");
	assert_int_equal(read_tree(&t).huge_free, 0);
	tree_remove(&t);
}

/* Runs @check with the calling thread on @n CPUs; false where the machine has fewer. */
static bool on_cpus(int n)
{
	cpu_set_t all, some;
	int left = n;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	CPU_ZERO(&some);
	for (int cpu = 0; cpu < CPU_SETSIZE && left; cpu++)
		if (CPU_ISSET(cpu, &all)) {
			CPU_SET(cpu, &some);
			left--;
		}
	return !left && !sched_setaffinity(0, sizeof(some), &some);
}

static void test_affinity(void **state)
{
	struct tree t = machine("0::/g\n", V2);
	struct limits l;
	cpu_set_t before;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	assert_true(on_cpus(1));
	l = read_tree(&t);
	assert_int_equal(l.allowed_cpus, 1);
	assert_int_equal(l.cpus, 1);
	assert_string_equal(l.cpus_from, "affinity");
	put(&t, "sys/fs/cgroup/g", "cpu.max", "800000 100000\n");
	l = read_tree(&t);
	assert_int_equal(l.cpus, 1);
	assert_int_equal(l.quota_millicpus, 8000);
	assert_string_equal(l.cpus_from, "affinity");
	sched_setaffinity(0, sizeof(before), &before);
	tree_remove(&t);
}

static void test_quota(void **state)
{
	struct tree t = machine("0::/a/b\n3:cpu,cpuacct:/c\n",
				V2 "4 2 0:3 / /sys/fs/cgroup/cpu rw - cgroup c rw,cpu,cpuacct\n");
	unsigned all = read_tree(&t).cpus;
	struct limits l;

	put(&t, "sys/fs/cgroup/a/b", "cpu.max", "max 100000\n");
	put(&t, "sys/fs/cgroup/cpu/c", "cpu.cfs_quota_us", "-1\n");
	put(&t, "sys/fs/cgroup/cpu/c", "cpu.cfs_period_us", "100000\n");
	l = read_tree(&t);
	assert_true(l.quota_millicpus == LIMITS_UNKNOWN);
	assert_int_equal(l.cpus, all);

	/* rounded down; a part of one CPU is one */
	put(&t, "sys/fs/cgroup/a", "cpu.max", "199000 100000\n");
	l = read_tree(&t);
	assert_int_equal(l.quota_millicpus, 1990);
	assert_int_equal(l.cpus, 1);
	put(&t, "sys/fs/cgroup/a/b", "cpu.max", "50000 100000\n");
	l = read_tree(&t);
	assert_int_equal(l.quota_millicpus, 500);
	assert_int_equal(l.cpus, 1);
	assert_string_equal(l.cpus_from, "quota of cgroup /sys/fs/cgroup/a/b");

	/* version 1, and a period that is no number */
	put(&t, "sys/fs/cgroup/cpu/c", "cpu.cfs_quota_us", "20000\n");
	assert_int_equal(read_tree(&t).quota_millicpus, 200);
	put(&t, "sys/fs/cgroup/cpu/c", "cpu.cfs_period_us", "0\n");
	assert_int_equal(read_tree(&t).quota_millicpus, 500);
	tree_remove(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_groups),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_available),
		cmocka_unit_test(test_v1),
		cmocka_unit_test(test_v1_hidden_level),
		cmocka_unit_test(test_v2),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_hybrid),
		cmocka_unit_test(test_container),
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_group_without_meminfo),
		cmocka_unit_test(test_huge_pages),
		cmocka_unit_test(test_affinity),
		cmocka_unit_test(test_quota),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
