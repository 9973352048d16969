/* SPDX-License-Identifier: MIT */
/* daemon/grammar/matcher.c: see matcher.h. */
#include "grammar/matcher.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/num.h"
#include "grammar/matcher_impl.h"

/* Counts bytes where @map is NULL, else takes them from it. */
struct carving {
	uint8_t *map;
	size_t at;
};

static void *carve(struct carving *c, size_t n, size_t size)
{
	void *p = c->map ? c->map + c->at : NULL;

	c->at += align_up(n * size, 64);
	return p;
}

static void carve_all(struct matcher *m, struct carving *c)
{
	size_t n_code = m->p->n_code;

	m->sets = carve(c, MAX_SETS, sizeof(*m->sets));
	m->frames = carve(c, MAX_FRAMES, sizeof(*m->frames));
	m->set_slots = carve(c, 2 * MAX_SETS, sizeof(*m->set_slots));
	m->far_of = carve(c, MAX_SETS, sizeof(*m->far_of));
	m->states = carve(c, MAX_STATES, sizeof(*m->states));
	m->items = carve(c, MAX_ITEMS, sizeof(*m->items));
	m->next = carve(c, (size_t)MAX_STATES * m->p->n_classes, sizeof(*m->next));
	m->state_slots = carve(c, 2 * MAX_STATES, sizeof(*m->state_slots));
	m->mask_of = carve(c, MAX_STATES, sizeof(*m->mask_of));
	m->seen = carve(c, n_code, sizeof(*m->seen));
	m->stacks_at = carve(c, n_code, sizeof(*m->stacks_at));
	m->todo = carve(c, n_code, sizeof(*m->todo));
	m->takers = carve(c, n_code, sizeof(*m->takers));
	m->queued = carve(c, n_code, sizeof(*m->queued));
	m->merged = carve(c, 2 * MAX_UNION, sizeof(*m->merged));
	m->masks = carve(c, (size_t)(m->n_masks + 1) * m->n_words, sizeof(*m->masks));
	m->mask_owner = carve(c, m->n_masks, sizeof(*m->mask_owner));
	m->path = carve(c, VOCAB_MAX_BYTES + 1, sizeof(*m->path));
}

static uint32_t masks_of(uint32_t n_words)
{
	size_t n = n_words ? MASK_BYTES / (n_words * sizeof(uint64_t)) : 1;

	return n < 16 ? 16 : n < MAX_MASKS ? (uint32_t)n : MAX_MASKS;
}

int matcher_create(const struct program *p, const struct vocab *v, struct matcher **ret)
{
	struct matcher *m = calloc(1, sizeof(*m));
	struct carving c = { 0 };

	if (!m)
		return -ENOMEM;
	m->p = p;
	m->v = v;
	m->n_words = v ? vocab_words(v) : 0;
	m->n_masks = masks_of(m->n_words);
	carve_all(m, &c);
	m->map_bytes = c.at;
	m->map = mmap(NULL, c.at, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->map == MAP_FAILED) {
		free(m);
		return -ENOMEM;
	}
	c = (struct carving){ .map = m->map };
	carve_all(m, &c);
	sets_start(m);
	m->start = m->now = states_start(m);
	*ret = m;
	return 0;
}

void matcher_destroy(struct matcher *m)
{
	if (!m)
		return;
	munmap(m->map, m->map_bytes);
	free(m);
}

void matcher_begin(struct matcher *m)
{
	m->steps = 0;
	if (m->start == STATE_UNKNOWN) { /* forgotten, and so is the rest */
		m->now = STATE_DEAD;
		m->ambiguous = false;
		states_collect(m);
		m->start = states_start(m);
	}
	m->now = m->start;
}

/* The state behind a byte; what is full is emptied once. */
static uint32_t step(struct matcher *m, uint32_t state, unsigned byte)
{
	uint32_t next = states_next(m, state, m->p->class_of[byte]);

	if (!m->full)
		return next;
	m->now = state;
	if (!states_collect(m))
		m->ambiguous = true;
	next = states_next(m, m->now, m->p->class_of[byte]);
	m->ambiguous |= m->full;
	return next;
}

long matcher_bytes(struct matcher *m, const void *bytes, size_t n)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < n; i++) {
		uint32_t next;

		m->steps = 0;
		next = step(m, m->now, b[i]);

		if (m->ambiguous)
			return -E2BIG;
		if (next == STATE_DEAD)
			return (long)i;
		m->now = next;
	}
	return (long)n;
}

bool matcher_accepts(const struct matcher *m)
{
	return m->states[m->now].accepts;
}

bool matcher_ended(struct matcher *m)
{
	return !m->states[m->now].n;
}

int matcher_token(struct matcher *m, uint32_t id)
{
	uint32_t before = m->now, collections = m->counts.collections;
	bool can_end = vocab_ends(m->v, id) && matcher_accepts(m);
	size_t n;
	const uint8_t *b = vocab_bytes(m->v, id, &n);
	long taken = matcher_bytes(m, b, n);

	if (taken < 0)
		return -E2BIG;
	if (n && taken == (long)n)
		return 0;
	if (collections == m->counts.collections) /* else it has another number by now */
		m->now = before;
	return can_end ? 1 : -EINVAL;
}

void matcher_get_counts(const struct matcher *m, struct matcher_counts *ret)
{
	*ret = m->counts;
	ret->states = m->n_states;
}

void matcher_take_counts(struct matcher *m, struct matcher_counts *ret)
{
	matcher_get_counts(m, ret);
	m->counts = (struct matcher_counts){ 0 };
}

bool matcher_is_whole(const struct matcher *m)
{
	return !m->full && !m->ambiguous;
}

/* The front of an array, in pages. */
static size_t front(size_t n, size_t size)
{
	return align_up(n * size, 4096) + 4096; /* which need not begin with one */
}

size_t matcher_used_bytes(const struct matcher *m)
{
	size_t n_code = m->p->n_code, n_known = 0, n;

	if (m->collected)
		return sizeof(*m) + m->map_bytes;
	for (uint32_t i = 0; i < m->n_masks; i++)
		n_known += m->mask_owner[i] != STATE_UNKNOWN;
	n = front(m->n_sets, sizeof(*m->sets)) + front(m->n_frames, sizeof(*m->frames)) +
	    front(2 * MAX_SETS, sizeof(*m->set_slots)) + front(m->n_far, sizeof(*m->far_of)) +
	    front(m->n_states, sizeof(*m->states)) + front(m->n_items, sizeof(*m->items)) +
	    front((size_t)m->n_states * m->p->n_classes, sizeof(*m->next)) +
	    front(2 * MAX_STATES, sizeof(*m->state_slots)) +
	    front(m->n_states, sizeof(*m->mask_of)) +
	    front(n_code, 4 * sizeof(uint32_t) + sizeof(*m->queued)) + 4 * 4096 +
	    front(2 * MAX_UNION, sizeof(*m->merged)) +
	    front((n_known + 1) * m->n_words, sizeof(*m->masks)) +
	    front(m->n_masks, sizeof(*m->mask_owner)) +
	    front(VOCAB_MAX_BYTES + 1, sizeof(*m->path));
	return sizeof(*m) + (n < m->map_bytes ? n : m->map_bytes);
}
