/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/hugetlb.c: see hugetlb.h.
 *
 * Control groups: version 2 has hugetlb.2MB.max ("max": no bound), version 1 limit_in_bytes (a
 * number near 2^63: no bound). Either may be set at any level between ours and the root, so all of
 * them are read. A level that cannot be seen (above a namespace) is taken for unbounded.
 */
#include "store/hugetlb.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static uint64_t read_number(const char *path)
{
	unsigned long long n = 0;
	FILE *f = fopen(path, "re");

	if (f) {
		if (fscanf(f, "%llu", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

void hugetlb_read_pool(struct hugetlb_pool *ret)
{
	uint64_t free_pages = read_number(POOL "free_hugepages");
	uint64_t reserved = read_number(POOL "resv_hugepages");

	ret->total = read_number(POOL "nr_hugepages");
	ret->available = free_pages > reserved ? free_pages - reserved : 0;
}

static bool bounded(const char *path)
{
	char text[32] = "";
	FILE *f = fopen(path, "re");

	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	return text[0] >= '0' && text[0] <= '9' && strtoull(text, NULL, 10) < 1ull << 62;
}

/* @group: as /proc/self/cgroup has it, "/a/b"; shortened level by level. */
static bool chain_bounded(const char *root, char *group, const char *file)
{
	char path[PATH_MAX];

	for (;;) {
		char *slash = strrchr(group, '/');

		if (snprintf(path, sizeof(path), "%s%s/%s", root, group, file) < PATH_MAX &&
		    bounded(path))
			return true;
		if (!slash)
			return false;
		*slash = '\0';
	}
}

/* One line of /proc/self/cgroup: "4:cpu,hugetlb:/a/b", or "0::/a/b" for version 2. */
static bool line_bounded(char *line)
{
	char *controllers = strchr(line, ':'), *group, copy[PATH_MAX];

	if (!controllers)
		return false;
	group = strchr(++controllers, ':');
	if (!group)
		return false;
	*group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	if (strstr(controllers, "hugetlb"))
		return chain_bounded("/sys/fs/cgroup/hugetlb", group, "hugetlb.2MB.limit_in_bytes");
	if (controllers[0])
		return false;
	snprintf(copy, sizeof(copy), "%s", group);
	return chain_bounded("/sys/fs/cgroup", group, "hugetlb.2MB.max") ||
	       chain_bounded("/sys/fs/cgroup/unified", copy, "hugetlb.2MB.max");
}

bool hugetlb_cgroup_limited(void)
{
	char line[PATH_MAX];
	bool limited = false;
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		return false;
	while (!limited && fgets(line, sizeof(line), f))
		limited = line_bounded(line);
	fclose(f);
	return limited;
}
