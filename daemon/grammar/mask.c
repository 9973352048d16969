/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/mask.c: which tokens may come next: a walk over the vocabulary's trie that leaves
 * out what a slice answers (vocab.h) and every subtree whose first byte does not fit. See matcher.h.
 */
#include <errno.h>
#include <string.h>

#include "grammar/matcher_impl.h"

/* ---- how many characters of a slice may come, whichever they are ---- */

/* Where a character stands: edges take a range of bytes. To AT_CHARACTER: one is complete. */
enum { AT_CHARACTER, AT_1, AT_2, AT_3, AT_E0, AT_ED, AT_F0, AT_F4, AT_NR };

static const struct edge {
	uint8_t from, to, lo, hi;
} edges[] = {
	{ AT_CHARACTER, AT_CHARACTER, 0x00, 0x7f }, /* those of the slice */
	{ AT_CHARACTER, AT_1, 0xc2, 0xdf },
	{ AT_CHARACTER, AT_E0, 0xe0, 0xe0 },
	{ AT_CHARACTER, AT_2, 0xe1, 0xec },
	{ AT_CHARACTER, AT_ED, 0xed, 0xed },
	{ AT_CHARACTER, AT_2, 0xee, 0xef },
	{ AT_CHARACTER, AT_F0, 0xf0, 0xf0 },
	{ AT_CHARACTER, AT_3, 0xf1, 0xf3 },
	{ AT_CHARACTER, AT_F4, 0xf4, 0xf4 },
	{ AT_1, AT_CHARACTER, 0x80, 0xbf },
	{ AT_2, AT_1, 0x80, 0xbf },
	{ AT_3, AT_2, 0x80, 0xbf },
	{ AT_E0, AT_1, 0xa0, 0xbf },
	{ AT_ED, AT_1, 0x80, 0x9f },
	{ AT_F0, AT_2, 0x90, 0xbf },
	{ AT_F4, AT_2, 0x80, 0x8f },
};

#define N_EDGES	 (sizeof(edges) / sizeof(edges[0]))
#define MAX_SEEN 64 /* pairs within one character; more: the slice is not used */

struct spread {
	struct pair {
		uint32_t state;
		uint8_t at;
	} seen[MAX_SEEN];
	unsigned n;
	bool fits;
};

static void see(struct spread *s, uint32_t state, uint8_t at)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->seen[i].state == state && s->seen[i].at == at)
			return;
	if (state == STATE_DEAD || s->n == MAX_SEEN)
		s->fits = false;
	else
		s->seen[s->n++] = (struct pair){ state, at };
}

static void follow(struct matcher *m, unsigned k, struct spread *s, struct pair from,
		   const struct edge *e)
{
	uint64_t done[4] = { 0 }; /* classes */

	for (unsigned b = e->lo; b <= e->hi && s->fits && !m->full && !m->ambiguous; b++) {
		unsigned c = m->p->class_of[b];

		if (done[c / 64] >> c % 64 & 1 || (b < 0x80 && !vocab_slice_has(k, b)))
			continue;
		done[c / 64] |= 1ull << c % 64;
		/* a complete character is told from the beginning of one */
		see(s, states_next(m, from.state, c), e->to == AT_CHARACTER ? AT_NR : e->to);
	}
}

/* The states behind one character of the slice, at the front of s->seen; false: one does not fit. */
static bool one_character(struct matcher *m, unsigned k, struct spread *s)
{
	unsigned n = 0;

	s->fits = true;
	for (unsigned i = 0; i < s->n && s->fits && !m->full && !m->ambiguous; i++)
		for (unsigned e = 0; e < N_EDGES; e++)
			if (edges[e].from == s->seen[i].at)
				follow(m, k, s, s->seen[i], &edges[e]);
	for (unsigned i = 0; i < s->n; i++)
		if (s->seen[i].at == AT_NR)
			s->seen[n++] = (struct pair){ s->seen[i].state, AT_CHARACTER };
	s->n = n;
	return s->fits && !m->full && !m->ambiguous;
}

static bool same(const struct spread *a, const struct spread *b)
{
	for (unsigned i = 0; i < a->n; i++) {
		unsigned j = 0;

		while (j < b->n && b->seen[j].state != a->seen[i].state)
			j++;
		if (j == b->n)
			return false;
	}
	return a->n == b->n;
}

/* Every text of up to so many characters of slice @k fits behind @state. */
static unsigned reach_of(struct matcher *m, unsigned k, uint32_t state)
{
	struct spread s = { .n = 1, .seen = { { state, AT_CHARACTER } } }, before;
	unsigned chars = 0;

	do {
		before = s;
		if (!one_character(m, k, &s))
			return chars;
		if (++chars >= VOCAB_SHORT)
			return VOCAB_SHORT;
	} while (!same(&s, &before));
	return VOCAB_SHORT;
}

/* ---- the walk ---- */

/* Sets the bits of tokens in the trie that fit behind @state; leaves out subtrees that hold tokens of
 * slice @k with at most @chars characters alone. */
static void walk(struct matcher *m, const struct vocab_trie *t, uint32_t state, unsigned k,
		 unsigned chars, uint64_t *bits)
{
	const uint8_t *most = t->most[k];
	uint32_t *path = m->path;
	uint64_t visited = 0;

	path[0] = state;
	for (uint32_t i = 0; i < t->n && !m->full && !m->ambiguous;) {
		uint32_t next;

		if (chars && most[i] <= chars) {
			i = t->skip[i];
			continue;
		}
		visited++;
		next = states_next(m, path[t->depth[i] - 1], m->p->class_of[t->byte[i]]);
		if (next == STATE_DEAD) {
			i = t->skip[i];
			continue;
		}
		path[t->depth[i]] = next;
		for (uint32_t j = t->token[i]; j < t->token[i + 1]; j++)
			bits[t->ids[j] / 64] |= 1ull << t->ids[j] % 64;
		i++;
	}
	m->counts.nodes += visited;
}

static void add_bits(uint64_t *to, const uint64_t *from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		to[i] |= from[i];
}

/* Tokens of the short trie behind @state. */
static void short_mask(struct matcher *m, uint32_t state, uint64_t *bits)
{
	unsigned k = 0, chars = 0;

	memset(bits, 0, m->n_words * sizeof(*bits));
	/* the widest slice that fits to any length, or else to some */
	for (unsigned i = 0; i < VOCAB_SLICES && chars < VOCAB_SHORT; i++) {
		unsigned fits = reach_of(m, i, state);

		if (fits > chars) {
			chars = fits;
			k = i;
		}
	}
	if (chars)
		add_bits(bits, vocab_slice(m->v, k, chars), m->n_words);
	walk(m, vocab_short(m->v), state, k, chars, bits);
}

/* ... kept for the next time. NULL: the memory is full. */
static const uint64_t *cached_mask(struct matcher *m, uint32_t state)
{
	uint64_t *bits;

	if (m->mask_of[state]) {
		m->counts.masks_cached++;
		return m->masks + (size_t)(m->mask_of[state] - 1) * m->n_words;
	}
	bits = m->masks + (size_t)m->next_mask * m->n_words;
	if (m->mask_owner[m->next_mask])
		m->mask_of[m->mask_owner[m->next_mask]] = 0;
	m->mask_owner[m->next_mask] = STATE_UNKNOWN;
	short_mask(m, state, bits);
	if (m->full || m->ambiguous)
		return NULL;
	m->mask_owner[m->next_mask] = state;
	m->mask_of[state] = m->next_mask + 1;
	m->next_mask = (m->next_mask + 1) % m->n_masks;
	return bits;
}

static bool mask_of_now(struct matcher *m, uint64_t *bits)
{
	uint32_t far = states_far(m, m->now);
	const uint64_t *known = m->full ? NULL : cached_mask(m, far);

	if (!known || m->ambiguous)
		return false;
	memcpy(bits, known, m->n_words * sizeof(*bits));
	walk(m, vocab_long(m->v), m->now, 0, 0, bits);
	if (matcher_accepts(m))
		add_bits(bits, vocab_end_bits(m->v), m->n_words);
	return !m->full && !m->ambiguous;
}

int matcher_mask(struct matcher *m, const uint64_t **ret)
{
	uint64_t *bits = m->masks + (size_t)m->n_masks * m->n_words;

	m->counts.masks++;
	m->steps = 0;
	if (!mask_of_now(m, bits)) {
		if (m->ambiguous || !states_collect(m) || !mask_of_now(m, bits))
			return -E2BIG;
	}
	*ret = bits;
	return 0;
}
