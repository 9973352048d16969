/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/program.h: a grammar as instructions of a pushdown automaton over bytes: the one
 * representation that GBNF, regular expressions and JSON schemas all become.
 *
 *	BYTES set -> a		takes a byte of the set
 *	SPLIT a, b		both
 *	CALL a, b		pushes b, goes to a
 *	RETURN			pops a frame and goes where it says
 *	LOOP a, b, bounds	pushes itself with a counter of 0 and goes to a; a RETURN to it counts:
 *				below max it goes to a again, from min on it goes (without the frame) to b
 *	ACCEPT			the text may end here
 *
 * A call in the last place of a rule is a jump, so rules that end in themselves need no stack. A
 * counter costs one instruction whatever its bounds. Alternatives that no text can complete are left
 * out, so every instruction that is reached can be brought to an end. Constant once made; any thread.
 */
#ifndef SLUICE_GRAMMAR_PROGRAM_H
#define SLUICE_GRAMMAR_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "grammar/ir.h"

enum op { OP_FAIL, OP_BYTES, OP_SPLIT, OP_JUMP, OP_CALL, OP_RETURN, OP_LOOP, OP_ACCEPT };

#define PROGRAM_MAX_CODE (1u << 19)
#define PC_FAIL		 0u
#define PC_RETURN	 1u
#define PC_ACCEPT	 2u

struct insn {
	uint32_t a, b;
	uint32_t x; /* BYTES: the set; LOOP: the bounds */
	uint8_t op; /* enum op */
};

struct bounds {
	uint32_t min, max; /* IR_UNBOUNDED: no maximum */
};

struct program {
	struct insn *code;
	struct ir_set *sets;
	struct bounds *bounds;
	uint32_t n_code, n_sets, n_bounds;
	uint32_t start;
	/* Bytes that no set tells apart are of one class. */
	uint8_t class_of[256];
	uint32_t n_classes;
	uint8_t byte_of[256];  /* one byte of each class */
	uint32_t most_counted; /* largest finite bound of a LOOP */
};

/*
 * Compiles rule @root of @ir. 0; -EINVAL and a sentence: a rule that begins with itself, or no text
 * fits; -E2BIG: a limit was passed; -ENOMEM. @ir is not needed afterwards.
 */
int program_create(const struct ir *ir, uint32_t root, struct program **ret, struct err *err);
/* The same of a node, in a rule of its own. */
int program_of_node(struct ir *ir, ir_node node, struct program **ret, struct err *err);
void program_destroy(struct program *p); /* NULL is fine */
size_t program_bytes(const struct program *p);

/* program_facts.c: what holds of each node, in time linear in the arena. */
struct ir_facts {
	uint8_t *nullable;   /* the empty text fits; per node */
	uint8_t *productive; /* some text fits */
};

/* 0 or -ENOMEM. */
int ir_facts_init(const struct ir *ir, struct ir_facts *ret);
void ir_facts_fini(struct ir_facts *f);

/* 0, -ENOMEM, or -EINVAL and a sentence that names a rule which can begin with itself. */
int ir_check_left(const struct ir *ir, const struct ir_facts *f, struct err *err);

/* utf8_ranges.c: a range of code points as sequences of byte ranges, called one by one. */
struct utf8_seq {
	unsigned n;
	uint8_t lo[4], hi[4];
};

typedef void (*utf8_seq_fn)(void *arg, const struct utf8_seq *s);
void utf8_split(uint32_t lo, uint32_t hi, utf8_seq_fn fn, void *arg);

#endif
