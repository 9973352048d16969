/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_method.c: methods of texts, by Python's str. Positions count code points.
 * Refused with a sentence: encode, translate, maketrans, format_map. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void no_args(struct jinja *j, const struct jargs *a, const char *what)
{
	jargs_bind(j, a, what, "", NULL);
}

/* ---- cases ---- */

METHOD(upper)
{
	no_args(j, a, "upper");
	return jv_str(jstr_case(j, self.s, CASE_UPPER));
}

METHOD(lower)
{
	no_args(j, a, "lower");
	return jv_str(jstr_case(j, self.s, CASE_LOWER));
}

METHOD(casefold)
{
	no_args(j, a, "casefold");
	return jv_str(jstr_case(j, self.s, CASE_FOLD));
}

static void add_case(struct jbuf *b, const struct jstr *s, size_t at, uint32_t cp, enum jcase to)
{
	uint32_t out[3];
	unsigned n = unicode_case(cp, to, out);

	for (unsigned i = 0; i < n; i++)
		jbuf_char(b, out[i], jstr_trusted_at(s, at));
}

METHOD(capitalize)
{
	struct jstr *lower;
	struct jbuf b;
	unsigned n = 0;

	no_args(j, a, "capitalize");
	jbuf_init(&b, j);
	if (self.s->n)
		add_case(&b, self.s, 0, unicode_at(self.s->p, 0, self.s->n, &n), CASE_TITLE);
	lower = jstr_case(j, jstr_slice(j, self.s, n, self.s->n), CASE_LOWER);
	jbuf_str(&b, lower);
	return jv_str(jbuf_done(&b));
}

METHOD(title)
{
	bool inside = false;
	struct jbuf b;
	unsigned n;

	no_args(j, a, "title");
	jbuf_init(&b, j);
	for (size_t i = 0; i < self.s->n; i += n) {
		uint32_t cp = unicode_at(self.s->p, i, self.s->n, &n);

		add_case(&b, self.s, i, cp, inside ? CASE_LOWER : CASE_TITLE);
		inside = unicode_is(cp, CLASS_CASED);
	}
	return jv_str(jbuf_done(&b));
}

METHOD(swapcase)
{
	struct jbuf b;
	unsigned n;

	no_args(j, a, "swapcase");
	jbuf_init(&b, j);
	for (size_t i = 0; i < self.s->n; i += n) {
		uint32_t cp = unicode_at(self.s->p, i, self.s->n, &n);

		if (unicode_is(cp, CLASS_UPPER))
			add_case(&b, self.s, i, cp, CASE_LOWER);
		else
			add_case(&b, self.s, i, cp, CASE_UPPER);
	}
	return jv_str(jbuf_done(&b));
}

/* ---- stripping ---- */

static struct jv strip(struct jinja *j, struct jv self, const struct jargs *a, bool left,
		       bool right)
{
	struct jv chars;

	jargs_bind(j, a, "strip", "/-", &chars);
	return jv_str(jstr_strip(j, self.s,
				 chars.type == J_MISSING || chars.type == J_NONE
					 ? NULL
					 : jarg_str(j, &chars, "what to strip"),
				 left, right));
}

METHOD(strip)
{
	return strip(j, self, a, true, true);
}

METHOD(lstrip)
{
	return strip(j, self, a, true, false);
}

METHOD(rstrip)
{
	return strip(j, self, a, false, true);
}

static bool begins(const struct jstr *s, const struct jstr *with)
{
	return s->n >= with->n && !memcmp(s->p, with->p, with->n);
}

static bool ends(const struct jstr *s, const struct jstr *with)
{
	return s->n >= with->n && !memcmp(s->p + s->n - with->n, with->p, with->n);
}

METHOD(removeprefix)
{
	struct jv arg;

	jargs_bind(j, a, "removeprefix", "-", &arg);
	if (!begins(self.s, jarg_str(j, &arg, "a prefix")))
		return self;
	return jv_str(jstr_slice(j, self.s, arg.s->n, self.s->n));
}

METHOD(removesuffix)
{
	struct jv arg;

	jargs_bind(j, a, "removesuffix", "-", &arg);
	if (!ends(self.s, jarg_str(j, &arg, "a suffix")))
		return self;
	return jv_str(jstr_slice(j, self.s, 0, self.s->n - arg.s->n));
}

/* ---- finding ---- */

/* Bytes of the code points [start, stop) as methods take them; false: start lies behind the end. */
static bool bounds(struct jinja *j, struct jstr *s, struct jv *arg, size_t *from, size_t *to)
{
	jint n = (jint)jstr_chars(s), start = 0, stop = n;

	if (arg[0].type != J_MISSING && arg[0].type != J_NONE)
		start = jarg_int(j, &arg[0], "a start");
	if (arg[1].type != J_MISSING && arg[1].type != J_NONE)
		stop = jarg_int(j, &arg[1], "an end");
	start = start < 0 ? start + n : start;
	stop = stop < 0 ? stop + n : stop > n ? n : stop;
	start = start < 0 ? 0 : start;
	stop = stop < 0 ? 0 : stop;
	if (start > stop)
		return false;
	*from = jstr_offset(s, (size_t)start);
	*to = jstr_offset(s, (size_t)stop);
	return true;
}

static jint chars_before(const struct jstr *s, size_t at)
{
	jint n = 0;

	for (size_t i = 0; i < at; i++)
		n += ((uint8_t)s->p[i] & 0xc0) != 0x80;
	return n;
}

static struct jv find_in(struct jinja *j, struct jv self, const struct jargs *a, bool last,
			 bool must)
{
	size_t from = 0, to = 0, at = SIZE_MAX;
	struct jv arg[3];

	jargs_bind(j, a, "find", "-/-,-", arg);
	jarg_str(j, &arg[0], "what to find");
	if (bounds(j, self.s, arg + 1, &from, &to))
		at = jstr_find(j, self.s, arg[0].s, from, to, last);
	if (at == SIZE_MAX && must)
		jinja_fail(j, -EINVAL, "index(): the text is not there");
	return jv_int(at == SIZE_MAX ? -1 : chars_before(self.s, at));
}

METHOD(find)
{
	return find_in(j, self, a, false, false);
}

METHOD(rfind)
{
	return find_in(j, self, a, true, false);
}

METHOD(index)
{
	return find_in(j, self, a, false, true);
}

METHOD(rindex)
{
	return find_in(j, self, a, true, true);
}

METHOD(count)
{
	size_t from = 0, to = 0, at;
	struct jv arg[3];
	jint n = 0;

	jargs_bind(j, a, "count", "-/-,-", arg);
	jarg_str(j, &arg[0], "what to count");
	if (!bounds(j, self.s, arg + 1, &from, &to))
		return jv_int(0);
	if (!arg[0].s->n)
		return jv_int(chars_before(self.s, to) - chars_before(self.s, from) + 1);
	while ((at = jstr_find(j, self.s, arg[0].s, from, to, false)) != SIZE_MAX) {
		n++;
		from = at + arg[0].s->n;
	}
	return jv_int(n);
}

static struct jv matches(struct jinja *j, struct jv self, const struct jargs *a, bool at_end)
{
	size_t from = 0, to = 0;
	struct jv arg[3], item;
	struct jcursor c;
	struct jstr *cut;

	jargs_bind(j, a, at_end ? "endswith" : "startswith", "-/-,-", arg);
	if (arg[0].type != J_STR && arg[0].type != J_TUPLE)
		jarg_str(j, &arg[0], "what a text starts or ends with");
	if (!bounds(j, self.s, arg + 1, &from, &to))
		return jv_bool(false);
	cut = jstr_slice(j, self.s, from, to);
	if (arg[0].type == J_STR)
		return jv_bool(at_end ? ends(cut, arg[0].s) : begins(cut, arg[0].s));
	jcursor_init(j, &c, &arg[0]);
	while (jcursor_next(j, &c, &item)) {
		jarg_str(j, &item, "what a text starts or ends with");
		if (at_end ? ends(cut, item.s) : begins(cut, item.s))
			return jv_bool(true);
	}
	return jv_bool(false);
}

METHOD(startswith)
{
	return matches(j, self, a, false);
}

METHOD(endswith)
{
	return matches(j, self, a, true);
}

/* ---- making ---- */

METHOD(replace)
{
	struct jstr *s = self.s, *r;
	size_t at = 0, found;
	struct jv arg[3];
	jint most = -1;
	struct jbuf b;
	unsigned n;

	jargs_bind(j, a, "replace", "-,-/-", arg);
	jarg_str(j, &arg[0], "what to replace");
	jarg_str(j, &arg[1], "what to replace it by");
	if (arg[2].type != J_MISSING)
		most = jarg_int(j, &arg[2], "a count");
	if (most > INT64_MAX || most < INT64_MIN) /* Python's bounds; it is counted down */
		jinja_fail(j, -EINVAL, "replace: a count is too large");
	jbuf_init(&b, j);
	while (most != 0 && (found = jstr_find(j, s, arg[0].s, at, s->n, false)) != SIZE_MAX) {
		jinja_charge(j, 1);
		most--;
		jbuf_bytes(&b, s, at, found);
		jbuf_str(&b, arg[1].s);
		at = found + arg[0].s->n;
		if (!arg[0].s->n) { /* between all characters */
			if (at == s->n)
				break;
			unicode_at(s->p, at, s->n, &n);
			jbuf_bytes(&b, s, at, at + n);
			at += n;
		}
	}
	jbuf_bytes(&b, s, at, s->n);
	r = jbuf_done(&b);
	r->safe = s->safe;
	return jv_str(r);
}

METHOD(join)
{
	struct jv arg, item;
	struct jcursor c;
	struct jbuf b;

	jargs_bind(j, a, "join", "-", &arg);
	jbuf_init(&b, j);
	jcursor_init(j, &c, &arg);
	for (size_t i = 0; jcursor_next(j, &c, &item); i++) {
		if (i)
			jbuf_str(&b, self.s);
		jbuf_str(&b, jarg_str(j, &item, "what join() joins"));
	}
	return jv_str(jbuf_done(&b));
}

static struct jv justify(struct jinja *j, struct jv self, const struct jargs *a, char where)
{
	jint chars = (jint)jstr_chars(self.s), width, pad, left;
	struct jv arg[2];
	struct jbuf b;

	jargs_bind(j, a, "center, ljust or rjust", "-/-", arg);
	width = jarg_int(j, &arg[0], "a width");
	if (arg[1].type == J_MISSING)
		arg[1] = jv_text(j, " ");
	if (jstr_chars(jarg_str(j, &arg[1], "what to fill with")) != 1)
		jinja_fail(j, -EINVAL, "what to fill with is not one character");
	if (width <= chars)
		return self;
	if (width > (jint)j->max_bytes)
		jinja_fail(j, -E2BIG, "it takes more than %zu bytes of memory", j->max_bytes);
	pad = width - chars;
	left = where == 'l' ? 0 : where == 'r' ? pad : pad / 2 + (pad & width & 1);
	jbuf_init(&b, j);
	for (jint i = 0; i < left; i++)
		jbuf_str(&b, arg[1].s);
	jbuf_str(&b, self.s);
	for (jint i = left; i < pad; i++)
		jbuf_str(&b, arg[1].s);
	return jv_str(jbuf_done(&b));
}

METHOD(center)
{
	return justify(j, self, a, 'c');
}

METHOD(ljust)
{
	return justify(j, self, a, 'l');
}

METHOD(rjust)
{
	return justify(j, self, a, 'r');
}

METHOD(zfill)
{
	jint chars = (jint)jstr_chars(self.s), width;
	size_t sign;
	struct jv arg;
	struct jbuf b;

	jargs_bind(j, a, "zfill", "-", &arg);
	width = jarg_int(j, &arg, "a width");
	if (width > (jint)j->max_bytes)
		jinja_fail(j, -E2BIG, "it takes more than %zu bytes of memory", j->max_bytes);
	sign = self.s->n && (self.s->p[0] == '+' || self.s->p[0] == '-');
	jbuf_init(&b, j);
	jbuf_bytes(&b, self.s, 0, sign);
	for (jint i = chars; i < width; i++)
		jbuf_text(&b, "0");
	jbuf_bytes(&b, self.s, sign, self.s->n);
	return jv_str(jbuf_done(&b));
}

METHOD(expandtabs)
{
	jint size = 8, column = 0;
	struct jv arg;
	struct jbuf b;
	unsigned n;

	jargs_bind(j, a, "expandtabs", "/tabsize", &arg);
	if (arg.type != J_MISSING)
		size = jarg_int(j, &arg, "a tab size");
	if (size > 1000)
		jinja_fail(j, -EINVAL, "a tab size of more than 1000");
	jbuf_init(&b, j);
	for (size_t i = 0; i < self.s->n; i += n) {
		uint32_t cp = unicode_at(self.s->p, i, self.s->n, &n);

		if (cp == '\t') {
			for (jint k = size > 0 ? size - column % size : 0; k > 0; k--, column++)
				jbuf_text(&b, " ");
			continue;
		}
		jbuf_bytes(&b, self.s, i, i + n);
		column = cp == '\n' || cp == '\r' ? 0 : column + 1;
	}
	return jv_str(jbuf_done(&b));
}

METHOD(format)
{
	return jv_str(jstr_format(j, self.s, a));
}

METHOD(refused)
{
	jinja_fail(j, -EINVAL, "encode, translate, maketrans and format_map are not supported");
}

static const struct jmethod_row methods[] = {
	METHOD_ROW(upper),
	METHOD_ROW(lower),
	METHOD_ROW(casefold),
	METHOD_ROW(capitalize),
	METHOD_ROW(title),
	METHOD_ROW(swapcase),
	METHOD_ROW(strip),
	METHOD_ROW(lstrip),
	METHOD_ROW(rstrip),
	METHOD_ROW(removeprefix),
	METHOD_ROW(removesuffix),
	METHOD_ROW(find),
	METHOD_ROW(rfind),
	METHOD_ROW(index),
	METHOD_ROW(rindex),
	METHOD_ROW(count),
	METHOD_ROW(startswith),
	METHOD_ROW(endswith),
	METHOD_ROW(replace),
	METHOD_ROW(join),
	METHOD_ROW(center),
	METHOD_ROW(ljust),
	METHOD_ROW(rjust),
	METHOD_ROW(zfill),
	METHOD_ROW(expandtabs),
	METHOD_ROW(format),
	{ "encode", method_refused, false },
	{ "translate", method_refused, false },
	{ "maketrans", method_refused, false },
	{ "format_map", method_refused, false },
};

const struct jmethod_row *jmethod_named(const struct jmethod_row *rows, size_t n,
					const struct jstr *name)
{
	for (size_t i = 0; i < n; i++)
		if (jstr_is(name, rows[i].name))
			return &rows[i];
	return NULL;
}

const struct jmethod_row *jstr_method(const struct jstr *name)
{
	const struct jmethod_row *found = jmethod_named(methods, COUNT(methods), name);

	found = found ? found : jstr_cutting(name);
	return found ? found : jstr_question(name);
}
