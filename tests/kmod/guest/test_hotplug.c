/* SPDX-License-Identifier: MIT */
/*
 * Description: processors, memory blocks and PCI functions come and go while they are watched.
 * A counter is LOST while its CPU is away and comes back with a new generation; a node's memory
 * follows its blocks; a function that was removed is GONE for good and its slot still goes by
 * UNWATCH, and a new watch finds it again after a rescan.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define BLOCKS "/sys/devices/system/memory"

struct watcher {
	int fd;
	struct sluice_get_info info;
	const struct sluice_page *page;
	struct sluice_page *copy;
};

/* A copy of a sample taken after this call. */
static void fresh(struct watcher *w)
{
	__u64 now = __atomic_load_n(&w->page->sample_nr, __ATOMIC_ACQUIRE);

	/* the sample under way may have begun before the change: wait for two */
	if (!guest_wait_sample(w->page, now + 1, 5000))
		tap_bail("no new sample in 5 s");
	guest_copy(w->page, w->copy, &w->info);
}

static const struct sluice_pmu *clock_of(struct watcher *w, int slot)
{
	fresh(w);
	return sluice_page_pmu(w->copy, (__u32)slot);
}

static void test_cpu(struct watcher *w)
{
	long cpu = sysconf(_SC_NPROCESSORS_ONLN) - 1;
	const struct sluice_pmu *c;
	int slot, other, i, rc, wrong = 0;
	__u32 generation;
	__u64 before;

	if (cpu < 1) {
		tap_skip("one processor only");
		return;
	}
	slot = guest_watch_clock(w->fd, (unsigned int)cpu);
	other = guest_watch_clock(w->fd, 0);
	if (slot < 0 || other < 0)
		tap_bail("watching clocks: %d %d", slot, other);
	c = clock_of(w, slot);
	generation = c->generation;
	tap_is(c->state, SLUICE_SLOT_OK, "clock of CPU %ld", cpu);
	rc = file_write("0", "/sys/devices/system/cpu/cpu%ld/online", cpu);
	if (rc) {
		tap_skip("CPU %ld does not go offline: %s", cpu, strerror(-rc));
		return;
	}
	c = clock_of(w, slot);
	tap_is(c->state, SLUICE_SLOT_LOST, "CPU offline: the counter is lost");
	before = sluice_page_pmu(w->copy, (__u32)other)->count;
	tap_is(sluice_page_pmu(w->copy, (__u32)other)->state, SLUICE_SLOT_OK,
	       "the other CPU's is not");
	tap_is(guest_watch_clock(w->fd, (unsigned int)cpu), -ENXIO, "no new one there");
	fresh(w);
	tap_ok(sluice_page_pmu(w->copy, (__u32)other)->count > before, "and goes on counting");
	tap_is(file_write("1", "/sys/devices/system/cpu/cpu%ld/online", cpu), 0, "CPU online");
	c = clock_of(w, slot);
	tap_is(c->state, SLUICE_SLOT_OK, "the counter is back");
	tap_ok(c->generation > generation, "with a new generation: %u, then %u", generation,
	       c->generation);
	before = c->count;
	c = clock_of(w, slot);
	tap_ok(c->count > before, "and counts");

	for (i = 0; i < 10; i++) {
		wrong += !!file_write("0", "/sys/devices/system/cpu/cpu%ld/online", cpu);
		usleep(i * 3000);
		wrong += !!file_write("1", "/sys/devices/system/cpu/cpu%ld/online", cpu);
		usleep(i * 2000);
	}
	tap_is(wrong, 0, "ten times off and on");
	c = clock_of(w, slot);
	before = c->count;
	c = clock_of(w, slot);
	tap_ok(c->state == SLUICE_SLOT_OK && c->count > before, "counts after that");

	/* a slot given back while its CPU is away */
	file_write("0", "/sys/devices/system/cpu/cpu%ld/online", cpu);
	tap_is(guest_unwatch(w->fd, SLUICE_UNWATCH_PMU, (__u32)slot), 0, "unwatch while offline");
	file_write("1", "/sys/devices/system/cpu/cpu%ld/online", cpu);
	tap_is(guest_unwatch(w->fd, SLUICE_UNWATCH_PMU, (__u32)other), 0, "unwatch");
}

static __u64 total(struct watcher *w)
{
	__u64 sum = 0;
	unsigned int i;

	fresh(w);
	for (i = 0; i < w->copy->node_nr; i++)
		sum += sluice_page_node(w->copy, i)->total_bytes;
	return sum;
}

static void test_memory(struct watcher *w)
{
	char text[64] = "";
	unsigned long long block = 0;
	__u64 before = total(w), without = 0;
	struct dirent **names;
	int i, n, off = -1;

	if (file_read(text, sizeof(text), BLOCKS "/block_size_bytes") > 0)
		block = strtoull(text, NULL, 16);
	n = scandir(BLOCKS, &names, NULL, versionsort);
	/* from the end: there lies the movable zone */
	for (i = n - 1; i >= 0 && off < 0; i--) {
		int number;

		if (sscanf(names[i]->d_name, "memory%d", &number) != 1 ||
		    file_read(text, sizeof(text), BLOCKS "/memory%d/state", number) < 0 ||
		    strcmp(text, "online"))
			continue;
		if (!file_write("offline", BLOCKS "/memory%d/state", number))
			off = number;
	}
	for (i = 0; i < n; i++)
		free(names[i]);
	if (off < 0) {
		tap_skip("no memory block can go offline (%d entries)", n);
		return;
	}
	without = total(w);
	tap_is((long long)(before - without), (long long)block, "block %d offline: less memory",
	       off);
	file_read(text, sizeof(text), BLOCKS "/memory%d/state", off);
	tap_ok(!strcmp(text, "offline"), "it is offline");
	if (file_write("online_movable", BLOCKS "/memory%d/state", off) &&
	    file_write("online", BLOCKS "/memory%d/state", off))
		tap_bail("block %d does not come back", off);
	tap_is((long long)total(w), (long long)before, "online again: all of it is back");
}

static void test_pci(struct watcher *w)
{
	struct pci_address at[4];
	unsigned int nr = guest_pci_list(at, 4, GUEST_RNG_VENDOR, GUEST_RNG_DEVICE);
	const struct sluice_pci *p;
	struct sluice_pci last;
	int slot, twin, third, tries;

	if (!nr)
		tap_bail("no function to remove");
	slot = guest_watch_pci(w->fd, &at[nr - 1]);
	twin = guest_watch_pci(w->fd, &at[nr - 1]);
	third = guest_watch_pci(w->fd, &at[0]);
	if (slot < 0 || twin < 0 || third < 0)
		tap_bail("WATCH_PCI: %d %d %d", slot, twin, third);
	fresh(w);
	last = *sluice_page_pci(w->copy, (__u32)slot);
	tap_is(last.state, SLUICE_SLOT_OK, "%s is watched", at[nr - 1].name);
	tap_is(file_write("1", "/sys/bus/pci/devices/%s/remove", at[nr - 1].name), 0, "removed");
	fresh(w);
	p = sluice_page_pci(w->copy, (__u32)slot);
	tap_is(p->state, SLUICE_SLOT_GONE, "gone");
	tap_is(sluice_page_pci(w->copy, (__u32)twin)->state, SLUICE_SLOT_GONE, "twice watched too");
	tap_ok(p->bus == last.bus && p->devfn == last.devfn &&
		       p->cur_speed_mts == last.cur_speed_mts && p->updated_ns >= last.updated_ns &&
		       p->updated_ns < w->copy->updated_ns,
	       "the last values are kept");
	if (nr > 1)
		tap_is(sluice_page_pci(w->copy, (__u32)third)->state, SLUICE_SLOT_OK,
		       "the other function is not");
	tap_is(guest_watch_pci(w->fd, &at[nr - 1]), -ENODEV, "no new watch on it");
	tap_is(file_write("1", "/sys/bus/pci/rescan"), 0, "rescan");
	fresh(w);
	tap_is(sluice_page_pci(w->copy, (__u32)slot)->state, SLUICE_SLOT_GONE, "gone for good");
	tap_is(guest_unwatch(w->fd, SLUICE_UNWATCH_PCI, (__u32)slot), 0, "unwatch of a gone one");
	slot = guest_watch_pci(w->fd, &at[nr - 1]);
	tap_ok(slot >= 0, "a new watch finds it again");
	fresh(w);
	p = sluice_page_pci(w->copy, (__u32)slot);
	tap_ok(p->state == SLUICE_SLOT_OK && p->generation > last.generation,
	       "under a new generation");
	for (tries = 0; tries < 5; tries++) {
		file_write("1", "/sys/bus/pci/devices/%s/remove", at[nr - 1].name);
		file_write("1", "/sys/bus/pci/rescan");
		guest_unwatch(w->fd, SLUICE_UNWATCH_PCI, (__u32)slot);
		slot = guest_watch_pci(w->fd, &at[nr - 1]);
	}
	tap_ok(slot >= 0, "five times removed and found");
	/* removed while nobody has the device open is tried in fuzz */
}

int main(void)
{
	struct watcher w;

	guest_need("");
	w.fd = guest_open();
	guest_info(w.fd, &w.info);
	w.page = guest_map(w.fd, &w.info);
	w.copy = guest_copy_new(&w.info);
	guest_period(w.fd, 20);
	test_cpu(&w);
	test_memory(&w);
	test_pci(&w);
	return tap_done();
}
