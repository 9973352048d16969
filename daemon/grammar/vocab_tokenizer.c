/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/vocab_tokenizer.c: a model's tokens for masks: their bytes, and for control tokens,
 * which no text spells, their names. See vocab.h.
 */
#include "grammar/vocab.h"
#include "model/tokenizer.h"

static void get(void *arg, uint32_t id, struct vocab_token *ret)
{
	const struct tokenizer *t = arg;
	const char *bytes;

	ret->n = tokenizer_piece(t, id, false, &bytes);
	ret->ends = tokenizer_is_eog(t, id);
	if (!ret->n) {
		ret->n = tokenizer_piece(t, id, true, &bytes);
		ret->control = true;
	}
	ret->bytes = (const uint8_t *)bytes;
}

int vocab_of_tokenizer(const struct tokenizer *t, const struct grammar_stop *stop,
		       struct vocab **ret)
{
	return vocab_create(tokenizer_n_vocab(t), get, (void *)(uintptr_t)t, stop, ret);
}
