/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/names.h: numbers by name, for rules and references. One thread at a time.
 */
#ifndef SLUICE_GRAMMAR_NAMES_H
#define SLUICE_GRAMMAR_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name {
	char *key; /* owned; any bytes */
	size_t n;
	uint32_t value;
};

struct names {
	struct name *names;
	uint32_t *slots; /* number + 1 */
	uint32_t n, room, n_slots;
};

/* The entry of @key, or NULL. Valid until the next names_add(). */
struct name *names_find(const struct names *m, const void *key, size_t n);
/* A new entry with @value; the key is copied and must not be there. NULL: no memory. */
struct name *names_add(struct names *m, const void *key, size_t n, uint32_t value);
void names_done(struct names *m);

#endif
