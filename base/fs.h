/* SPDX-License-Identifier: MIT */
/*
 * base/fs.h: small files of /sys and /proc below a root, and the numbers in them.
 *
 * Paths are relative to the root, so that tests read recorded trees. Nothing a file holds is
 * trusted: sizes are bounded, a number is all digits or unknown, a FIFO does not block. Used by
 * base/limits.c and by the telemetry sources. Any thread; no state but one descriptor.
 */
#ifndef SLUICE_BASE_FS_H
#define SLUICE_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define FS_PATH_MAX 4096
#define FS_MAX_CPUS 8192
#define FS_UNKNOWN  UINT64_MAX

struct fs {
	int dir; /* the root, -1: closed */
};

/* @root NULL or "": the machine's own. 0 or -errno. */
int fs_open(struct fs *fs, const char *root);
void fs_close(struct fs *fs);

/* Up to @room - 1 bytes of a file and a NUL; longer files are cut. Length or -errno. */
ssize_t fs_text(const struct fs *fs, char *buf, size_t room, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* A file to be read line by line, or NULL. The caller closes it. */
FILE *fs_stream(const struct fs *fs, const char *path);

/* The number that is the whole file, or FS_UNKNOWN. */
uint64_t fs_u64(const struct fs *fs, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for small numbers that may be negative in the file: [0, @most], else -1. */
int fs_index(const struct fs *fs, int most, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Where a symbolic link points, with a NUL. Length or -errno. */
ssize_t fs_link(const struct fs *fs, char *buf, size_t room, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Calls @each for the names in a folder, "." and ".." left out, in no order, until it returns false
 * or 4096 names were seen. 0 or -errno. */
int fs_list(const struct fs *fs, const char *path, bool (*each)(void *arg, const char *name),
	    void *arg);

/* "123", "0x7b", blanks around: true. Anything else, and what does not fit: false. */
bool text_u64(const char *text, uint64_t *ret);

/* As above for the first word of @text; *ret_end points behind it. Decimal only. */
bool text_word_u64(const char *text, uint64_t *ret, const char **ret_end);

/* "0-3,8,10-11" into @bits (64 to a word). How many, or -EINVAL; numbers >= words*64 count as bad. */
int text_list(const char *text, uint64_t *bits, size_t words);

/* "0000:01:00.0" and nothing behind it but @len characters. */
bool text_is_bdf(const char *text, size_t len);

#endif
