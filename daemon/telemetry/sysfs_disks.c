/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/sysfs_disks.c: bytes read from whole disks, requests in flight, pressure stall
 * figures. Partitions and virtual disks (loop, ram, dm, md) are left out: what they read is
 * counted where it lies. See sysfs.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "telemetry/sysfs.h"

#define SECTOR 512

/* Node of the last PCI function on the way to the disk. */
static int node_of_path(const struct fs *fs, const char *path)
{
	int node = -1;

	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");

		if (text_is_bdf(at, len))
			node = fs_index(fs, NODES_KNOWN - 1, "sys/bus/pci/devices/%.*s/numa_node",
					(int)len, at);
		at += len + (at[len] == '/');
	}
	return node;
}

struct controllers {
	const struct fs *fs;
	int node, n;
};

static bool one_controller(void *arg, const char *name)
{
	struct controllers *c = arg;
	int node;

	if (strncmp(name, "nvme", 4) || strspn(name + 4, "0123456789") != strlen(name + 4))
		return true;
	node = fs_index(c->fs, NODES_KNOWN - 1, "sys/class/nvme/%s/numa_node", name);
	c->node = c->n++ && c->node != node ? -1 : node;
	return true;
}

/* NVMe with native multipath: the disk is virtual, its controllers are listed in the subsystem. */
static int node_of_subsystem(const struct fs *fs, const char *link)
{
	struct controllers c = { fs, -1, 0 };
	static const char parent[] = "/nvme-subsystem/";
	const char *at = strstr(link, parent);
	char path[FS_PATH_MAX];
	size_t len;

	if (!at)
		return -1;
	at += sizeof(parent) - 1;
	len = strcspn(at, "/");
	snprintf(path, sizeof(path), "sys/class/nvme-subsystem/%.*s", (int)len, at);
	fs_list(fs, path, one_controller, &c);
	return c.node;
}

/* False for what is not a whole, real disk. */
static bool is_disk(const struct fs *fs, const char *name, int *ret_node)
{
	char link[FS_PATH_MAX];

	if (fs_link(fs, link, sizeof(link), "sys/block/%s", name) <= 0)
		return false;
	if (!strstr(link, "/virtual/")) {
		*ret_node = node_of_path(fs, link);
		return true;
	}
	if (!strstr(link, "/nvme-subsystem/"))
		return false;
	*ret_node = node_of_subsystem(fs, link);
	return true;
}

/* "259 0 nvme0n1 reads merged sectors ms writes merged sectors ms inflight ...": 0 or -1. */
static int parse_line(const char *line, char *name, size_t room, uint64_t *ret_read,
		      uint64_t *ret_inflight)
{
	uint64_t number[11];
	const char *at = line;
	size_t len;

	if (!text_word_u64(at, &number[0], &at) || !text_word_u64(at, &number[1], &at))
		return -1;
	at += strspn(at, " ");
	len = strcspn(at, " \n");
	if (!len || len >= room || memchr(at, '/', len) || at[0] == '.')
		return -1;
	memcpy(name, at, len);
	name[len] = '\0';
	at += len;
	for (unsigned i = 0; i < 9; i++)
		if (!text_word_u64(at, &number[2 + i], &at))
			return -1;
	if (u64_mul_overflow(number[4], SECTOR, ret_read))
		return -1;
	*ret_inflight = number[10];
	return 0;
}

static const struct telemetry_disk *known(const struct telemetry_disk *disks, uint32_t n,
					  const char *name)
{
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(disks[i].name, name))
			return &disks[i];
	return NULL;
}

void sysfs_disks(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now, char *buf,
		 size_t room)
{
	struct telemetry_disk old[TELEMETRY_MAX_DISKS];
	uint32_t n_old = s->n_disks;
	ssize_t got = fs_text(fs, buf, room, "proc/diskstats");

	memcpy(old, s->disks, sizeof(old));
	s->n_disks = 0;
	for (char *line = buf, *next; got > 0 && *line; line = next) {
		const struct telemetry_disk *before;
		struct telemetry_disk *d;
		uint64_t read_bytes, inflight;
		char name[sizeof(d->name)];
		int node;

		next = line + strcspn(line, "\n");
		if (!*next)
			break; /* cut in the middle */
		*next++ = '\0';
		if (parse_line(line, name, sizeof(name), &read_bytes, &inflight))
			continue;
		before = known(old, n_old, name);
		if (before)
			node = before->node;
		else if (!is_disk(fs, name, &node))
			continue;
		d = telemetry_disk_at(s, name);
		if (!d)
			break;
		d->node = node;
		d->read_bytes = read_bytes;
		d->inflight = inflight;
		telemetry_mark(s, TELEMETRY_GROUP_DISK, &d->origin, TELEMETRY_SYSFS, now);
	}
}

/* "12.34" -> 1234 */
static uint64_t hundredths(const char *text)
{
	unsigned whole, part;
	char c;

	if (sscanf(text, "%3u.%2u%c", &whole, &part, &c) != 3 || whole > 100 || c != ' ')
		return TELEMETRY_UNKNOWN;
	return whole * 100u + part;
}

static void read_line(const char *text, const char *kind, uint64_t *ret_avg10, uint64_t *ret_total)
{
	const char *line = strstr(text, kind), *at, *end;

	*ret_avg10 = *ret_total = TELEMETRY_UNKNOWN;
	if (!line)
		return;
	at = strstr(line, "avg10=");
	if (at)
		*ret_avg10 = hundredths(at + 6);
	at = strstr(line, "total=");
	if (at && !text_word_u64(at + 6, ret_total, &end))
		*ret_total = TELEMETRY_UNKNOWN;
}

static bool read_stall(const struct fs *fs, const char *what, struct telemetry_stall *ret)
{
	char text[256];

	if (fs_text(fs, text, sizeof(text), "proc/pressure/%s", what) <= 0)
		text[0] = '\0';
	read_line(text, "some ", &ret->some_avg10, &ret->some_total_us);
	read_line(text, "full ", &ret->full_avg10, &ret->full_total_us);
	return ret->some_avg10 != TELEMETRY_UNKNOWN;
}

void sysfs_pressure(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now)
{
	bool any = read_stall(fs, "cpu", &s->pressure.cpu);

	any |= read_stall(fs, "memory", &s->pressure.memory);
	any |= read_stall(fs, "io", &s->pressure.io);
	if (any)
		telemetry_mark(s, TELEMETRY_GROUP_PRESSURE, NULL, TELEMETRY_SYSFS, now);
}
