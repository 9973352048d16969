/* SPDX-License-Identifier: MIT */
/* daemon/grammar/matcher_sets.c: sets of stacks. See matcher_impl.h. */
#include <stdlib.h>
#include <string.h>

#include "grammar/matcher_impl.h"

static int compare(const struct frame *a, const struct frame *b)
{
	if (a->pc != b->pc)
		return a->pc < b->pc ? -1 : 1;
	if (a->count != b->count)
		return a->count < b->count ? -1 : 1;
	return a->parent < b->parent ? -1 : a->parent > b->parent;
}

static uint32_t hash_frames(const struct frame *f, uint32_t n)
{
	uint64_t h = n;

	for (uint32_t i = 0; i < n; i++) {
		h = (h ^ f[i].pc ^ (uint64_t)f[i].count << 32) * 0x9e3779b97f4a7c15u;
		h = (h ^ h >> 32 ^ f[i].parent) * 0xff51afd7ed558ccdu;
		h ^= h >> 29;
	}
	return (uint32_t)h;
}

static uint32_t depth_of(const struct matcher *m, const struct frame *f, uint32_t n)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < n; i++)
		if (m->sets[f[i].parent].depth > most)
			most = m->sets[f[i].parent].depth;
	return most + 1;
}

/* The number of the set of these sorted frames. */
static uint32_t intern(struct matcher *m, const struct frame *f, uint32_t n)
{
	const uint32_t wrap = 2 * MAX_SETS - 1;
	uint32_t k = hash_frames(f, n) & wrap;

	for (; m->set_slots[k]; k = (k + 1) & wrap) {
		const struct stacks *s = &m->sets[m->set_slots[k] - 1];

		if (s->n == n && !memcmp(m->frames + s->first, f, n * sizeof(*f)))
			return m->set_slots[k] - 1;
	}
	if (m->n_sets == MAX_SETS || n > MAX_FRAMES - m->n_frames) {
		m->full = true;
		return 0;
	}
	memcpy(m->frames + m->n_frames, f, n * sizeof(*f));
	m->sets[m->n_sets] =
		(struct stacks){ .first = m->n_frames, .n = n, .depth = depth_of(m, f, n) };
	m->n_frames += n;
	m->set_slots[k] = m->n_sets + 1;
	return m->n_sets++;
}

uint32_t sets_one(struct matcher *m, struct frame f)
{
	return intern(m, &f, 1);
}

uint32_t sets_union(struct matcher *m, uint32_t a, uint32_t b)
{
	const struct stacks *x = &m->sets[a], *y = &m->sets[b];
	const struct frame *f = m->frames + x->first, *g = m->frames + y->first;
	uint32_t i = 0, j = 0, n = 0;

	if (a == b)
		return a;
	m->steps += x->n + y->n;
	if (x->n + y->n > MAX_UNION) {
		m->ambiguous = true;
		return a;
	}
	while (i < x->n || j < y->n) {
		int order = i == x->n ? 1 : j == y->n ? -1 : compare(&f[i], &g[j]);

		m->merged[n++] = order <= 0 ? f[i] : g[j];
		i += order <= 0;
		j += order >= 0;
	}
	return n == x->n ? a : n == y->n ? b : intern(m, m->merged, n);
}

uint32_t count_far(const struct bounds *b, uint32_t count)
{
	if (count >= COUNT_LOW)
		return count;
	if (count < b->min)
		return b->min - count > VOCAB_SHORT ? COUNT_LOW : count;
	if (b->max != IR_UNBOUNDED && b->max - count > VOCAB_SHORT)
		return COUNT_FREE;
	return count;
}

static int by_frame(const void *a, const void *b)
{
	return compare(a, b);
}

static uint32_t make_far(struct matcher *m, uint32_t set)
{
	uint32_t n = m->sets[set].n, kept = 0;
	struct frame *f = m->merged;

	memcpy(f, m->frames + m->sets[set].first, n * sizeof(*f));
	for (uint32_t i = 0; i < n; i++) {
		const struct insn *c = &m->p->code[f[i].pc];

		if (set) /* the bottom stands on itself */
			f[i].parent = m->far_of[f[i].parent];
		if (c->op == OP_LOOP)
			f[i].count = count_far(&m->p->bounds[c->x], f[i].count);
	}
	qsort(f, n, sizeof(*f), by_frame);
	for (uint32_t i = 0; i < n; i++)
		if (!i || compare(&f[i], &f[kept - 1]))
			f[kept++] = f[i];
	return intern(m, f, kept);
}

uint32_t sets_far(struct matcher *m, uint32_t set)
{
	for (; m->n_far <= set && !m->full; m->n_far++)
		m->far_of[m->n_far] = make_far(m, m->n_far);
	return m->full ? 0 : m->far_of[set];
}

void sets_start(struct matcher *m)
{
	const struct frame bottom = { .pc = PC_ACCEPT };

	intern(m, &bottom, 1); /* its own parent, of depth 0 while it is made */
}

void sets_collect(struct matcher *m, struct item *keep, uint32_t n)
{
	uint32_t *number = m->far_of; /* no longer needed: first a mark, then the new number */
	uint32_t old = m->n_sets;
	const uint32_t wrap = 2 * MAX_SETS - 1;

	memset(number, 0, old * sizeof(*number));
	number[0] = 1;
	for (uint32_t i = 0; i < n; i++)
		number[keep[i].stacks] = 1;
	for (uint32_t s = old; s-- > 1;)
		for (uint32_t i = 0; number[s] && i < m->sets[s].n; i++)
			number[m->frames[m->sets[s].first + i].parent] = 1;
	memset(m->set_slots, 0, 2 * MAX_SETS * sizeof(*m->set_slots));
	m->n_sets = m->n_frames = m->n_far = 0;
	for (uint32_t s = 0; s < old; s++) {
		struct stacks set = m->sets[s];
		struct frame *f = m->frames + m->n_frames;
		uint32_t k;

		if (!number[s])
			continue;
		memmove(f, m->frames + set.first, set.n * sizeof(*f));
		for (uint32_t i = 0; s && i < set.n; i++)
			f[i].parent = number[f[i].parent];
		qsort(f, set.n, sizeof(*f), by_frame);
		set.first = m->n_frames;
		m->n_frames += set.n;
		k = hash_frames(f, set.n) & wrap;
		while (m->set_slots[k])
			k = (k + 1) & wrap;
		number[s] = m->n_sets;
		m->sets[m->n_sets] = set;
		m->set_slots[k] = ++m->n_sets;
	}
	for (uint32_t i = 0; i < n; i++)
		keep[i].stacks = number[keep[i].stacks];
}
