/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_text.c: values as text and text as numbers, by Python's str(), repr(), int() and
 * float(). What has no text of its own there but an address (functions, generators) is refused.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/jinja_run.h"

size_t jint_text(jint i, char out[48])
{
	unsigned __int128 u = i < 0 ? -(unsigned __int128)i : (unsigned __int128)i;
	char digits[48];
	size_t n = 0, k = 0;

	do
		digits[n++] = (char)('0' + (int)(u % 10));
	while (u /= 10);
	if (i < 0)
		out[k++] = '-';
	while (n)
		out[k++] = digits[--n];
	out[k] = '\0';
	return k;
}

/* The fewest digits that are read back as @f, and the decimal exponent of the first of them. */
static size_t shortest(double f, char digits[20], int *ret_exponent)
{
	char text[40];
	size_t n = 0;

	for (int precision = 0; precision < 17; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision, f);
		if (strtod(text, NULL) == f)
			break;
	}
	for (const char *p = text; *p && *p != 'e'; p++)
		if (*p >= '0' && *p <= '9')
			digits[n++] = *p;
	*ret_exponent = atoi(strchr(text, 'e') + 1);
	while (n > 1 && digits[n - 1] == '0')
		n--;
	digits[n] = '\0';
	return n;
}

size_t jfloat_text(double f, char out[40])
{
	char digits[20];
	int exponent;
	size_t n, k = 0;

	if (isnan(f))
		return (size_t)snprintf(out, 40, "nan");
	if (isinf(f))
		return (size_t)snprintf(out, 40, f < 0 ? "-inf" : "inf");
	n = shortest(fabs(f), digits, &exponent);
	if (signbit(f))
		out[k++] = '-';
	if (exponent < -4 || exponent >= 16)
		return k + (size_t)snprintf(out + k, 40 - k, "%c%s%se%c%02d", digits[0],
					    n > 1 ? "." : "", digits + 1, exponent < 0 ? '-' : '+',
					    abs(exponent));
	if (exponent < 0)
		return k +
		       (size_t)snprintf(out + k, 40 - k, "0.%.*s%s", -exponent - 1, "0000", digits);
	for (size_t i = 0; i <= (size_t)exponent || i < n; i++) {
		if (i == (size_t)exponent + 1)
			out[k++] = '.';
		out[k++] = i < n ? digits[i] : '0';
	}
	if (n <= (size_t)exponent + 1)
		k += (size_t)snprintf(out + k, 40 - k, ".0");
	out[k] = '\0';
	return k;
}

static void write_str_repr(struct jbuf *b, const struct jstr *s)
{
	bool has_single = s->n && memchr(s->p, '\'', s->n);
	char quote = has_single && !memchr(s->p, '"', s->n) ? '"' : '\'';
	unsigned n;

	if (s->safe)
		jbuf_text(b, "Markup(");
	jbuf_add(b, &quote, 1, true);
	for (size_t i = 0; i < s->n; i += n) {
		uint32_t cp = unicode_at(s->p, i, s->n, &n);
		bool trusted = jstr_trusted_at(s, i);
		char esc[16] = "";

		if (cp == (uint8_t)quote || cp == '\\')
			snprintf(esc, sizeof(esc), "\\%c", (int)cp);
		else if (cp == '\n' || cp == '\r' || cp == '\t')
			snprintf(esc, sizeof(esc), "\\%c",
				 cp == '\n'   ? 'n'
				 : cp == '\r' ? 'r'
					      : 't');
		else if (!unicode_is(cp, CLASS_PRINTABLE))
			snprintf(esc, sizeof(esc),
				 cp < 0x100	? "\\x%02x"
				 : cp < 0x10000 ? "\\u%04x"
						: "\\U%08x",
				 cp);
		if (*esc)
			jbuf_add(b, esc, strlen(esc), trusted);
		else
			jbuf_bytes(b, s, i, i + n);
	}
	jbuf_add(b, &quote, 1, true);
	if (s->safe)
		jbuf_text(b, ")");
}

static void write_items(struct jinja *j, struct jbuf *b, const struct jlist *l)
{
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			jbuf_text(b, ", ");
		jv_write_repr(j, b, &l->v[i]);
	}
}

static void write_dict(struct jinja *j, struct jbuf *b, const struct jdict *d)
{
	jbuf_text(b, "{");
	for (size_t i = 0; i < d->n; i++) {
		if (i)
			jbuf_text(b, ", ");
		jv_write_repr(j, b, &d->v[i].key);
		jbuf_text(b, ": ");
		jv_write_repr(j, b, &d->v[i].value);
	}
	jbuf_text(b, "}");
}

static void write_number(struct jbuf *b, const struct jv *v)
{
	char text[48];

	if (v->type == J_FLOAT)
		jbuf_add(b, text, jfloat_text(v->f, text), true);
	else
		jbuf_add(b, text, jint_text(v->i, text), true);
}

static void write_range(struct jbuf *b, const struct jrange *r)
{
	char text[48];

	jbuf_text(b, "range(");
	jbuf_add(b, text, jint_text(r->start, text), true);
	jbuf_text(b, ", ");
	jbuf_add(b, text, jint_text(r->stop, text), true);
	if (r->step != 1) {
		jbuf_text(b, ", ");
		jbuf_add(b, text, jint_text(r->step, text), true);
	}
	jbuf_text(b, ")");
}

static void write_other(struct jinja *j, struct jbuf *b, const struct jv *v)
{
	static const char *const views[] = { "dict_keys([", "dict_values([", "dict_items([" };
	char text[64];

	switch (v->type) {
	case J_RANGE:
		write_range(b, v->range);
		return;
	case J_VIEW:
		jbuf_text(b, views[v->view->what]);
		write_items(j, b, jv_to_list(j, v));
		jbuf_text(b, "])");
		return;
	case J_NAMESPACE:
		jbuf_text(b, "<Namespace ");
		write_dict(j, b, v->d);
		jbuf_text(b, ">");
		return;
	case J_LOOP: {
		size_t n = 0;

		jv_sized(v, j, &n);
		snprintf(text, sizeof(text), "<LoopContext %lld/%zu>",
			 (long long)v->loop->index0 + 1, n);
		jbuf_add(b, text, strlen(text), true);
		return;
	}
	case J_MACRO:
		jbuf_text(b, "<Macro ");
		if (v->macro->node->name)
			write_str_repr(b, v->macro->node->name);
		else
			jbuf_text(b, "anonymous");
		jbuf_text(b, ">");
		return;
	case J_SELF:
		jbuf_text(b, "<TemplateReference None>");
		return;
	default:
		jinja_fail(j, -EINVAL, "a value of type %s has no text", jv_type_name(v));
	}
}

static void write_value(struct jinja *j, struct jbuf *b, const struct jv *v, bool repr)
{
	switch (v->type) {
	case J_UNDEF:
		if (repr)
			jbuf_text(b, "Undefined");
		return;
	case J_NONE:
		jbuf_text(b, "None");
		return;
	case J_BOOL:
		jbuf_text(b, v->truth ? "True" : "False");
		return;
	case J_INT:
	case J_FLOAT:
		write_number(b, v);
		return;
	case J_STR:
		if (repr)
			write_str_repr(b, v->s);
		else
			jbuf_str(b, v->s);
		return;
	case J_LIST:
		jbuf_text(b, "[");
		write_items(j, b, v->l);
		jbuf_text(b, "]");
		return;
	case J_TUPLE:
		jbuf_text(b, "(");
		write_items(j, b, v->l);
		jbuf_text(b, v->l->n == 1 ? ",)" : ")");
		return;
	case J_DICT:
		write_dict(j, b, v->d);
		return;
	default:
		write_other(j, b, v);
	}
}

void jv_write(struct jinja *j, struct jbuf *b, const struct jv *v)
{
	jinja_enter(j);
	write_value(j, b, v, false);
	j->depth--;
}

void jv_write_repr(struct jinja *j, struct jbuf *b, const struct jv *v)
{
	jinja_enter(j);
	write_value(j, b, v, true);
	j->depth--;
}

struct jstr *jv_to_str(struct jinja *j, const struct jv *v)
{
	struct jbuf b;

	if (v->type == J_STR)
		return v->s;
	jbuf_init(&b, j);
	jv_write(j, &b, v);
	return jbuf_done(&b);
}

struct jstr *jstr_escape(struct jinja *j, const struct jstr *s)
{
	static const struct {
		char c;
		const char *to;
	} table[] = { { '&', "&amp;" },
		      { '<', "&lt;" },
		      { '>', "&gt;" },
		      { '\'', "&#39;" },
		      { '"', "&#34;" } };
	struct jstr *r;
	struct jbuf b;

	if (s->safe)
		return (struct jstr *)s;
	jbuf_init(&b, j);
	for (size_t i = 0; i < s->n; i++) {
		size_t k = 0;

		while (k < 5 && table[k].c != s->p[i])
			k++;
		if (k < 5)
			jbuf_add(&b, table[k].to, strlen(table[k].to), jstr_trusted_at(s, i));
		else
			jbuf_bytes(&b, s, i, i + 1);
	}
	r = jbuf_done(&b);
	r->safe = true;
	return r;
}

/* ---- text as numbers ---- */

static unsigned digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	c |= 0x20;
	return c >= 'a' && c <= 'z' ? (unsigned)(c - 'a') + 10 : 99;
}

bool jint_parse(struct jinja *j, const struct jstr *text, unsigned base, jint *ret)
{
	struct jstr *s = jstr_strip(j, text, NULL, true, true);
	const char *p = s->p, *end = s->p + s->n;
	bool minus = false, any = false, leading_zero;
	jint v = 0;

	if (p < end && (*p == '+' || *p == '-'))
		minus = *p++ == '-';
	if (end - p > 1 && *p == '0') {
		unsigned kind = (uint8_t)p[1] | 0x20;
		unsigned named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;

		if (named && (base == 0 || base == named)) {
			base = named;
			p += 2;
			if (p < end && *p == '_')
				p++;
		}
	}
	leading_zero = base == 0 && p < end && *p == '0';
	base = base ? base : 10;
	for (; p < end; p++) {
		if (*p == '_' && any && p + 1 < end && p[1] != '_')
			continue;
		if (digit(*p) >= base)
			return false;
		if (v > ((jint)1 << 120)) /* larger ones are not supported */
			return false;
		v = v * base + digit(*p);
		any = true;
	}
	if (!any || (leading_zero && v))
		return false;
	*ret = minus ? -v : v;
	return true;
}

bool jfloat_parse(const struct jstr *s, double *ret)
{
	char text[512], *end;
	size_t from = 0, to = s->n, n = 0;
	bool word = false;
	unsigned k;

	while (from < to && unicode_is(unicode_at(s->p, from, to, &k), CLASS_SPACE))
		from += k;
	while (to > from && (uint8_t)s->p[to - 1] < 0x80 &&
	       unicode_is((uint8_t)s->p[to - 1], CLASS_SPACE))
		to--;
	if (to - from >= sizeof(text) || from == to)
		return false;
	for (size_t i = from; i < to; i++) {
		char c = s->p[i];

		if (c == '_') {
			if (i == from || i + 1 == to || digit(s->p[i - 1]) > 9 ||
			    digit(s->p[i + 1]) > 9)
				return false;
			continue;
		}
		if (!c || !strchr("0123456789+-.eE", c))
			word = true;
		text[n++] = c;
	}
	text[n] = '\0';
	if (word) { /* only these, never what else C reads */
		const char *p = text + (*text == '+' || *text == '-');

		if (strcasecmp(p, "inf") && strcasecmp(p, "infinity") && strcasecmp(p, "nan"))
			return false;
	}
	*ret = strtod(text, &end);
	return !*end;
}
