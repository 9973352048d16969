/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/manager.c: what is said to the service manager, as sd_notify(3) describes it.
 *
 * sd_notify() itself waits without end where the socket's queue is full, which ten unread datagrams are enough for
 * (net.unix.max_dgram_qlen), and the loop that all clients wait for would stand. The address is a path or, behind
 * an @, a name; those of virtual machines (vsock:) are for a manager that is the first process of one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/manager.h"

static int open_manager(void)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t n = name ? strlen(name) : 0;
	int fd;

	if (!n)
		return -ENOTCONN;
	if ((name[0] != '/' && name[0] != '@') || n < 2)
		return -EAFNOSUPPORT;
	if (n >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, name, n);
	if (name[0] == '@')
		addr.sun_path[0] = '\0';
	else
		n++; /* a path ends with a zero, a name does not */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* connected: or poll() would call it writable whatever the other side's queue holds */
	if (connect(fd, (const struct sockaddr *)&addr,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n))) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

/* Sends once: 0 or -errno. */
static int send_once(int to, const char *state, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { (void *)(uintptr_t)state, strlen(state) };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(int));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control.room);
	}
	return sendmsg(to, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int manager_send(const char *state, int fd, int wait_ms)
{
	int to = open_manager(), rc;

	if (to < 0)
		return to;
	rc = send_once(to, state, fd);
	if (rc == -EAGAIN && wait_ms) {
		struct pollfd door = { to, POLLOUT, 0 };

		if (poll(&door, 1, wait_ms) > 0)
			rc = send_once(to, state, fd);
	}
	close(to);
	return rc;
}

int manager_barrier(int wait_ms)
{
	int ends[2], rc;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	rc = manager_send("BARRIER=1", ends[1], wait_ms);
	close(ends[1]);
	if (!rc) { /* the manager closes its copy when it comes to it; nobody writes */
		struct pollfd end = { ends[0], 0, 0 };

		rc = poll(&end, 1, wait_ms) > 0 ? 0 : -ETIMEDOUT;
	}
	close(ends[0]);
	return rc;
}
