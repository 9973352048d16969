/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/tokenizer_keys.c: what the keys of a file say about single tokens.
 *
 * Ids of special tokens, whether a beginning and an end belong around a prompt, which tokens end
 * an answer, and tokens that must be control tokens whatever type the converter gave them. A key
 * that is of no use is a note for the operator and never a refusal: files with -1 or with the ids
 * of another vocabulary in some special id are common, and the model works without. Called by
 * tokenizer_create() while it builds, by its thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"
#include "model/arch/arch.h"
#include "model/gguf_impl.h"
#include "model/tokenizer_impl.h"

#define KEY(name) "tokenizer.ggml." name

int tokenizer_add_note(struct tokenizer *t, const char *fmt, ...)
{
	char text[NOTE_BYTES];
	va_list ap;

	if (t->n_notes == ARRAY_LEN(t->notes) - 1)
		return 0; /* more than the keys that are read here */
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	t->notes[t->n_notes] = strdup(text);
	if (!t->notes[t->n_notes])
		return -ENOMEM;
	t->n_notes++;
	return 0;
}

int tokenizer_read_id(const struct gguf *g, struct tokenizer *t, const char *key, uint32_t *ret)
{
	struct err err = { 0 };
	uint32_t id = 0;
	int rc = gguf_u32(g, key, &id, &err);

	*ret = NO_ID;
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return tokenizer_add_note(t, "%s, ignoring", err.text);
	if (id >= t->n_vocab)
		return tokenizer_add_note(t,
					  "key %s: %" PRIu32 " is beyond the vocabulary of "
					  "%" PRIu32 " tokens, ignoring",
					  key, id, t->n_vocab);
	*ret = id;
	return 0;
}

static void add_eog(struct tokenizer *t, uint32_t id)
{
	if (!tokenizer_is_eog(t, id) && t->n_eog < ARRAY_LEN(t->eog))
		t->eog[t->n_eog++] = id;
}

/* ---- tokens that must be control tokens ---- */

/* The tokens whose type was changed, for one note. */
struct changed {
	char text[NOTE_BYTES - 160];
	size_t n;
};

/* One character that stands for a byte: some text has no other way to be written. */
static bool is_byte(struct gguf_str text)
{
	uint32_t cp;

	return text.len && text.len < 3 &&
	       utf8_decode((const uint8_t *)text.data, text.len, &cp) == text.len &&
	       cp < MAPPED_LIMIT;
}

static void change_type(const struct gguf *g, struct tokenizer *t, uint32_t id,
			enum token_type type, struct changed *c)
{
	struct gguf_str text = { "", 0 };
	char shown[64];

	gguf_array_str(g, KEY("tokens"), id, &text);
	if (is_byte(text))
		return;
	t->tokens[id].type = (uint8_t)type;
	if (sizeof(c->text) - c->n < 100)
		return; /* the note says enough */
	c->n += (size_t)snprintf(c->text + c->n, sizeof(c->text) - c->n, "%s%s (%" PRIu32 ")",
				 c->n ? ", " : "", gguf_quote(shown, text.data, text.len), id);
}

/* Tokens that keys name. */
static void need_control(const struct gguf *g, struct tokenizer *t, uint32_t id, struct changed *c)
{
	uint8_t type = id == NO_ID ? TOKEN_CONTROL : t->tokens[id].type;

	if (type == TOKEN_NORMAL || type == TOKEN_USER_DEFINED)
		change_type(g, t, id, TOKEN_CONTROL, c);
}

static bool is_text(struct gguf_str text, const char *what)
{
	return what && text.len == strlen(what) && !memcmp(text.data, what, text.len);
}

/* Does a form of the family need this token, or does it end an answer there? */
static bool family_needs(const struct arch *a, struct gguf_str text)
{
	for (size_t i = 0; a && i < ARRAY_LEN(a->ends); i++)
		if (is_text(text, a->ends[i]))
			return true;
	for (size_t i = 0; a && i < ARRAY_LEN(a->chat) && a->chat[i]; i++)
		for (size_t k = 0; k < ARRAY_LEN(a->chat[i]->needs); k++)
			if (is_text(text, a->chat[i]->needs[k]))
				return true;
	return false;
}

/* Tokens that a chat form writes or that end an answer, by their texts. */
static void need_by_text(const struct gguf *g, struct tokenizer *t, struct changed *c)
{
	static const struct {
		const char *text;
		enum token_type type;
		bool user_defined_too; /* else only plain tokens are changed */
	} all[] = {
		{ "<|im_start|>", TOKEN_CONTROL, true },
		{ "<|im_end|>", TOKEN_CONTROL, true },
		{ "<|endoftext|>", TOKEN_CONTROL, true },
		{ "<|fim_pad|>", TOKEN_CONTROL, false },
		{ "<|repo_name|>", TOKEN_CONTROL, false },
		{ "<|file_sep|>", TOKEN_CONTROL, false },
		{ "<think>", TOKEN_USER_DEFINED, false },
		{ "</think>", TOKEN_USER_DEFINED, false },
	};
	const struct arch *a = arch_of(g);
	struct gguf_str text = { "", 0 };

	for (uint32_t id = 0; id < t->n_vocab; id++) {
		uint8_t type = t->tokens[id].type;

		if (type != TOKEN_NORMAL && type != TOKEN_USER_DEFINED)
			continue;
		gguf_array_str(g, KEY("tokens"), id, &text);
		for (size_t i = 0; text.len && text.data[0] == '<' && i < ARRAY_LEN(all); i++)
			if (is_text(text, all[i].text) &&
			    (type == TOKEN_NORMAL || all[i].user_defined_too))
				change_type(g, t, id, all[i].type, c);
		if (family_needs(a, text))
			change_type(g, t, id, TOKEN_CONTROL, c);
	}
}

/* ---- around a prompt ---- */

/*
 * add_bos_token or add_eos_token: @id then belongs around every prompt that lacks it. @always: the
 * kind of vocabulary asks for it whatever the file says.
 */
static int read_frame(const struct gguf *g, struct tokenizer *t, const char *key, uint32_t id,
		      bool always, uint32_t *ret, struct err *err)
{
	bool add = always;
	int rc = gguf_bool(g, key, &add, err);

	*ret = NO_ID;
	if (rc && rc != -ENOENT)
		return rc;
	if (always && !add) {
		rc = tokenizer_add_note(t,
					"key %s is false, but models with this tokenizer need "
					"it, so it is taken for true",
					key);
		if (rc)
			return rc;
		add = true;
	}
	if (add && id == NO_ID)
		return tokenizer_add_note(t,
					  "key %s is true, but the file names no such token, "
					  "ignoring",
					  key);
	if (add)
		*ret = id;
	return 0;
}

int tokenizer_read_keys(const struct gguf *g, struct tokenizer *t, struct err *err)
{
	static const char *const ends[] = { KEY("eos_token_id"),     KEY("eot_token_id"),
					    KEY("eom_token_id"),     KEY("fim_pad_token_id"),
					    KEY("fim_rep_token_id"), KEY("fim_sep_token_id") };
	struct changed changed = { .n = 0 };
	uint32_t id, bos, eos = NO_ID;
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(ends) && !rc; i++) {
		rc = tokenizer_read_id(g, t, ends[i], &id);
		if (rc || id == NO_ID)
			continue;
		add_eog(t, id);
		need_control(g, t, id, &changed);
		eos = i ? eos : id;
	}
	if (!rc)
		rc = tokenizer_read_id(g, t, KEY("bos_token_id"), &bos);
	if (!rc)
		rc = read_frame(g, t, KEY("add_bos_token"), bos, t->by_characters, &t->bos, err);
	if (!rc)
		rc = read_frame(g, t, KEY("add_eos_token"), eos, false, &t->eos, err);
	if (rc)
		return rc;
	need_control(g, t, t->bos, &changed);
	need_by_text(g, t, &changed);
	if (!changed.n)
		return 0;
	return tokenizer_add_note(t,
				  "the file calls these tokens plain text, but they must be "
				  "told from it and are: %s",
				  changed.text);
}

static void add_end(struct tokenizer *t, const char *text)
{
	int64_t id = tokenizer_special_id(t, text);

	if (id >= 0)
		add_eog(t, (uint32_t)id);
}

int tokenizer_find_ends(const struct gguf *g, struct tokenizer *t)
{
	/* they end an answer, a document or a file in any family */
	static const char *const texts[] = { "<|im_end|>", "<|endoftext|>", "<|fim_pad|>",
					     "<|repo_name|>", "<|file_sep|>" };
	const struct arch *a = arch_of(g);

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		add_end(t, texts[i]);
	for (size_t i = 0; a && i < ARRAY_LEN(a->ends) && a->ends[i]; i++)
		add_end(t, a->ends[i]);
	return t->n_eog
		       ? 0
		       : tokenizer_add_note(t, "no token is known to end an answer, so answers end "
					       "only at their length");
}

int tokenizer_frame(const struct tokenizer *t, struct id_list *ids)
{
	int rc = id_list_reserve(ids, 2);

	if (rc)
		return rc;
	if (t->bos != NO_ID && (!ids->n || ids->data[0] != t->bos)) {
		memmove(ids->data + 1, ids->data, ids->n * sizeof(*ids->data));
		ids->data[0] = t->bos;
		ids->n++;
	}
	if (t->eos != NO_ID && (!ids->n || ids->data[ids->n - 1] != t->eos))
		ids->data[ids->n++] = t->eos;
	return 0;
}

const char *tokenizer_note(const struct tokenizer *t, unsigned i)
{
	return i < t->n_notes ? t->notes[i] : NULL;
}
