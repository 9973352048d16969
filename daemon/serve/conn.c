/* SPDX-License-Identifier: MIT */
/* daemon/serve/conn.c: see conn.h. */
#include "serve/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/private.h"

#define MAX_PER_EVENT 16 /* messages read before others get their turn */

static void watch(struct conn *c)
{
	uint32_t events = EPOLLRDHUP | (c->out ? EPOLLOUT : EPOLLIN);
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (c->dead || events == c->events)
		return;
	if (epoll_ctl(c->serve->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev))
		conn_drop(c);
	c->events = events;
}

int conn_create(struct serve *s, const struct transport *transport, int fd, uid_t uid)
{
	struct conn *c = calloc(1, transport->conn_bytes);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = c };

	if (!c)
		return -ENOMEM;
	c->source = SOURCE_CONN;
	c->transport = transport;
	c->serve = s;
	session_init(&c->session, s);
	c->fd = fd;
	c->uid = uid;
	c->out_tail = &c->out;
	c->events = ev.events;
	c->since_ns = now_ns();
	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev)) {
		int rc = -errno;

		free(c);
		return rc;
	}
	c->next = s->conns;
	s->conns = c;
	s->n_conns++;
	return 0;
}

void conn_drop(struct conn *c)
{
	struct packet *p;

	if (c->dead)
		return;
	c->dead = true;
	session_end(&c->session);
	while ((p = c->out)) {
		c->out = p->next;
		if (p->fd >= 0)
			close(p->fd);
		free(p);
	}
	/* Unread packets would turn into ECONNRESET at the peer, before it reads our last words. */
	for (int i = 0; i < 64 && recv(c->fd, c->serve->packet, 1, MSG_DONTWAIT) > 0; i++)
		continue;
	close(c->fd);
	c->fd = -1;
	c->serve->n_conns--;
}

/* 1 sent, 0 the socket is full, -errno; -ETOOMANYREFS: only @fd cannot be sent now. */
static int try_send(struct conn *c, const void *data, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fd >= 0) {
		struct cmsghdr *h;

		msg.msg_control = control.room;
		msg.msg_controllen = sizeof(control.room);
		h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof(int));
	}
	do
		n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 1;
	return errno == EAGAIN ? 0 : -errno;
}

static void queue_packet(struct conn *c, const void *data, size_t len, int fd)
{
	struct packet *p = malloc(sizeof(*p) + len);

	if (!p) {
		if (fd >= 0)
			close(fd);
		conn_drop(c);
		return;
	}
	if (!c->out)
		c->since_ns = now_ns();
	p->next = NULL;
	p->fd = fd;
	p->len = len;
	memcpy(p->data, data, len);
	*c->out_tail = p;
	c->out_tail = &p->next;
	c->n_out++;
}

void conn_write(struct conn *c, const void *data, size_t len, int fd)
{
	int rc = 0;

	if (c->dead)
		goto out_fd;
	if (!c->out)
		rc = try_send(c, data, len, fd);
	if (rc == -ETOOMANYREFS) {
		close(fd);
		c->transport->unsent(c, data, len);
		return;
	}
	if (rc < 0)
		conn_drop(c);
	if (rc == 0) {
		queue_packet(c, data, len, fd);
		watch(c);
		return;
	}
out_fd:
	if (fd >= 0)
		close(fd);
}

static void flush(struct conn *c)
{
	struct packet *p;

	while ((p = c->out)) {
		int rc = try_send(c, p->data, p->len, p->fd);

		if (rc < 0 && rc != -ETOOMANYREFS)
			conn_drop(c);
		if (rc <= 0 && rc != -ETOOMANYREFS)
			return;
		c->since_ns = now_ns();
		c->out = p->next;
		if (!c->out)
			c->out_tail = &c->out;
		c->n_out--;
		if (p->fd >= 0)
			close(p->fd);
		if (rc < 0)
			c->transport->unsent(c, p->data, p->len);
		free(p);
	}
}

void conn_pump(struct conn *c)
{
	struct event e;

	while (!c->dead && !c->out && session_next(&c->session, &e)) {
		c->transport->render(c, &e);
		event_fini(&e);
	}
}

void conn_event(struct conn *c, uint32_t events)
{
	if (c->dead)
		return;
	if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
		conn_drop(c);
		return;
	}
	if (events & EPOLLOUT) {
		flush(c);
		if (!c->dead && !c->out)
			conn_pump(c);
	}
	for (int i = 0; i < MAX_PER_EVENT && !c->dead && !c->out; i++)
		if (!c->transport->receive(c))
			break;
	if (!c->dead)
		watch(c);
}

/* When the connection's patience ends, 0: it has no deadline now. */
static uint64_t deadline_ns(const struct conn *c)
{
	const struct serve_config *config = &c->serve->config;
	uint32_t ms = c->out ? config->stall_ms : c->transport->patience_ms(c);

	return ms ? c->since_ns + (uint64_t)ms * 1000000u : 0;
}

int conn_deadline_ms(const struct serve *s)
{
	uint64_t next = UINT64_MAX, now = now_ns();

	for (const struct conn *c = s->conns; c; c = c->next) {
		uint64_t t = c->dead ? 0 : deadline_ns(c);

		if (t && t < next)
			next = t;
	}
	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now) / 1000000u) + 1;
}

void conn_sweep(struct serve *s, bool expire)
{
	struct conn **link = &s->conns, *c;
	uint64_t now = now_ns();

	while ((c = *link)) {
		uint64_t t = c->dead || !expire ? 0 : deadline_ns(c);

		if (t && t <= now)
			c->transport->expire(c);
		if (!c->dead) {
			link = &c->next;
			continue;
		}
		*link = c->next;
		free(c);
	}
}
