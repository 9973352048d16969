/* SPDX-License-Identifier: MIT */
/* daemon/model/identity.c: see identity.h. */
#include "model/identity.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/read_at.h"
#include "model/gguf.h"

/* Keys of the container alone: how a model is split into files. */
static bool is_of_files(const char *key)
{
	return !strncmp(key, "split.", 6);
}

/* As they stand in the file: what is shown of them is cut and rounded. The vocabulary is among them. */
static uint64_t hash_keys(const struct gguf *g, uint64_t h)
{
	for (uint64_t i = 0; i < gguf_n_keys(g); i++) {
		const char *name = gguf_key_name(g, i);
		struct gguf_raw raw;

		if (is_of_files(name))
			continue;
		raw = gguf_key_raw(g, i);
		h = hash64(name, strlen(name) + 1, h);
		h = hash64(&raw.type, sizeof(raw.type), h);
		h = hash64(&raw.elem, sizeof(raw.elem), h);
		h = hash64(&raw.count, sizeof(raw.count), h);
		h = hash64(raw.value.data, raw.value.len, h);
	}
	return h;
}

static int hash_tensor(const struct gguf *g, const struct gguf_tensor *t, uint64_t *h,
		       struct err *err)
{
	uint64_t n = t->bytes < IDENTITY_BYTES ? t->bytes : IDENTITY_BYTES;
	uint8_t some[IDENTITY_BYTES];
	int rc = read_at(gguf_file(g, t->file)->fd, some, n, t->offset + (t->bytes - n) / 2);

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

int model_identity(const struct gguf *g, const _Atomic bool *stop, uint64_t *ret, struct err *err)
{
	uint64_t h = hash_keys(g, 0);
	int rc = 0;

	for (uint64_t i = 0; i < gguf_n_tensors(g) && !rc; i++)
		rc = stop && atomic_load_explicit(stop, memory_order_relaxed)
			     ? err_set(err, -ESHUTDOWN, "the daemon is stopping")
			     : hash_tensor(g, gguf_tensor(g, i), &h, err);
	if (!rc)
		*ret = h;
	return rc;
}
