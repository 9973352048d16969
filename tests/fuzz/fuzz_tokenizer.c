/* SPDX-License-Identifier: MIT */
/*
 * tests/fuzz/fuzz_tokenizer.c: libFuzzer target: any text, and any vocabulary.
 *
 * The first byte chooses: whether control tokens are parsed, which split, and whether the text is
 * encoded with the vocabulary of the bundled model (run it in the repository's root, or set
 * FUZZ_MODEL) or with one made of the bytes that come before the text. What must hold: the pieces
 * of the ids are the text again; without parsing no control token comes out; the split equals its
 * regular expression; streamed text is valid UTF-8 and equals the text where that is valid.
 * One thread.
 */
#undef NDEBUG
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/utf8.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tests/unit/model/split_oracle.h"

#define MODEL	  "models/demo-moe-q4_k_m.gguf"
#define MAX_MADE  64   /* tokens and merges of a made vocabulary */
#define MAX_SPLIT 2048 /* bytes: the expression takes quadratic time */

enum { FLAG_SPECIAL = 1, FLAG_MADE = 8, FLAG_BYTES = 16 }; /* bits 1, 2 and 5 to 7: the split */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char *const splits[] = { "qwen2",	"qwen35",      "gpt-2", "glm4",
				      "gpt-4o", "deepseek-v3", "gemma4" };
#define N_SPLITS (sizeof(splits) / sizeof(splits[0]))

struct input {
	const uint8_t *p;
	size_t n;
};

static uint8_t take(struct input *in)
{
	if (!in->n)
		return 0;
	in->n--;
	return *in->p++;
}

/* ---- a container from the input ---- */

static void put_u32(FILE *f, uint32_t v)
{
	fwrite(&v, sizeof(v), 1, f);
}

static void put_text(FILE *f, const void *text, uint64_t n)
{
	fwrite(&n, sizeof(n), 1, f);
	fwrite(text, 1, n, f);
}

static void put_key(FILE *f, const char *key, uint32_t type)
{
	put_text(f, key, strlen(key));
	put_u32(f, type);
}

static void put_array(FILE *f, const char *key, uint32_t type, uint64_t n)
{
	put_key(f, key, GGUF_ARRAY);
	put_u32(f, type);
	fwrite(&n, sizeof(n), 1, f);
}

/* A text of up to 15 bytes from the input. */
static void put_input(FILE *f, struct input *in)
{
	size_t n = take(in) & 15;

	n = n < in->n ? n : in->n;
	put_text(f, in->p, n);
	in->p += n;
	in->n -= n;
}

/* The 256 plain tokens of bytes, as token texts write them. */
static void put_bytes(FILE *f)
{
	uint32_t next = 256;

	for (uint32_t b = 0; b < 256; b++) {
		bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
		uint8_t text[4];

		put_text(f, text, utf8_encode(itself ? b : next++, text));
	}
}

/* The same for a vocabulary of characters. */
static void put_named_bytes(FILE *f)
{
	char text[8];

	for (unsigned b = 0; b < 256; b++) {
		snprintf(text, sizeof(text), "<0x%02X>", b);
		put_text(f, text, 6);
	}
}

static struct gguf *make_gguf(struct input *in, bool bytes, bool characters)
{
	unsigned n_tokens = take(in) % MAX_MADE, n_merges = take(in) % MAX_MADE;
	int fd = memfd_create("vocabulary", MFD_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
	struct gguf *g = NULL;
	struct err err = { 0 };
	char path[32];

	assert(f);
	fwrite("GGUF\3\0\0\0\0\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0", 1, 24, f);
	put_key(f, "tokenizer.ggml.model", GGUF_STRING);
	put_text(f, characters ? "gemma4" : "gpt2", characters ? 6 : 4);
	put_array(f, "tokenizer.ggml.tokens", GGUF_STRING, n_tokens + (bytes ? 256 : 0));
	if (bytes)
		(characters ? put_named_bytes : put_bytes)(f);
	for (unsigned i = 0; i < n_tokens; i++)
		put_input(f, in);
	put_array(f, "tokenizer.ggml.token_type", GGUF_I32, n_tokens + (bytes ? 256 : 0));
	for (unsigned i = 0; i < (bytes ? 256u : 0); i++)
		put_u32(f, characters ? 6 : 1);
	for (unsigned i = 0; i < n_tokens; i++)
		put_u32(f, take(in) & 7);
	put_array(f, "tokenizer.ggml.merges", GGUF_STRING, n_merges);
	for (unsigned i = 0; i < n_merges; i++)
		put_input(f, in);
	put_key(f, "tokenizer.ggml.eos_token_id", GGUF_U32);
	put_u32(f, take(in));
	fwrite("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 1, 32, f);
	fflush(f);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (gguf_open(path, &g, &err))
		assert(err.text[0]); /* a text in it may not be one that the reader takes */
	fclose(f);
	return g;
}

/* ---- what must hold ---- */

static bool is_control(const struct tokenizer *t, uint32_t id)
{
	const char *bytes;

	return !tokenizer_piece(t, id, false, &bytes) && tokenizer_piece(t, id, true, &bytes);
}

static bool is_utf8(const char *text, size_t len)
{
	uint32_t cp;

	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_decode((const uint8_t *)text + i, len - i, &cp);
		if (!n)
			return false;
	}
	return true;
}

static void check_stream(const struct tokenizer *t, const uint32_t *ids, size_t n, const char *text,
			 size_t len)
{
	size_t bound = detok_bound(t), at = 0;
	char *buf = malloc(bound);
	bool same = is_utf8(text, len);
	struct detok d;

	detok_init(&d, t, true);
	for (size_t i = 0; i <= n; i++) {
		ssize_t k = i < n ? detok_push(&d, ids[i], buf, bound)
				  : detok_flush(&d, buf, bound);

		assert(k >= 0 && is_utf8(buf, (size_t)k));
		assert(!same || ((size_t)k <= len - at && !memcmp(text + at, buf, (size_t)k)));
		at += (size_t)k;
	}
	assert(!same || at == len);
	free(buf);
}

static void check_text(const struct tokenizer *t, const char *text, size_t len, bool special)
{
	uint32_t *ids = NULL;
	ssize_t n = tokenizer_encode(t, text, len, special, &ids);
	size_t at = 0;

	if (n < 0)
		return; /* a byte without a token */
	for (ssize_t i = 0; i < n; i++) {
		const char *bytes;
		size_t k = tokenizer_piece(t, ids[i], true, &bytes);

		assert(ids[i] < tokenizer_n_vocab(t));
		assert(special || !is_control(t, ids[i]));
		assert(k && k <= len - at && !memcmp(bytes, text + at, k));
		at += k;
	}
	assert(at == len);
	check_stream(t, ids, (size_t)n, text, len);
	free(ids);
}

static void check_split(unsigned kind, const char *text, size_t len)
{
	static struct oracle all[N_SPLITS];
	bool ends[MAX_SPLIT + 1] = { false };
	struct oracle *o = &all[kind];
	size_t at = 0;

	if (!o->n)
		oracle_init(o, splits[kind]);
	if (len > MAX_SPLIT || !is_utf8(text, len))
		return;
	oracle_cut(o, 0, text, len, ends);
	while (at < len) {
		size_t n = pretok_next(o->p, text + at, len - at);

		assert(n && n <= len - at && ends[at + n]);
		while (--n)
			assert(!ends[++at]);
		at++;
	}
}

static const struct tokenizer *bundled(unsigned kind)
{
	static struct tokenizer *all[N_SPLITS];
	const char *path = getenv("FUZZ_MODEL");
	struct err err = { 0 };
	struct gguf *g = NULL;

	if (all[kind])
		return all[kind];
	if (gguf_open(path ? path : MODEL, &g, &err) ||
	    tokenizer_create(g, splits[kind], &all[kind], &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	gguf_destroy(g);
	return all[kind];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = { data, len };
	unsigned flags = take(&in), kind = ((flags >> 1 & 3) | (flags >> 3 & 0x1c)) % N_SPLITS;
	struct tokenizer *made = NULL;
	struct err err = { 0 };
	struct gguf *g;
	bool characters;

	if (!(flags & FLAG_MADE)) {
		check_split(kind, (const char *)in.p, in.n);
		check_text(bundled(kind), (const char *)in.p, in.n, flags & FLAG_SPECIAL);
		return 0;
	}
	characters = !strcmp(splits[kind], "gemma4");
	g = make_gguf(&in, flags & FLAG_BYTES, characters);
	if (!g)
		return 0;
	if (tokenizer_create(g, characters ? NULL : splits[kind], &made, &err))
		assert(err.text[0]);
	gguf_destroy(g);
	/* a vocabulary of characters cannot tell U+2581 from a space */
	if (made && !(characters && memmem(in.p, in.n, "\xe2\x96\x81", 3)))
		check_text(made, (const char *)in.p, in.n, flags & FLAG_SPECIAL);
	tokenizer_destroy(made);
	return 0;
}
