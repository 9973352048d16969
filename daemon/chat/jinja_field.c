/* SPDX-License-Identifier: MIT */
/* daemon/chat/jinja_field.c: see jinja_field.h. By Python's rules for texts, integers and floats. */
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "chat/jinja_field.h"

static size_t digits_of(unsigned __int128 u, unsigned base, bool upper, char out[130])
{
	const char *names = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char back[130];
	size_t n = 0, k = 0;

	do
		back[n++] = names[(unsigned)(u % base)];
	while (u /= base);
	while (n)
		out[k++] = back[--n];
	out[k] = '\0';
	return k;
}

static struct jstr *int_text(struct jinja *j, const struct jfield *s, jint i, char type)
{
	unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
	unsigned __int128 u = i < 0 ? -(unsigned __int128)i : (unsigned __int128)i;
	char digits[130];
	size_t n = digits_of(u, base, type == 'X', digits);
	struct jbuf b;

	jbuf_init(&b, j);
	for (size_t k = n; (jint)k < s->precision; k++)
		jbuf_text(&b, "0");
	for (size_t k = 0; k < n; k++) {
		if (s->comma && k && (n - k) % 3 == 0)
			jbuf_text(&b, ",");
		jbuf_add(&b, digits + k, 1, true);
	}
	return jbuf_done(&b);
}

static struct jstr *float_text(struct jinja *j, const struct jfield *s, double f, char type)
{
	char format[16], out[512];
	int precision = s->precision < 0 ? 6 : (int)s->precision;
	size_t n, point;
	struct jbuf b;

	if (precision > 100)
		jinja_fail(j, -EINVAL, "a precision of more than 100 is not supported");
	if (!type && s->precision < 0) {
		n = jfloat_text(fabs(f), out);
	} else {
		snprintf(format, sizeof(format), "%%%s.%d%c", s->alternate ? "#" : "", precision,
			 type == '%' ? 'f'
			 : type	     ? type
				     : 'g');
		n = (size_t)snprintf(out, sizeof(out), format,
				     type == '%' ? fabs(f) * 100 : fabs(f));
	}
	if (n >= sizeof(out))
		jinja_fail(j, -EINVAL, "a number is too long");
	if (!type && s->precision >= 0)
		jinja_fail(j, -EINVAL, "a precision without a type is not supported");
	point = strcspn(out, ".eE");
	jbuf_init(&b, j);
	for (size_t k = 0; k < n; k++) {
		if (s->comma && k && k < point && (point - k) % 3 == 0)
			jbuf_text(&b, ",");
		jbuf_add(&b, out + k, 1, true);
	}
	if (type == '%')
		jbuf_text(&b, "%");
	return jbuf_done(&b);
}

static void pad(struct jbuf *b, uint32_t fill, jint n)
{
	for (; n > 0; n--)
		jbuf_char(b, fill, true);
}

void jfield_put(struct jbuf *b, const struct jfield *s, const char *head, struct jstr *text,
		char usual)
{
	jint room = s->width - (jint)jstr_chars(text) - (jint)strlen(head);
	char align = s->align ? s->align : s->zero && usual == '>' ? '=' : usual;
	uint32_t fill = s->fill ? s->fill : s->zero ? '0' : ' ';

	room = room < 0 ? 0 : room;
	if (align == '>')
		pad(b, fill, room);
	else if (align == '^')
		pad(b, fill, room / 2);
	jbuf_text(b, head);
	if (align == '=')
		pad(b, fill, room);
	jbuf_str(b, text);
	if (align == '<')
		pad(b, fill, room);
	else if (align == '^')
		pad(b, fill, room - room / 2);
}

static const char *sign_of(const struct jfield *s, bool negative)
{
	return negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
}

void jfield_int(struct jinja *j, struct jbuf *b, const struct jfield *s, jint i, char type)
{
	const char base[3] = { s->alternate && type != 'd' ? '0' : '\0', type };
	char head[4];

	snprintf(head, sizeof(head), "%s%s", sign_of(s, i < 0), base);
	jfield_put(b, s, head, int_text(j, s, i, type), '>');
}

void jfield_float(struct jinja *j, struct jbuf *b, const struct jfield *s, double f, char type)
{
	jfield_put(b, s, sign_of(s, signbit(f) && !isnan(f)), float_text(j, s, f, type), '>');
}

void jfield_text(struct jinja *j, struct jbuf *b, const struct jfield *s, struct jstr *text)
{
	if (s->precision >= 0 && s->precision < (jint)jstr_chars(text))
		text = jstr_slice(j, text, 0, jstr_offset(text, (size_t)s->precision));
	jfield_put(b, s, "", text, '<');
}

void jfield_char(struct jinja *j, struct jbuf *b, const struct jfield *s, jint cp)
{
	struct jbuf one;

	if (cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		jinja_fail(j, -EINVAL, "%%c: a number that stands for no character");
	jbuf_init(&one, j);
	jbuf_char(&one, (uint32_t)cp, true);
	jfield_put(b, s, "", jbuf_done(&one), '>');
}

jint jwalk_number(struct jwalk *w)
{
	jint n = -1;

	while (jwalk_peek(w) >= '0' && jwalk_peek(w) <= '9') {
		n = (n < 0 ? 0 : n) * 10 + (w->f->p[w->at++] - '0');
		if (n > JFIELD_MAX_NUMBER)
			jinja_fail(w->j, -EINVAL, "a format with a number beyond %d",
				   JFIELD_MAX_NUMBER);
	}
	return n;
}
