/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/tokenizer_load.c: a tokenizer from the keys of a GGUF file.
 *
 * Needs tokenizer.ggml.{model,pre,tokens,token_type,merges} (gemma4's model no pre); everything
 * in them is untrusted, and what does not fit is refused with the file, the key and the element.
 * Tolerated, as the reference does: a token that occurs twice (the last one is used), a merge
 * that occurs twice (the first one counts), a merge that names texts which are no plain tokens
 * (they can be merged further and are written as bytes in the end). Control, user-defined and
 * unused tokens never come out of merges, so no text that was not asked to be parsed for them can
 * turn into one. Nothing in the result points into the container. Called once per model, by main
 * and the tools.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/num.h"
#include "base/utf8.h"
#include "model/gguf.h"
#include "model/tokenizer_impl.h"

#define KEY(name) "tokenizer.ggml." name

/* What the steps of loading share. */
struct loader {
	const struct gguf *g;
	struct err *err;
	struct tokenizer *t;
	uint64_t n_merges;
	uint8_t char_of[256][2]; /* how a byte is written in token texts */
	uint8_t char_len[256];
	int16_t byte_of[MAPPED_LIMIT]; /* and back; -1: stands for itself */
	/* texts to symbols, see tokenizer_impl.h */
	struct gguf_str *texts; /* by symbol */
	uint32_t n_symbols;
	uint32_t *slots; /* open addressing: symbol, or NO_ID */
	uint32_t mask;
	uint64_t seed;
	char *joined; /* memory for the texts that merges make */
	size_t n_joined;
};

static int refuse(const struct loader *l, const char *key, const char *reason)
{
	return err_set(l->err, -EINVAL, "%.300s: %s: %s", gguf_file(l->g, 0)->path, key, reason);
}

static int refuse_at(const struct loader *l, const char *key, uint64_t i, const char *reason)
{
	return err_set(l->err, -EINVAL, "%.300s: %s[%" PRIu64 "]: %s", gguf_file(l->g, 0)->path,
		       key, i, reason);
}

/* gguf_*() answered @rc for a key that must be there. */
static int required(const struct loader *l, const char *key, int rc)
{
	return rc == -ENOENT ? refuse(l, key, "this key is missing, so there is no tokenizer") : rc;
}

/* ---- how texts of tokens stand for bytes ---- */

static void map_bytes(struct loader *l)
{
	uint32_t next = 256;

	memset(l->byte_of, 0xff, sizeof(l->byte_of));
	for (uint32_t b = 0; b < 256; b++) {
		bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
		uint32_t cp = itself ? b : next++;
		uint8_t text[4];

		l->char_len[b] = (uint8_t)utf8_encode(cp, text);
		memcpy(l->char_of[b], text, 2); /* all of them are below U+0800 */
		l->byte_of[cp] = (int16_t)b;
	}
}

/* Writes what the text of a plain token stands for; what stands for no byte, as it is. */
static uint32_t unmap(const struct loader *l, const char *text, uint32_t len, char *out)
{
	const uint8_t *s = (const uint8_t *)text;
	uint32_t n_out = 0, cp;

	for (uint32_t i = 0, n; i < len; i += n) {
		n = utf8_decode(s + i, len - i, &cp);
		if (n && cp < MAPPED_LIMIT && l->byte_of[cp] >= 0) {
			out[n_out++] = (char)l->byte_of[cp];
			continue;
		}
		n = n ? n : 1;
		memcpy(out + n_out, s + i, n);
		n_out += n;
	}
	return n_out;
}

/* ---- tokens ---- */

/* What merges may make: also the tokens of bytes, where they are written as the bytes of texts. */
static bool is_plain(const struct tokenizer *t, const struct token *token)
{
	return token->type == TOKEN_NORMAL || (token->type == TOKEN_BYTE && !t->by_characters);
}

static bool is_special(const struct token *token)
{
	return token->type == TOKEN_CONTROL || token->type == TOKEN_USER_DEFINED ||
	       token->type == TOKEN_UNKNOWN;
}

/* An array that must be there, of strings or of integers. */
static int open_array(const struct loader *l, const char *key, bool strings, uint64_t *ret_n)
{
	enum gguf_type type;
	int rc = required(l, key, gguf_array(l->g, key, &type, ret_n, l->err));

	if (rc)
		return rc;
	if (strings != (type == GGUF_STRING) || type == GGUF_F32 || type == GGUF_F64 ||
	    type == GGUF_BOOL)
		return refuse(l, key, strings ? "not an array of strings" : "not integers");
	if (*ret_n > TOKENS_MAX)
		return refuse(l, key, "more elements than any vocabulary has");
	return 0;
}

/* Checks the texts of all tokens and says how many bytes they have together. */
static int measure_texts(const struct loader *l, uint64_t n, uint64_t *ret_bytes)
{
	struct gguf_str text;

	*ret_bytes = 0;
	for (uint64_t i = 0; i < n; i++) {
		if (gguf_array_str(l->g, KEY("tokens"), i, &text))
			return refuse_at(l, KEY("tokens"), i, "not a string");
		if (text.len > TOKEN_MAX_BYTES)
			return refuse_at(l, KEY("tokens"), i, "longer than 65536 bytes");
		*ret_bytes += text.len;
	}
	if (*ret_bytes > UINT32_MAX)
		return refuse(l, KEY("tokens"), "more than 4 GiB of text");
	return 0;
}

static int read_types(const struct loader *l)
{
	int64_t type;

	for (uint32_t id = 0; id < l->t->n_vocab; id++) {
		if (gguf_array_i64(l->g, KEY("token_type"), id, &type) || type < 0 ||
		    type >= TOKEN_TYPE_NR)
			return refuse_at(l, KEY("token_type"), id, "no type of token");
		l->t->tokens[id].type = (uint8_t)type;
	}
	return 0;
}

/* The text of a token that is not special, in a vocabulary of characters. */
static int read_characters(const struct loader *l, uint32_t id, struct gguf_str text)
{
	struct token *token = &l->t->tokens[id];
	char *out = l->t->bytes + token->offset;
	int byte = chars_byte(text);

	if (token->type != TOKEN_BYTE) {
		token->len = chars_unescape(text.data, (uint32_t)text.len, out);
		return 0;
	}
	if (byte < 0)
		return refuse_at(l, KEY("tokens"), id,
				 "typed as a byte, but not one of <0x00> to <0xFF>");
	*out = (char)byte;
	token->len = 1;
	return 0;
}

static int read_token(const struct loader *l, uint32_t id, uint32_t offset)
{
	struct token *token = &l->t->tokens[id];
	struct gguf_str text = { "", 0 };

	token->offset = offset;
	gguf_array_str(l->g, KEY("tokens"), id, &text); /* measure_texts() has seen it */
	if (is_special(token)) {
		if (text.len > SPECIAL_MAX_BYTES)
			return refuse_at(l, KEY("tokens"), id,
					 "a control or user-defined token longer than 512 bytes");
		memcpy(l->t->bytes + offset, text.data, text.len);
		token->len = (uint32_t)text.len;
	} else if (l->t->by_characters) {
		return read_characters(l, id, text);
	} else {
		token->len = unmap(l, text.data, (uint32_t)text.len, l->t->bytes + offset);
	}
	return 0;
}

static int read_tokens(struct loader *l)
{
	struct tokenizer *t = l->t;
	uint64_t n, n_types, bytes;
	uint32_t offset = 0;
	int rc = open_array(l, KEY("tokens"), true, &n);

	if (!rc)
		rc = open_array(l, KEY("token_type"), false, &n_types);
	if (!rc && !n)
		rc = refuse(l, KEY("tokens"), "no tokens");
	if (!rc && n_types != n)
		rc = refuse(l, KEY("token_type"), "another number of elements than tokens");
	if (!rc)
		rc = measure_texts(l, n, &bytes);
	if (rc)
		return rc;
	t->n_vocab = (uint32_t)n;
	t->tokens = calloc(n, sizeof(*t->tokens));
	t->bytes = malloc(bytes + 1);
	if (!t->tokens || !t->bytes)
		return -ENOMEM;
	rc = read_types(l);
	if (!rc) /* the keys may change types */
		rc = tokenizer_read_keys(l->g, t, l->err);
	for (uint32_t id = 0; id < t->n_vocab && !rc; id++) {
		rc = read_token(l, id, offset);
		offset += t->tokens[id].len;
		t->longest = t->tokens[id].len > t->longest ? t->tokens[id].len : t->longest;
	}
	return rc;
}

static int index_specials(struct loader *l)
{
	struct tokenizer *t = l->t;
	struct specials *s = &t->specials;
	size_t n = 0;

	for (uint32_t id = 0; id < t->n_vocab; id++)
		n += is_special(&t->tokens[id]);
	s->v = calloc(n + 1, sizeof(*s->v));
	if (!s->v)
		return -ENOMEM;
	for (uint32_t id = 0; id < t->n_vocab; id++) {
		const struct token *token = &t->tokens[id];

		if (is_special(token) && token->len)
			s->v[s->n++] = (struct special){ t->bytes + token->offset, token->len, id,
							 token->type != TOKEN_USER_DEFINED };
	}
	specials_index(s);
	return 0;
}

/* ---- symbols and merges ---- */

static uint64_t hash_text(uint64_t seed, struct gguf_str text)
{
	uint64_t h = seed ^ text.len, word;
	size_t i;

	for (i = 0; i + 8 <= text.len; i += 8) {
		memcpy(&word, text.data + i, 8);
		h = hash_mix(h ^ word, 0x9e3779b97f4a7c15ull) + seed;
	}
	word = 0;
	memcpy(&word, text.data + i, text.len - i);
	return hash_mix(h ^ word, 0x9e3779b97f4a7c15ull);
}

/* The slot that holds the symbol of this text, or the free one where it would be. */
static uint32_t *find_text(const struct loader *l, struct gguf_str text)
{
	uint32_t i = (uint32_t)hash_text(l->seed, text) & l->mask;

	for (; l->slots[i] != NO_ID; i = (i + 1) & l->mask) {
		const struct gguf_str *other = &l->texts[l->slots[i]];

		if (other->len == text.len && memcmp(other->data, text.data, text.len) == 0)
			break;
	}
	return &l->slots[i];
}

/* The symbol of this text, a new one where there is none. @text must stay. */
static uint32_t symbol_of(struct loader *l, struct gguf_str text)
{
	uint32_t *slot = find_text(l, text);

	if (*slot == NO_ID) {
		*slot = l->n_symbols++;
		l->texts[*slot] = text;
	}
	return *slot;
}

/* Room for a symbol per token and byte and three per merge. */
static int make_symbols(struct loader *l)
{
	struct tokenizer *t = l->t;
	uint64_t most = t->n_vocab + 256 + 3 * l->n_merges, slots = 1024;

	while (slots < 2 * most)
		slots *= 2;
	l->mask = (uint32_t)slots - 1;
	l->texts = calloc(most, sizeof(*l->texts));
	l->slots = malloc(slots * sizeof(*l->slots));
	if (!l->texts || !l->slots)
		return -ENOMEM;
	memset(l->slots, 0xff, slots * sizeof(*l->slots));
	l->n_symbols = t->n_vocab;
	for (uint32_t id = 0; id < t->n_vocab; id++) {
		if (!is_plain(t, &t->tokens[id]) || !t->tokens[id].len)
			continue;
		gguf_array_str(l->g, KEY("tokens"), id, &l->texts[id]);
		*find_text(l, l->texts[id]) = id;
	}
	return 0;
}

/* The tokens of single bytes, and what stands for a byte that has none. */
static int index_bytes(struct loader *l)
{
	struct bpe *b = &l->t->bpe;
	uint32_t unknown = NO_ID;
	int rc = tokenizer_read_id(l->g, l->t, KEY("unknown_token_id"), &unknown);

	if (rc)
		return rc;
	if (l->t->by_characters) {
		chars_index(l->t, unknown);
		return 0;
	}
	for (unsigned byte = 0; byte < 256; byte++) {
		uint32_t symbol = symbol_of(
			l, (struct gguf_str){ (char *)l->char_of[byte], l->char_len[byte] });

		b->byte_symbol[byte] = symbol;
		b->byte_token[byte] = symbol < l->t->n_vocab ? symbol : unknown;
	}
	return 0;
}

static int read_merge(struct loader *l, uint32_t rank)
{
	struct gguf_str text, left, right, both;
	const char *space = NULL;

	if (gguf_array_str(l->g, KEY("merges"), rank, &text))
		return refuse_at(l, KEY("merges"), rank, "not a string");
	if (text.len > 1)
		space = memchr(text.data + 1, ' ', text.len - 1);
	if (!space || space + 1 == text.data + text.len)
		return refuse_at(l, KEY("merges"), rank, "not two texts with a space between");
	left = (struct gguf_str){ text.data, (uint64_t)(space - text.data) };
	right = (struct gguf_str){ space + 1, text.len - left.len - 1 };
	both = (struct gguf_str){ l->joined + l->n_joined, left.len + right.len };
	memcpy(l->joined + l->n_joined, left.data, left.len);
	memcpy(l->joined + l->n_joined + left.len, right.data, right.len);
	l->n_joined += both.len;
	bpe_add_pair(&l->t->bpe, symbol_of(l, left), symbol_of(l, right), rank, symbol_of(l, both));
	return 0;
}

static int read_merges(struct loader *l)
{
	struct gguf_str text;
	size_t bytes = 1;
	int rc = open_array(l, KEY("merges"), true, &l->n_merges);

	if (rc)
		return rc;
	for (uint64_t i = 0; i < l->n_merges; i++)
		if (!gguf_array_str(l->g, KEY("merges"), i, &text))
			bytes += text.len;
	l->joined = malloc(bytes);
	if (!l->joined)
		return -ENOMEM;
	rc = bpe_init(&l->t->bpe, l->t->n_vocab, (uint32_t)l->n_merges, l->seed);
	if (!rc)
		rc = make_symbols(l);
	if (!rc)
		rc = index_bytes(l);
	for (uint64_t i = 0; i < l->n_merges && !rc; i++)
		rc = read_merge(l, (uint32_t)i);
	if (!rc && l->t->by_characters)
		rc = bpe_chars_init(&l->t->bpe.chars, l->texts, l->n_symbols);
	return rc;
}

/* ---- the whole ---- */

static int check_model(const struct loader *l)
{
	struct gguf_str model;
	int rc = required(l, KEY("model"), gguf_str(l->g, KEY("model"), &model, l->err));

	if (rc)
		return rc;
	l->t->by_characters = model.len == 6 && memcmp(model.data, "gemma4", 6) == 0;
	if (l->t->by_characters || (model.len == 4 && memcmp(model.data, "gpt2", 4) == 0))
		return 0;
	return err_set(l->err, -ENOTSUP,
		       "%.300s: %s: \"%.*s\" is not supported, only \"gpt2\" and \"gemma4\"",
		       gguf_file(l->g, 0)->path, KEY("model"), (int)u64_min(model.len, 40),
		       model.data);
}

static int open_pretok(const struct loader *l, const char *forced)
{
	struct gguf_str pre = { "", 0 };
	char name[32] = "", known[320];
	int rc = 0;

	if (l->t->by_characters && forced)
		return err_set(
			l->err, -ENOTSUP,
			"%.100s: %s is \"gemma4\", whose texts are cut at line breaks alone, so "
			"the pre-tokenizer %s cannot be used",
			gguf_file(l->g, 0)->path, KEY("model"), forced);
	if (l->t->by_characters)
		forced = "gemma4";
	if (forced)
		pre = (struct gguf_str){ forced, strlen(forced) };
	else
		rc = required(l, KEY("pre"), gguf_str(l->g, KEY("pre"), &pre, l->err));
	if (rc)
		return rc;
	if (pre.len < sizeof(name))
		memcpy(name, pre.data, pre.len);
	rc = pretok_create(name, &l->t->pretok);
	if (rc != -ENOENT)
		return rc;
	return err_set(l->err, -ENOTSUP, "%.100s: %s: pre-tokenizer \"%.*s\" is not known; %s are",
		       gguf_file(l->g, 0)->path, KEY("pre"), (int)u64_min(pre.len, 40), pre.data,
		       pretok_names(known, sizeof(known)));
}

int tokenizer_create(const struct gguf *g, const char *pre, struct tokenizer **ret, struct err *err)
{
	struct tokenizer *t = calloc(1, sizeof(*t));
	struct loader l = { .g = g, .err = err, .t = t };
	int rc = 0;

	if (!t)
		return -ENOMEM;
	t->bos = t->eos = NO_ID;
	if (getrandom(&l.seed, sizeof(l.seed), 0) != sizeof(l.seed))
		rc = -EIO;
	map_bytes(&l);
	if (!rc)
		rc = check_model(&l);
	if (!rc)
		rc = read_tokens(&l);
	if (!rc)
		rc = index_specials(&l);
	if (!rc)
		rc = read_merges(&l);
	if (!rc)
		rc = tokenizer_find_ends(l.g, t);
	if (!rc)
		rc = open_pretok(&l, pre);
	free(l.texts);
	free(l.slots);
	free(l.joined);
	if (rc) {
		tokenizer_destroy(t);
		return err_set(err, rc, "%.300s: the tokenizer cannot be built: %s",
			       gguf_file(g, 0)->path, strerror(-rc));
	}
	*ret = t;
	return 0;
}

void tokenizer_destroy(struct tokenizer *t)
{
	if (!t)
		return;
	pretok_destroy(t->pretok);
	bpe_fini(&t->bpe);
	free(t->specials.v);
	for (unsigned i = 0; i < t->n_notes; i++)
		free(t->notes[i]);
	free(t->tokens);
	free(t->bytes);
	free(t);
}
