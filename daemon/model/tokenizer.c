/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/tokenizer.c: text to ids and ids to bytes.
 *
 * Joins the three steps (special tokens, pre-tokens, merges; see tokenizer_impl.h) and answers
 * questions about single tokens. Refuses texts above 2 GiB and bytes that the vocabulary cannot
 * write. Called by serve and the tools. Any thread; every call has its own memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_impl.h"

int id_list_reserve(struct id_list *ids, size_t more)
{
	size_t cap = ids->cap ? ids->cap : 64;
	uint32_t *data;

	if (more <= ids->cap - ids->n)
		return 0;
	while (cap < ids->n + more)
		cap *= 2;
	data = realloc(ids->data, cap * sizeof(*data));
	if (!data)
		return -ENOMEM;
	ids->data = data;
	ids->cap = cap;
	return 0;
}

/* Text between special tokens. */
static int encode_plain(const struct tokenizer *t, struct bpe_work *w, const char *text, size_t len,
			struct id_list *ids)
{
	while (len) {
		size_t n = pretok_next(t->pretok, text, len);
		int rc = bpe_encode(&t->bpe, w, (const uint8_t *)text, n, ids);

		if (rc)
			return rc;
		text += n;
		len -= n;
	}
	return 0;
}

static int encode_all(const struct tokenizer *t, const char *text, size_t len,
		      const struct special_hit *hits, size_t n_hits, struct id_list *ids)
{
	struct bpe_work work;
	size_t at = 0;
	int rc = 0;

	bpe_work_init(&work, len);
	for (size_t i = 0; i < n_hits && !rc; i++) {
		rc = encode_plain(t, &work, text + at, hits[i].pos - at, ids);
		if (!rc)
			rc = id_list_reserve(ids, 1);
		if (!rc)
			ids->data[ids->n++] = hits[i].id;
		at = (size_t)hits[i].pos + hits[i].len;
	}
	if (!rc)
		rc = encode_plain(t, &work, text + at, len - at, ids);
	bpe_work_fini(&work);
	return rc;
}

static ssize_t encode(const struct tokenizer *t, const char *text, size_t len,
		      const struct text_span *trusted, size_t n_trusted, bool frame,
		      uint32_t **ret_ids)
{
	struct special_hit *hits = NULL;
	struct id_list ids = { 0 };
	size_t n_hits = 0;
	int rc;

	if (len > TEXT_MAX_BYTES)
		return -EFBIG;
	rc = id_list_reserve(&ids, 1);
	if (!rc)
		rc = specials_scan(&t->specials, text, len, trusted, n_trusted, &hits, &n_hits);
	if (!rc)
		rc = encode_all(t, text, len, hits, n_hits, &ids);
	free(hits);
	if (!rc && frame)
		rc = tokenizer_frame(t, &ids);
	if (rc) {
		free(ids.data);
		return rc;
	}
	*ret_ids = ids.data;
	return (ssize_t)ids.n;
}

ssize_t tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool special,
			 uint32_t **ret_ids)
{
	const struct text_span all = { 0, len };

	return encode(t, text, len, &all, special, false, ret_ids);
}

ssize_t tokenizer_encode_prompt(const struct tokenizer *t, const char *text, size_t len,
				bool special, uint32_t **ret_ids)
{
	const struct text_span all = { 0, len };

	return encode(t, text, len, &all, special, true, ret_ids);
}

ssize_t tokenizer_encode_spans(const struct tokenizer *t, const char *text, size_t len,
			       const struct text_span *trusted, size_t n, uint32_t **ret_ids)
{
	return encode(t, text, len, trusted, n, true, ret_ids);
}

size_t tokenizer_piece(const struct tokenizer *t, uint32_t id, bool special, const char **ret_bytes)
{
	const struct token *token;

	*ret_bytes = "";
	if (id >= t->n_vocab)
		return 0;
	token = &t->tokens[id];
	switch (token->type) {
	case TOKEN_UNDEFINED:
	case TOKEN_UNUSED:
		return 0;
	case TOKEN_UNKNOWN:
	case TOKEN_CONTROL:
		if (!special)
			return 0;
	}
	*ret_bytes = t->bytes + token->offset;
	return token->len;
}

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
	return t->n_vocab;
}

bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id)
{
	for (unsigned i = 0; i < t->n_eog; i++)
		if (t->eog[i] == id)
			return true;
	return false;
}

int64_t tokenizer_special_id(const struct tokenizer *t, const char *text)
{
	size_t len = strlen(text);
	const struct special *found = specials_match(&t->specials, text, len, len);

	return found && found->len == len ? (int64_t)found->id : -1;
}
