/* SPDX-License-Identifier: MIT */
/* daemon/engine/saved_file.c: see saved_file.h. */
#include "engine/saved_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/read_at.h"
#include "base/num.h"
#include "base/write_all.h"
#include "kernels/cpu/kv_block.h"

#define VERSION 1
#define PIECE	(4u << 20) /* bytes between two looks at whether to give up */

static const char magic[8] = "SLUCSEQ";

struct saved_head {
	char magic[8];
	uint32_t version;
	uint32_t kv_type;
	uint64_t model, owner;
	uint64_t page_bytes, state_bytes;
	uint32_t n_tokens, n_points;
	char level[16];
	char program[64];
	uint64_t hash; /* of this with 0 here, then of tokens and points */
};
static_assert(sizeof(struct saved_head) == 144, "file");

bool saved_name_ok(const char *name)
{
	static const char good[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(name);

	return n && n <= SAVED_NAME_MAX && name[0] != '.' && strspn(name, good) == n;
}

static uint64_t hash_head(const struct saved_head *head, const struct saved_text *text)
{
	struct saved_head h = *head;
	uint64_t hash;

	h.hash = 0;
	hash = hash64(text->ids, text->n * sizeof(*text->ids), hash64(&h, sizeof(h), 0));
	return hash64(text->points, text->n_points * sizeof(*text->points), hash);
}

static uint64_t text_bytes(uint32_t n, uint32_t n_points)
{
	return n * sizeof(uint32_t) + n_points * sizeof(struct saved_point);
}

static uint64_t data_bytes(const struct saved_shape *shape, const struct saved_text *text)
{
	return div_ceil(text->n, KV_BLOCK) * shape->page_bytes +
	       text->n_points * shape->state_bytes;
}

/* ---- writing ---- */

static int read_all(int fd, void *to, size_t n, uint64_t at)
{
	int rc = read_at(fd, to, n, at);

	return rc == -ENODATA ? -EBADMSG : rc; /* it was cut */
}

static bool given_up(const _Atomic bool *stop)
{
	return atomic_load_explicit(stop, memory_order_relaxed);
}

static int write_part(int fd, const struct iovec *part, const _Atomic bool *stop, uint64_t *hash)
{
	const uint8_t *at = part->iov_base;
	int rc = 0;

	*hash = hash64(at, part->iov_len, *hash);
	for (size_t left = part->iov_len, n; left && !rc; left -= n, at += n) {
		n = u64_min(left, PIECE);
		rc = given_up(stop) ? -ESHUTDOWN : write_all(fd, at, n);
	}
	return rc;
}

static int write_whole(int fd, const struct saved_head *head, const struct saved_text *text,
		       const struct iovec *parts, uint32_t n_parts, const _Atomic bool *stop)
{
	uint64_t hash = 0;
	int rc = write_all(fd, head, sizeof(*head));

	if (!rc)
		rc = write_all(fd, text->ids, text->n * sizeof(*text->ids));
	if (!rc)
		rc = write_all(fd, text->points, text->n_points * sizeof(*text->points));
	for (uint32_t i = 0; i < n_parts && !rc; i++)
		rc = write_part(fd, &parts[i], stop, &hash);
	if (!rc)
		rc = write_all(fd, &hash, sizeof(hash));
	if (!rc && fsync(fd))
		rc = -errno;
	return rc;
}

/* A name is its first owner's: what lies there must be a sequence of the same one, or nothing. */
static int may_replace(int dir, const char *name, uint64_t owner, struct err *err)
{
	struct saved_head head = { 0 };
	struct stat st;
	bool known;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT)
		return 0;
	known = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
		!read_all(fd, &head, sizeof(head), 0) &&
		!memcmp(head.magic, magic, sizeof(magic)) && head.version == VERSION;
	if (fd >= 0)
		close(fd);
	if (!known)
		return err_set(err, -EACCES,
			       "%s is there and no saved sequence that can be replaced", name);
	if (head.owner != owner)
		return err_set(err, -EACCES, "%s is there and was saved with another key", name);
	return 0;
}

int saved_write(int dir, const char *name, const struct saved_shape *shape,
		const struct saved_text *text, const struct iovec *parts, uint32_t n_parts,
		const _Atomic bool *stop, uint64_t *ret_bytes, struct err *err)
{
	struct saved_head head = { .version = VERSION,
				   .kv_type = shape->kv_type,
				   .model = shape->model,
				   .owner = shape->owner,
				   .page_bytes = shape->page_bytes,
				   .state_bytes = shape->state_bytes,
				   .n_tokens = text->n,
				   .n_points = text->n_points };
	char draft[SAVED_NAME_MAX + 32];
	int fd, rc, denied;

	memcpy(head.magic, magic, sizeof(magic));
	snprintf(head.level, sizeof(head.level), "%s", shape->level);
	snprintf(head.program, sizeof(head.program), "%s", shape->program);
	head.hash = hash_head(&head, text);
	snprintf(draft, sizeof(draft), ".%s.%" PRIx64, name, now_ns());
	fd = openat(dir, draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, -errno, "%s cannot be written: %s", name, strerror(errno));
	rc = write_whole(fd, &head, text, parts, n_parts, stop);
	close(fd);
	denied = rc ? 0 : may_replace(dir, name, shape->owner, err);
	if (!rc && !denied && renameat(dir, draft, dir, name))
		rc = -errno;
	if (rc || denied) {
		unlinkat(dir, draft, 0);
		return denied ? denied
			      : err_set(err, rc, "%s cannot be written: %s", name, strerror(-rc));
	}
	fsync(dir); /* where that fails the file is there all the same */
	*ret_bytes = sizeof(head) + text_bytes(text->n, text->n_points) + data_bytes(shape, text) +
		     sizeof(uint64_t);
	return 0;
}

/* ---- reading ---- */

/* Whether what it holds is of use here. */
static int check_head(const struct saved_head *h, const struct saved_shape *shape, const char *name,
		      struct err *err)
{
	if (h->model != shape->model)
		return err_set(err, -EINVAL, "%s is of another model", name);
	if (h->owner != shape->owner)
		return err_set(err, -EACCES, "%s was saved with another key", name);
	if (h->kv_type != shape->kv_type || h->page_bytes != shape->page_bytes ||
	    h->state_bytes != shape->state_bytes)
		return err_set(err, -EINVAL, "%s was saved with another --kv-type", name);
	if (strncmp(h->level, shape->level, sizeof(h->level) - 1))
		return err_set(err, -EINVAL, "%s was computed at CPU level %.15s, this is %s", name,
			       h->level, shape->level);
	if (strncmp(h->program, shape->program, sizeof(h->program) - 1))
		return err_set(err, -EINVAL, "%s was computed by sluiced %.63s, this is %s", name,
			       h->program, shape->program);
	if (!h->n_tokens || h->n_tokens > shape->n_ctx)
		return err_set(err, -E2BIG,
			       "%s has %u tokens, the context holds %u (sluiced --ctx)", name,
			       h->n_tokens, shape->n_ctx);
	return 0;
}

/*
 * The head, the tokens and the points; what they say is not looked at before their hash, but for how many
 * tokens there are: memory is taken for no more than the context holds. -E2BIG: there are more.
 */
static int read_head(struct saved_file *f, uint64_t file_bytes, const struct saved_shape *shape,
		     struct saved_head *head)
{
	uint64_t bytes;
	int rc = read_all(f->fd, head, sizeof(*head), 0);

	if (rc)
		return rc;
	bytes = text_bytes(head->n_tokens, head->n_points);
	if (memcmp(head->magic, magic, sizeof(magic)) || head->version != VERSION ||
	    head->n_points > SAVED_POINTS_MAX || bytes > file_bytes - sizeof(*head) ||
	    !memchr(head->level, 0, sizeof(head->level)) ||
	    !memchr(head->program, 0, sizeof(head->program)))
		return -EBADMSG;
	if (head->n_tokens > shape->n_ctx)
		return -E2BIG;
	f->owned = malloc(bytes + 1);
	if (!f->owned)
		return -ENOMEM;
	f->text = (struct saved_text){ .ids = f->owned,
				       .points = (void *)((uint32_t *)f->owned + head->n_tokens),
				       .n = head->n_tokens,
				       .n_points = head->n_points };
	rc = read_all(f->fd, f->owned, bytes, sizeof(*head));
	return !rc && hash_head(head, &f->text) != head->hash ? -EBADMSG : rc;
}

/* Ids are below the vocabulary's end; points ascend, and where there is a state one is at the end. */
static bool is_sound(const struct saved_text *t, const struct saved_shape *shape)
{
	uint32_t last = 0;

	for (uint32_t i = 0; i < t->n; i++)
		if (t->ids[i] >= shape->n_vocab)
			return false;
	for (uint32_t i = 0; i < t->n_points; last = t->points[i++].at)
		if (t->points[i].at <= last || t->points[i].at > t->n)
			return false;
	return shape->state_bytes ? last == t->n : !t->n_points;
}

static int damaged(const char *name, int rc, struct err *err)
{
	return err_set(err, rc, "%s: %s", name,
		       rc == -EBADMSG ? "no saved sequence, or a damaged one" : strerror(-rc));
}

int saved_open(int dir, const char *name, const struct saved_shape *shape, struct saved_file *ret,
	       struct err *err)
{
	struct saved_file f = { .name = name };
	struct saved_head head;
	struct stat st;
	int rc = 0;

	/* not to wait for the writer of a pipe */
	f.fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (f.fd < 0)
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	if (fstat(f.fd, &st))
		rc = -errno;
	else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < sizeof(head))
		rc = -EBADMSG;
	if (!rc)
		rc = read_head(&f, (uint64_t)st.st_size, shape, &head);
	if (rc && rc != -E2BIG) {
		damaged(name, rc, err);
		goto out;
	}
	rc = check_head(&head, shape, name, err);
	if (rc)
		goto out;
	f.data = sizeof(head) + text_bytes(f.text.n, f.text.n_points);
	f.data_bytes = data_bytes(shape, &f.text);
	if ((uint64_t)st.st_size != f.data + f.data_bytes + sizeof(uint64_t) ||
	    !is_sound(&f.text, shape))
		rc = damaged(name, -EBADMSG, err);
	if (rc)
		goto out;
	*ret = f;
	return 0;
out:
	saved_close(&f);
	return rc;
}

int saved_read(const struct saved_file *f, const struct iovec *parts, uint32_t n_parts,
	       const _Atomic bool *stop, struct err *err)
{
	uint64_t at = f->data, hash = 0, want;
	int rc = 0;

	for (uint32_t i = 0; i < n_parts && !rc; i++) {
		uint8_t *to = parts[i].iov_base;

		for (size_t left = parts[i].iov_len, n; left && !rc; left -= n, to += n) {
			n = u64_min(left, PIECE);
			rc = given_up(stop) ? -ESHUTDOWN : read_all(f->fd, to, n, at);
			at += n;
		}
		if (!rc)
			hash = hash64(parts[i].iov_base, parts[i].iov_len, hash);
	}
	assert(rc || at == f->data + f->data_bytes);
	if (!rc)
		rc = read_all(f->fd, &want, sizeof(want), at);
	if (!rc && want != hash)
		rc = -EBADMSG;
	return rc ? damaged(f->name, rc, err) : 0;
}

void saved_close(struct saved_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	free(f->owned);
	*f = (struct saved_file){ .fd = -1 };
}
