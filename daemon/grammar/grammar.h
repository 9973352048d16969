/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/grammar.h: what holds an answer to a form: GBNF, a regular expression, a JSON schema
 * or any JSON object, as a program (program.h). docs/structured-output.md says what each can say.
 *
 * Texts are hostile: depth, size and time are limited, and what is refused is refused with a sentence.
 * Compiling allocates and may take milliseconds: never on the event loop or the engine's thread.
 */
#ifndef SLUICE_GRAMMAR_GRAMMAR_H
#define SLUICE_GRAMMAR_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct json_object;
struct program;

#define GRAMMAR_MAX_DEPTH 200	      /* of groups, of schemas within schemas */
#define GRAMMAR_MAX_TEXT  (4u << 20)  /* bytes of a grammar or an expression */
#define GRAMMAR_MAX_COUNT 1000000000u /* of a repetition's bounds */

/*
 * Each: 0; -EINVAL and a sentence: it is no grammar, expression or schema, or nothing fits it;
 * -ENOTSUP and a sentence that names the construct: it is one, but cannot be held; -E2BIG: over a
 * limit; -ENOMEM. The caller destroys *ret with program_destroy().
 */
int grammar_gbnf(const char *text, size_t n, struct program **ret, struct err *err);

/* The whole text is to match, anchors or not. */
int grammar_regex(const char *text, size_t n, struct program **ret, struct err *err);

struct schema_options {
	/* What cannot be held is refused (-ENOTSUP names the keyword), else it is left out. */
	bool strict;
};

/* @schema: an object, true or false. Borrowed. */
int grammar_schema(struct json_object *schema, const struct schema_options *o, struct program **ret,
		   struct err *err);

/* The sentence of -ENOMEM, -ECANCELED and -ETIME; of others and 0 nothing is said. */
void grammar_say(int code, struct err *err);

#endif
