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

#define MAX_MARK 64

struct constraint {
	_Atomic unsigned holders;
	struct program *program;
	struct vocab *v;
};

/* ---- markers and free text ---- */

static ir_node control(struct ir *ir, const char *text)
{
	static const uint8_t head = VOCAB_CONTROL;

	return IR_SEQ_OF(ir, ir_text(ir, &head, 1), ir_string(ir, text));
}

ir_node making_mark(struct making *m, const char *text)
{
	return vocab_has_control(m->v, text) ? control(m->ir, text) : ir_string(m->ir, text);
}

/* Any byte but the head of control tokens. */
static ir_node free_byte(struct ir *ir)
{
	return ir_byte_range(ir, 0, VOCAB_CONTROL - 1);
}

/* How many bytes of the marker are matched after @i of them and then @b (Knuth, Morris, Pratt). */
static size_t matched(const char *mark, size_t i, unsigned char b)
{
	for (size_t k = i + 1; k > 0; k--)
		if ((unsigned char)mark[k - 1] == b && !memcmp(mark, mark + i + 1 - k, k - 1))
			return k;
	return 0;
}

ir_node making_until(struct making *m, const char *mark, ir_node next, bool may_end)
{
	struct ir *ir = m->ir;
	size_t n = strlen(mark);
	uint32_t first = 0;

	if (n > MAX_MARK || vocab_has_control(m->v, mark)) {
		next = IR_SEQ_OF(ir, control(ir, mark), next);
		return IR_SEQ_OF(ir, ir_rep(ir, free_byte(ir), 0, IR_UNBOUNDED),
				 may_end ? IR_ALT_OF(ir, next, ir_empty()) : next);
	}
	/* a rule for each number of bytes that match */
	for (size_t i = 0; i < n; i++) {
		uint32_t rule = ir_rule(ir, NULL, 0);

		first = i ? first : rule;
	}
	for (size_t i = 0; i < n && !ir_error(ir); i++) {
		struct ir_set to[MAX_MARK + 1] = { 0 };
		ir_node parts[MAX_MARK + 2] = { 0 };

		for (unsigned b = 0; b < VOCAB_CONTROL; b++)
			to[matched(mark, i, (unsigned char)b)].bits[b / 64] |= 1ull << b % 64;
		for (size_t k = 0; k <= n; k++)
			parts[k] = IR_SEQ_OF(ir, ir_bytes(ir, &to[k]),
					     k < n ? ir_ref(ir, first + (uint32_t)k) : next);
		parts[n + 1] = may_end ? ir_empty() : ir_fail();
		ir_rule_set(ir, first + (uint32_t)i, ir_alt(ir, parts, n + 2));
	}
	return ir_ref(ir, first);
}

/* ---- what comes before ---- */

/* Line ends and blanks between a thought and what follows it. */
static ir_node gap(struct ir *ir)
{
	ir_node one = IR_ALT_OF(ir, ir_string(ir, "\n"), ir_string(ir, " "));

	return ir_rep(ir, one, 0, 4);
}

static ir_node with_channels(struct making *m, ir_node root)
{
	struct ir *ir = m->ir;
	ir_node final = IR_SEQ_OF(ir, making_mark(m, "<|channel|>"), ir_string(ir, "final"),
				  making_mark(m, "<|message|>"), root);
	ir_node again =
		IR_SEQ_OF(ir, making_mark(m, "<|start|>"), ir_string(ir, "assistant"), final);
	ir_node thought = IR_SEQ_OF(ir, making_mark(m, "<|channel|>"), ir_string(ir, "analysis"),
				    making_mark(m, "<|message|>"),
				    making_until(m, "<|end|>", again, false));

	return IR_ALT_OF(ir, thought, final);
}

static ir_node with_before(struct making *m, ir_node root)
{
	struct ir *ir = m->ir;
	uint32_t rule = ir_rule(ir, NULL, 0);
	ir_node thought;

	ir_rule_set(ir, rule, root);
	root = ir_ref(ir, rule);
	if (m->ask->before == BEFORE_NOTHING)
		return root;
	if (m->ask->before == BEFORE_CHANNELS)
		return with_channels(m, root);
	thought = making_until(m, "</think>", IR_SEQ_OF(ir, gap(ir), root), false);
	if (m->ask->before == BEFORE_THINKING)
		return thought;
	return IR_ALT_OF(ir, root, IR_SEQ_OF(ir, making_mark(m, "<think>"), thought));
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
		object = json_tokener_parse("{\"type\": \"object\"}");
		rc = schema_node(m->ir, object, object, &o, ret, m->err);
		json_object_put(object);
		return rc;
	case FORM_SCHEMA:
		return schema_node(m->ir, ask->schema, ask->schema, &o, ret, m->err);
	case FORM_GBNF:
		return gbnf_node(m->ir, ask->text, ask->n, ret, m->err);
	case FORM_REGEX:
		return regex_node(m->ir, ask->text, ask->n, &whole, ret, m->err);
	default:
		return making_calls(m, ask->form == FORM_FREE, ret);
	}
}

/* A form beside tools: the answer is of it, or it is calls. */
static int whole_of(struct making *m, ir_node *ret)
{
	const struct constraint_ask *ask = m->ask;
	bool alone = ask->form == FORM_FREE || ask->form == FORM_CALLS || !ask->tools ||
		     ask->call_form == CALL_UNKNOWN;
	ir_node calls;
	int rc = root_of(m, ret);

	if (rc || alone)
		return rc;
	rc = making_calls(m, false, &calls);
	*ret = IR_ALT_OF(m->ir, *ret, calls);
	return rc;
}

int constraint_create(const struct constraint_ask *ask, struct vocab *v, struct constraint **ret,
		      struct err *err)
{
	struct making m = { .ask = ask, .v = v, .err = err };
	struct constraint *c = calloc(1, sizeof(*c));
	ir_node root = ir_fail();
	int rc = c ? ir_create(&m.ir) : -ENOMEM;

	rc = rc ? rc : whole_of(&m, &root);
	rc = rc ? rc : program_of_node(m.ir, with_before(&m, root), &c->program, err);
	if (rc == -ENOMEM)
		err_set(err, rc, "out of memory");
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

int constraint_matcher(const struct constraint *c, struct matcher **ret)
{
	return matcher_create(c->program, c->v, ret);
}
