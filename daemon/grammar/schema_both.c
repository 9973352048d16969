/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_both.c: what several keywords say of one value, at once: a pattern and lengths, a
 * format and a pattern, multiples between bounds.
 *
 * Each part is a program of its own, made in an arena of its own, whose states a matcher numbers. A tuple of
 * such states, one of each part, becomes a rule: a byte that all parts take leads to the next tuple, and the
 * text may end where it may in all. So what comes out is exact whatever the parts are, and deterministic;
 * tuples that no text brings to an end are left out by program.c as ever. Counters are spelled out, hence the
 * limit: what has more states is refused by whoever asked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/matcher_impl.h"
#include "grammar/schema_impl.h"
#include "grammar/stop.h"

#define MAX_PARTS  3
#define MAX_TUPLES 16384 /* a quarter of a second, 20 MiB of nodes */
#define N_SLOTS	   (2 * MAX_TUPLES)
#define BYTE_STEPS 100000 /* of a matcher for one byte: a millisecond */
#define LOOK_STEPS 100000 /* after so many the stop is looked at */

struct tuple {
	uint32_t at[MAX_PARTS];
};

/* Bytes that no part tells apart. */
struct group {
	struct ir_set set;
	uint8_t byte; /* one of them */
};

struct both {
	struct schema *s;
	size_t n;
	struct program *p[MAX_PARTS];
	struct matcher *m[MAX_PARTS];
	struct group groups[256];
	unsigned n_groups;
	struct tuple *tuples;
	uint32_t *slots; /* number + 1 */
	uint32_t n_tuples, first_rule;
	uint64_t steps; /* since the stop was looked at */
	bool large;
};

int schema_part_program(struct schema *s, const struct schema_part *part, struct program **ret)
{
	struct schema own = *s;
	ir_node node = ir_fail();
	int rc;

	memset(own.shared, 0, sizeof(own.shared));
	rc = ir_create(&own.ir);
	if (rc)
		return rc;
	ir_stop_at(own.ir, s->ir->stop);
	own.ir->guard = s->ir->guard;
	rc = part->make(&own, part->arg, &node);
	if (!rc) {
		rc = program_of_node(own.ir, node, ret, s->err);
		if (rc == -EINVAL) { /* no text fits */
			err_clear(s->err);
			rc = 0;
		}
	}
	ir_destroy(own.ir);
	return rc;
}

static void find_groups(struct both *b)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		unsigned g = 0;

		for (; g < b->n_groups; g++) {
			size_t k = 0;

			while (k < b->n &&
			       b->p[k]->class_of[byte] == b->p[k]->class_of[b->groups[g].byte])
				k++;
			if (k == b->n)
				break;
		}
		if (g == b->n_groups)
			b->groups[b->n_groups++].byte = (uint8_t)byte;
		b->groups[g].set.bits[byte / 64] |= 1ull << byte % 64;
	}
}

/* Its number; new ones are put at the end. MAX_TUPLES: there is no room. */
static uint32_t number(struct both *b, const struct tuple *t)
{
	uint64_t h = 0;
	uint32_t k;

	for (size_t i = 0; i < b->n; i++) {
		h = (h ^ t->at[i]) * 0x9e3779b97f4a7c15u;
		h ^= h >> 31;
	}
	for (k = (uint32_t)h & (N_SLOTS - 1); b->slots[k]; k = (k + 1) & (N_SLOTS - 1))
		if (!memcmp(&b->tuples[b->slots[k] - 1], t, sizeof(*t)))
			return b->slots[k] - 1;
	if (b->n_tuples == MAX_TUPLES) {
		b->large = true;
		return MAX_TUPLES;
	}
	b->tuples[b->n_tuples] = *t;
	b->slots[k] = b->n_tuples + 1;
	return b->n_tuples++;
}

/* Where a byte of the group leads from tuple @i. MAX_TUPLES: nowhere, or to one too many. */
static uint32_t next_tuple(struct both *b, uint32_t i, const struct group *g)
{
	struct tuple t = b->tuples[i];

	for (size_t k = 0; k < b->n; k++) {
		struct matcher *m = b->m[k];

		m->steps = MAX_STEPS - BYTE_STEPS;
		t.at[k] = states_next(m, t.at[k], m->p->class_of[g->byte]);
		b->steps += m->steps - (MAX_STEPS - BYTE_STEPS);
		if (m->full || m->ambiguous)
			b->large = true;
		if (b->large || t.at[k] == STATE_DEAD)
			return MAX_TUPLES;
	}
	return number(b, &t);
}

static bool goes_on(struct both *b)
{
	struct ir *ir = b->s->ir;

	if (b->steps > LOOK_STEPS) {
		b->steps = 0;
		ir_set_error(ir, stop_now(ir->stop));
	}
	return ir_goes_on(ir) && !b->large;
}

/* Numbers all tuples that can be reached. */
static void explore(struct both *b)
{
	struct tuple start = { { 0 } };

	for (size_t k = 0; k < b->n; k++)
		start.at[k] = b->m[k]->start;
	number(b, &start);
	for (uint32_t i = 0; i < b->n_tuples; i++)
		for (unsigned g = 0; g < b->n_groups; g++) {
			next_tuple(b, i, &b->groups[g]);
			if (!goes_on(b))
				return;
		}
}

static bool ends(const struct both *b, const struct tuple *t)
{
	for (size_t k = 0; k < b->n; k++)
		if (!b->m[k]->states[t->at[k]].accepts)
			return false;
	return true;
}

/* What may follow at tuple @i: the sets of bytes by where they lead. */
static ir_node follows(struct both *b, uint32_t i)
{
	struct ir *ir = b->s->ir;
	struct ir_set sets[256];
	uint32_t to[256], n = 0, k;
	struct ir_list parts = { 0 };
	ir_node node;

	for (unsigned g = 0; g < b->n_groups; g++) {
		uint32_t next = next_tuple(b, i, &b->groups[g]);

		if (next == MAX_TUPLES)
			continue;
		for (k = 0; k < n && to[k] != next; k++)
			continue;
		if (k == n) {
			to[n] = next;
			sets[n++] = (struct ir_set){ { 0 } };
		}
		for (unsigned w = 0; w < 4; w++)
			sets[k].bits[w] |= b->groups[g].set.bits[w];
	}
	for (k = 0; k < n; k++)
		ir_push(ir, &parts,
			IR_SEQ_OF(ir, ir_bytes(ir, &sets[k]), ir_ref(ir, b->first_rule + to[k])));
	if (ends(b, &b->tuples[i]))
		ir_push(ir, &parts, ir_empty());
	node = ir_alt(ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

static ir_node emit(struct both *b)
{
	struct ir *ir = b->s->ir;

	for (uint32_t i = 0; i < b->n_tuples; i++) {
		uint32_t rule = ir_rule(ir, NULL, 0);

		b->first_rule = i ? b->first_rule : rule;
	}
	for (uint32_t i = 0; i < b->n_tuples && ir_goes_on(ir); i++)
		ir_rule_set(ir, b->first_rule + i, follows(b, i));
	return ir_ref(ir, b->first_rule);
}

int schema_both(struct schema *s, const struct schema_part *parts, size_t n, ir_node *ret,
		bool *ret_large)
{
	struct both b = { .s = s, .n = n };
	bool none = false; /* there is a part that nothing fits */
	int rc = 0;

	*ret = ir_fail();
	b.tuples = calloc(MAX_TUPLES, sizeof(*b.tuples));
	b.slots = calloc(N_SLOTS, sizeof(*b.slots));
	if (!b.tuples || !b.slots)
		rc = -ENOMEM;
	for (size_t k = 0; k < n && !rc; k++) {
		rc = schema_part_program(s, &parts[k], &b.p[k]);
		none |= !rc && !b.p[k];
		if (!rc && b.p[k])
			rc = matcher_create(b.p[k], NULL, &b.m[k]);
	}
	if (!rc && !none) {
		find_groups(&b);
		explore(&b);
		if (!b.large)
			*ret = emit(&b);
		rc = ir_error(s->ir);
	}
	*ret_large = b.large;
	for (size_t k = 0; k < n; k++) {
		matcher_destroy(b.m[k]);
		program_destroy(b.p[k]);
	}
	free(b.tuples);
	free(b.slots);
	return rc;
}
