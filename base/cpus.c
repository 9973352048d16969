/* SPDX-License-Identifier: MIT */
/* base/cpus.c: see cpus.h. */
#include "base/cpus.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* A CPU's number at *at, which goes behind it; -1: none, or too large. */
static int number(const char **at)
{
	int n = 0;

	if (**at < '0' || **at > '9')
		return -1;
	while (**at >= '0' && **at <= '9') {
		n = n * 10 + (*(*at)++ - '0');
		if (n >= CPU_SETSIZE)
			return -1;
	}
	return n;
}

/* "3" or "3-5" at *at, which goes behind it. */
static bool range(const char **at, cpu_set_t *set)
{
	int first = number(at), last = first;

	if (first >= 0 && **at == '-') {
		++*at;
		last = number(at);
	}
	if (first < 0 || last < first)
		return false;
	for (int cpu = first; cpu <= last; cpu++)
		CPU_SET(cpu, set);
	return true;
}

int cpus_parse(const char *text, cpu_set_t *ret, struct err *err)
{
	const char *at = text;
	cpu_set_t set;
	bool good;

	CPU_ZERO(&set);
	if (!strcmp(text, "all")) {
		memset(ret, 0xff, sizeof(*ret));
		return 0;
	}
	while ((good = range(&at, &set)) && *at == ',')
		at++;
	if (!good || *at)
		return err_set(err, -EINVAL,
			       "%.80s is no list of CPUs below %d, such as 0-3,8, nor all", text,
			       CPU_SETSIZE);
	*ret = set;
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
