/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/constraint_impl.h: the makers of a constraint.
 *
 *	constraint.c	the whole: what comes before, the form, or calls
 *	free_text.c	free text up to a marker
 *	calls_form.c	calls of tools, one family's form after the other
 *	calls_xml.c	parameters of a call between tags
 */
#ifndef SLUICE_GRAMMAR_CONSTRAINT_IMPL_H
#define SLUICE_GRAMMAR_CONSTRAINT_IMPL_H

#include "base/jsonc.h"
#include "grammar/constraint.h"
#include "grammar/ir.h"

struct making {
	const struct constraint_ask *ask;
	const struct vocab *v;
	struct ir *ir;
	struct err *err;
};

/* ---- free_text.c ---- */

/* A marker of the model's family: the control token of that name where there is one, else its text. */
ir_node making_mark(struct making *m, const char *text);

#define MARK_MAX  64 /* bytes of a marker */
#define MARKS_MAX 4

struct mark {
	const char *text;
	ir_node next; /* what follows it; ir_fail(): it must not come */
};

/*
 * Free text up to and with the first of the markers, then what follows that; where @may_end the text may
 * also end before. Of a marker that is a control token the same letters as plain text are not
 * allowed: who reads the text takes them for it. Other control tokens are not in it.
 */
ir_node making_text(struct making *m, const struct mark *marks, size_t n, bool may_end);
/* The same with one marker. */
ir_node making_until(struct making *m, const char *mark, ir_node next, bool may_end);

/* Up to four line ends and blanks. */
ir_node making_gap(struct making *m);

/* ---- calls_form.c: 0 or -errno ---- */

/* One call or several, or (@any_text) any text with calls in it. Not of harmony. */
int making_calls(struct making *m, bool any_text, ir_node *ret);
/* Harmony: the rest of a message behind <|start|>assistant that is a call. */
int making_harmony_call(struct making *m, ir_node *ret);

/* {"type": "object"}, the caller's. NULL: no memory. */
struct json_object *making_any_object(void);
struct json_object *making_function(struct json_object *tool);
/* What the tool takes, as a JSON object; any object where it does not say. */
int making_parameters(struct making *m, struct json_object *f, ir_node *ret);

/* ---- calls_xml.c ---- */

/* What a form writes around a call, its keys and values. Each is a marker (making_mark()) or text. */
struct xml_form {
	const char *call, *name_end; /* before and behind the name */
	const char *key, *key_end, *value, *value_end, *parameter_end;
	const char *call_end;
	const char *not_in_name; /* bytes that end a name or a key for who reads it */
	bool own_line;		 /* a value stands on lines of its own */
	bool python;		 /* True, False and None, as the template writes them, too */
};

int making_xml_call(struct making *m, const struct xml_form *x, struct json_object *f,
		    ir_node *ret);
/* Whether a name can be written between such ends and read back. */
bool making_name_fits(const char *name, const char *not_in_name);

#endif
