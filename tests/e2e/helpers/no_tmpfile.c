/* SPDX-License-Identifier: MIT */
/*
 * tests/e2e/helpers/no_tmpfile.c: a file system that cannot make files without a name, for a program
 * that this is preloaded into (LD_PRELOAD).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

int open(const char *path, int flags, ...)
{
	va_list ap;
	int mode;

	va_start(ap, flags);
	mode = va_arg(ap, int); /* garbage where there is none, which the kernel then ignores */
	va_end(ap);
	if ((flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
