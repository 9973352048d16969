/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_json.c: see calls_json.h. A state for each place in RFC 8259's grammar.
 */
#include "chat/calls_json.h"

#include <string.h>

#include "base/utf8.h"

enum state {
	S_VALUE,
	S_VALUE_OR_END, /* behind [ */
	S_KEY_OR_END,	/* behind { */
	S_KEY,
	S_COLON,
	S_NEXT, /* a comma or the end of what we are in */
	S_STRING,
	S_ESCAPE,
	S_HEX,
	S_WORD,
	S_MINUS,
	S_ZERO,
	S_INT,
	S_DOT,
	S_FRACTION,
	S_E,
	S_SIGN,
	S_EXPONENT,
};

static bool digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static enum json_result ended(struct json_scan *j)
{
	j->state = S_NEXT;
	return j->depth ? JSON_MORE : JSON_DONE;
}

static enum json_result open(struct json_scan *j, bool object)
{
	if (j->depth == CALLS_JSON_DEPTH)
		return JSON_BAD;
	j->objects[j->depth / 8] &= (uint8_t) ~(1u << j->depth % 8);
	j->objects[j->depth / 8] |= (uint8_t)(object << j->depth % 8);
	j->depth++;
	j->state = object ? S_KEY_OR_END : S_VALUE_OR_END;
	return JSON_MORE;
}

static bool in_object(const struct json_scan *j)
{
	return j->depth && j->objects[(j->depth - 1) / 8] >> (j->depth - 1) % 8 & 1;
}

static enum json_result close_with(struct json_scan *j, unsigned char c)
{
	if (!j->depth || c != (in_object(j) ? '}' : ']'))
		return JSON_BAD;
	j->depth--;
	return ended(j);
}

static enum json_result to(struct json_scan *j, enum state state)
{
	j->state = (uint8_t)state;
	return JSON_MORE;
}

static enum json_result begin_value(struct json_scan *j, unsigned char c)
{
	j->key = false;
	switch (c) {
	case '{':
		return open(j, true);
	case '[':
		return open(j, false);
	case '"':
		return to(j, S_STRING);
	case '-':
		return to(j, S_MINUS);
	case 't':
	case 'f':
	case 'n':
		j->word = c == 't' ? "rue" : c == 'f' ? "alse" : "ull";
		return to(j, S_WORD);
	default:
		return !digit(c) ? JSON_BAD : to(j, c == '0' ? S_ZERO : S_INT);
	}
}

static enum json_result in_string(struct json_scan *j, unsigned char c)
{
	switch (j->state) {
	case S_ESCAPE:
		if (c == 'u') {
			j->left = 4;
			return to(j, S_HEX);
		}
		return c && strchr("\"\\/bfnrt", c) ? to(j, S_STRING) : JSON_BAD;
	case S_HEX:
		if (!digit(c) && !((c | 32) >= 'a' && (c | 32) <= 'f'))
			return JSON_BAD;
		return --j->left ? JSON_MORE : to(j, S_STRING);
	default:
		if (c == '\\')
			return to(j, S_ESCAPE);
		if (c != '"')
			return c < 0x20 ? JSON_BAD : JSON_MORE;
		return j->key ? to(j, S_COLON) : ended(j);
	}
}

/* A byte of a number; JSON_DONE: it is none of it, and the number is whole. */
static enum json_result in_number(struct json_scan *j, unsigned char c)
{
	switch (j->state) {
	case S_MINUS:
		return digit(c) ? to(j, c == '0' ? S_ZERO : S_INT) : JSON_BAD;
	case S_DOT:
		return digit(c) ? to(j, S_FRACTION) : JSON_BAD;
	case S_E:
		if (c == '+' || c == '-')
			return to(j, S_SIGN);
		return digit(c) ? to(j, S_EXPONENT) : JSON_BAD;
	case S_SIGN:
		return digit(c) ? to(j, S_EXPONENT) : JSON_BAD;
	default:
		break;
	}
	if (digit(c) && j->state != S_ZERO)
		return JSON_MORE;
	if (c == '.' && (j->state == S_ZERO || j->state == S_INT))
		return to(j, S_DOT);
	if ((c | 32) == 'e' && j->state != S_EXPONENT)
		return to(j, S_E);
	return JSON_DONE;
}

static enum json_result between(struct json_scan *j, unsigned char c)
{
	if (json_space((char)c))
		return JSON_MORE;
	switch (j->state) {
	case S_VALUE_OR_END:
		return c == ']' ? close_with(j, c) : begin_value(j, c);
	case S_KEY_OR_END:
		if (c == '}')
			return close_with(j, c);
		/* fall through */
	case S_KEY:
		j->key = true;
		return c == '"' ? to(j, S_STRING) : JSON_BAD;
	case S_COLON:
		return c == ':' ? to(j, S_VALUE) : JSON_BAD;
	case S_NEXT:
		if (c == ',' && j->depth)
			return to(j, in_object(j) ? S_KEY : S_VALUE);
		return close_with(j, c);
	default:
		return begin_value(j, c);
	}
}

enum json_result json_scan_byte(struct json_scan *j, unsigned char c)
{
	enum json_result r;

	if (j->state <= S_NEXT)
		return between(j, c);
	if (j->state <= S_HEX)
		return in_string(j, c);
	if (j->state == S_WORD) {
		if (c != (unsigned char)*j->word++)
			return JSON_BAD;
		return *j->word ? JSON_MORE : ended(j);
	}
	r = in_number(j, c);
	if (r != JSON_DONE)
		return r;
	if (!j->depth)
		return JSON_BAD;
	j->state = S_NEXT;
	return between(j, c);
}

static bool whole_number(const struct json_scan *j)
{
	return j->state == S_ZERO || j->state == S_INT || j->state == S_FRACTION ||
	       j->state == S_EXPONENT;
}

enum json_kind json_kind_of(const char *text, size_t n)
{
	struct json_scan j = { 0 };

	for (size_t i = 0; i < n; i++) {
		enum json_result r = json_scan_byte(&j, (unsigned char)text[i]);

		if (r == JSON_BAD || (r == JSON_DONE && i + 1 < n))
			return 0;
		if (r == JSON_DONE)
			return text[0] == '{'	? JSON_OBJECT
			       : text[0] == '[' ? JSON_ARRAY
			       : text[0] == '"' ? JSON_STRING
			       : text[0] == 'n' ? JSON_NULL
						: JSON_BOOLEAN;
	}
	if (!n || j.depth || !whole_number(&j))
		return 0;
	return j.state == S_ZERO || j.state == S_INT ? JSON_INTEGER : JSON_NUMBER;
}

static size_t skip_string(const char *text, size_t n, size_t at)
{
	for (at++; at < n && text[at] != '"'; at++)
		at += text[at] == '\\';
	return at + 1;
}

size_t json_skip(const char *text, size_t n, size_t at)
{
	unsigned depth = 0;

	do {
		char c = at < n ? text[at] : '}';

		if (c == '"') {
			at = skip_string(text, n, at);
			continue;
		}
		if (!depth && c != '{' && c != '[') {
			while (at < n && !json_space(text[at]) && !strchr(",]}", text[at]))
				at++;
			return at;
		}
		depth += c == '{' || c == '[';
		depth -= c == '}' || c == ']';
		at++;
	} while (depth && at < n);
	return at;
}

static size_t spaces(const char *text, size_t n, size_t at)
{
	while (at < n && json_space(text[at]))
		at++;
	return at;
}

/* Whether the string is @name; only as many bytes are looked at as could be. */
static bool string_is(const char *string, size_t n, const char *name)
{
	char text[128];
	size_t len = strlen(name);

	if (n > sizeof(text) || n > 6 * len + 2)
		return false;
	return json_unescape(string, n, text) == len && !memcmp(text, name, len);
}

bool json_member(const char *object, size_t n, const char *name, size_t *ret_at, size_t *ret_n)
{
	size_t at = spaces(object, n, 1);
	bool found = false;

	while (at < n && object[at] == '"') {
		size_t end = skip_string(object, n, at), value, behind;

		value = spaces(object, n, end);
		value = spaces(object, n, value + 1); /* behind the colon */
		behind = json_skip(object, n, value);
		if (string_is(object + at, end - at, name)) {
			*ret_at = value;
			*ret_n = behind - value;
			found = true;
		}
		at = spaces(object, n, behind);
		if (at < n && object[at] == ',')
			at = spaces(object, n, at + 1);
	}
	return found;
}

static uint32_t hex4(const char *p)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++) {
		char c = p[i];

		v = v << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
	}
	return v;
}

size_t json_unescape(const char *s, size_t n, char *ret)
{
	static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
	size_t out = 0;

	for (size_t i = 1; i + 1 < n; i++) {
		const char *at;
		uint32_t c, low;

		if (s[i] != '\\') {
			ret[out++] = s[i];
			continue;
		}
		if (s[++i] != 'u') {
			at = strchr(from, s[i]);
			ret[out++] = at ? into[at - from] : s[i];
			continue;
		}
		c = hex4(s + i + 1);
		i += 4;
		low = c >> 10 == 0x36 && i + 7 < n && s[i + 1] == '\\' && s[i + 2] == 'u'
			      ? hex4(s + i + 3)
			      : 0;
		if (low >> 10 == 0x37) {
			c = 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff));
			i += 6;
		} else if (c >> 11 == 0x1b) {
			c = 0xfffd;
		}
		out += utf8_encode(c, (uint8_t *)ret + out);
	}
	return out;
}
