/* SPDX-License-Identifier: MIT */
/* daemon/serve/prompt.c: see prompt.h. */
#include "serve/prompt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "chat/template.h"
#include "serve/private.h"

/* A text that cannot fit however well it compresses is not worth the main thread's time. */
static int check_text(const struct serve *s, uint64_t bytes, struct err *err)
{
	uint32_t n_ctx = engine_n_ctx(s->config.engine);
	uint64_t most;

	if (u64_mul_overflow(n_ctx, detok_bound(s->config.tokenizer), &most) || bytes <= most)
		return 0;
	return err_set(err, SLUICE_E_TOO_LONG,
		       "a text of %llu bytes cannot fit the context of %u tokens (sluiced --ctx)",
		       (unsigned long long)bytes, n_ctx);
}

static ssize_t encode_chat(const struct serve *s, const struct ask *ask, uint32_t **ret,
			   struct err *err)
{
	const char *text = (const char *)ask->data;
	const struct chat_turn turn = {
		.system = ask->system_bytes ? text : NULL,
		.system_len = ask->system_bytes,
		.user = text + ask->system_bytes,
		.user_len = ask->bytes - ask->system_bytes,
		.special = ask->special,
		.thinking = ask->thinking,
	};

	return chat_turn_encode(s->config.chat, s->config.chat_kwargs, s->config.model->gguf,
				s->config.tokenizer, &turn, ret, err);
}

static int encode_text(const struct serve *s, const struct ask *ask, uint32_t **ret,
		       uint32_t *ret_n, struct err *err)
{
	int code = check_text(s, ask->bytes, err);
	ssize_t n;

	if (code)
		return code;
	if (ask->trusted)
		n = tokenizer_encode_spans(s->config.tokenizer, (const char *)ask->data, ask->bytes,
					   ask->trusted, ask->n_trusted, ret);
	else if (ask->chat)
		n = encode_chat(s, ask, ret, err);
	else
		n = tokenizer_encode_prompt(s->config.tokenizer, (const char *)ask->data,
					    ask->bytes, ask->special, ret);
	if (n == -ENOTSUP) /* which has its own sentence */
		return SLUICE_E_UNSUPPORTED;
	if (n < 0)
		return err_set(err, n == -ENOMEM ? SLUICE_E_NO_MEMORY : SLUICE_E_INVALID,
			       "the text cannot be tokenised: %s", strerror((int)-n));
	*ret_n = (uint32_t)n;
	return 0;
}

static int copy_ids(const struct serve *s, const struct ask *ask, uint32_t **ret, uint32_t *ret_n,
		    struct err *err)
{
	uint32_t n = (uint32_t)(ask->bytes / sizeof(uint32_t)), *ids = malloc(ask->bytes + 1);

	if (!ids)
		return err_set(err, SLUICE_E_NO_MEMORY, "out of memory for a prompt");
	memcpy(ids, ask->data, n * sizeof(*ids));
	for (uint32_t i = 0; i < n; i++)
		if (ids[i] >= s->config.model->n_vocab) {
			err_set(err, 0, "token %u at position %u: the vocabulary has %u", ids[i], i,
				s->config.model->n_vocab);
			free(ids);
			return SLUICE_E_INVALID;
		}
	*ret = ids;
	*ret_n = n;
	return 0;
}

int prompt_encode(const struct serve *s, const struct ask *ask, uint32_t **ret, uint32_t *ret_n,
		  struct err *err)
{
	return ask->is_ids ? copy_ids(s, ask, ret, ret_n, err)
			   : encode_text(s, ask, ret, ret_n, err);
}

uint32_t prompt_marks(const struct serve *s, const char *text, uint64_t bytes, const uint32_t *ids,
		      uint32_t n, const struct text_mark *marks, uint32_t n_marks,
		      struct prompt_mark *ret)
{
	uint32_t next = 0, found = 0;
	uint64_t at = 0;

	for (uint32_t i = 0; i < n && next < n_marks; i++) {
		const char *piece;
		size_t len = tokenizer_piece(s->config.tokenizer, ids[i], true, &piece);

		if (len > bytes - at || memcmp(text + at, piece, len) != 0) {
			if (i) /* a vocabulary whose pieces are not the text: no place is known */
				break;
			len = 0; /* a token that the file wants before each prompt */
		}
		at += len;
		while (next < n_marks && marks[next].at < at)
			next++;
		for (; next < n_marks && marks[next].at == at; next++)
			ret[found++] = (struct prompt_mark){ i + 1, marks[next].kind };
	}
	return found;
}

int prompt_breaks(const struct serve *s, const char *const *texts, size_t n, uint8_t **ret)
{
	uint32_t n_tokens = tokenizer_n_vocab(s->config.tokenizer);
	uint8_t *map = calloc(1, (s->config.model->n_vocab + 7) / 8 + 1);

	if (!map)
		return SLUICE_E_NO_MEMORY;
	for (size_t i = 0; i < n; i++) {
		const size_t bytes = strlen(texts[i]);

		for (uint32_t id = 0; id < n_tokens && id < s->config.model->n_vocab; id++) {
			const char *piece;
			size_t len = tokenizer_piece(s->config.tokenizer, id, true, &piece);

			if (memmem(piece, len, texts[i], bytes))
				map[id / 8] |= (uint8_t)(1u << id % 8);
		}
	}
	*ret = map;
	return 0;
}

/* A buffer that grows by doubling, never beyond what the ids can give. */
int prompt_decode(const struct serve *s, const uint32_t *ids, uint32_t n, bool raw, char **ret,
		  size_t *ret_bytes)
{
	size_t bound = detok_bound(s->config.tokenizer), room = bound + 4096, used = 0;
	char *text = malloc(room);
	struct detok d;

	detok_init(&d, s->config.tokenizer, raw);
	for (uint32_t i = 0; text && i <= n; i++) {
		ssize_t got;

		if (room - used < bound) {
			char *bigger = realloc(text, room * 2);

			if (!bigger)
				break;
			text = bigger;
			room *= 2;
		}
		got = i < n ? detok_push(&d, ids[i], text + used, room - used)
			    : detok_flush(&d, text + used, room - used);
		used += got > 0 ? (size_t)got : 0;
		if (i == n) {
			*ret = text;
			*ret_bytes = used;
			return 0;
		}
	}
	free(text);
	return SLUICE_E_NO_MEMORY;
}
