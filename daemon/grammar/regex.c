/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/regex.c: regular expressions, the part that ECMA-262, Perl and Rust agree on, to
 * nodes. See regex.h.
 *
 *	. [class] [^class] ( ) (?: ) (?<name> ) |  ^ $ at the ends of the whole or of its alternatives
 *	* + ? {m} {m,} {m,n}, and each with ? behind it: which text fits is the same
 *	\d \w \s \D \W \S, of ASCII; \n \r \t \f \v \0 \xHH \uHHHH \u{H...}; \ before what is no letter
 */
#include "grammar/regex.h"

#include <errno.h>
#include <string.h>

#include "grammar/grammar.h"
#include "grammar/program.h"

struct regex {
	const char *text;
	size_t n, at;
	struct ir *ir;
	const struct regex_options *o;
	struct err *err;
	unsigned depth;
};

static int alternatives(struct regex *r, bool top, ir_node *ret);

static int peek(const struct regex *r)
{
	return r->at < r->n ? (unsigned char)r->text[r->at] : -1;
}

static bool next_is(const struct regex *r, const char *what)
{
	size_t n = strlen(what);

	return r->n - r->at >= n && !memcmp(r->text + r->at, what, n);
}

static int bad(struct regex *r, int code, const char *what)
{
	return err_set(r->err, code, "%s, at byte %zu of the expression", what, r->at);
}

/* ---- characters ---- */

/* @out: the set that it joins is turned to its opposite afterwards, and so what is doubtful belongs to it. */
static bool add_named(struct ir_chars_set *s, int letter, bool out)
{
	static const struct ir_range digits[] = { { '0', '9' } };
	static const struct ir_range words[] = {
		{ '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' }
	};
	static const struct ir_range spaces[] = { { '\t', '\r' }, { ' ', ' ' } };
	/* what any dialect takes for white space: neither \S nor [^\s] has it */
	static const struct ir_range wide[] = {
		{ '\t', '\r' },	    { 0x1c, 0x20 },	{ 0x85, 0x85 },	    { 0xa0, 0xa0 },
		{ 0x1680, 0x1680 }, { 0x2000, 0x200a }, { 0x2028, 0x2029 }, { 0x202f, 0x202f },
		{ 0x205f, 0x205f }, { 0x3000, 0x3000 }, { 0xfeff, 0xfeff }
	};
	bool narrow = letter == (out ? 'S' : 's');
	const struct ir_range *from = (letter | 32) == 'd'   ? digits
				      : (letter | 32) == 'w' ? words
				      : narrow		     ? spaces
							     : wide;
	size_t n = (letter | 32) == 'd' ? 1 : (letter | 32) == 'w' ? 4 : narrow ? 2 : 11;
	struct ir_chars_set own = { 0 };
	bool ok = true;

	for (size_t i = 0; i < n && ok; i++)
		ok = ir_set_add(&own, from[i].lo, from[i].hi);
	if (ok && letter < 'a')
		ok = ir_set_invert(&own);
	for (size_t i = 0; i < own.n && ok; i++)
		ok = ir_set_add(s, own.ranges[i].lo, own.ranges[i].hi);
	ir_set_done(&own);
	return ok;
}

/* \u{...}, \uHHHH, \xHH: behind the letter. */
static int hex(struct regex *r, unsigned digits, uint32_t *ret)
{
	if (digits == 4 && peek(r) == '{') {
		const char *end = memchr(r->text + r->at, '}', r->n - r->at);
		size_t n = end ? (size_t)(end - (r->text + r->at)) - 1 : 0;

		if (!n || n > 6 || !text_hex(r->text + r->at + 1, n, ret) || *ret > IR_MAX_CODE)
			return bad(r, -EINVAL, "a bad \\u{...}");
		r->at += n + 2;
		return 0;
	}
	if (r->n - r->at < digits || !text_hex(r->text + r->at, digits, ret))
		return bad(r, -EINVAL, "too few hexadecimal digits in an escape");
	r->at += digits;
	if (*ret >= 0xd800 && *ret <= 0xdbff && next_is(r, "\\u")) {
		uint32_t low;

		if (r->n - r->at >= 6 && text_hex(r->text + r->at + 2, 4, &low) && low >= 0xdc00 &&
		    low <= 0xdfff) {
			*ret = 0x10000 + ((*ret - 0xd800) << 10) + (low - 0xdc00);
			r->at += 6;
		}
	}
	return 0;
}

/* Behind a backslash: a character, or a class by its letter (*ret_class). */
static int escape(struct regex *r, uint32_t *ret, int *ret_class)
{
	static const char letters[] = "nrtfv0", codes[] = "\n\r\t\f\v\0";
	const char *known;
	int c = peek(r);
	unsigned len;

	*ret_class = 0;
	if (c < 0)
		return bad(r, -EINVAL, "a backslash at the end");
	if (c && strchr("dwsDWS", c)) {
		*ret_class = c;
		r->at++;
		return 0;
	}
	if (c == 'b' || c == 'B')
		return bad(r, -ENOTSUP, "a word boundary cannot be held");
	if (c == 'p' || c == 'P')
		return bad(r, -ENOTSUP, "Unicode properties (\\p) cannot be held");
	if ((c >= '1' && c <= '9') || c == 'k')
		return bad(r, -ENOTSUP, "a reference to a group cannot be held");
	if (c == 'x' || c == 'u') {
		r->at++;
		return hex(r, c == 'x' ? 2 : 4, ret);
	}
	known = c ? strchr(letters, c) : NULL;
	if (known) {
		*ret = (unsigned char)codes[known - letters];
		r->at++;
		return 0;
	}
	if ((c | 32) >= 'a' && (c | 32) <= 'z')
		return bad(r, -EINVAL, "an unknown escape");
	len = text_char(r->text + r->at, r->n - r->at, ret);
	r->at += len;
	return len ? 0 : bad(r, -EINVAL, "this is no UTF-8");
}

/* One end of a range in brackets, or a whole class. */
static int class_end(struct regex *r, uint32_t *ret, int *ret_class)
{
	unsigned len;

	*ret_class = 0;
	if (peek(r) < 0)
		return bad(r, -EINVAL, "a class is not closed");
	if (peek(r) != '\\') {
		len = text_char(r->text + r->at, r->n - r->at, ret);
		r->at += len;
		return len ? 0 : bad(r, -EINVAL, "this is no UTF-8");
	}
	r->at++;
	if (peek(r) == 'b') { /* within brackets it is a character */
		r->at++;
		*ret = '\b';
		return 0;
	}
	return escape(r, ret, ret_class);
}

static int class_part(struct regex *r, struct ir_chars_set *s, bool out)
{
	uint32_t lo = 0, hi;
	int named, rc = class_end(r, &lo, &named);
	size_t back;

	if (rc)
		return rc;
	if (named)
		return add_named(s, named, out) ? 0 : -ENOMEM;
	hi = lo;
	back = r->at;
	if (peek(r) == '-' && r->at + 1 < r->n && r->text[r->at + 1] != ']') {
		r->at++;
		rc = class_end(r, &hi, &named);
		if (rc)
			return rc;
		if (named) { /* the dash is one, and the class comes next */
			r->at = back;
			hi = lo;
		} else if (hi < lo) {
			return bad(r, -EINVAL, "a range runs backwards");
		}
	}
	return ir_set_add(s, lo, hi) ? 0 : -E2BIG;
}

static int class(struct regex *r, ir_node *ret)
{
	struct ir_chars_set s = { 0 };
	bool inverted;
	int rc = 0;

	r->at++;
	inverted = peek(r) == '^';
	r->at += inverted;
	while (!rc && peek(r) != ']')
		rc = class_part(r, &s, inverted);
	r->at++;
	ir_set_sort(&s);
	if (!rc && inverted && !ir_set_invert(&s))
		rc = -ENOMEM;
	if (!rc)
		*ret = r->o->chars(r->ir, &s);
	ir_set_done(&s);
	return rc;
}

static int one(struct regex *r, uint32_t c, ir_node *ret)
{
	struct ir_range range = { c, c };
	struct ir_chars_set s = { .ranges = &range, .n = 1 };

	*ret = r->o->chars(r->ir, &s);
	return 0;
}

static int named(struct regex *r, int letter, ir_node *ret)
{
	struct ir_chars_set s = { 0 };
	int rc = add_named(&s, letter, false) ? 0 : -ENOMEM;

	ir_set_sort(&s);
	if (!rc)
		*ret = r->o->chars(r->ir, &s);
	ir_set_done(&s);
	return rc;
}

static int dot(struct regex *r, ir_node *ret)
{
	struct ir_chars_set s = { 0 };
	bool ok = ir_set_add(&s, '\n', '\n');

	if (r->o->ecma)
		ok = ok && ir_set_add(&s, '\r', '\r') && ir_set_add(&s, 0x2028, 0x2029);
	ok = ok && ir_set_invert(&s);
	if (ok)
		*ret = r->o->chars(r->ir, &s);
	ir_set_done(&s);
	r->at++;
	return ok ? 0 : -ENOMEM;
}

/* ---- structure ---- */

static int group(struct regex *r, ir_node *ret)
{
	const char *end;
	int rc;

	if (r->depth == GRAMMAR_MAX_DEPTH)
		return bad(r, -E2BIG, "groups nest too deep");
	r->at++;
	if (next_is(r, "?:")) {
		r->at += 2;
	} else if (next_is(r, "?=") || next_is(r, "?!") || next_is(r, "?<=") || next_is(r, "?<!")) {
		return bad(r, -ENOTSUP, "look-around cannot be held");
	} else if (next_is(r, "?<") || next_is(r, "?P<")) {
		end = memchr(r->text + r->at, '>', r->n - r->at);
		if (!end)
			return bad(r, -EINVAL, "a group's name is not closed");
		r->at = (size_t)(end - r->text) + 1;
	} else if (peek(r) == '?') {
		return bad(r, -ENOTSUP, "flags in a group cannot be held");
	}
	r->depth++;
	rc = alternatives(r, false, ret);
	r->depth--;
	if (rc)
		return rc;
	if (peek(r) != ')')
		return bad(r, -EINVAL, "a group is not closed");
	r->at++;
	return 0;
}

static int atom(struct regex *r, ir_node *ret)
{
	uint32_t c = 0;
	int letter = 0, rc;
	unsigned len;

	switch (peek(r)) {
	case '(':
		return group(r, ret);
	case '[':
		return class(r, ret);
	case '.':
		return dot(r, ret);
	case '*':
	case '+':
	case '?':
		return bad(r, -EINVAL, "there is nothing to repeat");
	case '^':
	case '$':
		return bad(r, -ENOTSUP, "an anchor within an expression cannot be held");
	case '\\':
		r->at++;
		rc = escape(r, &c, &letter);
		return rc ? rc : letter ? named(r, letter, ret) : one(r, c, ret);
	default:
		len = text_char(r->text + r->at, r->n - r->at, &c);
		if (!len)
			return bad(r, -EINVAL, "this is no UTF-8");
		r->at += len;
		return one(r, c, ret);
	}
}

static bool number(const struct regex *r, size_t *at, uint64_t *ret)
{
	size_t from = *at;

	for (*ret = 0; *at < r->n && r->text[*at] >= '0' && r->text[*at] <= '9'; ++*at)
		if (*ret <= GRAMMAR_MAX_COUNT)
			*ret = *ret * 10 + (uint64_t)(r->text[*at] - '0');
	return *at > from;
}

/* {m} {m,} {m,n}; false: the brace is a character, as in ECMA-262's annex B. */
static bool braces(struct regex *r, uint64_t *min, uint64_t *max)
{
	size_t at = r->at + 1;

	if (!number(r, &at, min))
		return false;
	*max = *min;
	if (at < r->n && r->text[at] == ',') {
		at++;
		if (!number(r, &at, max))
			*max = IR_UNBOUNDED;
	}
	if (at >= r->n || r->text[at] != '}')
		return false;
	r->at = at + 1;
	return true;
}

static int repeats(struct regex *r, ir_node *node)
{
	for (bool any = false;; any = true) {
		uint64_t min, max = IR_UNBOUNDED;
		int c = peek(r);

		if (c == '{') {
			if (!braces(r, &min, &max))
				return 0;
		} else if (c == '*' || c == '+' || c == '?') {
			min = c == '+';
			max = c == '?' ? 1 : max;
			r->at++;
		} else {
			return 0;
		}
		if (any)
			return bad(r, -EINVAL, "there is nothing to repeat");
		if (max < min)
			return bad(r, -EINVAL, "{m,n} with n below m");
		if (min > GRAMMAR_MAX_COUNT || (max > GRAMMAR_MAX_COUNT && max != IR_UNBOUNDED))
			return bad(r, -EINVAL, "too many repetitions");
		*node = ir_rep(r->ir, *node, (uint32_t)min, (uint32_t)max);
		if (peek(r) == '?')
			r->at++;
	}
}

static ir_node anything(struct regex *r)
{
	struct ir_range all = { 0, IR_MAX_CODE };
	struct ir_chars_set s = { .ranges = &all, .n = 1 };

	return ir_rep(r->ir, r->o->chars(r->ir, &s), 0, IR_UNBOUNDED);
}

/* Anchors count at the ends of the whole expression's alternatives. */
static int sequence(struct regex *r, bool top, ir_node *ret)
{
	struct ir_list parts = { 0 };
	bool begins = false, ends = false;
	int rc = 0;

	for (; top && peek(r) == '^'; r->at++)
		begins = true;
	if (top && r->o->search && !begins)
		ir_push(r->ir, &parts, anything(r));
	while (!rc && peek(r) >= 0 && peek(r) != '|' && peek(r) != ')') {
		ir_node node = ir_fail();

		if (top && peek(r) == '$' && (r->at + 1 == r->n || r->text[r->at + 1] == '|')) {
			r->at++;
			ends = true;
			break;
		}
		rc = atom(r, &node);
		rc = rc ? rc : repeats(r, &node);
		ir_push(r->ir, &parts, node);
		rc = rc ? rc : ir_error(r->ir);
	}
	if (top && r->o->search && !ends)
		ir_push(r->ir, &parts, anything(r));
	*ret = ir_seq(r->ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return rc;
}

static int alternatives(struct regex *r, bool top, ir_node *ret)
{
	struct ir_list all = { 0 };
	int rc;

	for (;;) {
		ir_node node = ir_fail();

		rc = sequence(r, top, &node);
		ir_push(r->ir, &all, node);
		if (rc || peek(r) != '|')
			break;
		r->at++;
	}
	*ret = ir_alt(r->ir, all.nodes, all.n);
	ir_list_done(&all);
	return rc;
}

int regex_node(struct ir *ir, const char *text, size_t n, const struct regex_options *o,
	       ir_node *ret, struct err *err)
{
	struct regex r = { .text = text, .n = n, .ir = ir, .o = o, .err = err };
	int rc;

	if (n > GRAMMAR_MAX_TEXT)
		return err_set(err, -E2BIG, "an expression of %zu bytes is too large", n);
	rc = alternatives(&r, true, ret);
	if (!rc && r.at < n)
		rc = bad(&r, -EINVAL, "a ) without its (");
	if (rc == -E2BIG && err && !err->text[0])
		err_set(err, rc, "it is too large");
	return rc ? rc : ir_error(ir);
}

int grammar_regex(const char *text, size_t n, struct program **ret, struct err *err)
{
	static const struct regex_options whole = { .chars = plain_chars };
	ir_node node = ir_fail();
	struct ir *ir = NULL;
	int rc;

	rc = ir_create(&ir);
	rc = rc ? rc : regex_node(ir, text, n, &whole, &node, err);
	rc = rc ? rc : program_of_node(ir, node, ret, err);
	grammar_say(rc, err);
	ir_destroy(ir);
	return rc;
}
