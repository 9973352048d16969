/* SPDX-License-Identifier: MIT */
/*
 * base/fs.c: reads small files below a root. See fs.h.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"

#define MAX_NAMES 4096

int fs_open(struct fs *fs, const char *root)
{
	fs->dir = open(root && *root ? root : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fs->dir < 0 ? -errno : 0;
}

void fs_close(struct fs *fs)
{
	if (fs->dir >= 0)
		close(fs->dir);
	fs->dir = -1;
}

/* Read until the end or full: a file of /proc may come in parts. */
static ssize_t read_all(int fd, char *buf, size_t room)
{
	size_t have = 0;

	while (have < room - 1) {
		ssize_t n = read(fd, buf + have, room - 1 - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		have += (size_t)n;
	}
	buf[have] = '\0';
	return (ssize_t)have;
}

static ssize_t text_at(const struct fs *fs, char *buf, size_t room, const char *fmt, va_list ap)
{
	char path[FS_PATH_MAX];
	int n = vsnprintf(path, sizeof(path), fmt, ap), fd;
	ssize_t got;

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = openat(fs->dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	got = read_all(fd, buf, room);
	close(fd);
	return got;
}

ssize_t fs_text(const struct fs *fs, char *buf, size_t room, const char *fmt, ...)
{
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	n = text_at(fs, buf, room, fmt, ap);
	va_end(ap);
	return n;
}

FILE *fs_stream(const struct fs *fs, const char *path)
{
	int fd = openat(fs->dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (!f && fd >= 0)
		close(fd);
	return f;
}

uint64_t fs_u64(const struct fs *fs, const char *fmt, ...)
{
	char text[64];
	uint64_t value;
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	n = text_at(fs, text, sizeof(text), fmt, ap);
	va_end(ap);
	return n > 0 && text_u64(text, &value) ? value : FS_UNKNOWN;
}

int fs_index(const struct fs *fs, int most, const char *fmt, ...)
{
	char text[64];
	uint64_t value;
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	n = text_at(fs, text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n <= 0 || !text_u64(text, &value) || value > (uint64_t)most)
		return -1;
	return (int)value;
}

ssize_t fs_link(const struct fs *fs, char *buf, size_t room, const char *fmt, ...)
{
	char path[FS_PATH_MAX];
	va_list ap;
	ssize_t n;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	if (len < 0 || (size_t)len >= sizeof(path))
		return -ENAMETOOLONG;
	n = readlinkat(fs->dir, path, buf, room - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

int fs_list(const struct fs *fs, const char *path, bool (*each)(void *arg, const char *name),
	    void *arg)
{
	int fd = openat(fs->dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *entry;
	DIR *dir;
	int rc;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		rc = -errno;
		close(fd);
		return rc;
	}
	for (unsigned i = 0; i < MAX_NAMES && (entry = readdir(dir)); i++)
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
		    !each(arg, entry->d_name))
			break;
	closedir(dir);
	return 0;
}

static bool digits(const char **at, unsigned base, uint64_t *ret)
{
	const char *p = *at;
	uint64_t value = 0;

	for (; isxdigit((unsigned char)*p); p++) {
		unsigned digit = isdigit((unsigned char)*p)
					 ? (unsigned)(*p - '0')
					 : (unsigned)(tolower((unsigned char)*p) - 'a') + 10;

		if (digit >= base)
			break;
		if (u64_mul_overflow(value, base, &value) || u64_add_overflow(value, digit, &value))
			return false;
	}
	if (p == *at)
		return false;
	*at = p;
	*ret = value;
	return true;
}

bool text_u64(const char *text, uint64_t *ret)
{
	unsigned base = 10;
	uint64_t value;

	while (isspace((unsigned char)*text))
		text++;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		text += 2;
		base = 16;
	}
	if (!digits(&text, base, &value))
		return false;
	while (isspace((unsigned char)*text))
		text++;
	if (*text || value == FS_UNKNOWN)
		return false;
	*ret = value;
	return true;
}

bool text_word_u64(const char *text, uint64_t *ret, const char **ret_end)
{
	uint64_t value;

	while (*text == ' ' || *text == '\t')
		text++;
	if (!digits(&text, 10, &value) || value == FS_UNKNOWN)
		return false;
	if (*text && !isspace((unsigned char)*text))
		return false;
	*ret = value;
	*ret_end = text;
	return true;
}

int text_list(const char *text, uint64_t *bits, size_t words)
{
	int count = 0;

	memset(bits, 0, words * sizeof(*bits));
	while (isspace((unsigned char)*text))
		text++;
	while (*text) {
		uint64_t first, last;

		if (!digits(&text, 10, &first))
			return -EINVAL;
		last = first;
		if (*text == '-') {
			text++;
			if (!digits(&text, 10, &last))
				return -EINVAL;
		}
		if (last < first || last >= words * 64)
			return -EINVAL;
		for (uint64_t i = first; i <= last; i++) {
			count += !(bits[i / 64] >> (i % 64) & 1);
			bits[i / 64] |= (uint64_t)1 << (i % 64);
		}
		if (*text == ',')
			text++;
		else
			break;
	}
	while (isspace((unsigned char)*text))
		text++;
	return *text ? -EINVAL : count;
}

bool text_is_bdf(const char *text, size_t len)
{
	static const char shape[] = "xxxx:xx:xx.o";
	size_t extra;

	/* a domain may have more than four digits */
	if (len < sizeof(shape) - 1 || len > sizeof(shape) + 2)
		return false;
	extra = len - (sizeof(shape) - 1);
	for (size_t i = 0; i < len; i++) {
		char want = i < extra ? 'x' : shape[i - extra];
		unsigned char c = (unsigned char)text[i];

		if (want == 'x' ? !isxdigit(c) : want == 'o' ? c < '0' || c > '7' : c != want)
			return false;
	}
	return true;
}
