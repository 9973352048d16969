/* SPDX-License-Identifier: MIT */
/* base/cpus.c: see cpus.h. */
#include "base/cpus.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/fs.h"
#include "base/num.h"

int cpus_parse(const char *text, cpu_set_t *ret, struct err *err)
{
	uint64_t bits[CPU_SETSIZE / 64];
	const size_t n = strlen(text);

	if (!strcmp(text, "all")) {
		memset(ret, 0xff, sizeof(*ret));
		return 0;
	}
	/* the kernel's lists may be empty and have blanks around them */
	if (!n || !isdigit((unsigned char)text[0]) || !isdigit((unsigned char)text[n - 1]) ||
	    text_list(text, bits, ARRAY_LEN(bits)) < 0)
		return err_set(err, -EINVAL,
			       "%.80s is no list of CPUs below %d, such as 0-3,8, nor all", text,
			       CPU_SETSIZE);
	CPU_ZERO(ret);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (bits[cpu / 64] >> (cpu % 64) & 1)
			CPU_SET(cpu, ret);
	return 0;
}

int cpus_keep_to(const char *text, struct err *err)
{
	cpu_set_t wanted, allowed;
	int rc = cpus_parse(text, &wanted, err);

	if (rc || !strcmp(text, "all"))
		return rc;
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return err_set(err, -errno, "the kernel does not tell which CPUs may be used: %s",
			       strerror(errno));
	CPU_AND(&wanted, &wanted, &allowed);
	if (!CPU_COUNT(&wanted))
		return err_set(err, -EINVAL, "this process may use none of the CPUs %.80s", text);
	if (sched_setaffinity(0, sizeof(wanted), &wanted))
		return err_set(err, -errno, "the kernel refuses the CPUs %.80s: %s", text,
			       strerror(errno));
	return 0;
}
