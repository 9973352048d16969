/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf_value.c: the values of keys, in the types that callers ask for.
 *
 * An integer is taken from any width and sign that holds the value, because writers differ; a
 * number is never taken from text, a float never from an integer, a bool from nothing else. Text and
 * bools are checked when somebody asks for them and not before: a description in some old code
 * page refuses no model. Refusals name file and key. Reads the header image only. Any thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/gguf_impl.h"

#define TEXT_ELEMENTS 8 /* of an array shown by gguf_key_text() */

struct integer {
	bool negative;
	uint64_t magnitude;
};

static struct integer from_i64(int64_t v)
{
	return (struct integer){ v < 0, v < 0 ? 0 - (uint64_t)v : (uint64_t)v };
}

/* The integer or bool of @type at @p; false for other types. */
static bool load_integer(uint32_t type, const uint8_t *p, struct integer *ret)
{
	union {
		uint8_t u8;
		int8_t i8;
		uint16_t u16;
		int16_t i16;
		uint32_t u32;
		int32_t i32;
		uint64_t u64;
		int64_t i64;
	} v;

	if (type == GGUF_F32 || type == GGUF_F64 || !gguf_type_bytes(type))
		return false;
	memcpy(&v, p, gguf_type_bytes(type));
	switch (type) {
	case GGUF_U8:
	case GGUF_BOOL:
		*ret = (struct integer){ false, v.u8 };
		return true;
	case GGUF_U16:
		*ret = (struct integer){ false, v.u16 };
		return true;
	case GGUF_U32:
		*ret = (struct integer){ false, v.u32 };
		return true;
	case GGUF_U64:
		*ret = (struct integer){ false, v.u64 };
		return true;
	case GGUF_I8:
		*ret = from_i64(v.i8);
		return true;
	case GGUF_I16:
		*ret = from_i64(v.i16);
		return true;
	case GGUF_I32:
		*ret = from_i64(v.i32);
		return true;
	default:
		*ret = from_i64(v.i64);
		return true;
	}
}

static bool load_float(uint32_t type, const uint8_t *p, double *ret)
{
	float f;

	if (type == GGUF_F64) {
		memcpy(ret, p, sizeof(*ret));
		return true;
	}
	if (type != GGUF_F32)
		return false;
	memcpy(&f, p, sizeof(f));
	*ret = f;
	return true;
}

static int wrong_type(const struct gguf_shard *s, const struct gguf_kv *kv, const char *wanted,
		      struct err *err)
{
	char key[64];

	return gguf_bad(s, kv->at, err, "key %s has type %s, not %s",
			gguf_quote(key, kv->name, kv->name_len), gguf_type_name(kv->type), wanted);
}

static int out_of_range(const struct gguf_shard *s, const struct gguf_kv *kv, struct err *err)
{
	char key[64];

	return gguf_bad(s, kv->at, err, "key %s: the value is out of range",
			gguf_quote(key, kv->name, kv->name_len));
}

const struct gguf_kv *gguf_shard_key(const struct gguf_shard *s, const char *name)
{
	for (uint64_t i = 0; i < s->n_kv; i++)
		if (!strcmp(s->kv[i].name, name))
			return &s->kv[i];
	return NULL;
}

int gguf_shard_u64(const struct gguf_shard *s, const struct gguf_kv *kv, uint64_t *ret,
		   struct err *err)
{
	struct integer v;

	if (kv->type == GGUF_BOOL || !load_integer(kv->type, s->image + kv->value, &v))
		return wrong_type(s, kv, "an integer", err);
	if (v.negative)
		return out_of_range(s, kv, err);
	*ret = v.magnitude;
	return 0;
}

static const struct gguf_kv *find(const struct gguf *g, const char *key)
{
	uint64_t i = gguf_index_find(&g->key_index, key);

	return i == UINT64_MAX ? NULL : &g->shards[0].kv[i];
}

static const uint8_t *payload(const struct gguf *g, const struct gguf_kv *kv)
{
	return g->shards[0].image + kv->value;
}

bool gguf_has(const struct gguf *g, const char *key)
{
	return find(g, key) != NULL;
}

int gguf_u64(const struct gguf *g, const char *key, uint64_t *ret, struct err *err)
{
	const struct gguf_kv *kv = find(g, key);

	return kv ? gguf_shard_u64(&g->shards[0], kv, ret, err) : -ENOENT;
}

int gguf_u32(const struct gguf *g, const char *key, uint32_t *ret, struct err *err)
{
	const struct gguf_kv *kv = find(g, key);
	uint64_t v = 0;
	int rc;

	if (!kv)
		return -ENOENT;
	rc = gguf_shard_u64(&g->shards[0], kv, &v, err);
	if (rc)
		return rc;
	if (v > UINT32_MAX)
		return out_of_range(&g->shards[0], kv, err);
	*ret = (uint32_t)v;
	return 0;
}

int gguf_f32(const struct gguf *g, const char *key, float *ret, struct err *err)
{
	const struct gguf_kv *kv = find(g, key);
	double v;

	if (!kv)
		return -ENOENT;
	if (!load_float(kv->type, payload(g, kv), &v))
		return wrong_type(&g->shards[0], kv, "a float", err);
	if (!isfinite(v) || fabs(v) > 3.4e38)
		return out_of_range(&g->shards[0], kv, err);
	*ret = (float)v;
	return 0;
}

int gguf_bool(const struct gguf *g, const char *key, bool *ret, struct err *err)
{
	const struct gguf_kv *kv = find(g, key);
	char name[64];

	if (!kv)
		return -ENOENT;
	if (kv->type != GGUF_BOOL)
		return wrong_type(&g->shards[0], kv, "bool", err);
	if (*payload(g, kv) > 1)
		return gguf_bad(&g->shards[0], kv->at, err, "key %s: a bool is %u, neither 0 nor 1",
				gguf_quote(name, kv->name, kv->name_len), *payload(g, kv));
	*ret = *payload(g, kv) != 0;
	return 0;
}

int gguf_bytes(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *err)
{
	const struct gguf_kv *kv = find(g, key);

	if (!kv)
		return -ENOENT;
	if (kv->type != GGUF_STRING)
		return wrong_type(&g->shards[0], kv, "a string", err);
	*ret = (struct gguf_str){ (const char *)payload(g, kv), kv->count };
	return 0;
}

int gguf_str(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *err)
{
	struct gguf_str text;
	const char *why = NULL;
	char name[64];
	int rc = gguf_bytes(g, key, &text, err);

	if (rc)
		return rc;
	if (memchr(text.data, 0, text.len))
		why = "contains a NUL byte";
	else if (!gguf_utf8_ok(text.data, text.len))
		why = "is not UTF-8";
	if (why)
		return gguf_bad(&g->shards[0], find(g, key)->at, err, "key %s: the text %s",
				gguf_quote(name, key, strlen(key)), why);
	*ret = text;
	return 0;
}

int gguf_array(const struct gguf *g, const char *key, enum gguf_type *ret_type, uint64_t *ret_count,
	       struct err *err)
{
	const struct gguf_kv *kv = find(g, key);

	if (!kv)
		return -ENOENT;
	if (kv->type != GGUF_ARRAY)
		return wrong_type(&g->shards[0], kv, "an array", err);
	*ret_type = kv->elem;
	*ret_count = kv->count;
	return 0;
}

static struct gguf_str string_at(const struct gguf_shard *s, const struct gguf_kv *kv, uint64_t i)
{
	const uint8_t *p = s->image + kv->strings[i];
	struct gguf_str text;

	memcpy(&text.len, p, sizeof(text.len));
	text.data = (const char *)p + sizeof(text.len);
	return text;
}

/* The array and a valid index into it, or -ENOENT / -EINVAL. */
static int find_element(const struct gguf *g, const char *key, uint64_t i,
			const struct gguf_kv **ret)
{
	const struct gguf_kv *kv = find(g, key);

	if (!kv)
		return -ENOENT;
	if (kv->type != GGUF_ARRAY || i >= kv->count)
		return -EINVAL;
	*ret = kv;
	return 0;
}

int gguf_array_str(const struct gguf *g, const char *key, uint64_t i, struct gguf_str *ret)
{
	const struct gguf_kv *kv;
	int rc = find_element(g, key, i, &kv);

	if (rc)
		return rc;
	if (kv->elem != GGUF_STRING)
		return -EINVAL;
	*ret = string_at(&g->shards[0], kv, i);
	return 0;
}

int gguf_array_i64(const struct gguf *g, const char *key, uint64_t i, int64_t *ret)
{
	const struct gguf_kv *kv;
	struct integer v;
	int rc = find_element(g, key, i, &kv);

	if (rc)
		return rc;
	if (!load_integer(kv->elem, payload(g, kv) + i * gguf_type_bytes(kv->elem), &v))
		return -EINVAL;
	if (kv->elem == GGUF_BOOL && v.magnitude > 1)
		return -EINVAL;
	if (v.magnitude > INT64_MAX + (uint64_t)v.negative)
		return -EINVAL;
	*ret = (int64_t)(v.negative ? 0 - v.magnitude : v.magnitude);
	return 0;
}

int gguf_array_f64(const struct gguf *g, const char *key, uint64_t i, double *ret)
{
	const struct gguf_kv *kv;
	int rc = find_element(g, key, i, &kv);

	if (rc)
		return rc;
	if (!load_float(kv->elem, payload(g, kv) + i * gguf_type_bytes(kv->elem), ret))
		return -EINVAL;
	return 0;
}

uint64_t gguf_n_keys(const struct gguf *g)
{
	return g->shards[0].n_kv;
}

const char *gguf_key_name(const struct gguf *g, uint64_t i)
{
	return g->shards[0].kv[i].name;
}

struct gguf_raw gguf_key_raw(const struct gguf *g, uint64_t i)
{
	const struct gguf_kv *kv = &g->shards[0].kv[i];
	const uint8_t *begin = payload(g, kv);
	struct gguf_raw raw = { .type = kv->type, .count = kv->count };
	struct gguf_str last;

	raw.value.data = (const char *)begin;
	if (kv->type == GGUF_STRING) {
		raw.value.len = kv->count;
	} else if (kv->type != GGUF_ARRAY) {
		raw.value.len = gguf_type_bytes(kv->type);
	} else {
		raw.elem = kv->elem;
		raw.value.len = kv->count * gguf_type_bytes(kv->elem);
	}
	if (raw.type == GGUF_ARRAY && kv->elem == GGUF_STRING && kv->count) {
		raw.value.data = (const char *)g->shards[0].image + kv->strings[0];
		last = string_at(&g->shards[0], kv, kv->count - 1);
		raw.value.len = (uint64_t)(last.data + last.len - raw.value.data);
	}
	return raw;
}

/* One element of @type at @p as text; returns what snprintf would. */
static int element_text(uint32_t type, const uint8_t *p, char *buf, size_t len)
{
	struct integer n;
	double d;

	if (load_float(type, p, &d))
		return snprintf(buf, len, "%g", d);
	if (!load_integer(type, p, &n))
		return snprintf(buf, len, "?");
	if (type == GGUF_BOOL)
		return snprintf(buf, len, "%s", n.magnitude ? "true" : "false");
	return snprintf(buf, len, "%s%" PRIu64, n.negative ? "-" : "", n.magnitude);
}

static void array_text(const struct gguf_shard *s, const struct gguf_kv *kv, char *buf, size_t len)
{
	unsigned size = gguf_type_bytes(kv->elem);
	size_t used = 0;
	char item[64];

	if (kv->count > TEXT_ELEMENTS || kv->elem == GGUF_STRING) {
		snprintf(buf, len, "%" PRIu64 " x %s", kv->count, gguf_type_name(kv->elem));
		return;
	}
	for (uint64_t i = 0; i < kv->count && used < len; i++) {
		element_text(kv->elem, s->image + kv->value + i * size, item, sizeof(item));
		used += (size_t)snprintf(buf + used, len - used, "%s%s", i ? ", " : "", item);
	}
}

char *gguf_key_text(const struct gguf *g, uint64_t i, char *buf, size_t len)
{
	const struct gguf_shard *s = &g->shards[0];
	const struct gguf_kv *kv = &s->kv[i];
	char text[64];

	if (!len)
		return buf;
	buf[0] = '\0';
	if (kv->type == GGUF_ARRAY)
		array_text(s, kv, buf, len);
	else if (kv->type == GGUF_STRING)
		snprintf(buf, len, "%s", gguf_quote(text, payload(g, kv), kv->count));
	else
		element_text(kv->type, payload(g, kv), buf, len);
	return buf;
}
