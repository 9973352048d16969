/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/vocab.h: a vocabulary's tokens as a trie over their bytes, for masks.
 *
 * A control token is its text behind the byte VOCAB_CONTROL, which is in no UTF-8 text: a grammar
 * can ask for one by that spelling, and no text can be taken for one. Tokens without bytes, with
 * more than VOCAB_MAX_BYTES or with that byte in their text are never allowed. Nodes lie in the order
 * in which a walk visits them. Tokens of more than VOCAB_SHORT bytes have a trie of their own
 * (matcher_impl.h says why).
 *
 * Slices are kinds of text that most tokens are made of and most states allow altogether: where a state
 * allows every text of a slice up to r characters, all of its tokens up to r characters are
 * taken from one list, and the walk leaves out what holds no other tokens.
 *
 * About 30 bytes a token and 6 MiB in all for 150,000 tokens. Constant once made; any thread.
 */
#ifndef SLUICE_GRAMMAR_VOCAB_H
#define SLUICE_GRAMMAR_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOCAB_CONTROL	0xff
#define VOCAB_SHORT	32u
#define VOCAB_MAX_BYTES 1024u
#define VOCAB_SLICES	2

struct tokenizer;

struct vocab_token {
	const uint8_t *bytes;
	size_t n;
	bool control; /* @bytes are its text, without VOCAB_CONTROL */
	bool ends;    /* of generation */
};

struct grammar_stop;
struct vocab;

/* @get fills in token @id; its bytes are copied. 0, -ENOMEM, or as @stop (NULL: none) says (stop.h). */
int vocab_create(uint32_t n, void (*get)(void *arg, uint32_t id, struct vocab_token *ret),
		 void *arg, const struct grammar_stop *stop, struct vocab **ret);
/* The same of a model's tokenizer. */
int vocab_of_tokenizer(const struct tokenizer *t, const struct grammar_stop *stop,
		       struct vocab **ret);
/* One more holder; the last vocab_destroy() frees it. Any thread. */
struct vocab *vocab_hold(struct vocab *v);
void vocab_destroy(struct vocab *v); /* NULL is fine */

uint32_t vocab_n(const struct vocab *v);
static inline uint32_t vocab_words_of(uint32_t n)
{
	return (n + 63) / 64;
}
uint32_t vocab_words(const struct vocab *v);
/* As the trie has them (VOCAB_CONTROL in front of a control token's); *ret_n 0: never allowed. */
const uint8_t *vocab_bytes(const struct vocab *v, uint32_t id, size_t *ret_n);
/* Is there a control token of this text? */
bool vocab_has_control(const struct vocab *v, const char *text);
bool vocab_ends(const struct vocab *v, uint32_t id);
/* Bits of the tokens that end generation. */
const uint64_t *vocab_end_bits(const struct vocab *v);

struct vocab_trie {
	uint32_t n;
	uint8_t *byte;
	uint16_t *depth; /* 1: the first byte */
	uint32_t *skip;	 /* behind the node's subtree */
	uint32_t *token; /* n + 1: its own tokens are ids[token[i] .. token[i + 1]) */
	uint32_t *ids;
	uint8_t *most[VOCAB_SLICES]; /* most characters of a token in the subtree; VOCAB_MIXED */
};

#define VOCAB_MIXED 255 /* not all of them are of the slice */

const struct vocab_trie *vocab_short(const struct vocab *v);
const struct vocab_trie *vocab_long(const struct vocab *v); /* without @most */

/* The tokens of slice @k in the short trie with at most @chars <= VOCAB_SHORT characters, as bits. */
const uint64_t *vocab_slice(const struct vocab *v, unsigned k, unsigned chars);
/* Is the ASCII character in the slice? All that are not ASCII are. */
bool vocab_slice_has(unsigned k, unsigned c);

#endif
