/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_eval.c: expressions to values. Names are looked up in the scopes around them,
 * then among the variables of the rendering, then among the functions that every template has.
 * See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

static struct jv undefined(const struct jstr *name)
{
	return (struct jv){ .type = J_UNDEF, .s = (struct jstr *)name };
}

static struct jv eval_name(struct jinja *j, const struct jstr *name, const struct jscope *scope)
{
	struct jv key = jv_str((struct jstr *)name), *found;
	const struct jglobal *g;

	for (; scope; scope = scope->parent)
		for (const struct jvar *v = scope->vars; v; v = v->next)
			if (v->name == name)
				return v->value;
	found = jdict_get(j, j->vars, &key);
	if (found)
		return *found;
	g = jinja_global(name);
	if (g)
		return (struct jv){ .type = J_GLOBAL, .global = g };
	if (jstr_is(name, "self"))
		return (struct jv){ .type = J_SELF };
	return undefined(name);
}

static struct jv eval_list(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jlist *l = jlist_new(j, n->n);

	for (unsigned i = 0; i < n->n; i++)
		jlist_add(j, l, jinja_eval(j, n->kid[i], scope));
	return n->op == N_LIST ? jv_list(l) : jv_tuple(l);
}

static struct jv eval_dict(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jdict *d = jdict_new(j);

	for (unsigned i = 0; i + 1 < n->n; i += 2) {
		struct jv key = jinja_eval(j, n->kid[i], scope);

		jdict_set(j, d, key, jinja_eval(j, n->kid[i + 1], scope));
	}
	return jv_dict(d);
}

static struct jv eval_condition(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv test = jinja_eval(j, n->kid[0], scope);

	if (jv_truth(j, &test))
		return jinja_eval(j, n->kid[1], scope);
	return n->kid[2] ? jinja_eval(j, n->kid[2], scope) : JV_UNDEF;
}

static struct jv eval_comparison(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv left = jinja_eval(j, n->kid[0], scope);

	for (unsigned i = 1; i < n->n; i++) {
		struct jv right = jinja_eval(j, n->kid[i]->kid[0], scope);

		if (!jv_compare(j, n->kid[i]->code, &left, &right))
			return jv_bool(false);
		left = right;
	}
	return jv_bool(true);
}

static struct jv eval_concat(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jbuf b;

	jbuf_init(&b, j);
	for (unsigned i = 0; i < n->n; i++) {
		struct jv v = jinja_eval(j, n->kid[i], scope);

		jv_write(j, &b, &v);
	}
	return jv_str(jbuf_done(&b));
}

static struct jv eval_slice(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jslice *s = jinja_alloc(j, sizeof(*s));

	s->start = n->kid[0] ? jinja_eval(j, n->kid[0], scope) : JV_NONE;
	s->stop = n->kid[1] ? jinja_eval(j, n->kid[1], scope) : JV_NONE;
	s->step = n->kid[2] ? jinja_eval(j, n->kid[2], scope) : JV_NONE;
	return (struct jv){ .type = J_SLICE, .slice = s };
}

void jinja_args(struct jinja *j, const struct jnode *n, unsigned from, struct jscope *scope,
		struct jargs *ret)
{
	struct jlist *args = jlist_new(j, n->n - from);
	size_t cap = n->n - from + 1;

	*ret = (struct jargs){ .kw = jinja_alloc(j, cap * sizeof(*ret->kw)) };
	for (unsigned i = from; i < n->n; i++) {
		const struct jnode *arg = n->kid[i];
		struct jv v = jinja_eval(j, arg->op >= N_KEYWORD ? arg->kid[0] : arg, scope);
		struct jcursor c;
		struct jv item;

		if (arg->op == N_KEYWORD) {
			ret->kw[ret->n_kw++] = (struct jkeyword){ arg->name, v };
		} else if (arg->op == N_STAR) {
			jcursor_init(j, &c, &v);
			while (jcursor_next(j, &c, &item))
				jlist_add(j, args, item);
		} else if (arg->op == N_STAR_STAR) {
			if (v.type != J_DICT)
				jinja_fail(j, -EINVAL, "** takes a dict");
			ret->kw = jinja_grow(j, ret->kw, cap * sizeof(*ret->kw),
					     (cap + v.d->n) * sizeof(*ret->kw));
			cap += v.d->n;
			for (size_t k = 0; k < v.d->n; k++)
				ret->kw[ret->n_kw++] =
					(struct jkeyword){ jarg_str(j, &v.d->v[k].key, "a keyword"),
							   v.d->v[k].value };
		} else {
			jlist_add(j, args, v);
		}
	}
	for (size_t i = 0; i < ret->n_kw; i++)
		for (size_t k = 0; k < i; k++)
			if (jstr_same(ret->kw[i].name, ret->kw[k].name))
				jinja_fail(j, -EINVAL, "an argument is given twice");
	ret->v = args->v;
	ret->n = args->n;
}

struct jv jinja_call(struct jinja *j, const struct jv *f, const struct jargs *a)
{
	struct jv r;

	jinja_enter(j);
	switch (f->type) {
	case J_METHOD:
		r = f->method->row->call(j, f->method->self, a);
		break;
	case J_GLOBAL:
		r = f->global->call(j, a);
		break;
	case J_MACRO:
		r = jmacro_call(j, f->macro, a);
		break;
	case J_LOOP:
		r = jloop_call(j, f->loop, a);
		break;
	case J_BLOCK:
		r = jblock_call(j, f->block);
		break;
	case J_JOINER:
		r = f->joiner->used ? f->joiner->sep : jv_text(j, "");
		f->joiner->used = true;
		break;
	case J_UNDEF:
		jv_fail_undefined(j, f);
	default:
		jinja_fail(j, -EINVAL, "a value of type %s cannot be called", jv_type_name(f));
	}
	j->depth--;
	return r;
}

static struct jv eval_call(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv f = jinja_eval(j, n->kid[0], scope);
	struct jargs a;

	jinja_args(j, n, 1, scope, &a);
	j->line = n->line;
	return jinja_call(j, &f, &a);
}

static struct jv eval_filter(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv v = n->kid[0] ? jinja_eval(j, n->kid[0], scope) : j->block_text;
	struct jargs a;

	jinja_args(j, n, 1, scope, &a);
	j->line = n->line;
	return jinja_apply_filter(j, n->name, v, &a);
}

static struct jv eval_test(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv v = jinja_eval(j, n->kid[0], scope);
	struct jargs a;

	jinja_args(j, n, 1, scope, &a);
	j->line = n->line;
	return jv_bool(jinja_apply_test(j, n->name, v, &a));
}

static struct jv eval_binary(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv a = jinja_eval(j, n->kid[0], scope), b = jinja_eval(j, n->kid[1], scope);

	j->line = n->line;
	return jv_binary(j, n->code, &a, &b);
}

static struct jv eval_item(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv v = jinja_eval(j, n->kid[0], scope), key = jinja_eval(j, n->kid[1], scope);

	j->line = n->line;
	if (key.type == J_SLICE && v.type != J_STR && v.type != J_LIST && v.type != J_TUPLE &&
	    v.type != J_RANGE && v.type != J_UNDEF)
		jinja_fail(j, -EINVAL, "a value of type %s cannot be sliced", jv_type_name(&v));
	return jv_item(j, &v, &key);
}

static struct jv eval_node(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv v;

	switch ((enum jop)n->op) {
	case N_CONST:
		return n->value;
	case N_NAME:
		return eval_name(j, n->name, scope);
	case N_LIST:
	case N_TUPLE:
		return eval_list(j, n, scope);
	case N_DICT:
		return eval_dict(j, n, scope);
	case N_COND:
		return eval_condition(j, n, scope);
	case N_OR:
	case N_AND:
		v = jinja_eval(j, n->kid[0], scope);
		return jv_truth(j, &v) == (n->op == N_OR) ? v : jinja_eval(j, n->kid[1], scope);
	case N_NOT:
		v = jinja_eval(j, n->kid[0], scope);
		return jv_bool(!jv_truth(j, &v));
	case N_NEG:
	case N_POS:
		v = jinja_eval(j, n->kid[0], scope);
		return jv_negate(j, &v, n->op == N_NEG);
	case N_COMPARE:
		return eval_comparison(j, n, scope);
	case N_BINARY:
		return eval_binary(j, n, scope);
	case N_CONCAT:
		return eval_concat(j, n, scope);
	case N_ATTR:
		v = jinja_eval(j, n->kid[0], scope);
		j->line = n->line;
		return jv_attr(j, &v, n->name);
	case N_ITEM:
		return eval_item(j, n, scope);
	case N_SLICE:
		return eval_slice(j, n, scope);
	case N_INVOKE:
		return eval_call(j, n, scope);
	case N_FILTER:
		return eval_filter(j, n, scope);
	case N_TEST:
		return eval_test(j, n, scope);
	default:
		jinja_fail(j, -EINVAL, "an expression that makes no sense here");
	}
}

struct jv jinja_eval(struct jinja *j, const struct jnode *n, struct jscope *scope)
{
	struct jv v;

	jinja_enter(j);
	j->line = n->line;
	v = eval_node(j, n, scope);
	j->depth--;
	return v;
}
