/* SPDX-License-Identifier: MIT */
/* base/read_at.h: a piece of a file, whole. Any thread. */
#ifndef SLUICE_BASE_READ_AT_H
#define SLUICE_BASE_READ_AT_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* @n bytes from @at on into @to, however many calls that takes. 0, -ENODATA where the file ends before
 * that, or another -errno; @to then holds what came. */
static inline int read_at(int fd, void *to, size_t n, uint64_t at)
{
	uint8_t *next = to;

	while (n) {
		ssize_t got = pread(fd, next, n, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ENODATA;
		next += got;
		n -= (size_t)got;
		at += (uint64_t)got;
	}
	return 0;
}

#endif
