/* SPDX-License-Identifier: MIT */
/* daemon/serve/stops.c: see stops.h. */
#include "serve/stops.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct stops {
	struct stop_text texts[STOPS_MAX]; /* copies, each with a NUL behind it */
	unsigned n;
	const char *hit;
	size_t shown; /* bytes at the start of held that the last call gave out */
	size_t n_held, room;
	char *held;
};

struct stops *stops_create(const struct stop_text *texts, unsigned n, size_t most)
{
	struct stops *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->room = most + STOPS_BYTES_MAX;
	s->held = malloc(s->room);
	for (unsigned i = 0; s->held && i < n && i < STOPS_MAX; i++) {
		char *copy = calloc(1, texts[i].bytes + 1);

		if (!copy)
			break;
		memcpy(copy, texts[i].text, texts[i].bytes);
		s->texts[s->n++] = (struct stop_text){ copy, texts[i].bytes };
	}
	if (s->n == n && s->held)
		return s;
	stops_destroy(s);
	return NULL;
}

void stops_destroy(struct stops *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n; i++)
		free((void *)(uintptr_t)s->texts[i].text);
	free(s->held);
	free(s);
}

static void drop_shown(struct stops *s)
{
	memmove(s->held, s->held + s->shown, s->n_held - s->shown);
	s->n_held -= s->shown;
	s->shown = 0;
}

/* The first place where a stop string stands whole; n_held: none. */
static size_t find_whole(struct stops *s)
{
	size_t first = s->n_held;

	for (unsigned i = 0; i < s->n; i++) {
		const char *at = memmem(s->held, s->n_held, s->texts[i].text, s->texts[i].bytes);

		if (at && (size_t)(at - s->held) < first) {
			first = (size_t)(at - s->held);
			s->hit = s->texts[i].text;
		}
	}
	return first;
}

/* Is the end of what is held, from @at, the beginning of a stop string? */
static bool may_begin(const struct stops *s, size_t at)
{
	size_t n = s->n_held - at;

	for (unsigned i = 0; i < s->n; i++)
		if (s->texts[i].bytes > n && !memcmp(s->held + at, s->texts[i].text, n))
			return true;
	return false;
}

size_t stops_push(struct stops *s, const char *text, size_t bytes, const char **ret)
{
	size_t at;

	drop_shown(s);
	*ret = s->held;
	if (s->hit || bytes > s->room - s->n_held)
		return 0;
	memcpy(s->held + s->n_held, text, bytes);
	s->n_held += bytes;
	at = find_whole(s);
	if (s->hit) {
		s->n_held = at;
		return s->shown = at;
	}
	at = s->n_held >= STOPS_BYTES_MAX ? s->n_held - STOPS_BYTES_MAX + 1 : 0;
	while (at < s->n_held && !may_begin(s, at))
		at++;
	return s->shown = at;
}

size_t stops_flush(struct stops *s, const char **ret)
{
	drop_shown(s);
	*ret = s->held;
	return s->shown = s->n_held;
}

const char *stops_hit(const struct stops *s)
{
	return s->hit;
}
