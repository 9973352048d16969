/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/constraint.h: the form that an answer is held to, as a whole: reasoning that may come
 * first and is free, then a text of a form, or calls of tools as the model's family writes them.
 *
 * Made on a thread that may take its time; constant then, shared by the matchers of its requests.
 */
#ifndef SLUICE_GRAMMAR_CONSTRAINT_H
#define SLUICE_GRAMMAR_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct constraint;
struct grammar_stop;
struct json_object;
struct matcher;
struct vocab;

enum form {
	FORM_FREE,   /* any text: with tools, calls where the model makes them */
	FORM_OBJECT, /* any JSON object */
	FORM_SCHEMA,
	FORM_GBNF,
	FORM_REGEX,
	FORM_CALLS, /* nothing but calls of tools, at least one */
};

/* How calls are written: calls_form.c shows each. */
enum call_form {
	CALL_HERMES,
	CALL_QWEN_XML,
	CALL_GLM,
	CALL_MINIMAX,
	CALL_DEEPSEEK,
	CALL_KIMI,
	CALL_HARMONY, /* one call: it ends the answer */
	CALL_UNKNOWN
};

/* What comes before: thoughts are free text. */
enum before {
	BEFORE_NOTHING,
	BEFORE_MAY_THINK, /* <think>...</think>, or nothing */
	BEFORE_THINKING,  /* the prompt ends within a thought: ...</think> */
	BEFORE_CHANNELS, /* harmony: analysis or nothing, then the final channel's head or a call */
};

struct constraint_ask {
	enum form form;
	struct json_object *schema; /* FORM_SCHEMA */
	bool strict;		    /* what a schema says and cannot be held is refused */
	const char *text;	    /* FORM_GBNF, FORM_REGEX: @n bytes */
	size_t n;
	/* calls: an array as calls.h has it; a tool's strict counts for its parameters */
	struct json_object *tools;
	enum call_form call_form;
	const char *only; /* the one tool that may be called; NULL: any */
	bool one_call;
	enum before before;
	const struct grammar_stop *stop; /* NULL: none; as grammar.h has it */
};

/*
 * All of @ask is borrowed; @v is held as long as the constraint lives. 0; -EINVAL, -ENOTSUP, -E2BIG and
 * a sentence as grammar.h has them; -ENOMEM; -ECANCELED, -ETIME: it was stopped.
 */
int constraint_create(const struct constraint_ask *ask, struct vocab *v, struct constraint **ret,
		      struct err *err);
/* One more holder; the last constraint_put() frees it. Any thread. NULL is fine. */
struct constraint *constraint_hold(struct constraint *c);
void constraint_put(struct constraint *c);

/* Of memory, without the vocabulary. */
size_t constraint_bytes(const struct constraint *c);

/* At the beginning of an answer. 0 or -ENOMEM; the caller destroys it before it puts the constraint. */
int constraint_matcher(const struct constraint *c, struct matcher **ret);

#endif
