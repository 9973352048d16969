/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/program.c: rules to instructions. See program.h.
 *
 * Code is made from its end: each node is told where to go on and returns where it begins, so
 * what is alike behind two alternatives is one piece of code (program_pool.h). A counted repetition of
 * what may be empty would count rounds that take nothing; its body is made in a second form that always
 * takes a byte, and its minimum is 0.
 */
#include "grammar/program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar.h"
#include "grammar/program_pool.h"

#define MAX_DEPTH 2000 /* of nodes; builders stay far below */

struct emit {
	const struct ir *ir;
	struct ir_facts facts;
	struct pool out;
	uint32_t *entry[2]; /* per rule, and its form that takes something; 0: not made yet */
	struct {
		uint32_t rule, form;
	} * todo;
	size_t n_todo, room_todo;
	unsigned depth;
};

static uint32_t emit(struct emit *e, ir_node node, uint32_t next);
static uint32_t emit_some(struct emit *e, ir_node node, uint32_t next);

/* ---- code points ---- */

#define HEADS 512

/* First bytes by what follows them. */
struct heads {
	struct emit *e;
	uint32_t next, n;
	struct {
		uint32_t tail;
		struct ir_set set;
	} at[HEADS];
};

static void add_sequence(void *arg, const struct utf8_seq *s)
{
	struct heads *h = arg;
	uint32_t tail = h->next, i;

	for (unsigned k = s->n; k-- > 1;)
		tail = pool_range(&h->e->out, s->lo[k], s->hi[k], tail);
	for (i = 0; i < h->n; i++)
		if (h->at[i].tail == tail)
			break;
	if (i == HEADS) {
		h->e->out.error = h->e->out.error ? h->e->out.error : -E2BIG;
		return;
	}
	if (i == h->n) {
		memset(&h->at[i], 0, sizeof(h->at[i]));
		h->at[h->n++].tail = tail;
	}
	for (unsigned b = s->lo[0]; b <= s->hi[0]; b++)
		h->at[i].set.bits[b / 64] |= 1ull << b % 64;
}

static uint32_t emit_chars(struct emit *e, const struct ir_item *n, uint32_t next)
{
	struct heads *h = calloc(1, sizeof(*h));
	uint32_t pc = PC_FAIL;

	if (!h) {
		e->out.error = -ENOMEM;
		return PC_FAIL;
	}
	h->e = e;
	h->next = next;
	for (uint32_t i = 0; i < n->n && !e->out.error; i++)
		utf8_split(e->ir->ranges[n->at + i].lo, e->ir->ranges[n->at + i].hi, add_sequence,
			   h);
	for (uint32_t i = 0; i < h->n && !e->out.error; i++)
		pc = pool_split(&e->out, pool_bytes(&e->out, &h->at[i].set, h->at[i].tail), pc);
	free(h);
	return pc;
}

/* ---- nodes ---- */

static uint32_t rule_entry(struct emit *e, uint32_t rule, unsigned form)
{
	size_t room;
	void *q;

	if (e->entry[form][rule])
		return e->entry[form][rule];
	if (e->n_todo == e->room_todo) {
		room = e->room_todo ? e->room_todo * 2 : 64;
		q = realloc(e->todo, room * sizeof(*e->todo));
		if (!q) {
			e->out.error = -ENOMEM;
			return PC_FAIL;
		}
		e->todo = q;
		e->room_todo = room;
	}
	e->todo[e->n_todo].rule = rule;
	e->todo[e->n_todo++].form = form;
	/* a jump that is turned to the rule's code when that is made */
	return e->entry[form][rule] = pool_code(&e->out, OP_JUMP, PC_FAIL, 0, 0);
}

/* Small enough to stand wherever it is named: no frame is pushed for it. */
static bool is_small(const struct ir *ir, ir_node node)
{
	const struct ir_item *n = &ir->nodes[node];

	return n->kind <= IR_BYTES || n->kind == IR_CHARS || (n->kind == IR_TEXT && n->n <= 16);
}

static uint32_t emit_ref(struct emit *e, uint32_t rule, unsigned form, uint32_t next)
{
	ir_node node = e->ir->rules[rule];
	uint32_t entry;

	if (!e->facts.productive[node])
		return PC_FAIL;
	if (is_small(e->ir, node))
		return form ? emit_some(e, node, next) : emit(e, node, next);
	entry = rule_entry(e, rule, form);
	if (next == PC_RETURN || e->out.error)
		return entry;
	/* a frame that names a LOOP is a round of it; this one only goes there */
	if (e->out.p->code[next].op == OP_LOOP)
		next = pool_code(&e->out, OP_JUMP, next, 0, 0);
	return pool_code(&e->out, OP_CALL, entry, next, 0);
}

static uint32_t loop(struct emit *e, uint32_t min, uint32_t max, ir_node body, uint32_t next)
{
	bool nullable = e->facts.nullable[body];
	uint32_t bounds = pool_bounds(&e->out, nullable ? 0 : min, max);
	uint32_t pc = pool_code(&e->out, OP_LOOP, PC_FAIL, next, bounds), at;

	at = nullable ? emit_some(e, body, PC_RETURN) : emit(e, body, PC_RETURN);
	if (!e->out.error)
		e->out.p->code[pc].a = at;
	return pc;
}

static uint32_t emit_rep(struct emit *e, const struct ir_item *n, uint32_t next)
{
	uint32_t pc;

	if (!e->facts.productive[n->at])
		return n->min ? PC_FAIL : next;
	if (n->max == 1)
		return pool_split(&e->out, emit(e, n->at, next), n->min ? PC_FAIL : next);
	if (n->max != IR_UNBOUNDED || n->min > 1)
		return loop(e, n->min, n->max, n->at, next);
	pc = pool_code(&e->out, OP_SPLIT, PC_FAIL, next, 0);
	if (!e->out.error) {
		uint32_t at = emit(e, n->at, pc);

		e->out.p->code[pc].a = at;
		return n->min ? at : pc;
	}
	return PC_FAIL;
}

static uint32_t emit_text(struct emit *e, const struct ir_item *n, uint32_t next)
{
	for (uint32_t i = n->n; i-- > 0 && !e->out.error;)
		next = pool_range(&e->out, e->ir->text[n->at + i], e->ir->text[n->at + i], next);
	return next;
}

static bool too_deep(struct emit *e)
{
	if (e->depth < MAX_DEPTH)
		return false;
	e->out.error = e->out.error ? e->out.error : -E2BIG;
	return true;
}

static uint32_t emit(struct emit *e, ir_node node, uint32_t next)
{
	const struct ir_item *n = &e->ir->nodes[node];
	uint32_t pc = PC_FAIL;

	if (e->out.error || too_deep(e) || !e->facts.productive[node])
		return PC_FAIL;
	e->depth++;
	switch (n->kind) {
	case IR_EMPTY:
		pc = next;
		break;
	case IR_BYTES:
		pc = pool_bytes(&e->out, &e->ir->sets[n->at], next);
		break;
	case IR_TEXT:
		pc = emit_text(e, n, next);
		break;
	case IR_CHARS:
		pc = emit_chars(e, n, next);
		break;
	case IR_SEQ:
		pc = next;
		for (uint32_t i = n->n; i-- > 0;)
			pc = emit(e, e->ir->children[n->at + i], pc);
		break;
	case IR_ALT:
		for (uint32_t i = n->n; i-- > 0;)
			pc = pool_split(&e->out, emit(e, e->ir->children[n->at + i], next), pc);
		break;
	case IR_REP:
		pc = emit_rep(e, n, next);
		break;
	case IR_REF:
		pc = emit_ref(e, n->at, 0, next);
		break;
	default:
		break;
	}
	e->depth--;
	return pc;
}

/* x1 .. xn that takes a byte: x1 does and the rest is as it was, or x1 is empty and x2 .. xn does. */
static uint32_t emit_seq_some(struct emit *e, const struct ir_item *n, uint32_t next)
{
	uint32_t rest = next, some = PC_FAIL;

	for (uint32_t i = n->n; i-- > 0;) {
		ir_node x = e->ir->children[n->at + i];
		uint32_t here = emit_some(e, x, rest);

		some = e->facts.nullable[x] ? pool_split(&e->out, here, some) : here;
		rest = i ? emit(e, x, rest) : rest;
	}
	return some;
}

/* The texts of @node that are not empty. */
static uint32_t emit_some(struct emit *e, ir_node node, uint32_t next)
{
	const struct ir_item *n = &e->ir->nodes[node];
	uint32_t pc = PC_FAIL;

	if (!e->facts.nullable[node])
		return emit(e, node, next);
	if (e->out.error || too_deep(e))
		return PC_FAIL;
	e->depth++;
	switch (n->kind) {
	case IR_SEQ:
		pc = emit_seq_some(e, n, next);
		break;
	case IR_ALT:
		for (uint32_t i = n->n; i-- > 0;)
			pc = pool_split(&e->out, emit_some(e, e->ir->children[n->at + i], next),
					pc);
		break;
	case IR_REP:
		if (!e->facts.productive[n->at])
			break;
		if (n->max == 1)
			pc = emit_some(e, n->at, next);
		else if (n->max == IR_UNBOUNDED && n->min <= 1)
			pc = emit_some(e, n->at, emit_rep(e, n, next));
		else
			pc = loop(e, n->min > 1 ? n->min : 1, n->max, n->at, next);
		if (n->max != 1 && (n->max != IR_UNBOUNDED || n->min > 1) &&
		    e->facts.nullable[n->at] && !e->out.error)
			e->out.p->bounds[e->out.p->code[pc].x].min = 1;
		break;
	case IR_REF:
		pc = emit_ref(e, n->at, 1, next);
		break;
	default:
		break;
	}
	e->depth--;
	return pc;
}

/* ---- the whole ---- */

static int emit_all(struct emit *e, uint32_t root)
{
	uint32_t entry;

	pool_code(&e->out, OP_FAIL, 0, 0, 0);
	pool_code(&e->out, OP_RETURN, 0, 0, 0);
	pool_code(&e->out, OP_ACCEPT, 0, 0, 0);
	e->out.p->start = rule_entry(e, root, 0);
	while (e->n_todo && !e->out.error) {
		uint32_t rule = e->todo[--e->n_todo].rule, form = e->todo[e->n_todo].form;
		ir_node node = e->ir->rules[rule];

		entry = form ? emit_some(e, node, PC_RETURN) : emit(e, node, PC_RETURN);
		if (!e->out.error)
			e->out.p->code[e->entry[form][rule]].a = entry;
	}
	return e->out.error;
}

static int compile(struct emit *e, uint32_t root, struct err *err)
{
	int rc = ir_facts_init(e->ir, &e->facts);

	if (!rc)
		rc = ir_check_left(e->ir, &e->facts, err);
	if (rc)
		return rc;
	if (!e->facts.productive[e->ir->rules[root]])
		return err_set(err, -EINVAL, "no text fits: generation could never end");
	e->entry[0] = calloc(e->ir->n_rules, sizeof(**e->entry));
	e->entry[1] = calloc(e->ir->n_rules, sizeof(**e->entry));
	if (!e->entry[0] || !e->entry[1])
		return -ENOMEM;
	rc = emit_all(e, root);
	if (rc == -E2BIG)
		err_set(err, rc, "it is too large");
	return rc ? rc : pool_end(&e->out);
}

int program_create(const struct ir *ir, uint32_t root, struct program **ret, struct err *err)
{
	struct emit e = { .ir = ir };
	int rc = ir_error(ir);

	if (rc == -E2BIG)
		err_set(err, rc, "it is too large");
	rc = rc ? rc : pool_init(&e.out, ir->stop);
	rc = rc ? rc : compile(&e, root, err);
	grammar_say(rc, err);
	ir_facts_fini(&e.facts);
	free(e.entry[0]);
	free(e.entry[1]);
	free(e.todo);
	if (!rc)
		*ret = e.out.p;
	else
		program_destroy(e.out.p);
	pool_fini(&e.out);
	return rc;
}

int program_of_node(struct ir *ir, ir_node node, struct program **ret, struct err *err)
{
	uint32_t root = ir_rule(ir, NULL, 0);

	ir_rule_set(ir, root, node);
	return program_create(ir, root, ret, err);
}

void grammar_say(int code, struct err *err)
{
	if (code == -ENOMEM)
		err_set(err, code, "out of memory");
	if (code != -ECANCELED && code != -ETIME)
		return;
	err_clear(err); /* what was said on the way is a consequence */
	err_set(err, code,
		code == -ETIME ? "compiling it takes too long" : "it is not wanted any more");
}

size_t program_bytes(const struct program *p)
{
	return sizeof(*p) + p->n_code * sizeof(*p->code) + p->n_sets * sizeof(*p->sets) +
	       p->n_bounds * sizeof(*p->bounds);
}

void program_destroy(struct program *p)
{
	if (!p)
		return;
	free(p->code);
	free(p->sets);
	free(p->bounds);
	free(p);
}
