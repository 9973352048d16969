/* SPDX-License-Identifier: MIT */
/* daemon/grammar/program_pool.c: see program_pool.h. */
#include "grammar/program_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/stop.h"

int pool_init(struct pool *o, const struct grammar_stop *stop)
{
	*o = (struct pool){ .p = calloc(1, sizeof(*o->p)), .stop = stop };
	return o->p ? 0 : -ENOMEM;
}

void pool_fini(struct pool *o)
{
	free(o->codes.slots);
	free(o->sets.slots);
}

static bool grow(struct pool *o, void **p, uint32_t *room, uint32_t n, size_t size, uint32_t limit)
{
	void *q;

	if (!o->error)
		o->error = stop_look(o->stop, &o->rounds);
	if (o->error)
		return false;
	if (n < *room)
		return true;
	if (n >= limit) {
		o->error = -E2BIG;
		return false;
	}
	*room = *room ? *room * 2 : 256;
	q = realloc(*p, *room * size);
	if (!q) {
		o->error = -ENOMEM;
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
static bool table_room(struct pool *o, struct pool_table *t, hash_fn hash)
{
	uint32_t *old = t->slots, room = t->room;

	if (t->n * 2 < t->room)
		return true;
	t->room = room ? room * 2 : 1024;
	t->slots = calloc(t->room, sizeof(*t->slots));
	if (!t->slots) {
		t->slots = old;
		t->room = room;
		o->error = -ENOMEM;
		return false;
	}
	for (uint32_t i = 0; i < room; i++) {
		uint32_t k;

		if (!old[i])
			continue;
		k = (uint32_t)hash(o->p, old[i] - 1) & (t->room - 1);
		while (t->slots[k])
			k = (k + 1) & (t->room - 1);
		t->slots[k] = old[i];
	}
	free(old);
	return true;
}

uint32_t pool_code(struct pool *o, enum op op, uint32_t a, uint32_t b, uint32_t x)
{
	struct program *p = o->p;

	if (!grow(o, (void **)&p->code, &o->room_code, p->n_code, sizeof(*p->code),
		  PROGRAM_MAX_CODE))
		return PC_FAIL;
	p->code[p->n_code] = (struct insn){ .op = (uint8_t)op, .a = a, .b = b, .x = x };
	return p->n_code++;
}

uint32_t pool_bounds(struct pool *o, uint32_t min, uint32_t max)
{
	struct program *p = o->p;

	if (!grow(o, (void **)&p->bounds, &o->room_bounds, p->n_bounds, sizeof(*p->bounds),
		  PROGRAM_MAX_CODE))
		return 0;
	p->bounds[p->n_bounds] = (struct bounds){ min, max };
	return p->n_bounds++;
}

/* The number of a set of bytes. */
static uint32_t set_number(struct pool *o, const struct ir_set *set)
{
	struct program *p = o->p;
	uint32_t k;

	if (!grow(o, (void **)&p->sets, &o->room_sets, p->n_sets, sizeof(*p->sets), 1u << 20) ||
	    !table_room(o, &o->sets, hash_set))
		return 0;
	p->sets[p->n_sets] = *set;
	k = (uint32_t)hash_set(p, p->n_sets) & (o->sets.room - 1);
	for (; o->sets.slots[k]; k = (k + 1) & (o->sets.room - 1))
		if (!memcmp(&p->sets[o->sets.slots[k] - 1], set, sizeof(*set)))
			return o->sets.slots[k] - 1;
	o->sets.slots[k] = p->n_sets + 1;
	o->sets.n++;
	return p->n_sets++;
}

uint32_t pool_bytes(struct pool *o, const struct ir_set *set, uint32_t next)
{
	struct program *p = o->p;
	uint32_t x, pc, k;

	if (next == PC_FAIL)
		return PC_FAIL;
	x = set_number(o, set);
	pc = pool_code(o, OP_BYTES, next, 0, x);
	if (o->error || !table_room(o, &o->codes, hash_code))
		return PC_FAIL;
	k = (uint32_t)hash_code(p, pc) & (o->codes.room - 1);
	for (; o->codes.slots[k]; k = (k + 1) & (o->codes.room - 1)) {
		const struct insn *c = &p->code[o->codes.slots[k] - 1];

		if (c->a == next && c->x == x) {
			p->n_code--; /* there is one already */
			return o->codes.slots[k] - 1;
		}
	}
	o->codes.slots[k] = pc + 1;
	o->codes.n++;
	return pc;
}

uint32_t pool_range(struct pool *o, unsigned lo, unsigned hi, uint32_t next)
{
	struct ir_set set = { 0 };

	for (unsigned b = lo; b <= hi; b++)
		set.bits[b / 64] |= 1ull << b % 64;
	return pool_bytes(o, &set, next);
}

uint32_t pool_split(struct pool *o, uint32_t a, uint32_t b)
{
	if (a == PC_FAIL || a == b)
		return b;
	return b == PC_FAIL ? a : pool_code(o, OP_SPLIT, a, b, 0);
}

/* Bytes that every set has both or none of become one class. */
static int find_classes(struct pool *o)
{
	uint16_t class_of[256] = { 0 };
	struct program *p = o->p;
	uint32_t n = 1;

	for (uint32_t s = 0; s < p->n_sets && n < 256 && !o->error; s++) {
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
		o->error = stop_look(o->stop, &o->rounds);
	}
	p->n_classes = n;
	for (unsigned b = 256; b-- > 0;) {
		p->class_of[b] = (uint8_t)class_of[b];
		p->byte_of[class_of[b]] = (uint8_t)b;
	}
	return o->error;
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

/* Arrays grew by doubling; a program is kept for long. */
static void *fit(void *array, size_t n, size_t size)
{
	void *p = n ? realloc(array, n * size) : NULL;

	return p ? p : array;
}

int pool_end(struct pool *o)
{
	struct program *p = o->p;
	int rc = find_classes(o);

	if (rc)
		return rc;
	find_counted(p);
	p->code = fit(p->code, p->n_code, sizeof(*p->code));
	p->sets = fit(p->sets, p->n_sets, sizeof(*p->sets));
	p->bounds = fit(p->bounds, p->n_bounds, sizeof(*p->bounds));
	return 0;
}
