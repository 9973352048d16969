/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/model/gguf_build.h: writes GGUF headers for tests, into a memfd with a hole for the
 * weights, so that a file of 200 GB costs a few KB. Asserts on its own failures.
 */
#ifndef SLUICE_TEST_GGUF_BUILD_H
#define SLUICE_TEST_GGUF_BUILD_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"
#include "kernels/quant.h"
#include "model/gguf.h"

struct bytes {
	uint8_t *data;
	size_t len, cap;
};

struct gguf_build {
	struct bytes keys, infos;
	uint64_t n_keys, n_tensors, data_bytes;
	int fd;
	char path[64];
};

static inline void put(struct bytes *b, const void *data, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = 2 * (b->len + len);
		b->data = realloc(b->data, b->cap);
		assert(b->data);
	}
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
}

static inline void put_u32(struct bytes *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

static inline void put_u64(struct bytes *b, uint64_t v)
{
	put(b, &v, sizeof(v));
}

static inline void put_text(struct bytes *b, const char *s)
{
	put_u64(b, strlen(s));
	put(b, s, strlen(s));
}

static inline void add_key(struct gguf_build *g, const char *key, uint32_t type, const void *value,
			   size_t len)
{
	put_text(&g->keys, key);
	put_u32(&g->keys, type);
	put(&g->keys, value, len);
	g->n_keys++;
}

static inline void add_u32(struct gguf_build *g, const char *key, uint32_t v)
{
	add_key(g, key, GGUF_U32, &v, sizeof(v));
}

static inline void add_f32(struct gguf_build *g, const char *key, float v)
{
	add_key(g, key, GGUF_F32, &v, sizeof(v));
}

static inline void add_text(struct gguf_build *g, const char *key, const char *s)
{
	add_key(g, key, GGUF_STRING, NULL, 0);
	put_text(&g->keys, s);
}

/* The head of an array; the caller puts the elements behind it. */
static inline struct bytes *add_array(struct gguf_build *g, const char *key, uint32_t elem,
				      uint64_t count)
{
	add_key(g, key, GGUF_ARRAY, &elem, sizeof(elem));
	put_u64(&g->keys, count);
	return &g->keys;
}

/* ne1 and ne2 may be 1; dimensions are written up to the last that is not. */
static inline void add_tensor(struct gguf_build *g, const char *name, uint32_t type, uint64_t ne0,
			      uint64_t ne1, uint64_t ne2)
{
	uint64_t ne[3] = { ne0, ne1, ne2 };
	uint32_t n_dims = ne2 > 1 ? 3 : ne1 > 1 ? 2 : 1;

	put_text(&g->infos, name);
	put_u32(&g->infos, n_dims);
	put(&g->infos, ne, n_dims * sizeof(ne[0]));
	put_u32(&g->infos, type);
	put_u64(&g->infos, g->data_bytes);
	g->data_bytes = align_up(g->data_bytes + quant_row_bytes(type, ne0) * ne1 * ne2, 32);
	g->n_tensors++;
}

/* The whole header in *ret_bytes, caller frees. */
static inline struct bytes header_of(const struct gguf_build *g)
{
	struct bytes b = { 0 };

	put(&b, "GGUF", 4);
	put_u32(&b, 3);
	put_u64(&b, g->n_tensors);
	put_u64(&b, g->n_keys);
	put(&b, g->keys.data, g->keys.len);
	put(&b, g->infos.data, g->infos.len);
	return b;
}

/* Writes @head and a hole of @more bytes; g->path then names the file. */
static inline void save_bytes(struct gguf_build *g, const uint8_t *head, size_t len, uint64_t more)
{
	g->fd = memfd_create("gguf", MFD_CLOEXEC);
	assert(g->fd >= 0);
	assert(write(g->fd, head, len) == (ssize_t)len);
	assert(!ftruncate(g->fd, (off_t)(len + more)));
	snprintf(g->path, sizeof(g->path), "/proc/self/fd/%d", g->fd);
}

static inline void save(struct gguf_build *g)
{
	struct bytes head = header_of(g);

	save_bytes(g, head.data, head.len, align_up(head.len, 32) - head.len + g->data_bytes);
	free(head.data);
}

static inline void build_fini(struct gguf_build *g)
{
	free(g->keys.data);
	free(g->infos.data);
	if (g->fd > 0)
		close(g->fd);
	memset(g, 0, sizeof(*g));
}

#endif
