/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/stops.h: stop strings in a text that comes in pieces.
 *
 * Whole characters come in; text comes out as soon as it can no longer be the beginning of a stop
 * string, so nothing of one is ever shown, wherever tokens cut it. Owned by a job, main thread.
 */
#ifndef SLUICE_SERVE_STOPS_H
#define SLUICE_SERVE_STOPS_H

#include <stdbool.h>
#include <stddef.h>

enum { STOPS_MAX = 32, STOPS_BYTES_MAX = 1024 };

struct stop_text {
	const char *text;
	size_t bytes; /* 1 .. STOPS_BYTES_MAX */
};

struct stops;

/* Copies the texts; @most: the longest piece that will come. NULL: no memory. */
struct stops *stops_create(const struct stop_text *texts, unsigned n, size_t most);
void stops_destroy(struct stops *s); /* NULL is fine */

/*
 * Takes a piece; *ret (valid until the next call) and the returned length are what may be shown.
 * After a hit nothing more is.
 */
size_t stops_push(struct stops *s, const char *text, size_t bytes, const char **ret);

/* What is held back, at the end of the text. */
size_t stops_flush(struct stops *s, const char **ret);

/* The stop string that was met, NULL: none. Valid as long as @s. */
const char *stops_hit(const struct stops *s);

#endif
