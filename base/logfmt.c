/* SPDX-License-Identifier: MIT */
/*
 * base/logfmt.c: see logfmt.h.
 *
 * The format is walked here and not by vsnprintf(), so that text which the program wrote and text
 * which came from elsewhere stay apart: only a %s brings the latter in.
 */
#include "base/logfmt.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void logfmt_init(struct logfmt *l, char *buf, size_t room)
{
	*l = (struct logfmt){ .buf = buf, .room = room };
}

/* All of it or, where it does not fit, nothing from here on. */
static void put(struct logfmt *l, const char *bytes, size_t n)
{
	if (l->cut || n > l->room - LOGFMT_RESERVE - l->used) {
		l->cut = true;
		return;
	}
	memcpy(l->buf + l->used, bytes, n);
	l->used += n;
}

static void put_quote(struct logfmt *l)
{
	put(l, "\"", 1);
	if (!l->cut)
		l->quoted = !l->quoted;
}

/* Length of the UTF-8 character at @s with @len bytes behind it, its code in *ret; 0: it is none. */
static size_t take_char(const unsigned char *s, size_t len, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	uint32_t c = n < 2 ? s[0] : s[0] & (0x7fu >> n);

	if (!n || n > len || s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*ret = c;
	return n;
}

/* C0, DEL, C1, and what some programs take for a line end. */
static bool is_control(uint32_t c)
{
	return c < ' ' || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
}

static void put_char(struct logfmt *l, const unsigned char *s, size_t n, uint32_t c)
{
	char code[8];

	if (c == '"' || c == '\\') {
		code[0] = '\\';
		code[1] = (char)c;
		put(l, code, 2);
	} else if (c == '\n' || c == '\r' || c == '\t') {
		put(l, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", 2);
	} else if (is_control(c)) {
		put(l, code, (size_t)snprintf(code, sizeof(code), "\\u%04x", (unsigned)c));
	} else {
		put(l, (const char *)s, n);
	}
}

static void put_escaped(struct logfmt *l, const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;

	for (size_t i = 0; i < len && !l->cut;) {
		uint32_t c;
		size_t n = take_char(s + i, len - i, &c);

		if (n)
			put_char(l, s + i, n, c);
		else
			put(l, REPLACEMENT, strlen(REPLACEMENT));
		i += n ? n : 1;
	}
}

/* Whether a value can stand without quotes. */
static bool is_plain(const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;

	for (size_t i = 0; i < len;) {
		uint32_t c;
		size_t n = take_char(s + i, len - i, &c);

		if (!n || c == ' ' || c == '=' || c == '"' || c == '\\' || is_control(c))
			return false;
		i += n;
	}
	return len > 0;
}

void logfmt_value(struct logfmt *l, const char *text)
{
	put_quote(l);
	put_escaped(l, text, strlen(text));
	put_quote(l);
}

/* One conversion of a format. */
struct spec {
	char text[32]; /* "%-8.3llu" */
	size_t len;
	int stars[2];
	unsigned n_stars;
	bool has_precision; /* the last of stars, or written out */
	int precision;
	char size; /* 'l', 'q' (ll), 'z', 'j', 't', 'h' (h and hh), 0 */
	char conv;
};

static void take_size(struct spec *s, const char **at)
{
	while (**at && strchr("hlqjzt", **at)) {
		s->size = **at == 'l' && s->size == 'l' ? 'q' : **at;
		++*at;
	}
}

/* Reads the conversion at *at, which is behind its '%', and the numbers that its stars stand for. */
static void take_spec(struct spec *s, const char **at, va_list *ap)
{
	const char *begin = *at;

	memset(s, 0, sizeof(*s));
	*at += strspn(*at, "-+ #0123456789");
	if (**at == '*') {
		s->stars[s->n_stars++] = va_arg(*ap, int);
		++*at;
	}
	if (**at == '.') {
		s->has_precision = true;
		++*at;
		if (**at == '*') {
			s->precision = s->stars[s->n_stars++] = va_arg(*ap, int);
			++*at;
		}
		for (; **at >= '0' && **at <= '9'; ++*at)
			s->precision = s->precision * 10 + (**at - '0');
		if (s->precision < 0) /* as if there were none */
			s->has_precision = false;
	}
	take_size(s, at);
	s->conv = **at;
	if (s->conv)
		++*at;
	s->len = (size_t)(*at - begin) + 1;
	if (s->len >= sizeof(s->text))
		s->len = sizeof(s->text) - 1;
	s->text[0] = '%';
	memcpy(s->text + 1, begin, s->len - 1);
}

#define FORMAT(buf, s, value)                                                                 \
	((s)->n_stars == 2                                                                    \
		 ? snprintf(buf, sizeof(buf), (s)->text, (s)->stars[0], (s)->stars[1], value) \
	 : (s)->n_stars == 1 ? snprintf(buf, sizeof(buf), (s)->text, (s)->stars[0], value)    \
			     : snprintf(buf, sizeof(buf), (s)->text, value))

static void put_number(struct logfmt *l, const struct spec *s, va_list *ap)
{
	char buf[512]; /* a double in %f has up to 310 digits */
	int n;

	if (strchr("eEfFgG", s->conv))
		n = FORMAT(buf, s, va_arg(*ap, double));
	else if (s->conv == 'p')
		n = FORMAT(buf, s, va_arg(*ap, void *));
	else if (s->size == 'l' || s->size == 't')
		n = FORMAT(buf, s, va_arg(*ap, long));
	else if (s->size == 'z')
		n = FORMAT(buf, s, va_arg(*ap, size_t));
	else if (s->size == 'q' || s->size == 'j')
		n = FORMAT(buf, s, va_arg(*ap, long long));
	else
		n = FORMAT(buf, s, va_arg(*ap, int));
	if (n > 0)
		put(l, buf, (size_t)n < sizeof(buf) ? (size_t)n : sizeof(buf) - 1);
}

static void put_string(struct logfmt *l, const struct spec *s, const char *text)
{
	size_t len = s->has_precision ? strnlen(text, (size_t)s->precision) : strlen(text);
	bool bare = !l->quoted && !is_plain(text, len);

	if (bare)
		put_quote(l);
	put_escaped(l, text, len);
	if (bare)
		put_quote(l);
}

void logfmt_vprintf(struct logfmt *l, const char *fmt, va_list args)
{
	va_list ap;

	va_copy(ap, args); /* so that its address is that of a va_list on every machine */
	for (const char *at = fmt; *at;) {
		struct spec s;
		char c = *at++;

		if (c == '"') {
			put_quote(l);
			continue;
		}
		if (c != '%') {
			put(l, &c, 1);
			continue;
		}
		take_spec(&s, &at, &ap);
		if (s.conv == 's') {
			const char *text = va_arg(ap, const char *);

			put_string(l, &s, text ? text : "(null)");
		} else if (s.conv == 'c') {
			char text[2] = { (char)va_arg(ap, int), '\0' };

			put_string(l, &s, text);
		} else if (s.conv == '%') {
			put(l, "%", 1);
		} else {
			put_number(l, &s, &ap);
		}
	}
	va_end(ap);
}

void logfmt_printf(struct logfmt *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	logfmt_vprintf(l, fmt, ap);
	va_end(ap);
}

size_t logfmt_end(struct logfmt *l)
{
	if (l->cut) {
		memcpy(l->buf + l->used, "...", 3);
		l->used += 3;
		if (l->quoted)
			l->buf[l->used++] = '"';
	}
	return l->used;
}
