/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_number.c: operators on numbers, texts and lists, as Python has them. Ints have
 * 127 bits; what does not fit is refused, never wrong. See jinja.h.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/jinja_run.h"

#define INT_MAX127 ((jint)(~(unsigned __int128)0 >> 1))

static void too_large(struct jinja *j)
{
	jinja_fail(j, -EINVAL, "an integer is too large for this interpreter");
}

static jint add(struct jinja *j, jint a, jint b)
{
	if ((b > 0 && a > INT_MAX127 - b) || (b < 0 && a < -INT_MAX127 - b))
		too_large(j);
	return a + b;
}

static jint multiply(struct jinja *j, jint a, jint b)
{
	unsigned __int128 x = a < 0 ? -(unsigned __int128)a : (unsigned __int128)a;
	unsigned __int128 y = b < 0 ? -(unsigned __int128)b : (unsigned __int128)b;

	if (x && y > (unsigned __int128)INT_MAX127 / x)
		too_large(j);
	return a * b;
}

/* Towards minus infinity, as Python divides. */
static jint floor_divide(jint a, jint b)
{
	jint q = a / b;

	return a % b && (a < 0) != (b < 0) ? q - 1 : q;
}

static jint modulo(jint a, jint b)
{
	jint r = a % b;

	return r && (r < 0) != (b < 0) ? r + b : r;
}

static double float_modulo(double a, double b)
{
	double r = fmod(a, b);

	if (r == 0)
		return copysign(0, b);
	return (r < 0) != (b < 0) ? r + b : r;
}

static double float_floor_divide(double a, double b)
{
	double r = fmod(a, b), q = (a - r) / b, f;

	if (r != 0 && (r < 0) != (b < 0))
		q -= 1;
	if (q == 0)
		return copysign(0, a / b);
	f = floor(q);
	return q - f > 0.5 ? f + 1 : f;
}

static struct jv power(struct jinja *j, const struct jv *a, const struct jv *b)
{
	jint base, result = 1;
	double r;

	if (a->type == J_FLOAT || b->type == J_FLOAT || jv_as_int(b) < 0) {
		double x = jv_as_float(a), y = jv_as_float(b);

		if (x == 0 && y < 0)
			jinja_fail(j, -EINVAL, "0 has no negative power");
		if (x < 0 && y != floor(y))
			jinja_fail(j, -EINVAL, "complex numbers are not supported");
		r = pow(x, y);
		if (isinf(r) && !isinf(x) && !isinf(y))
			jinja_fail(j, -EINVAL, "a number is too large");
		return jv_float(r);
	}
	base = jv_as_int(a);
	for (jint e = jv_as_int(b); e; e >>= 1) {
		if (e & 1)
			result = multiply(j, result, base);
		if (e > 1)
			base = multiply(j, base, base);
	}
	return jv_int(result);
}

static struct jv divide(struct jinja *j, uint8_t op, const struct jv *a, const struct jv *b)
{
	if (jv_as_float(b) == 0)
		jinja_fail(j, -EINVAL, "division by zero");
	if (op == '/')
		return jv_float(jv_as_float(a) / jv_as_float(b));
	if (a->type == J_FLOAT || b->type == J_FLOAT) {
		double x = jv_as_float(a), y = jv_as_float(b);

		return jv_float(op == 'f' ? float_floor_divide(x, y) : float_modulo(x, y));
	}
	return jv_int(op == 'f' ? floor_divide(jv_as_int(a), jv_as_int(b))
				: modulo(jv_as_int(a), jv_as_int(b)));
}

static struct jv on_numbers(struct jinja *j, uint8_t op, const struct jv *a, const struct jv *b)
{
	bool floats = a->type == J_FLOAT || b->type == J_FLOAT;
	double x = floats ? jv_as_float(a) : 0, y = floats ? jv_as_float(b) : 0;

	switch (op) {
	case '+':
		return floats ? jv_float(x + y) : jv_int(add(j, jv_as_int(a), jv_as_int(b)));
	case '-':
		return floats ? jv_float(x - y) : jv_int(add(j, jv_as_int(a), -jv_as_int(b)));
	case '*':
		return floats ? jv_float(x * y) : jv_int(multiply(j, jv_as_int(a), jv_as_int(b)));
	case 'p':
		return power(j, a, b);
	default:
		return divide(j, op, a, b);
	}
}

/* ---- texts and lists ---- */

static struct jv concat(struct jinja *j, const struct jstr *a, const struct jstr *b)
{
	struct jstr *r;
	struct jbuf buf;

	if (a->safe || b->safe) { /* Markup escapes what it is joined with */
		a = jstr_escape(j, a);
		b = jstr_escape(j, b);
	}
	jbuf_init(&buf, j);
	jbuf_str(&buf, a);
	jbuf_str(&buf, b);
	r = jbuf_done(&buf);
	r->safe = a->safe;
	return jv_str(r);
}

static struct jv join_lists(struct jinja *j, const struct jv *a, const struct jv *b)
{
	struct jlist *l = jlist_new(j, a->l->n + b->l->n);

	for (size_t i = 0; i < a->l->n; i++)
		jlist_add(j, l, a->l->v[i]);
	for (size_t i = 0; i < b->l->n; i++)
		jlist_add(j, l, b->l->v[i]);
	return a->type == J_LIST ? jv_list(l) : jv_tuple(l);
}

static struct jv repeat(struct jinja *j, const struct jv *what, jint n)
{
	size_t len = what->type == J_STR ? what->s->n : what->l->n;
	struct jlist *l;
	struct jstr *r;
	struct jbuf b;

	if (n > INT64_MAX || n < INT64_MIN)
		jinja_fail(j, -EINVAL, "a repetition by a number that is too large");
	n = n < 0 || !len ? 0 : n;
	if (n > (jint)j->max_bytes || n * (jint)len > (jint)j->max_bytes)
		jinja_fail(j, -E2BIG, "it takes more than %zu bytes of memory", j->max_bytes);
	if (what->type == J_STR) {
		jbuf_init(&b, j);
		for (jint i = 0; i < n; i++) {
			jinja_charge(j, 1);
			jbuf_str(&b, what->s);
		}
		r = jbuf_done(&b);
		r->safe = what->s->safe;
		return jv_str(r);
	}
	l = jlist_new(j, (size_t)n * len);
	for (jint i = 0; i < n; i++)
		for (size_t k = 0; k < len; k++)
			jlist_add(j, l, what->l->v[k]);
	return what->type == J_LIST ? jv_list(l) : jv_tuple(l);
}

static bool is_sequence(const struct jv *v)
{
	return v->type == J_STR || v->type == J_LIST || v->type == J_TUPLE;
}

static bool is_int(const struct jv *v)
{
	return v->type == J_INT || v->type == J_BOOL;
}

static void no_operator(struct jinja *j, uint8_t op, const struct jv *a, const struct jv *b)
{
	const char *shown = op == 'f' ? "//" : op == 'p' ? "**" : NULL;
	const struct jv *undefined = a->type == J_UNDEF ? a : b->type == J_UNDEF ? b : NULL;
	char one[2] = { (char)op, '\0' };

	if (undefined)
		jv_fail_undefined(j, undefined);
	jinja_fail(j, -EINVAL, "%s does not work on values of type %s and %s", shown ? shown : one,
		   jv_type_name(a), jv_type_name(b));
}

struct jv jv_binary(struct jinja *j, uint8_t op, const struct jv *a, const struct jv *b)
{
	if (jv_is_number(a) && jv_is_number(b))
		return on_numbers(j, op, a, b);
	if (op == '%' && a->type == J_STR)
		return jv_str(jstr_percent(j, a->s, b));
	if (op == '*' && is_sequence(a) && is_int(b))
		return repeat(j, a, jv_as_int(b));
	if (op == '*' && is_sequence(b) && is_int(a))
		return repeat(j, b, jv_as_int(a));
	if (op == '+' && a->type == b->type && a->type == J_STR)
		return concat(j, a->s, b->s);
	if (op == '+' && a->type == b->type && is_sequence(a))
		return join_lists(j, a, b);
	no_operator(j, op, a, b);
	return JV_UNDEF;
}

struct jv jv_negate(struct jinja *j, const struct jv *v, bool minus)
{
	if (!jv_is_number(v))
		no_operator(j, minus ? '-' : '+', v, v);
	if (v->type == J_FLOAT)
		return jv_float(minus ? -v->f : v->f);
	return jv_int(minus ? -jv_as_int(v) : jv_as_int(v));
}

/* To the nearest, the exact value of the float deciding, a tie to even: what printing it does. */
double jfloat_round(double f, int digits)
{
	char text[400];

	if (!isfinite(f) || digits > 22)
		return f;
	if (digits < 0) {
		double scale = pow(10, -digits);

		return digits < -308 ? 0 * f : nearbyint(f / scale) * scale;
	}
	snprintf(text, sizeof(text), "%.*f", digits, f);
	return strtod(text, NULL);
}
