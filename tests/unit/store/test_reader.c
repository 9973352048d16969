/* SPDX-License-Identifier: MIT */
/*
 * Description: the reader delivers every byte of any extent with every backend, and faults of the
 * disk end in a retry or in the failure of the request concerned, never in anything else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "model/gguf.h"
#include "store/arena.h"
#include "store/reader_backend.h"

#define TAIL_BYTES (3u << 20) /* random bytes after the header: what the tests read */
#define N_REQUESTS 64

struct fixture {
	char path[64];
	struct gguf *gguf;
	uint8_t *content;
	uint64_t bytes;
};

/* A GGUF file without tensors, followed by random bytes; its length is no multiple of anything. */
static int setup(void **state)
{
	static const uint8_t header[24] = { 'G', 'G', 'U', 'F', 3 };
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	strcpy(f->path, "/var/tmp/sluice-reader-XXXXXX"); /* a disk: tmpfs may refuse O_DIRECT */
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	f->bytes = sizeof(header) + TAIL_BYTES + 777;
	f->content = malloc(f->bytes);
	memcpy(f->content, header, sizeof(header));
	srand(7);
	for (uint64_t i = sizeof(header); i < f->bytes; i++)
		f->content[i] = (uint8_t)(rand() >> 7);
	assert_int_equal(write(fd, f->content, f->bytes), f->bytes);
	fsync(fd);
	close(fd);
	assert_int_equal(gguf_open(f->path, &f->gguf, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	gguf_destroy(f->gguf);
	unlink(f->path);
	free(f->content);
	free(f);
	return 0;
}

struct tracked {
	struct reader_request request; /* first */
	uint8_t *room;
	_Atomic int ended; /* 0 no, 1 yes */
	int result;
};

static void done(struct reader_request *r, int result)
{
	struct tracked *t = (struct tracked *)r;

	t->result = result;
	atomic_store(&t->ended, 1);
}

static void prepare(struct reader *r, struct tracked *t, uint64_t offset, uint64_t bytes)
{
	uint32_t align = reader_align(r);

	memset(t, 0, sizeof(*t));
	t->room = aligned_alloc(align, align_up(reader_room(offset, bytes, align), align));
	memset(t->room, 0xa5, reader_room(offset, bytes, align));
	t->request.offset = offset;
	t->request.bytes = bytes;
	t->request.dest = t->room + offset % align;
	t->request.done = done;
}

static void wait_for(struct tracked *t)
{
	for (int i = 0; i < 20000 && !atomic_load(&t->ended); i++)
		usleep(500);
	assert_int_equal(atomic_load(&t->ended), 1);
}

static void read_many(struct fixture *f, struct reader *r)
{
	struct tracked *t = calloc(N_REQUESTS, sizeof(*t));
	struct reader_request *list[N_REQUESTS];

	for (int i = 0; i < N_REQUESTS; i++) {
		uint64_t bytes = 1 + (uint64_t)rand() % (i % 4 ? 5000 : 1500000);
		uint64_t offset = (uint64_t)rand() % (f->bytes - bytes);

		if (i % 8 == 7)
			offset = f->bytes - bytes; /* to the very end */
		prepare(r, &t[i], offset, bytes);
		list[i] = &t[i].request;
	}
	reader_submit(r, list, N_REQUESTS / 2);
	reader_submit(r, list + N_REQUESTS / 2, N_REQUESTS / 2);
	for (int i = 0; i < N_REQUESTS; i++) {
		wait_for(&t[i]);
		assert_int_equal(t[i].result, 0);
		assert_memory_equal(t[i].request.dest, f->content + t[i].request.offset,
				    t[i].request.bytes);
		free(t[i].room);
	}
	free(t);
}

static void test_backends(void **state)
{
	struct fixture *f = *state;
	static const uint32_t sizes[] = { 64 << 10, 1 << 20 }, depths[] = { 1, 4, 32 };

	for (int kind = READER_URING; kind <= READER_PREAD; kind++)
		for (int k = 0; k < 12; k++) {
			struct reader_config c = { .kind = (enum reader_kind)kind,
						   .depth = depths[k % 3],
						   .request_bytes = sizes[k / 3 % 2],
						   .buffered = k >= 6 };
			struct reader_stats s;
			struct reader *r;
			uint8_t *one = aligned_alloc(65536, 65536);
			struct err err = { { 0 } };

			if (reader_create(f->gguf, &c, &r, &err))
				fail_msg("%s", err.text);
			assert_string_equal(reader_name(r),
					    kind == READER_URING ? "uring" : "pread");
			read_many(f, r);
			assert_int_equal(reader_read(r, 0, 4096, 100, one), 0);
			assert_memory_equal(one, f->content + 4096, 100);
			reader_get_stats(r, &s);
			assert_int_equal(s.requests, N_REQUESTS + 1);
			assert_true(s.bytes > 0 && s.errors == 0);
			reader_destroy(r);
			free(one);
		}
}

static void test_registered_memory(void **state)
{
	struct fixture *f = *state;
	struct arena_config config = { .bytes = 8 << 20, .best = ARENA_THP };
	struct reader_config c = { .kind = READER_URING };
	struct arena *a;
	struct reader *r;
	uint8_t *base;

	assert_int_equal(arena_create(&config, &a, NULL), 0);
	assert_int_equal(arena_prefault_start(a), 0);
	arena_prefault_wait(a);
	assert_int_equal(reader_create(f->gguf, &c, &r, NULL), 0);
	assert_int_equal(reader_register_memory(r, arena_base(a), arena_bytes(a), NULL), 0);
	base = arena_base(a);
	for (uint64_t offset = 0; offset < 2000; offset += 333) {
		uint8_t *dest = base + offset % reader_align(r);

		assert_int_equal(reader_read(r, 0, offset, 1 << 20, dest), 0);
		assert_memory_equal(dest, f->content + offset, 1 << 20);
	}
	reader_destroy(r);
	arena_destroy(a);
}

/* What a faulty disk does next; counts down. */
static struct faults {
	_Atomic int eio, eintr, eagain;
	uint64_t bad_from, bad_to; /* always EIO */
	unsigned most;		   /* bytes per read, 0: no bound */
	unsigned delay_us;
} faults;

static bool take(_Atomic int *n)
{
	return atomic_load(n) > 0 && atomic_fetch_sub(n, 1) > 0;
}

static ssize_t faulty_read(void *arg, struct reader_file *f, uint32_t index, void *buf,
			   uint64_t bytes, uint64_t offset)
{
	ssize_t n;

	(void)arg;
	(void)index;
	if (faults.delay_us)
		usleep(faults.delay_us);
	if (take(&faults.eintr))
		return -EINTR;
	if (take(&faults.eagain))
		return -EAGAIN;
	if (take(&faults.eio) || (offset < faults.bad_to && faults.bad_from < offset + bytes))
		return -EIO;
	if (faults.most && bytes > faults.most)
		bytes = faults.most;
	n = pread(f->fd_buffered, buf, bytes, (off_t)offset);
	return n < 0 ? -errno : n;
}

static struct reader *faulty_reader(struct fixture *f, struct reader_ops *ops)
{
	struct reader_config c = { .ops = ops, .buffered = true, .request_bytes = 64 << 10 };
	struct reader *r;

	*ops = reader_pread;
	ops->name = "faulty";
	ops->read = faulty_read;
	memset(&faults, 0, sizeof(faults));
	assert_int_equal(reader_create(f->gguf, &c, &r, NULL), 0);
	return r;
}

static void test_passing_faults(void **state)
{
	struct fixture *f = *state;
	struct reader_ops ops;
	struct reader *r = faulty_reader(f, &ops);
	struct reader_stats s;

	atomic_store(&faults.eio, 2);
	atomic_store(&faults.eintr, 50);
	atomic_store(&faults.eagain, 50);
	faults.most = 7000;
	read_many(f, r);
	reader_get_stats(r, &s);
	assert_int_equal(s.errors, 0);
	assert_true(s.retries >= 102 && s.short_reads > 0);
	reader_destroy(r);
}

static void test_lasting_error_fails_one(void **state)
{
	struct fixture *f = *state;
	struct reader_ops ops;
	struct reader *r = faulty_reader(f, &ops);
	struct reader_request *list[3];
	struct tracked t[3];

	faults.bad_from = 1000000;
	faults.bad_to = 1000001;
	prepare(r, &t[0], 100000, 300000);
	prepare(r, &t[1], 900000, 300000); /* holds the bad byte */
	prepare(r, &t[2], 1600000, 300000);
	for (int i = 0; i < 3; i++)
		list[i] = &t[i].request;
	reader_submit(r, list, 3);
	for (int i = 0; i < 3; i++) {
		wait_for(&t[i]);
		assert_int_equal(t[i].result, i == 1 ? -EIO : 0);
		if (i != 1)
			assert_memory_equal(t[i].request.dest, f->content + t[i].request.offset,
					    300000);
		free(t[i].room);
	}
	reader_destroy(r);
}

static void test_cancelled_at_destroy(void **state)
{
	struct fixture *f = *state;
	struct reader_ops ops;
	struct reader *r = faulty_reader(f, &ops);
	static struct tracked t[40];
	unsigned n_cancelled = 0;

	faults.delay_us = 3000;
	for (int i = 0; i < 40; i++) {
		struct reader_request *q = &t[i].request;

		prepare(r, &t[i], 1000 * (uint64_t)i, 600000);
		reader_submit(r, &q, 1);
	}
	reader_destroy(r);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(atomic_load(&t[i].ended), 1); /* every request has ended */
		assert_true(t[i].result == 0 || t[i].result == -ECANCELED);
		n_cancelled += t[i].result == -ECANCELED;
		free(t[i].room);
	}
	assert_true(n_cancelled > 0);
}

static void test_truncated_file(void **state)
{
	struct fixture *f = *state;

	for (int kind = READER_URING; kind <= READER_PREAD; kind++) {
		struct reader_config c = { .kind = (enum reader_kind)kind };
		struct reader_request *list[2];
		struct err err = { { 0 } };
		struct tracked t[2];
		struct reader *r;

		assert_int_equal(reader_create(f->gguf, &c, &r, NULL), 0);
		assert_int_equal(reader_check_files(r, &err), 0);
		assert_string_equal(err.text, "");
		assert_int_equal(truncate(f->path, 1000000), 0);
		prepare(r, &t[0], 100, 500000);
		prepare(r, &t[1], 900000, 500000);
		list[0] = &t[0].request;
		list[1] = &t[1].request;
		reader_submit(r, list, 2);
		for (int i = 0; i < 2; i++) {
			wait_for(&t[i]);
			assert_int_equal(t[i].result, i ? -ENODATA : 0);
			free(t[i].room);
		}
		assert_int_equal(reader_check_files(r, &err), -ESTALE);
		assert_non_null(strstr(err.text, f->path));
		reader_destroy(r);
		/* as it was: the same bytes and the same times */
		{
			int fd = open(f->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
			const struct gguf_file *g = gguf_file(f->gguf, 0);
			struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
						     { g->mtime_ns / 1000000000,
						       g->mtime_ns % 1000000000 } };

			assert_int_equal(write(fd, f->content, f->bytes), f->bytes);
			assert_int_equal(futimens(fd, times), 0);
			close(fd);
		}
	}
}

static void test_renamed_over(void **state)
{
	struct fixture *f = *state;
	struct err err = { { 0 } };
	struct reader *r;
	char kept[80];
	int fd;

	snprintf(kept, sizeof(kept), "%s.kept", f->path);
	assert_int_equal(reader_create(f->gguf, NULL, &r, NULL), 0);
	assert_int_equal(rename(f->path, kept), 0);
	fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	read_many(f, r);
	assert_int_equal(reader_check_files(r, &err), 0);
	assert_non_null(strstr(err.text, "another file"));
	reader_destroy(r);
	assert_int_equal(rename(kept, f->path), 0);
}

static int refuse_uring(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Runs in a child: 0 as it should be, else the number of the check that failed. */
static int without_uring(struct fixture *f)
{
	struct reader_config forced = { .kind = READER_URING };
	struct err err = { { 0 } };
	struct reader *r;
	uint8_t *room = aligned_alloc(65536, 2 << 20);

	if (refuse_uring())
		return 1;
	if (reader_create(f->gguf, &forced, &r, &err) != -EPERM || !strstr(err.text, "io_uring"))
		return 2;
	if (reader_create(f->gguf, NULL, &r, NULL))
		return 3;
	if (strcmp(reader_name(r), "pread") || !strstr(reader_fallback(r), "io_uring"))
		return 4;
	if (reader_read(r, 0, 12288, 1 << 20, room) || memcmp(room, f->content + 12288, 1 << 20))
		return 5;
	reader_destroy(r);
	free(room);
	return 0;
}

/* Runs in a child, as a user without capabilities: registration is refused, reads go on. */
static int with_little_memlock(struct fixture *f)
{
	struct arena_config config = { .bytes = 64 << 20, .best = ARENA_THP };
	struct rlimit limit = { 8 << 20, 8 << 20 };
	struct reader_config c = { .kind = READER_URING };
	struct err err = { { 0 } };
	struct arena *a;
	struct reader *r;
	int rc;

	if (reader_create(f->gguf, &c, &r, NULL) || arena_create(&config, &a, NULL))
		return 1;
	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		return 2;
	if (getuid() == 0 && (setgid(65534) || setuid(65534)))
		return 3;
	/* the io thread was started as root: a new reader has the child's credentials */
	reader_destroy(r);
	if (reader_create(f->gguf, &c, &r, NULL))
		return 4;
	rc = reader_register_memory(r, arena_base(a), arena_bytes(a), &err);
	if (rc != -ENOMEM || !strstr(err.text, "memlock"))
		return 5;
	if (reader_read(r, 0, 8192, 1 << 20, arena_base(a)) ||
	    memcmp(arena_base(a), f->content + 8192, 1 << 20))
		return 6;
	reader_destroy(r);
	arena_destroy(a);
	return 0;
}

static void run_child(struct fixture *f, int (*fn)(struct fixture *f))
{
	int status;
	pid_t pid;

	assert_int_equal(chmod(f->path, 0644), 0);
	pid = fork();
	if (!pid)
		_exit(fn(f));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_without_uring(void **state)
{
	run_child(*state, without_uring);
}

static void test_little_memlock(void **state)
{
	run_child(*state, with_little_memlock);
}

static void test_bad_options(void **state)
{
	struct fixture *f = *state;
	struct reader_config c = { .request_bytes = 1000 };
	struct err err = { { 0 } };
	struct reader *r;

	assert_int_equal(reader_create(f->gguf, &c, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "multiple"));
	reader_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backends),
		cmocka_unit_test(test_registered_memory),
		cmocka_unit_test(test_passing_faults),
		cmocka_unit_test(test_lasting_error_fails_one),
		cmocka_unit_test(test_cancelled_at_destroy),
		cmocka_unit_test(test_truncated_file),
		cmocka_unit_test(test_renamed_over),
		cmocka_unit_test(test_without_uring),
		cmocka_unit_test(test_little_memlock),
		cmocka_unit_test(test_bad_options),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
