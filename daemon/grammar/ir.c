/* SPDX-License-Identifier: MIT */
/* daemon/grammar/ir.c: see ir.h. */
#include "grammar/ir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/stop.h"

/* Room for @more elements behind @n; false: the arena's error is set. */
static bool grow(struct ir *ir, void **p, size_t *room, size_t n, size_t more, size_t size,
		 size_t limit)
{
	size_t want;
	void *q;

	if (!ir_goes_on(ir))
		return false;
	if (more > limit || n > limit - more) {
		ir->error = -E2BIG;
		return false;
	}
	if (n + more <= *room)
		return true;
	want = *room ? *room * 2 : 64;
	if (want < n + more)
		want = n + more;
	q = realloc(*p, want * size);
	if (!q) {
		ir->error = -ENOMEM;
		return false;
	}
	*p = q;
	*room = want;
	return true;
}

#define GROW(ir, what, more, limit)                                              \
	grow(ir, (void **)&(ir)->what, &(ir)->room_##what, (ir)->n_##what, more, \
	     sizeof(*(ir)->what), limit)

static ir_node add(struct ir *ir, enum ir_kind kind, uint32_t at, uint32_t n)
{
	if (!GROW(ir, nodes, 1, IR_MAX_NODES))
		return ir_fail();
	ir->nodes[ir->n_nodes] = (struct ir_item){ .kind = (uint8_t)kind, .at = at, .n = n };
	return (ir_node)ir->n_nodes++;
}

int ir_create(struct ir **ret)
{
	struct ir *ir = calloc(1, sizeof(*ir));

	if (!ir)
		return -ENOMEM;
	add(ir, IR_FAIL, 0, 0);
	add(ir, IR_EMPTY, 0, 0);
	if (ir->error) {
		ir_destroy(ir);
		return -ENOMEM;
	}
	*ret = ir;
	return 0;
}

void ir_destroy(struct ir *ir)
{
	if (!ir)
		return;
	for (size_t i = 0; ir->names && i < ir->n_rules; i++)
		free((void *)(uintptr_t)ir->names[i]);
	free(ir->nodes);
	free(ir->sets);
	free(ir->text);
	free(ir->ranges);
	free(ir->children);
	free(ir->rules);
	free(ir->names);
	free(ir);
}

int ir_error(const struct ir *ir)
{
	return ir->error;
}

void ir_set_error(struct ir *ir, int error)
{
	ir->error = ir->error ? ir->error : error;
}

void ir_stop_at(struct ir *ir, const struct grammar_stop *stop)
{
	ir->stop = stop;
}

bool ir_goes_on(struct ir *ir)
{
	if (!ir->error)
		ir->error = stop_look(ir->stop, &ir->rounds);
	return !ir->error;
}

ir_node ir_bytes(struct ir *ir, const struct ir_set *set)
{
	if (!(set->bits[0] | set->bits[1] | set->bits[2] | set->bits[3]))
		return ir_fail();
	if (!GROW(ir, sets, 1, IR_MAX_NODES))
		return ir_fail();
	ir->sets[ir->n_sets] = *set;
	return add(ir, IR_BYTES, (uint32_t)ir->n_sets++, 0);
}

ir_node ir_byte_range(struct ir *ir, unsigned lo, unsigned hi)
{
	struct ir_set set = { 0 };

	for (unsigned b = lo; b <= hi && b < 256; b++)
		set.bits[b / 64] |= 1ull << b % 64;
	return ir_bytes(ir, &set);
}

ir_node ir_text(struct ir *ir, const void *bytes, size_t n)
{
	uint32_t at = (uint32_t)ir->n_text;

	if (!n)
		return ir->error ? ir_fail() : ir_empty();
	if (!GROW(ir, text, n, IR_MAX_BYTES))
		return ir_fail();
	memcpy(ir->text + at, bytes, n);
	ir->n_text += n;
	return add(ir, IR_TEXT, at, (uint32_t)n);
}

ir_node ir_string(struct ir *ir, const char *text)
{
	return ir_text(ir, text, strlen(text));
}

/* Of sorted ranges those parts that are no surrogates. */
static void add_range(struct ir *ir, uint32_t lo, uint32_t hi)
{
	if (hi > IR_MAX_CODE)
		hi = IR_MAX_CODE;
	if (lo >= 0xd800 && lo <= 0xdfff)
		lo = 0xe000;
	if (hi >= 0xd800 && hi <= 0xdfff)
		hi = 0xd7ff;
	if (lo > hi)
		return;
	if (lo < 0xd800 && hi > 0xdfff) {
		add_range(ir, lo, 0xd7ff);
		lo = 0xe000;
	}
	if (GROW(ir, ranges, 1, IR_MAX_NODES))
		ir->ranges[ir->n_ranges++] = (struct ir_range){ lo, hi };
}

ir_node ir_chars(struct ir *ir, const struct ir_range *ranges, size_t n)
{
	struct ir_chars_set s = { 0 };
	uint32_t at = (uint32_t)ir->n_ranges;

	for (size_t i = 0; i < n; i++)
		if (!ir_set_add(&s, ranges[i].lo, ranges[i].hi))
			ir_set_error(ir, -E2BIG);
	ir_set_sort(&s);
	for (size_t i = 0; i < s.n; i++)
		add_range(ir, s.ranges[i].lo, s.ranges[i].hi);
	ir_set_done(&s);
	if (ir->error || ir->n_ranges == at)
		return ir_fail();
	return add(ir, IR_CHARS, at, (uint32_t)(ir->n_ranges - at));
}

static ir_node add_children(struct ir *ir, enum ir_kind kind, const ir_node *nodes, size_t n,
			    ir_node skip)
{
	uint32_t at = (uint32_t)ir->n_children;

	if (!GROW(ir, children, n, IR_MAX_NODES * 4))
		return ir_fail();
	for (size_t i = 0; i < n; i++)
		if (nodes[i] != skip)
			ir->children[ir->n_children++] = nodes[i];
	return add(ir, kind, at, (uint32_t)(ir->n_children - at));
}

/* How many of them are not @skip, and the last of those. */
static size_t count_but(const ir_node *nodes, size_t n, ir_node skip, ir_node *ret_last)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		if (nodes[i] != skip) {
			*ret_last = nodes[i];
			count++;
		}
	return count;
}

ir_node ir_seq(struct ir *ir, const ir_node *nodes, size_t n)
{
	ir_node last = ir_empty();
	size_t count = count_but(nodes, n, ir_empty(), &last);

	for (size_t i = 0; i < n; i++)
		if (nodes[i] == ir_fail())
			return ir_fail();
	return count <= 1 ? last : add_children(ir, IR_SEQ, nodes, n, ir_empty());
}

ir_node ir_alt(struct ir *ir, const ir_node *nodes, size_t n)
{
	ir_node last = ir_fail();
	size_t count = count_but(nodes, n, ir_fail(), &last);

	return count <= 1 ? last : add_children(ir, IR_ALT, nodes, n, ir_fail());
}

ir_node ir_rep(struct ir *ir, ir_node node, uint32_t min, uint32_t max)
{
	ir_node rep;

	if (ir->error || max < min)
		return ir_fail();
	if (!max || node == ir_empty())
		return ir_empty();
	if (node == ir_fail())
		return min ? ir_fail() : ir_empty();
	if (min == 1 && max == 1)
		return node;
	rep = add(ir, IR_REP, node, 0);
	ir->nodes[rep].min = ir->error ? 0 : min;
	ir->nodes[rep].max = ir->error ? 0 : max;
	return rep;
}

uint32_t ir_rule(struct ir *ir, const char *name, size_t name_n)
{
	char *copy = NULL;

	if (!GROW(ir, rules, 1, IR_MAX_RULES) ||
	    !grow(ir, (void **)&ir->names, &ir->room_names, ir->n_rules, 1, sizeof(*ir->names),
		  IR_MAX_RULES))
		return 0;
	if (name) {
		copy = strndup(name, name_n < 100 ? name_n : 100);
		if (!copy) {
			ir->error = -ENOMEM;
			return 0;
		}
	}
	ir->rules[ir->n_rules] = ir_fail();
	ir->names[ir->n_rules] = copy;
	return (uint32_t)ir->n_rules++;
}

void ir_rule_set(struct ir *ir, uint32_t rule, ir_node node)
{
	if (rule < ir->n_rules)
		ir->rules[rule] = node;
}

ir_node ir_ref(struct ir *ir, uint32_t rule)
{
	return add(ir, IR_REF, rule, 0);
}

void ir_push(struct ir *ir, struct ir_list *l, ir_node node)
{
	if (grow(ir, (void **)&l->nodes, &l->room, l->n, 1, sizeof(*l->nodes), IR_MAX_NODES))
		l->nodes[l->n++] = node;
}

void ir_list_done(struct ir_list *l)
{
	free(l->nodes);
	*l = (struct ir_list){ 0 };
}

/* ---- sets of code points ---- */

bool ir_set_add(struct ir_chars_set *s, uint32_t lo, uint32_t hi)
{
	struct ir_range *q;
	size_t room;

	hi = hi < IR_MAX_CODE ? hi : IR_MAX_CODE;
	if (s->n == s->room) {
		if (s->room >= IR_SET_MAX)
			return false;
		room = s->room ? s->room * 2 : 16;
		q = realloc(s->ranges, room * sizeof(*q));
		if (!q)
			return false;
		s->ranges = q;
		s->room = room;
	}
	if (lo <= hi)
		s->ranges[s->n++] = (struct ir_range){ lo, hi };
	return true;
}

static int by_lo(const void *a, const void *b)
{
	const struct ir_range *x = a, *y = b;

	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

void ir_set_sort(struct ir_chars_set *s)
{
	size_t n = 0;

	if (!s->n)
		return;
	qsort(s->ranges, s->n, sizeof(*s->ranges), by_lo);
	for (size_t i = 1; i < s->n; i++) {
		struct ir_range *last = &s->ranges[n], r = s->ranges[i];

		if (r.lo <= last->hi || r.lo == last->hi + 1)
			last->hi = r.hi > last->hi ? r.hi : last->hi;
		else
			s->ranges[++n] = r;
	}
	s->n = n + 1;
}

bool ir_set_invert(struct ir_chars_set *s)
{
	struct ir_chars_set out = { 0 };
	uint32_t next = 0;
	bool ok = true;

	for (size_t i = 0; i < s->n && ok; i++) {
		if (s->ranges[i].lo > next)
			ok = ir_set_add(&out, next, s->ranges[i].lo - 1);
		next = s->ranges[i].hi + 1;
	}
	if (ok && next <= IR_MAX_CODE)
		ok = ir_set_add(&out, next, IR_MAX_CODE);
	ir_set_done(s);
	*s = out;
	return ok;
}

bool ir_set_has(const struct ir_chars_set *s, uint32_t c)
{
	for (size_t i = 0; i < s->n; i++)
		if (c >= s->ranges[i].lo && c <= s->ranges[i].hi)
			return true;
	return false;
}

void ir_set_done(struct ir_chars_set *s)
{
	free(s->ranges);
	*s = (struct ir_chars_set){ 0 };
}
