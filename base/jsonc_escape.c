/* SPDX-License-Identifier: MIT */
/*
 * base/jsonc_escape.c: JSON text whose strings are ASCII (jsonc.h).
 *
 * json-c 0.18, which Debian 13 has, takes bytes above 0x7f for control characters where it is strict, and refuses them
 * in strings. Older ones do not. So no version is given any: what is not ASCII in a string is written as an escape.
 */
#include "base/jsonc_escape.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Goes over a text: whether it is in a string, and behind a backslash there. */
struct walk {
	bool string, escape;
};

/* The bytes at @text (@n >= 1 are left) that stand together in the copy, and how many they are there. */
struct piece {
	size_t bytes, written;
	uint32_t cp;
	bool bad; /* no UTF-8, in a string */
};

static struct piece next(struct walk *w, const char *text, size_t n)
{
	struct piece p = { .bytes = 1, .written = 1 };
	const char c = *text;

	if (w->string && c & 0x80) {
		p.bytes = utf8_decode((const uint8_t *)text, n, &p.cp);
		p.bad = !p.bytes;
		if (p.bad)
			p.bytes = 1;
		else
			p.written = p.cp < 0x10000 ? 6 : 12;
	} else if (c == '"' && !w->escape) {
		w->string = !w->string;
	}
	w->escape = w->string && c == '\\' && !w->escape;
	return p;
}

static char *write_escape(uint32_t cp, char *to)
{
	char text[16];

	if (cp < 0x10000)
		snprintf(text, sizeof(text), "\\u%04x", cp);
	else
		snprintf(text, sizeof(text), "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
			 0xdc00 + (cp & 0x3ff));
	memcpy(to, text, strlen(text));
	return to + strlen(text);
}

char *jsonc_escape(const char *text, size_t n, size_t *ret_n, size_t *ret_bad)
{
	struct walk w = { false };
	struct piece p;
	char *copy, *to;

	*ret_n = 0;
	*ret_bad = SIZE_MAX;
	for (size_t i = 0; i < n; i += p.bytes) {
		p = next(&w, text + i, n - i);
		*ret_n += p.written;
		if (p.bad && *ret_bad == SIZE_MAX)
			*ret_bad = i;
	}
	to = copy = malloc(*ret_n + 1);
	if (!copy)
		return NULL;
	w = (struct walk){ false };
	for (size_t i = 0; i < n; i += p.bytes) {
		p = next(&w, text + i, n - i);
		if (p.written > 1)
			to = write_escape(p.cp, to);
		else
			*to++ = p.bad ? '?' : text[i];
	}
	*to = '\0';
	return copy;
}

size_t jsonc_escaped_at(const char *text, size_t n, size_t at)
{
	struct walk w = { false };
	size_t i = 0, there = 0;

	while (i < n && there < at) {
		const struct piece p = next(&w, text + i, n - i);

		there += p.written;
		/* within what stands for a character: there it begins */
		if (there > at)
			break;
		i += p.bytes;
	}
	return i;
}
