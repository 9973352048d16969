/* SPDX-License-Identifier: MIT */
/*
 * tests/fuzz/fuzz_proto.c: libFuzzer against the native protocol, at two depths. Every packet of the
 * input goes through message_parse(); then the same packets go to a connection of the real serve
 * code with the fake engine, some with memfds, and what comes back must be well formed.
 *
 * Input: packets, each behind two bytes of length and one of how: bit 0 attach a memfd with the rest
 * of the input, bit 1 seal it, bit 2 the packet's header is made right (size, flags, a known type), bit
 * 3 its payload_bytes too, bit 4 struct_size too. A HELLO comes first, so that the fuzzer need not
 * find it.
 */
#include "../unit/serve/fake_rooms.c"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/log.h"
#include "serve/message.h"
#include "serve/native.h"
#include "serve/forms.h"
#include "serve/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_PACKETS 64

static const uint32_t fixed_sizes[] = { 0, 48, 56, 8, 16, 8, 8, 16, 16 };
static _Alignas(8) uint8_t packet[SLUICE_MSG_MAX + 4096];
static struct engine *engine;

/* A serve without listening socket: only what connections need. */
static struct serve *make_serve(void)
{
	struct serve *s = calloc(1, sizeof(*s));

	s->config = (struct serve_config){ .socket_path = "",
					   .model_path = "/m",
					   .model = &fake_model,
					   .tokenizer = &fake_tokenizer,
					   .engine = engine,
					   .stall_ms = 1000,
					   .hello_ms = 1000 };
	s->listen_fd = s->signal_fd = s->reserve_fd = -1;
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->text_room = 128;
	s->packet = malloc(SLUICE_MSG_MAX);
	s->built = malloc(SLUICE_MSG_MAX);
	s->text = malloc(s->text_room);
	if (forms_create(s, 1 << 20, &s->forms))
		abort();
	return s;
}

static void setup(void)
{
	if (engine)
		return;
	log_init((enum log_level)0);
	engine_create(NULL, NULL, NULL, &engine, NULL);
	engine_start(engine, NULL);
}

/* What the daemon sends must always hold its own rules. */
static void check_replies(int fd)
{
	for (;;) {
		static _Alignas(8) uint8_t in[SLUICE_MSG_MAX];
		char control[CMSG_SPACE(sizeof(int))];
		struct iovec iov = { .iov_base = in, .iov_len = sizeof(in) };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control,
				      .msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		struct sluice_msg head;
		struct cmsghdr *h;
		uint32_t fixed;

		if (n <= 0)
			return;
		h = CMSG_FIRSTHDR(&msg);
		if (h) {
			int got;

			memcpy(&got, CMSG_DATA(h), sizeof(got));
			close(got);
		}
		if ((size_t)n < sizeof(head) + sizeof(fixed))
			abort();
		memcpy(&head, in, sizeof(head));
		memcpy(&fixed, in + sizeof(head), sizeof(fixed));
		if (head.size != (size_t)n || head.type < 0x100 ||
		    fixed > (size_t)n - sizeof(head) || fixed % 8 ||
		    !h != !(head.flags & SLUICE_MSG_FD) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
			abort();
	}
}

/* One packet as the input says; its memfd, or -1. */
static int make_packet(const uint8_t *body, size_t len, uint8_t how, const uint8_t *rest,
		       size_t rest_bytes)
{
	struct sluice_msg *head = (void *)packet;
	int fd = -1;

	memcpy(packet, body, len);
	if (how & 1) {
		fd = memfd_create("f", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (fd >= 0 && write(fd, rest, rest_bytes) >= 0 && how & 2)
			fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	}
	if (how & 4 && len >= sizeof(*head)) {
		head->size = (uint32_t)len;
		head->flags = fd >= 0 ? SLUICE_MSG_FD : 0;
		head->type = (uint16_t)(head->type % 8 + 1);
		if (how & 16 && len >= sizeof(*head) + 4)
			memcpy(packet + sizeof(*head), &fixed_sizes[head->type], 4);
		if (how & 8 && len >= sizeof(*head) + fixed_sizes[head->type] && len >= 32) {
			uint64_t bytes = fd >= 0 ? rest_bytes
						 : len - sizeof(*head) - fixed_sizes[head->type];

			memcpy(packet + sizeof(*head) + 8, &bytes, sizeof(bytes));
		}
	}
	return fd;
}

static void send_packet(int to, size_t len, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = packet, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *h;

		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof(int));
	}
	if (sendmsg(to, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return; /* the daemon has closed: nothing more to try */
}

static void say_hello(int to)
{
	struct sluice_hello h = { .struct_size = sizeof(h),
				  .magic = SLUICE_PROTO_MAGIC,
				  .version_min = 1,
				  .version_max = 1 };

	send_packet(to, message_build(packet, sizeof(packet), SLUICE_HELLO, 0, &h, NULL, 0, false),
		    -1);
}

/* Turns the loop once for this connection: what it sent, what its jobs have. */
static void turn(struct serve *s, int peer)
{
	struct epoll_event events[4];
	int n = epoll_wait(s->epoll_fd, events, 4, 0);

	for (int i = 0; i < n; i++)
		conn_event(events[i].data.ptr, events[i].events);
	for (struct conn *c = s->conns; c; c = c->next)
		if (!c->dead && !c->out)
			conn_pump(c);
	check_replies(peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct serve *s;
	int pair[2];

	setup();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return 0;
	s = make_serve();
	conn_create(s, &native_transport, pair[0], 0);
	say_hello(pair[1]);
	turn(s, pair[1]);
	for (int i = 0; i < MAX_PACKETS && size >= 3; i++) {
		size_t len = data[0] | (size_t)data[1] << 8;
		uint8_t how = data[2];
		struct message m;
		int fd;

		data += 3;
		size -= 3;
		len = len < size ? len : size;
		fd = make_packet(data, len, how, data + len, size - len);
		message_parse(packet, len, fd >= 0, &m, NULL);
		send_packet(pair[1], len, fd);
		if (fd >= 0)
			close(fd);
		turn(s, pair[1]);
		data += len;
		size -= len;
	}
	for (struct conn *c = s->conns; c; c = c->next)
		conn_drop(c);
	while (atomic_load(&engine->touched)) /* cancelled: soon through */
		nap(10);
	serve_destroy(s);
	close(pair[1]);
	return 0;
}
