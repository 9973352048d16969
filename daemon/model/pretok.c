/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/pretok.c: the names of splits and those of the gpt-2 and qwen kind (docs/models.md
 * section 4).
 *
 * The expressions in the table define the splits; the functions find the same pieces without
 * backtracking. Every character is looked at a bounded number of times: a run of white space is
 * scanned once for the piece and once more for at most the tail that the piece leaves. NFC is not
 * applied: byte-exact round trips matter more here than equal ids for text in another normal form.
 * Called by the tokenizer. Any thread.
 */
#include "model/pretok.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/pretok_impl.h"

enum kind {
	KIND_GPT2,
	KIND_QWEN2,
	KIND_QWEN35,
	KIND_GLM4,
	KIND_CASED,
	KIND_DEEPSEEK,
	KIND_LINES,
	KIND_NR
};

struct pretok {
	enum kind kind;
	uint8_t letters; /* classes that make a word */
	uint8_t digits;	 /* the most of one piece */
};

#define SHORT_FORMS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPERS	    "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWERS	    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

static const struct {
	const char *patterns[PRETOK_PATTERNS]; /* each splits what those before it left or cut */
	uint8_t letters, digits;
} kinds[KIND_NR] = {
	[KIND_GPT2] = { .patterns = { "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS
				      "\\p{L}\\p{N}]+|" WS_RUNS },
			.letters = LETTER },
	[KIND_QWEN2] = { .patterns = { SHORT_FORMS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" WS
						   "\\p{L}\\p{N}]+[\\r\\n]*|[" WS
						   "]*[\\r\\n]+|" WS_RUNS },
			 .letters = LETTER,
			 .digits = 1 },
	[KIND_QWEN35] = { .patterns = { SHORT_FORMS
					"|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS
					"\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|[" WS
					"]*[\\r\\n]+|" WS_RUNS },
			  .letters = LETTER | MARK,
			  .digits = 1 },
	[KIND_GLM4] = { .patterns = { SHORT_FORMS
				      "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" WS
				      "\\p{L}\\p{N}]+[\\r\\n]*|[" WS "]*[\\r\\n]+|" WS_RUNS },
			.letters = LETTER,
			.digits = 3 },
	[KIND_CASED] = { .patterns = { "[^\\r\\n\\p{L}\\p{N}]?" UPPERS "*" LOWERS "+" SHORT_FORMS
				       "?|[^\\r\\n\\p{L}\\p{N}]?" UPPERS "+" LOWERS "*" SHORT_FORMS
				       "?|\\p{N}{1,3}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|[" WS
				       "]*[\\r\\n]+|" WS_RUNS } },
	[KIND_DEEPSEEK] = { .patterns = { "\\p{N}{1,3}",
					  "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
					  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
					  "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|[" WS
					  "]*[\\r\\n]+|" WS_RUNS } },
	[KIND_LINES] = { .patterns = { "[^\\n]+|\\n+" } },
};

/* Names in published files; those of the same kind have the same expression. */
static const struct {
	const char *name;
	enum kind kind;
} names[] = {
	{ "gpt-2", KIND_GPT2 },
	{ "phi-2", KIND_GPT2 },
	{ "mpt", KIND_GPT2 },
	{ "olmo", KIND_GPT2 },
	{ "qwen2", KIND_QWEN2 },
	{ "deepseek-r1-qwen", KIND_QWEN2 },
	{ "megrez", KIND_QWEN2 },
	{ "stablelm2", KIND_QWEN2 },
	{ "qwen35", KIND_QWEN35 },
	{ "glm4", KIND_GLM4 },
	{ "chatglm-bpe", KIND_GLM4 },
	{ "gpt-4o", KIND_CASED },
	{ "minimax-m2", KIND_CASED },
	{ "llama4", KIND_CASED },
	{ "kanana2", KIND_CASED },
	{ "deepseek-v3", KIND_DEEPSEEK },
	{ "hunyuan-dense", KIND_DEEPSEEK },
	{ "gemma4", KIND_LINES },
};

int pretok_create(const char *name, struct pretok **ret)
{
	struct pretok *p;
	size_t i = 0;
	int rc;

	while (i < ARRAY_LEN(names) && strcmp(names[i].name, name) != 0)
		i++;
	if (i == ARRAY_LEN(names))
		return -ENOENT;
	rc = pretok_make_classes();
	if (rc)
		return rc;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->kind = names[i].kind;
	p->letters = kinds[p->kind].letters;
	p->digits = kinds[p->kind].digits;
	*ret = p;
	return 0;
}

void pretok_destroy(struct pretok *p)
{
	free(p);
}

const char *pretok_pattern(const struct pretok *p, unsigned i)
{
	return i < PRETOK_PATTERNS ? kinds[p->kind].patterns[i] : NULL;
}

char *pretok_names(char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(names) && used < size; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s",
					 !i			    ? ""
					 : i + 1 < ARRAY_LEN(names) ? ", "
								    : " and ",
					 names[i].name);
	return buf;
}

size_t pretok_contraction(const uint8_t *s, size_t len, bool any_case)
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

const uint8_t *pretok_white_space(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *stop = skip_class(s, end, SPACE), *last = stop;

	if (stop == end)
		return stop;
	do
		last--;
	while ((*last & 0xc0) == 0x80);
	return last > s ? last : stop;
}

const uint8_t *pretok_last_newline(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *stop = skip_class(s, end, SPACE);

	while (stop > s)
		if (*--stop == '\n' || *stop == '\r')
			return stop;
	return NULL;
}

static const uint8_t *next_gpt2(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *word = s;
	unsigned n, class;
	size_t short_form;

	if (*s == '\'') {
		short_form = pretok_contraction(s, (size_t)(end - s), false);
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
	return pretok_white_space(s, end);
}

static const uint8_t *next_qwen(const struct pretok *p, const uint8_t *s, const uint8_t *end)
{
	unsigned n, m, class = class_at(s, end, &n), after = 0;
	const uint8_t *found;
	size_t short_form;

	if (*s == '\'') {
		short_form = pretok_contraction(s, (size_t)(end - s), true);
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
		return skip_numbers(s, end, p->digits);
	found = *s == ' ' && s + 1 < end && !(after & (p->letters | NUMBER | SPACE)) ? s + 1 : s;
	if (found > s || !(class & SPACE)) {
		found = skip_symbols(found, end, p->letters | NUMBER | SPACE);
		return skip_class(found, end, NEWLINE);
	}
	found = pretok_last_newline(s, end);
	return found ? found + 1 : pretok_white_space(s, end);
}

/* Runs of LF and what lies between them. */
static const uint8_t *next_lines(const uint8_t *s, const uint8_t *end)
{
	const uint8_t *stop;

	if (*s == '\n') {
		while (s < end && *s == '\n')
			s++;
		return s;
	}
	stop = memchr(s, '\n', (size_t)(end - s));
	return stop ? stop : end;
}

size_t pretok_next(const struct pretok *p, const char *text, size_t len)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + len, *stop;

	switch (p->kind) {
	case KIND_GPT2:
		stop = next_gpt2(s, end);
		break;
	case KIND_CASED:
		stop = pretok_next_cased(s, end);
		break;
	case KIND_DEEPSEEK:
		stop = pretok_next_deepseek(s, end);
		break;
	case KIND_LINES:
		stop = next_lines(s, end);
		break;
	default:
		stop = next_qwen(p, s, end);
	}
	return (size_t)(stop - s);
}
