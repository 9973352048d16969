/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/program.c: rules to instructions. See program.h.
 *
 * Code is made from its end: each node is told where to go on and returns where it begins, so
 * what is alike behind two alternatives is one piece of code (BYTES with the same set and the same
 * sequel are one instruction). A counted repetition of what may be empty would count rounds that
 * take nothing; its body is made in a second form that always takes a byte, and its minimum is 0.
 */
#include "grammar/program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar.h"
#include "grammar/stop.h"

#define MAX_DEPTH 2000 /* of nodes; builders stay far below */

struct table { /* open addressing; values + 1, 0: free */
	uint32_t *slots;
	uint32_t n, room;
};

struct emit {
	const struct ir *ir;
	struct ir_facts facts;
	struct program *p;
	uint32_t room_code, room_sets, room_bounds;
	struct table codes, sets;
	uint32_t *entry[2]; /* per rule, and its form that takes something; 0: not made yet */
	struct {
		uint32_t rule, form;
	} * todo;
	size_t n_todo, room_todo;
	unsigned depth;
	int error;
	uint32_t rounds;
};

static uint32_t emit(struct emit *e, ir_node node, uint32_t next);
static uint32_t emit_some(struct emit *e, ir_node node, uint32_t next);

/* ---- arrays that grow ---- */

static bool grow(struct emit *e, void **p, uint32_t *room, uint32_t n, size_t size, uint32_t limit)
{
	void *q;

	if (!e->error)
		e->error = stop_look(e->ir->stop, &e->rounds);
	if (e->error)
		return false;
	if (n < *room)
		return true;
	if (n >= limit) {
		e->error = -E2BIG;
		return false;
	}
	*room = *room ? *room * 2 : 256;
	q = realloc(*p, *room * size);
	if (!q) {
		e->error = -ENOMEM;
		return false;
	}
	*p = q;
	return true;
}

static uint64_t mix(uint64_t h, uint64_t x)
{
	h = (h ^ x) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

typedef uint64_t (*hash_fn)(const struct program *p, uint32_t i);

static uint64_t hash_set(const struct program *p, uint32_t i)
{
	const uint64_t *b = p->sets[i].bits;

	return mix(mix(mix(mix(1, b[0]), b[1]), b[2]), b[3]);
}

static uint64_t hash_code(const struct program *p, uint32_t i)
{
	return mix(mix(2, p->code[i].a), p->code[i].x);
}

/* Doubles the table when it is half full. */
static bool table_room(struct emit *e, struct table *t, hash_fn hash)
{
	uint32_t *old = t->slots, room = t->room;

	if (t->n * 2 < t->room)
		return true;
	t->room = room ? room * 2 : 1024;
	t->slots = calloc(t->room, sizeof(*t->slots));
	if (!t->slots) {
		t->slots = old;
		t->room = room;
		e->error = -ENOMEM;
		return false;
	}
	for (uint32_t i = 0; i < room; i++) {
		uint32_t k;

		if (!old[i])
			continue;
		k = (uint32_t)hash(e->p, old[i] - 1) & (t->room - 1);
		while (t->slots[k])
			k = (k + 1) & (t->room - 1);
		t->slots[k] = old[i];
	}
	free(old);
	return true;
}

static uint32_t code(struct emit *e, enum op op, uint32_t a, uint32_t b, uint32_t x)
{
	struct program *p = e->p;

	if (!grow(e, (void **)&p->code, &e->room_code, p->n_code, sizeof(*p->code),
		  PROGRAM_MAX_CODE))
		return PC_FAIL;
	p->code[p->n_code] = (struct insn){ .op = (uint8_t)op, .a = a, .b = b, .x = x };
	return p->n_code++;
}

/* The number of a set of bytes. */
static uint32_t set_number(struct emit *e, const struct ir_set *set)
{
	struct program *p = e->p;
	uint32_t k;

	if (!grow(e, (void **)&p->sets, &e->room_sets, p->n_sets, sizeof(*p->sets), 1u << 20) ||
	    !table_room(e, &e->sets, hash_set))
		return 0;
	p->sets[p->n_sets] = *set;
	k = (uint32_t)hash_set(p, p->n_sets) & (e->sets.room - 1);
	for (; e->sets.slots[k]; k = (k + 1) & (e->sets.room - 1))
		if (!memcmp(&p->sets[e->sets.slots[k] - 1], set, sizeof(*set)))
			return e->sets.slots[k] - 1;
	e->sets.slots[k] = p->n_sets + 1;
	e->sets.n++;
	return p->n_sets++;
}

static uint32_t bytes(struct emit *e, const struct ir_set *set, uint32_t next)
{
	struct program *p = e->p;
	uint32_t x, pc, k;

	if (next == PC_FAIL)
		return PC_FAIL;
	x = set_number(e, set);
	pc = code(e, OP_BYTES, next, 0, x);
	if (e->error || !table_room(e, &e->codes, hash_code))
		return PC_FAIL;
	k = (uint32_t)hash_code(p, pc) & (e->codes.room - 1);
	for (; e->codes.slots[k]; k = (k + 1) & (e->codes.room - 1)) {
		const struct insn *c = &p->code[e->codes.slots[k] - 1];

		if (c->a == next && c->x == x) {
			p->n_code--; /* there is one already */
			return e->codes.slots[k] - 1;
		}
	}
	e->codes.slots[k] = pc + 1;
	e->codes.n++;
	return pc;
}

static uint32_t byte_range(struct emit *e, unsigned lo, unsigned hi, uint32_t next)
{
	struct ir_set set = { 0 };

	for (unsigned b = lo; b <= hi; b++)
		set.bits[b / 64] |= 1ull << b % 64;
	return bytes(e, &set, next);
}

static uint32_t split(struct emit *e, uint32_t a, uint32_t b)
{
	if (a == PC_FAIL || a == b)
		return b;
	return b == PC_FAIL ? a : code(e, OP_SPLIT, a, b, 0);
}

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
		tail = byte_range(h->e, s->lo[k], s->hi[k], tail);
	for (i = 0; i < h->n; i++)
		if (h->at[i].tail == tail)
			break;
	if (i == HEADS) {
		h->e->error = h->e->error ? h->e->error : -E2BIG;
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
		e->error = -ENOMEM;
		return PC_FAIL;
	}
	h->e = e;
	h->next = next;
	for (uint32_t i = 0; i < n->n && !e->error; i++)
		utf8_split(e->ir->ranges[n->at + i].lo, e->ir->ranges[n->at + i].hi, add_sequence,
			   h);
	for (uint32_t i = 0; i < h->n && !e->error; i++)
		pc = split(e, bytes(e, &h->at[i].set, h->at[i].tail), pc);
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
			e->error = -ENOMEM;
			return PC_FAIL;
		}
		e->todo = q;
		e->room_todo = room;
	}
	e->todo[e->n_todo].rule = rule;
	e->todo[e->n_todo++].form = form;
	/* a jump that is turned to the rule's code when that is made */
	return e->entry[form][rule] = code(e, OP_JUMP, PC_FAIL, 0, 0);
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
	if (next == PC_RETURN || e->error)
		return entry;
	/* a frame that names a LOOP is a round of it; this one only goes there */
	if (e->p->code[next].op == OP_LOOP)
		next = code(e, OP_JUMP, next, 0, 0);
	return code(e, OP_CALL, entry, next, 0);
}

static uint32_t loop(struct emit *e, uint32_t min, uint32_t max, ir_node body, uint32_t next)
{
	struct program *p = e->p;
	bool nullable = e->facts.nullable[body];
	uint32_t pc, at;

	if (!grow(e, (void **)&p->bounds, &e->room_bounds, p->n_bounds, sizeof(*p->bounds),
		  PROGRAM_MAX_CODE))
		return PC_FAIL;
	p->bounds[p->n_bounds] = (struct bounds){ nullable ? 0 : min, max };
	pc = code(e, OP_LOOP, PC_FAIL, next, p->n_bounds++);
	at = nullable ? emit_some(e, body, PC_RETURN) : emit(e, body, PC_RETURN);
	if (!e->error)
		p->code[pc].a = at;
	return pc;
}

static uint32_t emit_rep(struct emit *e, const struct ir_item *n, uint32_t next)
{
	uint32_t pc;

	if (!e->facts.productive[n->at])
		return n->min ? PC_FAIL : next;
	if (n->max == 1)
		return split(e, emit(e, n->at, next), n->min ? PC_FAIL : next);
	if (n->max != IR_UNBOUNDED || n->min > 1)
		return loop(e, n->min, n->max, n->at, next);
	pc = code(e, OP_SPLIT, PC_FAIL, next, 0);
	if (!e->error) {
		uint32_t at = emit(e, n->at, pc);

		e->p->code[pc].a = at;
		return n->min ? at : pc;
	}
	return PC_FAIL;
}

static uint32_t emit_text(struct emit *e, const struct ir_item *n, uint32_t next)
{
	for (uint32_t i = n->n; i-- > 0 && !e->error;)
		next = byte_range(e, e->ir->text[n->at + i], e->ir->text[n->at + i], next);
	return next;
}

static bool too_deep(struct emit *e)
{
	if (e->depth < MAX_DEPTH)
		return false;
	e->error = e->error ? e->error : -E2BIG;
	return true;
}

static uint32_t emit(struct emit *e, ir_node node, uint32_t next)
{
	const struct ir_item *n = &e->ir->nodes[node];
	uint32_t pc = PC_FAIL;

	if (e->error || too_deep(e) || !e->facts.productive[node])
		return PC_FAIL;
	e->depth++;
	switch (n->kind) {
	case IR_EMPTY:
		pc = next;
		break;
	case IR_BYTES:
		pc = bytes(e, &e->ir->sets[n->at], next);
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
			pc = split(e, emit(e, e->ir->children[n->at + i], next), pc);
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

		some = e->facts.nullable[x] ? split(e, here, some) : here;
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
	if (e->error || too_deep(e))
		return PC_FAIL;
	e->depth++;
	switch (n->kind) {
	case IR_SEQ:
		pc = emit_seq_some(e, n, next);
		break;
	case IR_ALT:
		for (uint32_t i = n->n; i-- > 0;)
			pc = split(e, emit_some(e, e->ir->children[n->at + i], next), pc);
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
		    e->facts.nullable[n->at] && !e->error)
			e->p->bounds[e->p->code[pc].x].min = 1;
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

/* Bytes that every set has both or none of become one class. */
static int find_classes(struct emit *e)
{
	uint16_t class_of[256] = { 0 };
	struct program *p = e->p;
	uint32_t n = 1;

	for (uint32_t s = 0; s < p->n_sets && n < 256 && !e->error; s++) {
		uint16_t moved[256]; /* class -> the class of its members within the set */
		uint16_t inside[256] = { 0 }, all[256] = { 0 };

		for (unsigned b = 0; b < 256; b++) {
			all[class_of[b]]++;
			inside[class_of[b]] += p->sets[s].bits[b / 64] >> b % 64 & 1;
		}
		for (uint32_t c = 0, old = n; c < old; c++)
			moved[c] = (uint16_t)(inside[c] && inside[c] < all[c] ? n++ : c);
		for (unsigned b = 0; b < 256; b++)
			if (p->sets[s].bits[b / 64] >> b % 64 & 1)
				class_of[b] = moved[class_of[b]];
		e->error = stop_look(e->ir->stop, &e->rounds);
	}
	p->n_classes = n;
	for (unsigned b = 256; b-- > 0;) {
		p->class_of[b] = (uint8_t)class_of[b];
		p->byte_of[class_of[b]] = (uint8_t)b;
	}
	return e->error;
}

static int emit_all(struct emit *e, uint32_t root)
{
	uint32_t entry;

	code(e, OP_FAIL, 0, 0, 0);
	code(e, OP_RETURN, 0, 0, 0);
	code(e, OP_ACCEPT, 0, 0, 0);
	e->p->start = rule_entry(e, root, 0);
	while (e->n_todo && !e->error) {
		uint32_t rule = e->todo[--e->n_todo].rule, form = e->todo[e->n_todo].form;
		ir_node node = e->ir->rules[rule];

		entry = form ? emit_some(e, node, PC_RETURN) : emit(e, node, PC_RETURN);
		if (!e->error)
			e->p->code[e->entry[form][rule]].a = entry;
	}
	return e->error;
}

static void find_counted(struct program *p)
{
	for (uint32_t i = 0; i < p->n_bounds; i++) {
		const struct bounds *b = &p->bounds[i];
		uint32_t most = b->max == IR_UNBOUNDED ? b->min : b->max;

		if (most > p->most_counted)
			p->most_counted = most;
	}
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
	rc = rc ? rc : find_classes(e);
	if (!rc)
		find_counted(e->p);
	return rc;
}

/* Arrays grew by doubling; a program is kept for long. */
static void *fit(void *array, size_t n, size_t size)
{
	void *p = n ? realloc(array, n * size) : NULL;

	return p ? p : array;
}

int program_create(const struct ir *ir, uint32_t root, struct program **ret, struct err *err)
{
	struct emit e = { .ir = ir };
	int rc = ir_error(ir);

	if (rc == -E2BIG)
		err_set(err, rc, "it is too large");
	e.p = rc ? NULL : calloc(1, sizeof(*e.p));
	rc = rc ? rc : e.p ? compile(&e, root, err) : -ENOMEM;
	grammar_say(rc, err);
	ir_facts_fini(&e.facts);
	free(e.codes.slots);
	free(e.sets.slots);
	free(e.entry[0]);
	free(e.entry[1]);
	free(e.todo);
	if (rc) {
		program_destroy(e.p);
		return rc;
	}
	e.p->code = fit(e.p->code, e.p->n_code, sizeof(*e.p->code));
	e.p->sets = fit(e.p->sets, e.p->n_sets, sizeof(*e.p->sets));
	e.p->bounds = fit(e.p->bounds, e.p->n_bounds, sizeof(*e.p->bounds));
	*ret = e.p;
	return 0;
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
