/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_exec.c: statements: output, conditions, loops, assignments, macros, blocks.
 *
 * Scopes are Jinja2's: loops, macros, with, call, filter, set and other blocks have one of their
 * own, conditions have none; a loop begins each turn with a new one. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

struct jscope *scope_new(struct jinja *j, struct jscope *parent, const struct jstr **hidden)
{
	struct jscope *s = jinja_alloc(j, sizeof(*s));

	s->parent = parent;
	for (; hidden && *hidden; hidden++)
		scope_set(j, s, *hidden,
			  (struct jv){ .type = J_UNDEF, .s = (struct jstr *)*hidden });
	return s;
}

void scope_set(struct jinja *j, struct jscope *s, const struct jstr *name, struct jv v)
{
	struct jvar *var = s->vars;

	while (var && var->name != name)
		var = var->next;
	if (!var) {
		var = jinja_alloc(j, sizeof(*var));
		var->name = name;
		var->next = s->vars;
		s->vars = var;
	}
	var->value = v;
}

static struct jv lookup(struct jinja *j, const struct jstr *name, struct jscope *scope)
{
	const struct jnode n = { .op = N_NAME, .name = name, .line = j->line };

	return jinja_eval(j, &n, scope);
}

static void assign_tuple(struct jinja *j, const struct jnode *target, struct jv v,
			 struct jscope *scope)
{
	struct jlist *items = jv_to_list(j, &v);

	if (items->n != target->n)
		jinja_fail(j, -EINVAL, "%zu values for %u names", items->n, target->n);
	for (unsigned i = 0; i < target->n; i++)
		jinja_assign(j, target->kid[i], items->v[i], scope);
}

void jinja_assign(struct jinja *j, const struct jnode *target, struct jv v, struct jscope *scope)
{
	struct jv ns;

	switch (target->op) {
	case N_NAME:
		scope_set(j, scope, target->name, v);
		return;
	case N_NSREF:
		ns = lookup(j, target->name, scope);
		if (ns.type != J_NAMESPACE)
			jinja_fail(j, -EINVAL,
				   "attributes can only be set on what namespace() made");
		if (target->value.s->n && target->value.s->p[0] == '_')
			jinja_fail(j, -EINVAL, "an attribute that begins with _ cannot be set");
		jdict_set(j, ns.d, target->value, v);
		return;
	default:
		assign_tuple(j, target, v, scope);
	}
}

/* What @n writes, as a value. */
static struct jstr *captured(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jbuf b, *out = j->out;

	jbuf_init(&b, j);
	j->out = &b;
	jinja_exec(j, n, scope);
	j->out = out;
	return jbuf_done(&b);
}

static struct jv filtered(struct jinja *j, const struct jnode *n, const struct jnode *filter,
			  const struct jnode *body, struct jscope *scope)
{
	struct jstr *text = captured(j, body, scope_new(j, scope, n->hidden));
	struct jv before = j->block_text, r = jv_str(text);

	if (!filter)
		return r;
	j->block_text = r;
	r = jinja_eval(j, filter, scope);
	j->block_text = before;
	return r;
}

/* ---- loops ---- */

static bool loop_pull(struct jinja *j, struct jloop *l, struct jv *ret)
{
	if (l->after.type != J_MISSING) {
		*ret = l->after;
		l->after = JV_MISSING;
		return true;
	}
	return jcursor_next(j, &l->from, ret);
}

static struct jv loop_peek(struct jinja *j, struct jloop *l)
{
	struct jv v;

	if (l->after.type == J_MISSING && jcursor_next(j, &l->from, &v))
		l->after = v;
	return l->after;
}

static int64_t loop_length(struct jinja *j, struct jloop *l)
{
	struct jlist *rest;
	size_t n;

	if (l->length >= 0)
		return l->length;
	if (l->source.type != J_LOOP && jv_sized(&l->source, j, &n)) {
		l->length = (int64_t)n;
		return l->length;
	}
	rest = jv_to_list(j, &l->from.v); /* a generator: what is left of it */
	l->from = (struct jcursor){ .v = jv_list(rest) };
	l->length = (int64_t)rest->n + l->index0 + 1 + (l->after.type != J_MISSING);
	return l->length;
}

static struct jv loop_cycle(struct jinja *j, struct jv self, const struct jargs *a)
{
	if (!a->n || a->n_kw)
		jinja_fail(j, -EINVAL, "loop.cycle() takes what it goes through");
	return a->v[(size_t)self.loop->index0 % a->n];
}

static struct jv loop_changed(struct jinja *j, struct jv self, const struct jargs *a)
{
	struct jlist *l = jlist_new(j, a->n);
	struct jv now;

	for (size_t i = 0; i < a->n; i++)
		jlist_add(j, l, a->v[i]);
	now = jv_tuple(l);
	if (self.loop->changed.type != J_MISSING && jv_equal(j, &self.loop->changed, &now))
		return jv_bool(false);
	self.loop->changed = now;
	return jv_bool(true);
}

static const struct jmethod_row loop_methods[] = {
	{ "cycle", loop_cycle, false },
	{ "changed", loop_changed, false },
};

struct jv jloop_attr(struct jinja *j, struct jloop *l, const struct jstr *name)
{
	struct jv v;

	if (jstr_is(name, "index"))
		return jv_int(l->index0 + 1);
	if (jstr_is(name, "index0"))
		return jv_int(l->index0);
	if (jstr_is(name, "first"))
		return jv_bool(l->index0 == 0);
	if (jstr_is(name, "last"))
		return jv_bool(loop_peek(j, l).type == J_MISSING);
	if (jstr_is(name, "length"))
		return jv_int(loop_length(j, l));
	if (jstr_is(name, "revindex"))
		return jv_int(loop_length(j, l) - l->index0);
	if (jstr_is(name, "revindex0"))
		return jv_int(loop_length(j, l) - l->index0 - 1);
	if (jstr_is(name, "depth"))
		return jv_int((jint)l->depth0 + 1);
	if (jstr_is(name, "depth0"))
		return jv_int(l->depth0);
	if (jstr_is(name, "previtem"))
		return l->index0 ? l->before : JV_UNDEF;
	if (jstr_is(name, "nextitem")) {
		v = loop_peek(j, l);
		return v.type == J_MISSING ? JV_UNDEF : v;
	}
	for (size_t i = 0; i < 2; i++)
		if (jstr_is(name, loop_methods[i].name)) {
			struct jmethod *m = jinja_alloc(j, sizeof(*m));

			m->self = (struct jv){ .type = J_LOOP, .loop = l };
			m->row = &loop_methods[i];
			return (struct jv){ .type = J_METHOD, .method = m };
		}
	return (struct jv){ .type = J_UNDEF, .s = (struct jstr *)name };
}

/* The items of a loop with a condition. */
static bool next_that_fits(struct jinja *j, struct jiter *it, struct jv *ret)
{
	while (jcursor_next(j, &it->from, ret)) {
		struct jscope *scope = scope_new(j, it->scope, NULL);
		struct jv ok;

		jinja_assign(j, it->node->kid[0], *ret, scope);
		ok = jinja_eval(j, it->node->kid[2], scope);
		if (jv_truth(j, &ok))
			return true;
	}
	return false;
}

static struct jloop *loop_new(struct jinja *j, const struct jnode *n, struct jv over,
			      struct jscope *scope, unsigned depth0)
{
	struct jloop *l = jinja_alloc(j, sizeof(*l));

	l->index0 = -1;
	l->length = -1;
	l->depth0 = depth0;
	l->scope = scope;
	l->recurse = n->flag ? n : NULL;
	if (n->kid[2]) {
		struct jiter *it = jinja_alloc(j, sizeof(*it));

		it->next = next_that_fits;
		it->node = n;
		it->scope = scope;
		jcursor_init(j, &it->from, &over);
		over = (struct jv){ .type = J_ITER, .iter = it };
	}
	l->source = over;
	jcursor_init(j, &l->from, &over);
	return l;
}

static enum jflow exec_for(struct jinja *j, const struct jnode *n, struct jv over,
			   struct jscope *scope, unsigned depth0)
{
	struct jloop *l = loop_new(j, n, over, scope, depth0);
	enum jflow flow;
	bool done = false;
	struct jv item;

	while (loop_pull(j, l, &item)) {
		struct jscope *turn = scope_new(j, scope, n->hidden);

		l->index0++;
		l->before = l->current;
		l->current = item;
		if (j->loop)
			scope_set(j, turn, j->loop, (struct jv){ .type = J_LOOP, .loop = l });
		jinja_assign(j, n->kid[0], item, turn);
		flow = jinja_exec(j, n->kid[3], turn);
		if (flow == FLOW_BREAK)
			break;
		done |= flow == FLOW_NEXT; /* else follows where no turn came to its end */
	}
	if (!done && n->kid[4])
		return jinja_exec(j, n->kid[4], scope_new(j, scope, n->hidden_else));
	return FLOW_NEXT;
}

struct jv jloop_call(struct jinja *j, struct jloop *l, const struct jargs *a)
{
	struct jbuf b, *out = j->out;

	if (!l->recurse)
		jinja_fail(j, -EINVAL, "only a loop marked recursive can be called");
	if (a->n != 1 || a->n_kw)
		jinja_fail(j, -EINVAL, "loop() takes what to go through");
	jbuf_init(&b, j);
	j->out = &b;
	exec_for(j, l->recurse, a->v[0], l->scope, l->depth0 + 1);
	j->out = out;
	return jv_str(jbuf_done(&b));
}

/* ---- macros ---- */

static bool take_keyword(struct jargs *a, const struct jstr *name, struct jv *ret)
{
	for (size_t i = 0; i < a->n_kw; i++)
		if (jstr_same(a->kw[i].name, name)) {
			*ret = a->kw[i].value;
			a->kw[i] = a->kw[--a->n_kw];
			return true;
		}
	return false;
}

/* Keywords keep their order, as a macro may show them. */
static struct jdict *rest_of_keywords(struct jinja *j, const struct jargs *given,
				      const struct jargs *left)
{
	struct jdict *d = jdict_new(j);

	for (size_t i = 0; i < given->n_kw; i++)
		for (size_t k = 0; k < left->n_kw; k++)
			if (left->kw[k].name == given->kw[i].name)
				jdict_set(j, d, jv_str((struct jstr *)given->kw[i].name),
					  given->kw[i].value);
	return d;
}

static void macro_extras(struct jinja *j, const struct jnode *n, unsigned n_params,
			 bool found_caller, const struct jargs *given, struct jargs *left,
			 struct jscope *scope)
{
	struct jlist *more = jlist_new(j, 0);
	struct jv caller;

	if (n->wants_caller && !found_caller && j->caller) {
		if (!take_keyword(left, j->caller, &caller))
			caller = (struct jv){ .type = J_UNDEF, .s = (struct jstr *)j->caller };
		scope_set(j, scope, j->caller, caller);
	}
	if (n->wants_kwargs && j->kwargs)
		scope_set(j, scope, j->kwargs, jv_dict(rest_of_keywords(j, given, left)));
	else if (left->n_kw)
		jinja_fail(j, -EINVAL, "the macro takes no argument '%.*s'",
			   (int)(left->kw[0].name->n < 100 ? left->kw[0].name->n : 100),
			   left->kw[0].name->p);
	for (size_t i = n_params; i < given->n; i++)
		jlist_add(j, more, given->v[i]);
	if (n->wants_args && j->varargs)
		scope_set(j, scope, j->varargs, jv_tuple(more));
	else if (more->n)
		jinja_fail(j, -EINVAL, "the macro takes not more than %u arguments", n_params);
}

struct jv jmacro_call(struct jinja *j, const struct jmacro *m, const struct jargs *given)
{
	const struct jnode *n = m->node;
	unsigned body = n->op == N_CALL ? 1 : 0, n_params = n->n - body - 1;
	struct jscope *scope = scope_new(j, m->scope, n->hidden);
	struct jargs left = *given;
	struct jv *values = jinja_alloc(j, n_params * sizeof(*values) + 1);
	bool found_caller = false;

	left.kw = jinja_alloc(j, given->n_kw * sizeof(*left.kw) + 1);
	if (given->n_kw)
		memcpy(left.kw, given->kw, given->n_kw * sizeof(*left.kw));
	for (unsigned i = 0; i < n_params; i++) {
		const struct jstr *name = n->kid[body + 1 + i]->name;

		values[i] = JV_MISSING;
		if (i < given->n)
			values[i] = given->v[i];
		else
			take_keyword(&left, name, &values[i]);
		found_caller |= jstr_is(name, "caller");
	}
	macro_extras(j, n, n_params, found_caller, given, &left, scope);
	for (unsigned i = 0; i < n_params; i++) {
		const struct jnode *p = n->kid[body + 1 + i];

		if (values[i].type == J_MISSING)
			values[i] =
				p->n ? jinja_eval(j, p->kid[0], scope)
				     : (struct jv){ .type = J_UNDEF, .s = (struct jstr *)p->name };
		scope_set(j, scope, p->name, values[i]);
	}
	return jv_str(captured(j, n->kid[body], scope));
}

static struct jv macro_of(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jmacro *m = jinja_alloc(j, sizeof(*m));

	m->node = n;
	m->scope = scope;
	return (struct jv){ .type = J_MACRO, .macro = m };
}

static void exec_call(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	static const struct jstr caller = { .p = "caller", .n = 6, .chars = 6, .trusted = true };
	struct jv f = jinja_eval(j, n->kid[0]->kid[0], scope), r;
	struct jargs a;

	jinja_args(j, n->kid[0], 1, scope, &a);
	a.kw = jinja_grow(j, a.kw, a.n_kw * sizeof(*a.kw), (a.n_kw + 1) * sizeof(*a.kw));
	a.kw[a.n_kw++] =
		(struct jkeyword){ j->caller ? j->caller : &caller, macro_of(j, n, scope) };
	r = jinja_call(j, &f, &a);
	jv_write(j, j->out, &r);
}

/* ---- blocks ---- */

const struct jnode *jinja_find_block(const struct jnode *n, const struct jstr *name)
{
	const struct jnode *found = NULL;

	if (n->op == N_BLOCK && jstr_same(n->name, name))
		return n;
	if (n->op != N_BODY && n->op != N_BLOCK && n->op != N_IF && n->op != N_FOR)
		return NULL;
	for (unsigned i = 0; i < n->n && !found; i++)
		if (n->kid[i])
			found = jinja_find_block(n->kid[i], name);
	return found;
}

struct jv jblock_call(struct jinja *j, const struct jnode *block)
{
	return jv_str(captured(j, block->kid[0], scope_new(j, j->top, block->hidden)));
}

/* ---- all statements ---- */

static enum jflow exec_if(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	unsigned i = 0;

	for (; i + 1 < n->n; i += 2) {
		struct jv test = jinja_eval(j, n->kid[i], scope);

		if (jv_truth(j, &test))
			return jinja_exec(j, n->kid[i + 1], scope);
	}
	return n->flag ? jinja_exec(j, n->kid[i], scope) : FLOW_NEXT;
}

static enum jflow exec_with(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jscope *inner = scope_new(j, scope, n->hidden);

	for (unsigned i = 1; i + 1 < n->n; i += 2)
		jinja_assign(j, n->kid[i], jinja_eval(j, n->kid[i + 1], scope), inner);
	return jinja_exec(j, n->kid[0], inner);
}

static enum jflow exec_body(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	enum jflow flow = FLOW_NEXT;

	for (unsigned i = 0; i < n->n && flow == FLOW_NEXT; i++)
		flow = jinja_exec(j, n->kid[i], scope);
	return flow;
}

static enum jflow exec_node(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv v;

	switch ((enum jop)n->op) {
	case N_BODY:
		return exec_body(j, n, scope);
	case N_DATA:
		jbuf_str(j->out, n->value.s);
		break;
	case N_PRINT:
		for (unsigned i = 0; i < n->n; i++) {
			v = jinja_eval(j, n->kid[i], scope);
			jv_write(j, j->out, &v);
		}
		break;
	case N_IF:
		return exec_if(j, n, scope);
	case N_FOR:
		return exec_for(j, n, jinja_eval(j, n->kid[1], scope), scope, 0);
	case N_BREAK:
		return FLOW_BREAK;
	case N_CONTINUE:
		return FLOW_CONTINUE;
	case N_SET:
		jinja_assign(j, n->kid[0], jinja_eval(j, n->kid[1], scope), scope);
		break;
	case N_SET_BLOCK:
		jinja_assign(j, n->kid[0], filtered(j, n, n->kid[1], n->kid[2], scope), scope);
		break;
	case N_WITH:
		return exec_with(j, n, scope);
	case N_MACRO:
		scope_set(j, scope, n->name, macro_of(j, n, scope));
		break;
	case N_CALL:
		exec_call(j, n, scope);
		break;
	case N_FILTER_BLOCK:
		v = filtered(j, n, n->kid[0], n->kid[1], scope);
		jv_write(j, j->out, &v);
		break;
	case N_BLOCK:
		return jinja_exec(j, n->kid[0], scope_new(j, n->flag ? scope : j->top, n->hidden));
	case N_SCOPE:
		return jinja_exec(j, n->kid[0], scope_new(j, scope, n->hidden));
	default:
		jinja_fail(j, -EINVAL, "a statement that makes no sense here");
	}
	return FLOW_NEXT;
}

enum jflow jinja_exec(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	enum jflow flow;

	jinja_enter(j);
	j->line = n->line;
	flow = exec_node(j, n, scope);
	j->depth--;
	return flow;
}
