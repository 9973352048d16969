/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf_split.c: a model cut into <prefix>-00001-of-000NN.gguf and its siblings.
 *
 * The first part is the one that is opened: it holds the metadata. The others are looked for
 * beside it, by name only (model caches are full of links, so links are followed, but no name that
 * a file contains is ever opened). Each must say which part it is, of how many; together they must
 * hold the number of tensors that the first part promises. Every refusal names the part.
 * Called by gguf_open(). Rules: docs/models.md 1.3.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_impl.h"

#define SUFFIX_BYTES 20 /* "-00001-of-00003.gguf" */

struct split_keys {
	uint64_t no, count; /* 0 of 1 where the file does not say */
	uint64_t tensors;   /* UINT64_MAX where it does not say */
};

static int read_key(const struct gguf_shard *s, const char *name, uint64_t *value, struct err *err)
{
	const struct gguf_kv *kv = gguf_shard_key(s, name);

	return kv ? gguf_shard_u64(s, kv, value, err) : 0;
}

static int read_split_keys(const struct gguf_shard *s, struct split_keys *keys, struct err *err)
{
	int rc;

	*keys = (struct split_keys){ 0, 1, UINT64_MAX };
	rc = read_key(s, "split.no", &keys->no, err);
	if (!rc)
		rc = read_key(s, "split.count", &keys->count, err);
	if (!rc)
		rc = read_key(s, "split.tensors.count", &keys->tensors, err);
	return rc;
}

/* The path of part @no (0-based), malloc'd. */
static char *part_path(const char *first, uint64_t no, uint64_t count)
{
	size_t stem = strlen(first) - SUFFIX_BYTES;
	char *path;

	if (asprintf(&path, "%.*s-%05u-of-%05u.gguf", (int)stem, first, (unsigned)no + 1,
		     (unsigned)count) < 0)
		return NULL;
	return path;
}

/* The first part's own name must have the form that its siblings' names are made from. */
static int check_name(const struct gguf_shard *s, uint64_t count, struct err *err)
{
	char suffix[SUFFIX_BYTES + 1];
	size_t len = strlen(s->path);

	snprintf(suffix, sizeof(suffix), "-00001-of-%05u.gguf", (unsigned)count);
	if (len > SUFFIX_BYTES && len < 4096 && !strcmp(s->path + len - SUFFIX_BYTES, suffix))
		return 0;
	return err_set(err, -EINVAL,
		       "%s: the first of %u parts, but its name does not end in %s, so the others "
		       "cannot be found",
		       s->label, (unsigned)count, suffix);
}

static int check_part(const struct gguf *g, const struct gguf_shard *part, uint64_t no,
		      const struct split_keys *whole, struct err *err)
{
	const struct gguf_shard *first = &g->shards[0];
	const struct gguf_kv *arch = gguf_shard_key(part, "general.architecture");
	const struct gguf_kv *same = gguf_shard_key(first, "general.architecture");
	struct split_keys keys;
	int rc = read_split_keys(part, &keys, err);

	if (rc)
		return rc;
	if (!gguf_shard_key(part, "split.no") || !gguf_shard_key(part, "split.count"))
		return err_set(err, -EINVAL,
			       "%s: not a part of a split model: keys split.no and split.count are "
			       "missing",
			       part->label);
	if (keys.no != no || keys.count != whole->count)
		return err_set(err, -EINVAL,
			       "%s: keys split.no and split.count say part %llu of %llu, but this "
			       "name belongs to part %llu of %llu",
			       part->label, (unsigned long long)keys.no + 1,
			       (unsigned long long)keys.count, (unsigned long long)no + 1,
			       (unsigned long long)whole->count);
	if (keys.tensors != UINT64_MAX && keys.tensors != whole->tensors)
		return err_set(err, -EINVAL,
			       "%s: key split.tensors.count is %llu, in the first part %llu: a "
			       "part of another model",
			       part->label, (unsigned long long)keys.tensors,
			       (unsigned long long)whole->tensors);
	if (arch && same &&
	    (arch->type != same->type || arch->count != same->count ||
	     memcmp(part->image + arch->value, first->image + same->value,
		    arch->type == GGUF_STRING ? arch->count : 0)))
		return err_set(err, -EINVAL,
			       "%s: key general.architecture differs from the first part: a part "
			       "of another model",
			       part->label);
	return 0;
}

/* Its keys have been read; only the tensors are needed from here on. */
static void drop_header(struct gguf_shard *s)
{
	for (uint64_t i = 0; i < s->n_kv; i++)
		free(s->kv[i].strings);
	free(s->kv);
	free(s->key_names);
	free(s->image);
	s->kv = NULL;
	s->key_names = NULL;
	s->image = NULL;
	s->n_kv = 0;
	s->image_len = 0;
}

static int open_part(struct gguf *g, uint64_t no, const struct split_keys *whole, struct err *err)
{
	struct gguf_shard *part = &g->shards[no];
	char *path = part_path(g->shards[0].path, no, whole->count);
	int rc;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	g->n_shards = (uint32_t)no + 1;
	rc = gguf_shard_open(part, path, err);
	free(path);
	if (rc)
		return err_prefix(err, rc, "part %llu of %llu", (unsigned long long)no + 1,
				  (unsigned long long)whole->count);
	rc = check_part(g, part, no, whole, err);
	if (!rc)
		drop_header(part);
	return rc;
}

/* Another part than the first was given: names the first where this one's name tells it. */
static int refuse_other_part(const struct gguf_shard *s, const struct split_keys *keys,
			     struct err *err)
{
	const char *slash = strrchr(s->path, '/'), *name = slash ? slash + 1 : s->path;
	char suffix[SUFFIX_BYTES + 1], *first = NULL;
	size_t len = strlen(name);

	snprintf(suffix, sizeof(suffix), "-%05u-of-%05u.gguf", (unsigned)keys->no + 1,
		 (unsigned)keys->count);
	if (len > SUFFIX_BYTES && !strcmp(name + len - SUFFIX_BYTES, suffix))
		first = part_path(name, 0, keys->count);
	err_set(err, -EINVAL,
		"%s: part %llu of %llu of a split model (key split.no); open the first part%s%.200s",
		s->label, (unsigned long long)keys->no + 1, (unsigned long long)keys->count,
		first ? ", " : "", first ? first : "");
	free(first);
	return -EINVAL;
}

static int check_first(const struct gguf_shard *first, const struct split_keys *keys,
		       struct err *err)
{
	if (keys->no)
		return refuse_other_part(first, keys, err);
	if (keys->count <= 1 && keys->tensors != UINT64_MAX && keys->tensors != first->n_tensors)
		return err_set(err, -EINVAL,
			       "%s: key split.tensors.count promises %llu tensors and split.count "
			       "no other part, but the file holds %llu",
			       first->label, (unsigned long long)keys->tensors,
			       (unsigned long long)first->n_tensors);
	if (keys->count > GGUF_MAX_SPLITS)
		return err_set(err, -EINVAL, "%s: key split.count: %llu parts, more than %u",
			       first->label, (unsigned long long)keys->count, GGUF_MAX_SPLITS);
	if (keys->count > 1 && keys->tensors == UINT64_MAX)
		return err_set(err, -EINVAL, "%s: key split.tensors.count is missing",
			       first->label);
	return 0;
}

int gguf_open_siblings(struct gguf *g, struct err *err)
{
	struct gguf_shard *shards;
	struct split_keys keys;
	uint64_t found = 0;
	int rc;

	rc = read_split_keys(&g->shards[0], &keys, err);
	if (rc)
		return rc;
	rc = check_first(&g->shards[0], &keys, err);
	if (rc || keys.count <= 1)
		return rc;
	rc = check_name(&g->shards[0], keys.count, err);
	if (rc)
		return rc;
	shards = realloc(g->shards, keys.count * sizeof(*shards));
	if (!shards)
		return err_set(err, -ENOMEM, "out of memory");
	memset(shards + 1, 0, (keys.count - 1) * sizeof(*shards));
	g->shards = shards;
	for (uint64_t i = 1; i < keys.count && !rc; i++)
		rc = open_part(g, i, &keys, err);
	if (rc)
		return rc;
	for (uint64_t i = 0; i < keys.count; i++)
		found += g->shards[i].n_tensors;
	if (found != keys.tensors)
		return err_set(err, -EINVAL,
			       "%s: key split.tensors.count promises %llu tensors, the %llu parts "
			       "hold %llu",
			       g->shards[0].label, (unsigned long long)keys.tensors,
			       (unsigned long long)keys.count, (unsigned long long)found);
	return 0;
}
