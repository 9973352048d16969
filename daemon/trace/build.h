/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/build.h: how the readers of trace formats put a route_trace together.
 * Private to policy/. Everything is checked here, so a reader only has to find the numbers.
 */
#ifndef SLUICE_TRACE_BUILD_H
#define SLUICE_TRACE_BUILD_H

#include "trace/read.h"

/* Text being read: lines are cut at '\n' in place. */
struct trace_text {
	char *at, *end; /* *end is a readable NUL */
	size_t line;	/* number of the line handed out last, from 1 */
};

/* The next line, NUL-terminated and without its line end, or NULL at the end. */
char *trace_text_line(struct trace_text *text);

/* "12", " 12": a decimal <= @max; moves *at behind it. 0 or -EINVAL. */
int trace_take_number(char **at, uint64_t max, uint64_t *ret);
/* A finite decimal fraction. 0 or -EINVAL. */
int trace_take_fraction(char **at, float *ret);

/* Sets the geometry and takes the layer table. 0, -EINVAL or -ENOMEM. */
int trace_set_geometry(struct route_trace *t, uint64_t layers, uint64_t experts, uint64_t used,
		       struct err *err);
/* A row without uses yet. */
int trace_add_row(struct route_trace *t, const struct trace_row *row, struct err *err);
/* One more use of the last row: in range and not there already. */
int trace_add_use(struct route_trace *t, const struct trace_use *use, struct err *err);
int trace_add_frequency(struct route_trace *t, const struct trace_frequency *f, struct err *err);

/* The formats of others (import.c). @text as read; they may write into it. */
bool trace_is_csv(const char *text);
bool trace_is_jsonl(const char *text);
bool trace_is_freq(const char *bytes, size_t len);
int trace_read_csv(struct route_trace *t, struct trace_text *text, struct err *err);
int trace_read_jsonl(struct route_trace *t, struct trace_text *text, struct err *err);
int trace_read_freq(struct route_trace *t, const char *bytes, size_t len, struct err *err);

#endif
