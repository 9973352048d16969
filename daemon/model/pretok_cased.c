/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/pretok_cased.c: the split of gpt-4o and minimax-m2, in which words end where their
 * case does (docs/models.md section 4).
 *
 * A word is capitals, then small letters; letters without case and marks count as both. The
 * expression (pretok.c) is an alternation that backtracks; here the ends of the runs are worked
 * out instead. Every run is scanned a bounded number of times. Any thread.
 */
#include "model/pretok_impl.h"

/* Letters and marks, by what they may be: capitals, small letters, or both. */
static bool in_word(unsigned class)
{
	return class & (LETTER | MARK);
}

static bool is_capital(unsigned class)
{
	return in_word(class) && !(class & LOWER);
}

static bool is_small(unsigned class)
{
	return in_word(class) && !(class & UPPER);
}

/* What may stand before a word in its piece. */
static bool may_lead(unsigned class)
{
	return !(class & (NEWLINE | LETTER | NUMBER));
}

/* Past what is_capital() or is_small() at @s; *ret_both: past the last that is both, or NULL. */
static const uint8_t *skip_capitals(const uint8_t *s, const uint8_t *end, const uint8_t **ret_both)
{
	unsigned n, class;

	*ret_both = NULL;
	while (s < end && is_capital(class = class_at(s, end, &n))) {
		s += n;
		if (is_small(class))
			*ret_both = s;
	}
	return s;
}

static const uint8_t *skip_small(const uint8_t *s, const uint8_t *end)
{
	unsigned n;

	while (s < end && is_small(class_at(s, end, &n)))
		s += n;
	return s;
}

/*
 * Past a word at @s that has a small letter, or NULL: capitals as many as there are, then small
 * letters; where none follow, the capitals give back up to one that is both.
 */
static const uint8_t *word_with_small(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *both, *capitals = skip_capitals(s, end, &both);
	const uint8_t *small = skip_small(capitals, end);

	return small > capitals ? small : both;
}

static const uint8_t *short_form(const uint8_t *s, const uint8_t *end)
{
	return s < end && *s == '\'' ? s + pretok_contraction(s, (size_t)(end - s), true) : s;
}

/* Past the word at @s with what may lead it, or NULL where there is none. */
static const uint8_t *word(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *stop = NULL, *both, *capitals;
	unsigned n, class = class_at(s, end, &n);
	bool led = may_lead(class) && s + n < end;

	if (led)
		stop = word_with_small(s + n, end);
	if (!stop)
		stop = word_with_small(s, end);
	if (!stop && led) {
		capitals = skip_capitals(s + n, end, &both);
		stop = capitals > s + n ? capitals : NULL;
	}
	if (!stop) {
		capitals = skip_capitals(s, end, &both);
		stop = capitals > s ? capitals : NULL;
	}
	return stop ? short_form(stop, end) : NULL;
}

/* Past the symbols at @s, with one space before and line breaks and slashes behind, or NULL. */
static const uint8_t *symbols(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *begin = *s == ' ' ? s + 1 : s;
	const uint8_t *stop = skip_symbols(begin, end, LETTER | NUMBER | SPACE);

	if (stop == begin)
		return NULL;
	while (stop < end && (*stop == '\n' || *stop == '\r' || *stop == '/'))
		stop++;
	return stop;
}

const uint8_t *pretok_next_cased(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *stop = word(s, end);
	unsigned n;

	if (stop)
		return stop;
	if (class_at(s, end, &n) & NUMBER)
		return skip_numbers(s, end, 3);
	stop = symbols(s, end);
	if (stop)
		return stop;
	stop = pretok_last_newline(s, end);
	return stop ? stop + 1 : pretok_white_space(s, end);
}
