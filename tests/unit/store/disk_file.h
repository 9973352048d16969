/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/store/disk_file.h: a real file of random bytes on a real disk, for tests of the reader.
 * Its length is no multiple of anything. Include after cmocka.h.
 */
#ifndef SLUICE_TESTS_DISK_FILE_H
#define SLUICE_TESTS_DISK_FILE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/gguf.h"

#define DISK_FILE_BYTES ((3u << 20) + 801)

struct disk_file {
	char path[64];
	int fd;
	uint8_t *content;
	uint64_t bytes;
	struct gguf_file as_gguf; /* what reader_create_files() takes */
};

/* Brings the file to its content and time again, whatever a test did to it. */
static inline void disk_file_restore(struct disk_file *f)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1600000000 } };
	int fd = open(f->path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, f->content, f->bytes), f->bytes);
	assert_int_equal(futimens(fd, times), 0);
	fsync(fd);
	close(fd);
}

static inline int disk_file_setup(void **state)
{
	struct disk_file *f = calloc(1, sizeof(*f));
	struct stat st;

	assert_non_null(f);
	strcpy(f->path, "/var/tmp/sluice-reader-XXXXXX"); /* a disk: tmpfs may refuse O_DIRECT */
	f->fd = mkostemp(f->path, O_CLOEXEC);
	assert_true(f->fd >= 0);
	f->bytes = DISK_FILE_BYTES;
	f->content = malloc(f->bytes);
	assert_non_null(f->content);
	srand(7);
	for (uint64_t i = 0; i < f->bytes; i++)
		f->content[i] = (uint8_t)(rand() >> 7);
	disk_file_restore(f);
	assert_int_equal(fstat(f->fd, &st), 0);
	f->as_gguf = (struct gguf_file){ .path = f->path,
					 .fd = f->fd,
					 .bytes = f->bytes,
					 .device = st.st_dev,
					 .inode = st.st_ino,
					 .mtime_ns = 1600000000ll * 1000000000 };
	*state = f;
	return 0;
}

static inline int disk_file_teardown(void **state)
{
	struct disk_file *f = *state;

	unlink(f->path);
	close(f->fd);
	free(f->content);
	free(f);
	return 0;
}

#endif
