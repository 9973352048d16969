/* SPDX-License-Identifier: MIT */
/*
 * base/limits.c: see limits.h.
 *
 * Every level of the control groups counts, not only the own one: a pod's limit is above its
 * container's, a slice's above its service's. A level that cannot be seen (above a namespace) is
 * taken for unbounded, except that version 1 tells the least limit of all levels in memory.stat.
 */
#include "base/limits.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/cgroup.h"
#include "base/fs.h"
#include "base/num.h"

#define HUGE_POOL   "sys/kernel/mm/hugepages/hugepages-2048kB/"
#define NO_LIMIT    (1ull << 62) /* version 1 writes "none" as a number near 2^63 */
#define MOST_CPUS   65536
#define PERIOD_MOST 1000000000ull /* microseconds: far above what the kernel takes */
#define QUOTA_MOST  (1ull << 50)
#define LIMITS_TEXT (64u << 10)

/* The number behind @name at the start of a line of @text. */
static uint64_t named(const char *text, const char *name)
{
	size_t n = strlen(name);
	const char *end;
	uint64_t value;

	for (const char *at = text; at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
		if (!strncmp(at, name, n) && (at[n] == ' ' || at[n] == ':'))
			return text_word_u64(at + n + 1, &value, &end) ? value : LIMITS_UNKNOWN;
	return LIMITS_UNKNOWN;
}

/* The same of /proc/meminfo: kB become bytes. */
static uint64_t meminfo(const char *text, const char *name)
{
	uint64_t value = named(text, name);

	return value == LIMITS_UNKNOWN || u64_mul_overflow(value, 1024, &value) ? LIMITS_UNKNOWN
										: value;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	uint64_t value;

	if (a == LIMITS_UNKNOWN || b == LIMITS_UNKNOWN)
		return LIMITS_UNKNOWN;
	return u64_add_overflow(a, b, &value) ? LIMITS_UNKNOWN : value;
}

static uint64_t left(uint64_t limit, uint64_t used)
{
	return limit > used ? limit - used : 0;
}

static void read_machine(const struct fs *fs, struct limits *l)
{
	char text[8192];

	if (fs_text(fs, text, sizeof(text), "proc/meminfo") <= 0)
		text[0] = '\0';
	l->machine_bytes = meminfo(text, "MemTotal");
	l->available_bytes = meminfo(text, "MemAvailable");
	if (l->available_bytes == LIMITS_UNKNOWN) /* before Linux 3.14, and some containers' */
		l->available_bytes = sum(meminfo(text, "MemFree"), meminfo(text, "Cached"));
	if (!l->machine_bytes)
		l->machine_bytes = LIMITS_UNKNOWN;
	if (l->machine_bytes == LIMITS_UNKNOWN)
		l->available_bytes = LIMITS_UNKNOWN; /* not a meminfo */
	if (l->available_bytes != LIMITS_UNKNOWN)
		l->available_bytes = u64_min(l->available_bytes, l->machine_bytes);
	l->limit_bytes = l->machine_bytes;
	l->room_bytes = l->available_bytes;
	snprintf(l->memory_from, sizeof(l->memory_from), "%s",
		 l->room_bytes == LIMITS_UNKNOWN ? "unknown" : "machine");
}

/* ---- the memory controller ---- */

/* A limit file: a number, or LIMITS_UNKNOWN for "max", a number near 2^63 and garbage. */
static uint64_t limit_at(const struct fs *fs, const struct cgroup_level *level, const char *file)
{
	uint64_t value = fs_u64(fs, "%s/%s", level->dir, file);

	return value < NO_LIMIT ? value : LIMITS_UNKNOWN;
}

struct memory_names {
	const char *limit[2], *used, *stat_limit, *inactive, *active;
};

/* What is charged to the group and cannot be given back; 0 where it does not say. */
static uint64_t used_at(const struct fs *fs, const struct cgroup_level *level,
			const struct memory_names *n, const char *stat)
{
	uint64_t used = fs_u64(fs, "%s/%s", level->dir, n->used), cache;

	if (used == LIMITS_UNKNOWN)
		return 0;
	/* the lists of file pages; shared memory is on the others */
	cache = sum(named(stat, n->inactive), named(stat, n->active));
	return cache == LIMITS_UNKNOWN ? used : left(used, cache);
}

static bool see_memory(void *arg, const struct fs *fs, const struct cgroup_level *level)
{
	static const struct memory_names names[] = {
		{ { "memory.limit_in_bytes", NULL },
		  "memory.usage_in_bytes",
		  "hierarchical_memory_limit",
		  "total_inactive_file",
		  "total_active_file" },
		/* above memory.high everything that allocates is slowed to a crawl */
		{ { "memory.max", "memory.high" },
		  "memory.current",
		  NULL,
		  "inactive_file",
		  "active_file" },
	};
	const struct memory_names *n = &names[level->v2];
	struct limits *l = arg;
	uint64_t limit = LIMITS_UNKNOWN, room;
	char *stat = malloc(LIMITS_TEXT);

	if (!stat)
		return true;
	if (fs_text(fs, stat, LIMITS_TEXT, "%s/memory.stat", level->dir) <= 0)
		stat[0] = '\0';
	for (int i = 0; i < 2 && n->limit[i]; i++)
		limit = u64_min(limit, limit_at(fs, level, n->limit[i]));
	if (n->stat_limit && named(stat, n->stat_limit) < NO_LIMIT)
		limit = u64_min(limit, named(stat, n->stat_limit));
	if (limit != LIMITS_UNKNOWN) {
		room = left(limit, used_at(fs, level, n, stat));
		l->limit_bytes = u64_min(l->limit_bytes, limit);
		if (room < l->room_bytes) {
			l->room_bytes = room;
			snprintf(l->memory_from, sizeof(l->memory_from), "cgroup /%s", level->dir);
		}
	}
	free(stat);
	/* version 1 without hierarchy: a group is not charged for those below it */
	return level->v2 || fs_u64(fs, "%s/memory.use_hierarchy", level->dir) != 0;
}

/* ---- huge pages ---- */

static bool see_huge(void *arg, const struct fs *fs, const struct cgroup_level *level)
{
	/* what is in use, and what is reserved: each with a limit of its own */
	static const char *const names[2][2][2] = {
		{ { "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.usage_in_bytes" },
		  { "hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.usage_in_bytes" } },
		{ { "hugetlb.2MB.max", "hugetlb.2MB.current" },
		  { "hugetlb.2MB.rsvd.max", "hugetlb.2MB.rsvd.current" } },
	};
	struct limits *l = arg;

	for (int i = 0; i < 2; i++) {
		uint64_t limit = limit_at(fs, level, names[level->v2][i][0]);
		uint64_t used = fs_u64(fs, "%s/%s", level->dir, names[level->v2][i][1]);

		if (limit == LIMITS_UNKNOWN)
			continue;
		limit = left(limit, used == LIMITS_UNKNOWN ? 0 : used);
		l->huge_room_bytes = u64_min(l->huge_room_bytes, limit);
	}
	return true;
}

static void read_huge(const struct fs *fs, struct limits *l)
{
	uint64_t total = fs_u64(fs, HUGE_POOL "nr_hugepages");
	uint64_t free_pages = fs_u64(fs, HUGE_POOL "free_hugepages");
	uint64_t reserved = fs_u64(fs, HUGE_POOL "resv_hugepages");

	l->huge_room_bytes = LIMITS_UNKNOWN;
	l->huge_total = l->huge_free = 0;
	l->huge_pool = total != LIMITS_UNKNOWN;
	if (total == LIMITS_UNKNOWN || free_pages == LIMITS_UNKNOWN || free_pages > total)
		return;
	l->huge_total = total;
	l->huge_free = left(free_pages, reserved == LIMITS_UNKNOWN ? 0 : reserved);
	cgroup_walk(fs, "hugetlb", see_huge, l);
}

/* ---- CPUs ---- */

/* By affinity; a machine of more CPUs than the set holds makes the kernel refuse: a larger one. */
static unsigned count_allowed(void)
{
	for (int room = 1024; room <= MOST_CPUS; room *= 2) {
		cpu_set_t *set = CPU_ALLOC((size_t)room);
		size_t bytes = CPU_ALLOC_SIZE((size_t)room);
		int n = set && !sched_getaffinity(0, bytes, set) ? CPU_COUNT_S(bytes, set) : 0;

		CPU_FREE(set);
		if (n > 0)
			return (unsigned)n;
	}
	return 0;
}

/* "200000 100000", or "max 100000": *ret_quota stays as it is. */
static bool quota_v2(const struct fs *fs, const char *dir, uint64_t *ret_quota,
		     uint64_t *ret_period)
{
	char text[64];
	const char *at;

	return fs_text(fs, text, sizeof(text), "%s/cpu.max", dir) > 0 &&
	       text_word_u64(text, ret_quota, &at) && text_word_u64(at, ret_period, &at);
}

static bool see_quota(void *arg, const struct fs *fs, const struct cgroup_level *level)
{
	struct limits *l = arg;
	uint64_t quota = LIMITS_UNKNOWN, period = LIMITS_UNKNOWN;

	if (level->v2 && !quota_v2(fs, level->dir, &quota, &period))
		return true;
	if (!level->v2) { /* no quota is -1, which is no number here */
		quota = fs_u64(fs, "%s/cpu.cfs_quota_us", level->dir);
		period = fs_u64(fs, "%s/cpu.cfs_period_us", level->dir);
	}
	if (!quota || quota > QUOTA_MOST || !period || period > PERIOD_MOST)
		return true;
	quota = quota * 1000 / period;
	if (quota >= l->quota_millicpus)
		return true;
	l->quota_millicpus = quota;
	if (!l->allowed_cpus || quota / 1000 < l->allowed_cpus) {
		l->cpus = (unsigned)u64_max(1, quota / 1000);
		snprintf(l->cpus_from, sizeof(l->cpus_from), "quota of cgroup /%s", level->dir);
	}
	return true;
}

void limits_read(const char *root, struct limits *ret)
{
	struct fs fs;

	memset(ret, 0, sizeof(*ret));
	ret->quota_millicpus = LIMITS_UNKNOWN;
	ret->allowed_cpus = count_allowed();
	ret->cpus = ret->allowed_cpus ? ret->allowed_cpus : 1;
	snprintf(ret->cpus_from, sizeof(ret->cpus_from), "%s",
		 ret->allowed_cpus ? "affinity" : "unknown");
	if (fs_open(&fs, root)) {
		ret->machine_bytes = ret->available_bytes = LIMITS_UNKNOWN;
		ret->limit_bytes = ret->room_bytes = ret->huge_room_bytes = LIMITS_UNKNOWN;
		snprintf(ret->memory_from, sizeof(ret->memory_from), "unknown");
		return;
	}
	read_machine(&fs, ret);
	cgroup_walk(&fs, "memory", see_memory, ret);
	read_huge(&fs, ret);
	cgroup_walk(&fs, "cpu", see_quota, ret);
	fs_close(&fs);
}

uint64_t limits_huge_bytes(const struct limits *l)
{
	return u64_min(l->huge_free * LIMITS_HUGE_PAGE, l->huge_room_bytes);
}

uint64_t limits_assume_bytes(void)
{
	struct sysinfo s;

	if (sysinfo(&s))
		return LIMITS_ASSUME_MOST;
	return u64_min(((uint64_t)s.freeram + s.bufferram) * s.mem_unit / 2, LIMITS_ASSUME_MOST);
}
