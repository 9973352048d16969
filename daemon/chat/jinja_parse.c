/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_parse.c: tokens to statements. Jinja2's grammar with loop controls and
 * {% generation %}. Other templates cannot be named (include, extends, import), nor does escaping
 * by default exist (autoescape): those tags are refused here, with the line.
 */
#include <errno.h>

#include "chat/jinja_syntax.h"

/* ---- tokens ---- */

static const struct jtoken *look(const struct jinja *j, size_t ahead)
{
	size_t at = j->at + ahead;

	return &j->tokens[at < j->n_tokens ? at : j->n_tokens - 1];
}

bool token_is(const struct jinja *j, size_t ahead, enum jtoken_type type, char code)
{
	const struct jtoken *t = look(j, ahead);

	return t->type == type && t->code == (uint8_t)code;
}

bool token_name(const struct jinja *j, size_t ahead, const char *name)
{
	const struct jtoken *t = look(j, ahead);

	return t->type == T_NAME && jstr_is(t->name, name);
}

static void next(struct jinja *j)
{
	if (j->at + 1 < j->n_tokens)
		j->at++;
	j->line = look(j, 0)->line;
}

bool token_skip_op(struct jinja *j, char code)
{
	if (!token_is(j, 0, T_OP, code))
		return false;
	next(j);
	return true;
}

bool token_skip_name(struct jinja *j, const char *name)
{
	if (!token_name(j, 0, name))
		return false;
	next(j);
	return true;
}

void token_fail(struct jinja *j, const char *wanted)
{
	const struct jtoken *t = look(j, 0);
	static const char *const names[] = {
		[T_EOF] = "the end of the template",
		[T_DATA] = "text",
		[T_PRINT_BEGIN] = "{{",
		[T_PRINT_END] = "}}",
		[T_BLOCK_BEGIN] = "{%",
		[T_BLOCK_END] = "%}",
		[T_NAME] = "a name",
		[T_STRING] = "a string",
		[T_INT] = "an integer",
		[T_FLOAT] = "a number",
		[T_OP] = "an operator",
	};

	if (t->type == T_NAME)
		jinja_fail(j, -EINVAL, "%s expected, not '%.*s'", wanted,
			   (int)(t->name->n < 100 ? t->name->n : 100), t->name->p);
	jinja_fail(j, -EINVAL, "%s expected, not %s", wanted, names[t->type]);
}

void token_expect(struct jinja *j, enum jtoken_type type, char code, const char *what)
{
	if (!token_is(j, 0, type, code))
		token_fail(j, what);
	next(j);
}

const struct jstr *token_take_name(struct jinja *j)
{
	const struct jtoken *t = look(j, 0);

	if (t->type != T_NAME)
		token_fail(j, "a name");
	next(j);
	return t->name;
}

/* ---- nodes ---- */

const struct jstr *jinja_intern(struct jinja *j, const char *p, size_t n)
{
	struct jv key = jv_str(jstr_new(j, p, n, true)), *found;

	if (!j->names)
		j->names = jdict_new(j);
	found = jdict_get(j, j->names, &key);
	if (found)
		return found->s;
	jstr_chars(key.s); /* counted now: what is compiled does not change when it is rendered */
	jdict_set(j, j->names, key, key);
	return key.s;
}

struct jnode *node_new(struct jinja *j, enum jop op)
{
	struct jnode *n = jinja_alloc(j, sizeof(*n));

	n->op = (uint8_t)op;
	n->line = j->line;
	return n;
}

void node_add(struct jinja *j, struct jnode *n, struct jnode *kid)
{
	if (n->n == n->cap) {
		unsigned cap = n->cap ? 2 * n->cap : 4;

		n->kid = jinja_grow(j, n->kid, n->cap * sizeof(*n->kid), cap * sizeof(*n->kid));
		n->cap = cap;
	}
	n->kid[n->n++] = kid;
}

/* ---- statements ---- */

static struct jnode *parse_body(struct jinja *j, const char *const *ends);

/* Behind a statement's head up to one of @ends, which is the current token then. */
static struct jnode *parse_block(struct jinja *j, const char *const *ends)
{
	struct jnode *body;

	token_skip_op(j, ':');
	token_expect(j, T_BLOCK_END, 0, "%}");
	body = parse_body(j, ends);
	if (token_is(j, 0, T_EOF, 0))
		jinja_fail(j, -EINVAL, "the template ends where {%% %s %%} is missing", ends[0]);
	return body;
}

static struct jnode *parse_block_to(struct jinja *j, const char *end)
{
	const char *const ends[] = { end, NULL };
	struct jnode *body = parse_block(j, ends);

	next(j);
	return body;
}

static bool is_target(const struct jnode *n)
{
	if (n->op == N_TUPLE) {
		for (unsigned i = 0; i < n->n; i++)
			if (!is_target(n->kid[i]))
				return false;
		return true;
	}
	return n->op == N_NAME || n->op == N_NSREF;
}

static struct jnode *parse_target(struct jinja *j, const char *end_name, bool with_namespace)
{
	struct jnode *n = parse_tuple(j, true, true, end_name, false, with_namespace);

	if (!is_target(n))
		jinja_fail(j, -EINVAL, "nothing can be assigned to that");
	return n;
}

static struct jnode *parse_for(struct jinja *j)
{
	static const char *const ends[] = { "endfor", "else", NULL };
	struct jnode *n = node_new(j, N_FOR), *test = NULL;

	next(j);
	node_add(j, n, parse_target(j, "in", false));
	if (!token_skip_name(j, "in"))
		token_fail(j, "'in'");
	node_add(j, n, parse_tuple(j, false, false, "recursive", false, false));
	if (token_skip_name(j, "if"))
		test = parse_expression(j, true);
	node_add(j, n, test);
	n->flag = token_skip_name(j, "recursive");
	node_add(j, n, parse_block(j, ends));
	if (token_skip_name(j, "endfor"))
		return node_add(j, n, NULL), n;
	next(j);
	node_add(j, n, parse_block_to(j, "endfor"));
	return n;
}

static struct jnode *parse_if(struct jinja *j)
{
	static const char *const ends[] = { "elif", "else", "endif", NULL };
	struct jnode *n = node_new(j, N_IF);

	do {
		next(j);
		node_add(j, n, parse_tuple(j, false, false, NULL, false, false));
		node_add(j, n, parse_block(j, ends));
	} while (token_name(j, 0, "elif"));
	if (token_skip_name(j, "else")) {
		n->flag = true;
		node_add(j, n, parse_block_to(j, "endif"));
	} else {
		next(j);
	}
	return n;
}

static struct jnode *parse_set(struct jinja *j)
{
	struct jnode *n = node_new(j, N_SET);

	next(j);
	node_add(j, n, parse_target(j, NULL, true));
	if (token_skip_op(j, '=')) {
		node_add(j, n, parse_tuple(j, false, true, NULL, false, false));
		return n;
	}
	n->op = N_SET_BLOCK;
	node_add(j, n, parse_filters(j, NULL, false));
	node_add(j, n, parse_block_to(j, "endset"));
	return n;
}

static struct jnode *parse_with(struct jinja *j)
{
	struct jnode *n = node_new(j, N_WITH);

	next(j);
	node_add(j, n, NULL);
	while (!token_is(j, 0, T_BLOCK_END, 0)) {
		if (n->n > 1)
			token_expect(j, T_OP, ',', "','");
		node_add(j, n, parse_target(j, NULL, false));
		token_expect(j, T_OP, '=', "'='");
		node_add(j, n, parse_expression(j, true));
	}
	n->kid[0] = parse_block_to(j, "endwith");
	return n;
}

static void parse_signature(struct jinja *j, struct jnode *n)
{
	unsigned first = n->n;
	bool defaults = false;

	token_expect(j, T_OP, '(', "'('");
	while (!token_is(j, 0, T_OP, ')')) {
		struct jnode *p;

		if (n->n > first)
			token_expect(j, T_OP, ',', "','");
		p = node_new(j, N_PARAM);
		p->name = token_take_name(j);
		if (token_skip_op(j, '=')) {
			node_add(j, p, parse_expression(j, true));
			defaults = true;
		} else if (defaults) {
			jinja_fail(j, -EINVAL, "a parameter without default behind one with it");
		}
		for (unsigned i = first; i < n->n; i++)
			if (n->kid[i]->name == p->name)
				jinja_fail(j, -EINVAL, "two parameters of one name");
		node_add(j, n, p);
	}
	next(j);
}

/* Which of the names that macros get without asking the body mentions. */
static void note_special_names(struct jinja *j, struct jnode *macro, const struct jnode *n)
{
	if (!n)
		return;
	jinja_enter(j);
	if (n->op == N_NAME) {
		macro->wants_caller |= jstr_is(n->name, "caller");
		macro->wants_args |= jstr_is(n->name, "varargs");
		macro->wants_kwargs |= jstr_is(n->name, "kwargs");
	}
	for (unsigned i = 0; i < n->n; i++)
		note_special_names(j, macro, n->kid[i]);
	j->depth--;
}

static struct jnode *parse_macro(struct jinja *j)
{
	struct jnode *n = node_new(j, N_MACRO);

	next(j);
	n->name = token_take_name(j);
	node_add(j, n, NULL);
	parse_signature(j, n);
	n->kid[0] = parse_block_to(j, "endmacro");
	note_special_names(j, n, n->kid[0]);
	return n;
}

static struct jnode *parse_call_block(struct jinja *j)
{
	struct jnode *n = node_new(j, N_CALL);

	next(j);
	node_add(j, n, NULL);
	node_add(j, n, NULL);
	if (token_is(j, 0, T_OP, '('))
		parse_signature(j, n);
	n->kid[0] = parse_expression(j, true);
	if (n->kid[0]->op != N_INVOKE)
		jinja_fail(j, -EINVAL, "a call expected behind {%% call");
	n->kid[1] = parse_block_to(j, "endcall");
	note_special_names(j, n, n->kid[1]);
	return n;
}

static struct jnode *parse_filter_block(struct jinja *j)
{
	struct jnode *n = node_new(j, N_FILTER_BLOCK);

	next(j);
	node_add(j, n, parse_filters(j, NULL, true));
	node_add(j, n, parse_block_to(j, "endfilter"));
	return n;
}

static struct jnode *parse_named_block(struct jinja *j)
{
	struct jnode *n = node_new(j, N_BLOCK);

	next(j);
	n->name = token_take_name(j);
	n->flag = token_skip_name(j, "scoped");
	node_add(j, n, parse_block_to(j, "endblock"));
	if (look(j, 0)->type == T_NAME && look(j, 0)->name == n->name)
		next(j);
	return n;
}

static struct jnode *parse_print(struct jinja *j)
{
	struct jnode *n = node_new(j, N_PRINT);

	next(j);
	while (!token_is(j, 0, T_BLOCK_END, 0)) {
		if (n->n)
			token_expect(j, T_OP, ',', "','");
		node_add(j, n, parse_expression(j, true));
	}
	return n;
}

static struct jnode *parse_word(struct jinja *j, enum jop op)
{
	struct jnode *n = node_new(j, op);

	next(j);
	return n;
}

static struct jnode *parse_generation(struct jinja *j)
{
	struct jnode *n = parse_word(j, N_SCOPE);

	node_add(j, n, parse_block_to(j, "endgeneration"));
	return n;
}

static struct jnode *parse_break(struct jinja *j)
{
	return parse_word(j, N_BREAK);
}

static struct jnode *parse_continue(struct jinja *j)
{
	return parse_word(j, N_CONTINUE);
}

static const struct {
	const char *name;
	struct jnode *(*parse)(struct jinja *j);
} statements[] = {
	{ "if", parse_if },	      { "for", parse_for },
	{ "set", parse_set },	      { "macro", parse_macro },
	{ "call", parse_call_block }, { "filter", parse_filter_block },
	{ "with", parse_with },	      { "block", parse_named_block },
	{ "print", parse_print },     { "generation", parse_generation },
	{ "break", parse_break },     { "continue", parse_continue },
};

static struct jnode *parse_statement(struct jinja *j)
{
	const struct jtoken *t = look(j, 0);
	struct jnode *n;

	if (t->type != T_NAME)
		token_fail(j, "the name of a tag");
	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
		if (jstr_is(t->name, statements[i].name)) {
			jinja_enter(j);
			n = statements[i].parse(j);
			j->depth--;
			return n;
		}
	jinja_fail(j, -EINVAL, "there is no tag '%.*s' here",
		   (int)(t->name->n < 100 ? t->name->n : 100), t->name->p);
}

static bool at_end(const struct jinja *j, const char *const *ends)
{
	for (; ends && *ends; ends++)
		if (token_name(j, 0, *ends))
			return true;
	return false;
}

static struct jnode *parse_body(struct jinja *j, const char *const *ends)
{
	struct jnode *body = node_new(j, N_BODY);

	while (!token_is(j, 0, T_EOF, 0)) {
		const struct jtoken *t = look(j, 0);
		struct jnode *n;

		if (t->type == T_DATA) {
			n = node_new(j, N_DATA);
			n->value = t->value;
			next(j);
		} else if (t->type == T_PRINT_BEGIN) {
			next(j);
			n = node_new(j, N_PRINT);
			node_add(j, n, parse_tuple(j, false, true, NULL, false, false));
			token_expect(j, T_PRINT_END, 0, "}}");
		} else {
			token_expect(j, T_BLOCK_BEGIN, 0, "{%");
			if (at_end(j, ends))
				return body;
			n = parse_statement(j);
			token_expect(j, T_BLOCK_END, 0, "%}");
		}
		node_add(j, body, n);
	}
	return body;
}

/* ---- what is refused wherever it stands ---- */

/*
 * Filters and tests that do not exist are refused at once, but where they stand in the branch of a
 * condition only when it is taken (@soft), as there they may be asked for first. A loop must be
 * around break and continue, in the same macro.
 */
static void check(struct jinja *j, const struct jnode *n, bool soft, bool loop)
{
	if (!n)
		return;
	jinja_enter(j);
	j->line = n->line;
	if (n->op == N_FILTER && !n->filter && !soft)
		jinja_fail(j, -EINVAL, "there is no filter '%.*s'",
			   (int)(n->name->n < 100 ? n->name->n : 100), n->name->p);
	if (n->op == N_TEST && !n->test && !soft)
		jinja_fail(j, -EINVAL, "there is no test '%.*s'",
			   (int)(n->name->n < 100 ? n->name->n : 100), n->name->p);
	if ((n->op == N_BREAK || n->op == N_CONTINUE) && !loop)
		jinja_fail(j, -EINVAL, "break and continue stand in loops");
	if (n->op == N_IF || n->op == N_COND)
		soft = true;
	else if (n->op == N_MACRO || n->op == N_CALL || n->op == N_SCOPE || n->op == N_BLOCK)
		soft = loop = false;
	else if (n->op == N_WITH || n->op == N_SET_BLOCK || n->op == N_FILTER_BLOCK)
		soft = false;
	for (unsigned i = 0; i < n->n; i++) {
		bool body = n->op == N_FOR && i == 3;

		check(j, n->kid[i], soft && n->op != N_FOR, loop || body);
	}
	j->depth--;
}

struct jnode *jinja_parse(struct jinja *j)
{
	struct jnode *root;

	j->at = 0;
	j->line = look(j, 0)->line;
	root = parse_body(j, NULL);
	check(j, root, false, false);
	return root;
}
