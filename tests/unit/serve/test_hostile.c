/* SPDX-License-Identifier: MIT */
/*
 * Description: what a hostile, slow or dying client can do to the real serve loop: nothing but lose
 * its own requests.
 */
#include "serve_rig.h"

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
				  .version_min = SLUICE_PROTO_VERSION + 1,
				  .version_max = SLUICE_PROTO_VERSION + 9 };
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
	struct sluice_ask_generate g = { .struct_size = sizeof(g),
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
	wait_idle(60000); /* its buffers hold everything: the engine never waits for it */
	nap(3 * PATIENCE_MS * 1000);
	while ((type = raw_receive(fd, &code)) && n < 200000)
		n++;
	assert_int_equal(type, 0);
	assert_true(n < 60000); /* it was cut off */
	assert_true(now_ns() - begin < 120000000000ull);
	close(fd);
}

/* Asking over and over without reading the answers. */
static void silent_asker_is_dropped(void **state)
{
	struct sluice_query q = { .struct_size = sizeof(q) };
	struct sluice_msg head = { .size = sizeof(head) + sizeof(q),
				   .type = SLUICE_STATUS,
				   .id = 1 };
	struct timeval patience = { .tv_sec = 60 };
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
	wait_idle(60000);
}

static void killed_client_is_cancelled(void **state)
{
	pid_t pid;

	atomic_store(&fake.token_us, 1000); /* a minute for the answer below */
	pid = fork();
	if (!pid) {
		int fd = raw_connect();

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever becomes of the test */
		hello(fd);
		raw_generate(fd, 1, 60000);
		for (;;)
			pause();
	}
	wait_open(1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	wait_idle(30000);
}

static void too_many_connections(void **state)
{
	int fd[SERVE_MAX_CONNS_PER_UID + 1];
	int n = SERVE_MAX_CONNS_PER_UID;
	bool served = false;

	for (int i = 0; i < n; i++) {
		fd[i] = raw_connect();
		hello(fd[i]);
	}
	fd[n] = raw_connect();
	expect_error(fd[n], SLUICE_E_LIMIT);
	expect_end(fd[n]);
	for (int i = 0; i < n; i++)
		close(fd[i]);
	for (int i = 0; i < 100 && !served; i++) { /* when the daemon has seen them go */
		struct sluice *one;

		nap(50000);
		served = !sluice_connect(path, &one, NULL);
		if (served)
			sluice_close(one);
	}
	assert_true(served);
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

static int start_tight(void **state)
{
	logits_pending = 1;
	return start(state);
}

static int stop_tight(void **state)
{
	logits_pending = 0;
	return stop(state);
}

/* What is computed and not sent is bounded: the request ends, the connection goes on. */
static void logits_beyond_the_bound(void **state)
{
	struct sluice_ask_score q = { .struct_size = sizeof(q),
				      .flags = SLUICE_TOKENS_IN | SLUICE_LOGITS_OUT,
				      .payload_bytes = 400 };
	static uint32_t ids[100];
	struct sluice_done done;
	int fd = raw_connect();
	uint32_t code;

	hello(fd);
	raw_send(fd, SLUICE_SCORE, 1, &q, ids, sizeof(ids), -1);
	assert_int_equal(raw_receive(fd, &code), SLUICE_ACCEPTED);
	assert_int_equal(raw_receive(fd, &code), SLUICE_DONE);
	memcpy(&done, packet + sizeof(struct sluice_msg), sizeof(done));
	assert_int_equal(done.stop, SLUICE_STOP_ERROR);
	assert_int_equal(done.code, SLUICE_E_SLOW);
	expect_alive(fd);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		cmocka_unit_test_setup_teardown(logits_beyond_the_bound, start_tight, stop_tight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
