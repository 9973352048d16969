/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/sysfs_nodes.c: NUMA nodes: memory, huge pages, counters, distances, HMAT. A
 * kernel without NUMA has no such files: then the machine is node 0, with the bytes of
 * /proc/meminfo. See sysfs.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "telemetry/sysfs.h"

#define NODE_DIR "sys/devices/system/node"
#define MIB	 1048576u

int sysfs_cpu_socket(const struct fs *fs, unsigned cpu)
{
	return fs_index(fs, 4095, "sys/devices/system/cpu/cpu%u/topology/physical_package_id", cpu);
}

/* The number behind "<name>:" at the start of a line or after "Node N ". kB become bytes. */
static uint64_t meminfo_bytes(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = text; (at = strstr(at, name)); at += len) {
		uint64_t value;
		const char *end;

		if ((at != text && at[-1] != ' ' && at[-1] != '\n') || at[len] != ':')
			continue;
		if (!text_word_u64(at + len + 1, &value, &end) || strncmp(end, " kB", 3) ||
		    u64_mul_overflow(value, 1024, &value) || value == TELEMETRY_UNKNOWN)
			return TELEMETRY_UNKNOWN;
		return value;
	}
	return TELEMETRY_UNKNOWN;
}

static void read_distance(const struct fs *fs, struct telemetry_snapshot *s,
			  struct telemetry_node *n, uint64_t now)
{
	char text[1024];
	const char *at = text;
	uint8_t row[NODES_KNOWN];
	uint32_t count = 0;
	uint64_t value;

	memset(n->distance, 0, sizeof(n->distance));
	n->distances = (struct telemetry_origin){ TELEMETRY_NONE, 0 };
	if (fs_text(fs, text, sizeof(text), NODE_DIR "/node%d/distance", n->id) <= 0)
		return;
	while (count < ARRAY_LEN(row) && text_word_u64(at, &value, &at))
		row[count++] = value <= 255 ? (uint8_t)value : 0;
	if (count != s->n_nodes)
		return; /* one entry for each online node, or we cannot tell whose they are */
	for (uint32_t i = 0; i < count; i++)
		n->distance[s->nodes[i].id] = row[i];
	telemetry_mark(s, TELEMETRY_GROUP_DISTANCE, &n->distances, TELEMETRY_SYSFS, now);
}

/* HMAT, as seen from the nearest CPUs (class 1), else from the nearest initiator of any kind. */
static void read_hmat(const struct fs *fs, struct telemetry_snapshot *s, struct telemetry_node *n,
		      uint64_t now)
{
	for (int class = 1; class >= 0; class --) {
#define HMAT(name) fs_u64(fs, NODE_DIR "/node%d/access%d/initiators/" name, n->id, class)
		uint64_t mib = HMAT("read_bandwidth"), bytes;

		if (!mib || mib == TELEMETRY_UNKNOWN || u64_mul_overflow(mib, MIB, &bytes))
			continue;
		n->peak_bytes_per_s = bytes;
		n->read_latency_ns = HMAT("read_latency");
		n->write_latency_ns = HMAT("write_latency");
		telemetry_mark(s, TELEMETRY_GROUP_PEAK, &n->peak, TELEMETRY_SYSFS, now);
		return;
#undef HMAT
	}
}

static void read_cpus(const struct fs *fs, struct telemetry_node *n)
{
	char text[16384];
	uint64_t bits[FS_MAX_CPUS / 64];
	int count;

	n->socket = -1;
	n->n_cpus = 0;
	if (fs_text(fs, text, sizeof(text), NODE_DIR "/node%d/cpulist", n->id) <= 0)
		return;
	count = text_list(text, bits, ARRAY_LEN(bits));
	if (count <= 0)
		return;
	n->n_cpus = (uint32_t)count;
	for (unsigned i = 0; i < FS_MAX_CPUS; i++) {
		if (!(bits[i / 64] >> (i % 64) & 1))
			continue;
		n->socket = sysfs_cpu_socket(fs, i);
		return;
	}
}

/* A node that went offline leaves the list, a new one enters it. */
static void keep_online(struct telemetry_snapshot *s, uint64_t online)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < s->n_nodes; i++)
		if (online >> s->nodes[i].id & 1)
			s->nodes[kept++] = s->nodes[i];
	s->n_nodes = kept;
	for (int id = 0; id < NODES_KNOWN; id++)
		if (online >> id & 1)
			telemetry_node_at(s, id);
}

void sysfs_node_topology(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now)
{
	uint64_t online[16]; /* NODES_SHIFT=10 */
	char text[1024];
	bool numa = fs_text(fs, text, sizeof(text), NODE_DIR "/online") > 0 &&
		    text_list(text, online, ARRAY_LEN(online)) > 0;

	if (!numa) {
		keep_online(s, 1);
		return;
	}
	for (size_t i = 1; i < ARRAY_LEN(online); i++)
		s->truncated |= online[i] != 0;
	keep_online(s, online[0]);
	for (uint32_t i = 0; i < s->n_nodes; i++) {
		read_cpus(fs, &s->nodes[i]);
		read_hmat(fs, s, &s->nodes[i], now);
		read_distance(fs, s, &s->nodes[i], now);
	}
}

void sysfs_node_memory(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now)
{
	for (uint32_t i = 0; i < s->n_nodes; i++) {
		struct telemetry_node *n = &s->nodes[i];
		char text[8192];
		ssize_t got = fs_text(fs, text, sizeof(text), NODE_DIR "/node%d/meminfo", n->id);

		if (got == -ENOENT && s->n_nodes == 1 && n->id == 0)
			got = fs_text(fs, text, sizeof(text), "proc/meminfo");
		if (got <= 0)
			text[0] = '\0';
		n->total_bytes = meminfo_bytes(text, "MemTotal");
		n->free_bytes = meminfo_bytes(text, "MemFree");
		n->file_bytes = meminfo_bytes(text, "FilePages");
		n->anon_bytes = meminfo_bytes(text, "AnonPages");
		n->memory = (struct telemetry_origin){ TELEMETRY_NONE, 0 };
		if (n->total_bytes != TELEMETRY_UNKNOWN && n->free_bytes != TELEMETRY_UNKNOWN &&
		    n->free_bytes > n->total_bytes)
			n->total_bytes = n->free_bytes = TELEMETRY_UNKNOWN; /* not a meminfo */
		if (n->total_bytes != TELEMETRY_UNKNOWN || n->free_bytes != TELEMETRY_UNKNOWN)
			telemetry_mark(s, TELEMETRY_GROUP_MEMORY, &n->memory, TELEMETRY_SYSFS, now);
	}
}

struct huge_walk {
	const struct fs *fs;
	struct telemetry_snapshot *s;
	struct telemetry_node *n;
};

/* "hugepages-2048kB": kept in ascending size. */
static bool add_huge(void *arg, const char *name)
{
	struct huge_walk *w = arg;
	struct telemetry_huge h;
	unsigned long long kb;
	uint32_t at = 0;
	int used = 0;

	if (sscanf(name, "hugepages-%llukB%n", &kb, &used) != 1 || !used || name[used] || !kb ||
	    u64_mul_overflow(kb, 1024, &h.page_bytes))
		return true;
	if (w->n->n_huge == TELEMETRY_MAX_HUGE_SIZES) {
		w->s->truncated = true;
		return false;
	}
#define HUGE(file) fs_u64(w->fs, NODE_DIR "/node%d/hugepages/%s/" file "_hugepages", w->n->id, name)
	h.total = HUGE("nr");
	h.free = HUGE("free");
	h.surplus = HUGE("surplus");
#undef HUGE
	while (at < w->n->n_huge && w->n->huge[at].page_bytes < h.page_bytes)
		at++;
	memmove(&w->n->huge[at + 1], &w->n->huge[at], (w->n->n_huge - at) * sizeof(w->n->huge[0]));
	w->n->huge[at] = h;
	w->n->n_huge++;
	return true;
}

static uint64_t numastat(const char *text, const char *name)
{
	const char *at = strstr(text, name), *end;
	uint64_t value;

	if (!at || (at != text && at[-1] != '\n') ||
	    !text_word_u64(at + strlen(name), &value, &end))
		return TELEMETRY_UNKNOWN;
	return value;
}

void sysfs_node_slow(const struct fs *fs, struct telemetry_snapshot *s, uint64_t now)
{
	for (uint32_t i = 0; i < s->n_nodes; i++) {
		struct telemetry_node *n = &s->nodes[i];
		struct huge_walk walk = { fs, s, n };
		char text[1024], path[64];

		n->n_huge = 0;
		n->hugepages = (struct telemetry_origin){ TELEMETRY_NONE, 0 };
		snprintf(path, sizeof(path), NODE_DIR "/node%d/hugepages", n->id);
		if (!fs_list(fs, path, add_huge, &walk) && n->n_huge)
			telemetry_mark(s, TELEMETRY_GROUP_HUGEPAGES, &n->hugepages, TELEMETRY_SYSFS,
				       now);
		if (fs_text(fs, text, sizeof(text), NODE_DIR "/node%d/numastat", n->id) <= 0)
			text[0] = '\0';
		n->numa_hit = numastat(text, "numa_hit ");
		n->numa_miss = numastat(text, "numa_miss ");
		n->other_node = numastat(text, "other_node ");
		n->numastat = (struct telemetry_origin){ TELEMETRY_NONE, 0 };
		if (n->numa_hit != TELEMETRY_UNKNOWN)
			telemetry_mark(s, TELEMETRY_GROUP_NUMASTAT, &n->numastat, TELEMETRY_SYSFS,
				       now);
	}
}
