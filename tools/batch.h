/* SPDX-License-Identifier: MIT */
/*
 * tools/batch.h: the parts of `sluice batch`: a file of requests and what was answered so far
 * (batch_file.c), lines of results (batch_result.c), how far it is (batch_progress.c). The run is
 * batch_run.c's. Both files are untrusted. One thread.
 *
 *	in	{"custom_id", "method", "url", "body"}				a line each
 *	out	{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}
 *
 * as OpenAI's batch API has them. A line of the input that cannot be asked has an error with code,
 * message and its number as "line", and response null.
 */
#ifndef SLUICE_TOOLS_BATCH_H
#define SLUICE_TOOLS_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/jsonc.h"
#include "tools/http_reply.h"

#define BATCH_LINE_MAX (33u << 20) /* bytes: what a body may have, and some more */
#define BATCH_NAME_MAX (64u << 10) /* bytes of a custom_id: with it a fault stays a line */

struct batch_line {
	uint64_t at;	 /* where it begins in the file */
	uint32_t bytes;	 /* without its end; more than BATCH_LINE_MAX: too long to be asked */
	uint32_t number; /* counted from 1, empty lines too */
	char *custom_id; /* NULL: it has none */
	bool done;	 /* its result is in the output */
	bool running;	 /* or waits for another try */
	unsigned lost;	 /* times that the connection ended under it */
	uint64_t not_before_ns; /* the next try; 0: at once */
	uint64_t refused_ns;	/* since when it is told to come again; 0: it is not */
	char *result;		/* to be written in order; NULL: none yet */
	bool failed;		/* that result: it is no answer of status 200 */
};

struct batch {
	const char *path, *out_path;
	int in, out;
	struct batch_line *lines;
	size_t n_lines;
	uint32_t *index; /* custom_id -> number of the line in @lines, from 1; open addressing */
	size_t index_room;
	size_t n_done, n_failed; /* failed: done without an answer of status 200 */
	uint64_t bytes, bytes_done;
	bool dirty; /* written and not yet synced */
};

/*
 * Reads @path once: where lines are, what they are called. -EEXIST: a custom_id stands twice; -errno and a
 * sentence. batch_close() in any case.
 */
int batch_open(struct batch *b, const char *path, struct err *err);

/*
 * Opens or makes @path for results, alone (-EBUSY: another batch writes there), and marks the lines that
 * have one. A last line without its end is cut off: *ret_cut bytes. -EINVAL: it holds something else than
 * results of this batch.
 */
int batch_resume(struct batch *b, const char *path, size_t *ret_cut, struct err *err);

/* The text of a line, malloc'd. 0 or -errno and a sentence. */
int batch_text(const struct batch *b, const struct batch_line *l, char **ret, struct err *err);

/* Appends a result (without its end) whole, or not at all. @failed: it is no answer of status 200. */
int batch_write(struct batch *b, struct batch_line *l, const char *result, bool failed,
		struct err *err);
int batch_sync(struct batch *b, struct err *err); /* until then it may be lost with the power */
void batch_close(struct batch *b);

/* ---- lines of requests and results ---- */

/* What a line asks. */
struct batch_ask {
	const char *url;  /* one of ours, static */
	const char *body; /* JSON, within @object */
	struct json_object *object;
};

/* Why a line cannot be asked. */
struct batch_fault {
	const char *code; /* static */
	struct err err;
};

/* The custom_id of a line, malloc'd; NULL: it has none that is a text of 1 to BATCH_NAME_MAX bytes. */
char *batch_custom_id(const char *text, size_t n);

/* False: ret_fault says why. @ret->object is the caller's to put. */
bool batch_ask_parse(const char *text, size_t n, struct batch_ask *ret,
		     struct batch_fault *ret_fault);

/*
 * A result as malloc'd text without its end; NULL: out of memory. batch_resume() can read it: an answer
 * that is no JSON object, or makes a line that is too long or nests too deep, is a fault. *ret_failed: it
 * is no answer of status 200.
 */
char *batch_result_fault(const struct batch_line *l, const struct batch_fault *fault);
char *batch_result_answer(const struct batch_line *l, const struct http_reply *reply,
			  uint64_t ret_tokens[2], bool *ret_failed);

/*
 * Whose result a line of the output is: *ret_id (malloc'd; NULL: a line without custom_id) and *ret_line
 * (0: not said). 0, or -EINVAL where it is none.
 */
int batch_result_parse(const char *text, size_t n, char **ret_id, uint32_t *ret_line,
		       bool *ret_failed);

/* ---- how far it is ---- */

struct batch_progress {
	uint64_t began_ns, bytes_before; /* when this run began, and what was done then */
};

/* Seconds that the rest takes at the rate of this run; negative: not known. */
double batch_seconds_left(const struct batch_progress *p, const struct batch *b, uint64_t now_ns);

/* "2 h 05 min", "3 min", "12 s" in @buf, which is returned. */
char *batch_duration(double seconds, char *buf, size_t room);

/* One line of at most @columns characters, without its end; with a bar where @bar. */
void batch_progress_text(const struct batch_progress *p, const struct batch *b, uint64_t now_ns,
			 bool bar, unsigned columns, char *buf, size_t room);

#endif
