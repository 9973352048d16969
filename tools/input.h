/* SPDX-License-Identifier: MIT */
/*
 * tools/input.h: texts and token lists from arguments and files, and text as JSON. Failures are a
 * sentence in struct err. One thread.
 */
#ifndef SLUICE_TOOLS_INPUT_H
#define SLUICE_TOOLS_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opts.h"

struct json_t; /* jansson's; not included here, as json-c's names clash with it */

/* A whole file, "-" for standard input: malloc'd with a NUL behind it. 0 or -errno. */
int input_file(const char *path, char **ret, size_t *ret_bytes, struct err *err);

/* A text given as such, "-" for standard input: malloc'd with a NUL behind it. 0 or -errno. */
int input_text(const char *text, char **ret, size_t *ret_bytes, struct err *err);

/* "[1, 2, 3]" -> malloc'd ids. 0 or -EINVAL. @what names the source in messages. */
int input_tokens(const char *json, size_t bytes, const char *what, uint32_t **ret, size_t *ret_n,
		 struct err *err);

/* "512,2048" -> up to @room numbers of at most @most. Returns how many, or -EINVAL. */
int input_list(const char *text, uint32_t most, uint32_t *ret, size_t room, struct err *err);

/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. NULL: out of memory. */
struct json_t *input_json_text(const char *text, size_t bytes);
/* Puts the text @text, so made, into the object @o. Out of memory: it is left out. */
void input_put_text(struct json_t *o, const char *name, const char *text);

/*
 * True where @path is there and no regular file (a device, a pipe, a directory): renaming a new file
 * over it would destroy it.
 */
bool input_is_special(const char *path);

/*
 * Prints @object (taken over; NULL: there was no memory for it) on stdout as one line, or indented.
 * 0; -EIO: see input_flush(); -ENOMEM after a sentence on stderr.
 */
int input_print_json(struct json_t *object, bool lines);

/*
 * Flushes stdout. -EIO where something could not be written, now or before; main() then says so for
 * every verb, so that a verb need only return.
 */
int input_flush(void);

/* For who writes to stdout by other means: what failed there, a positive errno. */
void input_output_failed(int error);

/* main()'s part: flushes and closes stdout, says what failed. @rc or the exit status of a failure. */
int input_finish(const char *verb, int rc);

/*
 * The part that all verbs share: parses, and answers --help with @usage and the table. Returns -1
 * to go on, else the exit status. @help points to the parsed flag. @ret_word (not NULL) gets the one
 * argument that is no option, or NULL where there is none.
 */
int input_args(const char *usage, const struct opt *table, size_t n, int argc, char **argv,
	       void *args, const bool *help, const char **ret_word);

#endif
