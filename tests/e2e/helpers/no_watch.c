/* SPDX-License-Identifier: MIT */
/*
 * tests/e2e/helpers/no_watch.c: a kernel that watches no descriptor for a second epoll set, as where a user has reached
 * fs.epoll.max_user_watches, while the file that NO_WATCH names exists; for a program that this is preloaded into
 * (LD_PRELOAD). One thread alone adds descriptors twice.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
	static _Thread_local int last_set = -1, last_fd = -1;
	const char *full = getenv("NO_WATCH");

	if (op == EPOLL_CTL_ADD) {
		if (fd == last_fd && set != last_set && full && !access(full, F_OK)) {
			last_fd = -1;
			errno = ENOSPC;
			return -1;
		}
		last_set = set;
		last_fd = fd;
	}
	return (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}
