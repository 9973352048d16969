/* SPDX-License-Identifier: MIT */
/*
 * base/cpus.h: which CPUs this process keeps to, as a list: "0-3,8". Main thread, before there are
 * others: they inherit it.
 */
#ifndef SLUICE_BASE_CPUS_H
#define SLUICE_BASE_CPUS_H

#include <sched.h>

#include "base/err.h"

/* "all": every bit of *ret. 0; -EINVAL and a sentence: no list of CPUs below CPU_SETSIZE. */
int cpus_parse(const char *text, cpu_set_t *ret, struct err *err);

/*
 * Keeps this thread, and those that it will make, to the CPUs of @text that its affinity allows. 0;
 * -EINVAL as above, or it allows none of them; -errno of the kernel, and a sentence.
 */
int cpus_keep_to(const char *text, struct err *err);

#endif
