/* SPDX-License-Identifier: MIT */
/*
 * tools/batch_file.c: see batch.h. The input is gone through once and its lines are read again when
 * they are asked; the output only grows at its end, a whole line at a time. One thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/read_at.h"
#include "base/write_all.h"
#include "tools/batch.h"

#define LINES_MAX 10000000u
#define PIECE	  (256u << 10)

/* ---- lines of a file ---- */

/* Goes through a file: the text of one line at a time, cut where it is longer than may be. */
struct reader {
	int fd;
	uint64_t at; /* of the piece's end in the file */
	char *piece;
	size_t n, next;	   /* bytes in it, and where the next line begins */
	struct bytes line; /* without its end */
	uint64_t began;	   /* where it begins */
	uint64_t bytes;	   /* what it has, also where it is cut */
	bool ended;	   /* by a newline */
};

static int reader_open(struct reader *r, int fd)
{
	*r = (struct reader){ .fd = fd, .piece = malloc(PIECE) };
	return r->piece ? 0 : -ENOMEM;
}

static void reader_close(struct reader *r)
{
	free(r->piece);
	bytes_done(&r->line);
}

static int more(struct reader *r)
{
	ssize_t got;

	do
		got = pread(r->fd, r->piece, PIECE, (off_t)r->at);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	r->at += (uint64_t)got;
	r->n = (size_t)got;
	r->next = 0;
	return got > 0;
}

/* 1: a line is there; 0: the file's end; -errno. The mark that Windows writes before a file's text is none of it. */
static int read_line(struct reader *r)
{
	int rc = r->at ? 0 : more(r);

	if (rc < 0)
		return rc;
	if (rc && r->n >= 3 && !memcmp(r->piece, "\xef\xbb\xbf", 3))
		r->next = 3;
	r->line.n = 0;
	r->bytes = 0;
	r->ended = false;
	r->began = r->at - (r->n - r->next);
	for (;;) {
		const char *from = r->piece + r->next, *end;
		size_t len;

		if (r->next == r->n) {
			rc = more(r);
			if (rc <= 0)
				return rc < 0 ? rc : r->bytes != 0;
			continue;
		}
		end = memchr(from, '\n', r->n - r->next);
		len = end ? (size_t)(end - from) : r->n - r->next;
		r->next += len + (end != NULL);
		r->bytes += len;
		if (r->line.n + len <= BATCH_LINE_MAX && bytes_put(&r->line, from, len))
			return -ENOMEM;
		r->ended = end != NULL;
		if (end)
			return 1;
	}
}

/* ---- names ---- */

/* Where @id stands or would stand. */
static uint32_t *find(const struct batch *b, const char *id)
{
	size_t at = (size_t)hash64(id, strlen(id), 0) & (b->index_room - 1);

	while (b->index[at] && strcmp(b->lines[b->index[at] - 1].custom_id, id) != 0)
		at = (at + 1) & (b->index_room - 1);
	return &b->index[at];
}

static int index_lines(struct batch *b, struct err *err)
{
	b->index_room = 64;
	while (b->index_room < b->n_lines * 2)
		b->index_room *= 2;
	b->index = calloc(b->index_room, sizeof(*b->index));
	if (!b->index)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < b->n_lines; i++) {
		const struct batch_line *l = &b->lines[i];
		uint32_t *at = l->custom_id ? find(b, l->custom_id) : NULL;

		if (at && *at)
			return err_set(err, -EEXIST,
				       "%s: line %u: its custom_id is that of line %u already",
				       b->path, l->number, b->lines[*at - 1].number);
		if (at)
			*at = (uint32_t)i + 1;
	}
	return 0;
}

/* ---- the input ---- */

static int add_line(struct batch *b, const struct reader *r, uint32_t number, size_t *room)
{
	bool too_long = r->bytes > BATCH_LINE_MAX;
	struct batch_line *l;

	if (b->n_lines == *room) {
		*room = *room ? *room * 2 : 256;
		l = realloc(b->lines, *room * sizeof(*l));
		if (!l)
			return -ENOMEM;
		b->lines = l;
	}
	if (b->n_lines == LINES_MAX)
		return -E2BIG;
	l = &b->lines[b->n_lines++];
	*l = (struct batch_line){ .at = r->began, .number = number };
	l->bytes = too_long ? BATCH_LINE_MAX + 1 : (uint32_t)r->bytes;
	if (!too_long)
		l->custom_id = batch_custom_id(r->line.data, r->line.n);
	b->bytes += l->bytes;
	return 0;
}

static bool is_blank(const struct reader *r)
{
	return r->bytes == r->line.n && (!r->line.n || strspn(r->line.data, " \t\r") == r->line.n);
}

static int open_regular(const char *path, int flags, int *ret, struct err *err)
{
	struct stat st;
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0666);

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(err, -EINVAL,
			       "%s: a batch needs a file: it is read and written again when it is "
			       "resumed",
			       path);
	}
	*ret = fd;
	return 0;
}

int batch_open(struct batch *b, const char *path, struct err *err)
{
	uint32_t number = 0;
	size_t room = 0;
	struct reader r;
	int rc;

	*b = (struct batch){ .path = path, .in = -1, .out = -1 };
	rc = open_regular(path, O_RDONLY, &b->in, err);
	if (rc)
		return rc;
	rc = reader_open(&r, b->in);
	while (!rc && (rc = read_line(&r)) > 0) {
		number++;
		rc = is_blank(&r) ? 0 : add_line(b, &r, number, &room);
	}
	reader_close(&r);
	if (rc)
		return err_set(err, rc, "%s: line %u: %s", path, number, strerror(-rc));
	if (!b->n_lines)
		return err_set(err, -EINVAL, "%s: holds no requests", path);
	return index_lines(b, err);
}

int batch_text(const struct batch *b, const struct batch_line *l, char **ret, struct err *err)
{
	char *text = malloc((size_t)l->bytes + 1);
	int rc = text ? read_at(b->in, text, l->bytes, l->at) : -ENOMEM;

	if (rc) {
		free(text);
		return err_set(err, rc, "%s: line %u: %s", b->path, l->number,
			       rc == -ENODATA ? "the file became shorter" : strerror(-rc));
	}
	text[l->bytes] = '\0';
	*ret = text;
	return 0;
}

/* ---- the output ---- */

static void mark_done(struct batch *b, struct batch_line *l, bool failed)
{
	l->done = true;
	b->n_done++;
	b->n_failed += failed;
	b->bytes_done += l->bytes;
}

static struct batch_line *by_number(const struct batch *b, uint32_t number)
{
	size_t low = 0, high = b->n_lines;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (b->lines[middle].number == number)
			return &b->lines[middle];
		if (b->lines[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Of a line of the output. */
static int take_result(struct batch *b, const struct reader *r, unsigned number, struct err *err)
{
	struct batch_line *l = NULL;
	uint32_t line = 0, *at;
	bool failed = false;
	char *id = NULL;
	int rc = r->bytes > r->line.n ? -EINVAL
				      : batch_result_parse(r->line.data ? r->line.data : "",
							   r->line.n, &id, &line, &failed);

	if (rc)
		return err_set(err, rc, "%s: line %u: this is no result of a batch", b->out_path,
			       number);
	if (id) {
		at = find(b, id);
		l = *at ? &b->lines[*at - 1] : NULL;
	} else {
		l = by_number(b, line);
		if (l && l->custom_id)
			l = NULL;
	}
	free(id);
	if (!l)
		return err_set(err, -EINVAL,
			       "%s: line %u: the result of a request that %s does not hold: is it "
			       "another batch's?",
			       b->out_path, number, b->path);
	if (l->done)
		return err_set(err, -EINVAL, "%s: line %u: a second result of line %u of %s",
			       b->out_path, number, l->number, b->path);
	mark_done(b, l, failed);
	return 0;
}

static int take_results(struct batch *b, size_t *ret_cut, struct err *err)
{
	unsigned number = 0;
	struct reader r;
	int rc = reader_open(&r, b->out);

	*ret_cut = 0;
	while (!rc && (rc = read_line(&r)) > 0) {
		number++;
		if (r.ended) {
			rc = take_result(b, &r, number, err);
			continue;
		}
		/* what was being written when it was killed */
		*ret_cut = (size_t)r.bytes;
		rc = ftruncate(b->out, (off_t)r.began) || fsync(b->out) ? -errno : 0;
		break;
	}
	reader_close(&r);
	return rc ? err_set(err, rc, "%s: %s", b->out_path, strerror(-rc)) : 0;
}

int batch_resume(struct batch *b, const char *path, size_t *ret_cut, struct err *err)
{
	struct stat in, out;
	int rc;

	b->out_path = path;
	rc = open_regular(path, O_RDWR | O_CREAT | O_APPEND, &b->out, err);
	if (rc)
		return rc;
	if (!fstat(b->in, &in) && !fstat(b->out, &out) && in.st_dev == out.st_dev &&
	    in.st_ino == out.st_ino)
		return err_set(err, -EINVAL, "%s: results and requests in one file", path);
	if (flock(b->out, LOCK_EX | LOCK_NB))
		return err_set(err, -EBUSY, "%s: another sluice batch writes there", path);
	return take_results(b, ret_cut, err);
}

/* What a full disk took of a line is taken back: it would be torn. */
static int append(struct batch *b, const char *text, size_t n, struct err *err)
{
	off_t began = lseek(b->out, 0, SEEK_END);
	int rc = began < 0 ? -errno : write_all(b->out, text, n);

	if (rc && began >= 0 && ftruncate(b->out, began))
		rc = -errno;
	return rc ? err_set(err, rc, "%s: %s", b->out_path, strerror(-rc)) : 0;
}

int batch_write(struct batch *b, struct batch_line *l, const char *result, bool failed,
		struct err *err)
{
	struct bytes all = { 0 };
	int rc = bytes_put(&all, result, strlen(result));

	if (!rc)
		rc = bytes_put(&all, "\n", 1);
	if (rc)
		err_set(err, rc, "out of memory");
	else
		rc = append(b, all.data, all.n, err);
	bytes_done(&all);
	if (rc)
		return rc;
	b->dirty = true;
	mark_done(b, l, failed);
	return 0;
}

int batch_sync(struct batch *b, struct err *err)
{
	if (!b->dirty)
		return 0;
	b->dirty = false;
	return fdatasync(b->out) ? err_set(err, -errno, "%s: %s", b->out_path, strerror(errno)) : 0;
}

void batch_close(struct batch *b)
{
	for (size_t i = 0; i < b->n_lines; i++) {
		free(b->lines[i].custom_id);
		free(b->lines[i].result);
	}
	free(b->lines);
	free(b->index);
	if (b->in >= 0)
		close(b->in);
	if (b->out >= 0)
		close(b->out);
}
