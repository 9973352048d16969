/* SPDX-License-Identifier: MIT */
/* base/write_all.h: bytes to a descriptor, whole. Any thread. */
#ifndef SLUICE_BASE_WRITE_ALL_H
#define SLUICE_BASE_WRITE_ALL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* @n bytes to where @fd stands, however many calls that takes. 0, -EIO where it takes none, or another
 * -errno; a part may then have been written. */
static inline int write_all(int fd, const void *data, size_t n)
{
	const uint8_t *next = data;

	while (n) {
		ssize_t done = write(fd, next, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		next += done;
		n -= (size_t)done;
	}
	return 0;
}

#endif
