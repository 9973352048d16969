/* SPDX-License-Identifier: MIT */
/* daemon/engine/topology.c: see topology.h. */
#include "engine/topology.h"

#include <errno.h>
#include <numa.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct candidate {
	int cpu, node;
	bool sibling; /* another allowed CPU of the same core comes before it */
	bool taken;
};

/* The lowest CPU of the core that @cpu is on; @cpu where the kernel does not say. */
static int core_of(int cpu)
{
	char path[96];
	int first = cpu;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
		 cpu);
	f = fopen(path, "re");
	if (!f)
		return cpu;
	if (fscanf(f, "%d", &first) != 1 || first < 0 || first >= CPU_SETSIZE)
		first = cpu;
	fclose(f);
	return first;
}

/* The allowed CPUs in order; returns their number. */
static unsigned list_cpus(struct candidate list[CPU_SETSIZE])
{
	bool numa = numa_available() >= 0;
	cpu_set_t allowed, cores;
	unsigned n = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return 0;
	CPU_ZERO(&cores);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		int core;

		if (!CPU_ISSET(cpu, &allowed))
			continue;
		core = core_of(cpu);
		list[n++] = (struct candidate){ .cpu = cpu,
						.node = numa ? numa_node_of_cpu(cpu) : 0,
						.sibling = CPU_ISSET(core, &cores) };
		CPU_SET(core, &cores);
	}
	return n;
}

unsigned topology_cores(void)
{
	struct candidate *list = calloc(CPU_SETSIZE, sizeof(*list));
	unsigned n = list ? list_cpus(list) : 0, cores = 0;

	for (unsigned i = 0; i < n; i++)
		cores += !list[i].sibling;
	free(list);
	return cores ? cores : 1;
}

static unsigned used_on(const struct candidate *list, unsigned n, int node)
{
	unsigned used = 0;

	for (unsigned i = 0; i < n; i++)
		used += list[i].taken && list[i].node == node;
	return used;
}

/* The next CPU: a core of its own first, then the node with the fewest so far, then the order. */
static struct candidate *next_cpu(struct candidate *list, unsigned n)
{
	struct candidate *best = NULL;
	unsigned best_used = 0;

	for (unsigned i = 0; i < n; i++) {
		unsigned used;

		if (list[i].taken)
			continue;
		used = used_on(list, n, list[i].node);
		if (best && (list[i].sibling > best->sibling ||
			     (list[i].sibling == best->sibling && used >= best_used)))
			continue;
		best = &list[i];
		best_used = used;
	}
	return best;
}

static int by_node(const void *a, const void *b)
{
	const struct cpu_place *x = a, *y = b;

	return x->node != y->node ? (x->node > y->node) - (x->node < y->node)
				  : (x->cpu > y->cpu) - (x->cpu < y->cpu);
}

int topology_choose(unsigned n, struct cpu_place *ret)
{
	struct candidate *list = calloc(CPU_SETSIZE, sizeof(*list));
	unsigned n_cpus = list ? list_cpus(list) : 0;

	for (unsigned i = 0; i < n; i++)
		ret[i] = (struct cpu_place){ .cpu = -1, .node = -1 };
	for (unsigned i = 0; i < n && n <= n_cpus; i++) {
		struct candidate *c = next_cpu(list, n_cpus);

		c->taken = true;
		ret[i] = (struct cpu_place){ .cpu = c->cpu, .node = c->node };
	}
	if (n <= n_cpus)
		qsort(ret, n, sizeof(*ret), by_node);
	free(list);
	return n <= n_cpus ? 0 : -ENOSPC;
}
