/* SPDX-License-Identifier: MIT */
/*
 * Description: the reader delivers every byte of any extent of a real file with every backend, and
 * does what it can where a file changes, memory may not be locked or io_uring is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "store/arena.h"
#include "tests/unit/store/disk_file.h"
#include "tests/unit/store/requests.h"

#define N_REQUESTS 64

static struct reader *open_reader(const struct disk_file *f, const struct reader_config *c)
{
	struct err err = { { 0 } };
	struct reader *r;

	if (reader_create_files(&f->as_gguf, 1, c, &r, &err))
		fail_msg("%s", err.text);
	return r;
}

static void test_backends(void **state)
{
	static const uint32_t sizes[] = { 64 << 10, 1 << 20 }, depths[] = { 1, 4, 32 };
	struct disk_file *f = *state;

	for (int kind = READER_URING; kind <= READER_PREAD; kind++)
		for (int k = 0; k < 12; k++) {
			struct reader_config c = { .kind = (enum reader_kind)kind,
						   .depth = depths[k % 3],
						   .request_bytes = sizes[k / 3 % 2],
						   .buffered = k >= 6 };
			uint8_t *one = aligned_alloc(65536, 65536);
			struct reader *r = open_reader(f, &c);
			struct reader_stats s;

			assert_string_equal(reader_name(r),
					    kind == READER_URING ? "uring" : "pread");
			assert_string_equal(reader_fallback(r), "");
			read_many(r, f->content, f->bytes, N_REQUESTS);
			assert_int_equal(reader_read(r, 0, 4096, 100, one), 0);
			assert_memory_equal(one, f->content + 4096, 100);
			reader_get_stats(r, &s);
			assert_int_equal(s.requests, N_REQUESTS + 1);
			assert_true(s.bytes > 0 && s.errors == 0 && s.retries == 0);
			assert_true(s.busy_ns > 0 && s.busy_ns < 600000000000u);
			reader_destroy(r);
			free(one);
		}
}

/* What fills cost the threads that read is booked before they end, and of nothing but fills. */
static void test_fills_booked(void **state)
{
	struct disk_file *f = *state;

	for (int kind = READER_URING; kind <= READER_PREAD; kind++) {
		struct reader_config c = { .kind = (enum reader_kind)kind };
		struct reader *r = open_reader(f, &c);
		uint64_t before = 0;

		for (int cls = 0; cls < READ_CLASS_NR; cls++) {
			struct tracked t;
			struct reader_request *q = &t.request;

			prepare_request(r, &t, 0, 4096, 1 << 20);
			t.request.cls = (uint8_t)cls;
			before = reader_fill_cpu_ns(r);
			reader_submit(r, &q, 1);
			wait_request(&t);
			check_request(r, &t, f->content);
			if (cls == READ_FILL)
				assert_true(reader_fill_cpu_ns(r) > before);
			else
				assert_int_equal(reader_fill_cpu_ns(r), 0);
		}
		reader_destroy(r);
	}
}

/* Offsets and lengths around every border of the alignment and of a piece. */
static void test_every_misalignment(void **state)
{
	static const int64_t around[] = { -513, -512, -511, -1, 0, 1, 511, 512, 513 };
	struct disk_file *f = *state;

	for (int kind = READER_URING; kind <= READER_PREAD; kind++)
		for (uint32_t align = 512; align <= 65536; align *= 128) {
			struct reader_config c = { .kind = (enum reader_kind)kind,
						   .request_bytes = 64 << 10,
						   .least_align = align };
			struct reader *r = open_reader(f, &c);

			assert_int_equal(reader_align(r) % align, 0);
			for (unsigned i = 0; i < ARRAY_LEN(around) * ARRAY_LEN(around); i++) {
				struct tracked t;
				struct reader_request *q = &t.request;

				prepare_request(r, &t, 0,
						(uint64_t)(131072 + around[i % ARRAY_LEN(around)]),
						(uint64_t)(65536 + around[i / ARRAY_LEN(around)]));
				reader_submit(r, &q, 1);
				wait_request(&t);
				check_request(r, &t, f->content);
			}
			reader_destroy(r);
		}
}

static void test_registered_memory(void **state)
{
	struct arena_config config = { .bytes = 8 << 20, .best = ARENA_THP };
	struct reader_config c = { .kind = READER_URING };
	struct disk_file *f = *state;
	struct reader *r = open_reader(f, &c);
	struct err err = { { 0 } };
	struct arena *a;
	uint8_t *base;

	assert_int_equal(arena_create(&config, &a, NULL), 0);
	assert_int_equal(arena_prefault_start(a), 0);
	arena_prefault_wait(a);
	assert_int_equal(reader_register_memory(r, arena_base(a), 2 << 20, NULL), 0);
	base = arena_base(a);
	for (uint64_t offset = 0; offset < 2000; offset += 333) {
		/* inside of what is registered, across its end, outside */
		uint8_t *dest = base + (offset / 333 % 3) * (3 << 19) + offset % reader_align(r);

		assert_int_equal(reader_read(r, 0, offset, 1 << 20, dest), 0);
		assert_memory_equal(dest, f->content + offset, 1 << 20);
	}
	read_many(r, f->content, f->bytes, 16); /* memory that is not registered */
	assert_int_equal(reader_register_memory(r, base, 1 << 20, &err), -EINVAL);
	assert_non_null(strstr(err.text, "once"));
	reader_destroy(r);
	arena_destroy(a);
}

static void test_no_such_range(void **state)
{
	struct disk_file *f = *state;
	struct reader *r = open_reader(f, NULL);
	uint8_t *room = aligned_alloc(65536, 65536);

	assert_int_equal(reader_read(r, 1, 0, 100, room), -EINVAL);
	assert_int_equal(reader_read(r, 0, UINT64_MAX - 511, 1024, room), -EINVAL);
	assert_int_equal(reader_read(r, 0, 0, UINT64_MAX, room), -EINVAL);
	assert_int_equal(reader_read(r, 0, 1ull << 62, 512, room), -ENODATA);
	assert_int_equal(reader_read(r, 0, align_down(f->bytes, 4096), 4096, room), -ENODATA);
	assert_int_equal(reader_read(r, 0, 5, 0, room), 0);
	reader_destroy(r);
	free(room);
}

static void test_truncated_file(void **state)
{
	struct disk_file *f = *state;

	for (int kind = READER_URING; kind <= READER_PREAD; kind++) {
		struct reader_config c = { .kind = (enum reader_kind)kind };
		struct reader *r = open_reader(f, &c);
		struct reader_request *list[3];
		struct err err = { { 0 } };
		struct tracked t[3];

		assert_int_equal(reader_check_files(r, &err), 0);
		assert_string_equal(err.text, "");
		assert_int_equal(truncate(f->path, 1000000), 0);
		prepare_request(r, &t[0], 0, 100, 500000);
		prepare_request(r, &t[1], 0, 900000, 500000);
		prepare_request(r, &t[2], 0, 999000, 1000); /* up to the new end */
		for (int i = 0; i < 3; i++)
			list[i] = &t[i].request;
		reader_submit(r, list, 3);
		for (int i = 0; i < 3; i++)
			wait_request(&t[i]);
		assert_int_equal(t[1].result, -ENODATA);
		free(t[1].room);
		check_request(r, &t[0], f->content);
		check_request(r, &t[2], f->content);
		assert_int_equal(reader_check_files(r, &err), -ESTALE);
		assert_non_null(strstr(err.text, f->path));
		assert_non_null(strstr(err.text, "1000000"));
		disk_file_restore(f);
		err.text[0] = '\0';
		assert_int_equal(reader_check_files(r, &err), 0);
		assert_string_equal(err.text, "");
		reader_destroy(r);
	}
}

static void test_written_to(void **state)
{
	struct disk_file *f = *state;
	struct reader *r = open_reader(f, NULL);
	struct err err = { { 0 } };
	int fd = open(f->path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, "x", 1, 5000), 1);
	close(fd);
	assert_int_equal(reader_check_files(r, &err), -ESTALE);
	assert_non_null(strstr(err.text, "written to"));
	disk_file_restore(f);
	reader_destroy(r);
}

static void test_renamed_over(void **state)
{
	struct disk_file *f = *state;
	struct reader *r = open_reader(f, NULL);
	struct err err = { { 0 } };
	char kept[80];
	int fd;

	snprintf(kept, sizeof(kept), "%s.kept", f->path);
	assert_int_equal(rename(f->path, kept), 0);
	fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	read_many(r, f->content, f->bytes, 16);
	assert_int_equal(reader_check_files(r, &err), 0);
	assert_non_null(strstr(err.text, "another file"));
	reader_destroy(r);
	assert_int_equal(rename(kept, f->path), 0);
}

/* Of several files a fault is said before a path that names no file any more. */
static void test_fault_of_another_file(void **state)
{
	struct disk_file *f = *state;
	struct gguf_file files[2] = { f->as_gguf, f->as_gguf };
	struct err err = { { 0 } };
	struct reader *r;

	files[0].path = "/var/tmp/sluice-reader-removed";
	assert_int_equal(reader_create_files(files, 2, NULL, &r, &err), 0);
	assert_int_equal(reader_check_files(r, &err), 0);
	assert_non_null(strstr(err.text, "sluice-reader-removed is not found any more"));
	err_clear(&err);
	assert_int_equal(truncate(f->path, 1000), 0);
	assert_int_equal(reader_check_files(r, &err), -ESTALE);
	assert_non_null(strstr(err.text, "was cut"));
	disk_file_restore(f);
	reader_destroy(r);
}

static int refuse_uring(int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Runs in a child: 0 as it should be, else the number of the check that failed. */
static int without_uring(struct disk_file *f, int error)
{
	struct reader_config forced = { .kind = READER_URING };
	uint8_t *room = aligned_alloc(65536, 2 << 20);
	struct err err = { { 0 } };
	struct reader *r;

	if (refuse_uring(error))
		return 1;
	if (reader_create_files(&f->as_gguf, 1, &forced, &r, &err) != -error ||
	    !strstr(err.text, "io_uring"))
		return 2;
	if (reader_create_files(&f->as_gguf, 1, NULL, &r, NULL))
		return 3;
	if (strcmp(reader_name(r), "pread") || !strstr(reader_fallback(r), "io_uring"))
		return 4;
	if (reader_read(r, 0, 12288, 1 << 20, room) || memcmp(room, f->content + 12288, 1 << 20))
		return 5;
	if (reader_register_memory(r, room, 2 << 20, NULL)) /* no use for it, no fault */
		return 6;
	reader_destroy(r);
	free(room);
	return 0;
}

/* Runs in a child, as a user without capabilities: registration is refused, reads go on. */
static int with_little_memlock(struct disk_file *f, int error)
{
	struct arena_config config = { .bytes = 64 << 20, .best = ARENA_THP };
	struct reader_config c = { .kind = READER_URING };
	struct rlimit limit = { 8 << 20, 8 << 20 };
	struct err err = { { 0 } };
	struct arena *a;
	struct reader *r;

	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		return 1;
	if (getuid() == 0 && (setgid(65534) || setuid(65534)))
		return 2;
	if (arena_create(&config, &a, NULL))
		return 3;
	if (reader_create_files(&f->as_gguf, 1, &c, &r, &err))
		return 4;
	if (reader_register_memory(r, arena_base(a), arena_bytes(a), &err) != -error ||
	    !strstr(err.text, "memlock"))
		return 5;
	if (reader_read(r, 0, 8192, 1 << 20, arena_base(a)) ||
	    memcmp(arena_base(a), f->content + 8192, 1 << 20))
		return 6;
	reader_destroy(r);
	arena_destroy(a);
	return 0;
}

static void run_child(struct disk_file *f, int (*fn)(struct disk_file *f, int error), int error)
{
	int status;
	pid_t pid;

	assert_int_equal(chmod(f->path, 0644), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(fn(f, error));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_without_uring(void **state)
{
	static const int errors[] = { EPERM, ENOSYS, ENOMEM, EACCES };

	for (unsigned i = 0; i < ARRAY_LEN(errors); i++)
		run_child(*state, without_uring, errors[i]);
}

static void test_little_memlock(void **state)
{
	run_child(*state, with_little_memlock, ENOMEM);
}

static void test_bad_options(void **state)
{
	static const struct reader_config bad[] = { { .request_bytes = 1000 },
						    { .request_bytes = 2u << 30 },
						    { .depth = 5000 },
						    { .least_align = 3000 },
						    { .least_align = 1 << 20 } };
	struct disk_file *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = { { 0 } };
		struct reader *r;

		assert_int_equal(reader_create_files(&f->as_gguf, 1, &bad[i], &r, &err), -EINVAL);
		assert_non_null(strstr(err.text, i < 3 ? "multiple" : "power of two"));
	}
	reader_destroy(NULL);
}

/* From a gguf: its descriptors are opened again, so the reader outlives it. */
static void test_from_gguf(void **state)
{
	static const uint8_t header[24] = { 'G', 'G', 'U', 'F', 3 };
	char path[] = "/var/tmp/sluice-reader-XXXXXX.gguf";
	uint8_t *room = aligned_alloc(65536, 65536);
	int fd = mkostemps(path, 5, O_CLOEXEC);
	struct err err = { { 0 } };
	struct reader *r;
	struct gguf *g;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, header, sizeof(header)), sizeof(header));
	close(fd);
	if (gguf_open(path, &g, &err) || reader_create(g, NULL, &r, &err))
		fail_msg("%s", err.text);
	assert_int_equal(reader_read(r, 0, 0, sizeof(header), room), 0);
	assert_memory_equal(room, header, sizeof(header));
	reader_destroy(r);
	gguf_destroy(g);
	unlink(path);
	free(room);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backends),
		cmocka_unit_test(test_every_misalignment),
		cmocka_unit_test(test_registered_memory),
		cmocka_unit_test(test_no_such_range),
		cmocka_unit_test(test_truncated_file),
		cmocka_unit_test(test_written_to),
		cmocka_unit_test(test_renamed_over),
		cmocka_unit_test(test_without_uring),
		cmocka_unit_test(test_little_memlock),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_from_gguf),
		cmocka_unit_test(test_fills_booked),
		cmocka_unit_test(test_fault_of_another_file),
	};

	return cmocka_run_group_tests(tests, disk_file_setup, disk_file_teardown);
}
