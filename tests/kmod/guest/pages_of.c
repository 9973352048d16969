/* SPDX-License-Identifier: MIT */
/*
 * Description: where the pages of another process's mapping lie, as move_pages() tells.
 * usage: pages_of PID NAME MIN_SHARE. NAME is part of a line of /proc/PID/maps. Each page that is
 * present is asked for; passes if every node that has memory holds at least MIN_SHARE percent of
 * them. A tool of daemon_test, not a program of the plan.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define BATCH 512

static unsigned long counts[SLUICE_MAX_NODES], present, absent;

static void count_range(int pid, unsigned long start, unsigned long end, unsigned long step)
{
	void *pages[BATCH];
	int status[BATCH];

	while (start < end) {
		unsigned long n = 0, i;

		for (; n < BATCH && start < end; start += step)
			pages[n++] = (void *)start;
		if (syscall(SYS_move_pages, pid, n, pages, NULL, status, 0))
			tap_bail("move_pages: %s", strerror(errno));
		for (i = 0; i < n; i++) {
			if (status[i] < 0 || status[i] >= (int)SLUICE_MAX_NODES) {
				absent++;
				continue;
			}
			present++;
			counts[status[i]]++;
		}
	}
}

int main(int argc, char **argv)
{
	int pid = argc > 3 ? atoi(argv[1]) : 0;
	char path[64], line[512], memory[128];
	unsigned int node;
	FILE *maps;

	if (!pid)
		tap_bail("usage: pages_of PID NAME MIN_SHARE");
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		tap_bail("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end;

		if (strstr(line, argv[2]) && sscanf(line, "%lx-%lx", &start, &end) == 2)
			count_range(pid, start, end, 2ul << 20);
	}
	fclose(maps);
	tap_ok(present, "%lu huge pages of %s present, %lu not", present, argv[2], absent);
	file_read(memory, sizeof(memory), "/sys/devices/system/node/has_memory");
	for (node = 0; present && node < SLUICE_MAX_NODES; node++)
		if (list_has(memory, node))
			tap_ok(counts[node] * 100 >= present * strtoul(argv[3], NULL, 10),
			       "node %u holds %lu of %lu", node, counts[node], present);
	return tap_done();
}
