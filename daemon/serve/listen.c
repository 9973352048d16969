/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/listen.c: the listening socket and who may connect.
 *
 * The socket file has mode 0660; besides, every peer's credentials are checked before a byte of it
 * is read: our own user, root, or a member of the socket file's group. Connections are bounded, in
 * all and per user; where descriptors run out a reserve lets us refuse with a sentence instead of
 * spinning on a full queue. Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/handed.h"
#include "serve/message.h"
#include "serve/native.h"
#include "serve/private.h"

#define BACKLOG	   64
#define MAX_GROUPS 256

static int make_address(const char *path, struct sockaddr_un *ret, struct err *err)
{
	size_t len = strlen(path);

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!len || len >= sizeof(ret->sun_path))
		return err_set(err, -ENAMETOOLONG, "%s: a socket path has 1 to %zu bytes", path,
			       sizeof(ret->sun_path) - 1);
	memcpy(ret->sun_path, path, len + 1);
	return 0;
}

/* Removes a socket file nobody listens on. -EADDRINUSE where somebody does or it is no socket. */
static int remove_stale(const char *path, const struct sockaddr_un *addr, struct err *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return err_set(err, -EADDRINUSE, "%s: exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	rc = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? errno : 0;
	close(fd);
	if (rc != ECONNREFUSED)
		return err_set(err, -EADDRINUSE,
			       "%s: another process listens there (sluice status --socket %s)",
			       path, path);
	if (unlink(path) && errno != ENOENT)
		return err_set(err, -errno, "%s: cannot remove the stale socket: %s", path,
			       strerror(errno));
	return 0;
}

static int bind_socket(struct serve *s, struct err *err)
{
	const char *path = s->config.socket_path;
	struct sockaddr_un addr;
	mode_t mask;
	int rc = make_address(path, &addr, err);

	if (rc)
		return rc;
	mask = umask(0117); /* the file is born 0660; no other thread makes files now */
	rc = bind(s->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	if (rc == -EADDRINUSE) {
		rc = remove_stale(path, &addr, err);
		if (!rc && bind(s->listen_fd, (struct sockaddr *)&addr, sizeof(addr)))
			rc = -errno;
	}
	umask(mask);
	return rc ? err_set(err, rc, "%s: cannot bind the socket: %s", path, strerror(-rc)) : 0;
}

/* Our own socket file; it is ours to remove. */
static int make_socket(struct serve *s, struct err *err)
{
	struct stat st;
	int rc;

	s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	rc = bind_socket(s, err);
	if (rc)
		return rc;
	if (lstat(s->config.socket_path, &st))
		return err_set(err, -errno, "%s: %s", s->config.socket_path, strerror(errno));
	s->socket_dev = st.st_dev;
	s->socket_ino = st.st_ino;
	s->socket_gid = st.st_gid;
	return 0;
}

/* The service manager's: its file stays when we go, and clients wait there until we come back. */
static int take_socket(struct serve *s, struct err *err)
{
	struct sockaddr_un addr = { 0 };
	socklen_t len = sizeof(addr) - 1; /* so that the path ends */
	struct stat st;

	s->listen_fd = handed_take(HANDED_NATIVE);
	if (getsockname(s->listen_fd, (struct sockaddr *)&addr, &len) || !addr.sun_path[0])
		return err_set(
			err, -EINVAL,
			"the socket of the service manager has no path: ListenSequentialPacket= "
			"must name one");
	if (strcmp(addr.sun_path, s->config.socket_path) != 0)
		return err_set(err, -EINVAL,
			       "--socket %s, but the service manager hands over %s: leave out the "
			       "option or change the unit",
			       s->config.socket_path, addr.sun_path);
	if (lstat(addr.sun_path, &st))
		return err_set(err, -errno, "%s: %s", addr.sun_path, strerror(errno));
	s->socket_gid = st.st_gid;
	return 0;
}

int listen_open(struct serve *s, struct err *err)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int rc;

	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	rc = handed_count(HANDED_NATIVE) ? take_socket(s, err) : make_socket(s, err);
	if (rc)
		return rc;
	s->sources[SOURCE_LISTEN] = SOURCE_LISTEN;
	ev.data.ptr = &s->sources[SOURCE_LISTEN];
	if (listen(s->listen_fd, BACKLOG) ||
	    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->listen_fd, &ev))
		return err_set(err, -errno, "%s: cannot listen: %s", s->config.socket_path,
			       strerror(errno));
	return 0;
}

void listen_close(struct serve *s)
{
	struct stat st;

	if (s->listen_fd < 0)
		return;
	/* Only the file that we made: another daemon may have taken the path over since. */
	if (s->socket_ino && !lstat(s->config.socket_path, &st) && st.st_dev == s->socket_dev &&
	    st.st_ino == s->socket_ino)
		unlink(s->config.socket_path);
	close(s->listen_fd);
	s->listen_fd = -1;
}

static bool in_group(const struct serve *s, int fd, gid_t primary)
{
	gid_t groups[MAX_GROUPS];
	socklen_t len = sizeof(groups);

	if (primary == s->socket_gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
		return false;
	for (size_t i = 0; i < len / sizeof(gid_t); i++)
		if (groups[i] == s->socket_gid)
			return true;
	return false;
}

/* 0, or the error code to refuse this peer with. */
static int admit(const struct serve *s, int fd, struct ucred *ret_peer)
{
	socklen_t len = sizeof(*ret_peer);
	unsigned n_of_uid = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_peer, &len))
		return SLUICE_E_DENIED;
	if (ret_peer->uid != geteuid() && ret_peer->uid != 0 && !in_group(s, fd, ret_peer->gid))
		return SLUICE_E_DENIED;
	for (const struct conn *c = s->conns; c; c = c->next)
		n_of_uid += !c->dead && c->uid == ret_peer->uid;
	if (s->n_conns >= SERVE_MAX_CONNS || n_of_uid >= SERVE_MAX_CONNS_PER_UID)
		return SLUICE_E_LIMIT;
	return 0;
}

/* One packet with the reason, if it goes at once; nothing is ever read from this peer. */
static void refuse(struct serve *s, int fd, int code)
{
	struct sluice_error e = { .struct_size = sizeof(e), .code = (uint32_t)code };
	const char *text = ask_error_text(code);
	size_t len;

	e.payload_bytes = strlen(text);
	len = message_build(s->built, SLUICE_MSG_MAX, SLUICE_ERROR, 0, &e, text, e.payload_bytes,
			    false);
	if (send(fd, s->built, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		len = 0; /* the close says it too */
	close(fd);
	serve_notice(s, "client refused", NULL, text);
}

/* Descriptors have run out: uses the reserve to take one client and say so. */
static void refuse_without_fd(struct serve *s)
{
	int fd;

	if (s->reserve_fd < 0)
		return;
	close(s->reserve_fd);
	fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		refuse(s, fd, SLUICE_E_LIMIT);
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void listen_accept(struct serve *s)
{
	struct ucred peer;
	int fd, code;

	fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			refuse_without_fd(s);
		return;
	}
	code = admit(s, fd, &peer);
	if (!code && conn_create(s, &native_transport, fd, peer.uid))
		code = SLUICE_E_NO_MEMORY;
	if (code)
		refuse(s, fd, code);
}
