/* SPDX-License-Identifier: MIT */
/*
 * tools/shown.h: texts of a model or a daemon on their way to a terminal, which they must not steer: whole
 * ones (what failed) and those that come in pieces (answers). Pure; one thread.
 */
#ifndef SLUICE_TOOLS_SHOWN_H
#define SLUICE_TOOLS_SHOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A text in pieces, on its way to a terminal; zero at first. */
struct shown {
	uint8_t part[4]; /* of a character that is not complete */
	unsigned n;
	bool cr;   /* a carriage return that a newline may follow */
	bool raw;  /* it goes to a file or a pipe: as it is */
	char last; /* the last byte that was written; 0: none */
};

/*
 * Writes @text: whole characters, tabs and newlines as they are; what would steer a terminal or turn the
 * direction of writing (control characters, U+0080 to U+009F, U+202A to U+202E, U+2066 to U+2069) as
 * ^X or <U+XXXX>, bytes that are no UTF-8 as U+FFFD.
 */
void shown_put(struct shown *s, FILE *out, const char *text, size_t n);
void shown_end(struct shown *s, FILE *out); /* what was left of a character */

/* A sentence that a daemon said, in place: '?' for every byte of what shown_put() writes otherwise. */
void shown_clean(char *text);

#endif
