/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/hugetlb.h: what the kernel says about its pool of 2 MiB pages.
 *
 * Reads sysfs, procfs and cgroupfs; changes nothing. Private to the store; arena.c asks it to decide
 * on hugetlb and to explain a refusal. Any thread.
 */
#ifndef SLUICE_STORE_HUGETLB_H
#define SLUICE_STORE_HUGETLB_H

#include <stdbool.h>
#include <stdint.h>

#define HUGETLB_BYTES (2ull << 20)

struct hugetlb_pool {	    /* pages; zeros where the kernel has no such pool */
	uint64_t total;	    /* nr_hugepages, the pages lent beyond it included */
	uint64_t available; /* free and promised to nobody */
};

void hugetlb_read_pool(struct hugetlb_pool *ret);

/*
 * Whether a control group bounds this process's 2 MiB pages. Then even a page that was reserved may
 * be refused when it is touched, by SIGBUS.
 */
bool hugetlb_cgroup_limited(void);

#endif
