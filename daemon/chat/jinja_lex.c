/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_lex.c: a template's text as tokens.
 *
 * Jinja2's rules with trim_blocks and lstrip_blocks: line ends become \n, one at the very end goes;
 * a block tag or comment takes the line end behind it and, where it begins a line, the white space
 * before it; '-' takes all white space, '+' none. What the rules leave of the text between tags is
 * a token of its own. Refused with the line: what no rule fits.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "chat/jinja_syntax.h"

struct lexer {
	struct jinja *j;
	const char *s;
	size_t n, at;
	size_t cap;
	bool line_start; /* what was matched last ended in \n, or nothing was */
	char open[256];	 /* brackets not closed yet */
	unsigned n_open;
};

static void add(struct lexer *x, enum jtoken_type type, uint8_t code, struct jv value,
		const struct jstr *name)
{
	struct jinja *j = x->j;

	if (j->n_tokens == x->cap) {
		size_t more = x->cap ? 2 * x->cap : 256;

		j->tokens = jinja_grow(j, j->tokens, x->cap * sizeof(*j->tokens),
				       more * sizeof(*j->tokens));
		x->cap = more;
	}
	j->tokens[j->n_tokens++] = (struct jtoken){ type, code, j->line, name, value };
}

static void advance(struct lexer *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x->j->line += x->s[x->at + i] == '\n';
	x->at += n;
	if (n)
		x->line_start = x->s[x->at - 1] == '\n';
}

static size_t space_at(const struct lexer *x, size_t at)
{
	unsigned n;

	if (at >= x->n)
		return 0;
	return unicode_is(unicode_at(x->s, at, x->n, &n), CLASS_SPACE) ? n : 0;
}

static size_t spaces(const struct lexer *x, size_t at)
{
	size_t from = at, n;

	while ((n = space_at(x, at)))
		at += n;
	return at - from;
}

static bool has(const struct lexer *x, size_t at, const char *text)
{
	size_t n = strlen(text);

	return x->n - at >= n && !memcmp(x->s + at, text, n);
}

/* {% raw %} at @at: its length with what it takes, or 0. */
static size_t raw_begin(const struct lexer *x, size_t at)
{
	size_t p = at + 2;

	if (p < x->n && (x->s[p] == '-' || x->s[p] == '+'))
		p++;
	p += spaces(x, p);
	if (!has(x, p, "raw"))
		return 0;
	p += 3;
	p += spaces(x, p);
	if (has(x, p, "-%}"))
		return p + 3 + spaces(x, p + 3) - at;
	return has(x, p, "%}") ? p + 2 - at : 0;
}

/* The text before a tag whose sign is @sign; @prints: it is {{, which strips no indentation. */
static void add_text(struct lexer *x, size_t from, size_t to, char sign, bool prints)
{
	size_t end = to;

	if (sign == '-') {
		struct jstr *s = jstr_new(x->j, x->s + from, to - from, true);

		end = from + jstr_strip(x->j, s, NULL, false, true)->n;
	} else if (sign != '+' && !prints) {
		size_t line = to;

		while (line > from && x->s[line - 1] != '\n')
			line--;
		if ((line > from || x->line_start) && line < to && line + spaces(x, line) >= to)
			end = line;
	}
	if (end > from)
		add(x, T_DATA, 0, jv_str(jstr_new(x->j, x->s + from, end - from, true)), NULL);
}

/* The end of a block tag at @at: its length with what it takes, or 0. */
static size_t block_end(const struct lexer *x, size_t at)
{
	if (has(x, at, "+%}"))
		return 3;
	if (has(x, at, "-%}"))
		return 3 + spaces(x, at + 3);
	if (has(x, at, "%}"))
		return 2 + (at + 2 < x->n && x->s[at + 2] == '\n');
	return 0;
}

static size_t comment_end(const struct lexer *x, size_t at)
{
	if (has(x, at, "+#}"))
		return 3;
	if (has(x, at, "-#}"))
		return 3 + spaces(x, at + 3);
	if (has(x, at, "#}"))
		return 2 + (at + 2 < x->n && x->s[at + 2] == '\n');
	return 0;
}

static void lex_comment(struct lexer *x)
{
	size_t p = x->at, n = 0;

	while (p < x->n && !(n = comment_end(x, p)))
		p++;
	if (!n)
		jinja_fail(x->j, -EINVAL, "the comment has no end");
	advance(x, p + n - x->at);
}

/* {% endraw %} at @at: its length, and the sign of its beginning. */
static size_t raw_end(const struct lexer *x, size_t at, char *ret_sign)
{
	size_t p = at + 2, end;

	if (!has(x, at, "{%"))
		return 0;
	*ret_sign = 0;
	if (p < x->n && (x->s[p] == '-' || x->s[p] == '+'))
		*ret_sign = x->s[p++];
	p += spaces(x, p);
	if (!has(x, p, "endraw"))
		return 0;
	p += 6;
	p += spaces(x, p);
	end = block_end(x, p);
	return end ? p + end - at : 0;
}

static void lex_raw(struct lexer *x)
{
	size_t p = x->at, n = 0;
	char sign = 0;

	while (p < x->n && !(n = raw_end(x, p, &sign)))
		p++;
	if (!n)
		jinja_fail(x->j, -EINVAL, "{%% raw %%} has no {%% endraw %%}");
	add_text(x, x->at, p, sign, false);
	advance(x, p + n - x->at);
}

/* ---- inside tags ---- */

static bool is_digit(const struct lexer *x, size_t at)
{
	return at < x->n && x->s[at] >= '0' && x->s[at] <= '9';
}

/* Digits with single underscores between them; their end, or @at where there are none. */
static size_t digits(const struct lexer *x, size_t at)
{
	if (!is_digit(x, at))
		return at;
	while (is_digit(x, at) || (at < x->n && x->s[at] == '_' && is_digit(x, at + 1)))
		at++;
	return at;
}

static size_t exponent(const struct lexer *x, size_t at)
{
	size_t p = at + 1;

	if (at >= x->n || (x->s[at] != 'e' && x->s[at] != 'E'))
		return at;
	if (p < x->n && (x->s[p] == '+' || x->s[p] == '-'))
		p++;
	return digits(x, p) > p ? digits(x, p) : at;
}

/* A float at x->at: its end, or 0. */
static size_t float_end(const struct lexer *x)
{
	size_t whole = digits(x, x->at), p = whole;

	if (whole == x->at || (x->at && x->s[x->at - 1] == '.'))
		return 0;
	if (p < x->n && x->s[p] == '.' && is_digit(x, p + 1))
		p = digits(x, p + 1);
	p = exponent(x, p);
	return p > whole ? p : 0;
}

static unsigned digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	c |= 0x20;
	return c >= 'a' && c <= 'z' ? (unsigned)(c - 'a') + 10 : 99;
}

static size_t integer_end(const struct lexer *x)
{
	size_t p = x->at;
	char kind = p + 1 < x->n ? x->s[p + 1] | 0x20 : 0;
	unsigned base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;

	if (x->s[p] == '0' && base) {
		size_t q = p + 2, end = 0;

		for (; q < x->n; q++) {
			if (x->s[q] == '_' && q + 1 < x->n && digit_value(x->s[q + 1]) < base)
				continue;
			if (digit_value(x->s[q]) >= base)
				break;
			end = q + 1;
		}
		if (end)
			return end;
	}
	if (x->s[p] != '0')
		return digits(x, p);
	for (p++; p < x->n &&
		  (x->s[p] == '0' || (x->s[p] == '_' && p + 1 < x->n && x->s[p + 1] == '0'));)
		p++;
	return p;
}

/* A number's text without underscores. */
static struct jstr *plain_number(struct lexer *x, size_t end)
{
	struct jbuf b;

	jbuf_init(&b, x->j);
	for (size_t i = x->at; i < end; i++)
		if (x->s[i] != '_')
			jbuf_add(&b, x->s + i, 1, true);
	return jbuf_done(&b);
}

static bool lex_number(struct lexer *x)
{
	size_t end = float_end(x);
	double f;
	jint i;

	if (end) {
		if (!jfloat_parse(plain_number(x, end), &f))
			jinja_fail(x->j, -EINVAL, "a number that cannot be read");
		add(x, T_FLOAT, 0, jv_float(f), NULL);
	} else {
		end = integer_end(x);
		if (!jint_parse(x->j, plain_number(x, end), 0, &i))
			jinja_fail(x->j, -EINVAL, "a number that is too large");
		add(x, T_INT, 0, jv_int(i), NULL);
	}
	advance(x, end - x->at);
	return true;
}

/* The code point behind \x, \u, \U or an octal number; moves *p. */
static uint32_t escape_number(struct lexer *x, size_t *p, size_t end, unsigned n, unsigned base)
{
	uint32_t cp = 0;
	unsigned i = 0;

	for (; i < n && *p < end && digit_value(x->s[*p]) < base; i++)
		cp = cp * base + digit_value(x->s[(*p)++]);
	if ((base == 16 && i < n) || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		jinja_fail(x->j, -EINVAL, "an escape in a string that stands for no character");
	return cp;
}

static void lex_escape(struct lexer *x, struct jbuf *b, size_t *p, size_t end)
{
	static const char names[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
	char c = x->s[(*p)++];

	for (const char *e = names; *e; e += 2)
		if (*e == c) {
			jbuf_add(b, e + 1, 1, true);
			return;
		}
	if (c == '\n')
		return;
	if (c == 'x' || c == 'u' || c == 'U') {
		jbuf_char(b, escape_number(x, p, end, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16), true);
	} else if (c >= '0' && c <= '7') {
		(*p)--;
		jbuf_char(b, escape_number(x, p, end, 3, 8), true);
	} else if (c == 'N') {
		jinja_fail(x->j, -EINVAL, "characters by name (\\N) are not supported");
	} else {
		jbuf_add(b, x->s + *p - 2, 2, true);
	}
}

static void lex_string(struct lexer *x)
{
	size_t p = x->at + 1, end = p;
	struct jbuf b;

	while (end < x->n && x->s[end] != x->s[x->at])
		end += x->s[end] == '\\' ? 2 : 1;
	if (end >= x->n)
		jinja_fail(x->j, -EINVAL, "a string has no end");
	jbuf_init(&b, x->j);
	while (p < end) {
		if (x->s[p] == '\\') {
			p++;
			lex_escape(x, &b, &p, end);
		} else {
			size_t from = p;

			while (p < end && x->s[p] != '\\')
				p++;
			jbuf_add(&b, x->s + from, p - from, true);
		}
	}
	add(x, T_STRING, 0, jv_str(jbuf_done(&b)), NULL);
	advance(x, end + 1 - x->at);
}

static size_t name_end(const struct lexer *x)
{
	size_t p = x->at;
	unsigned n;

	while (p < x->n) {
		uint32_t cp = unicode_at(x->s, p, x->n, &n);

		if (!unicode_is(cp, p == x->at ? CLASS_WORD_START : CLASS_WORD))
			break;
		p += n;
	}
	return p;
}

static void lex_bracket(struct lexer *x, char c)
{
	static const char pairs[] = "(){}[]";
	const char *pair = strchr(pairs, c);

	if ((pair - pairs) % 2 == 0) {
		if (x->n_open == sizeof(x->open))
			jinja_fail(x->j, -E2BIG, "brackets are nested too deep");
		x->open[x->n_open++] = pair[1];
	} else if (!x->n_open || x->open[--x->n_open] != c) {
		jinja_fail(x->j, -EINVAL, "unexpected '%c'", c);
	}
}

static void lex_operator(struct lexer *x)
{
	static const struct {
		char text[3];
		char code;
	} pairs[] = { { "//", 'f' }, { "**", 'p' }, { "==", 'e' },
		      { "!=", 'n' }, { ">=", 'g' }, { "<=", 'l' } };
	char c = x->s[x->at];

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (has(x, x->at, pairs[i].text)) {
			add(x, T_OP, (uint8_t)pairs[i].code, JV_NONE, NULL);
			advance(x, 2);
			return;
		}
	if (!c || !strchr("+-/*%~[](){}><=.:|,;", c))
		jinja_fail(x->j, -EINVAL, "unexpected character 0x%02x", (uint8_t)c);
	if (strchr("(){}[]", c))
		lex_bracket(x, c);
	add(x, T_OP, (uint8_t)c, JV_NONE, NULL);
	advance(x, 1);
}

/* The end of the tag at x->at, where no bracket is open: its length, or 0. */
static size_t tag_end(const struct lexer *x, bool prints)
{
	if (x->n_open)
		return 0;
	if (!prints)
		return block_end(x, x->at);
	if (has(x, x->at, "-}}"))
		return 3 + spaces(x, x->at + 3);
	return has(x, x->at, "}}") ? 2 : 0;
}

static void lex_tag(struct lexer *x, bool prints)
{
	size_t n, end;

	while (x->at < x->n) {
		n = tag_end(x, prints);
		if (n) {
			add(x, prints ? T_PRINT_END : T_BLOCK_END, 0, JV_NONE, NULL);
			advance(x, n);
			return;
		}
		if ((n = spaces(x, x->at)))
			advance(x, n);
		else if (is_digit(x, x->at))
			lex_number(x);
		else if ((end = name_end(x)) > x->at) {
			add(x, T_NAME, 0, JV_NONE, jinja_intern(x->j, x->s + x->at, end - x->at));
			advance(x, end - x->at);
		} else if (x->s[x->at] == '\'' || x->s[x->at] == '"')
			lex_string(x);
		else
			lex_operator(x);
	}
}

/* The next tag or comment at or behind x->at; x->n where there is none. */
static size_t next_tag(const struct lexer *x)
{
	const char *p = x->s + x->at, *end = x->s + x->n;

	while (p < end && (p = memchr(p, '{', (size_t)(end - p)))) {
		if (p + 1 < end && (p[1] == '{' || p[1] == '%' || p[1] == '#'))
			return (size_t)(p - x->s);
		p++;
	}
	return x->n;
}

static void lex_all(struct lexer *x)
{
	while (x->at < x->n) {
		size_t tag = next_tag(x), raw;
		char kind, sign = 0;

		if (tag == x->n) {
			add_text(x, x->at, tag, '+', true);
			return;
		}
		kind = x->s[tag + 1];
		if (tag + 2 < x->n && (x->s[tag + 2] == '-' || x->s[tag + 2] == '+'))
			sign = x->s[tag + 2];
		raw = kind == '%' ? raw_begin(x, tag) : 0;
		add_text(x, x->at, tag, sign, kind == '{');
		advance(x, tag - x->at);
		if (raw) {
			advance(x, raw);
			lex_raw(x);
			continue;
		}
		advance(x, sign ? 3 : 2);
		if (kind == '#') {
			lex_comment(x);
			continue;
		}
		add(x, kind == '{' ? T_PRINT_BEGIN : T_BLOCK_BEGIN, 0, JV_NONE, NULL);
		lex_tag(x, kind == '{');
	}
}

/* All line ends as \n, without one at the very end. */
static struct jstr *plain_lines(struct jinja *j, const char *p, size_t n)
{
	char *to = jinja_alloc(j, n + 1);
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\r' && i + 1 < n && p[i + 1] == '\n')
			continue;
		to[k++] = p[i] == '\r' ? '\n' : p[i];
	}
	if (k && to[k - 1] == '\n')
		k--;
	return jstr_new(j, to, k, true);
}

void jinja_lex(struct jinja *j, const char *source, size_t len)
{
	struct jstr *text = plain_lines(j, source, len);
	struct lexer x = { .j = j, .s = text->p, .n = text->n, .line_start = true };

	j->line = 1;
	lex_all(&x);
	add(&x, T_EOF, 0, JV_NONE, NULL);
}
