/* SPDX-License-Identifier: MIT */
/* daemon/chat/jinja_test.c: tests, what stands behind 'is'. All of Jinja2's. See jinja.h. */
#include <errno.h>

#include "chat/jinja_run.h"

#define TEST(name) static bool test_##name(struct jinja *j, struct jv v, const struct jargs *a)
/* A test that takes nothing. */
#define PLAIN(name, what)                          \
	TEST(name)                                 \
	{                                          \
		jargs_bind(j, a, #name, "", NULL); \
		return what;                       \
	}

static jint remainder_of(struct jinja *j, const struct jv *v, const struct jv *by, bool *whole)
{
	struct jv r = jv_binary(j, '%', v, by);

	*whole = jv_is_number(&r);
	return r.type == J_FLOAT ? (r.f == 0 ? 0 : r.f == 1 ? 1 : 2) : jv_as_int(&r);
}

TEST(odd)
{
	struct jv two = jv_int(2);
	bool whole;

	jargs_bind(j, a, "odd", "", NULL);
	return remainder_of(j, &v, &two, &whole) == 1 && whole;
}

TEST(even)
{
	struct jv two = jv_int(2);
	bool whole;

	jargs_bind(j, a, "even", "", NULL);
	return remainder_of(j, &v, &two, &whole) == 0 && whole;
}

TEST(divisibleby)
{
	struct jv by;
	bool whole;

	jargs_bind(j, a, "divisibleby", "num", &by);
	return remainder_of(j, &v, &by, &whole) == 0 && whole;
}

static bool is_callable(const struct jv *v)
{
	switch (v->type) {
	case J_UNDEF:
	case J_METHOD:
	case J_GLOBAL:
	case J_MACRO:
	case J_LOOP:
	case J_JOINER:
	case J_BLOCK:
		return true;
	default:
		return false;
	}
}

static bool is_sequence(struct jinja *j, const struct jv *v)
{
	switch (v->type) {
	case J_UNDEF:
	case J_STR:
	case J_LIST:
	case J_TUPLE:
	case J_DICT:
	case J_RANGE:
		return true;
	default:
		return false;
	}
}

static bool str_says(struct jinja *j, struct jv v, const char *method)
{
	struct jstr *s = jv_to_str(j, &v);
	struct jv name = jv_text(j, method);

	return jstr_method(name.s)->call(j, jv_str(s), &(struct jargs){ 0 }).truth;
}

PLAIN(defined, v.type != J_UNDEF)
PLAIN(undefined, v.type == J_UNDEF)
PLAIN(none, v.type == J_NONE)
PLAIN(boolean, v.type == J_BOOL)
PLAIN(isfalse, v.type == J_BOOL && !v.truth)
PLAIN(istrue, v.type == J_BOOL && v.truth)
PLAIN(integer, v.type == J_INT)
PLAIN(float, v.type == J_FLOAT)
PLAIN(number, jv_is_number(&v))
PLAIN(string, v.type == J_STR)
PLAIN(mapping, v.type == J_DICT)
PLAIN(sequence, is_sequence(j, &v))
PLAIN(iterable, jv_iterable(&v))
PLAIN(callable, is_callable(&v))
PLAIN(escaped, v.type == J_STR && v.s->safe)
PLAIN(lower, str_says(j, v, "islower"))
PLAIN(upper, str_says(j, v, "isupper"))

static void hashable(struct jinja *j, const struct jv *v)
{
	if (!jv_hashable(v))
		jinja_fail(j, -EINVAL, "a value of type %s names nothing", jv_type_name(v));
}

TEST(filter)
{
	jargs_bind(j, a, "filter", "", NULL);
	hashable(j, &v);
	return v.type == J_STR && jinja_filter(v.s);
}

TEST(test)
{
	jargs_bind(j, a, "test", "", NULL);
	hashable(j, &v);
	return v.type == J_STR && jinja_test(v.s);
}

TEST(sameas)
{
	struct jv other;

	jargs_bind(j, a, "sameas", "other", &other);
	return jv_same(&v, &other);
}

static bool compare(struct jinja *j, enum jcmp op, struct jv v, const struct jargs *a)
{
	struct jv other;

	jargs_bind(j, a, "a comparison", "-", &other);
	return jv_compare(j, op, &v, &other);
}

#define COMPARISON(name, op)                 \
	TEST(name)                           \
	{                                    \
		return compare(j, op, v, a); \
	}
COMPARISON(eq, CMP_EQ)
COMPARISON(ne, CMP_NE)
COMPARISON(lt, CMP_LT)
COMPARISON(le, CMP_LE)
COMPARISON(gt, CMP_GT)
COMPARISON(ge, CMP_GE)

TEST(in)
{
	struct jv seq;

	jargs_bind(j, a, "in", "seq", &seq);
	return jv_contains(j, &seq, &v);
}

#define ROW(name)                  \
	{                          \
#name, test_##name \
	}
static const struct jtest tests[] = {
	ROW(odd),
	ROW(even),
	ROW(divisibleby),
	ROW(defined),
	ROW(undefined),
	ROW(filter),
	ROW(test),
	ROW(none),
	ROW(boolean),
	{ "false", test_isfalse },
	{ "true", test_istrue },
	ROW(integer),
	ROW(float),
	ROW(lower),
	ROW(upper),
	ROW(string),
	ROW(mapping),
	ROW(number),
	ROW(sequence),
	ROW(iterable),
	ROW(callable),
	ROW(sameas),
	ROW(escaped),
	ROW(in),
	{ "==", test_eq },
	{ "eq", test_eq },
	{ "equalto", test_eq },
	{ "!=", test_ne },
	{ "ne", test_ne },
	{ ">", test_gt },
	{ "gt", test_gt },
	{ "greaterthan", test_gt },
	{ "ge", test_ge },
	{ ">=", test_ge },
	{ "<", test_lt },
	{ "lt", test_lt },
	{ "lessthan", test_lt },
	{ "<=", test_le },
	{ "le", test_le },
};

const struct jtest *jinja_test(const struct jstr *name)
{
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (jstr_is(name, tests[i].name))
			return &tests[i];
	return NULL;
}

bool jinja_apply_test(struct jinja *j, const struct jstr *name, struct jv v, const struct jargs *a)
{
	const struct jtest *t = jinja_test(name);

	if (!t)
		jinja_fail(j, -EINVAL, "there is no test '%.*s'",
			   (int)(name->n < 100 ? name->n : 100), name->p);
	return t->call(j, v, a);
}
