/* SPDX-License-Identifier: MIT */
/* daemon/grammar/names.c: see names.h. */
#include "grammar/names.h"

#include <stdlib.h>
#include <string.h>

static uint32_t hash(const void *key, size_t n)
{
	const uint8_t *b = key;
	uint64_t h = 14695981039346656037u; /* FNV-1a */

	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 1099511628211u;
	return (uint32_t)(h ^ h >> 32);
}

struct name *names_find(const struct names *m, const void *key, size_t n)
{
	if (!m->n_slots)
		return NULL;
	for (uint32_t k = hash(key, n) & (m->n_slots - 1); m->slots[k];
	     k = (k + 1) & (m->n_slots - 1)) {
		struct name *e = &m->names[m->slots[k] - 1];

		if (e->n == n && !memcmp(e->key, key, n))
			return e;
	}
	return NULL;
}

static void put(struct names *m, uint32_t i)
{
	uint32_t k = hash(m->names[i].key, m->names[i].n) & (m->n_slots - 1);

	while (m->slots[k])
		k = (k + 1) & (m->n_slots - 1);
	m->slots[k] = i + 1;
}

static bool grow(struct names *m)
{
	uint32_t room = m->room ? m->room * 2 : 32;
	struct name *names = realloc(m->names, room * sizeof(*names));
	uint32_t *slots;

	if (!names)
		return false;
	m->names = names;
	slots = calloc(room * 2, sizeof(*slots));
	if (!slots)
		return false;
	free(m->slots);
	m->slots = slots;
	m->n_slots = room * 2;
	m->room = room;
	for (uint32_t i = 0; i < m->n; i++)
		put(m, i);
	return true;
}

struct name *names_add(struct names *m, const void *key, size_t n, uint32_t value)
{
	char *copy;

	if (m->n == m->room && !grow(m))
		return NULL;
	copy = malloc(n + 1);
	if (!copy)
		return NULL;
	memcpy(copy, key, n);
	copy[n] = '\0';
	m->names[m->n] = (struct name){ copy, n, value };
	put(m, m->n);
	return &m->names[m->n++];
}

void names_done(struct names *m)
{
	for (uint32_t i = 0; i < m->n; i++)
		free(m->names[i].key);
	free(m->names);
	free(m->slots);
	*m = (struct names){ 0 };
}
