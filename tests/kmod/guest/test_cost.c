/* SPDX-License-Identifier: MIT */
/*
 * Description: what a sample costs: operations counted, microseconds per part printed.
 * The times are those of an emulated machine and say nothing of hardware; so the assertions are
 * on the numbers of operations: one for each online node, each watched function, each counter,
 * and none for what nobody watches.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest.h"

#define SAMPLES 50

static double us(__u64 ns)
{
	return (double)ns / 1000;
}

/* Mean over SAMPLES samples of the parts' costs; the last copy stays in `copy`. */
static void measure(const char *what, const struct sluice_page *page,
		    const struct sluice_get_info *info, struct sluice_page *copy)
{
	__u64 node = 0, pci = 0, pmu = 0, publish = 0;
	unsigned int i;

	for (i = 0; i < SAMPLES; i++) {
		guest_wait_sample(page, copy->sample_nr, 5000);
		guest_copy(page, copy, info);
		node += copy->node_cost_ns;
		pci += copy->pci_cost_ns;
		pmu += copy->pmu_cost_ns;
		publish += copy->publish_cost_ns;
	}
	tap_note("%-28s nodes %7.1f us, pci %7.1f us, pmu %7.1f us, publish %6.1f us", what,
		 us(node) / SAMPLES, us(pci) / SAMPLES, us(pmu) / SAMPLES, us(publish) / SAMPLES);
}

int main(void)
{
	struct pci_address at[8];
	unsigned int i, nr, online = 0, clocks;
	struct sluice_get_info info;
	const struct sluice_page *page;
	struct sluice_page *copy;
	__u64 cost;
	int fd;

	guest_need("period_ms=10");
	fd = guest_open();
	guest_info(fd, &info);
	page = guest_map(fd, &info);
	copy = guest_copy_new(&info);
	measure("nothing watched:", page, &info, copy);
	for (i = 0; i < copy->node_nr; i++)
		online += !!(sluice_page_node(copy, i)->flags & SLUICE_NODE_ONLINE);
	tap_is(copy->node_ops, online, "one operation for each online node");
	tap_ok(!copy->pci_ops && !copy->pmu_ops, "none for what nobody watches");

	nr = guest_pci_list(at, 8, GUEST_RNG_VENDOR, GUEST_RNG_DEVICE);
	for (i = 0; i < nr; i++)
		if (guest_watch_pci(fd, &at[i]) < 0)
			tap_bail("WATCH_PCI");
	measure("functions watched:", page, &info, copy);
	tap_is(copy->pci_ops, nr, "one for each watched function");
	clocks = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	for (i = 0; i < clocks; i++)
		if (guest_watch_clock(fd, i) < 0)
			tap_bail("WATCH_PMU");
	measure("and a counter for each CPU:", page, &info, copy);
	tap_is(copy->pmu_ops, clocks, "one for each watched counter");
	tap_is(copy->pmu_created, 0, "no counter made anew");
	tap_is(copy->open_nr, 1, "one open file");
	cost = copy->cost_total_ns;
	guest_wait_sample(page, copy->sample_nr, 5000);
	guest_copy(page, copy, &info);
	tap_ok(copy->cost_total_ns > cost, "the total grows");
	tap_note("page of %u bytes; %llu overruns in %llu samples at %llu ms", info.page_bytes,
		 (unsigned long long)copy->overrun_nr, (unsigned long long)copy->sample_nr,
		 (unsigned long long)copy->period_ns / 1000000);
	return tap_done();
}
