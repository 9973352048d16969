/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja.h: one compilation or rendering, its memory, and values: what all files of the
 * template interpreter share. Syntax is in jinja_syntax.h, what runs it in jinja_run.h.
 *
 * One struct jinja is one compilation or one rendering: an arena that holds everything it makes, the
 * counts of steps, depth and bytes, and the place to jump to when something fails. Values are never
 * freed one by one; lists and dicts do not change once they are made, as the sandbox forbids it.
 *
 * For all three headers: a function that takes a struct jinja returns on success only, a failure is
 * jinja_fail(), which jumps to the entry (template.c); so nothing may hold memory or descriptors of
 * its own across a call. What such a function returns lies in the arena and lives as long as it.
 * Functions without one cannot fail. One thread per struct jinja.
 *
 * Semantics are Python's and Jinja2's (3.1, ImmutableSandboxedEnvironment); docs/templates.md lists
 * what is refused.
 */
#ifndef SLUICE_CHAT_JINJA_H
#define SLUICE_CHAT_JINJA_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "chat/template.h"

struct jinja;
struct jnode;
struct jscope;

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

/* @limits NULL, or 0 in it: the defaults of template.h. Then on_fail is to be set, before anything else. */
void jinja_init(struct jinja *j, const struct template_limits *limits);
void jinja_fini(struct jinja *j); /* frees all that was made with it */
/* Jumps to on_fail with @code (-errno) and a sentence, which names the line that is evaluated. */
void jinja_fail(struct jinja *j, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), noreturn));
/* Counts @n units of work; fails where there are too many. */
void jinja_charge(struct jinja *j, size_t n);
void jinja_enter(struct jinja *j);	      /* one level deeper; leave is j->depth-- */
void *jinja_alloc(struct jinja *j, size_t n); /* zeroed, aligned to 16 bytes */
/* The block @p of @n bytes, now of @more; moved where it cannot grow. */
void *jinja_grow(struct jinja *j, void *p, size_t n, size_t more);

struct jstr *jstr_new(struct jinja *j, const char *p, size_t n, bool trusted); /* shares @p */
/* A copy with a NUL behind it. */
struct jstr *jstr_copy(struct jinja *j, const char *p, size_t n, bool trusted);
struct jstr *jstr_slice(struct jinja *j, const struct jstr *s, size_t from, size_t to); /* bytes */
size_t jstr_chars(struct jstr *s); /* counted once */
/* The byte at which code point @i begins (i <= chars). */
size_t jstr_offset(struct jstr *s, size_t i);
/* The start of the code point that ends at byte @at (> 0). */
size_t jstr_char_before(const struct jstr *s, size_t at);
/* The byte at which @sub begins in s[from..to), the first or the last one; SIZE_MAX: nowhere. */
size_t jstr_find(struct jinja *j, const struct jstr *s, const struct jstr *sub, size_t from,
		 size_t to, bool last);
bool jstr_is(const struct jstr *s, const char *text);
bool jstr_same(const struct jstr *a, const struct jstr *b); /* the same bytes; origins may differ */

/* A text that is being written, in the arena; each piece keeps where it is from. */
void jbuf_init(struct jbuf *b, struct jinja *j);
void jbuf_add(struct jbuf *b, const char *p, size_t n, bool trusted);
void jbuf_text(struct jbuf *b, const char *text); /* trusted, to its NUL */
void jbuf_str(struct jbuf *b, const struct jstr *s);
void jbuf_bytes(struct jbuf *b, const struct jstr *s, size_t from, size_t to);
void jbuf_char(struct jbuf *b, uint32_t cp, bool trusted);
struct jstr *jbuf_done(struct jbuf *b); /* nothing is written behind it */
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
/* Fails with the sentence that Jinja2 has for this value, of J_UNDEF. */
void jv_fail_undefined(struct jinja *j, const struct jv *v) __attribute__((noreturn));
bool jv_truth(struct jinja *j, const struct jv *v);
enum jcmp { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IN, CMP_NOT_IN };

/* Python's ==, <, in and the comparison @op; what Python cannot order fails. */
bool jv_equal(struct jinja *j, const struct jv *a, const struct jv *b);
bool jv_same(const struct jv *a, const struct jv *b); /* Python's is */
bool jv_less(struct jinja *j, const struct jv *a, const struct jv *b, bool or_equal);
bool jv_compare(struct jinja *j, enum jcmp op, const struct jv *a, const struct jv *b);
bool jv_contains(struct jinja *j, const struct jv *all, const struct jv *item);
bool jv_is_number(const struct jv *v); /* bools too */
jint jv_as_int(const struct jv *v);    /* of a bool or an int */
double jv_as_float(const struct jv *v);

/* ---- jinja_list.c: lists and dicts, walking over values ---- */

/* Lists and dicts that are being made: nobody else has them yet. A key that is there keeps its place. */
struct jlist *jlist_new(struct jinja *j, size_t cap);
void jlist_add(struct jinja *j, struct jlist *l, struct jv v);
struct jdict *jdict_new(struct jinja *j);
bool jv_hashable(const struct jv *v); /* may it be a key? */
void jdict_set(struct jinja *j, struct jdict *d, struct jv key, struct jv value);
struct jv *jdict_get(struct jinja *j, const struct jdict *d, const struct jv *key); /* or NULL */
struct jv *jdict_text(struct jinja *j, const struct jdict *d, const char *key);	    /* or NULL */

/* @v must be something that can be walked over, else a failure. */
void jcursor_init(struct jinja *j, struct jcursor *c, const struct jv *v);
/* False: the end. */
bool jcursor_next(struct jinja *j, struct jcursor *c, struct jv *ret);
bool jv_iterable(const struct jv *v);
struct jlist *jv_to_list(struct jinja *j, const struct jv *v);	    /* a new one */
bool jv_sized(const struct jv *v, struct jinja *j, size_t *ret);    /* what len() takes */
struct jv jv_index(struct jinja *j, const struct jlist *l, jint i); /* UNDEF where out of range */
/* In place and stable, by keys[i] of items->v[i]; NULL: by the items. */
void jv_sort(struct jinja *j, struct jlist *items, struct jv *keys, bool reverse);

/* ---- jinja_text.c: values as text ---- */

void jv_write(struct jinja *j, struct jbuf *b, const struct jv *v);	 /* str() */
void jv_write_repr(struct jinja *j, struct jbuf *b, const struct jv *v); /* repr() */
struct jstr *jv_to_str(struct jinja *j, const struct jv *v); /* str(): a str is itself */
/* Return the length; a NUL stands behind it. */
size_t jint_text(jint i, char out[48]);	    /* decimal */
size_t jfloat_text(double f, char out[40]); /* repr() */
/* int() and float() of a text; false: it is none. */
bool jint_parse(struct jinja *j, const struct jstr *s, unsigned base, jint *ret);
bool jfloat_parse(const struct jstr *s, double *ret);
struct jstr *jstr_escape(struct jinja *j, const struct jstr *s); /* HTML; safe */

/* ---- jinja_json.c ---- */

/* @o is borrowed and copied; its texts are @trusted or not. */
struct jv jv_from_json(struct jinja *j, struct json_object *o, bool trusted);

/* ---- jinja_number.c ---- */

/* @op as of N_BINARY. Numbers beyond 128 bits fail. */
struct jv jv_binary(struct jinja *j, uint8_t op, const struct jv *a, const struct jv *b);
struct jv jv_negate(struct jinja *j, const struct jv *v, bool minus);
double jfloat_round(double f, int digits); /* Python's round() */

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
/* Without the characters in @chars at its ends, NULL: white space. */
struct jstr *jstr_strip(struct jinja *j, const struct jstr *s, const struct jstr *chars, bool left,
			bool right);

#endif
