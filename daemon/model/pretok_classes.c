/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/pretok_classes.c: the class of every code point, from PCRE2's tables.
 *
 * Owns one table per process, made on first use. White space is Unicode's White_Space, not PCRE2's
 * \s, which under UCP also takes U+180E. Called by pretok_create(). Any thread.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include <errno.h>
#include <pcre2.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/num.h"
#include "model/pretok_impl.h"

uint8_t pretok_classes[N_CODE_POINTS];

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
			pretok_classes[cp] |= bit;
		}
	}
	pcre2_match_data_free(match);
	pcre2_code_free(code);
	return rc == PCRE2_ERROR_NOMATCH ? 0 : rc == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EIO;
}

static const struct {
	const char *pattern;
	uint8_t bit;
} kinds[] = {
	{ "\\p{L}+", LETTER },	{ "\\p{N}+", NUMBER },	      { "\\p{M}+", MARK },
	{ "[" WS "]+", SPACE }, { "[\\r\\n]+", NEWLINE },     { "[\\p{Lu}\\p{Lt}]+", UPPER },
	{ "\\p{Ll}+", LOWER },	{ "[\\p{P}\\p{S}]+", PUNCT },
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_rc;

static void classify_all(void)
{
	size_t len;
	uint8_t *text = all_characters(&len);
	int rc = text ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_LEN(kinds) && !rc; i++)
		rc = classify(text, len, kinds[i].pattern, kinds[i].bit);
	free(text);
	once_rc = rc;
}

int pretok_make_classes(void)
{
	pthread_once(&once, classify_all);
	return once_rc;
}
