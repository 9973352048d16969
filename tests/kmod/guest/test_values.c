/* SPDX-License-Identifier: MIT */
/*
 * Description: every node and link value lies between two sysfs readings taken around it.
 * The page is copied from the mapping and by read(); a value that moves between the readings is
 * tried again, since the two readings and the sample are not one moment. Distances, the list of
 * nodes and their processors agree with sysfs, which is where numactl -H has them from.
 * AnonPages and the like lag by what a CPU has not folded in: a slack is allowed for those.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define NODES "/sys/devices/system/node"
#define TRIES 20

struct field {
	const char *name; /* in meminfo */
	size_t offset;	  /* in struct sluice_node */
};

#define FIELD(name, member)                                \
	{                                                  \
		name, offsetof(struct sluice_node, member) \
	}

static const struct field fields[] = {
	FIELD("MemTotal", total_bytes),
	FIELD("MemFree", free_bytes),
	FIELD("FilePages", file_bytes),
	FIELD("AnonPages", anon_bytes),
	FIELD("Shmem", shmem_bytes),
	FIELD("Dirty", dirty_bytes),
	FIELD("Writeback", writeback_bytes),
	FIELD("SReclaimable", slab_reclaimable_bytes),
	FIELD("SUnreclaim", slab_unreclaimable_bytes),
	FIELD("AnonHugePages", anon_thp_bytes),
	FIELD("ShmemHugePages", shmem_thp_bytes),
	FIELD("FileHugePages", file_thp_bytes),
};

#define FIELD_NR (sizeof(fields) / sizeof(fields[0]))

/* Bytes of one line of a node's meminfo, -1 when there is no such line. */
static long long meminfo(const char *text, const char *name)
{
	char key[40];
	const char *at;

	snprintf(key, sizeof(key), " %s:", name);
	at = strstr(text, key);
	return at ? strtoll(at + strlen(key), NULL, 10) * 1024 : -1;
}

/* What a value may be off: pages that CPUs hold back from a node's counters. The file has more of
 * that for free pages, which the page allocator's lists of each CPU hold. */
static long long slack(void)
{
	return 128 * 4096 * sysconf(_SC_NPROCESSORS_ONLN);
}

static void test_node(int fd, const struct sluice_get_info *info, struct sluice_page *copy,
		      unsigned int index)
{
	static char before[8192], after[8192];
	unsigned int node = sluice_page_node(copy, index)->node, i, tries;
	char missed[256] = "";

	for (tries = 0; tries < TRIES; tries++) {
		const struct sluice_node *n = sluice_page_node(copy, index);

		missed[0] = '\0';
		file_read(before, sizeof(before), NODES "/node%u/meminfo", node);
		usleep(3 * SLUICE_PERIOD_MIN_MS * 1000);
		if (pread(fd, copy, info->page_bytes, 0) != (ssize_t)info->page_bytes)
			tap_bail("read: %s", strerror(errno));
		file_read(after, sizeof(after), NODES "/node%u/meminfo", node);
		for (i = 0; i < FIELD_NR; i++) {
			long long a = meminfo(before, fields[i].name);
			long long b = meminfo(after, fields[i].name);
			long long low = a < b ? a : b, high = a < b ? b : a;
			long long got = (long long)*(const __u64 *)(const void *)((const char *)n +
										  fields[i].offset);

			if (a < 0)
				continue;
			if (got < low - slack() || got > high + slack())
				snprintf(missed, sizeof(missed), "%s %lld not in %lld..%lld",
					 fields[i].name, got, low, high);
		}
		if (!missed[0] && meminfo(before, "MemTotal") == (long long)n->total_bytes)
			break;
	}
	tap_ok(tries < TRIES, "node %u: %zu values between two readings (try %u) %s", node,
	       FIELD_NR, tries + 1, missed);
}

/* A value that sysfs shows too, exactly, once something has been allocated on purpose. */
static void test_moves(int fd, const struct sluice_get_info *info, struct sluice_page *copy)
{
	const size_t bytes = 64u << 20;
	long long anon[2] = { 0, 0 }, spare[2] = { 0, 0 };
	char *memory = NULL;
	unsigned int i, n;

	for (i = 0; i < 2; i++) {
		usleep(250000);
		if (pread(fd, copy, info->page_bytes, 0) != (ssize_t)info->page_bytes)
			tap_bail("read: %s", strerror(errno));
		for (n = 0; n < copy->node_nr; n++) {
			anon[i] += (long long)sluice_page_node(copy, n)->anon_bytes;
			spare[i] += (long long)sluice_page_node(copy, n)->free_bytes;
		}
		if (!memory) {
			memory = malloc(bytes);
			if (!memory)
				tap_bail("no memory");
			memset(memory, 1, bytes);
		}
	}
	tap_ok(llabs(anon[1] - anon[0] - (long long)bytes) < slack() * 2,
	       "64 MiB more anonymous memory: %lld", anon[1] - anon[0]);
	tap_ok(llabs(spare[0] - spare[1] - (long long)bytes) < slack() * 4,
	       "64 MiB less free memory: %lld", spare[0] - spare[1]);
	free(memory);
}

static void test_lists(const struct sluice_page *copy)
{
	char possible[128], online[128], cpu[128], memory[128];
	unsigned int i, entries = 0, wrong = 0;

	file_read(possible, sizeof(possible), NODES "/possible");
	file_read(online, sizeof(online), NODES "/online");
	file_read(cpu, sizeof(cpu), NODES "/has_cpu");
	file_read(memory, sizeof(memory), NODES "/has_memory");
	for (i = 0; i < SLUICE_MAX_NODES; i++)
		entries += list_has(possible, i);
	tap_is(copy->node_nr, entries, "an entry for each possible node (%s)", possible);
	for (i = 0; i < copy->node_nr; i++) {
		const struct sluice_node *n = sluice_page_node(copy, i);

		wrong += !list_has(possible, n->node);
		wrong += !!(n->flags & SLUICE_NODE_ONLINE) != list_has(online, n->node);
		wrong += !!(n->flags & SLUICE_NODE_HAS_CPU) != list_has(cpu, n->node);
		wrong += !!(n->flags & SLUICE_NODE_HAS_MEMORY) != list_has(memory, n->node);
		if (!(n->flags & SLUICE_NODE_HAS_MEMORY))
			wrong += n->total_bytes || n->free_bytes;
		if (n->flags & SLUICE_NODE_ONLINE)
			wrong += n->updated_ns != copy->updated_ns;
	}
	tap_is(wrong, 0, "flags agree with online %s, has_cpu %s, has_memory %s", online, cpu,
	       memory);
}

static void test_distances(const struct sluice_page *copy)
{
	unsigned int i, j, wrong = 0, compared = 0;

	for (i = 0; i < copy->node_nr; i++) {
		const struct sluice_node *n = sluice_page_node(copy, i);
		char text[512], *at = text;

		if (!(n->flags & SLUICE_NODE_ONLINE) ||
		    file_read(text, sizeof(text), NODES "/node%u/distance", n->node) <= 0)
			continue;
		/* sysfs lists the online nodes only, in order */
		for (j = 0; j < copy->node_nr; j++) {
			if (!(sluice_page_node(copy, j)->flags & SLUICE_NODE_ONLINE)) {
				wrong += n->distance[j] != SLUICE_DISTANCE_UNKNOWN;
				continue;
			}
			wrong += strtoul(at, &at, 10) != n->distance[j];
			compared++;
		}
	}
	tap_ok(!wrong && compared, "%u distances agree with sysfs (%u differ)", compared, wrong);
}

/* "8.0 GT/s PCIe" -> 8000; 0 when it says Unknown. */
static unsigned int sysfs_mts(const char *bdf, const char *name)
{
	char text[64];

	if (file_read(text, sizeof(text), "/sys/bus/pci/devices/%s/%s", bdf, name) <= 0)
		return 0;
	return (unsigned int)(strtod(text, NULL) * 1000 + 0.5);
}

static unsigned int sysfs_width(const char *bdf, const char *name)
{
	long long width = file_number(0, "/sys/bus/pci/devices/%s/%s", bdf, name);

	return width == 255 ? 0 : (unsigned int)width;
}

static unsigned int known_min(unsigned int a, unsigned int b)
{
	return a && b ? (a < b ? a : b) : a + b;
}

/* The port above: the folder's parent, if that is a function too. */
static bool parent_of(const char *bdf, char *ret_name, size_t bytes)
{
	char link[280], path[512], *last, *before;
	ssize_t n;

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s", bdf);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return false;
	path[n] = '\0';
	last = strrchr(path, '/');
	*last = '\0';
	before = strrchr(path, '/');
	if (!before || !strchr(before, ':') || !strchr(before, '.'))
		return false;
	snprintf(ret_name, bytes, "%s", before + 1);
	return true;
}

static void test_function(const struct sluice_pci *p, const struct pci_address *at)
{
	unsigned int speed = sysfs_mts(at->name, "current_link_speed");
	unsigned int width = sysfs_width(at->name, "current_link_width");
	unsigned int top = sysfs_mts(at->name, "max_link_speed");
	unsigned int lanes = sysfs_width(at->name, "max_link_width");
	char port[64];

	tap_ok(p->state == SLUICE_SLOT_OK && p->domain == at->domain && p->bus == at->bus &&
		       p->devfn == at->devfn,
	       "%s is watched", at->name);
	tap_is(p->vendor, file_number(0, "/sys/bus/pci/devices/%s/vendor", at->name), "vendor");
	tap_is(p->device, file_number(0, "/sys/bus/pci/devices/%s/device", at->name), "device");
	tap_is(p->class_code, file_number(0, "/sys/bus/pci/devices/%s/class", at->name), "class");
	tap_is(p->node, file_number(-1, "/sys/bus/pci/devices/%s/numa_node", at->name), "node");
	if (!(p->flags & SLUICE_PCI_EXPRESS)) {
		tap_ok(!p->cur_speed_mts && !p->cur_width && !p->limit_mbps, "no link, no values");
		return;
	}
	tap_is(p->cur_speed_mts, speed, "current speed");
	tap_is(p->cur_width, width, "current width");
	if (parent_of(at->name, port, sizeof(port))) {
		top = known_min(top, sysfs_mts(port, "max_link_speed"));
		lanes = known_min(lanes, sysfs_width(port, "max_link_width"));
		tap_note("%s hangs below %s", at->name, port);
	}
	tap_is(p->max_speed_mts, top, "maximum speed of both ends");
	tap_is(p->max_width, lanes, "maximum width of both ends");
	tap_is(!!(p->flags & SLUICE_PCI_BELOW_MAXIMUM),
	       speed && width && (speed < top || width < lanes), "trained below its maximum");
	tap_note("%s: %u MT/s x%u, narrowest %u Mb/s at bus %x", at->name, speed, width,
		 p->limit_mbps, p->limit_bus);
	tap_ok(p->limit_mbps <= speed * width && p->limit_mbps, "narrowest link: no more than own");
	if (p->limit_speed_mts == speed && p->limit_width == width)
		tap_ok(!(p->flags & SLUICE_PCI_LIMIT_ABOVE), "the narrowest link is its own");
}

static void test_pci(int fd, const struct sluice_get_info *info, struct sluice_page *copy)
{
	const struct sluice_page *page;
	struct pci_address at[8];
	unsigned int i, nr;
	int slot[8];

	nr = guest_pci_list(at, 7, GUEST_RNG_VENDOR, GUEST_RNG_DEVICE);
	nr += guest_pci_list(at + nr, 1, 0x8086, 0x2922); /* AHCI on the root: no link of its own */
	for (i = 0; i < nr; i++) {
		slot[i] = guest_watch_pci(fd, &at[i]);
		if (slot[i] < 0)
			tap_bail("WATCH_PCI %s: %s", at[i].name, strerror(-slot[i]));
	}
	tap_ok(nr >= 3, "%u functions", nr);
	page = guest_map(fd, info);
	if (!guest_wait_sample(page, page->sample_nr + 1, 5000))
		tap_bail("no new sample in 5 s");
	guest_copy(page, copy, info);
	tap_is(copy->pci_ops, nr, "a link read for each");
	for (i = 0; i < nr; i++)
		test_function(sluice_page_pci(copy, (__u32)slot[i]), &at[i]);
}

int main(void)
{
	struct sluice_get_info info;
	struct sluice_page *copy;
	unsigned int i;
	int fd;

	guest_need("");
	fd = guest_open();
	guest_info(fd, &info);
	copy = guest_copy_new(&info);
	if (pread(fd, copy, info.page_bytes, 0) != (ssize_t)info.page_bytes)
		tap_bail("read: %s", strerror(errno));
	if (guest_period(fd, SLUICE_PERIOD_MIN_MS) != (int)SLUICE_PERIOD_MIN_MS)
		tap_bail("SET_PERIOD");
	test_lists(copy);
	test_distances(copy);
	for (i = 0; i < copy->node_nr; i++)
		if (sluice_page_node(copy, i)->flags & SLUICE_NODE_ONLINE)
			test_node(fd, &info, copy, i);
	test_moves(fd, &info, copy);
	test_pci(fd, &info, copy);
	free(copy);
	return tap_done();
}
