/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/model/test_tokenizer.h: what the tokenizer's tests share: files with vocabularies made
 * on the spot, the fixtures, and ids compared with a sentence. Included once per test program.
 */
#ifndef SLUICE_TEST_TOKENIZER_H
#define SLUICE_TEST_TOKENIZER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <errno.h>

#include "base/num.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tests/unit/data.h"

/* Marks what not every test program uses. */
#define HELPER __attribute__((unused)) static

/* One more key of a made file, its value given as the bytes of @type. */
struct vocab_key {
	const char *name; /* NULL: none */
	enum gguf_type type;
	union {
		uint32_t u32;
		int32_t i32;
		bool truth;
		float f32;
	};
};

/* What the keys of a made file say; NULL and 0 leave a key out. */
struct vocab {
	const char *model, *pre, *template;
	const char *const *tokens;
	const int32_t *types;
	const char *const *merges;
	uint32_t n_tokens, n_types, n_merges;
	bool bytes;	    /* append a plain token for each byte */
	bool named_bytes;   /* append <0x00> to <0xFF>, typed as bytes */
	int64_t eos, unk;   /* -1: no key */
	bool tokens_as_int; /* the wrong type of array */
	struct vocab_key keys[4];
};

#define VOCAB_DEFAULTS .model = "gpt2", .pre = "qwen2", .eos = -1, .unk = -1

HELPER void put(FILE *f, const void *p, size_t n)
{
	assert_int_equal(fwrite(p, 1, n, f), n);
}

HELPER void put_u32(FILE *f, uint32_t v)
{
	put(f, &v, sizeof(v));
}

HELPER void put_u64(FILE *f, uint64_t v)
{
	put(f, &v, sizeof(v));
}

HELPER void put_text(FILE *f, const char *s)
{
	put_u64(f, strlen(s));
	put(f, s, strlen(s));
}

HELPER void put_key(FILE *f, const char *key, uint32_t type)
{
	put_text(f, key);
	put_u32(f, type);
}

/* How the byte is written in token texts: itself, or a character from U+0100 on. */
HELPER void byte_text(unsigned byte, char out[3])
{
	unsigned cp = 256;

	for (unsigned b = 0; b <= byte; b++) {
		bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		if (b == byte && itself)
			cp = b;
		else if (b < byte && !itself)
			cp++;
	}
	memset(out, 0, 3);
	if (cp < 0x80) {
		out[0] = (char)cp;
		return;
	}
	out[0] = (char)(0xc0 | cp >> 6);
	out[1] = (char)(0x80 | (cp & 0x3f));
}

HELPER void put_tokens(FILE *f, const struct vocab *v)
{
	uint32_t extra = v->bytes || v->named_bytes ? 256 : 0;
	char text[8];

	put_key(f, "tokenizer.ggml.tokens", GGUF_ARRAY);
	put_u32(f, v->tokens_as_int ? GGUF_U64 : GGUF_STRING);
	put_u64(f, v->n_tokens + extra);
	for (uint32_t i = 0; i < v->n_tokens + extra; i++) {
		if (i >= v->n_tokens && v->named_bytes)
			snprintf(text, sizeof(text), "<0x%02X>", i - v->n_tokens);
		else if (i >= v->n_tokens)
			byte_text(i - v->n_tokens, text);
		if (v->tokens_as_int)
			put_u64(f, i);
		else
			put_text(f, i < v->n_tokens ? v->tokens[i] : text);
	}
	if (!v->types && !v->n_types)
		return;
	put_key(f, "tokenizer.ggml.token_type", GGUF_ARRAY);
	put_u32(f, GGUF_I32);
	put_u64(f, v->n_types + extra);
	for (uint32_t i = 0; i < v->n_types + extra; i++)
		put_u32(f, i < v->n_types && v->types	       ? (uint32_t)v->types[i]
			   : i >= v->n_types && v->named_bytes ? 6
							       : 1);
}

/* Writes the file and opens it. */
HELPER struct gguf *make_gguf(const struct vocab *v)
{
	char path[] = "/tmp/test_tokenizer.XXXXXX";
	int fd = mkstemp(path);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
	bool has_types = v->types || v->n_types;
	unsigned n_keys = 0;
	struct err err = { 0 };
	struct gguf *g = NULL;

	assert_non_null(f);
	while (n_keys < ARRAY_LEN(v->keys) && v->keys[n_keys].name)
		n_keys++;
	put(f, "GGUF", 4);
	put_u32(f, 3);
	put_u64(f, 0);
	put_u64(f, !!v->model + !!v->pre + !!v->template + !!v->tokens + (v->tokens && has_types) +
			   !!v->merges + (v->eos >= 0) + (v->unk >= 0) + n_keys);
	if (v->model)
		put_key(f, "tokenizer.ggml.model", GGUF_STRING), put_text(f, v->model);
	if (v->pre)
		put_key(f, "tokenizer.ggml.pre", GGUF_STRING), put_text(f, v->pre);
	if (v->template)
		put_key(f, "tokenizer.chat_template", GGUF_STRING), put_text(f, v->template);
	if (v->tokens)
		put_tokens(f, v);
	if (v->merges) {
		put_key(f, "tokenizer.ggml.merges", GGUF_ARRAY);
		put_u32(f, GGUF_STRING);
		put_u64(f, v->n_merges);
		for (uint32_t i = 0; i < v->n_merges; i++)
			put_text(f, v->merges[i]);
	}
	if (v->eos >= 0)
		put_key(f, "tokenizer.ggml.eos_token_id", GGUF_U32), put_u32(f, (uint32_t)v->eos);
	if (v->unk >= 0)
		put_key(f, "tokenizer.ggml.unknown_token_id", GGUF_U32),
			put_u32(f, (uint32_t)v->unk);
	for (unsigned i = 0; i < n_keys; i++) {
		put_key(f, v->keys[i].name, v->keys[i].type);
		put(f, &v->keys[i].u32, v->keys[i].type == GGUF_BOOL ? 1 : 4);
	}
	for (unsigned i = 0; i < 64; i++)
		put(f, "", 1);
	assert_int_equal(fclose(f), 0);
	if (gguf_open(path, &g, &err))
		fail_msg("%s", err.text);
	unlink(path);
	return g;
}

HELPER struct tokenizer *make_tokenizer(const struct vocab *v)
{
	struct gguf *g = make_gguf(v);
	struct tokenizer *t = NULL;
	struct err err = { 0 };

	if (tokenizer_create(g, NULL, &t, &err))
		fail_msg("%s", err.text);
	gguf_destroy(g); /* the tokenizer must not need it */
	return t;
}

#define BUNDLED	  "moe/moe-q4_k_m.gguf"	      /* in tests/data, 2048 tokens */
#define PUBLISHED "tokenizer/qwen-vocab.gguf" /* in SHARED alone, 151669 tokens */

/* A test of one vocabulary: the name says which, so that a skip does; *state is the file. */
#define VOCABULARY_TEST(test, file)                               \
	{                                                         \
#test " " #file, test, NULL, NULL, (void *)(file) \
	}

/* The path of a fixture, static memory; skips the test where it is missing. */
HELPER const char *fixture_path(const char *name)
{
	static char path[DATA_PATH];

	return fixture(name, path);
}

HELPER struct gguf *open_gguf(const char *path)
{
	struct err err = { 0 };
	struct gguf *g = NULL;

	if (gguf_open(path, &g, &err))
		fail_msg("%s", err.text);
	return g;
}

HELPER struct tokenizer *open_tokenizer(const char *path, const char *pre)
{
	struct gguf *g = open_gguf(path);
	struct tokenizer *t = NULL;
	struct err err = { 0 };

	if (tokenizer_create(g, pre, &t, &err))
		fail_msg("%s", err.text);
	gguf_destroy(g);
	return t;
}

HELPER void assert_ids(const uint32_t *ids, ssize_t n, const uint32_t *want, size_t n_want,
		       const char *what)
{
	for (size_t i = 0; n >= 0 && i < (size_t)n && i < n_want; i++)
		if (ids[i] != want[i])
			fail_msg("%.80s: id %zu is %u, not %u", what, i, ids[i], want[i]);
	if (n != (ssize_t)n_want)
		fail_msg("%.80s: %zd ids, not %zu", what, n, n_want);
}

/* Encodes @text and compares. */
HELPER void assert_encodes(const struct tokenizer *t, const char *text, bool special,
			   const uint32_t *want, size_t n_want)
{
	uint32_t *ids = NULL;
	ssize_t n = tokenizer_encode(t, text, strlen(text), special, &ids);

	assert_ids(ids, n, want, n_want, text);
	free(ids);
}

#define IDS(...) (const uint32_t[]){ __VA_ARGS__ }, ARRAY_LEN(((const uint32_t[]){ __VA_ARGS__ }))

/* decode(encode(text)) is text again, control tokens written out. */
HELPER void assert_round_trip(const struct tokenizer *t, const char *text, size_t len, bool special)
{
	uint32_t *ids = NULL;
	ssize_t n = tokenizer_encode(t, text, len, special, &ids);
	size_t at = 0;

	assert_true(n >= 0);
	for (ssize_t i = 0; i < n; i++) {
		const char *bytes;
		size_t k = tokenizer_piece(t, ids[i], true, &bytes);

		assert_true(k && k <= len - at);
		assert_memory_equal(bytes, text + at, k);
		at += k;
	}
	assert_int_equal(at, len);
	free(ids);
}

/* A small generator, the same numbers in every run. */
HELPER uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

#endif
