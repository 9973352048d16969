/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/gbnf.c: GBNF, llama.cpp's notation of grammars (its grammars/README.md), to rules.
 *
 *	name ::= alternatives	to the end of the line, but for ( ) and what follows ::= or |
 *	"text" [class] [^class] . name ( ) |  and behind any of them * + ? {m} {m,} {m,n}
 *	# comment; escapes \n \r \t \\ \" \[ \] \- \xHH \uHHHH \UHHHHHHHH: code points
 *
 * The rule root is the start; of two rules with one name the last counts. A count is held as a
 * counter. Refused with the line: everything else, names without a rule, and rules that can begin with
 * themselves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/gbnf.h"
#include "grammar/grammar.h"
#include "grammar/names.h"
#include "grammar/program.h"
#include "grammar/text.h"

struct gbnf {
	const char *text;
	size_t n, at;
	struct ir *ir;
	struct names rules;
	uint8_t *defined; /* per rule */
	size_t room_defined;
	unsigned depth;
	struct err *err;
};

static ir_node alternatives(struct gbnf *g, bool nested, int *rc);

static char peek(const struct gbnf *g)
{
	return g->at < g->n ? g->text[g->at] : '\0';
}

static bool at_end(const struct gbnf *g)
{
	return g->at >= g->n;
}

static int bad(struct gbnf *g, int code, const char *what)
{
	unsigned line = 1;

	for (size_t i = 0; i < g->at && i < g->n; i++)
		line += g->text[i] == '\n';
	return err_set(g->err, code, "line %u: %s", line, what);
}

static void space(struct gbnf *g, bool lines)
{
	for (; !at_end(g); g->at++) {
		char c = peek(g);

		if (c == '#')
			while (g->at + 1 < g->n && !strchr("\r\n", g->text[g->at + 1]))
				g->at++;
		else if (c != ' ' && c != '\t' && !(lines && (c == '\r' || c == '\n')))
			break;
	}
}

static bool is_name(char c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '-';
}

/* A name's rule, which may be given later. */
static int name(struct gbnf *g, uint32_t *ret)
{
	size_t from = g->at;
	const struct name *e;

	while (!at_end(g) && is_name(peek(g)))
		g->at++;
	if (g->at == from)
		return bad(g, -EINVAL, "a name is expected");
	e = names_find(&g->rules, g->text + from, g->at - from);
	if (!e) {
		uint32_t rule = ir_rule(g->ir, g->text + from, g->at - from);

		if (rule >= g->room_defined) {
			size_t room = g->room_defined ? g->room_defined * 2 : 64;
			uint8_t *q = realloc(g->defined, room);

			if (!q)
				return -ENOMEM;
			memset(q + g->room_defined, 0, room - g->room_defined);
			g->defined = q;
			g->room_defined = room;
		}
		e = names_add(&g->rules, g->text + from, g->at - from, rule);
		if (!e)
			return -ENOMEM;
	}
	*ret = e->value;
	return ir_error(g->ir);
}

/* A code point of a literal or a class. */
static int character(struct gbnf *g, uint32_t *ret)
{
	static const char letters[] = "nrt\\\"[]-", codes[] = "\n\r\t\\\"[]-";
	const char *at;
	unsigned len;

	if (at_end(g))
		return bad(g, -EINVAL, "the text ends within quotes or brackets");
	if (peek(g) != '\\') {
		len = text_char(g->text + g->at, g->n - g->at, ret);
		g->at += len;
		return len ? 0 : bad(g, -EINVAL, "this is no UTF-8");
	}
	g->at++;
	len = peek(g) == 'x' ? 2 : peek(g) == 'u' ? 4 : peek(g) == 'U' ? 8 : 0;
	if (len) {
		g->at++;
		if (g->n - g->at < len || !text_hex(g->text + g->at, len, ret))
			return bad(g, -EINVAL, "too few hexadecimal digits in an escape");
		g->at += len;
		return *ret <= IR_MAX_CODE ? 0 : bad(g, -EINVAL, "an escape is no code point");
	}
	at = at_end(g) || !peek(g) ? NULL : strchr(letters, peek(g));
	if (!at)
		return bad(g, -EINVAL, "unknown escape");
	*ret = (unsigned char)codes[at - letters];
	g->at++;
	return 0;
}

static int literal(struct gbnf *g, ir_node *ret)
{
	struct ir_list parts = { 0 };
	char buf[256], utf8[4];
	size_t used = 0;
	uint32_t c;
	int rc = 0;

	g->at++;
	while (!rc && (at_end(g) || peek(g) != '"')) {
		unsigned len;

		rc = character(g, &c);
		len = rc ? 0 : text_utf8(c, utf8);
		if (!rc && !len)
			rc = bad(g, -EINVAL, "a surrogate is no character");
		if (used + len > sizeof(buf)) {
			ir_push(g->ir, &parts, ir_text(g->ir, buf, used));
			used = 0;
		}
		memcpy(buf + used, utf8, len);
		used += len;
	}
	g->at++;
	ir_push(g->ir, &parts, ir_text(g->ir, buf, used));
	*ret = ir_seq(g->ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return rc;
}

static int class(struct gbnf *g, ir_node *ret)
{
	struct ir_chars_set set = { 0 };
	bool inverted, ok = true;
	int rc = 0;

	g->at++;
	inverted = peek(g) == '^';
	g->at += inverted;
	while (!rc && ok && (at_end(g) || peek(g) != ']')) {
		uint32_t lo, hi;

		rc = character(g, &lo);
		hi = lo;
		if (!rc && peek(g) == '-' && g->at + 1 < g->n && g->text[g->at + 1] != ']') {
			g->at++;
			rc = character(g, &hi);
		}
		ok = !rc && ir_set_add(&set, lo, hi);
	}
	g->at++;
	ir_set_sort(&set);
	if (!rc && ok && inverted)
		ok = ir_set_invert(&set);
	if (!rc && !ok)
		rc = bad(g, -E2BIG, "a class has too many parts");
	if (!rc)
		*ret = ir_chars(g->ir, set.ranges, set.n);
	ir_set_done(&set);
	return rc;
}

static bool digit(const struct gbnf *g)
{
	return !at_end(g) && peek(g) >= '0' && peek(g) <= '9';
}

static int number(struct gbnf *g, uint32_t *ret)
{
	uint32_t n = 0;

	if (!digit(g))
		return bad(g, -EINVAL, "a number is expected in { }");
	for (; digit(g); g->at++) {
		n = n * 10 + (uint32_t)(peek(g) - '0');
		if (n > GRAMMAR_MAX_COUNT)
			return bad(g, -EINVAL, "too many repetitions");
	}
	*ret = n;
	return 0;
}

/* {m} {m,} {m,n}, behind the brace. */
static int counts(struct gbnf *g, uint32_t *ret_min, uint32_t *ret_max)
{
	int rc;

	space(g, true);
	rc = number(g, ret_min);
	*ret_max = *ret_min;
	if (rc)
		return rc;
	space(g, true);
	if (peek(g) == ',') {
		g->at++;
		space(g, true);
		*ret_max = IR_UNBOUNDED;
		rc = peek(g) == '}' ? 0 : number(g, ret_max);
		space(g, true);
	}
	if (!rc && peek(g) != '}')
		rc = bad(g, -EINVAL, "} is expected");
	if (!rc && *ret_max < *ret_min)
		rc = bad(g, -EINVAL, "{m,n} with n below m");
	return rc;
}

static int repeat(struct gbnf *g, struct ir_list *items)
{
	char c = peek(g);
	uint32_t min = c == '+', max = c == '?' ? 1 : IR_UNBOUNDED;
	int rc = 0;

	if (!items->n)
		return bad(g, -EINVAL, "there is nothing to repeat");
	g->at++;
	if (c == '{') {
		rc = counts(g, &min, &max);
		g->at++;
	}
	if (!rc)
		items->nodes[items->n - 1] = ir_rep(g->ir, items->nodes[items->n - 1], min, max);
	return rc;
}

static int group(struct gbnf *g, ir_node *ret)
{
	int rc = 0;

	if (g->depth == GRAMMAR_MAX_DEPTH)
		return bad(g, -E2BIG, "groups nest too deep");
	g->depth++;
	g->at++;
	space(g, true);
	*ret = alternatives(g, true, &rc);
	g->depth--;
	if (!rc && peek(g) != ')')
		rc = bad(g, -EINVAL, ") is expected");
	g->at++;
	return rc;
}

/* One item; *ret_none: the sequence ends here. */
static int item(struct gbnf *g, struct ir_list *items, bool *ret_none)
{
	static const struct ir_range all = { 0, IR_MAX_CODE };
	ir_node node = ir_fail();
	uint32_t rule;
	char c = peek(g);
	int rc = 0;

	if (at_end(g) || !c) {
		*ret_none = true;
		return 0;
	}
	if (strchr("*+?{", c))
		return repeat(g, items);
	if (c == '"') {
		rc = literal(g, &node);
	} else if (c == '[') {
		rc = class(g, &node);
	} else if (c == '.') {
		node = ir_chars(g->ir, &all, 1);
		g->at++;
	} else if (c == '(') {
		rc = group(g, &node);
	} else if (is_name(c)) {
		rc = name(g, &rule);
		node = rc ? node : ir_ref(g->ir, rule);
	} else {
		*ret_none = true;
		return 0;
	}
	ir_push(g->ir, items, node);
	return rc ? rc : ir_error(g->ir);
}

static ir_node sequence(struct gbnf *g, bool nested, int *rc)
{
	struct ir_list items = { 0 };
	bool none = false;
	ir_node node;

	while (!*rc && !none) {
		*rc = item(g, &items, &none);
		space(g, nested);
	}
	node = ir_seq(g->ir, items.nodes, items.n);
	ir_list_done(&items);
	return node;
}

static ir_node alternatives(struct gbnf *g, bool nested, int *rc)
{
	struct ir_list all = { 0 };
	ir_node node;

	ir_push(g->ir, &all, sequence(g, nested, rc));
	while (!*rc && !at_end(g) && peek(g) == '|') {
		g->at++;
		space(g, true);
		ir_push(g->ir, &all, sequence(g, nested, rc));
	}
	node = ir_alt(g->ir, all.nodes, all.n);
	ir_list_done(&all);
	return node;
}

static int rule(struct gbnf *g)
{
	uint32_t number_of;
	ir_node node;
	int rc = name(g, &number_of);

	if (rc)
		return rc;
	space(g, false);
	if (g->n - g->at < 3 || memcmp(g->text + g->at, "::=", 3))
		return bad(g, -EINVAL, "::= is expected");
	g->at += 3;
	space(g, true);
	node = alternatives(g, false, &rc);
	if (rc)
		return rc;
	if (!at_end(g) && peek(g) != '\n' && peek(g) != '\r')
		return bad(g, -EINVAL, "the end of the line is expected");
	ir_rule_set(g->ir, number_of, node);
	g->defined[number_of] = 1;
	space(g, true);
	return ir_error(g->ir);
}

static int read_all(struct gbnf *g, uint32_t *ret_root)
{
	const struct name *root;
	int rc = 0;

	space(g, true);
	while (!at_end(g) && !rc)
		rc = rule(g);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < g->rules.n; i++)
		if (!g->defined[g->rules.names[i].value])
			return err_set(g->err, -EINVAL, "there is no rule %.100s",
				       g->rules.names[i].key);
	root = names_find(&g->rules, "root", 4);
	if (!root)
		return err_set(g->err, -EINVAL, "there is no rule root");
	*ret_root = root->value;
	return 0;
}

int gbnf_node(struct ir *ir, const char *text, size_t n, ir_node *ret, struct err *err)
{
	struct gbnf g = { .text = text, .n = n, .ir = ir, .err = err };
	uint32_t root = 0;
	int rc;

	if (n > GRAMMAR_MAX_TEXT)
		return err_set(err, -E2BIG, "a grammar of %zu bytes is too large", n);
	rc = read_all(&g, &root);
	if (rc == -E2BIG && err && !err->text[0])
		err_set(err, rc, "it is too large");
	if (!rc)
		*ret = ir_ref(ir, root);
	names_done(&g.rules);
	free(g.defined);
	return rc;
}

int grammar_gbnf(const char *text, size_t n, struct program **ret, struct err *err)
{
	struct ir *ir = NULL;
	ir_node node = ir_fail();
	int rc = ir_create(&ir);

	rc = rc ? rc : gbnf_node(ir, text, n, &node, err);
	rc = rc ? rc : program_of_node(ir, node, ret, err);
	grammar_say(rc, err);
	ir_destroy(ir);
	return rc;
}
