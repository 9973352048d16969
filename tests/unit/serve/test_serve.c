/* SPDX-License-Identifier: MIT */
/*
 * Description: clients of the real serve loop with a fake engine: answers, cancels, limits, and
 * everything that a hostile, slow or dying client can do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fake_rooms.c" /* before the rooms are linked: takes their place */

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/serve.h"
#include "uapi/sluice.h"

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

static int start(void **state)
{
	struct serve_config config = { .socket_path = path,
				       .model_path = "/models/echo.gguf",
				       .model = &fake_model,
				       .tokenizer = &fake_tokenizer,
				       .stall_ms = 300,
				       .hello_ms = 300 };
	struct err err = { 0 };

	log_init((enum log_level)0);
	snprintf(path, sizeof(path), "/tmp/sluice-test-%d.sock", (int)getpid());
	atomic_store(&fake.state, ENGINE_READY);
	atomic_store(&fake.token_us, 0);
	atomic_store(&fake.hold, false);
	atomic_store(&fake.fail_after, 0);
	atomic_store(&fake.refuse, 0);
	engine_create(NULL, NULL, NULL, &engine, NULL);
	config.engine = engine;
	if (serve_create(&config, &serve, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	engine_start(engine);
	return pthread_create(&loop, NULL, run_loop, NULL);
}

static int stop(void **state)
{
	struct stat st;

	serve_stop(serve);
	pthread_join(loop, NULL);
	engine_destroy(engine);
	serve_destroy(serve);
	return stat(path, &st) && errno == ENOENT ? 0 : -1; /* the socket file is gone */
}

static struct sluice *client(void)
{
	struct sluice_fault fault = { 0 };
	struct sluice *s = NULL;

	if (sluice_connect(path, &s, &fault))
		fail_msg("connect: %s", fault.text);
	return s;
}

/* ---- a client without libsluice, to do what that never does ---- */

static _Alignas(8) uint8_t packet[SLUICE_MSG_MAX * 2];

static int raw_connect(void)
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

static void raw_send(int fd, uint16_t type, uint64_t id, const void *fixed, const void *payload,
		     uint64_t bytes, int memfd)
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
	if (memfd < 0 && bytes)
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
static uint16_t raw_receive(int fd, uint32_t *ret_code)
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

static void hello(int fd)
{
	struct sluice_hello h = { .struct_size = sizeof(h),
				  .magic = SLUICE_PROTO_MAGIC,
				  .version_min = 1,
				  .version_max = 1 };
	uint32_t code;

	raw_send(fd, SLUICE_HELLO, 0, &h, NULL, 0, -1);
	assert_int_equal(raw_receive(fd, &code), SLUICE_WELCOME);
}

static void expect_error(int fd, uint32_t code)
{
	uint32_t got;

	assert_int_equal(raw_receive(fd, &got), SLUICE_ERROR);
	assert_int_equal(got, code);
}

static void expect_end(int fd)
{
	uint32_t code;

	assert_int_equal(raw_receive(fd, &code), 0);
	close(fd);
}

static void expect_alive(int fd)
{
	struct sluice_query q = { .struct_size = sizeof(q) };
	uint32_t code;

	raw_send(fd, SLUICE_STATUS, 77, &q, NULL, 0, -1);
	assert_int_equal(raw_receive(fd, &code), SLUICE_STATUS_REPLY);
	close(fd);
}

static void raw_generate(int fd, uint64_t id, uint32_t max_tokens)
{
	struct sluice_generate g = { .struct_size = sizeof(g),
				     .payload_bytes = 5,
				     .max_tokens = max_tokens };

	raw_send(fd, SLUICE_GENERATE, id, &g, "Hello", 5, -1);
}

/* Waits until no request is open in the engine; ms it took. */
static uint64_t wait_idle(unsigned limit_ms)
{
	uint64_t begin = now_ns();

	while (atomic_load(&engine->open) && now_ns() - begin < limit_ms * 1000000ull)
		nap(1000);
	assert_int_equal(atomic_load(&engine->open), 0);
	return (now_ns() - begin) / 1000000;
}

static void wait_open(uint32_t n)
{
	for (int i = 0; i < 3000 && atomic_load(&engine->open) < n; i++)
		nap(1000);
	assert_true(atomic_load(&engine->open) >= n);
}

/* ---- what clients are for ---- */

struct heard {
	char text[65536];
	size_t len;
	uint32_t n_tokens, last;
	uint32_t stop_after;
	struct sluice *cancel;
};

static int hear(void *arg, uint32_t token, const char *text, size_t bytes)
{
	struct heard *h = arg;

	if (h->len + bytes < sizeof(h->text)) {
		memcpy(h->text + h->len, text, bytes);
		h->len += bytes;
		h->text[h->len] = '\0';
	}
	h->n_tokens++;
	h->last = token;
	if (h->cancel)
		sluice_cancel(h->cancel);
	return h->stop_after && h->n_tokens >= h->stop_after;
}

static struct heard heard;

static struct sluice_prompt text_prompt(const char *text, uint32_t flags)
{
	return (struct sluice_prompt){ .text = text, .text_bytes = strlen(text), .flags = flags };
}

static int generate(struct sluice *s, const char *text, uint32_t flags, uint32_t max_tokens,
		    struct sluice_done *done)
{
	struct sluice_prompt p = text_prompt(text, flags);
	struct sluice_settings how = { .max_tokens = max_tokens };

	memset(&heard, 0, sizeof(heard));
	return sluice_generate(s, &p, &how, hear, &heard, done, NULL);
}

static void echo(void **state)
{
	struct sluice *s = client();
	struct sluice_done done;

	assert_int_equal(sluice_daemon(s)->version, SLUICE_PROTO_VERSION);
	assert_int_equal(sluice_daemon(s)->max_requests, SERVE_MAX_REQUESTS);
	assert_int_equal(generate(s, "Hello", 0, 7, &done), 0);
	assert_string_equal(heard.text, "HelloHe");
	assert_int_equal(done.stop, SLUICE_STOP_LENGTH);
	assert_int_equal(done.n_prompt, 5);
	assert_int_equal(done.n_generated, 7);
	assert_int_equal(done.hits, 30);
	assert_int_equal(done.bytes_read, 4096);
	/* a special token in the text is parsed only where asked; it ends the answer */
	assert_int_equal(generate(s, "ab$c", 0, 6, &done), 0);
	assert_string_equal(heard.text, "ab$cab");
	assert_int_equal(generate(s, "ab$c", SLUICE_SPECIAL, 6, &done), 0);
	assert_string_equal(heard.text, "ab");
	assert_int_equal(heard.last, FAKE_EOG);
	assert_int_equal(done.stop, SLUICE_STOP_EOG);
	assert_int_equal(done.n_generated, 3);
	/* chat puts its frame around it */
	assert_int_equal(generate(s, "x", SLUICE_CHAT, 2, &done), 0);
	assert_int_equal(done.n_prompt, 2);
	/* only reading the prompt in */
	assert_int_equal(generate(s, "Hello", 0, 0, &done), 0);
	assert_int_equal(done.n_generated, 0);
	sluice_close(s);
}

static void settings(void **state)
{
	struct sluice *s = client();
	uint32_t ids[] = { 'a', FAKE_EOG, 'b' }, bad[] = { 'a', FAKE_VOCAB };
	struct sluice_prompt p = { .tokens = ids, .n_tokens = 3 };
	struct sluice_settings how = { .max_tokens = 3, .flags = SLUICE_IGNORE_EOG | SLUICE_RAW };
	struct sluice_fault fault;
	struct sluice_done done;

	memset(&heard, 0, sizeof(heard));
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), 0);
	assert_string_equal(heard.text, "a<|im_end|>b");
	how.temperature = -1;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EINVAL);
	assert_int_equal(fault.code, SLUICE_E_INVALID);
	how.temperature = 0;
	how.n_untimed = 4;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EINVAL);
	how.n_untimed = 3;
	p.tokens = bad;
	p.n_tokens = 2;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EINVAL);
	assert_string_equal(fault.text, "token 300 at position 1: the vocabulary has 300");
	p.n_tokens = 0;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EINVAL);
	sluice_close(s);
}

static void questions(void **state)
{
	struct sluice *s = client();
	struct sluice_model_info model;
	struct sluice_status_info status;
	struct sluice_prompt p = text_prompt("ab", 0);
	char text[256], *back;
	uint32_t *ids;
	size_t n;

	assert_int_equal(sluice_get_model(s, &model, text, sizeof(text), NULL), 0);
	assert_string_equal(model.arch, "fakemoe");
	assert_string_equal(text, "/models/echo.gguf");
	assert_int_equal(model.n_ctx, FAKE_CTX);
	assert_true(model.flags & SLUICE_MODEL_HAS_CHAT);
	assert_int_equal(model.file_type, UINT32_MAX);
	assert_int_equal(sluice_get_status(s, &status, text, sizeof(text), NULL), 0);
	assert_string_equal(text, "no hugepages\nno io_uring");
	assert_string_equal(status.io, "uring");
	assert_int_equal(status.state, SLUICE_STATE_READY);
	assert_int_equal(status.experts_resident, 32);
	assert_int_equal(status.connections, 1);
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(ids[1], 'b');
	assert_int_equal(sluice_detokenize(s, ids, n, 0, &back, &n, NULL), 0);
	assert_string_equal(back, "ab");
	free(ids);
	free(back);
	sluice_close(s);
}

/* Payloads above 64 KiB in both directions. */
static void long_payloads(void **state)
{
	enum { N = 60000 };
	struct sluice *s = client();
	struct sluice_settings how = { .max_tokens = 20 };
	struct sluice_prompt p = { 0 };
	struct sluice_done done;
	struct sluice_fault fault;
	uint32_t *ids = malloc(N * sizeof(*ids)), *again;
	char *text = malloc(N), *back;
	size_t n;

	for (size_t i = 0; i < N; i++) {
		ids[i] = 'a' + i % 26;
		text[i] = (char)ids[i];
	}
	memset(&heard, 0, sizeof(heard));
	p.tokens = ids;
	p.n_tokens = N;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), 0);
	assert_int_equal(done.n_prompt, N);
	assert_string_equal(heard.text, "abcdefghijklmnopqrst");
	assert_int_equal(sluice_detokenize(s, ids, N, 0, &back, &n, &fault), 0);
	assert_int_equal(n, N);
	assert_memory_equal(back, text, N);
	p.tokens = NULL;
	p.text = text;
	p.text_bytes = N;
	assert_int_equal(sluice_tokenize(s, &p, &again, &n, &fault), 0);
	assert_int_equal(n, N);
	assert_memory_equal(again, ids, N * sizeof(*ids));
	free(again);
	free(back);
	p.tokens = ids;
	p.n_tokens = SLUICE_PAYLOAD_MAX;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EFBIG);
	free(ids);
	free(text);
	sluice_close(s);
}

struct rows {
	uint32_t n, next;
	bool bad;
};

static int take_rows(void *arg, uint32_t first, uint32_t n_rows, uint32_t n_vocab,
		     const float *logits)
{
	struct rows *r = arg;

	r->bad |= first != r->next || n_vocab != FAKE_VOCAB;
	for (uint32_t i = 0; i < n_rows; i++)
		for (uint32_t v = 0; v < n_vocab; v++)
			r->bad |= logits[i * n_vocab + v] !=
				  (float)(((first + i) % 251) * 1000 + v);
	r->next += n_rows;
	r->n += n_rows;
	return 0;
}

static void score(void **state)
{
	enum { N = 9000 }; /* several chunks; log-probabilities above 64 KiB */
	struct sluice *s = client();
	struct sluice_prompt p = { .n_tokens = N };
	struct rows rows = { 0 };
	struct sluice_done done;
	double *logprobs;
	uint32_t *ids = malloc(N * sizeof(*ids));

	for (uint32_t i = 0; i < N; i++)
		ids[i] = i % 251;
	p.tokens = ids;
	assert_int_equal(sluice_score(s, &p, take_rows, &rows, &logprobs, &done, NULL), 0);
	assert_int_equal(rows.n, N);
	assert_false(rows.bad);
	assert_int_equal(done.n_prompt, N);
	for (uint32_t i = 0; i + 1 < N; i++)
		assert_true(logprobs[i] == -(double)(i + 1));
	free(logprobs);
	/* one token: no loss to speak of, one row */
	p.n_tokens = 1;
	memset(&rows, 0, sizeof(rows));
	assert_int_equal(sluice_score(s, &p, take_rows, &rows, &logprobs, &done, NULL), 0);
	assert_int_equal(rows.n, 1);
	free(logprobs);
	free(ids);
	sluice_close(s);
}

static void too_long(void **state)
{
	struct sluice *s = client();
	uint32_t *ids = calloc(FAKE_CTX + 1, sizeof(*ids));
	struct sluice_prompt p = { .tokens = ids, .n_tokens = FAKE_CTX + 1 };
	struct sluice_settings how = { .max_tokens = 1 };
	struct sluice_fault fault;
	struct sluice_done done;
	char *text;

	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EMSGSIZE);
	assert_int_equal(fault.code, SLUICE_E_TOO_LONG);
	p.n_tokens = FAKE_CTX; /* fits, but no answer does */
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EMSGSIZE);
	p.n_tokens = FAKE_CTX - 1; /* max_tokens is cut */
	how.max_tokens = 100;
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), 0);
	assert_int_equal(done.n_generated, 1);
	/* a text too long to be worth tokenising */
	text = malloc(FAKE_CTX * 64 + 1);
	memset(text, 'x', FAKE_CTX * 64 + 1);
	p = (struct sluice_prompt){ .text = text, .text_bytes = FAKE_CTX * 64 + 1 };
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EMSGSIZE);
	free(text);
	free(ids);
	sluice_close(s);
}

static void cancels(void **state)
{
	struct sluice *s = client();
	struct sluice_prompt p = text_prompt("Hello", 0);
	struct sluice_settings how = { .max_tokens = 50000 };
	struct sluice_done done;

	atomic_store(&fake.token_us, 200);
	memset(&heard, 0, sizeof(heard));
	heard.stop_after = 3;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, NULL), 0);
	assert_int_equal(done.stop, SLUICE_STOP_CANCELLED);
	assert_int_equal(heard.n_tokens, 3);
	assert_true(done.n_generated < 50000);
	memset(&heard, 0, sizeof(heard));
	heard.cancel = s;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, NULL), 0);
	assert_int_equal(done.stop, SLUICE_STOP_CANCELLED);
	sluice_cancel(s); /* nothing runs: no effect on the next */
	assert_int_equal(generate(s, "Hello", 0, 3, &done), 0);
	assert_int_equal(done.stop, SLUICE_STOP_LENGTH);
	sluice_close(s);
}

static void engine_errors(void **state)
{
	struct sluice *s = client();
	struct sluice_prompt p = text_prompt("Hello", 0);
	struct sluice_settings how = { .max_tokens = 10 };
	struct sluice_fault fault;
	struct sluice_done done;

	atomic_store(&fake.fail_after, 4);
	memset(&heard, 0, sizeof(heard));
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EIO);
	assert_string_equal(fault.text, "layer 3 expert 7: read failed");
	assert_int_equal(done.stop, SLUICE_STOP_ERROR);
	assert_int_equal(done.n_generated, 4);
	atomic_store(&fake.fail_after, 0);
	assert_int_equal(generate(s, "Hello", 0, 3, &done), 0); /* others go on */
	atomic_store(&fake.refuse, -EBUSY);
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EBUSY);
	assert_int_equal(fault.code, SLUICE_E_BUSY);
	sluice_close(s);
}

static void engine_fails(void **state)
{
	uint64_t one = 1;

	atomic_store(&fake.state, ENGINE_FAILED);
	assert_int_equal(write(engine->state_fd, &one, sizeof(one)), sizeof(one));
	pthread_join(loop, NULL);
	assert_int_equal(loop_result, -EIO);
	assert_string_equal(loop_err.text, "the disk is on fire");
	assert_int_equal(pthread_create(&loop, NULL, run_loop, NULL), 0); /* for stop() */
}

/* Several requests of one connection at once; ids and limits. */
static void many_requests(void **state)
{
	int fd = raw_connect();
	uint32_t code, accepted = 0, done = 0;

	hello(fd);
	atomic_store(&fake.hold, true);
	for (uint64_t id = 1; id <= SERVE_MAX_REQUESTS; id++)
		raw_generate(fd, id, 2);
	raw_generate(fd, 3, 2);
	raw_generate(fd, 99, 2);
	for (int i = 0; i < SERVE_MAX_REQUESTS; i++)
		accepted += raw_receive(fd, &code) == SLUICE_ACCEPTED;
	assert_int_equal(accepted, SERVE_MAX_REQUESTS);
	expect_error(fd, SLUICE_E_DUPLICATE_ID);
	expect_error(fd, SLUICE_E_BUSY);
	atomic_store(&fake.hold, false);
	while (done < SERVE_MAX_REQUESTS) {
		uint16_t type = raw_receive(fd, &code);

		assert_true(type == SLUICE_TOKEN || type == SLUICE_DONE);
		done += type == SLUICE_DONE;
	}
	raw_generate(fd, 3, 1); /* the id is free again */
	assert_int_equal(raw_receive(fd, &code), SLUICE_ACCEPTED);
	close(fd);
}

/* ---- what clients must not be able to do ---- */

static void unknown_type_is_survived(void **state)
{
	struct sluice_query q = { .struct_size = sizeof(q) };
	int fd = raw_connect();

	hello(fd);
	raw_send(fd, 4711, 9, &q, NULL, 0, -1);
	expect_error(fd, SLUICE_E_UNKNOWN_TYPE);
	expect_alive(fd);
}

static void malformed_closes(void **state)
{
	struct sluice_query q = { .struct_size = 4096 };
	int fd = raw_connect();

	hello(fd);
	memset(packet, 0xff, 64);
	assert_int_equal(send(fd, packet, 64, 0), 64);
	expect_error(fd, SLUICE_E_MALFORMED);
	expect_end(fd);
	fd = raw_connect();
	hello(fd);
	memset(packet, 0, sizeof(packet));
	assert_int_equal(send(fd, packet, SLUICE_MSG_MAX + 8, 0), SLUICE_MSG_MAX + 8);
	expect_error(fd, SLUICE_E_MALFORMED);
	expect_end(fd);
	fd = raw_connect();
	q.struct_size = sizeof(q);
	raw_send(fd, SLUICE_STATUS, 1, &q, NULL, 0, -1); /* before HELLO */
	expect_error(fd, SLUICE_E_MALFORMED);
	expect_end(fd);
}

static void handshakes(void **state)
{
	struct sluice_hello h = { .struct_size = sizeof(h),
				  .magic = SLUICE_PROTO_MAGIC,
				  .version_min = 2,
				  .version_max = 9 };
	int fd = raw_connect();

	raw_send(fd, SLUICE_HELLO, 0, &h, NULL, 0, -1);
	expect_error(fd, SLUICE_E_VERSION);
	expect_end(fd);
	fd = raw_connect();
	hello(fd);
	h.version_min = 1;
	raw_send(fd, SLUICE_HELLO, 0, &h, NULL, 0, -1); /* twice */
	expect_error(fd, SLUICE_E_MALFORMED);
	expect_end(fd);
	fd = raw_connect(); /* says nothing */
	expect_error(fd, SLUICE_E_SLOW);
	expect_end(fd);
}

static int memfd_of(size_t bytes, int seals)
{
	int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* Sends 1000 bytes of prompt in @payload_fd, which is closed. */
static void offer(int fd, int payload_fd)
{
	struct sluice_generate g = { .struct_size = sizeof(g),
				     .payload_bytes = 1000,
				     .max_tokens = 1 };

	raw_send(fd, SLUICE_GENERATE, 5, &g, NULL, 1000, payload_fd);
	close(payload_fd);
}

static void bad_descriptors(void **state)
{
	int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, fd = raw_connect(), pipes[2];
	char name[] = "/tmp/sluice-test-XXXXXX";
	uint32_t code;

	hello(fd);
	offer(fd, memfd_of(1000, 0));
	expect_error(fd, SLUICE_E_BAD_FD);
	offer(fd, memfd_of(1000, F_SEAL_SHRINK | F_SEAL_GROW));
	expect_error(fd, SLUICE_E_BAD_FD);
	offer(fd, memfd_of(1000, F_SEAL_GROW | F_SEAL_WRITE));
	expect_error(fd, SLUICE_E_BAD_FD);
	offer(fd, memfd_of(999, all));
	expect_error(fd, SLUICE_E_BAD_FD);
	offer(fd, memfd_of(1001, all));
	expect_error(fd, SLUICE_E_BAD_FD);
	assert_int_equal(pipe(pipes), 0);
	close(pipes[1]);
	offer(fd, pipes[0]);
	expect_error(fd, SLUICE_E_BAD_FD);
	offer(fd, mkstemp(name));
	unlink(name);
	expect_error(fd, SLUICE_E_BAD_FD);
	offer(fd, open("/dev/null", O_RDWR | O_CLOEXEC));
	expect_error(fd, SLUICE_E_BAD_FD);
	offer(fd, memfd_of(1000, all)); /* and a good one on the same connection */
	assert_int_equal(raw_receive(fd, &code), SLUICE_ACCEPTED);
	close(fd);
}

/* The descriptors that hostile messages carried are closed again. */
static void descriptors_do_not_leak(void **state)
{
	int fd = raw_connect(), before, after;
	uint32_t code;

	hello(fd);
	before = dup(fd);
	close(before);
	for (int i = 0; i < 50; i++) {
		offer(fd, memfd_of(1, 0));
		expect_error(fd, SLUICE_E_BAD_FD);
	}
	raw_generate(fd, 1, 0); /* its answer comes after the last descriptor was closed */
	assert_int_equal(raw_receive(fd, &code), SLUICE_ACCEPTED);
	after = dup(fd);
	close(after);
	assert_int_equal(before, after);
	close(fd);
}

static void silent_reader_is_dropped(void **state)
{
	int fd = raw_connect();
	uint64_t begin;
	uint32_t code;
	uint16_t type;
	unsigned n = 0;

	hello(fd);
	raw_generate(fd, 1, 60000);
	raw_generate(fd, 2, 60000);
	atomic_store(&fake.token_us, 0);
	begin = now_ns();
	wait_idle(2000); /* its buffers hold everything: the engine never waits for it */
	nap(900 * 1000); /* three times the stall limit of 300 ms */
	while ((type = raw_receive(fd, &code)) && n < 200000)
		n++;
	assert_int_equal(type, 0);
	assert_true(n < 60000); /* it was cut off */
	assert_true(now_ns() - begin < 5000000000ull);
	close(fd);
}

/* Asking over and over without reading the answers. */
static void silent_asker_is_dropped(void **state)
{
	struct sluice_query q = { .struct_size = sizeof(q) };
	struct sluice_msg head = { .size = sizeof(head) + sizeof(q),
				   .type = SLUICE_STATUS,
				   .id = 1 };
	struct timeval patience = { .tv_sec = 2 };
	int fd = raw_connect(), n = 0;

	hello(fd);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	memcpy(packet, &head, sizeof(head));
	memcpy(packet + sizeof(head), &q, sizeof(q));
	while (n < 100000 && send(fd, packet, head.size, MSG_NOSIGNAL) > 0)
		n++;
	assert_true(n < 100000);
	assert_true(errno == EPIPE || errno == ECONNRESET);
	close(fd);
}

static void dead_client_is_cancelled(void **state)
{
	int fd = raw_connect();

	hello(fd);
	atomic_store(&fake.hold, true); /* only a cancel ends these */
	for (uint64_t id = 1; id <= 4; id++)
		raw_generate(fd, id, 100);
	wait_open(4);
	close(fd);
	assert_true(wait_idle(2000) <= 1000);
}

static void killed_client_is_cancelled(void **state)
{
	pid_t pid = fork();

	if (!pid) {
		int fd = raw_connect();

		hello(fd);
		raw_generate(fd, 1, 60000);
		for (;;)
			pause();
	}
	atomic_store(&fake.token_us, 1000);
	wait_open(1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_true(wait_idle(2000) <= 1000);
}

static void too_many_connections(void **state)
{
	int fd[SERVE_MAX_CONNS_PER_UID + 1];
	int n = SERVE_MAX_CONNS_PER_UID;

	for (int i = 0; i < n; i++) {
		fd[i] = raw_connect();
		hello(fd[i]);
	}
	fd[n] = raw_connect();
	expect_error(fd[n], SLUICE_E_LIMIT);
	expect_end(fd[n]);
	for (int i = 0; i < n; i++)
		close(fd[i]);
	nap(50000);
	expect_alive((fd[0] = raw_connect(), hello(fd[0]), fd[0]));
}

static void no_descriptors_left(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), top = dup(fd);
	struct rlimit old, low;

	close(top);
	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = (rlim_t)top; /* accept() cannot have the next */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	setrlimit(RLIMIT_NOFILE, &low);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	expect_error(fd, SLUICE_E_LIMIT);
	setrlimit(RLIMIT_NOFILE, &old);
	expect_end(fd);
	fd = raw_connect();
	hello(fd);
	expect_alive(fd);
}

static void other_users_are_refused(void **state)
{
	int status = -1;
	pid_t pid;

	if (geteuid()) {
		print_message("not root: cannot become another user\n");
		skip();
	}
	assert_int_equal(chmod(path, 0666), 0); /* past the file's own mode */
	pid = fork();
	if (!pid) {
		int fd;

		if (setgid(65534) || setuid(65534))
			_exit(3);
		fd = raw_connect();
		expect_error(fd, SLUICE_E_DENIED);
		expect_end(fd);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

/* ---- the socket file ---- */

static int try_serve(const char *where, struct err *err)
{
	struct serve_config config = { .socket_path = where,
				       .model_path = "",
				       .model = &fake_model,
				       .tokenizer = &fake_tokenizer,
				       .engine = engine };
	struct serve *other = NULL;
	int rc;

	err_clear(err);
	rc = serve_create(&config, &other, err);
	if (!rc)
		serve_destroy(other);
	return rc;
}

static void socket_files(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char other[96], longest[200];
	struct stat st;
	struct err err;
	int fd;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(try_serve(path, &err), -EADDRINUSE); /* we listen there */
	assert_non_null(strstr(err.text, "another process listens"));
	close(raw_connect()); /* and still do */

	snprintf(other, sizeof(other), "%s.stale", path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", other);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	assert_int_equal(try_serve(other, &err), 0); /* stale: replaced, removed at the end */
	assert_int_equal(stat(other, &st), -1);

	fd = open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(try_serve(other, &err), -EADDRINUSE); /* not ours to remove */
	assert_int_equal(stat(other, &st), 0);
	unlink(other);

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(try_serve(longest, &err), -ENAMETOOLONG);
	assert_int_equal(try_serve("/nonexistent/dir/s", &err), -ENOENT);
}

static void no_daemon(void **state)
{
	struct sluice_fault fault;
	struct sluice *s;

	assert_int_equal(sluice_connect("/nonexistent/s", &s, &fault), -ENOENT);
	assert_true(fault.text[0]);
}

#define WITH_DAEMON(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DAEMON(echo),
		WITH_DAEMON(settings),
		WITH_DAEMON(questions),
		WITH_DAEMON(long_payloads),
		WITH_DAEMON(score),
		WITH_DAEMON(too_long),
		WITH_DAEMON(cancels),
		WITH_DAEMON(engine_errors),
		WITH_DAEMON(engine_fails),
		WITH_DAEMON(many_requests),
		WITH_DAEMON(unknown_type_is_survived),
		WITH_DAEMON(malformed_closes),
		WITH_DAEMON(handshakes),
		WITH_DAEMON(bad_descriptors),
		WITH_DAEMON(descriptors_do_not_leak),
		WITH_DAEMON(silent_reader_is_dropped),
		WITH_DAEMON(silent_asker_is_dropped),
		WITH_DAEMON(dead_client_is_cancelled),
		WITH_DAEMON(killed_client_is_cancelled),
		WITH_DAEMON(too_many_connections),
		WITH_DAEMON(no_descriptors_left),
		WITH_DAEMON(other_users_are_refused),
		WITH_DAEMON(socket_files),
		cmocka_unit_test(no_daemon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
