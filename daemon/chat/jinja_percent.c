/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_percent.c: the % operator on texts. Conversions that Python has and no chat template
 * needs are refused. See jinja.h.
 */
#include <errno.h>
#include <math.h>

#include "chat/jinja_field.h"

struct percent {
	struct jwalk w;
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

static void percent_flags(struct percent *p, struct jfield *s)
{
	for (;; p->w.at++) {
		switch (jwalk_peek(&p->w)) {
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

	if (jwalk_peek(&p->w) != '*')
		return jwalk_number(&p->w);
	p->w.at++;
	v = next_arg(p, NULL);
	if (jarg_int(p->w.j, &v, "a width") > JFIELD_MAX_NUMBER || jv_as_int(&v) < 0)
		jinja_fail(p->w.j, -EINVAL, "a format with a number beyond %d", JFIELD_MAX_NUMBER);
	return jv_as_int(&v);
}

static void percent_value(struct percent *p, struct jbuf *b, struct jfield *s, char type,
			  const struct jv *v)
{
	struct jinja *j = p->w.j;
	struct jbuf repr;

	switch (type) {
	case 's':
		jfield_text(j, b, s,
			    p->w.f->safe ? jstr_escape(j, jv_to_str(j, v)) : jv_to_str(j, v));
		return;
	case 'r':
	case 'a':
		jbuf_init(&repr, j);
		jv_write_repr(j, &repr, v);
		jfield_text(j, b, s, jbuf_done(&repr));
		return;
	case 'c':
		if (v->type == J_STR && jstr_chars(v->s) == 1)
			jfield_put(b, s, "", v->s, '>');
		else
			jfield_char(j, b, s, jarg_int(j, v, "%c"));
		return;
	case 'd':
	case 'i':
	case 'u':
		if (v->type == J_FLOAT && isfinite(v->f) && fabs(v->f) < 0x1p100)
			jfield_int(j, b, s, (jint)v->f, 'd');
		else
			jfield_int(j, b, s, jarg_int(j, v, "%d"), 'd');
		return;
	case 'x':
	case 'X':
	case 'o':
		jfield_int(j, b, s, jarg_int(j, v, "%x"), type);
		return;
	case 'e':
	case 'E':
	case 'f':
	case 'F':
	case 'g':
	case 'G':
		if (!jv_is_number(v))
			jinja_fail(j, -EINVAL, "%%%c takes a number", type);
		jfield_float(j, b, s, jv_as_float(v), type);
		return;
	default:
		jinja_fail(j, -EINVAL, "a format with an unknown conversion");
	}
}

static void percent_field(struct percent *p, struct jbuf *b)
{
	struct jfield s = { .width = -1, .precision = -1 };
	struct jstr *name = NULL;
	struct jwalk *w = &p->w;
	struct jv v;
	char type;

	if (jwalk_peek(w) == '(') {
		size_t from = ++w->at;

		while (w->at < w->f->n && w->f->p[w->at] != ')')
			w->at++;
		name = jstr_slice(w->j, w->f, from, w->at);
		w->at++;
	}
	percent_flags(p, &s);
	s.width = percent_number(p);
	if (jwalk_peek(w) == '.') {
		w->at++;
		s.precision = percent_number(p);
		s.precision = s.precision < 0 ? 0 : s.precision;
	}
	while (jwalk_peek(w) && strchr("hlL", jwalk_peek(w)))
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
