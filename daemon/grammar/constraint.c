/* SPDX-License-Identifier: MIT */
/* daemon/grammar/constraint.c: see constraint.h. */
#include "grammar/constraint.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "grammar/constraint_impl.h"
#include "grammar/gbnf.h"
#include "grammar/matcher.h"
#include "grammar/program.h"
#include "grammar/regex.h"
#include "grammar/schema.h"
#include "grammar/vocab.h"

struct constraint {
	_Atomic unsigned holders;
	struct program *program;
	struct vocab *v;
};

/* ---- what comes before ---- */

static ir_node shared(struct ir *ir, ir_node node)
{
	uint32_t rule = ir_rule(ir, NULL, 0);

	ir_rule_set(ir, rule, node);
	return ir_ref(ir, rule);
}

/* Behind <|start|>assistant: a message's head on a channel, and its body. */
static ir_node on_channel(struct making *m, const char *channel, ir_node body)
{
	struct ir *ir = m->ir;

	return IR_SEQ_OF(ir, making_mark(m, "<|channel|>"), ir_string(ir, channel),
			 making_mark(m, "<|message|>"), body);
}

/* Analysis as often as it comes, and beside free text words before a call; then the final channel or
 * a call. */
static ir_node with_channels(struct making *m, ir_node root, ir_node call)
{
	struct ir *ir = m->ir;
	uint32_t message = ir_rule(ir, NULL, 0);
	ir_node next = IR_SEQ_OF(ir, making_mark(m, "<|start|>"), ir_string(ir, "assistant"),
				 ir_ref(ir, message));
	const struct mark ends[] = { { "<|end|>", next },
				     { "<|start|>", ir_fail() },
				     { "<|call|>", ir_fail() },
				     { "<|return|>", ir_fail() } };
	ir_node text = shared(ir, making_text(m, ends, 4, false));
	ir_node words = m->ask->form == FORM_FREE ? on_channel(m, "commentary", text) : ir_fail();

	ir_rule_set(ir, message,
		    IR_ALT_OF(ir, on_channel(m, "final", root), call,
			      on_channel(m, "analysis", text), words));
	return ir_ref(ir, message);
}

static ir_node with_before(struct making *m, ir_node root)
{
	struct ir *ir = m->ir;
	ir_node thought;

	root = shared(ir, root);
	if (m->ask->before == BEFORE_NOTHING)
		return root;
	thought = making_until(m, "</think>", IR_SEQ_OF(ir, making_gap(m), root), false);
	if (m->ask->before == BEFORE_THINKING)
		return thought;
	return IR_ALT_OF(ir, root,
			 IR_SEQ_OF(ir, making_gap(m), making_mark(m, "<think>"), thought));
}

/* ---- the form ---- */

static int root_of(struct making *m, ir_node *ret)
{
	static const struct regex_options whole = { .chars = plain_chars };
	const struct constraint_ask *ask = m->ask;
	const struct schema_options o = { .strict = ask->strict };
	struct json_object *object;
	int rc;

	switch (ask->form) {
	case FORM_OBJECT:
		object = making_any_object();
		rc = object ? schema_node(m->ir, object, object, &o, ret, m->err) : -ENOMEM;
		json_object_put(object);
		return rc;
	case FORM_SCHEMA:
		return schema_node(m->ir, ask->schema, ask->schema, &o, ret, m->err);
	case FORM_GBNF:
		return gbnf_node(m->ir, ask->text, ask->n, ret, m->err);
	case FORM_REGEX:
		return regex_node(m->ir, ask->text, ask->n, &whole, ret, m->err);
	default:
		*ret = ir_fail(); /* calls() has it */
		return 0;
	}
}

/* Harmony: a text on the final channel, in which none of the markers may be spelled. */
static ir_node harmony_text(struct making *m)
{
	static const struct mark none[] = {
		{ "<|end|>", 0 }, { "<|start|>", 0 }, { "<|call|>", 0 }, { "<|return|>", 0 }
	};

	return making_text(m, none, sizeof(none) / sizeof(none[0]), true);
}

/* The answer is of the form, or it is calls. */
static int whole_of(struct making *m, ir_node *ret)
{
	const struct constraint_ask *ask = m->ask;
	bool free_text = ask->form == FORM_FREE, harmony = ask->call_form == CALL_HARMONY;
	ir_node root = ir_fail(), call = ir_fail();
	int rc;

	m->ir->guard = harmony ? '|' : 0; /* a message ends at <|end|> however it is written */
	rc = root_of(m, &root);
	m->ir->guard = 0;
	if (!rc && (free_text || ask->form == FORM_CALLS ||
		    (ask->tools && ask->call_form != CALL_UNKNOWN)))
		rc = harmony ? making_harmony_call(m, &call) : making_calls(m, free_text, &call);
	if (rc)
		return rc;
	if (harmony && free_text)
		root = harmony_text(m);
	if (ask->before == BEFORE_CHANNELS)
		*ret = with_channels(m, root, call);
	else
		*ret = with_before(m, IR_ALT_OF(m->ir, root, call));
	return 0;
}

int constraint_create(const struct constraint_ask *ask, struct vocab *v, struct constraint **ret,
		      struct err *err)
{
	struct making m = { .ask = ask, .v = v, .err = err };
	struct constraint *c = calloc(1, sizeof(*c));
	ir_node root = ir_fail();
	int rc = c ? ir_create(&m.ir) : -ENOMEM;

	if (!rc)
		ir_stop_at(m.ir, ask->stop);
	rc = rc ? rc : whole_of(&m, &root);
	rc = rc ? rc : program_of_node(m.ir, root, &c->program, err);
	rc = m.ir && ir_error(m.ir) ? ir_error(m.ir) : rc; /* what was stopped is nothing else */
	grammar_say(rc, err);
	ir_destroy(m.ir);
	if (rc) {
		free(c);
		return rc;
	}
	c->holders = 1;
	c->v = vocab_hold(v);
	*ret = c;
	return 0;
}

struct constraint *constraint_hold(struct constraint *c)
{
	if (c)
		atomic_fetch_add_explicit(&c->holders, 1, memory_order_relaxed);
	return c;
}

void constraint_put(struct constraint *c)
{
	/* the last one sees what the others did before they let go */
	if (!c || atomic_fetch_sub_explicit(&c->holders, 1, memory_order_acq_rel) != 1)
		return;
	program_destroy(c->program);
	vocab_destroy(c->v);
	free(c);
}

size_t constraint_bytes(const struct constraint *c)
{
	return sizeof(*c) + program_bytes(c->program);
}

int constraint_matcher(const struct constraint *c, struct matcher **ret)
{
	return matcher_create(c->program, c->v, ret);
}
