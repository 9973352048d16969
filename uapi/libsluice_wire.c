/* SPDX-License-Identifier: MIT */
/*
 * uapi/libsluice_wire.c: see libsluice_wire.h. Replies are received into the connection's one
 * buffer; a payload that came in a memfd is checked like the daemon checks ours and mapped until the
 * reply is dropped. The daemon is trusted with sizes no more than it trusts us.
 */
#include "libsluice_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	uint32_t code;
	int error;
} errors[] = {
#define SLUICE_X(name, value, err, closes, text) { value, err },
	SLUICE_ERRORS(SLUICE_X)
#undef SLUICE_X
};

int sluice__fail(struct sluice_fault *fault, int error, const char *fmt, ...)
{
	va_list ap;

	if (!fault)
		return error;
	fault->error = error;
	fault->code = 0;
	memset(fault->reserved, 0, sizeof(fault->reserved));
	va_start(ap, fmt);
	vsnprintf(fault->text, sizeof(fault->text), fmt, ap);
	va_end(ap);
	return error;
}

int sluice__fail_protocol(struct sluice_fault *fault)
{
	return sluice__fail(fault, -EPROTO, "the daemon sent a message that makes no sense");
}

int sluice__fail_refused(struct sluice_fault *fault, uint32_t code, const uint8_t *text,
			 uint64_t bytes)
{
	int error = EREMOTEIO;

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].code == code)
			error = errors[i].error;
	sluice__fail(fault, -error, "%.*s", bytes < 500 ? (int)bytes : 500, (const char *)text);
	if (fault)
		fault->code = code;
	return -error;
}

/* ---- sending ---- */

/* A sealed memfd with up to two pieces of data, or -errno. */
static int make_memfd(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
	int fd = memfd_create("sluice-prompt", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const void *part[] = { a, b };
	size_t bytes[] = { a_bytes, b_bytes };
	int rc;

	if (fd < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		const uint8_t *p = part[i];

		while (bytes[i]) {
			ssize_t n = write(fd, p, bytes[i]);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				goto out;
			p += n;
			bytes[i] -= (size_t)n;
		}
	}
	if (!fcntl(fd, F_ADD_SEALS, SLUICE_SEALS))
		return fd;
out:
	rc = -errno;
	close(fd);
	return rc ? rc : -EIO;
}

static int send_packet(struct sluice *s, const void *data, size_t len, int fd,
		       struct sluice_fault *fault)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	memset(&control, 0, sizeof(control));
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
		n = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	/* EPIPE: the daemon may have said why before it closed; the receiver finds that */
	if (n < 0 && errno != EPIPE && errno != ECONNRESET)
		return sluice__fail(fault, -errno, "cannot write to the daemon: %s",
				    strerror(errno));
	return 0;
}

int sluice__send_request(struct sluice *s, uint16_t type, const void *fixed, const void *a,
			 size_t a_bytes, const void *b, size_t b_bytes, struct sluice_fault *fault)
{
	struct sluice_msg head = { .type = type };
	uint8_t *p = s->out;
	uint32_t size;
	int fd = -1, rc;

	if (a_bytes > SLUICE_PAYLOAD_MAX || b_bytes > SLUICE_PAYLOAD_MAX - a_bytes)
		return sluice__fail(fault, -EFBIG, "a prompt may have %u bytes",
				    SLUICE_PAYLOAD_MAX);
	memcpy(&size, fixed, sizeof(size));
	head.id = type == SLUICE_HELLO ? 0 : ++s->last_id;
	head.size = (uint32_t)(sizeof(head) + size);
	if (a_bytes + b_bytes > SLUICE_INLINE_MAX) {
		fd = make_memfd(a, a_bytes, b, b_bytes);
		if (fd < 0)
			return sluice__fail(fault, fd, "cannot make a memfd for the prompt: %s",
					    strerror(-fd));
		head.flags = SLUICE_MSG_FD;
	} else {
		head.size += (uint32_t)(a_bytes + b_bytes);
		if (a_bytes)
			memcpy(p + sizeof(head) + size, a, a_bytes);
		if (b_bytes)
			memcpy(p + sizeof(head) + size + a_bytes, b, b_bytes);
	}
	memcpy(p, &head, sizeof(head));
	memcpy(p + sizeof(head), fixed, size);
	rc = send_packet(s, p, head.size, fd, fault);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* ---- receiving ---- */

/* The descriptor that came with a packet, or -1; others are closed. */
static int take_fd(struct msghdr *msg)
{
	int fd = -1;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			if (fd >= 0)
				close(fd);
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
		}
	}
	return fd;
}

/* Maps a payload's memfd; the descriptor stays the caller's. */
static int map_payload(int fd, struct sluice__reply *r)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & SLUICE_SEALS) != SLUICE_SEALS || fstat(fd, &st) ||
	    (uint64_t)st.st_size != r->payload_bytes)
		return -EPROTO;
	if (!r->payload_bytes)
		return 0;
	r->map = mmap(NULL, r->payload_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (r->map == MAP_FAILED) {
		r->map = NULL;
		return -errno;
	}
	r->payload = r->map;
	return 0;
}

/* Where payload_bytes lies in a reply's fixed part. */
static size_t payload_field(uint16_t type)
{
	switch (type) {
	case SLUICE_TOKEN:
		return offsetof(struct sluice_token, payload_bytes);
	case SLUICE_DONE:
		return offsetof(struct sluice_done, payload_bytes);
	case SLUICE_LOGITS:
		return offsetof(struct sluice_logits, payload_bytes);
	case SLUICE_LOGPROBS:
	case SLUICE_TOKENS:
	case SLUICE_TEXT:
	case SLUICE_ERROR:
		return offsetof(struct sluice_error, payload_bytes);
	case SLUICE_MODEL:
		return offsetof(struct sluice_model_info, payload_bytes);
	case SLUICE_STATUS_REPLY:
		return offsetof(struct sluice_status_info, payload_bytes);
	default:
		return 0;
	}
}

static int parse_reply(struct sluice *s, size_t len, int fd, struct sluice__reply *r)
{
	size_t field, room;

	memset(r, 0, sizeof(*r));
	r->socket = -1;
	if (len < sizeof(r->head) + sizeof(uint32_t))
		return -EPROTO;
	memcpy(&r->head, s->in, sizeof(r->head));
	r->fixed = s->in + sizeof(r->head);
	memcpy(&r->fixed_size, r->fixed, sizeof(uint32_t));
	room = len - sizeof(r->head);
	field = payload_field(r->head.type);
	if (r->head.size != len || r->fixed_size > room || r->fixed_size % 8 || !r->fixed_size ||
	    (field && r->fixed_size < field + 8))
		return -EPROTO;
	if (field)
		memcpy(&r->payload_bytes, r->fixed + field, sizeof(r->payload_bytes));
	r->payload = r->fixed + r->fixed_size;
	if (r->head.type == SLUICE_HTTP_SOCKET) {
		r->socket = fd;
		return fd >= 0 && r->head.flags == SLUICE_MSG_SOCKET ? 0 : -EPROTO;
	}
	if (r->head.flags & SLUICE_MSG_FD)
		return fd < 0 ? -EPROTO : map_payload(fd, r);
	return r->payload_bytes == room - r->fixed_size ? 0 : -EPROTO;
}

void sluice__drop_reply(struct sluice__reply *r)
{
	if (r->map)
		munmap(r->map, r->payload_bytes);
	r->map = NULL;
	if (r->socket >= 0)
		close(r->socket);
	r->socket = -1;
}

static int receive(struct sluice *s, struct sluice__reply *r, struct sluice_fault *fault)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = s->in, .iov_len = sizeof(s->in) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.room,
			      .msg_controllen = sizeof(control.room) };
	ssize_t n;
	int fd, rc;

	do
		n = recvmsg(s->fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return sluice__fail(fault, -ETIMEDOUT, "the daemon does not answer");
	if (n < 0)
		return sluice__fail(fault, -EPIPE, "the daemon is gone: %s", strerror(errno));
	if (!n)
		return sluice__fail(fault, -EPIPE, "the daemon has closed the connection");
	fd = take_fd(&msg);
	if (fd < 0 && msg.msg_flags & MSG_CTRUNC) /* the kernel could not give it to us */
		return sluice__fail(fault, -EMFILE, "%s",
				    "no descriptor is free for what the daemon sent");
	rc = msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EPROTO : parse_reply(s, (size_t)n, fd, r);
	if (fd >= 0 && (rc || r->socket < 0))
		close(fd);
	return rc ? sluice__fail_protocol(fault) : 0;
}

void sluice__copy_fixed(const struct sluice__reply *r, void *dst, size_t size)
{
	memset(dst, 0, size);
	memcpy(dst, r->fixed, r->fixed_size < size ? r->fixed_size : size);
}

int sluice__next_reply(struct sluice *s, uint64_t id, struct sluice__reply *r,
		       struct sluice_fault *fault)
{
	for (;;) {
		struct sluice_error e;
		int rc = receive(s, r, fault);

		if (rc)
			return rc;
		if (r->head.type == SLUICE_ERROR && (!r->head.id || r->head.id == id)) {
			sluice__copy_fixed(r, &e, sizeof(e));
			rc = sluice__fail_refused(fault, e.code, r->payload, r->payload_bytes);
			sluice__drop_reply(r);
			return rc;
		}
		if (r->head.id == id)
			return 0;
		sluice__drop_reply(r);
	}
}
