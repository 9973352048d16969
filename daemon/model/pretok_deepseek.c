/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/pretok_deepseek.c: the split of deepseek-v3 (docs/models.md section 4).
 *
 * It is three splits after each other: numbers by threes, runs of Chinese and Japanese characters,
 * then words, punctuation and white space in what those left or cut. The third sees each piece of
 * the first two as a text of its own, so that white space before a number is at the end of a text.
 * Here they are one walk: the first character says in which kind of stretch it is, and nothing
 * goes beyond the end of a stretch. Any thread.
 */
#include "model/pretok_impl.h"

struct stretch {
	const uint8_t *end; /* of the text */
	bool cjk;	    /* else anything but numbers and such characters */
};

/* [U+4E00-U+9FA5 U+3040-U+30FF], three bytes each. */
static bool is_cjk(const uint8_t *s, const uint8_t *end)
{
	uint32_t cp;

	if (*s < 0xe3 || *s > 0xe9 || utf8_decode(s, (size_t)(end - s), &cp) != 3)
		return false;
	return (cp >= 0x4e00 && cp <= 0x9fa5) || (cp >= 0x3040 && cp <= 0x30ff);
}

/* Whether the stretch goes on at @s; then the class there. */
static bool within(const struct stretch *st, const uint8_t *s, unsigned *ret_class, unsigned *ret_n)
{
	if (s >= st->end)
		return false;
	*ret_class = class_at(s, st->end, ret_n);
	return !(*ret_class & NUMBER) && is_cjk(s, st->end) == st->cjk;
}

static const uint8_t *skip(const struct stretch *st, const uint8_t *s, unsigned mask)
{
	unsigned class, n;

	while (within(st, s, &class, &n) && (class & mask))
		s += n;
	return s;
}

static bool is_ascii_letter(uint8_t c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* Past ASCII punctuation with ASCII letters behind it, or NULL. */
static const uint8_t *marked_word(const struct stretch *st, const uint8_t *s)
{
	const uint8_t *stop = s + 1;

	if (*s < '!' || *s > '~' || is_ascii_letter(*s)) /* digits are no part of a stretch */
		return NULL;
	while (stop < st->end && is_ascii_letter(*stop))
		stop++;
	return stop > s + 1 ? stop : NULL;
}

/* White space at @s: up to its last line break, or all of it at the end of a stretch, or all but one. */
static const uint8_t *white_space(const struct stretch *st, const uint8_t *s)
{
	const uint8_t *stop = skip(st, s, SPACE), *newline = pretok_last_newline(s, stop);
	unsigned class, n;

	if (newline)
		return newline + 1;
	return within(st, stop, &class, &n) ? pretok_white_space(s, stop + n) : stop;
}

/* Past what no expression takes: up to where one does. */
static const uint8_t *unmatched(const struct stretch *st, const uint8_t *s)
{
	unsigned class, after, n, m;

	while (within(st, s, &class, &n) && !(class & (LETTER | MARK | PUNCT | SPACE)) &&
	       !(within(st, s + n, &after, &m) && (after & (LETTER | MARK))))
		s += n;
	return s;
}

const uint8_t *pretok_next_deepseek(const uint8_t *s, const uint8_t *end)
{
	struct stretch st = { end, is_cjk(s, end) };
	unsigned n, m, class = class_at(s, end, &n), after = 0;
	const uint8_t *stop;

	if (class & NUMBER)
		return skip_numbers(s, end, 3);
	stop = marked_word(&st, s);
	if (stop)
		return stop;
	if (!within(&st, s + n, &after, &m))
		after = 0;
	if (!(class & (NEWLINE | LETTER | PUNCT)) && (after & (LETTER | MARK)))
		return skip(&st, s + n, LETTER | MARK);
	if (class & (LETTER | MARK))
		return skip(&st, s, LETTER | MARK);
	if ((class & PUNCT) || (*s == ' ' && (after & PUNCT)))
		return skip(&st, skip(&st, s + n, PUNCT), NEWLINE);
	return class & SPACE ? white_space(&st, s) : unmatched(&st, s);
}
