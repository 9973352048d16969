/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/tokenizer_chars.c: vocabularies of characters instead of bytes (gemma4's).
 *
 * Their tokens are written as the text itself, only that U+2581 stands for a space; merges begin
 * with whole characters, and what has no token is written with the 256 tokens <0x00> to <0xFF>.
 * Owns the table from characters to symbols, which is constant once built. Called by
 * tokenizer_load.c while it builds and by tokenizer_bpe.c. Any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"
#include "model/tokenizer_impl.h"

#define SPACE_CP 0x2581u /* stands for a space in texts of tokens */

static struct bpe_char *find(const struct bpe_chars *c, uint32_t cp)
{
	uint32_t i = cp * 0x9e3779b1u & c->mask;

	while (c->slots[i].symbol != NO_ID && c->slots[i].cp != cp)
		i = (i + 1) & c->mask;
	return &c->slots[i];
}

/* The code point where the text is one character, else NO_ID. */
static uint32_t only_character(struct gguf_str text)
{
	uint32_t cp;

	if (!text.len || text.len > 4 ||
	    utf8_decode((const uint8_t *)text.data, text.len, &cp) != text.len)
		return NO_ID;
	return cp;
}

int bpe_chars_init(struct bpe_chars *c, const struct gguf_str *texts, uint32_t n)
{
	uint32_t slots = 1024, chars = 0;

	for (uint32_t i = 0; i < n; i++)
		chars += only_character(texts[i]) != NO_ID;
	while (slots < 2 * chars)
		slots *= 2;
	c->mask = slots - 1;
	c->slots = malloc(slots * sizeof(*c->slots));
	if (!c->slots)
		return -ENOMEM;
	memset(c->slots, 0xff, slots * sizeof(*c->slots));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t cp = only_character(texts[i]);

		if (cp != NO_ID)
			*find(c, cp) = (struct bpe_char){ cp, i }; /* of equals the last */
	}
	return 0;
}

unsigned bpe_chars_next(const struct bpe_chars *c, const uint8_t *text, size_t len,
			uint32_t *ret_symbol)
{
	uint32_t cp;
	unsigned n = utf8_decode(text, len, &cp);

	*ret_symbol = NO_ID;
	if (!n)
		return 1;
	*ret_symbol = find(c, cp == ' ' ? SPACE_CP : cp)->symbol;
	return n;
}

uint32_t chars_unescape(const char *text, uint32_t len, char *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < len; i++) {
		if (len - i >= 3 && !memcmp(text + i, "\xe2\x96\x81", 3)) {
			out[n++] = ' ';
			i += 2;
		} else {
			out[n++] = text[i];
		}
	}
	return n;
}

int chars_byte(struct gguf_str text)
{
	int high, low;

	if (text.len != 6 || memcmp(text.data, "<0x", 3) || text.data[5] != '>')
		return -1;
	high = hex_value(text.data[3]);
	low = hex_value(text.data[4]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

void chars_index(struct tokenizer *t, uint32_t unknown)
{
	struct bpe *b = &t->bpe;

	memset(b->newlines, 0xff, sizeof(b->newlines));
	for (unsigned byte = 0; byte < 256; byte++)
		b->byte_token[byte] = unknown;
	for (uint32_t id = 0; id < t->n_vocab; id++) {
		const struct token *token = &t->tokens[id];
		const char *text = t->bytes + token->offset;
		uint32_t n = 0;

		if (token->type == TOKEN_BYTE)
			b->byte_token[(uint8_t)*text] = id;
		if (token->type != TOKEN_NORMAL || !token->len || token->len > NEWLINES_MAX)
			continue;
		while (n < token->len && text[n] == '\n')
			n++;
		if (n == token->len)
			b->newlines[n] = id;
	}
}
