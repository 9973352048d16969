/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_unicode.c: what Python's str knows of characters: classes, cases, white space.
 * The tables are made from Python itself (scripts/make_unicode.py). See jinja.h.
 */
#include "base/utf8.h"
#include "chat/jinja.h"

struct case_run {
	uint32_t first, last;
	uint32_t step;
	int32_t delta;
};

struct case_special {
	uint32_t cp;
	uint32_t to[3];
};

#include "chat/jinja_unicode_table.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

bool unicode_is(uint32_t cp, enum jclass c)
{
	size_t lo = 0, hi = COUNT(uc_runs);

	while (hi - lo > 1) { /* the last run that begins at or before @cp */
		size_t mid = lo + (hi - lo) / 2;

		if (uc_runs[mid].first <= cp)
			lo = mid;
		else
			hi = mid;
	}
	return uc_runs[lo].flags >> c & 1;
}

static const struct {
	const struct case_run *runs;
	size_t n;
	const struct case_special *special;
	size_t n_special;
} cases[] = {
	[CASE_UPPER] = { uc_upper, COUNT(uc_upper), uc_upper_special, COUNT(uc_upper_special) },
	[CASE_LOWER] = { uc_lower, COUNT(uc_lower), uc_lower_special, COUNT(uc_lower_special) },
	[CASE_TITLE] = { uc_title, COUNT(uc_title), uc_title_special, COUNT(uc_title_special) },
	[CASE_FOLD] = { uc_casefold, COUNT(uc_casefold), uc_casefold_special,
			COUNT(uc_casefold_special) },
};

unsigned unicode_case(uint32_t cp, enum jcase to, uint32_t out[3])
{
	const struct case_run *runs = cases[to].runs;
	size_t lo = 0, hi = cases[to].n;

	out[0] = cp;
	if (cp < 128) {
		if (to == CASE_UPPER || to == CASE_TITLE)
			out[0] = cp >= 'a' && cp <= 'z' ? cp - 32 : cp;
		else
			out[0] = cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
		return 1;
	}
	for (size_t i = 0; i < cases[to].n_special; i++)
		if (cases[to].special[i].cp == cp) {
			unsigned n = 0;

			for (; n < 3 && cases[to].special[i].to[n]; n++)
				out[n] = cases[to].special[i].to[n];
			return n;
		}
	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (runs[mid].first <= cp)
			lo = mid;
		else
			hi = mid;
	}
	if (cp >= runs[lo].first && cp <= runs[lo].last &&
	    (cp - runs[lo].first) % runs[lo].step == 0)
		out[0] = (uint32_t)((int32_t)cp + runs[lo].delta);
	return 1;
}

uint32_t unicode_at(const char *s, size_t at, size_t n, unsigned *ret_n)
{
	uint32_t cp;
	unsigned k = utf8_decode((const uint8_t *)s + at, n - at, &cp);

	*ret_n = k ? k : 1; /* invalid: a byte by itself, never more than there is */
	return cp;
}

/* Capital sigma is the final form behind a cased letter with none after it. */
static bool final_sigma(const struct jstr *s, size_t at, unsigned n)
{
	bool before = false;
	unsigned k;

	for (size_t i = at; i > 0;) {
		uint32_t cp;

		do
			i--;
		while (i > 0 && ((uint8_t)s->p[i] & 0xc0) == 0x80);
		cp = unicode_at(s->p, i, s->n, &k);
		if (unicode_is(cp, CLASS_IGNORABLE))
			continue;
		before = unicode_is(cp, CLASS_CASED);
		break;
	}
	if (!before)
		return false;
	for (size_t i = at + n; i < s->n; i += k) {
		uint32_t cp = unicode_at(s->p, i, s->n, &k);

		if (!unicode_is(cp, CLASS_IGNORABLE))
			return !unicode_is(cp, CLASS_CASED);
	}
	return true;
}

struct jstr *jstr_case(struct jinja *j, const struct jstr *s, enum jcase to)
{
	uint32_t out[3];
	struct jbuf b;
	unsigned n;

	jbuf_init(&b, j);
	for (size_t i = 0; i < s->n; i += n) {
		uint32_t cp = unicode_at(s->p, i, s->n, &n);
		unsigned k = unicode_case(cp, to, out);

		if (cp == 0x3a3 && to == CASE_LOWER) {
			jinja_charge(j, s->n / 64);
			out[0] = final_sigma(s, i, n) ? 0x3c2 : 0x3c3;
		}
		for (unsigned m = 0; m < k; m++)
			jbuf_char(&b, out[m], jstr_trusted_at(s, i));
	}
	return jbuf_done(&b);
}

/* Whether @cp is to go: white space, or one of @chars. */
static bool goes(uint32_t cp, const struct jstr *chars)
{
	unsigned n;

	if (!chars)
		return unicode_is(cp, CLASS_SPACE);
	for (size_t i = 0; i < chars->n; i += n)
		if (unicode_at(chars->p, i, chars->n, &n) == cp)
			return true;
	return false;
}

struct jstr *jstr_strip(struct jinja *j, const struct jstr *s, const struct jstr *chars, bool left,
			bool right)
{
	size_t from = 0, to = s->n;
	unsigned n;

	while (left && from < to && goes(unicode_at(s->p, from, to, &n), chars)) {
		jinja_charge(j, chars ? 1 + chars->n / 8 : 0);
		from += n;
	}
	while (right && to > from) {
		size_t at = to - 1;

		jinja_charge(j, chars ? 1 + chars->n / 8 : 0);
		while (at > from && ((uint8_t)s->p[at] & 0xc0) == 0x80)
			at--;
		if (!goes(unicode_at(s->p, at, to, &n), chars))
			break;
		to = at;
	}
	return jstr_slice(j, s, from, to);
}
