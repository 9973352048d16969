/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/text.h: code points of a text that is read, and of a JSON string that is
 * written. Inline or pure; any thread.
 */
#ifndef SLUICE_GRAMMAR_TEXT_H
#define SLUICE_GRAMMAR_TEXT_H

#include "grammar/ir.h"

/* The code point at the front of @n bytes and its length; 0: no UTF-8. */
unsigned text_char(const char *b, size_t n, uint32_t *ret);
/* @c in UTF-8; its length, 0: no code point. */
unsigned text_utf8(uint32_t c, char b[4]);
/* @n hexadecimal digits; false: others. */
bool text_hex(const char *b, size_t n, uint32_t *ret);

/* How characters of a text are spelled: json_chars() or plain_chars(). */
typedef ir_node (*chars_fn)(struct ir *ir, const struct ir_chars_set *set);

/* One character of the sorted set, in UTF-8. */
ir_node plain_chars(struct ir *ir, const struct ir_chars_set *set);
/*
 * One character of the sorted set as it stands within a JSON string: as it is where JSON allows that,
 * escaped where it must be; beyond ASCII also as \uXXXX, in pairs where need be. Where @ir has a guard a
 * < is always \u003c.
 */
ir_node json_chars(struct ir *ir, const struct ir_chars_set *set);
/* Any characters up to and with the quote that ends the string. */
ir_node json_tail(struct ir *ir);
/* These @n bytes of UTF-8 within a JSON string, without the quotes. */
ir_node json_content(struct ir *ir, const char *text, size_t n);

#endif
