/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_value.c: what values are to each other, as Python has it: truth, equality, order,
 * membership. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

const char *jv_type_name(const struct jv *v)
{
	static const char *const names[] = {
		[J_MISSING] = "missing",
		[J_UNDEF] = "Undefined",
		[J_NONE] = "NoneType",
		[J_BOOL] = "bool",
		[J_INT] = "int",
		[J_FLOAT] = "float",
		[J_STR] = "str",
		[J_LIST] = "list",
		[J_TUPLE] = "tuple",
		[J_DICT] = "dict",
		[J_RANGE] = "range",
		[J_VIEW] = "dict view",
		[J_ITER] = "generator",
		[J_NAMESPACE] = "Namespace",
		[J_METHOD] = "method",
		[J_GLOBAL] = "function",
		[J_MACRO] = "Macro",
		[J_LOOP] = "LoopContext",
		[J_CYCLER] = "Cycler",
		[J_JOINER] = "Joiner",
		[J_SELF] = "TemplateReference",
		[J_BLOCK] = "BlockReference",
		[J_SLICE] = "slice",
	};

	return names[v->type];
}

void jv_fail_undefined(struct jinja *j, const struct jv *v)
{
	if (!v->s)
		jinja_fail(j, -EINVAL, "an undefined value is used");
	jinja_fail(j, -EINVAL, "'%.*s' is undefined", (int)(v->s->n < 100 ? v->s->n : 100),
		   v->s->p);
}

bool jv_truth(struct jinja *j, const struct jv *v)
{
	switch (v->type) {
	case J_MISSING:
	case J_UNDEF:
	case J_NONE:
		return false;
	case J_BOOL:
		return v->truth;
	case J_INT:
		return v->i != 0;
	case J_FLOAT:
		return v->f != 0;
	case J_STR:
		return v->s->n != 0;
	case J_LIST:
	case J_TUPLE:
		return v->l->n != 0;
	case J_DICT:
		return v->d->n != 0;
	case J_RANGE:
		return v->range->n != 0;
	case J_VIEW:
		return v->view->d->n != 0;
	case J_LOOP: {
		size_t n = 0;

		return !jv_sized(v, j, &n) || n;
	}
	default:
		return true;
	}
}

bool jv_is_number(const struct jv *v)
{
	return v->type == J_BOOL || v->type == J_INT || v->type == J_FLOAT;
}

jint jv_as_int(const struct jv *v)
{
	return v->type == J_BOOL ? v->truth : v->i;
}

double jv_as_float(const struct jv *v)
{
	return v->type == J_FLOAT ? v->f : (double)jv_as_int(v);
}

/* The order of an int and a float, exact also where the int has no equal float: <0, 0, >0, 2: NaN. */
static int compare_int_float(jint i, double f)
{
	double d = (double)i;

	if (f != f)
		return 2;
	if (d != f)
		return d < f ? -1 : 1;
	if (f >= 0x1p126 || f <= -0x1p126)
		return 0;
	return i < (jint)f ? -1 : i > (jint)f;
}

static int compare_numbers(const struct jv *a, const struct jv *b)
{
	int order;

	if (a->type == J_FLOAT && b->type == J_FLOAT)
		return a->f != a->f || b->f != b->f ? 2 : a->f < b->f ? -1 : a->f > b->f;
	if (b->type == J_FLOAT)
		return compare_int_float(jv_as_int(a), b->f);
	if (a->type == J_FLOAT) {
		order = compare_int_float(jv_as_int(b), a->f);
		return order == 2 ? 2 : -order;
	}
	return jv_as_int(a) < jv_as_int(b) ? -1 : jv_as_int(a) > jv_as_int(b);
}

static bool lists_equal(struct jinja *j, const struct jlist *a, const struct jlist *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (!jv_equal(j, &a->v[i], &b->v[i]))
			return false;
	return true;
}

static bool dicts_equal(struct jinja *j, const struct jdict *a, const struct jdict *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const struct jv *other = jdict_get(j, b, &a->v[i].key);

		if (!other || !jv_equal(j, &a->v[i].value, other))
			return false;
	}
	return true;
}

static bool ranges_equal(const struct jrange *a, const struct jrange *b)
{
	return a->n == b->n &&
	       (!a->n || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

bool jv_same(const struct jv *a, const struct jv *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case J_MISSING:
	case J_NONE:
		return true;
	case J_UNDEF:
		return a->s == b->s;
	case J_BOOL:
		return a->truth == b->truth;
	case J_INT:
		return a->i == b->i;
	case J_FLOAT:
		return a->f == b->f;
	case J_STR:
		return a->s == b->s || (a->s->p == b->s->p && a->s->n == b->s->n);
	default:
		return a->l == b->l;
	}
}

bool jv_equal(struct jinja *j, const struct jv *a, const struct jv *b)
{
	bool same;

	if (jv_is_number(a) && jv_is_number(b))
		return compare_numbers(a, b) == 0;
	if (a->type != b->type)
		return false;
	jinja_enter(j);
	switch (a->type) {
	case J_UNDEF:
		same = true;
		break;
	case J_STR:
		jinja_charge(j, a->s->n / 64);
		same = jstr_same(a->s, b->s);
		break;
	case J_LIST:
	case J_TUPLE:
		same = a->l == b->l || lists_equal(j, a->l, b->l);
		break;
	case J_DICT:
		same = a->d == b->d || dicts_equal(j, a->d, b->d);
		break;
	case J_RANGE:
		same = ranges_equal(a->range, b->range);
		break;
	default:
		same = jv_same(a, b);
		break;
	}
	j->depth--;
	return same;
}

static void no_order(struct jinja *j, const struct jv *a, const struct jv *b)
{
	if (a->type == J_UNDEF || b->type == J_UNDEF)
		jv_fail_undefined(j, a->type == J_UNDEF ? a : b);
	jinja_fail(j, -EINVAL, "values of type %s and %s have no order", jv_type_name(a),
		   jv_type_name(b));
}

bool jv_less(struct jinja *j, const struct jv *a, const struct jv *b, bool or_equal)
{
	bool less = false;

	if (jv_is_number(a) && jv_is_number(b)) {
		int order = compare_numbers(a, b);

		return order < 0 || (or_equal && order == 0);
	}
	if (a->type != b->type || (a->type != J_STR && a->type != J_LIST && a->type != J_TUPLE))
		no_order(j, a, b);
	if (a->type == J_STR) { /* UTF-8 has the order of its code points */
		size_t n = a->s->n < b->s->n ? a->s->n : b->s->n;
		int order = n ? memcmp(a->s->p, b->s->p, n) : 0;

		jinja_charge(j, n / 64);
		if (order)
			return order < 0;
		return a->s->n < b->s->n || (or_equal && a->s->n == b->s->n);
	}
	jinja_enter(j);
	for (size_t i = 0;; i++) {
		if (i == a->l->n || i == b->l->n) {
			less = a->l->n < b->l->n || (or_equal && a->l->n == b->l->n);
			break;
		}
		if (!jv_equal(j, &a->l->v[i], &b->l->v[i])) {
			less = jv_less(j, &a->l->v[i], &b->l->v[i], or_equal);
			break;
		}
	}
	j->depth--;
	return less;
}

static bool text_contains(struct jinja *j, const struct jstr *all, const struct jv *item)
{
	if (item->type != J_STR)
		jinja_fail(j, -EINVAL, "'in' a text asks for a text, not a value of type %s",
			   jv_type_name(item));
	jinja_charge(j, all->n / 64);
	return !item->s->n || (all->n && memmem(all->p, all->n, item->s->p, item->s->n));
}

bool jv_contains(struct jinja *j, const struct jv *all, const struct jv *item)
{
	struct jcursor c;
	struct jv v;

	switch (all->type) {
	case J_STR:
		return text_contains(j, all->s, item);
	case J_DICT:
		return jdict_get(j, all->d, item) != NULL;
	case J_VIEW:
		if (all->view->what == VIEW_KEYS)
			return jdict_get(j, all->view->d, item) != NULL;
		break;
	default:
		break;
	}
	jcursor_init(j, &c, all);
	while (jcursor_next(j, &c, &v))
		if (jv_same(&v, item) || jv_equal(j, &v, item))
			return true;
	return false;
}

bool jv_compare(struct jinja *j, enum jcmp op, const struct jv *a, const struct jv *b)
{
	switch (op) {
	case CMP_EQ:
		return jv_equal(j, a, b);
	case CMP_NE:
		return !jv_equal(j, a, b);
	case CMP_LT:
		return jv_less(j, a, b, false);
	case CMP_LE:
		return jv_less(j, a, b, true);
	case CMP_GT:
		return jv_less(j, b, a, false);
	case CMP_GE:
		return jv_less(j, b, a, true);
	case CMP_IN:
		return jv_contains(j, b, a);
	default:
		return !jv_contains(j, b, a);
	}
}
