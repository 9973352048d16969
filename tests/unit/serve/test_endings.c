/* SPDX-License-Identifier: MIT */
/*
 * Description: how requests end and what is known of them on the way: progress of the prompt,
 * cancels while it is read, a daemon that stops. The real serve loop with a fake engine.
 */
#include "serve_rig.h"

static uint32_t n_heard;

static int hear(void *arg, const struct sluice_piece *piece)
{
	n_heard++;
	return 0;
}

/* ---- progress, and what is known of a prompt that was not read to its end ---- */

struct progress {
	uint32_t n_calls, n_read, stop_after;
	bool bad;
	struct sluice *cancel;
};

static int watch_progress(void *arg, const struct sluice_progress *p)
{
	struct progress *seen = arg;

	seen->bad |= p->n_read < seen->n_read || p->n_prompt != 100 ||
		     p->done_ppm != p->n_read * 10000 || n_heard;
	seen->n_read = p->n_read;
	seen->n_calls++;
	if (seen->cancel)
		sluice_cancel(seen->cancel);
	return seen->stop_after && seen->n_calls >= seen->stop_after;
}

static void progress(void **state)
{
	struct sluice *s = client();
	uint32_t ids[100];
	struct sluice_prompt p = { .struct_size = sizeof(p), .tokens = ids, .n_tokens = 100 };
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 3 };
	struct progress seen = { 0 };
	struct sluice_done done = { .struct_size = sizeof(done) };

	for (uint32_t i = 0; i < 100; i++)
		ids[i] = 'a';
	atomic_store(&fake.chunk, 30);
	atomic_store(&fake.chunk_us, 20000);
	n_heard = 0;
	/* nobody asked: nothing comes */
	assert_int_equal(sluice_generate(s, &p, &how, hear, NULL, &done, NULL), 0);
	assert_int_equal(seen.n_calls, 0);
	n_heard = 0;
	sluice_on_progress(s, watch_progress, &seen);
	assert_int_equal(sluice_generate(s, &p, &how, hear, NULL, &done, NULL), 0);
	assert_true(seen.n_calls >= 1 && seen.n_calls <= 4); /* the newest each time */
	assert_false(seen.bad);
	assert_int_equal(done.n_prompt, 100);
	assert_int_equal(n_heard, 3);
	/* scoring reports too */
	n_heard = 0;
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(sluice_score(s, &p, NULL, NULL, NULL, &done, NULL), 0);
	assert_true(seen.n_calls >= 1);
	assert_int_equal(seen.n_read, 100);
	assert_false(seen.bad);
	sluice_on_progress(s, NULL, NULL);
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, NULL), 0);
	assert_int_equal(seen.n_calls, 0);
	sluice_close(s);
}

/* Cancelled while its prompt is read, by the callback's answer and from beside: what was read. */
static void cancelled_prompt(void **state)
{
	struct sluice *s = client();
	uint32_t ids[100];
	struct sluice_prompt p = { .struct_size = sizeof(p), .tokens = ids, .n_tokens = 100 };
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 3 };
	struct progress seen = { .stop_after = 1 };
	struct sluice_done done = { .struct_size = sizeof(done) };

	for (uint32_t i = 0; i < 100; i++)
		ids[i] = 'a';
	atomic_store(&fake.chunk, 10);
	atomic_store(&fake.chunk_us, 30000);
	n_heard = 0;
	sluice_on_progress(s, watch_progress, &seen);
	assert_int_equal(sluice_generate(s, &p, &how, hear, NULL, &done, NULL), 0);
	assert_int_equal(done.stop, SLUICE_STOP_CANCELLED);
	assert_int_equal(seen.n_calls, 1);
	assert_in_range(done.n_prompt, 10, 90);
	assert_int_equal(done.n_generated, 0);
	memset(&seen, 0, sizeof(seen));
	seen.cancel = s;
	assert_int_equal(sluice_score(s, &p, NULL, NULL, NULL, &done, NULL), 0);
	assert_int_equal(done.stop, SLUICE_STOP_CANCELLED);
	assert_in_range(done.n_prompt, 10, 90);
	sluice_close(s);
}

/* ---- a daemon of protocol version 1 ---- */

/*
 * Welcomes one client, takes one request and ends it at once, as if it had read two tokens, or answers
 * STATUS with texts that do not end; the request's flags are the thread's result.
 */
static void *old_daemon(void *arg)
{
	static _Alignas(8) uint8_t buf[SLUICE_MSG_MAX];
	struct sluice_welcome w = { .struct_size = sizeof(w),
				    .magic = SLUICE_PROTO_MAGIC,
				    .version = 1,
				    .version_min = 1,
				    .version_max = 1 };
	struct sluice_done d = { .struct_size = sizeof(d),
				 .stop = SLUICE_STOP_LENGTH,
				 .n_prompt = 2 };
	struct sluice_msg head = { .size = sizeof(head) + sizeof(w), .type = SLUICE_WELCOME };
	struct sluice_ask_score q = { 0 }; /* all requests begin alike */
	struct sluice_status_info status;
	int fd = accept(*(int *)arg, NULL, NULL);

	if (recv(fd, buf, sizeof(buf), 0) < 0)
		return NULL;
	memcpy(buf, &head, sizeof(head));
	memcpy(buf + sizeof(head), &w, sizeof(w));
	send(fd, buf, head.size, MSG_NOSIGNAL);
	if (recv(fd, buf, sizeof(buf), 0) < (ssize_t)(sizeof(head) + 8)) /* struct_size, flags */
		return NULL;
	memcpy(&head, buf, sizeof(head));
	memcpy(&q, buf + sizeof(head), 8);
	if (head.type == SLUICE_STATUS) {
		memset(&status, 'x', sizeof(status));
		status.struct_size = sizeof(status);
		status.payload_bytes = 0;
		head.type = SLUICE_STATUS_REPLY;
		head.size = sizeof(head) + sizeof(status);
		memcpy(buf + sizeof(head), &status, sizeof(status));
	} else {
		head.type = SLUICE_DONE;
		head.size = sizeof(head) + sizeof(d);
		memcpy(buf + sizeof(head), &d, sizeof(d));
	}
	memcpy(buf, &head, sizeof(head));
	send(fd, buf, head.size, MSG_NOSIGNAL);
	close(fd);
	return (void *)(uintptr_t)(q.flags | 1u << 31);
}

static struct sluice *connect_old(pthread_t *ret_thread)
{
	static int fd;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct sluice *s = NULL;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/sluice-old-%d.sock", (int)getpid());
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(pthread_create(ret_thread, NULL, old_daemon, &fd), 0);
	assert_int_equal(sluice_connect(addr.sun_path, &s, NULL), 0);
	unlink(addr.sun_path);
	close(fd);
	return s;
}

/* It would refuse the flag as unknown, so libsluice does not ask it for progress. */
static void no_progress_of_old(void **state)
{
	struct sluice_prompt p = { .struct_size = sizeof(p), .text = "Hello", .text_bytes = 5 };
	struct sluice_settings how = { .struct_size = sizeof(how),
				       .max_tokens = 1,
				       .flags = SLUICE_RAW };
	struct progress seen = { 0 };
	pthread_t thread;
	struct sluice *s = connect_old(&thread);
	void *flags;

	sluice_on_progress(s, watch_progress, &seen);
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, NULL, NULL), 0);
	pthread_join(thread, &flags);
	assert_int_equal((uintptr_t)flags, SLUICE_RAW | 1u << 31);
	assert_int_equal(seen.n_calls, 0);
	sluice_close(s);
}

#define ENDS(field) assert_non_null(memchr(field, 0, sizeof(field)))

static void texts_end(void **state)
{
	struct sluice_status_info i = { .struct_size = sizeof(i) };
	pthread_t thread;
	struct sluice *s = connect_old(&thread);

	assert_int_equal(sluice_get_status(s, &i, NULL, 0, NULL), 0);
	assert_int_equal(i.arch[0], 'x');
	ENDS(i.arch);
	ENDS(i.cpu);
	ENDS(i.io);
	ENDS(i.arena);
	ENDS(i.kv);
	ENDS(i.policy);
	ENDS(i.version);
	ENDS(i.model);
	ENDS(i.failure);
	ENDS(i.telemetry);
	ENDS(i.memory_from);
	ENDS(i.cpus_from);
	ENDS(i.reasons);
	ENDS(i.device.name);
	ENDS(i.device.state);
	ENDS(i.warm.why);
	pthread_join(thread, NULL);
	sluice_close(s);
}

/* A caller goes by n_prompt: an array that has not as many entries never reaches it. */
static void missing_logprobs(void **state)
{
	struct sluice_prompt p = { .struct_size = sizeof(p), .text = "Hello", .text_bytes = 5 };
	struct sluice_done done = { .struct_size = sizeof(done) };
	double *logprobs = NULL;
	pthread_t thread;
	struct sluice *s = connect_old(&thread);

	assert_int_equal(sluice_score(s, &p, NULL, NULL, &logprobs, &done, NULL), -EPROTO);
	assert_null(logprobs);
	pthread_join(thread, NULL);
	sluice_close(s);
}

/* The daemon stops in the middle: an error with a sentence, and the counts so far. */
static void stopped_daemon(void **state)
{
	struct sluice_done done;
	struct sluice_msg head;
	uint32_t code;
	uint16_t type;
	char why[64] = "";
	int fd = raw_connect();

	hello(fd);
	atomic_store(&fake.token_us, 1000);
	raw_generate(fd, 1, 60000);
	assert_int_equal(raw_receive(fd, &code), SLUICE_ACCEPTED);
	assert_int_equal(raw_receive(fd, &code), SLUICE_TOKEN);
	raw_generate(fd, 2, 1); /* waits behind it */
	wait_open(2);
	serve_stop(serve);
	pthread_join(loop, NULL);
	engine_destroy(engine);
	serve_destroy(serve);
	for (int ended = 0; ended < 2;) {
		type = raw_receive(fd, &code);
		assert_true(type == SLUICE_TOKEN || type == SLUICE_ACCEPTED || type == SLUICE_DONE);
		if (type != SLUICE_DONE)
			continue;
		ended++;
		memcpy(&head, packet, sizeof(head));
		memcpy(&done, packet + sizeof(head), sizeof(done));
		memcpy(why, packet + sizeof(head) + sizeof(done), done.payload_bytes);
		assert_int_equal(done.stop, SLUICE_STOP_ERROR);
		assert_int_equal(done.code, SLUICE_E_SHUTDOWN);
		assert_string_equal(why, "the daemon is stopping");
		assert_true(head.id == 1 ? done.n_generated > 0 : !done.n_generated);
	}
	expect_end(fd);
	assert_int_equal(start(NULL), 0); /* for stop() */
}

/* Stopped while it loads: the engine fails for that, but the daemon does not. */
static void stopped_while_loading(void **state)
{
	uint32_t code;
	int fd;

	atomic_store(&fake.state, ENGINE_STARTING);
	atomic_store(&fake.hold, true);
	fd = raw_connect();
	hello(fd);
	raw_generate(fd, 1, 1);
	assert_int_equal(raw_receive(fd, &code), SLUICE_ACCEPTED);
	wait_open(1);
	serve_stop(serve);
	pthread_join(loop, NULL);
	assert_int_equal(loop_result, 0);
	assert_int_equal(raw_receive(fd, &code), SLUICE_DONE);
	engine_destroy(engine);
	serve_destroy(serve);
	expect_end(fd);
	assert_int_equal(start(NULL), 0); /* for stop() */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DAEMON(progress),
		WITH_DAEMON(cancelled_prompt),
		cmocka_unit_test(no_progress_of_old),
		cmocka_unit_test(missing_logprobs),
		cmocka_unit_test(texts_end),
		WITH_DAEMON(stopped_daemon),
		WITH_DAEMON(stopped_while_loading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
