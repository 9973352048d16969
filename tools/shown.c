/* SPDX-License-Identifier: MIT */
/* tools/shown.c: see shown.h. A model may write anything, also what its prompt told it to. Pure. */
#include "tools/shown.h"

#include <string.h>

static void put(struct shown *s, FILE *out, const char *text, size_t n)
{
	if (!n)
		return;
	fwrite(text, 1, n, out);
	s->last = text[n - 1];
}

/* How many bytes a character that begins with @first has; 0: none begins so. */
static unsigned length_of(uint8_t first)
{
	return first < 0x80   ? 1
	       : first < 0xc2 ? 0
	       : first < 0xe0 ? 2
	       : first < 0xf0 ? 3
	       : first < 0xf5 ? 4
			      : 0;
}

/* The character in @c; negative: its bytes are none (RFC 3629: shortest form, no surrogates). */
static int32_t decode(const uint8_t *c, unsigned n)
{
	static const int32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	int32_t code = n == 1 ? c[0] : c[0] & (0x7f >> n);

	for (unsigned i = 1; i < n; i++)
		code = code << 6 | (c[i] & 0x3f);
	if (n > 1 && (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)))
		return -1;
	return code;
}

static bool steers(int32_t code)
{
	return (code >= 0x80 && code < 0xa0) || (code >= 0x202a && code <= 0x202e) ||
	       (code >= 0x2066 && code <= 0x2069);
}

static void put_character(struct shown *s, FILE *out)
{
	int32_t code = decode(s->part, s->n);
	char text[16];

	if (code < 0)
		put(s, out, "\xef\xbf\xbd", 3);
	else if (code < 0x20 && code != '\n' && code != '\t')
		put(s, out, text, (size_t)snprintf(text, sizeof(text), "^%c", (int)code + '@'));
	else if (code == 0x7f)
		put(s, out, "^?", 2);
	else if (steers(code))
		put(s, out, text, (size_t)snprintf(text, sizeof(text), "<U+%04X>", (unsigned)code));
	else
		put(s, out, (const char *)s->part, s->n);
	s->n = 0;
}

static void take_byte(struct shown *s, FILE *out, uint8_t byte)
{
	if (s->n && (byte & 0xc0) != 0x80) { /* the character before it never became whole */
		put(s, out, "\xef\xbf\xbd", 3);
		s->n = 0;
	}
	if (s->cr && byte != '\n')
		put(s, out, "^M", 2);
	s->cr = byte == '\r';
	if (s->cr)
		return;
	if (!s->n && !length_of(byte)) {
		put(s, out, "\xef\xbf\xbd", 3);
		return;
	}
	s->part[s->n++] = byte;
	if (s->n == length_of(s->part[0]))
		put_character(s, out);
}

void shown_put(struct shown *s, FILE *out, const char *text, size_t n)
{
	if (s->raw)
		put(s, out, text, n);
	for (size_t i = 0; i < n && !s->raw; i++)
		take_byte(s, out, (uint8_t)text[i]);
}

void shown_end(struct shown *s, FILE *out)
{
	if (s->n)
		put(s, out, "\xef\xbf\xbd", 3);
	if (s->cr)
		put(s, out, "^M", 2);
	s->n = 0;
	s->cr = false;
}

/* How many bytes of @c, a text with a NUL at its end, are a character that may be shown; 0: none. */
static unsigned harmless(const uint8_t *c)
{
	unsigned n = length_of(c[0]);
	int32_t code;

	for (unsigned i = 1; i < n; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	code = n ? decode(c, n) : -1;
	if (code < 0x20 && code != '\n' && code != '\t')
		return 0;
	return code == 0x7f || steers(code) ? 0 : n;
}

void shown_clean(char *text)
{
	uint8_t *c = (uint8_t *)text;

	while (*c) {
		unsigned n = harmless(c);

		if (!n)
			*c = '?';
		c += n ? n : 1;
	}
}
