/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_syntax.h: a template's text as tokens and as a tree. The tree is made once and does
 * not change: any number of renderings may walk over it at a time. Contracts as in jinja.h.
 */
#ifndef SLUICE_CHAT_JINJA_SYNTAX_H
#define SLUICE_CHAT_JINJA_SYNTAX_H

#include "chat/jinja.h"

enum jop {
	/* statements */
	N_BODY,
	N_DATA,	 /* value */
	N_PRINT, /* expressions */
	N_IF,	 /* test, body, test, body, ...; flag: the last is an else body */
	N_FOR,	 /* target, iterable, test or NULL, body, else or NULL; flag: recursive */
	N_BREAK,
	N_CONTINUE,
	N_SET,		/* target, expression */
	N_SET_BLOCK,	/* target, filter or NULL, body */
	N_WITH,		/* body, target, value, ... */
	N_MACRO,	/* body, then parameters: N_PARAM */
	N_CALL,		/* call, body, then parameters */
	N_FILTER_BLOCK, /* filter, body */
	N_BLOCK,	/* body */
	N_SCOPE,	/* body: {% generation %} */
	/* targets */
	N_NSREF, /* name, value: attribute */
	N_PARAM, /* name; default or NULL */
	/* expressions */
	N_CONST,
	N_NAME,
	N_LIST,
	N_TUPLE,
	N_DICT, /* key, value, ... */
	N_COND, /* test, then, else or NULL */
	N_OR,
	N_AND,
	N_NOT,
	N_NEG,
	N_POS,
	N_COMPARE, /* first, then N_OPERANDs */
	N_OPERAND, /* kid; code: enum jcmp */
	N_BINARY,  /* left, right; code: the operator's character; 'f' for // and 'p' for ** */
	N_CONCAT,
	N_ATTR,	  /* kid, name */
	N_ITEM,	  /* kid, index */
	N_SLICE,  /* start, stop, step, each or NULL */
	N_INVOKE, /* callee, arguments */
	N_FILTER, /* kid or NULL (the text of a block), name, arguments */
	N_TEST,	  /* kid, name, arguments */
	/* arguments */
	N_KEYWORD,   /* name, kid */
	N_STAR,	     /* kid */
	N_STAR_STAR, /* kid */
};

struct jnode {
	uint8_t op;
	uint8_t code;
	bool flag;
	bool wants_caller, wants_args, wants_kwargs; /* macros: the body names them */
	unsigned line;
	unsigned n, cap;
	struct jnode **kid;
	const struct jstr *name; /* interned: equal names are one pointer */
	struct jv value;
	/* names that are undefined when the scope of the node's body begins, up to NULL; or NULL */
	const struct jstr **hidden, **hidden_else;
	const struct jfilter *filter; /* N_FILTER: NULL where there is none of that name */
	const struct jtest *test;
};

enum jtoken_type {
	T_EOF,
	T_DATA,
	T_PRINT_BEGIN,
	T_PRINT_END,
	T_BLOCK_BEGIN,
	T_BLOCK_END,
	T_NAME,
	T_STRING,
	T_INT,
	T_FLOAT,
	T_OP, /* code: its character; 'f' //, 'p' **, 'e' ==, 'n' !=, 'l' <=, 'g' >= */
};

struct jtoken {
	uint8_t type, code;
	unsigned line;
	const struct jstr *name; /* T_NAME */
	struct jv value;	 /* T_DATA, T_STRING, T_INT, T_FLOAT */
};

/* ---- jinja_lex.c, jinja_parse.c, jinja_expr.c, jinja_scope.c: in this order ---- */

/* The source, UTF-8, becomes j->tokens; it need not outlive the call. */
void jinja_lex(struct jinja *j, const char *source, size_t len);
struct jnode *jinja_parse(struct jinja *j);		/* of j->tokens, all of them */
void jinja_scopes(struct jinja *j, struct jnode *root); /* sets hidden everywhere */
/* Of the line j->line, without kids. */
struct jnode *node_new(struct jinja *j, enum jop op);
void node_add(struct jinja *j, struct jnode *n, struct jnode *kid);
/* The one text of these bytes: names are compared as pointers. */
const struct jstr *jinja_intern(struct jinja *j, const char *p, size_t n);

/* Is it this, the token @ahead of the next one? */
bool token_is(const struct jinja *j, size_t ahead, enum jtoken_type type, char code);
bool token_name(const struct jinja *j, size_t ahead, const char *name);
/* Takes the next token where it is this one; expect: fails with @what was wanted where it is not. */
bool token_skip_op(struct jinja *j, char code);
bool token_skip_name(struct jinja *j, const char *name);
void token_expect(struct jinja *j, enum jtoken_type type, char code, const char *what);
const struct jstr *token_take_name(struct jinja *j);
/* Fails with what is there and what was @wanted. */
void token_fail(struct jinja *j, const char *wanted) __attribute__((noreturn));

/* From the next token on. @with_condition: "a if b" too. */
struct jnode *parse_expression(struct jinja *j, bool with_condition);
struct jnode *parse_primary(struct jinja *j, bool with_namespace);
/* What ends a tuple beside the end of a tag: @end_name, or NULL. */
struct jnode *parse_tuple(struct jinja *j, bool simple, bool with_condition, const char *end_name,
			  bool in_parentheses, bool with_namespace);
/* "|name(...)" behind @on, or, @at_once, a name first: {% filter name %}, where @on is NULL. */
struct jnode *parse_filters(struct jinja *j, struct jnode *on, bool at_once);

#endif
