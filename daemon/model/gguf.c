/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf.c: opening a GGUF model and the directory of its tensors.
 *
 * Owns the descriptors of all parts. Refuses what is not a regular file (opened without blocking,
 * so that a FIFO cannot hang us) and names that occur twice. Parsing is in gguf_parse.c, joining
 * of parts in gguf_split.c, keys in gguf_value.c. Called once per model by model_open() and by
 * the tools; constant afterwards, any thread.
 */
#include "model/gguf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/gguf_impl.h"

/* The index finds names at the start of each record. */
static_assert(offsetof(struct gguf_kv, name) == 0, "name first");
static_assert(offsetof(struct gguf_entry, t) == 0, "a tensor is its entry");
static_assert(offsetof(struct gguf_tensor, name) == 0, "name first");

#define LABEL_BYTES 200 /* of a path in a message: struct err is 512 bytes in all */

int gguf_bad(const struct gguf_shard *s, uint64_t at, struct err *err, const char *fmt, ...)
{
	char reason[sizeof(err->text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return err_set(err, -EINVAL, "%s: offset %llu: %s", s->label, (unsigned long long)at,
		       reason);
}

static const char *what_it_is(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a FIFO";
	case S_IFCHR:
	case S_IFBLK:
		return "a device";
	case S_IFSOCK:
		return "a socket";
	default:
		return "something else";
	}
}

static char *make_label(const char *path)
{
	size_t len = strlen(path);
	char *label;

	if (len <= LABEL_BYTES)
		return strdup(path);
	if (asprintf(&label, "...%s", path + len - LABEL_BYTES) < 0)
		return NULL;
	return label;
}

int gguf_shard_open(struct gguf_shard *s, const char *path, struct err *err)
{
	struct stat st;
	int rc;

	s->file.fd = -1;
	s->path = strdup(path);
	s->label = make_label(path);
	if (!s->path || !s->label)
		return err_set(err, -ENOMEM, "out of memory");
	s->file.path = s->path;
	s->file.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (s->file.fd < 0) {
		rc = -errno;
		return err_set(err, rc, "%s: cannot be opened: %s", s->label, strerror(-rc));
	}
	if (fstat(s->file.fd, &st)) {
		rc = -errno;
		return err_set(err, rc, "%s: %s", s->label, strerror(-rc));
	}
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: not a regular file but %s", s->label,
			       what_it_is(st.st_mode));
	s->file.bytes = (uint64_t)st.st_size;
	s->file.device = st.st_dev;
	s->file.inode = st.st_ino;
	s->file.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	return gguf_parse(s, err);
}

void gguf_shard_fini(struct gguf_shard *s)
{
	if (s->path && s->file.fd >= 0)
		close(s->file.fd);
	for (uint64_t i = 0; i < s->n_kv; i++)
		free(s->kv[i].strings);
	free(s->kv);
	free(s->key_names);
	free(s->tensors);
	free(s->image);
	free(s->label);
	free(s->path);
}

/* One directory of all shards; their own lists are not needed any more. */
static int join_tensors(struct gguf *g, struct err *err)
{
	uint64_t n = 0, twice;
	char name[64];
	int rc;

	for (uint32_t i = 0; i < g->n_shards; i++)
		n += g->shards[i].n_tensors;
	g->tensors = calloc(n ? n : 1, sizeof(*g->tensors));
	if (!g->tensors)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < g->n_shards; i++) {
		struct gguf_shard *s = &g->shards[i];

		for (uint64_t k = 0; k < s->n_tensors; k++) {
			struct gguf_entry *e = &g->tensors[g->n_tensors++];

			*e = s->tensors[k];
			e->t.name = e->name;
			e->t.file = i;
		}
		free(s->tensors);
		s->tensors = NULL;
	}
	rc = gguf_index_build(&g->tensor_index, g->tensors, sizeof(*g->tensors), n, &twice);
	if (rc == -EEXIST) {
		const struct gguf_entry *e = &g->tensors[twice];

		return gguf_bad(&g->shards[e->t.file], e->at, err,
				"tensor %s: the name occurs twice",
				gguf_quote(name, e->name, strlen(e->name)));
	}
	return rc ? err_set(err, rc, "out of memory") : 0;
}

int gguf_open(const char *path, struct gguf **ret, struct err *err)
{
	struct gguf *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return err_set(err, -ENOMEM, "out of memory");
	g->shards = calloc(1, sizeof(*g->shards));
	if (!g->shards) {
		rc = err_set(err, -ENOMEM, "out of memory");
		goto out_destroy;
	}
	g->n_shards = 1;
	rc = gguf_shard_open(&g->shards[0], path, err);
	if (rc)
		goto out_destroy;
	rc = gguf_open_siblings(g, err);
	if (rc)
		goto out_destroy;
	rc = gguf_index_build(&g->key_index, g->shards[0].kv, sizeof(struct gguf_kv),
			      g->shards[0].n_kv, NULL);
	if (rc) {
		err_set(err, rc, "out of memory");
		goto out_destroy;
	}
	rc = join_tensors(g, err);
	if (rc)
		goto out_destroy;
	*ret = g;
	return 0;
out_destroy:
	gguf_destroy(g);
	return rc;
}

void gguf_destroy(struct gguf *g)
{
	if (!g)
		return;
	gguf_index_fini(&g->tensor_index);
	gguf_index_fini(&g->key_index);
	free(g->tensors);
	for (uint32_t i = 0; i < g->n_shards; i++)
		gguf_shard_fini(&g->shards[i]);
	free(g->shards);
	free(g);
}

uint32_t gguf_n_files(const struct gguf *g)
{
	return g->n_shards;
}

const struct gguf_file *gguf_file(const struct gguf *g, uint32_t i)
{
	return &g->shards[i].file;
}

uint32_t gguf_version(const struct gguf *g)
{
	return g->shards[0].version;
}

uint64_t gguf_n_tensors(const struct gguf *g)
{
	return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, uint64_t i)
{
	return &g->tensors[i].t;
}

const struct gguf_tensor *gguf_find(const struct gguf *g, const char *name)
{
	uint64_t i = gguf_index_find(&g->tensor_index, name);

	return i == UINT64_MAX ? NULL : &g->tensors[i].t;
}

uint64_t gguf_tensor_index(const struct gguf *g, const struct gguf_tensor *t)
{
	return (uint64_t)((const struct gguf_entry *)t - g->tensors);
}

uint64_t gguf_tensor_at(const struct gguf *g, const struct gguf_tensor *t)
{
	return g->tensors[gguf_tensor_index(g, t)].at;
}

const char *gguf_label(const struct gguf *g, uint32_t i)
{
	return g->shards[i].label;
}
