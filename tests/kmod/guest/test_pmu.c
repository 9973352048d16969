/* SPDX-License-Identifier: MIT */
/*
 * Description: WATCH_PMU: whom and what it lets in, and that the software clock counts time.
 * The only counter that an emulated machine has for a CPU is the software one; the counters of
 * memory controllers cannot be tried here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

static int watch(int fd, __u32 type, __u64 config, __u32 cpu, __u32 kind)
{
	struct sluice_watch_pmu arg = {
		.size = sizeof(arg),
		.type = type,
		.config = config,
		.cpu = cpu,
		.kind = kind,
		.bytes_per_count = 64,
	};

	return ioctl(fd, SLUICE_WATCH_PMU, &arg) ? -errno : (int)arg.slot;
}

static int as_nobody(void *arg)
{
	int fd = open(SLUICE_DEVICE_PATH, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 1;
	return guest_watch_clock(fd, 0) == -EPERM ? 0 : 2;
}

static void test_refusals(int fd)
{
	struct dirent **names;
	int i, n, rc, let_in = 0, refused = 0;

	tap_is(watch(fd, 1, 0, 100000, 0), -EINVAL, "a CPU that can never be");
	tap_is(watch(fd, 1, 0, 0, 4), -EOPNOTSUPP, "an unknown kind");
	tap_is(watch(fd, 1, 1, 0, 0), -EOPNOTSUPP, "another software event: page faults");
	tap_is(watch(fd, 0, 0, 0, 0), -EOPNOTSUPP, "cycles");
	tap_is(watch(fd, 2, 1, 0, 0), -EOPNOTSUPP, "a tracepoint");
	tap_is(watch(fd, 4, 0x3c, 0, 0), -EOPNOTSUPP, "a raw event of the core");
	tap_is(watch(fd, 5, 0, 0, 0), -EOPNOTSUPP, "a breakpoint");
	tap_is(watch(fd, 9999, 0, 0, 0), -ENOENT, "no PMU of that type");
	tap_is(watch(fd, 0xffffffffu, 0, 0, 0), -ENOENT, "type 2^32 - 1");

	/* every PMU of this kernel: kprobe, uprobe, msr belong to tasks and must stay out */
	n = scandir("/sys/bus/event_source/devices", &names, NULL, alphasort);
	for (i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		long long type = file_number(-1, "/sys/bus/event_source/devices/%s/type", name);

		if (name[0] == '.' || type < 6)
			continue;
		rc = watch(fd, (__u32)type, 0, 0, 0);
		tap_note("PMU %s, type %lld: %s", name, type, rc < 0 ? strerror(-rc) : "let in");
		if (rc >= 0 && !strstr(name, "uncore") && strncmp(name, "amd_", 4))
			let_in++;
		refused += rc < 0;
	}
	tap_ok(!let_in, "%d PMUs of tasks stay out, %d let in", refused, let_in);
}

static void test_quota(int fd)
{
	int i, rc = 0, nr = 0;

	for (i = 0; i <= (int)SLUICE_QUOTA_PMU && rc >= 0; i++) {
		rc = guest_watch_clock(fd, 0);
		nr += rc >= 0;
	}
	tap_ok(nr == SLUICE_QUOTA_PMU && rc == -EDQUOT, "%d counters, then %d", nr, rc);
}

static void test_clock(int fd, const struct sluice_get_info *info)
{
	struct sluice_page *one = guest_copy_new(info), *two = guest_copy_new(info);
	const struct sluice_page *page = guest_map(fd, info);
	int slot = watch(fd, 1, 0, 0, SLUICE_PMU_TOTAL);
	const struct sluice_pmu *a, *b;
	double counted, passed;

	if (slot < 0)
		tap_bail("the software clock: %s", strerror(-slot));
	guest_copy(page, one, info);
	usleep(400000);
	guest_wait_sample(page, page->sample_nr, 2000);
	guest_copy(page, two, info);
	a = sluice_page_pmu(one, (__u32)slot);
	b = sluice_page_pmu(two, (__u32)slot);
	tap_ok(a->state == SLUICE_SLOT_OK && b->state == SLUICE_SLOT_OK, "on the page at once");
	tap_ok(b->type == 1 && !b->cpu && !b->config && b->kind == SLUICE_PMU_TOTAL &&
		       b->bytes_per_count == 64,
	       "published as it was given");
	tap_is(b->node, file_number(-1, "/sys/devices/system/cpu/cpu0/node0") >= 0 ? 0 : b->node,
	       "the CPU's node");
	tap_is(b->generation, a->generation, "the same counter");
	tap_ok(b->count > a->count && b->enabled_ns > a->enabled_ns &&
		       b->running_ns > a->running_ns && b->running_ns <= b->enabled_ns,
	       "count, enabled and running grow");
	passed = (double)(b->updated_ns - a->updated_ns);
	counted = (double)(b->count - a->count) * (double)(b->enabled_ns - a->enabled_ns) /
		  (double)(b->running_ns - a->running_ns);
	tap_ok(counted > passed * 0.7 && counted < passed * 1.3,
	       "the clock of CPU 0 counted %.0f ms in %.0f ms", counted / 1e6, passed / 1e6);
	tap_is(two->pmu_ops, 1, "one counter read a sample");
	tap_is(guest_unwatch(fd, SLUICE_UNWATCH_PMU, (__u32)slot), 0, "unwatch");
	guest_wait_sample(page, two->sample_nr + 1, 2000);
	guest_copy(page, two, info);
	b = sluice_page_pmu(two, (__u32)slot);
	tap_ok(b->state == SLUICE_SLOT_FREE && !b->count && !b->enabled_ns, "a free slot is zero");
	free(one);
	free(two);
}

int main(void)
{
	struct sluice_get_info info;
	int fd, other;

	guest_need("");
	fd = guest_open();
	guest_info(fd, &info);
	if (chmod(SLUICE_DEVICE_PATH, 0444))
		tap_bail("chmod");
	tap_is(guest_as_nobody(as_nobody, NULL), 0, "without CAP_PERFMON: EPERM");
	test_refusals(fd);
	test_clock(fd, &info);
	other = guest_open();
	test_quota(other);
	close(other);
	guest_info(fd, &info);
	tap_is(info.pmu_free, info.pmu_nr, "all slots free again");
	return tap_done();
}
