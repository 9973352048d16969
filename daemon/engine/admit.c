/* SPDX-License-Identifier: MIT */
/* daemon/engine/admit.c: see admit.h. */
#include "engine/admit.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int turns_init(struct turns *t, uint32_t most)
{
	*t = (struct turns){ .most = most };
	t->clients = calloc(most, sizeof(*t->clients));
	return t->clients ? 0 : -ENOMEM;
}

void turns_fini(struct turns *t)
{
	free(t->clients);
	*t = (struct turns){ 0 };
}

uint32_t turns_enter(struct turns *t, uint64_t key)
{
	uint64_t least = UINT64_MAX;
	uint32_t place = t->n;

	for (uint32_t i = 0; i < t->n; i++) {
		struct client *c = &t->clients[i];

		if (!c->n_inside) {
			place = i;
			continue;
		}
		if (c->key == key) {
			c->n_inside++;
			return i;
		}
		least = c->served < least ? c->served : least;
	}
	/* every client has a request, and there are not more than so many requests */
	assert(place < t->most);
	if (place == t->n)
		t->n++;
	t->clients[place] = (struct client){ .key = key,
					     .served = least == UINT64_MAX ? 0 : least,
					     .n_inside = 1 };
	return place;
}

void turns_leave(struct turns *t, uint32_t client)
{
	assert(client < t->n && t->clients[client].n_inside);
	t->clients[client].n_inside--;
	while (t->n && !t->clients[t->n - 1].n_inside)
		t->n--;
}

void turns_serve(struct turns *t, uint32_t client, uint32_t tokens)
{
	t->clients[client].served += tokens;
}

bool turns_before(const struct turns *t, uint32_t a, uint64_t a_came, uint32_t b, uint64_t b_came)
{
	uint64_t of_a = t->clients[a].served, of_b = t->clients[b].served;

	return a == b || of_a == of_b ? a_came < b_came : of_a < of_b;
}
