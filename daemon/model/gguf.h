/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf.h: the GGUF container, v2 and v3, single and split files.
 *
 * Reads and validates the header of every shard: key-value pairs, tensor directory, offsets. It
 * knows containers, not architectures; what the values of keys hold is checked when asked for. Input
 * is untrusted: work and memory are linear in what the file really holds, never in what it claims.
 * Files stay open (O_RDONLY | O_CLOEXEC, regular files only) so that a model renamed over while we
 * run stays the one that was validated.
 * Layout: GGUF specification in ggml's repository; rules in docs/models.md sections 1.1-1.3.
 * Constant after gguf_open(); any thread.
 */
#ifndef SLUICE_MODEL_GGUF_H
#define SLUICE_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum gguf_type {
	GGUF_U8,
	GGUF_I8,
	GGUF_U16,
	GGUF_I16,
	GGUF_U32,
	GGUF_I32,
	GGUF_F32,
	GGUF_BOOL,
	GGUF_STRING,
	GGUF_ARRAY,
	GGUF_U64,
	GGUF_I64,
	GGUF_F64,
	GGUF_TYPE_NR,
};

/* Bytes in the header image, not NUL-terminated, valid as long as the gguf. */
struct gguf_str {
	const char *data;
	uint64_t len;
};

struct gguf_tensor {
	const char *name; /* NUL-terminated copy */
	uint32_t type;	  /* ggml type id, known to quant_format() */
	uint32_t n_dims;
	uint64_t ne[4];	 /* fastest first; missing dims are 1 */
	uint32_t file;	 /* shard index */
	uint64_t offset; /* absolute in that shard */
	uint64_t bytes;
};

struct gguf_file {
	const char *path;
	int fd;
	uint64_t bytes;
	uint64_t data_offset; /* start of the data section */
	uint64_t device, inode;
	int64_t mtime_ns;
};

struct gguf;

/*
 * Opens @path, and where it is shard 0 of a split model its siblings beside it by name. 0 or -errno
 * with "<file>: offset <n>: <reason>" (or the key or tensor at fault) in @err.
 */
int gguf_open(const char *path, struct gguf **ret, struct err *err);
void gguf_destroy(struct gguf *g); /* closes the files; NULL is fine */

uint32_t gguf_n_files(const struct gguf *g);
const struct gguf_file *gguf_file(const struct gguf *g, uint32_t i);
uint32_t gguf_version(const struct gguf *g);

uint64_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, uint64_t i);
/* NULL where there is none of that name. O(1) expected. */
const struct gguf_tensor *gguf_find(const struct gguf *g, const char *name);
/* The i for which gguf_tensor(g, i) == @t. */
uint64_t gguf_tensor_index(const struct gguf *g, const struct gguf_tensor *t);
/* The path of file @i, shortened where it is too long for a message. */
const char *gguf_label(const struct gguf *g, uint32_t i);
/* Where tensor @t is described in its file's header: the offset that a refusal names. */
uint64_t gguf_tensor_at(const struct gguf *g, const struct gguf_tensor *t);

/*
 * Keys of shard 0. All return 0, -ENOENT (no such key), or -EINVAL (it has another type or does not
 * fit; @err, if given, names file and key). Integers are accepted in any width and sign that holds
 * the value; floats in f32 or f64.
 */
bool gguf_has(const struct gguf *g, const char *key);
int gguf_u32(const struct gguf *g, const char *key, uint32_t *ret, struct err *err);
int gguf_u64(const struct gguf *g, const char *key, uint64_t *ret, struct err *err);
int gguf_f32(const struct gguf *g, const char *key, float *ret, struct err *err);
int gguf_bool(const struct gguf *g, const char *key, bool *ret, struct err *err);
/* UTF-8 without NUL, else -EINVAL. */
int gguf_str(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *err);
/* The bytes of a string as they are: for what is shown (with '?') or only searched. */
int gguf_bytes(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *err);

/*
 * Arrays: count, then element access by index. Strings take O(1) each. i64 takes integers of any
 * width and bools (0 or 1), f64 takes f32 and f64. 0, -ENOENT, or -EINVAL (no array, i >= count, another
 * element type).
 */
int gguf_array(const struct gguf *g, const char *key, enum gguf_type *ret_type, uint64_t *ret_count,
	       struct err *err);
int gguf_array_str(const struct gguf *g, const char *key, uint64_t i, struct gguf_str *ret);
int gguf_array_i64(const struct gguf *g, const char *key, uint64_t i, int64_t *ret);
int gguf_array_f64(const struct gguf *g, const char *key, uint64_t i, double *ret);

/* For inspect: key i of shard 0 (i < gguf_n_keys), its type, and its value as short text. */
uint64_t gguf_n_keys(const struct gguf *g);
const char *gguf_key_name(const struct gguf *g, uint64_t i);
char *gguf_key_text(const struct gguf *g, uint64_t i, char *buf, size_t len);

/* Key i as it stands in the file, valid as long as the gguf: for whoever compares models. */
struct gguf_raw {
	uint32_t type, elem;   /* enum gguf_type; @elem: of an array, else 0 */
	uint64_t count;	       /* elements of an array, bytes of a string, else 1 */
	struct gguf_str value; /* strings of an array each with the length before it */
};
struct gguf_raw gguf_key_raw(const struct gguf *g, uint64_t i);

#endif
