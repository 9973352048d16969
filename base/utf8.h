/* SPDX-License-Identifier: MIT */
/*
 * base/utf8.h: UTF-8, one character at a time, invalid bytes told apart from valid ones (RFC 3629: no overlong forms,
 * no surrogates, nothing above U+10FFFF). Inline, no state, any thread.
 */
#ifndef SLUICE_BASE_UTF8_H
#define SLUICE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the character that begins with @lead; 0: no character does. */
static inline unsigned utf8_length(uint8_t lead)
{
	if (lead < 0x80)
		return 1;
	if (lead < 0xc2)
		return 0;
	if (lead < 0xe0)
		return 2;
	if (lead < 0xf0)
		return 3;
	return lead < 0xf5 ? 4 : 0;
}

/* Whether @byte may follow @n bytes (@n >= 1) of a character that begins with @lead. */
static inline bool utf8_continues(uint8_t lead, unsigned n, uint8_t byte)
{
	if ((byte & 0xc0) != 0x80)
		return false;
	if (n > 1)
		return true;
	switch (lead) {
	case 0xe0:
		return byte >= 0xa0;
	case 0xed:
		return byte < 0xa0;
	case 0xf0:
		return byte >= 0x90;
	case 0xf4:
		return byte < 0x90;
	default:
		return true;
	}
}

/* The character at @s (@len >= 1 bytes): its length and code point, or 0 and U+FFFD where invalid. */
static inline unsigned utf8_decode(const uint8_t *s, size_t len, uint32_t *ret_cp)
{
	unsigned n = utf8_length(s[0]);
	uint32_t cp;

	*ret_cp = s[0];
	if (n == 1)
		return 1;
	*ret_cp = 0xfffd;
	if (!n || n > len)
		return 0;
	cp = s[0] & (0x7fu >> n);
	for (unsigned i = 1; i < n; i++) {
		if (!utf8_continues(s[0], i, s[i]))
			return 0;
		cp = cp << 6 | (s[i] & 0x3f);
	}
	*ret_cp = cp;
	return n;
}

/* How many bytes of @s lie before the first that is no UTF-8; @n: none is. */
static inline size_t utf8_valid(const char *s, size_t n)
{
	const uint8_t *p = (const uint8_t *)s;
	uint32_t cp;

	for (size_t at = 0; at < n;) {
		unsigned one = utf8_decode(p + at, n - at, &cp);

		if (!one)
			return at;
		at += one;
	}
	return n;
}

/* Writes a code point (no surrogate, at most U+10FFFF) and returns its 1 to 4 bytes. */
static inline unsigned utf8_encode(uint32_t cp, uint8_t out[4])
{
	if (cp < 0x80) {
		out[0] = (uint8_t)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (uint8_t)(0xc0 | cp >> 6);
		out[1] = (uint8_t)(0x80 | (cp & 0x3f));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (uint8_t)(0xe0 | cp >> 12);
		out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
		out[2] = (uint8_t)(0x80 | (cp & 0x3f));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | cp >> 18);
	out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
	out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
	out[3] = (uint8_t)(0x80 | (cp & 0x3f));
	return 4;
}

#endif
