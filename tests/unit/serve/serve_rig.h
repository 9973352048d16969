/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/serve/serve_rig.h: a serve loop with a fake engine in a thread of the test, and clients
 * of two kinds: libsluice, and a raw one that can do what libsluice never does.
 */
#ifndef SLUICE_TESTS_SERVE_RIG_H
#define SLUICE_TESTS_SERVE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fake_rooms.c" /* takes the place of the rooms that would be linked */

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/serve.h"
#include "uapi/sluice.h"

#define PATIENCE_MS 1000 /* long enough for a client on a busy machine */

static char path[64];
static struct engine *engine;
static struct serve *serve;
static pthread_t loop;
static int loop_result;
static struct err loop_err;

static void *run_loop(void *arg)
{
	loop_result = serve_run(serve, &loop_err);
	return NULL;
}

static uint64_t logits_pending; /* 0: as ever; set before start() */

static inline int start(void **state)
{
	struct serve_config config = { .socket_path = path,
				       .model_path = "/models/echo.gguf",
				       .model = &fake_model,
				       .tokenizer = &fake_tokenizer,
				       .stall_ms = PATIENCE_MS,
				       .hello_ms = PATIENCE_MS,
				       .logits_pending = logits_pending };
	struct err err = { 0 };

	log_init((enum log_level)0);
	snprintf(path, sizeof(path), "/tmp/sluice-test-%d.sock", (int)getpid());
	atomic_store(&fake.state, ENGINE_READY);
	atomic_store(&fake.token_us, 0);
	atomic_store(&fake.hold, false);
	atomic_store(&fake.chunk, 0);
	atomic_store(&fake.chunk_us, 0);
	atomic_store(&fake.fail_after, 0);
	atomic_store(&fake.refuse, 0);
	engine_create(NULL, NULL, NULL, &engine, NULL);
	config.engine = engine;
	if (serve_create(&config, &serve, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	engine_start(engine, NULL);
	return pthread_create(&loop, NULL, run_loop, NULL);
}

static inline int stop(void **state)
{
	struct stat st;

	serve_stop(serve);
	pthread_join(loop, NULL);
	engine_destroy(engine);
	serve_destroy(serve);
	return stat(path, &st) && errno == ENOENT ? 0 : -1; /* the socket file is gone */
}

static inline struct sluice *client(void)
{
	struct sluice_fault fault = { 0 };
	struct sluice *s = NULL;

	if (sluice_connect(path, &s, &fault))
		fail_msg("connect: %s", fault.text);
	return s;
}

/* ---- a client without libsluice, to do what that never does ---- */

static _Alignas(8) uint8_t packet[SLUICE_MSG_MAX * 2];

static inline int raw_connect(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = 5 };

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline void raw_send(int fd, uint16_t type, uint64_t id, const void *fixed,
			    const void *payload, uint64_t bytes, int memfd)
{
	struct sluice_msg head = { .type = type,
				   .flags = memfd >= 0 ? SLUICE_MSG_FD : 0,
				   .id = id };
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = packet };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	uint32_t size;

	memcpy(&size, fixed, 4);
	head.size = (uint32_t)(sizeof(head) + size + (memfd >= 0 ? 0 : bytes));
	memcpy(packet, &head, sizeof(head));
	memcpy(packet + sizeof(head), fixed, size);
	if (memfd < 0 && payload)
		memcpy(packet + sizeof(head) + size, payload, bytes);
	iov.iov_len = head.size;
	if (memfd >= 0) {
		struct cmsghdr *h;

		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &memfd, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), head.size);
}

/* The type of the next message, 0 at the end of the connection; *ret_code where it is an ERROR. */
static inline uint16_t raw_receive(int fd, uint32_t *ret_code)
{
	struct sluice_msg head;
	struct sluice_error e;
	ssize_t n = recv(fd, packet, sizeof(packet), 0);

	*ret_code = 0;
	if (n <= 0)
		return 0;
	assert_true((size_t)n >= sizeof(head));
	memcpy(&head, packet, sizeof(head));
	assert_int_equal(head.size, n);
	if (head.type == SLUICE_ERROR) {
		memcpy(&e, packet + sizeof(head), sizeof(e));
		assert_true(e.payload_bytes > 0); /* always a sentence */
		*ret_code = e.code;
	}
	return head.type;
}

static inline void hello(int fd)
{
	struct sluice_hello h = { .struct_size = sizeof(h),
				  .magic = SLUICE_PROTO_MAGIC,
				  .version_min = 1,
				  .version_max = 1 };
	uint32_t code;

	raw_send(fd, SLUICE_HELLO, 0, &h, NULL, 0, -1);
	assert_int_equal(raw_receive(fd, &code), SLUICE_WELCOME);
}

static inline void expect_error(int fd, uint32_t code)
{
	uint32_t got;

	assert_int_equal(raw_receive(fd, &got), SLUICE_ERROR);
	assert_int_equal(got, code);
}

static inline void expect_end(int fd)
{
	uint32_t code;

	assert_int_equal(raw_receive(fd, &code), 0);
	close(fd);
}

static inline void expect_alive(int fd)
{
	struct sluice_query q = { .struct_size = sizeof(q) };
	uint32_t code;

	raw_send(fd, SLUICE_STATUS, 77, &q, NULL, 0, -1);
	assert_int_equal(raw_receive(fd, &code), SLUICE_STATUS_REPLY);
	close(fd);
}

static inline void raw_generate(int fd, uint64_t id, uint32_t max_tokens)
{
	struct sluice_ask_generate g = { .struct_size = sizeof(g),
					 .payload_bytes = 5,
					 .max_tokens = max_tokens };

	raw_send(fd, SLUICE_GENERATE, id, &g, "Hello", 5, -1);
}

/* Waits until no request is open in the engine; ms it took. */
static inline uint64_t wait_idle(unsigned limit_ms)
{
	uint64_t begin = now_ns();

	while (atomic_load(&engine->open) && now_ns() - begin < limit_ms * 1000000ull)
		nap(1000);
	assert_int_equal(atomic_load(&engine->open), 0);
	return (now_ns() - begin) / 1000000;
}

static inline void wait_open(uint32_t n)
{
	for (int i = 0; i < 60000 && atomic_load(&engine->open) < n; i++)
		nap(1000);
	assert_true(atomic_load(&engine->open) >= n);
}

#define WITH_DAEMON(f) cmocka_unit_test_setup_teardown(f, start, stop)

#endif
