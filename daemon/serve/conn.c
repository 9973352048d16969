/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/conn.c: one client's connection: packets in, packets out, deadlines.
 *
 * Out: a message is tried at once; what the socket does not take is queued. While anything is
 * queued the connection's jobs are not asked for more (their buffers hold it) and no new message is
 * read, so the queue stays at a few packets. A queue that does not move for stall_ms ends the
 * connection. A connection that ends cancels its jobs; they are freed when the engine lets go.
 * Main thread. Frees nothing while a batch of events is handled: conn_sweep() does that after it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/payload.h"
#include "serve/private.h"

#define MAX_FDS	      4	 /* room in a control message: to see that there are too many */
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

int conn_create(struct serve *s, int fd, uid_t uid)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = c };

	if (!c)
		return -ENOMEM;
	c->source = SOURCE_CONN;
	c->serve = s;
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
	for (struct job *j = c->serve->jobs; j; j = j->next) {
		if (j->conn != c)
			continue;
		j->conn = NULL;
		atomic_store_explicit(&j->req.cancel, true, memory_order_relaxed);
	}
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

/* 1 sent, 0 the socket is full, -errno. */
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

void conn_send(struct conn *c, uint16_t type, uint64_t id, const void *fixed, const void *payload,
	       uint64_t payload_bytes, int fd)
{
	struct serve *s = c->serve;
	size_t len;
	int rc = 0;

	if (c->dead)
		goto out_fd;
	if (fd < 0 && payload_bytes > SLUICE_INLINE_MAX) {
		fd = payload_make(payload, payload_bytes);
		if (fd < 0) {
			serve_notice(s, "client dropped", c, "no memory for a long reply");
			conn_drop(c);
			return;
		}
	}
	len = message_build(s->built, SLUICE_MSG_MAX, type, id, fixed, payload, payload_bytes,
			    fd >= 0);
	if (!c->out)
		rc = try_send(c, s->built, len, fd);
	if (rc < 0)
		conn_drop(c);
	if (rc == 0) {
		queue_packet(c, s->built, len, fd);
		watch(c);
		return;
	}
out_fd:
	if (fd >= 0)
		close(fd);
}

void conn_fail(struct conn *c, uint64_t id, int code, const char *text)
{
	struct sluice_error e = { .struct_size = sizeof(e), .code = (uint32_t)code };

	e.payload_bytes = strlen(text);
	conn_send(c, SLUICE_ERROR, id, &e, text, e.payload_bytes, -1);
	if (!message_error_closes(code))
		return;
	serve_notice(c->serve, "client dropped", c, text);
	conn_drop(c);
}

static void flush(struct conn *c)
{
	struct packet *p;

	while ((p = c->out)) {
		int rc = try_send(c, p->data, p->len, p->fd);

		if (rc < 0)
			conn_drop(c);
		if (rc <= 0)
			return;
		c->since_ns = now_ns();
		c->out = p->next;
		if (!c->out)
			c->out_tail = &c->out;
		c->n_out--;
		if (p->fd >= 0)
			close(p->fd);
		free(p);
	}
}

/* Sends what one job has; false when it has nothing more now. */
static bool pump_job(struct conn *c, struct job *j)
{
	struct reply r;

	if (!job_next(j, &r))
		return false;
	conn_send(c, r.type, j->id, &r.u, r.payload, r.payload_bytes, r.fd);
	return true;
}

void conn_pump(struct conn *c)
{
	bool more = true;

	while (more && !c->dead && !c->out) {
		more = false;
		for (struct job *j = c->serve->jobs; j && !c->dead && !c->out; j = j->next)
			if (j->conn == c)
				more |= pump_job(c, j);
	}
}

/* Takes the descriptors out of @msg: their number (more than one means refusal), first in *ret. */
static unsigned take_fds(struct msghdr *msg, int *ret)
{
	unsigned n_fds = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		size_t n = h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS
				   ? (h->cmsg_len - CMSG_LEN(0)) / sizeof(int)
				   : 0;

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (n_fds++)
				close(fd);
			else
				*ret = fd;
		}
	}
	return n_fds;
}

static void take_packet(struct conn *c, size_t len, unsigned n_fds, int fd)
{
	struct err err = { 0 };
	struct message m;
	int code = message_parse(c->serve->packet, len, n_fds, &m, &err);

	if (!code && !c->greeted && m.type != SLUICE_HELLO)
		code = err_set(&err, SLUICE_E_MALFORMED, "the first message must be HELLO");
	if (code)
		conn_fail(c, m.id, code, err.text);
	else
		handle_message(c, &m, fd);
}

/* Reads one message; false when there is none or the connection is at its end. */
static bool receive(struct conn *c)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = c->serve->packet, .iov_len = SLUICE_MSG_MAX };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.room,
			      .msg_controllen = sizeof(control.room) };
	ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	unsigned n_fds;
	int fd = -1;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* an empty packet reads like the end; no message is empty */
		conn_drop(c);
		return false;
	}
	n_fds = take_fds(&msg, &fd);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		conn_fail(c, 0, SLUICE_E_MALFORMED, "malformed message: larger than a message is");
	else
		take_packet(c, (size_t)n, n_fds, fd);
	if (fd >= 0)
		close(fd);
	return !c->dead;
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
		if (!receive(c))
			break;
	if (!c->dead)
		watch(c);
}

/* When the connection's patience ends, 0: it has no deadline now. */
static uint64_t deadline_ns(const struct conn *c)
{
	const struct serve_config *config = &c->serve->config;
	uint32_t ms = c->out ? config->stall_ms : c->greeted ? 0 : config->hello_ms;

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
			conn_fail(c, 0, SLUICE_E_SLOW,
				  c->out ? "the client does not read" : "no HELLO came");
		if (!c->dead) {
			link = &c->next;
			continue;
		}
		*link = c->next;
		free(c);
	}
}
