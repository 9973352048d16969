/* SPDX-License-Identifier: MIT */
/* daemon/grammar/matcher_states.c: states and their transitions. See matcher_impl.h. */
#include <stdlib.h>
#include <string.h>

#include "grammar/matcher_impl.h"

/* ---- one state: everything that is reached without taking a byte ---- */

static void begin(struct matcher *m, bool far)
{
	m->epoch++;
	m->n_todo = m->n_takers = 0;
	m->accepts = false;
	m->far = far;
}

static void reach(struct matcher *m, uint32_t pc, uint32_t stacks)
{
	uint32_t both;

	if (m->seen[pc] != m->epoch) {
		m->seen[pc] = m->epoch;
		m->stacks_at[pc] = stacks;
		if (m->p->code[pc].op == OP_BYTES) {
			m->takers[m->n_takers++] = pc;
			return;
		}
		m->queued[pc] = 1;
		m->todo[m->n_todo++] = pc;
		return;
	}
	both = sets_union(m, m->stacks_at[pc], stacks);
	if (both == m->stacks_at[pc])
		return;
	m->stacks_at[pc] = both;
	if (m->p->code[pc].op != OP_BYTES && !m->queued[pc]) {
		m->queued[pc] = 1;
		m->todo[m->n_todo++] = pc;
	}
}

static void push(struct matcher *m, uint32_t to, uint32_t pc, uint32_t count, uint32_t parent)
{
	if (m->sets[parent].depth < MATCHER_MAX_DEPTH)
		reach(m, to, sets_one(m, (struct frame){ pc, count, parent }));
}

static void round_of(struct matcher *m, uint32_t pc, uint32_t count, uint32_t parent)
{
	const struct insn *c = &m->p->code[pc];
	const struct bounds *b = &m->p->bounds[c->x];

	if (count < COUNT_LOW && count >= b->min) {
		reach(m, c->b, parent);
		if (b->max == IR_UNBOUNDED)
			count = b->min; /* more makes no difference */
	} else if (count == COUNT_FREE) {
		reach(m, c->b, parent);
	}
	if (count >= COUNT_LOW || count < b->max)
		push(m, c->a, pc, m->far ? count_far(b, count) : count, parent);
}

static void run(struct matcher *m, uint32_t pc)
{
	const struct insn *c = &m->p->code[pc];
	uint32_t stacks = m->stacks_at[pc];

	switch (c->op) {
	case OP_SPLIT:
		reach(m, c->a, stacks);
		reach(m, c->b, stacks);
		break;
	case OP_JUMP:
		reach(m, c->a, stacks);
		break;
	case OP_CALL:
		push(m, c->a, c->b, 0, stacks);
		break;
	case OP_LOOP:
		round_of(m, pc, 0, stacks);
		break;
	case OP_RETURN:
		for (uint32_t i = 0; i < m->sets[stacks].n; i++) {
			struct frame f = m->frames[m->sets[stacks].first + i];

			if (m->p->code[f.pc].op == OP_LOOP)
				round_of(m, f.pc, f.count < COUNT_LOW ? f.count + 1 : f.count,
					 f.parent);
			else
				reach(m, f.pc, f.parent);
		}
		break;
	case OP_ACCEPT:
		m->accepts = true;
		break;
	default:
		break;
	}
}

static void run_all(struct matcher *m)
{
	while (m->n_todo && !m->full && !m->ambiguous) {
		uint32_t pc = m->todo[--m->n_todo];

		m->queued[pc] = 0;
		run(m, pc);
		m->steps += 1 + m->sets[m->stacks_at[pc]].n;
		m->ambiguous |= m->steps > MAX_STEPS;
	}
	while (m->n_todo)
		m->queued[m->todo[--m->n_todo]] = 0;
}

/* ---- numbers of states ---- */

static uint32_t hash_items(const struct item *items, uint32_t n, bool accepts, bool far)
{
	uint64_t h = n * 4 + accepts * 2 + far;

	for (uint32_t i = 0; i < n; i++) {
		h = (h ^ items[i].pc ^ (uint64_t)items[i].stacks << 32) * 0x9e3779b97f4a7c15u;
		h ^= h >> 31;
	}
	return (uint32_t)h;
}

/* Of the items at the end of the list, sorted. */
static uint32_t intern(struct matcher *m, uint32_t n, bool accepts, bool far)
{
	const uint32_t wrap = 2 * MAX_STATES - 1, n_classes = m->p->n_classes;
	const struct item *items = m->items + m->n_items;
	uint32_t k = hash_items(items, n, accepts, far) & wrap;

	for (; m->state_slots[k]; k = (k + 1) & wrap) {
		const struct state *s = &m->states[m->state_slots[k] - 1];

		if (s->n == n && s->accepts == accepts && s->far == far &&
		    !memcmp(m->items + s->first, items, n * sizeof(*items)))
			return m->state_slots[k] - 1;
	}
	if (m->n_states == MAX_STATES) {
		m->full = true;
		return STATE_DEAD;
	}
	m->states[m->n_states] = (struct state){ m->n_items, n, accepts, far };
	m->n_items += n;
	memset(m->next + (size_t)m->n_states * n_classes, 0, n_classes * sizeof(*m->next));
	m->mask_of[m->n_states] = 0;
	m->state_slots[k] = m->n_states + 1;
	return m->n_states++;
}

static int by_pc(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return x->pc < y->pc ? -1 : x->pc > y->pc;
}

static void sort_items(struct item *items, uint32_t n)
{
	if (n > 24) {
		qsort(items, n, sizeof(*items), by_pc);
		return;
	}
	for (uint32_t i = 1; i < n; i++) {
		struct item x = items[i];
		uint32_t k = i;

		for (; k && items[k - 1].pc > x.pc; k--)
			items[k] = items[k - 1];
		items[k] = x;
	}
}

/* What was reached as a state. */
static uint32_t finish(struct matcher *m)
{
	struct item *items = m->items + m->n_items;

	run_all(m);
	if (m->full || m->ambiguous)
		return STATE_DEAD;
	if (!m->n_takers && !m->accepts)
		return STATE_DEAD;
	if (m->n_takers > MAX_ITEMS - m->n_items) {
		m->full = true;
		return STATE_DEAD;
	}
	for (uint32_t i = 0; i < m->n_takers; i++)
		items[i] = (struct item){ m->takers[i], m->stacks_at[m->takers[i]] };
	sort_items(items, m->n_takers);
	return intern(m, m->n_takers, m->accepts, m->far);
}

uint32_t states_find(struct matcher *m, uint32_t state, uint32_t class)
{
	const struct state s = m->states[state];
	unsigned byte = m->p->byte_of[class];
	uint32_t next;

	begin(m, s.far);
	for (uint32_t i = 0; i < s.n; i++) {
		const struct item *it = &m->items[s.first + i];
		const struct insn *c = &m->p->code[it->pc];

		if (m->p->sets[c->x].bits[byte / 64] >> byte % 64 & 1)
			reach(m, c->a, it->stacks);
	}
	m->steps += s.n;
	next = finish(m);
	if (!m->full && !m->ambiguous)
		m->next[(size_t)state * m->p->n_classes + class] = next;
	return next;
}

uint32_t states_start(struct matcher *m)
{
	m->n_states = 2; /* 0 is unknown, 1 is dead: no transition of it leads anywhere else */
	for (uint32_t c = 0; c < m->p->n_classes; c++)
		m->next[m->p->n_classes + c] = STATE_DEAD;
	begin(m, false);
	reach(m, m->p->start, 0);
	return finish(m);
}

uint32_t states_far(struct matcher *m, uint32_t state)
{
	const struct state s = m->states[state];
	struct item *items = m->items + m->n_items;

	if (m->p->most_counted <= VOCAB_SHORT || s.far || state == STATE_DEAD)
		return state;
	if (s.n > MAX_ITEMS - m->n_items) {
		m->full = true;
		return STATE_DEAD;
	}
	for (uint32_t i = 0; i < s.n; i++) {
		items[i].pc = m->items[s.first + i].pc;
		items[i].stacks = sets_far(m, m->items[s.first + i].stacks);
	}
	return m->full ? STATE_DEAD : intern(m, s.n, s.accepts, true);
}

bool states_collect(struct matcher *m)
{
	const struct state s = m->states[m->now];

	m->counts.collections++;
	m->collected = true;
	m->full = false;
	memmove(m->items, m->items + s.first, s.n * sizeof(*m->items));
	sets_collect(m, m->items, s.n);
	memset(m->state_slots, 0, 2 * MAX_STATES * sizeof(*m->state_slots));
	for (uint32_t i = 0; i < m->n_masks; i++)
		m->mask_owner[i] = STATE_UNKNOWN;
	m->n_states = 2;
	m->n_items = 0;
	if (m->now != STATE_DEAD)
		m->now = intern(m, s.n, s.accepts, s.far);
	m->start = STATE_UNKNOWN; /* found again when it is asked for */
	return m->n_sets < MAX_SETS / 2 && m->n_frames < MAX_FRAMES / 2;
}
