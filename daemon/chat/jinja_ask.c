/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_ask.c: what one asks of texts: methods that answer true or false, by Python's
 * str; and characters by their place. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

static void no_args(struct jinja *j, const struct jargs *a, const char *what)
{
	jargs_bind(j, a, what, "", NULL);
}

static struct jv all_are(struct jinja *j, struct jv self, const struct jargs *a, unsigned classes)
{
	unsigned n;

	no_args(j, a, "a question about a text");
	jinja_charge(j, self.s->n / 16);
	for (size_t i = 0; i < self.s->n; i += n) {
		uint32_t cp = unicode_at(self.s->p, i, self.s->n, &n);
		bool one = false;

		for (unsigned c = 0; c <= CLASS_WORD && !one; c++)
			one = (classes >> c & 1) && unicode_is(cp, c);
		if (!one)
			return jv_bool(false);
	}
	return jv_bool(self.s->n != 0);
}

#define ASK(name, classes)                           \
	METHOD(name)                                 \
	{                                            \
		return all_are(j, self, a, classes); \
	}
ASK(isalpha, 1u << CLASS_ALPHA)
ASK(isdecimal, 1u << CLASS_DECIMAL)
ASK(isdigit, 1u << CLASS_DIGIT)
ASK(isnumeric, 1u << CLASS_NUMERIC)
ASK(isspace, 1u << CLASS_SPACE)
ASK(isalnum, 1u << CLASS_ALPHA | 1u << CLASS_DECIMAL | 1u << CLASS_DIGIT | 1u << CLASS_NUMERIC)

METHOD(isprintable)
{
	if (!self.s->n)
		return no_args(j, a, "isprintable"), jv_bool(true);
	return all_are(j, self, a, 1u << CLASS_PRINTABLE);
}

METHOD(isascii)
{
	no_args(j, a, "isascii");
	for (size_t i = 0; i < self.s->n; i++)
		if ((uint8_t)self.s->p[i] >= 0x80)
			return jv_bool(false);
	return jv_bool(true);
}

static struct jv one_case(struct jinja *j, struct jv self, const struct jargs *a,
			  enum jclass wanted, enum jclass other)
{
	bool any = false;
	unsigned n;

	no_args(j, a, "isupper or islower");
	jinja_charge(j, self.s->n / 16);
	for (size_t i = 0; i < self.s->n; i += n) {
		uint32_t cp = unicode_at(self.s->p, i, self.s->n, &n), out[3];

		if (unicode_is(cp, other))
			return jv_bool(false);
		if (unicode_is(cp, wanted))
			any = true;
		else if (unicode_case(cp, CASE_LOWER, out) == 1 && out[0] != cp)
			return jv_bool(false); /* title case */
	}
	return jv_bool(any);
}

METHOD(isupper)
{
	return one_case(j, self, a, CLASS_UPPER, CLASS_LOWER);
}

METHOD(islower)
{
	return one_case(j, self, a, CLASS_LOWER, CLASS_UPPER);
}

METHOD(istitle)
{
	bool inside = false, any = false;
	unsigned n;

	no_args(j, a, "istitle");
	for (size_t i = 0; i < self.s->n; i += n) {
		uint32_t cp = unicode_at(self.s->p, i, self.s->n, &n), out[3];
		bool lower = unicode_is(cp, CLASS_LOWER);
		bool upper = unicode_is(cp, CLASS_UPPER) ||
			     (!lower && unicode_case(cp, CASE_LOWER, out) == 1 && out[0] != cp);

		if (upper ? inside : lower && !inside)
			return jv_bool(false);
		inside = upper || lower;
		any |= inside;
	}
	return jv_bool(any);
}

METHOD(isidentifier)
{
	unsigned n;

	no_args(j, a, "isidentifier");
	for (size_t i = 0; i < self.s->n; i += n)
		if (!unicode_is(unicode_at(self.s->p, i, self.s->n, &n),
				i ? CLASS_WORD : CLASS_WORD_START))
			return jv_bool(false);
	return jv_bool(self.s->n != 0);
}

const struct jmethod_row *jstr_question(const struct jstr *name)
{
	static const struct jmethod_row rows[] = {
		METHOD_ROW(isalpha),	 METHOD_ROW(isdecimal), METHOD_ROW(isdigit),
		METHOD_ROW(isnumeric),	 METHOD_ROW(isspace),	METHOD_ROW(isalnum),
		METHOD_ROW(isprintable), METHOD_ROW(isascii),	METHOD_ROW(isupper),
		METHOD_ROW(islower),	 METHOD_ROW(istitle),	METHOD_ROW(isidentifier),
	};

	return jmethod_named(rows, sizeof(rows) / sizeof(rows[0]), name);
}

struct jv jstr_subscript(struct jinja *j, struct jstr *s, const struct jv *key)
{
	jint chars = (jint)jstr_chars(s), start, stop, step, i;
	size_t n, at;
	struct jbuf b;
	unsigned k;

	jinja_charge(j, chars == (jint)s->n ? 0 : s->n / 64);
	if (key->type != J_SLICE) {
		i = jv_as_int(key);
		i = i < 0 ? i + chars : i;
		if (i < 0 || i >= chars)
			return JV_UNDEF;
		at = jstr_offset(s, (size_t)i);
		unicode_at(s->p, at, s->n, &k);
		return jv_str(jstr_slice(j, s, at, at + k));
	}
	n = jslice_resolve(j, key->slice, (size_t)chars, &start, &stop, &step);
	if (step == 1)
		return jv_str(jstr_slice(j, s, n ? jstr_offset(s, (size_t)start) : 0,
					 n ? jstr_offset(s, (size_t)start + n) : 0));
	jbuf_init(&b, j);
	at = n ? jstr_offset(s, (size_t)start) : 0;
	for (size_t m = 0; m < n; m++) {
		unicode_at(s->p, at, s->n, &k);
		jbuf_bytes(&b, s, at, at + k);
		for (i = 0; m + 1 < n && i < (step < 0 ? -step : step); i++) {
			jinja_charge(j, (i & 15) == 0);
			if (step < 0) {
				at = jstr_char_before(s, at);
				continue;
			}
			unicode_at(s->p, at, s->n, &k);
			at += k;
		}
	}
	return jv_str(jbuf_done(&b));
}
