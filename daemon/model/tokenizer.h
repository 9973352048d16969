/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/tokenizer.h: merges as GGUF files describe them: of bytes (tokenizer.ggml.model
 * "gpt2") or of characters ("gemma4", whose texts cannot tell U+2581 from a space).
 *
 * Built from the container alone, so a vocabulary-only file of any architecture works. Constant
 * after tokenizer_create(); any thread may encode or decode with it. Time is linear (up to a log
 * factor) in the input for any input. Rules: docs/models.md section 4.
 */
#ifndef SLUICE_MODEL_TOKENIZER_H
#define SLUICE_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct gguf;
struct tokenizer;

/*
 * @pre: NULL takes the file's tokenizer.ggml.pre, else a name that pretok.h knows, by force.
 * 0 or -errno with a sentence (missing keys, unknown model or pre-tokenizer, bad merges).
 */
int tokenizer_create(const struct gguf *g, const char *pre, struct tokenizer **ret,
		     struct err *err);
void tokenizer_destroy(struct tokenizer *t); /* NULL is fine */

uint32_t tokenizer_n_vocab(const struct tokenizer *t);

/*
 * @text: @len bytes, any bytes (invalid UTF-8 is encoded byte by byte). @special: parse control
 * tokens in the text too (user-defined ones always are). Returns the number of ids and a malloc'd
 * array in *ret_ids (caller frees; never NULL on success), or -errno.
 */
ssize_t tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool special,
			 uint32_t **ret_ids);

/*
 * The same for a whole prompt of raw text: with the tokens that the file wants around each prompt
 * (keys add_bos_token and add_eos_token), where the text does not write them itself.
 */
ssize_t tokenizer_encode_prompt(const struct tokenizer *t, const char *text, size_t len,
				bool special, uint32_t **ret_ids);

/* Bytes [begin, end) of a text. */
struct text_span {
	size_t begin, end;
};

/*
 * A whole prompt, as tokenizer_encode_prompt(), of which only some bytes may be control tokens:
 * those that lie in one of @trusted[0..n), spans in order that do not overlap. The rest is text, and
 * is cut and merged as if it had been written by one hand.
 */
ssize_t tokenizer_encode_spans(const struct tokenizer *t, const char *text, size_t len,
			       const struct text_span *trusted, size_t n, uint32_t **ret_ids);

/*
 * What an operator should know about the file's special tokens: sentence @i, or NULL where there
 * are no more. Valid as long as the tokenizer.
 */
const char *tokenizer_note(const struct tokenizer *t, unsigned i);

/*
 * The raw bytes of one token, which may be part of a UTF-8 character; control tokens give their
 * text only if @special. Returns the length and sets *ret_bytes (valid as long as the tokenizer);
 * ids out of range give length 0.
 */
size_t tokenizer_piece(const struct tokenizer *t, uint32_t id, bool special,
		       const char **ret_bytes);

/* End-of-generation ids of the file: eos, eot, <|im_end|>, <|endoftext|> and their like. */
bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id);

/* The id of a control or user-defined token by its text, or -1. */
int64_t tokenizer_special_id(const struct tokenizer *t, const char *text);

/*
 * Streaming detokeniser: whole UTF-8 characters only; an incomplete tail waits for the next token.
 * Invalid bytes come out as U+FFFD. Caller-owned, no allocation.
 */
struct detok {
	const struct tokenizer *t;
	bool special;
	uint8_t tail[4];
	unsigned n_tail;
};

void detok_init(struct detok *d, const struct tokenizer *t, bool special);
/*
 * Appends the text that became complete with @id to @buf (room for @len bytes) and returns its
 * length, or -ENOSPC (nothing consumed). detok_bound(t) bytes always suffice for one token.
 */
ssize_t detok_push(struct detok *d, uint32_t id, char *buf, size_t len);
/* What is left at the end (an incomplete character becomes U+FFFD). Same return values. */
ssize_t detok_flush(struct detok *d, char *buf, size_t len);
size_t detok_bound(const struct tokenizer *t);

/* Whether a chat's answer begins with a thought. */
enum chat_thinking {
	CHAT_THINK_AS_USUAL, /* not where the template can leave it out, else as the template has it */
	CHAT_THINK,
	CHAT_NO_THINK,
};

/* What one user turn says; borrowed. */
struct chat_turn {
	const char *system; /* NULL: none */
	size_t system_len;
	const char *user;
	size_t user_len;
	bool special; /* control tokens written in the texts are parsed; those of the frame always */
	enum chat_thinking thinking;
};

/* Whether chat_encode() knows a form for the file: its family's own, or ChatML. */
bool chat_possible(const struct gguf *g, const struct tokenizer *t);

/*
 * A chat of one user turn in the form of the model's family, ready to generate the answer; in ChatML
 * <|im_start|>user\n...<|im_end|>\n<|im_start|>assistant\n. It is followed by how the form or the
 * file's chat template begins an answer with or without a thought, and stands in what the file wants
 * around each prompt (see tokenizer_encode_prompt()). Returns the number of ids and a malloc'd
 * array, or -ENOTSUP and a sentence where the vocabulary has no form's tokens or the form not the
 * kind of thinking that was asked for.
 */
ssize_t chat_encode(const struct gguf *g, const struct tokenizer *t, const struct chat_turn *turn,
		    uint32_t **ret_ids, struct err *err);

#endif
