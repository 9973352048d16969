/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_format.c: the % operator and str.format() on texts, by Python's rules for texts,
 * integers and floats. Attributes and items in the fields of format() ('{0.x}') are refused, as are
 * conversions that Python has and no chat template needs. See jinja.h.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/jinja_run.h"

#define MAX_WIDTH 10000

/* What a field asks for. */
struct spec {
	uint32_t fill;		/* 0: not said */
	char align, sign, type; /* 0: not said */
	bool alternate, zero, comma;
	jint width, precision; /* -1: not said */
};

/* ---- numbers as text ---- */

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

static struct jstr *int_text(struct jinja *j, const struct spec *s, jint i, char type)
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

static struct jstr *float_text(struct jinja *j, const struct spec *s, double f, char type)
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

/*
 * @head (sign and base) and @text to the width asked for. A 0 before the width fills, and what is a
 * number, whose usual side is '>', is then filled behind the head.
 */
static void put(struct jbuf *b, const struct spec *s, const char *head, struct jstr *text,
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

static const char *sign_of(const struct spec *s, bool negative)
{
	return negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
}

static void put_int(struct jinja *j, struct jbuf *b, const struct spec *s, jint i, char type)
{
	const char base[3] = { s->alternate && type != 'd' ? '0' : '\0', type };
	char head[4];

	snprintf(head, sizeof(head), "%s%s", sign_of(s, i < 0), base);
	put(b, s, head, int_text(j, s, i, type), '>');
}

static void put_float(struct jinja *j, struct jbuf *b, const struct spec *s, double f, char type)
{
	put(b, s, sign_of(s, signbit(f) && !isnan(f)), float_text(j, s, f, type), '>');
}

static void put_text(struct jinja *j, struct jbuf *b, const struct spec *s, struct jstr *text)
{
	if (s->precision >= 0 && s->precision < (jint)jstr_chars(text))
		text = jstr_slice(j, text, 0, jstr_offset(text, (size_t)s->precision));
	put(b, s, "", text, '<');
}

static void put_char(struct jinja *j, struct jbuf *b, const struct spec *s, jint cp)
{
	struct jbuf one;

	if (cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		jinja_fail(j, -EINVAL, "%%c: a number that stands for no character");
	jbuf_init(&one, j);
	jbuf_char(&one, (uint32_t)cp, true);
	put(b, s, "", jbuf_done(&one), '>');
}

/* ---- a walk over a format ---- */

struct walk {
	struct jinja *j;
	const struct jstr *f;
	size_t at;
};

static char peek(const struct walk *w)
{
	return w->at < w->f->n ? w->f->p[w->at] : '\0';
}

static jint number(struct walk *w)
{
	jint n = -1;

	while (peek(w) >= '0' && peek(w) <= '9') {
		n = (n < 0 ? 0 : n) * 10 + (w->f->p[w->at++] - '0');
		if (n > MAX_WIDTH)
			jinja_fail(w->j, -EINVAL, "a format with a number beyond %d", MAX_WIDTH);
	}
	return n;
}

/* ---- the % operator ---- */

struct percent {
	struct walk w;
	const struct jv *args;
	size_t used;
};

static struct jv next_arg(struct percent *p, const struct jstr *name)
{
	struct jinja *j = p->w.j;
	struct jv key = jv_str((struct jstr *)name), *found;

	if (name) {
		if (p->args->type != J_DICT)
			jinja_fail(j, -EINVAL, "a format with names takes a dict");
		found = jdict_get(j, p->args->d, &key);
		if (!found)
			jinja_fail(j, -EINVAL, "a format names what is not there");
		return *found;
	}
	if (p->args->type != J_TUPLE) {
		if (p->used++)
			jinja_fail(j, -EINVAL, "a format asks for more values than there are");
		return *p->args;
	}
	if (p->used >= p->args->l->n)
		jinja_fail(j, -EINVAL, "a format asks for more values than there are");
	return p->args->l->v[p->used++];
}

static void percent_flags(struct percent *p, struct spec *s)
{
	for (;; p->w.at++) {
		switch (peek(&p->w)) {
		case '-':
			s->align = '<';
			break;
		case '+':
			s->sign = '+';
			break;
		case ' ':
			s->sign = s->sign ? s->sign : ' ';
			break;
		case '#':
			s->alternate = true;
			break;
		case '0':
			s->zero = true;
			break;
		default:
			return;
		}
	}
}

static jint percent_number(struct percent *p)
{
	struct jv v;

	if (peek(&p->w) != '*')
		return number(&p->w);
	p->w.at++;
	v = next_arg(p, NULL);
	if (jarg_int(p->w.j, &v, "a width") > MAX_WIDTH || jv_as_int(&v) < 0)
		jinja_fail(p->w.j, -EINVAL, "a format with a number beyond %d", MAX_WIDTH);
	return jv_as_int(&v);
}

static void percent_value(struct percent *p, struct jbuf *b, struct spec *s, char type,
			  const struct jv *v)
{
	struct jinja *j = p->w.j;
	struct jbuf repr;

	switch (type) {
	case 's':
		put_text(j, b, s, p->w.f->safe ? jstr_escape(j, jv_to_str(j, v)) : jv_to_str(j, v));
		return;
	case 'r':
	case 'a':
		jbuf_init(&repr, j);
		jv_write_repr(j, &repr, v);
		put_text(j, b, s, jbuf_done(&repr));
		return;
	case 'c':
		if (v->type == J_STR && jstr_chars(v->s) == 1)
			put(b, s, "", v->s, '>');
		else
			put_char(j, b, s, jarg_int(j, v, "%c"));
		return;
	case 'd':
	case 'i':
	case 'u':
		if (v->type == J_FLOAT && isfinite(v->f) && fabs(v->f) < 0x1p100)
			put_int(j, b, s, (jint)v->f, 'd');
		else
			put_int(j, b, s, jarg_int(j, v, "%d"), 'd');
		return;
	case 'x':
	case 'X':
	case 'o':
		put_int(j, b, s, jarg_int(j, v, "%x"), type);
		return;
	case 'e':
	case 'E':
	case 'f':
	case 'F':
	case 'g':
	case 'G':
		if (!jv_is_number(v))
			jinja_fail(j, -EINVAL, "%%%c takes a number", type);
		put_float(j, b, s, jv_as_float(v), type);
		return;
	default:
		jinja_fail(j, -EINVAL, "a format with an unknown conversion");
	}
}

static void percent_field(struct percent *p, struct jbuf *b)
{
	struct spec s = { .width = -1, .precision = -1 };
	struct jstr *name = NULL;
	struct walk *w = &p->w;
	struct jv v;
	char type;

	if (peek(w) == '(') {
		size_t from = ++w->at;

		while (w->at < w->f->n && w->f->p[w->at] != ')')
			w->at++;
		name = jstr_slice(w->j, w->f, from, w->at);
		w->at++;
	}
	percent_flags(p, &s);
	s.width = percent_number(p);
	if (peek(w) == '.') {
		w->at++;
		s.precision = percent_number(p);
		s.precision = s.precision < 0 ? 0 : s.precision;
	}
	while (peek(w) && strchr("hlL", peek(w)))
		w->at++;
	if (w->at >= w->f->n)
		jinja_fail(w->j, -EINVAL, "a format ends inside a field");
	type = w->f->p[w->at++];
	if (type == '%') {
		jbuf_text(b, "%");
		return;
	}
	v = next_arg(p, name);
	if (!strchr("diouxXeEfFgG", type)) /* 0 is for numbers */
		s.zero = false;
	if (s.align == '<')
		s.zero = false;
	else if (!s.align && !s.zero)
		s.align = '>';
	percent_value(p, b, &s, type, &v);
}

/* What has items by key, which a format need not take. */
static bool jv_is_lookup(const struct jv *v)
{
	return v->type == J_DICT || v->type == J_LIST || v->type == J_RANGE || v->type == J_UNDEF;
}

struct jstr *jstr_percent(struct jinja *j, const struct jstr *format, const struct jv *args)
{
	struct percent p = { .w = { j, format, 0 }, .args = args };
	struct jstr *r;
	struct jbuf b;

	jbuf_init(&b, j);
	while (p.w.at < format->n) {
		size_t from = p.w.at;

		jinja_charge(j, 1);
		if (format->p[p.w.at] == '%') {
			p.w.at++;
			percent_field(&p, &b);
			continue;
		}
		while (p.w.at < format->n && format->p[p.w.at] != '%')
			p.w.at++;
		jbuf_bytes(&b, format, from, p.w.at);
	}
	if (args->type == J_TUPLE ? p.used < args->l->n
				  : !p.used && !jv_is_lookup(args)) /* as Python has it */
		jinja_fail(j, -EINVAL, "a format does not take all its values");
	r = jbuf_done(&b);
	r->safe = format->safe;
	return r;
}

/* ---- str.format() ---- */

static bool is_align(char c)
{
	return c && strchr("<>=^", c);
}

static void take_spec(struct walk *w, struct spec *s)
{
	unsigned n = 1;

	*s = (struct spec){ .width = -1, .precision = -1 };
	if (w->at < w->f->n) {
		uint32_t cp = unicode_at(w->f->p, w->at, w->f->n, &n);

		if (w->at + n < w->f->n && is_align(w->f->p[w->at + n])) {
			s->fill = cp;
			s->align = w->f->p[w->at + n];
			w->at += n + 1;
		} else if (is_align(peek(w))) {
			s->align = w->f->p[w->at++];
		}
	}
	if (peek(w) && strchr("+- ", peek(w)))
		s->sign = w->f->p[w->at++];
	if (peek(w) == '#') {
		s->alternate = true;
		w->at++;
	}
	if (peek(w) == '0') {
		s->zero = true;
		w->at++;
	}
	s->width = number(w);
	if (peek(w) == ',') {
		s->comma = true;
		w->at++;
	}
	if (peek(w) == '.') {
		w->at++;
		s->precision = number(w);
		if (s->precision < 0)
			jinja_fail(w->j, -EINVAL, "a format without its precision");
	}
	if (peek(w) && peek(w) != '}')
		s->type = w->f->p[w->at++];
}

static void format_value(struct jinja *j, struct jbuf *b, struct spec *s, const struct jv *v)
{
	char type = s->type;
	bool plain = s->width < 0 && s->precision < 0 && !type && !s->align && !s->sign &&
		     !s->comma && !s->zero && !s->alternate;

	if (plain) {
		jv_write(j, b, v);
		return;
	}
	if (v->type == J_STR && (!type || type == 's') && !s->comma && !s->sign && !s->alternate &&
	    s->align != '=') {
		put_text(j, b, s, v->s);
	} else if ((v->type == J_INT || v->type == J_BOOL) &&
		   (type == 0 || strchr("dxXob", type)) && s->precision < 0 &&
		   !(s->comma && type && type != 'd') && !(v->type == J_BOOL && !type) &&
		   !(s->comma && s->zero)) {
		put_int(j, b, s, jv_as_int(v), type ? type : 'd');
	} else if (jv_is_number(v) && (v->type == J_FLOAT || (type && strchr("eEfFgG%", type))) &&
		   (type == 0 || strchr("eEfFgG%", type)) && !(s->comma && s->zero) &&
		   !(s->alternate && !type)) {
		put_float(j, b, s, jv_as_float(v), type);
	} else {
		jinja_fail(j, -EINVAL, "format(): a field that is not supported for type %s",
			   jv_type_name(v));
	}
}

/* The value that a field names: nothing (the next), a number, or a keyword. */
static struct jv field_value(struct walk *w, const struct jargs *a, size_t *next)
{
	size_t from = w->at, end = from, i = 0;
	bool digits = true;

	while (end < w->f->n && !strchr("}:!.[", w->f->p[end])) {
		digits &= w->f->p[end] >= '0' && w->f->p[end] <= '9';
		end++;
	}
	if (end < w->f->n && (w->f->p[end] == '.' || w->f->p[end] == '['))
		jinja_fail(w->j, -EINVAL, "format(): attributes and items are not supported");
	w->at = end;
	if (end == from) {
		if (*next == SIZE_MAX)
			jinja_fail(w->j, -EINVAL, "format(): numbered fields and others");
		i = (*next)++;
	} else if (digits) {
		if (*next && *next != SIZE_MAX)
			jinja_fail(w->j, -EINVAL, "format(): numbered fields and others");
		*next = SIZE_MAX;
		for (size_t k = from; k < end && i < 100000; k++)
			i = i * 10 + (size_t)(w->f->p[k] - '0');
	} else {
		for (size_t k = 0; k < a->n_kw; k++)
			if (a->kw[k].name->n == end - from &&
			    !memcmp(a->kw[k].name->p, w->f->p + from, end - from))
				return a->kw[k].value;
		i = SIZE_MAX;
	}
	if (i >= a->n)
		jinja_fail(w->j, -EINVAL, "format(): a field names what is not there");
	return a->v[i];
}

static void format_field(struct walk *w, struct jbuf *b, const struct jargs *a, size_t *next)
{
	struct spec s = { .width = -1, .precision = -1 };
	struct jv v = field_value(w, a, next);
	struct jbuf repr;

	if (peek(w) == '!') {
		char how = w->at + 1 < w->f->n ? w->f->p[w->at + 1] : 0;

		w->at += 2;
		if (how != 's' && how != 'r')
			jinja_fail(w->j, -EINVAL, "format(): an unknown conversion");
		jbuf_init(&repr, w->j);
		(how == 's' ? jv_write : jv_write_repr)(w->j, &repr, &v);
		v = jv_str(jbuf_done(&repr));
	}
	if (peek(w) == ':') {
		w->at++;
		take_spec(w, &s);
	}
	if (peek(w) != '}')
		jinja_fail(w->j, -EINVAL, "format(): a field has no end, or one within it");
	w->at++;
	format_value(w->j, b, &s, &v);
}

struct jstr *jstr_format(struct jinja *j, const struct jstr *format, const struct jargs *a)
{
	struct walk w = { j, format, 0 };
	size_t next = 0;
	struct jbuf b;

	jbuf_init(&b, j);
	while (w.at < format->n) {
		char c = format->p[w.at];
		char after = w.at + 1 < format->n ? format->p[w.at + 1] : 0;

		jinja_charge(j, 1);
		if ((c == '{' || c == '}') && after == c) {
			jbuf_bytes(&b, format, w.at, w.at + 1);
			w.at += 2;
		} else if (c == '{') {
			w.at++;
			format_field(&w, &b, a, &next);
		} else if (c == '}') {
			jinja_fail(j, -EINVAL, "format(): a single }");
		} else {
			jbuf_bytes(&b, format, w.at, w.at + 1);
			w.at++;
		}
	}
	return jbuf_done(&b);
}
