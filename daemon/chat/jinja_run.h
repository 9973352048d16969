/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_run.h: what a rendering walks with: scopes, loops, macros, generators; evaluation;
 * attributes and methods, calls, filters and tests. Contracts as in jinja.h.
 */
#ifndef SLUICE_CHAT_JINJA_RUN_H
#define SLUICE_CHAT_JINJA_RUN_H

#include "chat/jinja_syntax.h"

/* A path as filters take it: "a.0.b". */
struct jpath {
	struct jv *part;
	size_t n;
};

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

struct jvar {
	const struct jstr *name;
	struct jv value;
	struct jvar *next;
};

struct jscope {
	struct jscope *parent;
	struct jvar *vars;
};

/* ---- jinja_eval.c, jinja_exec.c ---- */

enum jflow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

/* The value of an expression; the effect of a statement, and whether it leaves a loop. */
struct jv jinja_eval(struct jinja *j, const struct jnode *n, struct jscope *scope);
struct jv jinja_call(struct jinja *j, const struct jv *f, const struct jargs *a);
/* The arguments among the kids of @n, from kid @from on. */
void jinja_args(struct jinja *j, const struct jnode *n, unsigned from, struct jscope *scope,
		struct jargs *ret);
enum jflow jinja_exec(struct jinja *j, const struct jnode *n, struct jscope *scope);
/* To a name, a tuple of targets or an attribute of a namespace. */
void jinja_assign(struct jinja *j, const struct jnode *target, struct jv v, struct jscope *scope);
/* With @hidden (or NULL) undefined in it. */
struct jscope *scope_new(struct jinja *j, struct jscope *parent, const struct jstr **hidden);
void scope_set(struct jinja *j, struct jscope *s, const struct jstr *name, struct jv v);
/* What calling these gives: the text of a body. */
struct jv jmacro_call(struct jinja *j, const struct jmacro *m, const struct jargs *a);
struct jv jloop_call(struct jinja *j, struct jloop *l, const struct jargs *a);
struct jv jblock_call(struct jinja *j, const struct jnode *block);
/* loop.index and its like; UNDEF where there is no such. */
struct jv jloop_attr(struct jinja *j, struct jloop *l, const struct jstr *name);
const struct jnode *jinja_find_block(const struct jnode *n, const struct jstr *name); /* or NULL */

/* ---- jinja_attr.c: what stands behind a dot or in brackets; methods ---- */

struct jmethod_row {
	const char *name;
	struct jv (*call)(struct jinja *j, struct jv self, const struct jargs *a);
	bool changes; /* the sandbox refuses it */
};

#define METHOD(name) \
	static struct jv method_##name(struct jinja *j, struct jv self, const struct jargs *a)
/* of a table of methods: one that changes nothing */
#define METHOD_ROW(name)                    \
	{                                   \
#name, method_##name, false \
	}

/* v.name, v[key] and a filter's path; UNDEF, or @fallback where it is given, for what is not there. */
struct jv jv_attr(struct jinja *j, const struct jv *v, const struct jstr *name);
struct jv jv_item(struct jinja *j, const struct jv *v, const struct jv *key);
struct jv jv_path(struct jinja *j, struct jv v, const struct jpath *path,
		  const struct jv *fallback);
/* The row of that name; NULL: none. */
const struct jmethod_row *jmethod_named(const struct jmethod_row *rows, size_t n,
					const struct jstr *name);
/* Methods of texts; NULL: none of that name. */
const struct jmethod_row *jstr_method(const struct jstr *name);
const struct jmethod_row *jstr_cutting(const struct jstr *name);  /* those that cut */
const struct jmethod_row *jstr_question(const struct jstr *name); /* those that ask */
struct jv jstr_subscript(struct jinja *j, struct jstr *s, const struct jv *key);
/* Where a slice begins, ends, its step, and how many items it takes of @n; bounds are -1 to @n. */
size_t jslice_resolve(struct jinja *j, const struct jslice *s, size_t n, jint *ret_start,
		      jint *ret_stop, jint *ret_step);

/* ---- jinja_call.c: arguments, functions that every template has ---- */

/*
 * Sorts arguments into @out by @spec, names with commas, those after '/' optional, as in "a,b/c,d":
 * what was not given is J_MISSING. Fails where one is missing, unknown or given twice.
 */
void jargs_bind(struct jinja *j, const struct jargs *a, const char *what, const char *spec,
		struct jv *out);
const struct jglobal *jinja_global(const struct jstr *name); /* NULL: none of that name */
/* An argument as what it must be, else a failure. */
struct jstr *jarg_str(struct jinja *j, const struct jv *v, const char *what);
jint jarg_int(struct jinja *j, const struct jv *v, const char *what);

/* ---- jinja_filter*.c, jinja_test.c, jinja_percent.c, jinja_format.c ---- */

struct jfilter {
	const char *name;
	struct jv (*call)(struct jinja *j, struct jv v, const struct jargs *a);
};

#define FILTER(name) \
	static struct jv filter_##name(struct jinja *j, struct jv v, const struct jargs *a)
#define FILTER_ROW(name)             \
	{                            \
#name, filter_##name \
	}

struct jtest {
	const char *name;
	bool (*call)(struct jinja *j, struct jv v, const struct jargs *a);
};
/* By name; NULL: none. */
const struct jfilter *jinja_filter(const struct jstr *name);
const struct jtest *jinja_test(const struct jstr *name);
const struct jfilter *jinja_filter_number(const struct jstr *name); /* those on numbers */
const struct jfilter *jinja_filter_list(const struct jstr *name);   /* those on sequences */
const struct jfilter *jinja_filter_lazy(const struct jstr *name);   /* generators of them */
const struct jfilter *jfilter_named(const struct jfilter *rows, size_t n, const struct jstr *name);
/* By name, for map() and its like; an unknown one fails. */
struct jv jinja_apply_filter(struct jinja *j, const struct jstr *name, struct jv v,
			     const struct jargs *a);
bool jinja_apply_test(struct jinja *j, const struct jstr *name, struct jv v, const struct jargs *a);
/* "a.0.b": names, and numbers where a part is all digits. */
struct jpath jinja_path(struct jinja *j, const struct jv *v);
/* An argument that is there and not None. */
static inline bool jv_given(const struct jv *v)
{
	return v->type != J_MISSING && v->type != J_NONE;
}
/* A text in lower case unless @sensitive; other values as they are. */
struct jv jv_ignore_case(struct jinja *j, struct jv v, bool sensitive);

/* A filter that has a file of its own (jinja_json.c). */
struct jv filter_tojson(struct jinja *j, struct jv v, const struct jargs *a);

/* Python's @format % args, and format.format(...). */
struct jstr *jstr_percent(struct jinja *j, const struct jstr *format, const struct jv *args);
struct jstr *jstr_format(struct jinja *j, const struct jstr *format, const struct jargs *a);

#endif
