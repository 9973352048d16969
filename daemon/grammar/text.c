/* SPDX-License-Identifier: MIT */
/* daemon/grammar/text.c: see text.h. Escapes of JSON: RFC 8259 section 7. */
#include "grammar/text.h"

#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"

unsigned text_char(const char *text, size_t n, uint32_t *ret)
{
	uint32_t c;
	unsigned len = n ? utf8_decode((const uint8_t *)text, n, &c) : 0;

	if (len)
		*ret = c;
	return len;
}

unsigned text_utf8(uint32_t c, char b[4])
{
	if (c > IR_MAX_CODE || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return utf8_encode(c, (uint8_t *)b);
}

bool text_hex(const char *b, size_t n, uint32_t *ret)
{
	uint32_t x = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned c = (unsigned char)b[i], low = c | 32;

		if (c >= '0' && c <= '9')
			x = x << 4 | (c - '0');
		else if (low >= 'a' && low <= 'f')
			x = x << 4 | (low - 'a' + 10);
		else
			return false;
	}
	*ret = x;
	return true;
}

ir_node plain_chars(struct ir *ir, const struct ir_chars_set *set)
{
	return ir_chars(ir, set->ranges, set->n);
}

/* ---- hexadecimal digits ---- */

static ir_node hex_digit(struct ir *ir, unsigned lo, unsigned hi)
{
	struct ir_set s = { 0 };

	for (unsigned d = lo; d <= hi; d++) {
		unsigned a = d < 10 ? '0' + d : 'a' + d - 10, b = d < 10 ? a : 'A' + d - 10;

		s.bits[a / 64] |= 1ull << a % 64;
		s.bits[b / 64] |= 1ull << b % 64;
	}
	return ir_bytes(ir, &s);
}

/* Four digits of a number in [lo, hi]: cut until all digits behind one that differs are free. */
static ir_node hex4(struct ir *ir, uint32_t lo, uint32_t hi)
{
	struct ir_list parts = { 0 };
	ir_node node;

	while (lo <= hi) {
		uint32_t end = hi;

		for (unsigned i = 1; i < 4; i++) {
			uint32_t m = (1u << 4 * i) - 1;

			if ((lo & ~m) == (end & ~m))
				break;
			if (lo & m) {
				end = lo | m;
				break;
			}
			if ((end & m) != m && (lo & ~m) != (end & ~m) && end > m)
				end = (end & ~m) - 1;
		}
		ir_push(ir, &parts,
			IR_SEQ_OF(ir, hex_digit(ir, lo >> 12, end >> 12),
				  hex_digit(ir, lo >> 8 & 15, end >> 8 & 15),
				  hex_digit(ir, lo >> 4 & 15, end >> 4 & 15),
				  hex_digit(ir, lo & 15, end & 15)));
		lo = end + 1;
	}
	node = ir_alt(ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

static ir_node escaped4(struct ir *ir, uint32_t lo, uint32_t hi)
{
	return IR_SEQ_OF(ir, ir_string(ir, "\\u"), hex4(ir, lo, hi));
}

/* High surrogates [h, i] each with low ones [l, m]. */
static ir_node surrogates(struct ir *ir, uint32_t h, uint32_t i, uint32_t l, uint32_t m)
{
	return IR_SEQ_OF(ir, escaped4(ir, 0xd800 + h, 0xd800 + i),
			 escaped4(ir, 0xdc00 + l, 0xdc00 + m));
}

/* Code points from 0x10000 on as pairs. */
static ir_node pairs(struct ir *ir, uint32_t lo, uint32_t hi)
{
	uint32_t h = (lo - 0x10000) >> 10, i = (hi - 0x10000) >> 10, l = lo & 0x3ff, m = hi & 0x3ff;
	ir_node first, middle = ir_fail(), last;

	if (h == i)
		return surrogates(ir, h, h, l, m);
	first = l ? surrogates(ir, h, h, l, 0x3ff) : ir_fail();
	h += l != 0;
	last = m != 0x3ff ? surrogates(ir, i, i, 0, m) : ir_fail();
	if (m != 0x3ff && i-- == h)
		return IR_ALT_OF(ir, first, last);
	if (h <= i)
		middle = surrogates(ir, h, i, 0, 0x3ff);
	return IR_ALT_OF(ir, first, middle, last);
}

/* ---- characters of JSON strings ---- */

static ir_node by_number(struct ir *ir, const struct ir_chars_set *set)
{
	struct ir_list parts = { 0 };
	ir_node node;

	if (ir->guard && ir_set_has(set, '<'))
		ir_push(ir, &parts, escaped4(ir, '<', '<'));
	for (size_t i = 0; i < set->n; i++) {
		static const struct ir_range planes[] = {
			{ 0, 0x1f }, { 0x7f, 0xd7ff }, { 0xe000, 0xffff }, { 0x10000, IR_MAX_CODE }
		};

		for (size_t k = 0; k < 4; k++) {
			uint32_t lo = set->ranges[i].lo, hi = set->ranges[i].hi;

			lo = lo > planes[k].lo ? lo : planes[k].lo;
			hi = hi < planes[k].hi ? hi : planes[k].hi;
			if (lo > hi)
				continue;
			ir_push(ir, &parts, k == 3 ? pairs(ir, lo, hi) : escaped4(ir, lo, hi));
		}
	}
	node = ir_alt(ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

/* \" \\ \/ \b \f \n \r \t, those that are in the set. */
static ir_node by_letter(struct ir *ir, const struct ir_chars_set *set)
{
	static const char codes[] = "\"\\/\b\f\n\r\t", letters[] = "\"\\/bfnrt";
	struct ir_set s = { 0 };

	for (size_t i = 0; codes[i]; i++)
		if (ir_set_has(set, (unsigned char)codes[i]))
			s.bits[letters[i] / 64] |= 1ull << letters[i] % 64;
	return IR_SEQ_OF(ir, ir_string(ir, "\\"), ir_bytes(ir, &s));
}

ir_node json_chars(struct ir *ir, const struct ir_chars_set *set)
{
	static const struct ir_range plain[] = { { 0x20, '"' - 1 },
						 { '"' + 1, '<' - 1 },
						 { '<', '<' },
						 { '<' + 1, '\\' - 1 },
						 { '\\' + 1, IR_MAX_CODE } };
	struct ir_chars_set raw = { 0 };
	ir_node node;

	for (size_t i = 0; i < set->n; i++)
		for (size_t k = 0; k < ARRAY_LEN(plain); k++) {
			uint32_t lo = set->ranges[i].lo, hi = set->ranges[i].hi;

			lo = lo > plain[k].lo ? lo : plain[k].lo;
			hi = hi < plain[k].hi ? hi : plain[k].hi;
			if (lo == '<' && hi == '<' && ir->guard)
				continue;
			if (lo <= hi && !ir_set_add(&raw, lo, hi))
				ir_set_error(ir, -E2BIG);
		}
	node = IR_ALT_OF(ir, ir_chars(ir, raw.ranges, raw.n), by_letter(ir, set),
			 by_number(ir, set));
	ir_set_done(&raw);
	return node;
}

ir_node json_content(struct ir *ir, const char *text, size_t n)
{
	struct ir_list parts = { 0 };
	size_t plain = 0; /* bytes before @i that need no second spelling */
	ir_node node;

	for (size_t i = 0; i < n;) {
		struct ir_range one;
		struct ir_chars_set set = { .ranges = &one, .n = 1 };
		uint32_t c = 0xfffd;
		unsigned len = text_char(text + i, n - i, &c);

		len = len ? len : 1;
		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && (c != '<' || !ir->guard)) {
			plain++;
			i++;
			continue;
		}
		ir_push(ir, &parts, ir_text(ir, text + i - plain, plain));
		one = (struct ir_range){ c, c };
		ir_push(ir, &parts, json_chars(ir, &set));
		plain = 0;
		i += len;
	}
	ir_push(ir, &parts, ir_text(ir, text + n - plain, plain));
	node = ir_seq(ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

ir_node json_tail(struct ir *ir)
{
	static struct ir_range all = { 0, IR_MAX_CODE },
			       but[] = { { 0, '<' - 1 }, { '<' + 1, IR_MAX_CODE } };
	const struct ir_chars_set any = { .ranges = &all, .n = 1 },
				  no_angle = { .ranges = but, .n = 2 };
	unsigned char g = (unsigned char)ir->guard;
	struct ir_range behind[] = { { 0, g < '<' ? g - 1u : '<' - 1u },
				     { g < '<' ? g + 1u : '<' + 1u, g < '<' ? '<' - 1u : g - 1u },
				     { g < '<' ? '<' + 1u : g + 1u, IR_MAX_CODE } };
	const struct ir_chars_set allowed = { .ranges = behind, .n = 3 };
	ir_node quote = ir_string(ir, "\""), angle = ir_string(ir, "<"), more, after;
	uint32_t rest, begun;

	if (!g)
		return IR_SEQ_OF(ir, ir_rep(ir, json_chars(ir, &any), 0, IR_UNBOUNDED), quote);
	rest = ir_rule(ir, NULL, 0);  /* from any place */
	begun = ir_rule(ir, NULL, 0); /* behind a < */
	more = IR_SEQ_OF(ir, angle, ir_ref(ir, begun));
	ir_rule_set(ir, rest,
		    IR_SEQ_OF(ir, ir_rep(ir, json_chars(ir, &no_angle), 0, IR_UNBOUNDED),
			      IR_ALT_OF(ir, quote, more)));
	after = IR_ALT_OF(ir, json_chars(ir, &allowed), escaped4(ir, g, g),
			  g == '/' ? ir_string(ir, "\\/") : ir_fail());
	ir_rule_set(ir, begun, IR_ALT_OF(ir, quote, more, IR_SEQ_OF(ir, after, ir_ref(ir, rest))));
	return ir_ref(ir, rest);
}
