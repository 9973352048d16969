/* SPDX-License-Identifier: MIT */
/*
 * base/log.h: logging at the edge (engine's start, serve, main, tools), never in leaf rooms and
 * never per token. One line per event on stderr: logfmt, with the <N> priority prefix of
 * sd-daemon(3) when stderr is the journal. Any thread; a line is written with one write(2).
 */
#ifndef SLUICE_BASE_LOG_H
#define SLUICE_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_NOTICE = 5, LOG_INF = 6, LOG_DBG = 7 };

/* Lines above @max (less urgent) are dropped. Called at start, before other threads
 * run, and again where the bound changes (any thread). */
void log_init(enum log_level max);

/* Is standard error the journal's? Where it is, everything said there is a line. After log_init(). */
bool log_in_journal(void);

/*
 * msg is a sentence; fields follow, formatted by @fmt as logfmt_printf() does it, which quotes and
 * escapes what %s inserts:
 *	log_line(LOG_NOTICE, "ready", "model=%s budget_bytes=%llu", ...);
 * @fmt may be NULL.
 */
void log_line(enum log_level level, const char *msg, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
