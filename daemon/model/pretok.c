/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/pretok.c: the splits of gpt-2, qwen2 and qwen35 (docs/models.md section 4).
 *
 * Owns the class of every code point, one table per process (letter, number, mark, white space) and the rules of the
 * split. White space is Unicode's White_Space, not PCRE2's \s, which under UCP also takes U+180E.
 * Ignoring case, 's also takes U+017F (long s), which folds to s. NFC is not applied: byte-exact
 * round trips matter more here than equal ids for text in another normal form.
 * The expressions in the table define the split; the functions below find the same pieces without
 * backtracking. Every character is looked at a bounded number of times: a run of white space is
 * scanned once for the piece and once more for at most the tail that the piece leaves.
 * Called by the tokenizer. Any thread.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "model/pretok.h"

#include <errno.h>
#include <pcre2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/tokenizer_utf8.h"

#define N_CODE_POINTS 0x110000u

enum {
	LETTER = 1,
	NUMBER = 2,
	MARK = 4,
	SPACE = 8,
	NEWLINE = 16, /* CR or LF, which are SPACE as well */
};

enum kind { KIND_GPT2, KIND_QWEN2, KIND_QWEN35, KIND_NR };

struct pretok {
	enum kind kind;
	uint8_t letters; /* classes that make a word */
};

/* The class of each code point, 0 for a symbol. Written once per process, constant afterwards. */
static uint8_t classes[N_CODE_POINTS];
static pthread_once_t classes_once = PTHREAD_ONCE_INIT;
static int classes_rc;

/* Unicode's White_Space, inside brackets. */
#define WS                                                                                       \
	"\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
	"\\x{3000}"
#define WS_RUNS "[" WS "]+(?![^" WS "])|[" WS "]+"

static const struct {
	const char *pattern;
	uint8_t letters;
} kinds[KIND_NR] = {
	[KIND_GPT2] = { "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS
			"\\p{L}\\p{N}]+|" WS_RUNS,
			LETTER },
	[KIND_QWEN2] = { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" WS
			 "\\p{L}\\p{N}]+[\\r\\n]*|[" WS "]*[\\r\\n]+|" WS_RUNS,
			 LETTER },
	[KIND_QWEN35] = { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+"
			  "|\\p{N}| ?[^" WS "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|[" WS
			  "]*[\\r\\n]+|" WS_RUNS,
			  LETTER | MARK },
};

/* Names in published files; those of the same kind have the same expression. */
static const struct {
	const char *name;
	enum kind kind;
} names[] = {
	{ "gpt-2", KIND_GPT2 },	  { "phi-2", KIND_GPT2 },      { "mpt", KIND_GPT2 },
	{ "olmo", KIND_GPT2 },	  { "qwen2", KIND_QWEN2 },     { "deepseek-r1-qwen", KIND_QWEN2 },
	{ "megrez", KIND_QWEN2 }, { "stablelm2", KIND_QWEN2 }, { "qwen35", KIND_QWEN35 },
};

/* ---- classes ---- */

/* Every code point but the surrogates, in order. malloc'd. */
static uint8_t *all_characters(size_t *ret_len)
{
	uint8_t *text = malloc(4 * (size_t)N_CODE_POINTS);
	size_t len = 0;

	if (!text)
		return NULL;
	for (uint32_t cp = 0; cp < N_CODE_POINTS; cp++)
		if (cp < 0xd800 || cp > 0xdfff)
			len += utf8_encode(cp, text + len);
	*ret_len = len;
	return text;
}

/* Adds @bit to the class of every character in the pieces of @text that @pattern matches. */
static int classify(const uint8_t *text, size_t len, const char *pattern, uint8_t bit)
{
	uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, cp;
	pcre2_match_data *match = NULL;
	pcre2_code *code;
	size_t offset, *span;
	int error, rc;

	code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error, &offset,
			     NULL);
	if (!code)
		return -ENOMEM;
	pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without it, it is only slower */
	match = pcre2_match_data_create(1, NULL);
	rc = match ? 1 : PCRE2_ERROR_NOMEMORY;
	for (offset = 0; rc > 0;) {
		rc = pcre2_match(code, text, len, offset, PCRE2_NO_UTF_CHECK, match, NULL);
		if (rc <= 0)
			break;
		span = pcre2_get_ovector_pointer(match);
		for (offset = span[0]; offset < span[1];) {
			offset += utf8_decode(text + offset, len - offset, &cp);
			classes[cp] |= bit;
		}
	}
	pcre2_match_data_free(match);
	pcre2_code_free(code);
	return rc == PCRE2_ERROR_NOMATCH ? 0 : rc == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EIO;
}

static void classify_all(void)
{
	size_t len;
	uint8_t *text = all_characters(&len);
	int rc = text ? 0 : -ENOMEM;

	if (!rc)
		rc = classify(text, len, "\\p{L}+", LETTER);
	if (!rc)
		rc = classify(text, len, "\\p{N}+", NUMBER);
	if (!rc)
		rc = classify(text, len, "\\p{M}+", MARK);
	if (!rc)
		rc = classify(text, len, "[" WS "]+", SPACE);
	if (!rc)
		rc = classify(text, len, "[\\r\\n]+", NEWLINE);
	free(text);
	classes_rc = rc;
}

int pretok_create(const char *name, struct pretok **ret)
{
	struct pretok *p;
	size_t i = 0;

	while (i < ARRAY_LEN(names) && strcmp(names[i].name, name) != 0)
		i++;
	if (i == ARRAY_LEN(names))
		return -ENOENT;
	pthread_once(&classes_once, classify_all);
	if (classes_rc)
		return classes_rc;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->kind = names[i].kind;
	p->letters = kinds[p->kind].letters;
	*ret = p;
	return 0;
}

void pretok_destroy(struct pretok *p)
{
	free(p);
}

const char *pretok_pattern(const struct pretok *p)
{
	return kinds[p->kind].pattern;
}

/* ---- the split ---- */

/* The class of the character at @s and its length (1 for an invalid byte). s < end. */
static inline unsigned class_at(const uint8_t *s, const uint8_t *end, unsigned *ret_len)
{
	uint32_t cp;
	unsigned n;

	if (*s < 0x80) {
		*ret_len = 1;
		return classes[*s];
	}
	n = utf8_decode(s, (size_t)(end - s), &cp);
	*ret_len = n ? n : 1;
	return n ? classes[cp] : 0;
}

/* Past the characters that have any of the classes in @mask. */
static const uint8_t *skip_class(const uint8_t *s, const uint8_t *end, unsigned mask)
{
	unsigned n;

	while (s < end && (class_at(s, end, &n) & mask))
		s += n;
	return s;
}

/* Past the symbols: characters without any of the classes in @mask. */
static const uint8_t *skip_symbols(const uint8_t *s, const uint8_t *end, unsigned mask)
{
	unsigned n;

	while (s < end && !(class_at(s, end, &n) & mask))
		s += n;
	return s;
}

/* The bytes of 's 't 're 've 'm 'll 'd at @s, which holds an apostrophe; 0: none of them. */
static size_t contraction(const uint8_t *s, size_t len, bool any_case)
{
	uint8_t a, b, fold = any_case ? 0x20 : 0;

	if (len < 2)
		return 0;
	if (any_case && len > 2 && s[1] == 0xc5 && s[2] == 0xbf) /* U+017F, long s */
		return 3;
	a = s[1] | fold;
	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return 2;
	if (len < 3)
		return 0;
	b = s[2] | fold;
	if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
		return 3;
	return 0;
}

/*
 * White space at @s that nothing before took: all of it at the end of the text, else all but the
 * last character, which the next piece may want for itself; a single one stands alone.
 */
static const uint8_t *white_space(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *stop = skip_class(s, end, SPACE), *last = stop;

	if (stop == end)
		return stop;
	do
		last--;
	while ((*last & 0xc0) == 0x80);
	return last > s ? last : stop;
}

static const uint8_t *next_gpt2(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *word = s;
	unsigned n, class;
	size_t short_form;

	if (*s == '\'') {
		short_form = contraction(s, (size_t)(end - s), false);
		if (short_form)
			return s + short_form;
	}
	if (*s == ' ' && s + 1 < end)
		word = s + 1;
	class = class_at(word, end, &n);
	if (class & (LETTER | NUMBER))
		return skip_class(word, end, class);
	if (!(class & SPACE))
		return skip_symbols(word, end, LETTER | NUMBER | SPACE);
	return white_space(s, end);
}

/* The last CR or LF in the white space at @s, or NULL. */
static const uint8_t *last_newline(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *stop = skip_class(s, end, SPACE);

	while (stop > s)
		if (*--stop == '\n' || *stop == '\r')
			return stop;
	return NULL;
}

static const uint8_t *next_qwen(const struct pretok *p, const uint8_t *s, const uint8_t *end)
{
	unsigned n, m, class = class_at(s, end, &n), after = 0;
	const uint8_t *found;
	size_t short_form;

	if (*s == '\'') {
		short_form = contraction(s, (size_t)(end - s), true);
		if (short_form)
			return s + short_form;
	}
	if (s + n < end)
		after = class_at(s + n, end, &m);
	if (!(class & (NEWLINE | LETTER | NUMBER)) && (after & p->letters))
		return skip_class(s + n, end, p->letters);
	if (class & p->letters)
		return skip_class(s, end, p->letters);
	if (class & NUMBER)
		return s + n;
	found = *s == ' ' && s + 1 < end && !(after & (p->letters | NUMBER | SPACE)) ? s + 1 : s;
	if (found > s || !(class & SPACE)) {
		found = skip_symbols(found, end, p->letters | NUMBER | SPACE);
		return skip_class(found, end, NEWLINE);
	}
	found = last_newline(s, end);
	return found ? found + 1 : white_space(s, end);
}

size_t pretok_next(const struct pretok *p, const char *text, size_t len)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + len;
	const uint8_t *stop = p->kind == KIND_GPT2 ? next_gpt2(s, end) : next_qwen(p, s, end);

	return (size_t)(stop - s);
}
