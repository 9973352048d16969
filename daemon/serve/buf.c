/* SPDX-License-Identifier: MIT */
/* daemon/serve/buf.c: see buf.h. */
#include "serve/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

/* Room for @n more bytes and a NUL. */
static bool grow(struct buf *b, size_t n)
{
	size_t room = b->room ? b->room : 256;
	char *data;

	if (b->failed)
		return false;
	if (b->n + n + 1 <= b->room)
		return true;
	while (room < b->n + n + 1)
		room *= 2;
	data = realloc(b->data, room);
	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->room = room;
	return true;
}

void buf_put(struct buf *b, const void *data, size_t n)
{
	if (!n || !grow(b, n))
		return;
	memcpy(b->data + b->n, data, n);
	b->n += n;
	b->data[b->n] = '\0';
}

void buf_text(struct buf *b, const char *text)
{
	buf_put(b, text, strlen(text));
}

void buf_fmt(struct buf *b, const char *fmt, ...)
{
	va_list args, again;
	int n;

	va_start(args, fmt);
	va_copy(again, args);
	n = vsnprintf(NULL, 0, fmt, args);
	if (n > 0 && grow(b, (size_t)n))
		b->n += (size_t)vsnprintf(b->data + b->n, b->room - b->n, fmt, again);
	va_end(again);
	va_end(args);
}

/* Length of the UTF-8 character at @s of @n bytes; 0: none (RFC 3629: no surrogates, shortest form). */
static size_t utf8_length(const uint8_t *s, size_t n)
{
	static const struct {
		uint8_t lo, hi, second_lo, second_hi, len;
	} forms[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	if (s[0] < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (s[0] < forms[i].lo || s[0] > forms[i].hi)
			continue;
		if (n < forms[i].len || s[1] < forms[i].second_lo || s[1] > forms[i].second_hi)
			return 0;
		for (size_t k = 2; k < forms[i].len; k++)
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].len;
	}
	return 0;
}

/* One character that cannot stand as it is. */
static void escape(struct buf *b, uint8_t c)
{
	static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";

	for (const char *p = letters; *p; p += 2)
		if ((uint8_t)*p == c) {
			const char two[2] = { '\\', p[1] };

			buf_put(b, two, 2);
			return;
		}
	buf_fmt(b, "\\u%04x", c);
}

void buf_json(struct buf *b, const char *text, size_t n)
{
	size_t from = 0, at = 0;

	text = text ? text : ""; /* what was never written to is no text */
	buf_put(b, "\"", 1);
	while (at < n) {
		const uint8_t *s = (const uint8_t *)text + at;
		size_t len = utf8_length(s, n - at);

		if (len && s[0] >= 0x20 && s[0] != '"' && s[0] != '\\' && s[0] != 0x7f) {
			at += len;
			continue;
		}
		buf_put(b, text + from, at - from);
		if (len)
			escape(b, s[0]);
		else
			buf_put(b, "\xef\xbf\xbd", 3);
		from = at += len ? len : 1;
	}
	buf_put(b, text + from, at - from);
	buf_put(b, "\"", 1);
}

void buf_json_text(struct buf *b, const char *text)
{
	if (text)
		buf_json(b, text, strlen(text));
	else
		buf_text(b, "null");
}
