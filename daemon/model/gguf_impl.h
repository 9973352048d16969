/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf_impl.h: what the files of the GGUF reader share; nobody else includes it.
 *
 * A shard is one file: its descriptor, the image of its header read into memory (never mapped, so
 * that a file cut short while we run cannot raise SIGBUS), and what the header said. gguf_parse.c
 * fills it, gguf_split.c joins several, gguf_value.c answers questions about keys.
 * Owned by the thread that opens; constant afterwards.
 */
#ifndef SLUICE_MODEL_GGUF_IMPL_H
#define SLUICE_MODEL_GGUF_IMPL_H

#include "model/gguf.h"

#define GGUF_MAX_HEADER	   (1ull << 30) /* bytes of one header image */
#define GGUF_MAX_KEY	   65535	/* the specification's own limit */
#define GGUF_MAX_NAME	   63		/* tensor names, without the NUL */
#define GGUF_MAX_ALIGNMENT (1ull << 20)
#define GGUF_HEAD_BYTES	   512	/* looked at to say what a file is that is not GGUF */
#define GGUF_MAX_SPLITS	   4096 /* each part holds a descriptor */

struct gguf_kv {
	const char *name; /* into shard.key_names, NUL-terminated */
	uint64_t at;	  /* where the pair begins in the file */
	uint32_t name_len;
	uint32_t type;	   /* enum gguf_type */
	uint32_t elem;	   /* of an array */
	uint64_t value;	   /* first payload byte in the image (strings: of the text) */
	uint64_t count;	   /* elements of an array, bytes of a string, else 1 */
	uint64_t *strings; /* array of strings: where each element's length field is */
};

struct gguf_entry {
	struct gguf_tensor t;
	uint64_t at; /* where its description begins in the header */
	char name[GGUF_MAX_NAME + 1];
};

struct gguf_shard {
	struct gguf_file file;
	char *path;	/* file.path */
	char *label;	/* the path, shortened for messages */
	uint8_t *image; /* header bytes read so far */
	uint64_t image_len;
	uint32_t version;
	uint64_t alignment;
	uint64_t n_kv, cap_kv;
	struct gguf_kv *kv;
	char *key_names;
	uint64_t n_tensors, cap_tensors;
	struct gguf_entry *tensors;
};

/* Names to positions: open addressing, keyed with random bits so that no file can make it slow. */
struct gguf_index {
	uint64_t key[2];
	uint64_t mask;
	uint32_t *slots; /* position + 1, 0 = free */
	const char *base;
	size_t stride; /* names are the const char * at base + i * stride */
};

struct gguf {
	uint32_t n_shards;
	struct gguf_shard *shards;
	struct gguf_entry *tensors; /* of all shards, in order */
	uint64_t n_tensors;
	struct gguf_index tensor_index;
	struct gguf_index key_index; /* keys of shard 0 */
};

/*
 * Opens @path, checks that it is a regular file and reads its header. @s is zeroed by the caller
 * and released with gguf_shard_fini() whatever came of it. 0 or -errno and a sentence.
 */
int gguf_shard_open(struct gguf_shard *s, const char *path, struct err *err);
void gguf_shard_fini(struct gguf_shard *s);

/* gguf_parse.c: reads and checks the header of an open shard. 0 or -errno and a sentence. */
int gguf_parse(struct gguf_shard *s, struct err *err);

/*
 * gguf_place.c: gives every tensor of @s its place in the file (and the file its data_offset) and
 * checks that all of them are there. @header_end: where the descriptions end. 0 or -errno and a
 * sentence.
 */
int gguf_place_tensors(struct gguf_shard *s, uint64_t header_end, struct err *err);

/* The first bytes of a file, for gguf_describe_stranger(). */
struct gguf_head {
	const uint8_t *data;
	size_t len; /* at least 4, at most GGUF_HEAD_BYTES */
	uint64_t file_bytes;
};

/*
 * gguf_stranger.c: how a sentence that begins "not a GGUF file" goes on for a file with this
 * beginning: what it is and what to do about it. Writes at most @len bytes with the NUL.
 */
void gguf_describe_stranger(const struct gguf_head *h, char *buf, size_t len);

/* gguf_split.c: opens the siblings of shard 0, if it is one of several. 0 or -errno. */
int gguf_open_siblings(struct gguf *g, struct err *err);

/* "<file>: offset <at>: <reason>"; returns -EINVAL. */
int gguf_bad(const struct gguf_shard *s, uint64_t at, struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* At most 60 bytes of @data, what cannot be printed replaced by '?'. Returns @buf. */
char *gguf_quote(char buf[64], const void *data, uint64_t len);

/*
 * At most @size - 1 bytes of @data, whole characters only, what cannot be printed replaced by '?',
 * and a NUL. Returns how many bytes of @data that took.
 */
uint64_t gguf_printable(char *buf, size_t size, const void *data, uint64_t len);

bool gguf_utf8_ok(const void *data, uint64_t len);

/*
 * Indexes @n names. 0, -ENOMEM, or -EEXIST with the position of the second of two equal names in
 * *ret_twice.
 */
int gguf_index_build(struct gguf_index *index, const void *base, size_t stride, uint64_t n,
		     uint64_t *ret_twice);
void gguf_index_fini(struct gguf_index *index);
/* Position of @name or UINT64_MAX. */
uint64_t gguf_index_find(const struct gguf_index *index, const char *name);

/* An integer key of one shard in any width. 0, -ENOENT, -EINVAL with a sentence. */
int gguf_shard_u64(const struct gguf_shard *s, const struct gguf_kv *kv, uint64_t *ret,
		   struct err *err);
/* The pair of that name in @s by linear search (a shard after the first has few), or NULL. */
const struct gguf_kv *gguf_shard_key(const struct gguf_shard *s, const char *name);

/* Bytes of one value of a fixed-size type, 0 for strings, arrays and unknown types. */
unsigned gguf_type_bytes(uint32_t type);
const char *gguf_type_name(uint32_t type);

#endif
