/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/constraint_impl.h: constraint.c (the whole) and calls_form.c (calls of tools).
 */
#ifndef SLUICE_GRAMMAR_CONSTRAINT_IMPL_H
#define SLUICE_GRAMMAR_CONSTRAINT_IMPL_H

#include "grammar/constraint.h"
#include "grammar/ir.h"

struct making {
	const struct constraint_ask *ask;
	const struct vocab *v;
	struct ir *ir;
	struct err *err;
};

/* A marker of the model's family: the control token of that name where there is one, else its text. */
ir_node making_mark(struct making *m, const char *text);
/*
 * Free text up to and with the first marker, then @next; where @may_end the text may also end before.
 * Control tokens are in it only as the marker.
 */
ir_node making_until(struct making *m, const char *mark, ir_node next, bool may_end);

/* calls_form.c: one call or several, or (@any_text) any text with calls in it. 0 or -errno. */
int making_calls(struct making *m, bool any_text, ir_node *ret);

#endif
