/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/ir.h: what GBNF, regular expressions and JSON schemas are read into: rules over
 * bytes and code points, before they become a program (program.h).
 *
 * Nodes are numbers in one arena and may be shared; a rule may name any other, itself included.
 * Bounds of repetitions are kept as numbers, however large. Sizes are limited (IR_MAX_*). An arena
 * that ran out of memory or over a limit remembers it (ir_error()), and every node made after that
 * is ir_fail(), so that whoever builds asks once, at the end. One thread at a time.
 */
#ifndef SLUICE_GRAMMAR_IR_H
#define SLUICE_GRAMMAR_IR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct grammar_stop;
typedef uint32_t ir_node;

#define IR_UNBOUNDED UINT32_MAX /* a repetition without an upper bound */
#define IR_MAX_NODES (1u << 20)
#define IR_MAX_RULES (1u << 17)
#define IR_MAX_BYTES (16u << 20) /* of texts */
#define IR_MAX_CODE  0x10ffff

enum ir_kind {
	IR_FAIL,  /* no text at all; node 0 */
	IR_EMPTY, /* the empty text; node 1 */
	IR_BYTES, /* one byte of a set */
	IR_TEXT,  /* these bytes */
	IR_CHARS, /* one code point of a set, in UTF-8 */
	IR_SEQ,	  /* children one after the other */
	IR_ALT,	  /* one of the children */
	IR_REP,	  /* the child, min to max times */
	IR_REF,	  /* a rule */
	IR_KIND_NR
};

struct ir_range {
	uint32_t lo, hi; /* inclusive */
};

struct ir_item {
	uint8_t kind;	   /* enum ir_kind */
	uint32_t at, n;	   /* BYTES: set @at; TEXT, CHARS, SEQ, ALT: n from @at of their pool; REP:
			    * child @at; REF: rule @at */
	uint32_t min, max; /* REP */
};

struct ir_set {
	uint64_t bits[4];
};

/* Read by program.c; written by the functions below only. */
struct ir {
	struct ir_item *nodes;
	struct ir_set *sets;
	uint8_t *text;
	struct ir_range *ranges;
	ir_node *children;
	ir_node *rules;
	const char **names; /* of rules, for sentences; NULL: none. Owned */
	size_t n_nodes, n_sets, n_text, n_ranges, n_children, n_rules;
	size_t room_nodes, room_sets, room_text, room_ranges, room_children, room_rules, room_names;
	int error;
	const struct grammar_stop *stop; /* NULL: none */
	uint32_t rounds;
	/*
	 * Of JSON strings that are made from here on: behind a < this character ('/' or '|') is not written
	 * as it is but escaped, so that no string can be taken for a tag or a control token. 0: none.
	 */
	char guard;
};

/* 0 or -ENOMEM. */
int ir_create(struct ir **ret);
void ir_destroy(struct ir *ir); /* NULL is fine */

/* 0, -ENOMEM, -E2BIG: a limit was passed; -ECANCELED, -ETIME: it was stopped (stop.h). */
int ir_error(const struct ir *ir);
/* The first error stays. */
void ir_set_error(struct ir *ir, int error);
/* From here on whatever is made looks at @stop, which is borrowed; NULL: none. */
void ir_stop_at(struct ir *ir, const struct grammar_stop *stop);
/* One more round of work that makes no node: false where the arena has an error. */
bool ir_goes_on(struct ir *ir);

static inline ir_node ir_fail(void)
{
	return 0;
}

static inline ir_node ir_empty(void)
{
	return 1;
}

/* One byte of a set of 256 bits; a set without any is ir_fail(). */
ir_node ir_bytes(struct ir *ir, const struct ir_set *set);
/* One byte of [lo, hi]. */
ir_node ir_byte_range(struct ir *ir, unsigned lo, unsigned hi);
/* Exactly these @n bytes. */
ir_node ir_text(struct ir *ir, const void *bytes, size_t n);
ir_node ir_string(struct ir *ir, const char *text); /* ... up to a NUL */
/* One code point of @n ranges in any order, which may overlap; surrogates are left out. */
ir_node ir_chars(struct ir *ir, const struct ir_range *ranges, size_t n);

ir_node ir_seq(struct ir *ir, const ir_node *nodes, size_t n);
ir_node ir_alt(struct ir *ir, const ir_node *nodes, size_t n);
ir_node ir_rep(struct ir *ir, ir_node node, uint32_t min, uint32_t max);

/* A rule that is filled in later (until then: no text). @name may be NULL; copied. */
uint32_t ir_rule(struct ir *ir, const char *name, size_t name_n);
void ir_rule_set(struct ir *ir, uint32_t rule, ir_node node);
ir_node ir_ref(struct ir *ir, uint32_t rule);

#define IR_SEQ_OF(ir, ...)                           \
	ir_seq(ir, (const ir_node[]){ __VA_ARGS__ }, \
	       sizeof((const ir_node[]){ __VA_ARGS__ }) / sizeof(ir_node))
#define IR_ALT_OF(ir, ...)                           \
	ir_alt(ir, (const ir_node[]){ __VA_ARGS__ }, \
	       sizeof((const ir_node[]){ __VA_ARGS__ }) / sizeof(ir_node))

/* A list of nodes that grows; ir_list_done() frees it. No memory: the arena's error. */
struct ir_list {
	ir_node *nodes;
	size_t n, room;
};

void ir_push(struct ir *ir, struct ir_list *l, ir_node node);
void ir_list_done(struct ir_list *l);

/*
 * Sets of code points as lists of ranges: sorted, without overlaps, at most IR_SET_MAX. For classes
 * in brackets and for what a JSON string may hold.
 */
#define IR_SET_MAX 4096
struct ir_chars_set {
	struct ir_range *ranges; /* owned */
	size_t n, room;
};

/* False: no memory, or too many ranges. */
bool ir_set_add(struct ir_chars_set *s, uint32_t lo, uint32_t hi);
void ir_set_sort(struct ir_chars_set *s);
/* All code points that are not in the sorted @s. */
bool ir_set_invert(struct ir_chars_set *s);
bool ir_set_has(const struct ir_chars_set *s, uint32_t c);
void ir_set_done(struct ir_chars_set *s);

#endif
