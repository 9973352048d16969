/* SPDX-License-Identifier: MIT */
/* daemon/chat/jinja_expr.c: tokens to expressions, by Jinja2's precedence. See jinja_parse.c. */
#include <errno.h>

#include "chat/jinja_run.h"

static struct jnode *parse_or(struct jinja *j);
static struct jnode *parse_unary(struct jinja *j, bool with_filter);

static const struct jtoken *current(const struct jinja *j)
{
	return &j->tokens[j->at];
}

static struct jnode *pair(struct jinja *j, enum jop op, struct jnode *a, struct jnode *b)
{
	struct jnode *n = node_new(j, op);

	node_add(j, n, a);
	node_add(j, n, b);
	return n;
}

struct jnode *parse_expression(struct jinja *j, bool with_condition)
{
	struct jnode *n;

	jinja_enter(j);
	n = parse_or(j);
	while (with_condition && token_skip_name(j, "if")) {
		struct jnode *cond = pair(j, N_COND, parse_or(j), n);

		node_add(j, cond, token_skip_name(j, "else") ? parse_expression(j, true) : NULL);
		n = cond;
	}
	j->depth--;
	return n;
}

static struct jnode *parse_not(struct jinja *j);

static struct jnode *parse_and(struct jinja *j)
{
	struct jnode *n = parse_not(j);

	while (token_skip_name(j, "and"))
		n = pair(j, N_AND, n, parse_not(j));
	return n;
}

static struct jnode *parse_or(struct jinja *j)
{
	struct jnode *n = parse_and(j);

	while (token_skip_name(j, "or"))
		n = pair(j, N_OR, n, parse_and(j));
	return n;
}

static bool skip_operator(struct jinja *j, const char *codes, char *ret)
{
	const struct jtoken *t = current(j);

	if (t->type != T_OP || !strchr(codes, t->code))
		return false;
	*ret = (char)t->code;
	return token_skip_op(j, *ret);
}

static struct jnode *binary(struct jinja *j, char op, struct jnode *a, struct jnode *b)
{
	struct jnode *n = pair(j, N_BINARY, a, b);

	n->code = (uint8_t)op;
	return n;
}

static struct jnode *parse_power(struct jinja *j)
{
	struct jnode *n = parse_unary(j, true);

	while (token_skip_op(j, 'p'))
		n = binary(j, 'p', n, parse_unary(j, true));
	return n;
}

static struct jnode *parse_product(struct jinja *j)
{
	struct jnode *n = parse_power(j);
	char op;

	while (skip_operator(j, "*/f%", &op))
		n = binary(j, op, n, parse_power(j));
	return n;
}

static struct jnode *parse_concat(struct jinja *j)
{
	struct jnode *n = parse_product(j), *all;

	if (!token_is(j, 0, T_OP, '~'))
		return n;
	all = node_new(j, N_CONCAT);
	node_add(j, all, n);
	while (token_skip_op(j, '~'))
		node_add(j, all, parse_product(j));
	return all;
}

static struct jnode *parse_sum(struct jinja *j)
{
	struct jnode *n = parse_concat(j);
	char op;

	while (skip_operator(j, "+-", &op))
		n = binary(j, op, n, parse_concat(j));
	return n;
}

/* The comparison at the current token, skipped; false where there is none. */
static bool skip_comparison(struct jinja *j, uint8_t *ret)
{
	static const char codes[] = "en<l>g"; /* in the order of enum jcmp */
	char op;

	if (skip_operator(j, codes, &op)) {
		*ret = (uint8_t)(strchr(codes, op) - codes);
	} else if (token_skip_name(j, "in")) {
		*ret = CMP_IN;
	} else if (token_name(j, 0, "not") && token_name(j, 1, "in")) {
		token_skip_name(j, "not");
		token_skip_name(j, "in");
		*ret = CMP_NOT_IN;
	} else {
		return false;
	}
	return true;
}

static struct jnode *parse_comparison(struct jinja *j)
{
	struct jnode *n = parse_sum(j), *all = NULL;
	uint8_t op;

	while (skip_comparison(j, &op)) {
		struct jnode *operand = node_new(j, N_OPERAND);

		operand->code = op;
		node_add(j, operand, parse_sum(j));
		if (!all) {
			all = node_new(j, N_COMPARE);
			node_add(j, all, n);
		}
		node_add(j, all, operand);
	}
	return all ? all : n;
}

static struct jnode *parse_not(struct jinja *j)
{
	struct jnode *n;

	if (!token_name(j, 0, "not"))
		return parse_comparison(j);
	n = node_new(j, N_NOT);
	token_skip_name(j, "not");
	jinja_enter(j);
	node_add(j, n, parse_not(j));
	j->depth--;
	return n;
}

/* ---- primaries ---- */

static struct jnode *constant(struct jinja *j, struct jv v)
{
	struct jnode *n = node_new(j, N_CONST);

	if (v.type == J_STR)
		jstr_chars(v.s); /* counted now: several threads may render with it */
	n->value = v;
	return n;
}

static struct jnode *parse_list(struct jinja *j)
{
	struct jnode *n = node_new(j, N_LIST);

	token_expect(j, T_OP, '[', "'['");
	while (!token_is(j, 0, T_OP, ']')) {
		if (n->n)
			token_expect(j, T_OP, ',', "','");
		if (token_is(j, 0, T_OP, ']'))
			break;
		node_add(j, n, parse_expression(j, true));
	}
	token_expect(j, T_OP, ']', "']'");
	return n;
}

static struct jnode *parse_dict(struct jinja *j)
{
	struct jnode *n = node_new(j, N_DICT);

	token_expect(j, T_OP, '{', "'{'");
	while (!token_is(j, 0, T_OP, '}')) {
		if (n->n)
			token_expect(j, T_OP, ',', "','");
		if (token_is(j, 0, T_OP, '}'))
			break;
		node_add(j, n, parse_expression(j, true));
		token_expect(j, T_OP, ':', "':'");
		node_add(j, n, parse_expression(j, true));
	}
	token_expect(j, T_OP, '}', "'}'");
	return n;
}

static struct jnode *parse_name(struct jinja *j, bool with_namespace)
{
	const struct jstr *name = current(j)->name;
	struct jnode *n;

	if (jstr_is(name, "true") || jstr_is(name, "True"))
		n = constant(j, jv_bool(true));
	else if (jstr_is(name, "false") || jstr_is(name, "False"))
		n = constant(j, jv_bool(false));
	else if (jstr_is(name, "none") || jstr_is(name, "None"))
		n = constant(j, JV_NONE);
	else
		n = node_new(j, N_NAME);
	token_take_name(j);
	if (n->op == N_NAME)
		n->name = name;
	if (n->op == N_NAME && with_namespace && token_skip_op(j, '.')) {
		n->op = N_NSREF;
		n->value = jv_str((struct jstr *)token_take_name(j));
	}
	return n;
}

static struct jnode *parse_strings(struct jinja *j)
{
	struct jbuf b;

	jbuf_init(&b, j);
	while (current(j)->type == T_STRING) {
		jbuf_str(&b, current(j)->value.s);
		token_expect(j, T_STRING, 0, "a string");
	}
	return constant(j, jv_str(jbuf_done(&b)));
}

struct jnode *parse_primary(struct jinja *j, bool with_namespace)
{
	const struct jtoken *t = current(j);
	struct jnode *n;

	if (t->type == T_NAME)
		return parse_name(j, with_namespace);
	if (t->type == T_STRING)
		return parse_strings(j);
	if (t->type == T_INT || t->type == T_FLOAT) {
		n = constant(j, t->value);
		token_expect(j, t->type, 0, "a number");
		return n;
	}
	if (token_is(j, 0, T_OP, '['))
		return parse_list(j);
	if (token_is(j, 0, T_OP, '{'))
		return parse_dict(j);
	if (!token_skip_op(j, '('))
		token_fail(j, "a value");
	jinja_enter(j);
	n = parse_tuple(j, false, true, NULL, true, false);
	j->depth--;
	token_expect(j, T_OP, ')', "')'");
	return n;
}

struct jnode *parse_tuple(struct jinja *j, bool simple, bool with_condition, const char *end_name,
			  bool in_parentheses, bool with_namespace)
{
	struct jnode *all = node_new(j, N_TUPLE);
	bool tuple = false;

	for (;;) {
		if (all->n)
			token_expect(j, T_OP, ',', "','");
		if (token_is(j, 0, T_PRINT_END, 0) || token_is(j, 0, T_BLOCK_END, 0) ||
		    token_is(j, 0, T_OP, ')') || (end_name && token_name(j, 0, end_name)))
			break;
		node_add(j, all,
			 simple ? parse_primary(j, with_namespace)
				: parse_expression(j, with_condition));
		if (!token_is(j, 0, T_OP, ','))
			break;
		tuple = true;
	}
	if (!tuple && all->n)
		return all->kid[0];
	if (!tuple && !in_parentheses)
		token_fail(j, "an expression");
	return all;
}

/* ---- what follows a primary ---- */

static void parse_argument(struct jinja *j, struct jnode *n, unsigned *state)
{
	enum { PLAIN, KEYWORDS, STAR, STAR_STAR };
	struct jnode *arg = NULL;

	if (token_is(j, 0, T_OP, '*') && *state < STAR) {
		arg = node_new(j, N_STAR);
		*state = STAR;
		token_skip_op(j, '*');
	} else if (token_is(j, 0, T_OP, 'p') && *state < STAR_STAR) {
		arg = node_new(j, N_STAR_STAR);
		*state = STAR_STAR;
		token_skip_op(j, 'p');
	} else if (current(j)->type == T_NAME && token_is(j, 1, T_OP, '=') && *state < STAR_STAR) {
		arg = node_new(j, N_KEYWORD);
		arg->name = token_take_name(j);
		for (unsigned i = 0; i < n->n; i++)
			if (n->kid[i] && n->kid[i]->op == N_KEYWORD && n->kid[i]->name == arg->name)
				jinja_fail(j, -EINVAL, "an argument is given twice");
		token_skip_op(j, '=');
		if (*state == PLAIN)
			*state = KEYWORDS;
	} else if (*state != PLAIN) {
		jinja_fail(j, -EINVAL, "arguments of a call in the wrong order");
	}
	if (arg)
		node_add(j, arg, parse_expression(j, true));
	node_add(j, n, arg ? arg : parse_expression(j, true));
}

static void parse_arguments(struct jinja *j, struct jnode *n)
{
	unsigned first = n->n, state = 0;

	token_expect(j, T_OP, '(', "'('");
	while (!token_is(j, 0, T_OP, ')')) {
		if (n->n > first) {
			token_expect(j, T_OP, ',', "','");
			if (token_is(j, 0, T_OP, ')'))
				break;
		}
		parse_argument(j, n, &state);
	}
	token_expect(j, T_OP, ')', "')'");
}

static struct jnode *parse_slice(struct jinja *j)
{
	struct jnode *n = NULL, *first = NULL;

	if (!token_is(j, 0, T_OP, ':')) {
		first = parse_expression(j, true);
		if (!token_is(j, 0, T_OP, ':'))
			return first;
	}
	n = node_new(j, N_SLICE);
	node_add(j, n, first);
	for (unsigned i = 0; i < 2; i++) {
		struct jnode *part = NULL;

		if ((i == 0 || token_is(j, 0, T_OP, ':')) && token_skip_op(j, ':') &&
		    !token_is(j, 0, T_OP, ':') && !token_is(j, 0, T_OP, ']') &&
		    !token_is(j, 0, T_OP, ','))
			part = parse_expression(j, true);
		node_add(j, n, part);
	}
	return n;
}

static struct jnode *parse_subscript(struct jinja *j, struct jnode *on)
{
	struct jnode *n, *key, *all = NULL;
	const struct jtoken *t;

	if (token_skip_op(j, '.')) {
		t = current(j);
		if (t->type == T_INT) {
			key = constant(j, t->value);
			token_expect(j, T_INT, 0, "a number");
			return pair(j, N_ITEM, on, key);
		}
		n = node_new(j, N_ATTR);
		n->name = token_take_name(j);
		node_add(j, n, on);
		return n;
	}
	token_skip_op(j, '[');
	if (token_is(j, 0, T_OP, ']'))
		token_fail(j, "an index");
	key = parse_slice(j);
	while (!token_is(j, 0, T_OP, ']')) {
		if (!all) {
			all = node_new(j, N_TUPLE);
			node_add(j, all, key);
			key = all;
		}
		token_expect(j, T_OP, ',', "','");
		node_add(j, all, parse_slice(j));
	}
	token_expect(j, T_OP, ']', "']'");
	return pair(j, N_ITEM, on, key);
}

static struct jnode *parse_call(struct jinja *j, struct jnode *on)
{
	struct jnode *n = node_new(j, N_INVOKE);

	node_add(j, n, on);
	parse_arguments(j, n);
	return n;
}

static struct jnode *parse_postfix(struct jinja *j, struct jnode *n)
{
	for (;;) {
		if (token_is(j, 0, T_OP, '.') || token_is(j, 0, T_OP, '['))
			n = parse_subscript(j, n);
		else if (token_is(j, 0, T_OP, '('))
			n = parse_call(j, n);
		else
			return n;
	}
}

/* A name with dots, as filters and tests may have. */
static const struct jstr *parse_dotted(struct jinja *j)
{
	const struct jstr *name = token_take_name(j);

	while (token_skip_op(j, '.')) {
		struct jbuf b;

		jbuf_init(&b, j);
		jbuf_str(&b, name);
		jbuf_text(&b, ".");
		jbuf_str(&b, token_take_name(j));
		name = jbuf_done(&b);
	}
	return name;
}

struct jnode *parse_filters(struct jinja *j, struct jnode *on, bool at_once)
{
	while (at_once || token_skip_op(j, '|')) {
		struct jnode *n = node_new(j, N_FILTER);

		n->name = parse_dotted(j);
		n->filter = jinja_filter(n->name);
		node_add(j, n, on);
		if (token_is(j, 0, T_OP, '('))
			parse_arguments(j, n);
		on = n;
		at_once = false;
	}
	return on;
}

static bool begins_test_argument(const struct jinja *j)
{
	const struct jtoken *t = current(j);

	if (t->type == T_NAME)
		return !token_name(j, 0, "else") && !token_name(j, 0, "or") &&
		       !token_name(j, 0, "and");
	return t->type == T_STRING || t->type == T_INT || t->type == T_FLOAT ||
	       (t->type == T_OP && strchr("[{", t->code));
}

static struct jnode *parse_test(struct jinja *j, struct jnode *on)
{
	struct jnode *n = node_new(j, N_TEST), *no;
	bool negated = token_skip_name(j, "not");

	n->name = parse_dotted(j);
	n->test = jinja_test(n->name);
	node_add(j, n, on);
	if (token_is(j, 0, T_OP, '(')) {
		parse_arguments(j, n);
	} else if (begins_test_argument(j)) {
		if (token_name(j, 0, "is"))
			jinja_fail(j, -EINVAL, "two tests with 'is' in a row");
		node_add(j, n, parse_postfix(j, parse_primary(j, false)));
	}
	if (!negated)
		return n;
	no = node_new(j, N_NOT);
	node_add(j, no, n);
	return no;
}

static struct jnode *parse_unary(struct jinja *j, bool with_filter)
{
	struct jnode *n;
	char op;

	jinja_enter(j);
	if (skip_operator(j, "+-", &op)) {
		n = node_new(j, op == '-' ? N_NEG : N_POS);
		node_add(j, n, parse_unary(j, false));
	} else {
		n = parse_primary(j, false);
	}
	n = parse_postfix(j, n);
	while (with_filter) {
		if (token_is(j, 0, T_OP, '|'))
			n = parse_filters(j, n, false);
		else if (token_skip_name(j, "is"))
			n = parse_test(j, n);
		else if (token_is(j, 0, T_OP, '('))
			n = parse_call(j, n);
		else
			break;
	}
	j->depth--;
	return n;
}
