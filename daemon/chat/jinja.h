/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja.h: what the files of the template interpreter share.
 *
 * One struct jinja is one compilation or one rendering: an arena that holds everything it makes, the
 * counts of steps, depth and bytes, and the place to jump to when something fails. Values are never
 * freed one by one; lists and dicts do not change once they are made, as the sandbox forbids it.
 * Functions below return on success only: a failure is jinja_fail(), which jumps to the entry
 * (template.c). So nothing here may hold memory or descriptors of its own across a call.
 *
 * Semantics are Python's and Jinja2's (3.1, ImmutableSandboxedEnvironment); docs/templates.md lists
 * what is refused. One thread per struct jinja.
 */
#ifndef SLUICE_CHAT_JINJA_H
#define SLUICE_CHAT_JINJA_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "chat/template.h"

typedef __int128 jint;

enum jtype {
	J_MISSING, /* no value: an argument that was not given */
	J_UNDEF,
	J_NONE,
	J_BOOL,
	J_INT,
	J_FLOAT,
	J_STR,
	J_LIST,
	J_TUPLE,
	J_DICT,
	J_RANGE,
	J_VIEW, /* dict.keys(), .values(), .items() */
	J_ITER, /* a generator: gone through once, item by item */
	J_NAMESPACE,
	J_METHOD, /* of a value */
	J_GLOBAL, /* a function that every template has */
	J_MACRO,
	J_LOOP,
	J_CYCLER,
	J_JOINER,
	J_SELF,
	J_BLOCK,
	J_SLICE, /* between brackets only */
};

/* Text. Slices share bytes and marks. */
struct jstr {
	const char *p;
	size_t n;
	size_t chars;	     /* code points, or SIZE_MAX: not counted yet */
	const uint8_t *mark; /* per byte: trusted; NULL: all bytes as @trusted says */
	bool trusted;
	bool safe; /* Markup */
};

struct jv {
	enum jtype type;
	union {
		bool truth;
		jint i;
		double f;
		struct jstr *s; /* J_UNDEF: the name that is not defined, or NULL */
		struct jlist *l;
		struct jdict *d; /* J_NAMESPACE too */
		struct jrange *range;
		struct jview *view;
		struct jiter *iter;
		struct jmethod *method;
		const struct jglobal *global;
		struct jmacro *macro;
		struct jloop *loop;
		struct jcycler *cycler;
		struct jjoiner *joiner;
		const struct jnode *block;
		struct jslice *slice;
	};
};

struct jlist {
	struct jv *v;
	size_t n, cap;
	bool group; /* of groupby: also .grouper and .list */
};

struct jentry {
	struct jv key, value;
	uint32_t hash;
};

struct jdict {
	struct jentry *v; /* in order of insertion */
	size_t n, cap;
	uint32_t *slots; /* index + 1 by hash, a power of two of them; NULL while small */
	size_t n_slots;
};

struct jrange {
	jint start, step;
	size_t n;
	jint stop;
};

struct jview {
	struct jdict *d;
	enum { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } what;
};

struct jslice {
	struct jv start, stop, step;
};

/* A walk over anything that can be walked over. */
struct jcursor {
	struct jv v;
	size_t i;
};

/* Arguments of a call. */
struct jkeyword {
	const struct jstr *name;
	struct jv value;
};

struct jargs {
	struct jv *v;
	size_t n;
	struct jkeyword *kw;
	size_t n_kw;
};

/* A path as filters take it: "a.0.b". */
struct jpath {
	struct jv *part;
	size_t n;
};

struct jinja;

struct jiter {
	bool (*next)(struct jinja *j, struct jiter *it, struct jv *ret);
	const char *name; /* as Python shows it */
	struct jcursor from;
	struct jargs args;
	struct jpath path;
	struct jv value, fallback;
	struct jlist *list;
	struct jdict *seen;
	size_t n, m;
	bool started, wants, by_path;
	const struct jnode *node; /* filtering loops */
	struct jscope *scope;
};

struct jmethod {
	struct jv self;
	const struct jmethod_row *row;
};

struct jglobal {
	const char *name;
	struct jv (*call)(struct jinja *j, const struct jargs *a);
};

struct jmacro {
	const struct jnode *node; /* N_MACRO or N_CALL */
	struct jscope *scope;
};

struct jcycler {
	struct jlist *items;
	size_t at;
};

struct jjoiner {
	struct jv sep;
	bool used;
};

struct jloop {
	struct jcursor from;
	struct jv source;
	struct jv after, current, before, changed;
	const struct jnode *recurse; /* the loop, where it is recursive */
	struct jscope *scope;	     /* around the loop */
	struct jlist *rest;	     /* what was read ahead to know the length */
	int64_t index0;
	int64_t length; /* -1: not known */
	unsigned depth0;
};

/* ---- syntax ---- */

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

enum jcmp { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IN, CMP_NOT_IN };

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

/* ---- one compilation or rendering ---- */

struct jvar {
	const struct jstr *name;
	struct jv value;
	struct jvar *next;
};

struct jscope {
	struct jscope *parent;
	struct jvar *vars;
};

struct jbuf {
	struct jinja *j;
	char *p;
	uint8_t *mark;
	size_t n, cap;
	bool trusted;
};

struct jinja {
	struct jchunk *chunks; /* the arena */
	size_t bytes, max_bytes;
	uint64_t steps, max_steps;
	unsigned depth, max_depth;
	unsigned line; /* of what is evaluated */

	jmp_buf on_fail;
	int code; /* why it jumped: -errno */
	bool raised;
	struct err err;

	/* compiling */
	struct jdict *names; /* interned */
	struct jtoken *tokens;
	size_t n_tokens, at;

	/* rendering */
	const struct jinja *program; /* whose names are interned */
	const struct jnode *root;
	struct jdict *vars;
	struct jscope *top;
	struct jbuf *out;
	const struct tm *now;
	struct jv block_text; /* what a filter without operand works on */
	/* as the program interned them; NULL: it does not mention them */
	const struct jstr *loop, *caller, *varargs, *kwargs;
};

/* ---- jinja_mem.c: memory, failures, text ---- */

void jinja_init(struct jinja *j, const struct template_limits *limits);
void jinja_fini(struct jinja *j);
void jinja_fail(struct jinja *j, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), noreturn));
/* Counts @n units of work; fails where there are too many. */
void jinja_charge(struct jinja *j, size_t n);
void jinja_enter(struct jinja *j);	      /* one level deeper; leave is j->depth-- */
void *jinja_alloc(struct jinja *j, size_t n); /* zeroed */
/* The block @p of @n bytes, now of @more; moved where it cannot grow. */
void *jinja_grow(struct jinja *j, void *p, size_t n, size_t more);

struct jstr *jstr_new(struct jinja *j, const char *p, size_t n, bool trusted); /* shares @p */
struct jstr *jstr_copy(struct jinja *j, const char *p, size_t n, bool trusted);
struct jstr *jstr_slice(struct jinja *j, const struct jstr *s, size_t from, size_t to); /* bytes */
size_t jstr_chars(struct jstr *s);
/* The byte at which code point @i begins (i <= chars). */
size_t jstr_offset(struct jstr *s, size_t i);
bool jstr_is(const struct jstr *s, const char *text);
bool jstr_same(const struct jstr *a, const struct jstr *b);

void jbuf_init(struct jbuf *b, struct jinja *j);
void jbuf_add(struct jbuf *b, const char *p, size_t n, bool trusted);
void jbuf_text(struct jbuf *b, const char *text); /* trusted, to its NUL */
void jbuf_str(struct jbuf *b, const struct jstr *s);
void jbuf_bytes(struct jbuf *b, const struct jstr *s, size_t from, size_t to);
void jbuf_char(struct jbuf *b, uint32_t cp, bool trusted);
struct jstr *jbuf_done(struct jbuf *b);
bool jstr_trusted_at(const struct jstr *s, size_t i);

#define JV_NONE	   ((struct jv){ .type = J_NONE })
#define JV_MISSING ((struct jv){ .type = J_MISSING })
#define JV_UNDEF   ((struct jv){ .type = J_UNDEF })
static inline struct jv jv_bool(bool b)
{
	return (struct jv){ .type = J_BOOL, .truth = b };
}
static inline struct jv jv_int(jint i)
{
	return (struct jv){ .type = J_INT, .i = i };
}
static inline struct jv jv_float(double f)
{
	return (struct jv){ .type = J_FLOAT, .f = f };
}
static inline struct jv jv_str(struct jstr *s)
{
	return (struct jv){ .type = J_STR, .s = s };
}
static inline struct jv jv_list(struct jlist *l)
{
	return (struct jv){ .type = J_LIST, .l = l };
}
static inline struct jv jv_tuple(struct jlist *l)
{
	return (struct jv){ .type = J_TUPLE, .l = l };
}
static inline struct jv jv_dict(struct jdict *d)
{
	return (struct jv){ .type = J_DICT, .d = d };
}
struct jv jv_text(struct jinja *j, const char *text); /* a literal of this program, trusted */

/* ---- jinja_value.c: what values are to each other ---- */

const char *jv_type_name(const struct jv *v); /* Python's */
void jv_fail_undefined(struct jinja *j, const struct jv *v) __attribute__((noreturn));
bool jv_truth(struct jinja *j, const struct jv *v);
bool jv_equal(struct jinja *j, const struct jv *a, const struct jv *b);
bool jv_same(const struct jv *a, const struct jv *b); /* Python's is */
bool jv_less(struct jinja *j, const struct jv *a, const struct jv *b, bool or_equal);
bool jv_compare(struct jinja *j, enum jcmp op, const struct jv *a, const struct jv *b);
bool jv_contains(struct jinja *j, const struct jv *all, const struct jv *item);
bool jv_hashable(const struct jv *v);
bool jv_is_number(const struct jv *v); /* bools too */
jint jv_as_int(const struct jv *v);    /* of a bool or an int */
double jv_as_float(const struct jv *v);

struct jlist *jlist_new(struct jinja *j, size_t cap);
void jlist_add(struct jinja *j, struct jlist *l, struct jv v);
struct jdict *jdict_new(struct jinja *j);
void jdict_set(struct jinja *j, struct jdict *d, struct jv key, struct jv value);
struct jv *jdict_get(struct jinja *j, const struct jdict *d, const struct jv *key); /* or NULL */
struct jv *jdict_text(struct jinja *j, const struct jdict *d, const char *key);

/* @v must be something that can be walked over, else a failure. */
void jcursor_init(struct jinja *j, struct jcursor *c, const struct jv *v);
bool jcursor_next(struct jinja *j, struct jcursor *c, struct jv *ret);
bool jv_iterable(const struct jv *v);
struct jlist *jv_to_list(struct jinja *j, const struct jv *v);
bool jv_sized(const struct jv *v, struct jinja *j, size_t *ret);    /* what len() takes */
struct jv jv_index(struct jinja *j, const struct jlist *l, jint i); /* UNDEF where out of range */
void jv_sort(struct jinja *j, struct jlist *items, struct jv *keys, bool reverse);

/* ---- jinja_text.c: values as text ---- */

void jv_write(struct jinja *j, struct jbuf *b, const struct jv *v); /* str() */
void jv_write_repr(struct jinja *j, struct jbuf *b, const struct jv *v);
struct jstr *jv_to_str(struct jinja *j, const struct jv *v); /* str(): a str is itself */
size_t jint_text(jint i, char out[48]);			     /* decimal */
size_t jfloat_text(double f, char out[40]);		     /* repr() */
/* int() and float() of a text. */
bool jint_parse(struct jinja *j, const struct jstr *s, unsigned base, jint *ret);
bool jfloat_parse(const struct jstr *s, double *ret);
struct jstr *jstr_escape(struct jinja *j, const struct jstr *s); /* HTML; safe */

/* ---- jinja_json.c ---- */

struct jv jv_from_json(struct jinja *j, struct json_object *o, bool trusted);
struct jv filter_tojson(struct jinja *j, struct jv v, const struct jargs *a);

/* ---- jinja_number.c ---- */

struct jv jv_binary(struct jinja *j, uint8_t op, const struct jv *a, const struct jv *b);
struct jv jv_negate(struct jinja *j, const struct jv *v, bool minus);
double jfloat_round(double f, int digits);

/* ---- jinja_unicode.c ---- */

enum jcase { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_FOLD };
enum jclass {
	CLASS_ALPHA,
	CLASS_DECIMAL,
	CLASS_DIGIT,
	CLASS_NUMERIC,
	CLASS_SPACE,
	CLASS_PRINTABLE,
	CLASS_UPPER,
	CLASS_LOWER,
	CLASS_CASED,
	CLASS_IGNORABLE,
	CLASS_WORD_START,
	CLASS_WORD,
};
bool unicode_is(uint32_t cp, enum jclass c);
/* The characters of @cp in another case: 1 to 3, returned in @out. */
unsigned unicode_case(uint32_t cp, enum jcase to, uint32_t out[3]);
/* The code point at s[at..n) and its bytes in *ret_n; texts are valid UTF-8. */
uint32_t unicode_at(const char *s, size_t at, size_t n, unsigned *ret_n);
struct jstr *jstr_case(struct jinja *j, const struct jstr *s, enum jcase to);
struct jstr *jstr_strip(struct jinja *j, const struct jstr *s, const struct jstr *chars, bool left,
			bool right);

/* ---- jinja_lex.c, jinja_parse.c, jinja_expr.c, jinja_scope.c ---- */

void jinja_lex(struct jinja *j, const char *source, size_t len);
struct jnode *jinja_parse(struct jinja *j);
void jinja_scopes(struct jinja *j, struct jnode *root); /* sets hidden everywhere */
struct jnode *node_new(struct jinja *j, enum jop op);
void node_add(struct jinja *j, struct jnode *n, struct jnode *kid);
const struct jstr *jinja_intern(struct jinja *j, const char *p, size_t n);

bool token_is(const struct jinja *j, size_t ahead, enum jtoken_type type, char code);
bool token_name(const struct jinja *j, size_t ahead, const char *name);
bool token_skip_op(struct jinja *j, char code);
bool token_skip_name(struct jinja *j, const char *name);
void token_expect(struct jinja *j, enum jtoken_type type, char code, const char *what);
const struct jstr *token_take_name(struct jinja *j);
void token_fail(struct jinja *j, const char *wanted) __attribute__((noreturn));

struct jnode *parse_expression(struct jinja *j, bool with_condition);
struct jnode *parse_primary(struct jinja *j, bool with_namespace);
/* What ends a tuple beside the end of a tag: @end_name, or NULL. */
struct jnode *parse_tuple(struct jinja *j, bool simple, bool with_condition, const char *end_name,
			  bool in_parentheses, bool with_namespace);
struct jnode *parse_filters(struct jinja *j, struct jnode *on, bool at_once);

/* ---- jinja_eval.c, jinja_exec.c ---- */

struct jv jinja_eval(struct jinja *j, const struct jnode *n, struct jscope *scope);
struct jv jinja_call(struct jinja *j, const struct jv *f, const struct jargs *a);
void jinja_args(struct jinja *j, const struct jnode *n, unsigned from, struct jscope *scope,
		struct jargs *ret);
enum jflow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };
enum jflow jinja_exec(struct jinja *j, const struct jnode *n, struct jscope *scope);
void jinja_assign(struct jinja *j, const struct jnode *target, struct jv v, struct jscope *scope);
/* With @hidden (or NULL) undefined in it. */
struct jscope *scope_new(struct jinja *j, struct jscope *parent, const struct jstr **hidden);
void scope_set(struct jinja *j, struct jscope *s, const struct jstr *name, struct jv v);
struct jv jmacro_call(struct jinja *j, const struct jmacro *m, const struct jargs *a);
struct jv jloop_call(struct jinja *j, struct jloop *l, const struct jargs *a);
struct jv jblock_call(struct jinja *j, const struct jnode *block);
struct jv jloop_attr(struct jinja *j, struct jloop *l, const struct jstr *name);
const struct jnode *jinja_find_block(const struct jnode *n, const struct jstr *name);

/* ---- jinja_attr.c: what stands behind a dot or in brackets; methods ---- */

struct jmethod_row {
	const char *name;
	struct jv (*call)(struct jinja *j, struct jv self, const struct jargs *a);
	bool changes; /* the sandbox refuses it */
};

struct jv jv_attr(struct jinja *j, const struct jv *v, const struct jstr *name);
struct jv jv_item(struct jinja *j, const struct jv *v, const struct jv *key);
struct jv jv_path(struct jinja *j, struct jv v, const struct jpath *path,
		  const struct jv *fallback);
const struct jmethod_row *jstr_method(const struct jstr *name);
const struct jmethod_row *jstr_question(const struct jstr *name); /* those that ask */
struct jv jstr_subscript(struct jinja *j, struct jstr *s, const struct jv *key);
/* Where a slice begins, its step, and how many items it takes of @n. */
size_t jslice_resolve(struct jinja *j, const struct jslice *s, size_t n, jint *ret_start,
		      jint *ret_step);

/* ---- jinja_call.c: arguments, functions that every template has ---- */

/*
 * Sorts arguments into @out by @spec, names with commas, those after '/' optional, as in "a,b/c,d":
 * what was not given is J_MISSING. Fails where one is missing, unknown or given twice.
 */
void jargs_bind(struct jinja *j, const struct jargs *a, const char *what, const char *spec,
		struct jv *out);
const struct jglobal *jinja_global(const struct jstr *name);
/* An argument as what it must be, else a failure. */
struct jstr *jarg_str(struct jinja *j, const struct jv *v, const char *what);
jint jarg_int(struct jinja *j, const struct jv *v, const char *what);

/* ---- jinja_filter.c, jinja_filter_list.c, jinja_test.c, jinja_format.c ---- */

struct jfilter {
	const char *name;
	struct jv (*call)(struct jinja *j, struct jv v, const struct jargs *a);
};
struct jtest {
	const char *name;
	bool (*call)(struct jinja *j, struct jv v, const struct jargs *a);
};
const struct jfilter *jinja_filter(const struct jstr *name);
const struct jtest *jinja_test(const struct jstr *name);
const struct jfilter *jinja_filter_list(const struct jstr *name); /* those on sequences */
struct jv jinja_apply_filter(struct jinja *j, const struct jstr *name, struct jv v,
			     const struct jargs *a);
bool jinja_apply_test(struct jinja *j, const struct jstr *name, struct jv v, const struct jargs *a);
struct jpath jinja_path(struct jinja *j, const struct jv *v);

struct jstr *jstr_percent(struct jinja *j, const struct jstr *format, const struct jv *args);
struct jstr *jstr_format(struct jinja *j, const struct jstr *format, const struct jargs *a);
/* JSON numbers and texts, ours and Python's: the length of a text in code points is its width. */

#endif
