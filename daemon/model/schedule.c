/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/schedule.c: which layer is attention and which is recurrent, and head counts that
 * may be given once or per layer.
 *
 * Three ways to say it, the most explicit one wins: a bool array attention.recurrent_layers, a
 * head_count_kv array in which 0 means recurrent (Ollama), or full_attention_interval (layer i is
 * attention when (i + 1) is a multiple). Two arrays that contradict each other are refused. Arrays
 * may or may not count the MTP blocks at the end. Called while a model is opened, by its thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "model/arch/arch.h"
#include "model/model_impl.h"

/* Number of elements of an array key that must have one per layer; 0 where it is missing. */
static int per_layer(struct build *b, const char *suffix, enum gguf_type *type, uint64_t *n)
{
	char key[BUILD_KEY_BYTES];
	int rc = gguf_array(b->g, build_key(b, key, suffix), type, n, b->err);

	if (rc == -ENOENT) {
		*n = 0;
		return 0;
	}
	if (!rc && (*n < b->m->n_layers || *n > b->n_blocks))
		rc = build_bad_key(b, suffix, "%llu entries for %u layers", (unsigned long long)*n,
				   b->m->n_layers);
	return rc;
}

/* The number that all entries but those of recurrent layers (0) agree on. */
static int common_count(struct build *b, const char *suffix, uint32_t *ret)
{
	char key[BUILD_KEY_BYTES];
	enum gguf_type type;
	uint64_t n = 0;
	int64_t heads = 0, v = 0;
	int rc = per_layer(b, suffix, &type, &n);

	if (rc)
		return rc;
	build_key(b, key, suffix);
	for (uint64_t i = 0; i < b->m->n_layers; i++) {
		if (type == GGUF_BOOL || gguf_array_i64(b->g, key, i, &v))
			return build_bad_key(b, suffix, "an array of integers is expected");
		if (v < 0 || v > MODEL_MAX_HEADS)
			return build_bad_key(b, suffix, "%lld heads in layer %llu", (long long)v,
					     (unsigned long long)i);
		if (v == 0 && !arch_has(b->arch, ROLE_SSM_OUT))
			return build_bad_key(b, suffix, "layer %llu has no heads",
					     (unsigned long long)i);
		if (v && heads && v != heads && !b->arch->kv_heads_differ)
			return build_bad_key(b, suffix,
					     "%lld heads in layer %llu, %lld before: layers that "
					     "differ are not supported",
					     (long long)v, (unsigned long long)i, (long long)heads);
		heads = v ? v : heads;
	}
	if (!heads)
		return build_bad_key(b, suffix, "no layer has heads");
	*ret = (uint32_t)heads;
	return 0;
}

int build_head_count(struct build *b, const char *suffix, uint32_t *ret)
{
	char key[BUILD_KEY_BYTES];
	enum gguf_type type;
	uint64_t n;
	int rc;

	build_key(b, key, suffix);
	if (!gguf_array(b->g, key, &type, &n, NULL))
		return common_count(b, suffix, ret);
	n = 0;
	rc = gguf_u64(b->g, key, &n, b->err);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (n < 1 || n > MODEL_MAX_HEADS)
		return build_bad_key(b, suffix, "%llu is not between 1 and %u",
				     (unsigned long long)n, MODEL_MAX_HEADS);
	*ret = (uint32_t)n;
	return 0;
}

int build_layer_number(struct build *b, const char *suffix, uint32_t i, uint32_t max, uint32_t *ret)
{
	char key[BUILD_KEY_BYTES];
	enum gguf_type type;
	uint64_t n = 0;
	int64_t v = 0;
	int rc;

	build_key(b, key, suffix);
	if (gguf_array(b->g, key, &type, &n, NULL))
		return build_need_u32(b, suffix, 0, max, ret);
	rc = per_layer(b, suffix, &type, &n);
	if (rc)
		return rc;
	if (gguf_array_i64(b->g, key, i, &v))
		return build_bad_key(b, suffix, "entry %u cannot be read", i);
	if (v < 0 || v > max)
		return build_bad_key(b, suffix, "%lld in layer %u is not between 0 and %u",
				     (long long)v, i, max);
	*ret = (uint32_t)v;
	return 0;
}

static int schedule_from_interval(struct build *b)
{
	char key[BUILD_KEY_BYTES];
	uint64_t interval = 4;
	int rc;

	rc = gguf_u64(b->g, build_key(b, key, "full_attention_interval"), &interval, b->err);
	if (rc && rc != -ENOENT)
		return rc;
	if (interval < 1)
		return build_bad_key(b, "full_attention_interval", "0 is not an interval");
	for (uint32_t i = 0; i < b->m->n_layers; i++)
		b->recurrent[i] = (i + 1) % interval != 0;
	return 0;
}

/* 1 where the array settled it, 0 where there is none. */
static int schedule_from_array(struct build *b, const char *suffix, bool zero_is_recurrent,
			       bool check_only)
{
	char key[BUILD_KEY_BYTES];
	enum gguf_type type;
	uint64_t n = 0;
	int64_t v = 0;
	int rc;

	build_key(b, key, suffix);
	if (zero_is_recurrent && gguf_array(b->g, key, &type, &n, NULL))
		return 0; /* a single number says nothing about layers */
	rc = per_layer(b, suffix, &type, &n);
	if (rc || !n)
		return rc;
	if (!zero_is_recurrent && type != GGUF_BOOL)
		return build_bad_key(b, suffix, "an array of bool is expected");
	for (uint32_t i = 0; i < b->m->n_layers; i++) {
		bool recurrent;

		rc = gguf_array_i64(b->g, key, i, &v);
		if (rc)
			return build_bad_key(b, suffix, "entry %u cannot be read", i);
		recurrent = zero_is_recurrent ? v == 0 : v != 0;
		if (check_only && recurrent != b->recurrent[i])
			return build_bad_key(b, suffix,
					     "layer %u is %s here, but not by "
					     "attention.recurrent_layers",
					     i, recurrent ? "recurrent" : "attention");
		b->recurrent[i] = recurrent;
	}
	return 1;
}

/* An array of equal numbers (no zero) does not describe a schedule. */
static bool has_zero(struct build *b, const char *suffix)
{
	char key[BUILD_KEY_BYTES];
	int64_t v = 0;

	build_key(b, key, suffix);
	for (uint32_t i = 0; i < b->m->n_layers; i++)
		if (!gguf_array_i64(b->g, key, i, &v) && v == 0)
			return true;
	return false;
}

int build_schedule(struct build *b)
{
	const char *heads = "attention.head_count_kv";
	int by_flag, by_heads = 0;

	b->recurrent = calloc((size_t)b->m->n_layers + 1, sizeof(*b->recurrent)); /* and a head's */
	if (!b->recurrent)
		return err_set(b->err, -ENOMEM, "out of memory");
	if (!arch_has(b->arch, ROLE_SSM_OUT))
		return 0;
	by_flag = schedule_from_array(b, "attention.recurrent_layers", false, false);
	if (by_flag < 0)
		return by_flag;
	if (has_zero(b, heads))
		by_heads = schedule_from_array(b, heads, true, by_flag > 0);
	if (by_heads < 0)
		return by_heads;
	return by_flag || by_heads ? 0 : schedule_from_interval(b);
}
