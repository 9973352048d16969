/* SPDX-License-Identifier: MIT */
/*
 * Description: hostile templates end with a sentence in bounded time; text keeps its origin; what a
 * template itself says is told from other failures.
 */
#include "tests/unit/chat/chat_rows.h"

#include <errno.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/num.h"

static int render(const char *source, size_t len, struct json_object *vars,
		  const struct template_options *o, struct rendered *r, struct template_error *err)
{
	struct template *t = NULL;
	int rc;

	*err = (struct template_error){ 0 };
	*r = (struct rendered){ 0 };
	rc = template_compile(source, len, &t, &err->err);
	if (!rc)
		rc = template_render(t, vars, o, r, err);
	template_destroy(t);
	return rc;
}

static int render_text(const char *source, struct json_object *vars,
		       const struct template_options *o, struct rendered *r,
		       struct template_error *err)
{
	return render(source, strlen(source), vars, o, r, err);
}

/* @n times @one between @head and @tail, malloc'd. */
static char *repeat(const char *head, const char *one, size_t n, const char *tail)
{
	size_t k = strlen(one), at = strlen(head);
	char *s = malloc(at + n * k + strlen(tail) + 1);

	memcpy(s, head, at);
	for (size_t i = 0; i < n; i++, at += k)
		memcpy(s + at, one, k);
	strcpy(s + at, tail);
	return s;
}

static void expect_failure(const char *source, size_t len, const char *what)
{
	struct template_error err;
	uint64_t began = now_ns();
	struct rendered r;

	/* a tenth of the usual: the way there is the same, and this runs under sanitizers too */
	const struct template_options o = { .limits = { .steps = 2000000, .bytes = 32u << 20 } };
	int rc = render(source, len, NULL, &o, &r, &err);

	rendered_done(&r);
	if (!rc)
		fail_msg("%s: no failure", what);
	if (!err.err.text[0])
		fail_msg("%s: no sentence", what);
	if (now_ns() - began > 60000000000u)
		fail_msg("%s: takes too long", what);
}

static void bombs(void **state)
{
	static const char *const all[] = {
		"{{ 'x' * 100000000000 }}",
		"{{ [0] * 100000000000 }}",
		"{{ ('x' * 100000000) * 10 }}",
		"{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(100) %}"
		"{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
		"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
		"{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
		"{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
		"{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
		"{{ f(60) }}",
		"{{ range(99999) | list | map('string') | join | map('upper') | join | length }}"
		"{% for i in range(100000) %}{{ range(100000) | list | length }}{% endfor %}",
		"{{ range(100001) }}",
		"{{ range(0, 9223372036854775807) }}",
		"{{ 2 ** 100000000 }}",
		"{{ 10 ** 10 ** 10 }}",
		"{{ '%1000000000d' % 1 }}",
		"{{ '%*d' % (1000000000, 1) }}",
		"{{ '{:1000000000}'.format(1) }}",
		"{{ 'x'.center(10000000000) }}",
		"{{ 'x'.zfill(10000000000) }}",
		"{{ 'x' | indent(10000000000) }}",
		"{{ '\\t'.expandtabs(10000000000) }}",
		"{{ [1] | tojson(indent=1000000000) }}",
		"{{ [1, 2] | batch(100000000000000000000, 0) | list }}",
		"{{ [1, 2] | slice(100000000000, 0) | list }}",
		"{% set s = 'a' * 1000000 %}{% for i in range(100000) %}"
		"{{ (s + 'b').rfind('a' * 500000 + 'c') }}{% endfor %}",
		"{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s.count('b') }}{% endfor %}",
		"{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s.replace('a', 'bb') | "
		"length }}{% endfor %}",
		"{% set s = 'é' * 100000 %}{% for i in range(100000) %}{{ s[i] }}{% endfor %}",
		"{% set l = range(10000) | list %}{% for i in l %}{{ l | sort | length }}{% endfor %}",
		"{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
		"{{ strftime_now('%c' * 10000) }}",
		"{{ range(9)[::2 ** 100] }}",
		"{{ '-1e300' | float | filesizeformat }}",
		"{{ 'some' | filesizeformat }}",
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		expect_failure(all[i], strlen(all[i]), all[i]);
}

static void deep(void **state)
{
	static const struct {
		const char *head, *one, *tail;
	} all[] = {
		{ "{{ ", "(", "" },
		{ "{{ ", "[", "" },
		{ "{{ ", "{1:", "" },
		{ "{{ 1", " if 1 else 1", " }}" },
		{ "{{ ", "not ", "1 }}" },
		{ "{{ ", "-", "1 }}" },
		{ "{{ 1", " ** 1", " }}" },
		{ "{{ 1", " + 1", " }}" },
		{ "{{ 1", " or 1", " }}" },
		{ "{{ a", ".a", " }}" },
		{ "{{ a", "[0]", " }}" },
		{ "{{ a", "()", " }}" },
		{ "{{ a", "|trim", " }}" },
		{ "{{ 1", " is odd", " }}" },
		{ "", "{% if 1 %}", "" },
		{ "", "{% for i in [1] %}", "" },
		{ "", "{% macro f() %}", "" },
		{ "", "{% set a %}", "" },
		{ "{% if 0 %}", "{% elif ((", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		char *s = repeat(all[i].head, all[i].one, 20000, all[i].tail);

		expect_failure(s, strlen(s), all[i].one);
		free(s);
	}
}

static void broken(void **state)
{
	static const char *const all[] = {
		"{{",
		"{%",
		"{#",
		"{{ '",
		"{{ \"\\",
		"{% raw %}",
		"{% if",
		"{{ 1 }",
		"{{ \xff }}",
		"\xc3",
		"{{ '\xed\xa0\x80' }}",
		"{{ '\\ud800' }}",
		"{{ '\\U00110000' }}",
		"{{ 0x }}",
		"{{ 99999999999999999999999999999999999999999 }}",
		"{% set a.b.c = 1 %}",
		"{% macro f(a, a) %}{% endmacro %}",
		"{{ f(a=1, a=2) }}",
		"{% break %}",
		"{% generation %}{% break %}{% endgeneration %}",
		"{{ a[] }}",
		"{% for %}{% endfor %}",
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		expect_failure(all[i], strlen(all[i]), all[i]);
	expect_failure("{{ '\0", 5, "a NUL in a tag");
}

/* Input that is deeper than any template needs, or no UTF-8: a sentence too. */
static void hostile_input(void **state)
{
	static const char show[] = "{{ x | tojson }}";
	struct json_object *vars = json_object_new_object(), *inner = NULL, *outer;
	struct template_error err;
	struct rendered r;

	for (unsigned i = 0; i < 5000; i++) {
		outer = json_object_new_array();
		json_object_array_add(outer, inner);
		inner = outer;
	}
	json_object_object_add(vars, "x", inner);
	assert_int_equal(render_text(show, vars, NULL, &r, &err), -E2BIG);
	assert_non_null(strstr(err.err.text, "levels"));
	json_object_object_add(vars, "x", json_object_new_string("a\xffz"));
	assert_int_equal(render_text(show, vars, NULL, &r, &err), -EINVAL);
	assert_true(err.raised);
	assert_non_null(strstr(err.err.text, "UTF-8"));
	json_object_object_add(vars, "x", json_object_new_string_len("a\0b", 3));
	assert_int_equal(render_text("{{ x }}", vars, NULL, &r, &err), 0);
	assert_int_equal(r.n, 3);
	assert_memory_equal(r.text, "a\0b", 4);
	rendered_done(&r);
	json_object_put(vars);
}

static void limits(void **state)
{
	static const char loop[] = "{% for i in range(1000) %}{{ i }}{% endfor %}";
	struct template_options o = { .limits = { .steps = 500 } };
	struct template_error err;
	struct rendered r;

	assert_int_equal(render_text(loop, NULL, &o, &r, &err), -E2BIG);
	assert_non_null(strstr(err.err.text, "500 steps"));
	o.limits = (struct template_limits){ .bytes = 70000 };
	assert_int_equal(render_text("{{ 'x' * 60000 + 'y' * 60000 }}", NULL, &o, &r, &err),
			 -E2BIG);
	assert_non_null(strstr(err.err.text, "70000 bytes"));
	o.limits = (struct template_limits){ .depth = 5 };
	assert_int_equal(render_text("{{ [[[[[[1]]]]]] }}", NULL, &o, &r, &err), -E2BIG);
	assert_int_equal(render_text(loop, NULL, NULL, &r, &err), 0);
	assert_int_equal(r.n, 2890);
	rendered_done(&r);
}

/* What no word of the template can ask for takes no memory of the rendering. */
static void variables_unmentioned(void **state)
{
	const struct template_options o = { .limits = { .bytes = 200000 } };
	struct json_object *vars = json_object_new_object(), *list = json_object_new_array();
	struct template_error err;
	struct rendered r;

	for (unsigned i = 0; i < 100000; i++)
		json_object_array_add(list, json_object_new_int(1));
	json_object_object_add(vars, "much", list);
	json_object_object_add(vars, "a", json_object_new_int(7));
	assert_int_equal(render_text("{{ a }}{{ b.much }}", vars, &o, &r, &err), -E2BIG);
	assert_int_equal(render_text("{{ a }}{{ 'much' }}", vars, &o, &r, &err), 0);
	assert_string_equal(r.text, "7much");
	rendered_done(&r);
	json_object_put(vars);
}

static void raised(void **state)
{
	struct template_error err;
	struct rendered r;

	assert_int_equal(render_text("a\n{{ raise_exception('No: ' ~ 3) }}", NULL, NULL, &r, &err),
			 -EINVAL);
	assert_true(err.raised);
	assert_string_equal(err.err.text, "No: 3");
	assert_int_equal(render_text("a\n{{ nope.x }}", NULL, NULL, &r, &err), -EINVAL);
	assert_false(err.raised);
	assert_string_equal(err.err.text, "line 2 of the chat template: 'nope' is undefined");
}

/* Where text comes from: T marks bytes that are trusted, u those that are not. */
static void origins(void **state)
{
	static const struct {
		const char *template, *text, *marks;
	} all[] = {
		{ "<a>{{ x }}</a>", "<a>b c</a>", "TTTuuuTTTT" },
		{ "{{ '<' ~ x ~ '>' }}", "<b c>", "TuuuT" },
		{ "{{ x | upper }}{{ 'd' | upper }}", "B CD", "uuuT" },
		{ "{{ ('<' + x + '>') | replace('b', 'B') }}", "<B c>", "TTuuT" },
		{ "{{ (x + 'y')[::-1] }}", "yc b", "Tuuu" },
		{ "{{ ('q' + x).split(' ') | join('|') }}", "qb|c", "TuTu" },
		{ "{{ [x] | tojson }}", "[\"b c\"]", "TTuuuTT" },
		{ "{% set a %}<{{ x }}>{% endset %}{{ a | trim }}", "<b c>", "TuuuT" },
		{ "{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(x) }}", "<b c>", "TuuuT" },
		{ "{{ t }}{{ x }}", "<s>b c", "TTTuuu" },
		{ "{{ m.role }}{{ m.other }}", "userrole", "TTTTuuuu" },
		{ "{{ '%s-%d' % (x, 7) }}", "b c-7", "uuuTT" },
		{ "{{ x | indent(1, true) }}", " b c", "Tuuu" },
		{ "{% for c in x %}{{ c }}.{% endfor %}", "b. .c.", "uTuTuT" },
		{ "{{ {'k': x} }}", "{'k': 'b c'}", "TTTTTTTuuuTT" },
		{ "{{ x | title }}{{ x | e }}", "B Cb c", "uuuuuu" },
	};
	static const char *const trusted[] = { "t", NULL };
	const struct template_options o = { .trusted = trusted };
	struct json_object *vars = json_of(
		"{\"x\": \"b c\", \"t\": \"<s>\", \"m\": {\"role\": \"user\", \"other\": \"role\"}}");
	struct template_error err;
	struct rendered r;

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		char marks[64] = "";

		if (render(all[i].template, strlen(all[i].template), vars, &o, &r, &err))
			fail_msg("%s: %s", all[i].template, err.err.text);
		assert_string_equal(r.text, all[i].text);
		memset(marks, 'u', r.n);
		for (size_t k = 0; k < r.n_trusted; k++) {
			assert_true(r.trusted[k].begin < r.trusted[k].end &&
				    r.trusted[k].end <= r.n);
			assert_true(!k || r.trusted[k - 1].end < r.trusted[k].begin);
			memset(marks + r.trusted[k].begin, 'T',
			       r.trusted[k].end - r.trusted[k].begin);
		}
		if (strcmp(marks, all[i].marks))
			fail_msg("%s: %s, not %s", all[i].template, marks, all[i].marks);
		rendered_done(&r);
	}
	json_object_put(vars);
}

static void *render_often(void *arg)
{
	static const char want[] = "H\xc3\xa9llo 5 H\xc3\xa9 ab 2";
	struct template_error err = { 0 };
	struct rendered r;

	for (unsigned i = 0; i < 300; i++) {
		if (template_render(arg, NULL, NULL, &r, &err) || strcmp(r.text, want))
			return arg;
		rendered_done(&r);
	}
	return NULL;
}

/* A compiled template is constant: several threads render with it at once (SAN=thread watches). */
static void threads(void **state)
{
	static const char source[] =
		"{% macro f(x) %}{{ x }} {{ 'H\xc3\xa9llo' | length }}{% endmacro %}"
		"{{ f('H\xc3\xa9llo') }} {{ 'H\xc3\xa9llo'[:2] }} "
		"{% for k, v in {'a': 1, 'b': 2} | items %}{{ k }}{% endfor %} "
		"{{ f.arguments | length + 1 }}";
	struct template *t = NULL;
	struct err err = { 0 };
	pthread_t thread[4];
	void *bad;

	if (template_compile(source, strlen(source), &t, &err))
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, render_often, t), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(thread[i], &bad), 0);
		assert_null(bad);
	}
	template_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bombs),
		cmocka_unit_test(deep),
		cmocka_unit_test(broken),
		cmocka_unit_test(hostile_input),
		cmocka_unit_test(limits),
		cmocka_unit_test(raised),
		cmocka_unit_test(origins),
		cmocka_unit_test(threads),
		cmocka_unit_test(variables_unmentioned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
