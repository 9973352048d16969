/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/forms.h: the forms that answers are held to, made off the event loop: the vocabulary's
 * trie, which all of them share and which is made with the first, what requests of the same form share
 * (grammar/form_cache.h), and a thread that compiles what sessions ask for. (HTTP's worker compiles its
 * own, with the rest of its request.)
 *
 * Whoever takes a task back, and forms_destroy(), do not wait for what is being compiled: it looks up
 * every millisecond or so (grammar/stop.h).
 */
#ifndef SLUICE_SERVE_FORMS_H
#define SLUICE_SERVE_FORMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "grammar/constraint.h"

struct chat_template;
struct form_task;
struct forms;
struct grammar_stop;
struct matcher;
struct serve;
struct vocab;

/* @kept_bytes: for forms that have been, as planned. The thread starts with the first task. 0 or -ENOMEM. */
int forms_create(struct serve *s, size_t kept_bytes, struct forms **ret);
void forms_destroy(struct forms *f); /* NULL is fine; its tasks are gone by then */

/*
 * The form of a request, which the caller holds: kept from an earlier one, or compiled. The thread
 * of its own compiles with this too. Errors as constraint_create(). Any thread.
 */
int forms_compile(struct forms *f, uint64_t tenant, const struct constraint_ask *ask,
		  struct constraint **ret, struct err *err);
/* A matcher of such a form at the beginning of an answer: 0 or -ENOMEM; and back. Any thread. */
int forms_matcher(struct forms *f, const struct constraint *c, struct matcher **ret);
void forms_give_back(struct forms *f, const struct constraint *c, struct matcher *m);

/* What came of all that. Any thread. */
struct form_cache_counts;
void forms_get_counts(struct forms *f, struct form_cache_counts *ret);

/*
 * What may stand before the form of an answer to @prompt (@n bytes; only its end counts): thoughts, as
 * the template writes them. Any thread.
 */
enum before forms_before(const struct chat_template *chat, const char *prompt, size_t n);

/* A form as text: FORM_SCHEMA (JSON), FORM_GBNF, FORM_REGEX. */
struct form_text {
	enum form form;
	bool strict;
	const char *text; /* @n bytes */
	size_t n;
	enum before before;
	uint64_t tenant; /* ask.h */
};

/*
 * Copies @what; serve_wake() when it is done. Main thread. 0, -ENOMEM, or -EBUSY and a sentence: too many
 * bytes wait.
 */
int forms_begin(struct forms *f, const struct form_text *what, struct form_task **ret,
		struct err *err);
/* Ends it early: it is done soon. */
void forms_cut(struct form_task *t);
bool forms_is_done(const struct form_task *t);
/* Of a task that is done, which goes: 0 and *ret, which the caller holds, or as constraint_create(). */
int forms_take(struct form_task *t, struct constraint **ret, struct err *err);
/* Takes the task back, done or not, and out of the queue; it frees itself. Main thread. */
void forms_drop(struct form_task *t);

#endif
