/* SPDX-License-Identifier: MIT */
/* base/stdfd.c: see stdfd.h. */
#include "base/stdfd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int stdfd_open(void)
{
	for (int fd = 0; fd < 3; fd++) {
		int got;

		if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
			continue;
		/* the lowest free number, which is this one; no O_CLOEXEC: children have it too */
		got = open("/dev/null", O_RDWR);
		if (got < 0)
			return -errno;
		if (got == fd)
			continue;
		if (dup2(got, fd) < 0 || close(got))
			return -errno;
	}
	return 0;
}
