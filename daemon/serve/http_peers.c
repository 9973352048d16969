/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_peers.c: who is connected to HTTP.
 *
 * Connections are bounded in all and for each client (address, or user of a Unix socket); where a
 * bound is met the longest idle connection gives way, so that those who hold many open keep nobody
 * out. Each connection is watched for its end on our own epoll set, because the library does not look
 * while it has one suspended; it is ended by shutting the socket down, which the library then sees,
 * and by a timeout where it does not. Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/http_private.h"

#define PUT_AWAY_S 1u /* the library ends what is shut down and still there */

/*
 * Beside the library, which has not heard of this client. What he has sent already is read, for a socket
 * that is closed with bytes unread resets, and a reset may overtake the answer; more than that nobody
 * waits for.
 */
void http_peer_refuse(int fd)
{
	static const char body[] =
		"{\"error\":{\"message\":\"too many connections: try again in a moment\","
		"\"type\":\"unavailable_error\",\"code\":\"too_many_connections\",\"param\":null}}";
	char text[512], unread[4096];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
			 "Content-Length: %zu\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s",
			 sizeof(body) - 1, body);

	if (send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == n) {
		shutdown(fd, SHUT_WR);
		for (int i = 0; i < 16 && recv(fd, unread, sizeof(unread), MSG_DONTWAIT) > 0; i++)
			;
	}
	close(fd);
}

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

void http_peers_yield(struct http *h)
{
	struct peer *goes = least_missed(h, NULL);

	if (goes)
		http_peer_drop(goes);
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
	return (goes || dropped) && h->n_peers < HTTP_MAX_PEERS + HTTP_ACCEPTS_AT_ONCE;
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
		http_peer_refuse(p->fd);
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

void http_peer_accept(struct http *h, int fd, const struct sockaddr_storage *addr, socklen_t len)
{
	struct peer *p = calloc(1, sizeof(*p));
	int one = 1;

	if (!p) {
		http_peer_refuse(fd);
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
