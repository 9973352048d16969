/* SPDX-License-Identifier: MIT */
/*
 * base/logfmt.h: one line of key=value fields in which no value can pretend to be anything else.
 *
 * Values come from untrusted places (paths, model files, clients). Whatever they hold, the line has
 * no line end, no control character and only valid UTF-8, and a quoted value ends where its quotes
 * end: quotes and backslashes are escaped, control characters become \n, \t, \r or \u00XX (the line
 * and paragraph separators of Unicode too), bytes that are no UTF-8 become U+FFFD. A line that is too
 * long is cut at a character and ends in "..." with its quotes closed. Pure; any thread.
 */
#ifndef SLUICE_BASE_LOGFMT_H
#define SLUICE_BASE_LOGFMT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Room that every line has for what marks a cut. */
#define LOGFMT_RESERVE 8

struct logfmt {
	char *buf; /* not NUL-terminated */
	size_t used, room;
	bool quoted; /* within the quotes of a value */
	bool cut;    /* something did not fit: nothing more is added */
};

/* @room bytes at @buf, more than LOGFMT_RESERVE. */
void logfmt_init(struct logfmt *l, char *buf, size_t room);

/* @text as a quoted value, quotes included. */
void logfmt_value(struct logfmt *l, const char *text);

/*
 * As printf() would, but what %s inserts is escaped, and quoted where the format has no quotes
 * around it and the value needs them: `"file=%s note=\"%s\" n=%u"`. Everything of printf() but %n,
 * %a, %ls, the width of a %s, and positions.
 */
void logfmt_printf(struct logfmt *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void logfmt_vprintf(struct logfmt *l, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

/* Marks a cut where there was one. The number of bytes of the line, at most @room. */
size_t logfmt_end(struct logfmt *l);

#endif
