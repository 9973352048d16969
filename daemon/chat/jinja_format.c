/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_format.c: str.format() on texts. Attributes and items in its fields ('{0.x}') are
 * refused, as are conversions that Python has and no chat template needs. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_field.h"

static bool is_align(char c)
{
	return c && strchr("<>=^", c);
}

static void take_spec(struct jwalk *w, struct jfield *s)
{
	unsigned n = 1;

	*s = (struct jfield){ .width = -1, .precision = -1 };
	if (w->at < w->f->n) {
		uint32_t cp = unicode_at(w->f->p, w->at, w->f->n, &n);

		if (w->at + n < w->f->n && is_align(w->f->p[w->at + n])) {
			s->fill = cp;
			s->align = w->f->p[w->at + n];
			w->at += n + 1;
		} else if (is_align(jwalk_peek(w))) {
			s->align = w->f->p[w->at++];
		}
	}
	if (jwalk_peek(w) && strchr("+- ", jwalk_peek(w)))
		s->sign = w->f->p[w->at++];
	if (jwalk_peek(w) == '#') {
		s->alternate = true;
		w->at++;
	}
	if (jwalk_peek(w) == '0') {
		s->zero = true;
		w->at++;
	}
	s->width = jwalk_number(w);
	if (jwalk_peek(w) == ',') {
		s->comma = true;
		w->at++;
	}
	if (jwalk_peek(w) == '.') {
		w->at++;
		s->precision = jwalk_number(w);
		if (s->precision < 0)
			jinja_fail(w->j, -EINVAL, "a format without its precision");
	}
	if (jwalk_peek(w) && jwalk_peek(w) != '}')
		s->type = w->f->p[w->at++];
}

static void format_value(struct jinja *j, struct jbuf *b, struct jfield *s, const struct jv *v)
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
		jfield_text(j, b, s, v->s);
	} else if ((v->type == J_INT || v->type == J_BOOL) &&
		   (type == 0 || strchr("dxXob", type)) && s->precision < 0 &&
		   !(s->comma && type && type != 'd') && !(v->type == J_BOOL && !type) &&
		   !(s->comma && s->zero)) {
		jfield_int(j, b, s, jv_as_int(v), type ? type : 'd');
	} else if (jv_is_number(v) && (v->type == J_FLOAT || (type && strchr("eEfFgG%", type))) &&
		   (type == 0 || strchr("eEfFgG%", type)) && !(s->comma && s->zero) &&
		   !(s->alternate && !type)) {
		jfield_float(j, b, s, jv_as_float(v), type);
	} else {
		jinja_fail(j, -EINVAL, "format(): a field that is not supported for type %s",
			   jv_type_name(v));
	}
}

/* The value that a field names: nothing (the next), a number, or a keyword. */
static struct jv field_value(struct jwalk *w, const struct jargs *a, size_t *next)
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

static void format_field(struct jwalk *w, struct jbuf *b, const struct jargs *a, size_t *next)
{
	struct jfield s = { .width = -1, .precision = -1 };
	struct jv v = field_value(w, a, next);
	struct jbuf repr;

	if (jwalk_peek(w) == '!') {
		char how = w->at + 1 < w->f->n ? w->f->p[w->at + 1] : 0;

		w->at += 2;
		if (how != 's' && how != 'r')
			jinja_fail(w->j, -EINVAL, "format(): an unknown conversion");
		jbuf_init(&repr, w->j);
		(how == 's' ? jv_write : jv_write_repr)(w->j, &repr, &v);
		v = jv_str(jbuf_done(&repr));
	}
	if (jwalk_peek(w) == ':') {
		w->at++;
		take_spec(w, &s);
	}
	if (jwalk_peek(w) != '}')
		jinja_fail(w->j, -EINVAL, "format(): a field has no end, or one within it");
	w->at++;
	format_value(w->j, b, &s, &v);
}

struct jstr *jstr_format(struct jinja *j, const struct jstr *format, const struct jargs *a)
{
	struct jwalk w = { j, format, 0 };
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
