/* SPDX-License-Identifier: MIT */
/* base/turns.c: see turns.h. */
#include "base/turns.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLICE_NS 100000

void turns_short(bool is_short)
{
	/* the kernel's struct sched_attr, version 0: libc has none before glibc 2.41 */
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = { .size = sizeof(attr), .policy = SCHED_OTHER };
	int was = errno;

	if (sched_getscheduler(0) == SCHED_OTHER) { /* else somebody has chosen */
		errno = 0;
		attr.nice = getpriority(PRIO_PROCESS, 0); /* of this thread, on Linux */
		attr.runtime = is_short ? SLICE_NS : 0;	  /* 0: the kernel's own */
		if (!errno)
			syscall(SYS_sched_setattr, 0, &attr, 0);
	}
	errno = was;
}
