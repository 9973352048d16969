/* SPDX-License-Identifier: MIT */
/* daemon/model/identity.c: see identity.h. */
#include "model/identity.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "model/gguf.h"

/* Keys of the container alone: how a model is split into files. */
static bool is_of_files(const char *key)
{
	return !strncmp(key, "split.", 6);
}

static uint64_t hash_keys(const struct gguf *g, uint64_t h)
{
	char text[256];

	for (uint64_t i = 0; i < gguf_n_keys(g); i++) {
		const char *name = gguf_key_name(g, i);

		if (is_of_files(name))
			continue;
		h = hash64(name, strlen(name), h);
		gguf_key_text(g, i, text, sizeof(text));
		h = hash64(text, strlen(text), h);
	}
	return h;
}

/* Ids mean what the vocabulary says. */
static uint64_t hash_vocabulary(const struct gguf *g, uint64_t h)
{
	static const char key[] = "tokenizer.ggml.tokens";
	struct gguf_str s;

	for (uint64_t i = 0; !gguf_array_str(g, key, i, &s); i++)
		h = hash64(s.data, s.len, h);
	return h;
}

static int read_all(int fd, uint8_t *to, size_t n, uint64_t at)
{
	while (n) {
		ssize_t got = pread(fd, to, n, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ENODATA;
		to += got;
		n -= (size_t)got;
		at += (uint64_t)got;
	}
	return 0;
}

static int hash_tensor(const struct gguf *g, const struct gguf_tensor *t, uint64_t *h,
		       struct err *err)
{
	uint64_t n = t->bytes < IDENTITY_BYTES ? t->bytes : IDENTITY_BYTES;
	uint8_t some[IDENTITY_BYTES];
	int rc = read_all(gguf_file(g, t->file)->fd, some, n, t->offset + (t->bytes - n) / 2);

	if (rc)
		return err_set(err, rc, "%s: tensor %s: %s", gguf_label(g, t->file), t->name,
			       strerror(-rc));
	*h = hash64(t->name, strlen(t->name), *h);
	*h = hash64(&t->type, sizeof(t->type), *h);
	*h = hash64(t->ne, sizeof(t->ne), *h);
	*h = hash64(&t->bytes, sizeof(t->bytes), *h);
	*h = hash64(some, n, *h);
	return 0;
}

int model_identity(const struct gguf *g, uint64_t *ret, struct err *err)
{
	uint64_t h = hash_vocabulary(g, hash_keys(g, 0));
	int rc = 0;

	for (uint64_t i = 0; i < gguf_n_tensors(g) && !rc; i++)
		rc = hash_tensor(g, gguf_tensor(g, i), &h, err);
	if (!rc)
		*ret = h;
	return rc;
}
