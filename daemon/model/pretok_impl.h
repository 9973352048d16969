/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/pretok_impl.h: what the files of the pre-tokenizer share; nobody else includes it.
 *
 * pretok_classes.c says what every code point is, pretok.c knows the names and the splits that are
 * variations of one, pretok_cased.c and pretok_deepseek.c have a split each that is not. A split
 * is a function from a position to the end of the piece that begins there; it never looks back.
 * Tables are constant once made. Any thread.
 */
#ifndef SLUICE_MODEL_PRETOK_IMPL_H
#define SLUICE_MODEL_PRETOK_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/utf8.h"
#include "model/pretok.h"

#define N_CODE_POINTS 0x110000u

/* Classes of characters; one that has none is a symbol of no kind (control, private, unassigned). */
enum {
	LETTER = 1, /* L */
	NUMBER = 2, /* N */
	MARK = 4,   /* M */
	SPACE = 8,
	NEWLINE = 16, /* CR or LF, which are SPACE as well */
	UPPER = 32,   /* Lu or Lt, which are LETTER as well */
	LOWER = 64,   /* Ll, likewise */
	PUNCT = 128,  /* P or S */
};

/* Unicode's White_Space, inside brackets of an expression. */
#define WS                                                                                       \
	"\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
	"\\x{3000}"
#define WS_RUNS "[" WS "]+(?![^" WS "])|[" WS "]+"

/* The class of each code point, once pretok_make_classes() said 0. */
extern uint8_t pretok_classes[N_CODE_POINTS];
/* 0 or -errno. Costs time once per process. */
int pretok_make_classes(void);

/* The class of the character at @s and its length (1 for an invalid byte). s < end. */
static inline unsigned class_at(const uint8_t *s, const uint8_t *end, unsigned *ret_len)
{
	uint32_t cp;
	unsigned n;

	if (*s < 0x80) {
		*ret_len = 1;
		return pretok_classes[*s];
	}
	n = utf8_decode(s, (size_t)(end - s), &cp);
	*ret_len = n ? n : 1;
	return n ? pretok_classes[cp] : 0;
}

/* Past the characters that have any of the classes in @mask. */
static inline const uint8_t *skip_class(const uint8_t *s, const uint8_t *end, unsigned mask)
{
	unsigned n;

	while (s < end && (class_at(s, end, &n) & mask))
		s += n;
	return s;
}

/* Past the symbols: characters without any of the classes in @mask. */
static inline const uint8_t *skip_symbols(const uint8_t *s, const uint8_t *end, unsigned mask)
{
	unsigned n;

	while (s < end && !(class_at(s, end, &n) & mask))
		s += n;
	return s;
}

/* Past at most @most numbers, of which there is at least one at @s. */
static inline const uint8_t *skip_numbers(const uint8_t *s, const uint8_t *end, unsigned most)
{
	unsigned n;

	while (most-- && s < end && (class_at(s, end, &n) & NUMBER))
		s += n;
	return s;
}

/*
 * The bytes of 's 't 're 've 'm 'll 'd at @s, which holds an apostrophe; 0: none of them. Ignoring
 * case, 's also takes U+017F (long s), which folds to s.
 */
size_t pretok_contraction(const uint8_t *s, size_t len, bool any_case);
/*
 * White space at @s that nothing before took: all of it at the end of the text, else all but the
 * last character, which the next piece may want for itself; a single one stands alone.
 */
const uint8_t *pretok_white_space(const uint8_t *s, const uint8_t *end);
/* The last CR or LF in the white space at @s, or NULL. */
const uint8_t *pretok_last_newline(const uint8_t *s, const uint8_t *end);

/* The splits: past the piece at @s. s < end. */
const uint8_t *pretok_next_cased(const uint8_t *s, const uint8_t *end);
const uint8_t *pretok_next_deepseek(const uint8_t *s, const uint8_t *end);

#endif
