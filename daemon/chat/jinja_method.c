/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_method.c: methods of texts, by Python's str. Positions count code points.
 * Refused with a sentence: encode, translate, maketrans, format_map. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define METHOD(name) \
	static struct jv method_##name(struct jinja *j, struct jv self, const struct jargs *a)

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

/* The byte at which @sub begins in s[from..to), or SIZE_MAX. */
static size_t find_bytes(struct jinja *j, const struct jstr *s, const struct jstr *sub, size_t from,
			 size_t to, bool last)
{
	const char *p;

	jinja_charge(j, (to - from) / 64);
	if (sub->n > to - from)
		return SIZE_MAX;
	if (!sub->n)
		return last ? to : from;
	if (!last) {
		p = memmem(s->p + from, to - from, sub->p, sub->n);
		return p ? (size_t)(p - s->p) : SIZE_MAX;
	}
	for (size_t at = to - sub->n + 1; at-- > from;) {
		jinja_charge(j, (at & 63) == 0);
		if (s->p[at] != sub->p[0])
			continue;
		jinja_charge(j, sub->n / 64);
		if (!memcmp(s->p + at, sub->p, sub->n))
			return at;
	}
	return SIZE_MAX;
}

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
		at = find_bytes(j, self.s, arg[0].s, from, to, last);
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
	while ((at = find_bytes(j, self.s, arg[0].s, from, to, false)) != SIZE_MAX) {
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

/* ---- cutting ---- */

static void add_part(struct jinja *j, struct jlist *l, const struct jstr *s, size_t from, size_t to)
{
	jlist_add(j, l, jv_str(jstr_slice(j, s, from, to)));
}

static bool is_space_at(const struct jstr *s, size_t at, unsigned *n)
{
	return unicode_is(unicode_at(s->p, at, s->n, n), CLASS_SPACE);
}

static void split_space(struct jinja *j, struct jlist *l, const struct jstr *s, jint most)
{
	size_t at = 0, from;
	unsigned n;

	for (;;) {
		while (at < s->n && is_space_at(s, at, &n))
			at += n;
		if (at == s->n)
			return;
		if (!most--) {
			add_part(j, l, s, at, s->n);
			return;
		}
		from = at;
		while (at < s->n && !is_space_at(s, at, &n))
			at += n;
		add_part(j, l, s, from, at);
	}
}

static void reverse(struct jlist *l)
{
	for (size_t i = 0; i < l->n / 2; i++) {
		struct jv v = l->v[i];

		l->v[i] = l->v[l->n - 1 - i];
		l->v[l->n - 1 - i] = v;
	}
}

/* The start of the code point that ends at @at. */
static size_t char_before(const struct jstr *s, size_t at)
{
	do
		at--;
	while (at > 0 && ((uint8_t)s->p[at] & 0xc0) == 0x80);
	return at;
}

static void rsplit_space(struct jinja *j, struct jlist *l, const struct jstr *s, jint most)
{
	size_t at = s->n, end;
	unsigned n;

	for (;;) {
		while (at > 0 && is_space_at(s, char_before(s, at), &n))
			at = char_before(s, at);
		if (!at)
			break;
		if (!most--) {
			add_part(j, l, s, 0, at);
			break;
		}
		end = at;
		while (at > 0 && !is_space_at(s, char_before(s, at), &n))
			at = char_before(s, at);
		add_part(j, l, s, at, end);
	}
	reverse(l);
}

static void split_text(struct jinja *j, struct jlist *l, const struct jstr *s,
		       const struct jstr *sep, jint most, bool right)
{
	size_t from = 0, to = s->n, at;

	while (most-- && (at = find_bytes(j, s, sep, from, to, right)) != SIZE_MAX) {
		if (right) {
			add_part(j, l, s, at + sep->n, to);
			to = at;
		} else {
			add_part(j, l, s, from, at);
			from = at + sep->n;
		}
	}
	add_part(j, l, s, from, to);
	if (right)
		reverse(l);
}

static struct jv split(struct jinja *j, struct jv self, const struct jargs *a, bool right)
{
	struct jlist *l = jlist_new(j, 0);
	jint most = -1;
	struct jv arg[2];

	jargs_bind(j, a, "split", "/sep,maxsplit", arg);
	if (arg[1].type != J_MISSING)
		most = jarg_int(j, &arg[1], "maxsplit");
	most = most < 0 ? -1 : most;
	if (arg[0].type == J_MISSING || arg[0].type == J_NONE) {
		if (right)
			rsplit_space(j, l, self.s, most);
		else
			split_space(j, l, self.s, most);
		return jv_list(l);
	}
	if (!jarg_str(j, &arg[0], "a separator")->n)
		jinja_fail(j, -EINVAL, "split(): the separator is empty");
	split_text(j, l, self.s, arg[0].s, most, right);
	return jv_list(l);
}

METHOD(split)
{
	return split(j, self, a, false);
}

METHOD(rsplit)
{
	return split(j, self, a, true);
}

/* Length of the line end at @at, or 0. */
static size_t line_end(const struct jstr *s, size_t at)
{
	unsigned n;
	uint32_t cp = unicode_at(s->p, at, s->n, &n);

	if (cp == '\r' && at + 1 < s->n && s->p[at + 1] == '\n')
		return 2;
	return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
			       cp == 0x2029
		       ? n
		       : 0;
}

METHOD(splitlines)
{
	struct jlist *l = jlist_new(j, 0);
	size_t from = 0, n;
	struct jv keep;

	jargs_bind(j, a, "splitlines", "/keepends", &keep);
	for (size_t i = 0; i < self.s->n;) {
		n = line_end(self.s, i);
		if (!n) {
			i++;
			continue;
		}
		add_part(j, l, self.s, from, jv_truth(j, &keep) ? i + n : i);
		i += n;
		from = i;
	}
	if (from < self.s->n)
		add_part(j, l, self.s, from, self.s->n);
	return jv_list(l);
}

static struct jv partition(struct jinja *j, struct jv self, const struct jargs *a, bool right)
{
	struct jlist *l = jlist_new(j, 3);
	struct jstr *s = self.s;
	struct jv arg;
	size_t at;

	jargs_bind(j, a, "partition", "-", &arg);
	if (!jarg_str(j, &arg, "a separator")->n)
		jinja_fail(j, -EINVAL, "partition(): the separator is empty");
	at = find_bytes(j, s, arg.s, 0, s->n, right);
	if (at == SIZE_MAX) {
		add_part(j, l, s, 0, right ? 0 : s->n);
		add_part(j, l, s, 0, 0);
		add_part(j, l, s, right ? 0 : s->n, s->n);
		return jv_tuple(l);
	}
	add_part(j, l, s, 0, at);
	add_part(j, l, s, at, at + arg.s->n);
	add_part(j, l, s, at + arg.s->n, s->n);
	return jv_tuple(l);
}

METHOD(partition)
{
	return partition(j, self, a, false);
}

METHOD(rpartition)
{
	return partition(j, self, a, true);
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
	jbuf_init(&b, j);
	while (most != 0 && (found = find_bytes(j, s, arg[0].s, at, s->n, false)) != SIZE_MAX) {
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

#define ROW(name)                           \
	{                                   \
#name, method_##name, false \
	}
static const struct jmethod_row methods[] = {
	ROW(upper),
	ROW(lower),
	ROW(casefold),
	ROW(capitalize),
	ROW(title),
	ROW(swapcase),
	ROW(strip),
	ROW(lstrip),
	ROW(rstrip),
	ROW(removeprefix),
	ROW(removesuffix),
	ROW(find),
	ROW(rfind),
	ROW(index),
	ROW(rindex),
	ROW(count),
	ROW(startswith),
	ROW(endswith),
	ROW(split),
	ROW(rsplit),
	ROW(splitlines),
	ROW(partition),
	ROW(rpartition),
	ROW(replace),
	ROW(join),
	ROW(center),
	ROW(ljust),
	ROW(rjust),
	ROW(zfill),
	ROW(expandtabs),
	ROW(format),
	{ "encode", method_refused, false },
	{ "translate", method_refused, false },
	{ "maketrans", method_refused, false },
	{ "format_map", method_refused, false },
};

const struct jmethod_row *jstr_method(const struct jstr *name)
{
	for (size_t i = 0; i < COUNT(methods); i++)
		if (jstr_is(name, methods[i].name))
			return &methods[i];
	return jstr_question(name);
}
