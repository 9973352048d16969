/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_listen.c: HTTP's sockets and who is connected to them.
 *
 * Addresses are TCP, Unix sockets (mode 0660) or what the service manager hands over. Connections
 * are bounded in all and for each client (address, or user of a Unix socket); where a bound is met
 * the longest idle connection gives way, so that those who hold many open keep nobody out. Each
 * connection is watched for its end on our own epoll set, because the library does not look while it
 * has one suspended; it is ended by shutting the socket down, which the library then sees, and by a
 * timeout where it does not. Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/handed.h"
#include "serve/http_address.h"
#include "serve/http_private.h"

#define BACKLOG		256
#define ACCEPTS_AT_ONCE 64
#define PUT_AWAY_S	1u /* the library ends what is shut down and still there */

/* ---- peers ---- */

void http_peer_drop(struct peer *p)
{
	p->vanished = true;
	shutdown(p->fd, SHUT_RDWR);
	if (p->request)
		http_resume(p->request);
}

/* Its client has gone: what it asked for is cancelled, also while the library has it suspended. */
static void peer_event(struct source_fd *f, uint32_t events)
{
	struct peer *p = (struct peer *)f;

	if (!(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) || p->vanished)
		return;
	if (p->request && p->request->suspended)
		http_peer_drop(p);
	else if (!p->half_ns) /* the library misses an end that came along with the last bytes */
		p->half_ns = now_ns();
}

static void who(int fd, const struct sockaddr_storage *addr, uint8_t ret[20])
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);

	memset(ret, 0, 20);
	ret[0] = (uint8_t)addr->ss_family;
	if (addr->ss_family == AF_INET)
		memcpy(ret + 4, &((const struct sockaddr_in *)addr)->sin_addr, 4);
	else if (addr->ss_family == AF_INET6)
		memcpy(ret + 4, &((const struct sockaddr_in6 *)addr)->sin6_addr, 16);
	else if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		memcpy(ret + 4, &cred.uid, sizeof(cred.uid));
}

/*
 * Since when a connection has done nothing, where it may go for another. *ret_rank: those of a lower
 * rank go first: who asks for nothing, whose request is still coming in, who takes nothing of an
 * answer. False: it stays.
 */
static bool may_go(const struct peer *p, uint64_t now, unsigned *ret_rank, uint64_t *ret_since)
{
	const struct http_request *r = p->request;

	*ret_rank = !r ? 0 : r->state == HTTP_BODY ? 1 : 2;
	*ret_since = !r ? p->since_ns : r->state == HTTP_BODY ? r->since_ns : r->taken_ns;
	return !p->vanished &&
	       (*ret_rank < 2 || (r->state == HTTP_STREAM && !r->suspended &&
				  now - r->taken_ns > HTTP_YIELD_MS * UINT64_C(1000000)));
}

/* Whose connection is missed least, of one client's (NULL: of all). NULL: nobody's may go. */
static struct peer *least_missed(const struct http *h, const uint8_t *client)
{
	uint64_t now = now_ns(), since, oldest = 0;
	struct peer *best = NULL;
	unsigned rank, lowest = 0;

	for (struct peer *p = h->peers; p; p = p->next) {
		if (client && memcmp(p->client, client, sizeof(p->client)) != 0)
			continue;
		if (!may_go(p, now, &rank, &since))
			continue;
		if (best && (rank > lowest || (rank == lowest && since >= oldest)))
			continue;
		best = p;
		lowest = rank;
		oldest = since;
	}
	return best;
}

/* This client's, those that are shut down included. */
static unsigned peers_of(const struct http *h, const uint8_t client[20])
{
	unsigned n = 0;

	for (const struct peer *p = h->peers; p; p = p->next)
		n += !memcmp(p->client, client, sizeof(p->client));
	return n;
}

/* Makes room for one more of this client: false: none can be had. */
static bool make_room(struct http *h, const uint8_t client[20])
{
	unsigned n = peers_of(h, client), dropped = 0;
	bool full = h->n_peers >= HTTP_MAX_PEERS;
	struct peer *goes;

	for (const struct peer *p = h->peers; p; p = p->next)
		dropped += p->vanished;
	if (n < HTTP_MAX_PEERS_PER_CLIENT && !full)
		return true;
	goes = least_missed(h, full ? NULL : client);
	if (goes)
		http_peer_drop(goes);
	/* those who are shut down are freed soon; a few more than the bound do no harm */
	return (goes || dropped) && h->n_peers < HTTP_MAX_PEERS + ACCEPTS_AT_ONCE;
}

/*
 * Descriptors have run out: somebody idle gives his up, and who stands at the door is sent away, for
 * a listener that stays readable would turn the loop without end.
 */
static void refuse_without_fd(struct http_listener *l)
{
	struct serve *s = l->http->serve;
	struct peer *goes = least_missed(l->http, NULL);
	int fd;

	if (goes)
		http_peer_drop(goes);
	if (s->reserve_fd < 0)
		return;
	close(s->reserve_fd);
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		close(fd);
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	serve_notice(s, "http client refused", NULL, "descriptors have run out");
}

/* Takes @p, whose @client and @fd are set, over in any case; false: it did not get in. */
static bool add_peer(struct http *h, struct peer *p, const struct sockaddr *addr, socklen_t len)
{
	struct epoll_event ev = { .events = EPOLLRDHUP | EPOLLET, .data.ptr = p };
	int most = HTTP_SEND_BYTES;

	p->source = (struct source_fd){ SOURCE_OTHER, peer_event };
	p->http = h;
	p->since_ns = now_ns();
	if (!make_room(h, p->client)) {
		close(p->fd);
		free(p);
		return false;
	}
	/* or the kernel holds megabytes for one who does not read, and he is found out late */
	setsockopt(p->fd, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most));
	p->next = h->peers;
	h->peers = p;
	h->n_peers++;
	if (epoll_ctl(h->serve->epoll_fd, EPOLL_CTL_ADD, p->fd, &ev))
		p->vanished = true;
	/* takes the descriptor over in any case; the notification finds our struct by its number */
	if (MHD_add_connection(h->mhd, p->fd, addr, len) == MHD_YES)
		return true;
	/* where it failed after it had begun, on_connection() has freed ours already */
	if (h->peers == p) {
		h->peers = p->next;
		h->n_peers--;
		free(p);
	}
	return false;
}

static void accept_peer(struct http *h, int fd, const struct sockaddr_storage *addr, socklen_t len)
{
	struct peer *p = calloc(1, sizeof(*p));
	int one = 1;

	if (!p) {
		close(fd);
		return;
	}
	p->fd = fd;
	who(fd, addr, p->client);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	add_peer(h, p, (const struct sockaddr *)addr, len);
}

int http_adopt(struct attachment *a, int fd, uid_t uid, struct err *err)
{
	const struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct http *h = (struct http *)a;
	struct peer *p = calloc(1, sizeof(*p));
	int flags = fcntl(fd, F_GETFL);

	if (h->quiet || !p || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) {
		bool quiet = h->quiet;

		close(fd);
		free(p);
		return err_set(err, quiet ? SLUICE_E_SHUTDOWN : SLUICE_E_NO_MEMORY,
			       quiet ? "the daemon is stopping" : "no memory for a connection");
	}
	p->fd = fd;
	p->client[0] = AF_UNIX;
	memcpy(p->client + 4, &uid, sizeof(uid));
	p->owner = (uint64_t)uid + 1;
	/* none gives way: each asked for is a descriptor in flight, which the kernel counts */
	if (peers_of(h, p->client) >= HTTP_MAX_PEERS_PER_CLIENT) {
		close(fd);
		free(p);
		return err_set(err, SLUICE_E_BUSY, "a client may have %d HTTP connections",
			       HTTP_MAX_PEERS_PER_CLIENT);
	}
	if (add_peer(h, p, (const struct sockaddr *)&addr, sizeof(addr.sun_family)))
		return 0;
	return err_set(err, SLUICE_E_BUSY, "too many HTTP connections");
}

static void listener_event(struct source_fd *f, uint32_t events)
{
	struct http_listener *l = (struct http_listener *)f;

	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
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
		accept_peer(l->http, fd, &addr, len);
	}
}

/* When the peer's patience with us, or ours with it, ends; 0: never. */
static uint64_t deadline_ns(const struct peer *p)
{
	const struct http_request *r = p->request;
	uint64_t ms = 0, since = p->since_ns;

	if (p->vanished)
		return 0;
	if (p->half_ns) /* in every state: its end may have been seen before its request was */
		return p->half_ns + HTTP_HALF_MS * UINT64_C(1000000);
	if (!r) {
		ms = p->served ? HTTP_IDLE_MS : HTTP_HEADER_MS;
	} else if (r->state == HTTP_BODY) {
		ms = HTTP_BODY_MS;
		since = r->since_ns;
	} else if (r->state == HTTP_STREAM && !r->suspended) {
		ms = HTTP_STALL_MS;
		since = r->taken_ns;
	}
	return ms ? since + ms * 1000000u : 0;
}

int http_peers_timeout_ms(const struct http *h)
{
	uint64_t next = UINT64_MAX, now = now_ns();

	for (const struct peer *p = h->peers; p; p = p->next) {
		uint64_t t = deadline_ns(p);

		if (t && t < next)
			next = t;
	}
	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now) / 1000000u) + 1;
}

/*
 * Where the reader of an answer gives up, or an answer without chunks ends, the library marks the
 * connection as closed and leaves it: of those without a timeout MHD_epoll() looks at the oldest alone
 * (0.9.75 and 1.0.1), so an older connection, however quiet, would keep the descriptors of all who
 * vanished. Those with a timeout of their own it looks at in every turn.
 */
static void put_away(struct peer *p)
{
	if (p->request && p->request->suspended) /* 1.0.1 would not listen */
		return;
	MHD_set_connection_option(p->c, MHD_CONNECTION_OPTION_TIMEOUT, PUT_AWAY_S);
	if (!p->put_away)
		p->http->resumed = true; /* that turn comes now */
	p->put_away = true;
}

void http_peers_expire(struct http *h)
{
	uint64_t now = now_ns();

	for (struct peer *p = h->peers; p; p = p->next) {
		uint64_t t = deadline_ns(p);

		if (p->vanished)
			put_away(p);
		else if (t && t <= now)
			http_peer_drop(p); /* put away a turn later */
	}
}

/* ---- addresses ---- */

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
