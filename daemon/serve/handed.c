/* SPDX-License-Identifier: MIT */
/* daemon/serve/handed.c: see handed.h. The descriptors are the process's, and so is this list of them. */
#include "serve/handed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST 3 /* SD_LISTEN_FDS_START */
#define MOST  32

static struct {
	int fd;
	enum handed_kind kind;
} handed[MOST];
static unsigned n_handed;
static struct {
	int fd[WARM_NR];
	bool any, twice;
} memory = { .fd = { -1, -1, -1 } };
static struct sockaddr_un native; /* its address */

/* A socket's integer option, -1 where it has none. */
static int option(int fd, int name)
{
	socklen_t len = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

/* -1: neither. */
static int kind_of(int fd)
{
	int type = option(fd, SO_TYPE);

	if (option(fd, SO_ACCEPTCONN) != 1)
		return -1;
	if (type == SOCK_SEQPACKET && option(fd, SO_DOMAIN) == AF_UNIX)
		return HANDED_NATIVE;
	return type == SOCK_STREAM ? HANDED_HTTP : -1;
}

/* The name of descriptor @i in "a:b:c"; FileDescriptorName= of its unit. */
static void name_of(const char *names, unsigned i, char *buf, size_t size)
{
	for (; names && i; i--) {
		names = strchr(names, ':');
		names = names ? names + 1 : NULL;
	}
	snprintf(buf, size, "%.*s", names ? (int)strcspn(names, ":") : 0, names ? names : "");
}

static int take_over(int fd, const char *name, struct err *err)
{
	int kind = kind_of(fd);

	if (kind < 0)
		return err_set(err, -EINVAL,
			       "the service manager hands over descriptor %d (%s), which is no "
			       "listening socket of packets (native) or streams (HTTP)",
			       fd, name);
	if (kind == HANDED_NATIVE && handed_count(HANDED_NATIVE))
		return err_set(
			err, -EINVAL,
			"the service manager hands over two sockets of packets: %s is one too "
			"many",
			name);
	if (kind == HANDED_NATIVE) {
		socklen_t len = sizeof(native) - 1; /* so that the path ends */

		if (getsockname(fd, (struct sockaddr *)&native, &len))
			native.sun_path[0] = '\0';
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	handed[n_handed].fd = fd;
	handed[n_handed++].kind = (enum handed_kind)kind;
	return 0;
}

/* Whatever it is: who uses it looks at it. */
static void take_memory(int fd, enum warm_memory m)
{
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	memory.any = true;
	if (memory.fd[m] < 0) {
		memory.fd[m] = fd;
		return;
	}
	memory.twice = true;
	close(fd);
}

bool handed_memory(int ret_fd[WARM_NR], const char **ret_wrong)
{
	bool any = memory.any;

	*ret_wrong = memory.twice ? "there is more than one of a kind" : NULL;
	memory.any = false;
	for (int m = 0; m < WARM_NR; m++) {
		ret_fd[m] = memory.fd[m];
		memory.fd[m] = -1;
	}
	return any;
}

int handed_open(struct err *err)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	int n = count ? atoi(count) : 0, rc = 0;
	char name[64];

	if (!pid || atoi(pid) != getpid() || n < 1)
		return 0;
	if (n > MOST)
		return err_set(err, -EINVAL,
			       "the service manager hands over %d descriptors, at most %d", n,
			       MOST);
	for (int i = 0; !rc && i < n; i++) {
		name_of(names, (unsigned)i, name, sizeof(name));
		if (warm_named(name) != WARM_NR)
			take_memory(FIRST + i, warm_named(name));
		else
			rc = take_over(FIRST + i, name, err);
	}
	return rc;
}

unsigned handed_count(enum handed_kind kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_handed; i++)
		n += handed[i].fd >= 0 && handed[i].kind == kind;
	return n;
}

const char *handed_native_path(void)
{
	return native.sun_path[0] ? native.sun_path : NULL;
}

int handed_take(enum handed_kind kind)
{
	for (unsigned i = 0; i < n_handed; i++) {
		int fd = handed[i].fd;

		if (fd < 0 || handed[i].kind != kind)
			continue;
		handed[i].fd = -1;
		return fd;
	}
	return -1;
}
