/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_listen.c: HTTP's sockets. Addresses are TCP, Unix sockets (mode 0660) or what the service
 * manager hands over; who comes in by them is handed to http_peers.c. Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "serve/handed.h"
#include "serve/http_address.h"
#include "serve/http_private.h"

#define BACKLOG 256

/*
 * Descriptors have run out: somebody idle gives his up, and who stands at the door is sent away, for
 * a listener that stays readable would turn the loop without end. accept4() says so also where nobody
 * stands there.
 */
static void refuse_without_fd(struct http_listener *l)
{
	struct serve *s = l->http->serve;
	int fd;

	http_peers_yield(l->http);
	if (s->reserve_fd < 0)
		return;
	close(s->reserve_fd);
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		http_peer_refuse(fd);
		serve_notice(s, "http client refused", NULL, "descriptors have run out");
	}
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void listener_event(struct source_fd *f, uint32_t events)
{
	struct http_listener *l = (struct http_listener *)f;

	for (int i = 0; i < HTTP_ACCEPTS_AT_ONCE; i++) {
		struct sockaddr_storage addr = { 0 };
		socklen_t len = sizeof(addr);
		int fd = accept4(l->fd, (struct sockaddr *)&addr, &len,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			refuse_without_fd(l);
			return;
		}
		if (fd < 0)
			return;
		http_peer_accept(l->http, fd, &addr, len);
	}
}

static int start_listening(struct http *h, int fd, const char *text, struct err *err)
{
	struct http_listener *l = &h->listeners[h->n_listeners];
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = l };

	if (h->n_listeners == HTTP_ADDRESSES) {
		close(fd);
		return err_set(err, -E2BIG, "--http: at most %d sockets", HTTP_ADDRESSES);
	}
	l->source = (struct source_fd){ SOURCE_OTHER, listener_event };
	l->http = h;
	l->fd = fd;
	h->n_listeners++;
	if (listen(fd, BACKLOG) || epoll_ctl(h->serve->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
		return err_set(err, -errno, "--http %s: cannot listen: %s", text, strerror(errno));
	return 0;
}

/* 0, or a sentence where the path is in use or no socket. */
static int remove_stale(const struct sockaddr_un *addr, struct err *err)
{
	const char *path = addr->sun_path;
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return err_set(err, -EADDRINUSE, "%s: exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	rc = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? errno : 0;
	close(fd);
	if (rc != ECONNREFUSED)
		return err_set(err, -EADDRINUSE, "%s: another process listens there", path);
	if (unlink(path))
		return err_set(err, -errno, "%s: cannot remove the stale socket: %s", path,
			       strerror(errno));
	return 0;
}

static int bind_unix(int fd, const struct sockaddr_un *addr, struct err *err)
{
	mode_t mask = umask(0117);
	int rc = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? -errno : 0;

	if (rc == -EADDRINUSE) {
		rc = remove_stale(addr, err);
		if (rc) {
			umask(mask);
			return rc;
		}
		rc = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? -errno : 0;
	}
	umask(mask);
	return rc ? err_set(err, rc, "%s: cannot bind: %s", addr->sun_path, strerror(-rc)) : 0;
}

static int open_unix(struct http *h, const char *text, const char *path, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct http_listener *l = &h->listeners[h->n_listeners];
	struct stat st;
	int fd, rc;

	if (strlen(path) >= sizeof(addr.sun_path)) /* options_parse() has said so */
		return err_set(err, -EINVAL, "--http %s: too long", text);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	rc = bind_unix(fd, &addr, err);
	if (rc) {
		close(fd);
		return rc;
	}
	rc = start_listening(h, fd, text, err);
	if (!rc && !lstat(path, &st)) {
		memcpy(l->path, path, strlen(path) + 1);
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	return rc;
}

static int open_one(struct http *h, const char *text, const struct addrinfo *a, struct err *err)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	int rc;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, a->ai_addr, a->ai_addrlen)) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return start_listening(h, fd, text, err);
}

static int open_tcp(struct http *h, const char *text, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *all;
	struct http_address at;
	int rc, opened = 0;

	rc = http_address_parse(text, &at, err);
	if (rc)
		return err_prefix(err, rc, "--http");
	rc = getaddrinfo(at.any ? NULL : at.host, at.port, &hints, &all);
	if (rc)
		return err_set(err, -EINVAL, "--http %s: %s", text, gai_strerror(rc));
	rc = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = all; a; a = a->ai_next) {
		int one = open_one(h, text, a, err);

		opened += !one;
		if (one)
			rc = one;
	}
	freeaddrinfo(all);
	if (opened)
		return 0;
	return err_set(err, rc, "--http %s: cannot listen: %s", text, strerror(-rc));
}

/* What the service manager opened for us. */
static int open_manager(struct http *h, const char *text, struct err *err)
{
	int fd = handed_take(HANDED_HTTP), rc = 0;

	if (fd < 0)
		return err_set(err, -EINVAL,
			       "--http %s: the service manager has handed over no sockets", text);
	for (; !rc && fd >= 0; fd = handed_take(HANDED_HTTP))
		rc = start_listening(h, fd, text, err);
	return rc;
}

/* Says where we listen, with the port that the kernel chose. */
static void say_listening(const struct http *h)
{
	for (unsigned i = 0; i < h->n_listeners; i++) {
		struct sockaddr_storage addr;
		socklen_t len = sizeof(addr);
		char host[NI_MAXHOST], port[NI_MAXSERV];

		if (h->listeners[i].path[0])
			log_line(LOG_NOTICE, "http", "address=\"unix:%s\"", h->listeners[i].path);
		else if (!getsockname(h->listeners[i].fd, (struct sockaddr *)&addr, &len) &&
			 !getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port,
				      sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
			log_line(LOG_NOTICE, "http", "address=\"%s%s%s:%s\"",
				 strchr(host, ':') ? "[" : "", host, strchr(host, ':') ? "]" : "",
				 port);
	}
}

/* Can only programs of this machine reach every socket? */
bool http_loopback_only(const struct http *h)
{
	for (unsigned i = 0; i < h->n_listeners; i++) {
		struct sockaddr_storage addr = { 0 };
		socklen_t len = sizeof(addr);

		if (getsockname(h->listeners[i].fd, (struct sockaddr *)&addr, &len))
			return false;
		if (addr.ss_family != AF_UNIX && !http_address_loopback((struct sockaddr *)&addr))
			return false;
	}
	return true;
}

int http_listen_open(struct http *h, struct err *err)
{
	for (unsigned i = 0; i < h->config.addresses.n; i++) {
		const char *text = h->config.addresses.text[i];
		int rc;

		if (!strncmp(text, "unix:", 5))
			rc = open_unix(h, text, text + 5, err);
		else if (!strcmp(text, "systemd"))
			rc = open_manager(h, text, err);
		else
			rc = open_tcp(h, text, err);
		if (rc)
			return rc;
	}
	if (!http_loopback_only(h) && !h->keys.n && !h->config.no_auth)
		return http_address_open(err);
	say_listening(h);
	return 0;
}

void http_listen_close(struct http *h)
{
	for (unsigned i = 0; i < h->n_listeners; i++) {
		struct http_listener *l = &h->listeners[i];
		struct stat st;

		if (l->path[0] && !lstat(l->path, &st) && st.st_dev == l->dev &&
		    st.st_ino == l->ino)
			unlink(l->path);
		close(l->fd);
	}
	h->n_listeners = 0;
}
