/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf_parse.c: the header of one GGUF file, byte by byte, untrusted.
 *
 * The header is read with pread into memory that grows with what was really needed; lists grow
 * with what was really found. A count is compared with the bytes that follow before anything is
 * reserved or looped over, so that time and memory are linear in the file's size whatever it
 * claims. Offsets in messages are positions in the file. What the values of keys hold is not looked
 * at here: nobody may ask for them, and then their bytes are nobody's fault (gguf_value.c checks
 * those that somebody asks for).
 * Called by gguf_shard_open() only. Rules: docs/models.md 1.1 and 1.2.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "kernels/quant.h"
#include "model/gguf_impl.h"

#define MIN_KV_BYTES	 14 /* key length, 1 byte of key, type, 1 byte of value */
#define MIN_TENSOR_BYTES 33 /* name length, 1 byte of name, rank, one size, type, offset */
#define FIRST_READ	 (64u << 10)

static const struct {
	const char *name;
	unsigned bytes;
} types[GGUF_TYPE_NR] = {
	[GGUF_U8] = { "u8", 1 },	 [GGUF_I8] = { "i8", 1 },	[GGUF_U16] = { "u16", 2 },
	[GGUF_I16] = { "i16", 2 },	 [GGUF_U32] = { "u32", 4 },	[GGUF_I32] = { "i32", 4 },
	[GGUF_F32] = { "f32", 4 },	 [GGUF_BOOL] = { "bool", 1 },	[GGUF_U64] = { "u64", 8 },
	[GGUF_STRING] = { "string", 0 }, [GGUF_ARRAY] = { "array", 0 }, [GGUF_I64] = { "i64", 8 },
	[GGUF_F64] = { "f64", 8 },
};

unsigned gguf_type_bytes(uint32_t type)
{
	return type < GGUF_TYPE_NR ? types[type].bytes : 0;
}

const char *gguf_type_name(uint32_t type)
{
	return type < GGUF_TYPE_NR ? types[type].name : "unknown";
}

struct cursor {
	struct gguf_shard *s;
	uint64_t pos;
	struct err *err;
};

/* Reads on until the image holds @want bytes; at least doubles, so that copying stays linear. */
static int grow_image(struct cursor *c, uint64_t want)
{
	struct gguf_shard *s = c->s;
	uint64_t len = u64_max(want, u64_max(2 * s->image_len, FIRST_READ));
	uint8_t *image;

	len = u64_min(len, s->file.bytes);
	image = realloc(s->image, len);
	if (!image)
		return err_set(c->err, -ENOMEM, "%s: out of memory for %llu bytes of header",
			       s->label, (unsigned long long)len);
	s->image = image;
	while (s->image_len < len) {
		ssize_t n = pread(s->file.fd, image + s->image_len, len - s->image_len,
				  (off_t)s->image_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int rc = -errno;

			return err_set(c->err, rc, "%s: offset %llu: cannot be read: %s", s->label,
				       (unsigned long long)s->image_len, strerror(-rc));
		}
		if (n == 0)
			return gguf_bad(s, s->image_len, c->err,
					"the file became shorter while it was read");
		s->image_len += (uint64_t)n;
	}
	return 0;
}

/* Makes the next @n bytes present. @what names them in a refusal. */
static int need(struct cursor *c, uint64_t n, const char *what)
{
	struct gguf_shard *s = c->s;

	if (n > s->file.bytes - c->pos)
		return gguf_bad(
			s, c->pos, c->err, "truncated: %s needs %llu bytes, the file has %llu more",
			what, (unsigned long long)n, (unsigned long long)(s->file.bytes - c->pos));
	if (n > GGUF_MAX_HEADER - u64_min(c->pos, GGUF_MAX_HEADER))
		return gguf_bad(s, c->pos, c->err, "%s makes the header larger than 1 GiB", what);
	if (c->pos + n > s->image_len)
		return grow_image(c, c->pos + n);
	return 0;
}

static int take(struct cursor *c, void *ret, unsigned n, const char *what)
{
	int rc = need(c, n, what);

	if (rc)
		return rc;
	memcpy(ret, c->s->image + c->pos, n);
	c->pos += n;
	return 0;
}

static int take_u32(struct cursor *c, uint32_t *ret, const char *what)
{
	return take(c, ret, sizeof(*ret), what);
}

static int take_u64(struct cursor *c, uint64_t *ret, const char *what)
{
	return take(c, ret, sizeof(*ret), what);
}

/* A length and that many bytes; *ret_at is where the bytes are. */
static int take_string(struct cursor *c, uint64_t *ret_at, uint64_t *ret_len, const char *what)
{
	int rc = take_u64(c, ret_len, what);

	if (rc)
		return rc;
	rc = need(c, *ret_len, what);
	if (rc)
		return rc;
	*ret_at = c->pos;
	c->pos += *ret_len;
	return 0;
}

/* A key or tensor name: not empty, bounded, UTF-8 without NUL. */
static int take_name(struct cursor *c, uint64_t max, uint64_t *ret_at, uint64_t *ret_len,
		     const char *what)
{
	uint64_t begin = c->pos;
	const uint8_t *data;
	int rc;

	rc = take_u64(c, ret_len, what);
	if (rc)
		return rc;
	if (*ret_len == 0)
		return gguf_bad(c->s, begin, c->err, "%s is empty", what);
	if (*ret_len > max)
		return gguf_bad(c->s, begin, c->err, "%s claims %llu bytes, more than %llu", what,
				(unsigned long long)*ret_len, (unsigned long long)max);
	rc = need(c, *ret_len, what);
	if (rc)
		return rc;
	data = c->s->image + c->pos;
	if (memchr(data, 0, *ret_len))
		return gguf_bad(c->s, begin, c->err, "%s contains a NUL byte", what);
	if (!gguf_utf8_ok(data, *ret_len))
		return gguf_bad(c->s, begin, c->err, "%s is not UTF-8", what);
	*ret_at = c->pos;
	c->pos += *ret_len;
	return 0;
}

/* Doubles a list that is full. @list points to the pointer. */
static int grow_list(void *list, uint64_t n, uint64_t *cap, size_t size)
{
	uint64_t bytes, more = *cap ? *cap * 2 : 64;
	void *old, *grown;

	if (n < *cap)
		return 0;
	memcpy(&old, list, sizeof(old));
	if (u64_mul_overflow(more, size, &bytes))
		return -ENOMEM;
	grown = realloc(old, bytes);
	if (!grown)
		return -ENOMEM;
	memcpy(list, &grown, sizeof(grown));
	*cap = more;
	return 0;
}

/* Where each string of an array is, so that access by index is O(1). */
static int index_strings(struct cursor *c, struct gguf_kv *kv)
{
	uint64_t at, len;
	int rc;

	kv->strings = malloc((kv->count ? kv->count : 1) * sizeof(*kv->strings));
	if (!kv->strings)
		return err_set(c->err, -ENOMEM, "%s: out of memory", c->s->label);
	for (uint64_t i = 0; i < kv->count; i++) {
		kv->strings[i] = c->pos;
		rc = take_string(c, &at, &len, "an array's string");
		if (rc)
			return rc;
	}
	return 0;
}

static int parse_array(struct cursor *c, struct gguf_kv *kv, const char *key)
{
	uint64_t begin = c->pos, size;
	int rc;

	rc = take_u32(c, &kv->elem, "an array's type");
	if (!rc)
		rc = take_u64(c, &kv->count, "an array's length");
	if (rc)
		return rc;
	if (kv->elem == GGUF_ARRAY)
		return gguf_bad(c->s, begin, c->err, "key %s: an array of arrays", key);
	if (kv->elem >= GGUF_TYPE_NR)
		return gguf_bad(c->s, begin, c->err, "key %s: array elements of unknown type %u",
				key, kv->elem);
	size = kv->elem == GGUF_STRING ? sizeof(uint64_t) : gguf_type_bytes(kv->elem);
	if (kv->count > (c->s->file.bytes - c->pos) / size)
		return gguf_bad(c->s, begin, c->err,
				"key %s: the array claims %llu elements, the file has %llu more "
				"bytes",
				key, (unsigned long long)kv->count,
				(unsigned long long)(c->s->file.bytes - c->pos));
	kv->value = c->pos;
	rc = need(c, kv->count * size, "an array");
	if (rc)
		return rc;
	if (kv->elem == GGUF_STRING)
		return index_strings(c, kv);
	c->pos += kv->count * size;
	return 0;
}

static int parse_value(struct cursor *c, struct gguf_kv *kv, const char *key)
{
	uint64_t begin = c->pos;
	int rc = take_u32(c, &kv->type, "a value's type");

	if (rc)
		return rc;
	kv->count = 1;
	if (kv->type == GGUF_STRING)
		return take_string(c, &kv->value, &kv->count, "a string value");
	if (kv->type == GGUF_ARRAY)
		return parse_array(c, kv, key);
	if (kv->type >= GGUF_TYPE_NR)
		return gguf_bad(c->s, begin, c->err, "key %s: value of unknown type %u", key,
				kv->type);
	rc = need(c, gguf_type_bytes(kv->type), "a value");
	if (rc)
		return rc;
	kv->value = c->pos;
	c->pos += gguf_type_bytes(kv->type);
	return 0;
}

/* NUL-terminated copies of the keys, and none of them twice. */
static int name_keys(struct gguf_shard *s, const uint64_t *name_at, struct err *err)
{
	struct gguf_index index = { 0 };
	uint64_t bytes = 1, twice;
	char *p, name[64];
	int rc;

	for (uint64_t i = 0; i < s->n_kv; i++)
		bytes += s->kv[i].name_len + 1ull;
	p = s->key_names = malloc(bytes);
	if (!p)
		return err_set(err, -ENOMEM, "%s: out of memory", s->label);
	for (uint64_t i = 0; i < s->n_kv; i++) {
		s->kv[i].name = p;
		memcpy(p, s->image + name_at[i], s->kv[i].name_len);
		p += s->kv[i].name_len;
		*p++ = '\0';
	}
	rc = gguf_index_build(&index, s->kv, sizeof(*s->kv), s->n_kv, &twice);
	gguf_index_fini(&index);
	if (rc == -EEXIST)
		return gguf_bad(s, s->kv[twice].at, err, "key %s occurs twice",
				gguf_quote(name, s->kv[twice].name, s->kv[twice].name_len));
	return rc ? err_set(err, rc, "%s: out of memory", s->label) : 0;
}

static int parse_keys(struct cursor *c, uint64_t n)
{
	uint64_t *name_at = NULL, cap = 0, len;
	struct gguf_shard *s = c->s;
	char key[64];
	int rc = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct gguf_kv *kv;

		if (grow_list(&s->kv, i, &s->cap_kv, sizeof(*s->kv)) ||
		    grow_list(&name_at, i, &cap, sizeof(*name_at))) {
			rc = err_set(c->err, -ENOMEM, "%s: out of memory", s->label);
			goto out_free;
		}
		kv = &s->kv[i];
		memset(kv, 0, sizeof(*kv));
		kv->at = c->pos;
		s->n_kv = i + 1;
		rc = take_name(c, GGUF_MAX_KEY, &name_at[i], &len, "a key");
		if (rc)
			goto out_free;
		kv->name_len = (uint32_t)len;
		rc = parse_value(c, kv, gguf_quote(key, s->image + name_at[i], len));
		if (rc)
			goto out_free;
	}
	rc = name_keys(s, name_at, c->err);
out_free:
	free(name_at);
	return rc;
}

static int read_alignment(struct gguf_shard *s, struct err *err)
{
	const struct gguf_kv *kv = gguf_shard_key(s, "general.alignment");
	int rc;

	s->alignment = 32;
	if (!kv)
		return 0;
	rc = gguf_shard_u64(s, kv, &s->alignment, err);
	if (rc)
		return rc;
	if (!is_pow2(s->alignment) || s->alignment > GGUF_MAX_ALIGNMENT)
		return gguf_bad(s, kv->at, err,
				"key general.alignment: %llu is not a power of two from 1 to "
				"1048576",
				(unsigned long long)s->alignment);
	return 0;
}

/* Sizes: product below 2^63, whole blocks per row, bytes that fit. */
static int check_shape(struct cursor *c, struct gguf_entry *e, const char *name)
{
	const struct quant_format *f = quant_format(e->t.type);
	uint64_t elements = 1;

	if (!f)
		return gguf_bad(c->s, e->at, c->err, "tensor %s: unknown type %u", name, e->t.type);
	for (unsigned i = 0; i < e->t.n_dims; i++) {
		if (e->t.ne[i] == 0)
			return gguf_bad(c->s, e->at, c->err, "tensor %s: dimension %u is 0", name,
					i);
		if (u64_mul_overflow(elements, e->t.ne[i], &elements) || elements >> 63)
			return gguf_bad(c->s, e->at, c->err,
					"tensor %s: the product of its dimensions overflows", name);
	}
	if (e->t.ne[0] % f->block)
		return gguf_bad(c->s, e->at, c->err,
				"tensor %s: rows of %llu weights are not whole %s blocks of %u",
				name, (unsigned long long)e->t.ne[0], f->name, f->block);
	if (u64_mul_overflow(elements / f->block, f->bytes, &e->t.bytes) || e->t.bytes >> 63)
		return gguf_bad(c->s, e->at, c->err, "tensor %s: its size in bytes overflows",
				name);
	return 0;
}

static int parse_tensor(struct cursor *c, struct gguf_entry *e)
{
	struct gguf_shard *s = c->s;
	uint64_t at, len;
	char name[64];
	int rc;

	e->at = c->pos;
	rc = take_name(c, GGUF_MAX_NAME, &at, &len, "a tensor's name");
	if (rc)
		return rc;
	memcpy(e->name, s->image + at, len);
	e->name[len] = '\0';
	gguf_quote(name, e->name, len);
	rc = take_u32(c, &e->t.n_dims, "a tensor's rank");
	if (rc)
		return rc;
	if (e->t.n_dims < 1 || e->t.n_dims > 4)
		return gguf_bad(s, e->at, c->err, "tensor %s: %u dimensions, 1 to 4 are possible",
				name, e->t.n_dims);
	for (unsigned i = 0; i < 4; i++)
		e->t.ne[i] = 1;
	for (unsigned i = 0; i < e->t.n_dims && !rc; i++)
		rc = take_u64(c, &e->t.ne[i], "a tensor's dimensions");
	if (!rc)
		rc = take_u32(c, &e->t.type, "a tensor's type");
	if (!rc)
		rc = take_u64(c, &e->t.offset, "a tensor's offset");
	return rc ? rc : check_shape(c, e, name);
}

static int parse_tensors(struct cursor *c, uint64_t n)
{
	struct gguf_shard *s = c->s;
	int rc;

	for (uint64_t i = 0; i < n; i++) {
		rc = grow_list(&s->tensors, i, &s->cap_tensors, sizeof(*s->tensors));
		if (rc)
			return err_set(c->err, rc, "%s: out of memory", s->label);
		memset(&s->tensors[i], 0, sizeof(s->tensors[i]));
		rc = parse_tensor(c, &s->tensors[i]);
		if (rc)
			return rc;
		s->n_tensors = i + 1;
	}
	return 0;
}

static int check_counts(struct cursor *c, uint64_t n_tensors, uint64_t n_kv)
{
	uint64_t left = c->s->file.bytes - c->pos;

	if (n_tensors > left / MIN_TENSOR_BYTES)
		return gguf_bad(c->s, 8, c->err,
				"the file claims %llu tensors, but only %llu bytes follow",
				(unsigned long long)n_tensors, (unsigned long long)left);
	if (n_kv > left / MIN_KV_BYTES)
		return gguf_bad(c->s, 16, c->err,
				"the file claims %llu key-value pairs, but only %llu bytes follow",
				(unsigned long long)n_kv, (unsigned long long)left);
	return 0;
}

static int refuse_stranger(const struct cursor *c)
{
	struct gguf_head head = { .data = c->s->image,
				  .len = u64_min(c->s->image_len, GGUF_HEAD_BYTES),
				  .file_bytes = c->s->file.bytes };
	char what[256];

	gguf_describe_stranger(&head, what, sizeof(what));
	return gguf_bad(c->s, 0, c->err, "not a GGUF file%s", what);
}

static int parse_fixed(struct cursor *c, uint64_t *n_tensors, uint64_t *n_kv)
{
	struct gguf_shard *s = c->s;
	uint8_t magic[4];
	int rc;

	rc = take(c, magic, sizeof(magic), "the magic number");
	if (rc)
		return rc;
	if (memcmp(magic, "GGUF", 4))
		return refuse_stranger(c);
	rc = take_u32(c, &s->version, "the version");
	if (rc)
		return rc;
	if (s->version && !(s->version & 0xffff))
		return gguf_bad(s, 4, c->err,
				"a big-endian GGUF file (its version reads 0x%08x); only "
				"little-endian files are supported",
				s->version);
	if (s->version != 2 && s->version != 3)
		return gguf_bad(s, 4, c->err, "GGUF version %u; versions 2 and 3 are supported",
				s->version);
	rc = take_u64(c, n_tensors, "the tensor count");
	if (!rc)
		rc = take_u64(c, n_kv, "the key-value count");
	return rc ? rc : check_counts(c, *n_tensors, *n_kv);
}

int gguf_parse(struct gguf_shard *s, struct err *err)
{
	struct cursor c = { .s = s, .err = err };
	uint64_t n_tensors = 0, n_kv = 0;
	int rc;

	rc = parse_fixed(&c, &n_tensors, &n_kv);
	if (!rc)
		rc = parse_keys(&c, n_kv);
	if (!rc)
		rc = read_alignment(s, err);
	if (!rc)
		rc = parse_tensors(&c, n_tensors);
	if (rc)
		return rc;
	return gguf_place_tensors(s, c.pos, err);
}
