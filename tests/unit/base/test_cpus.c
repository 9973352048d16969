/* SPDX-License-Identifier: MIT */
/* Description: lists of CPUs: what is one, what is none, and that the affinity of the process is respected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cpus.h"
#include "base/num.h"

static void lists(void **state)
{
	static const struct {
		const char *text;
		int n, one, other; /* CPUs that are in it */
	} good[] = { { "0", 1, 0, 0 },		{ "3-5", 3, 3, 5 },
		     { "0-3,8", 5, 2, 8 },	{ "8,1,1-2", 3, 8, 2 },
		     { "1023", 1, 1023, 1023 }, { "all", CPU_SETSIZE, 0, 1023 } };
	static const char *const bad[] = { "",
					   ",",
					   "1,",
					   ",1",
					   "1-",
					   "-1",
					   "3-1",
					   "1--2",
					   "0x1",
					   "a",
					   "1 2",
					   " 1",
					   "all,1",
					   "1024",
					   "0-99999999999",
					   "1-2-3",
					   "99999999999999999999" };

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct err err = { 0 };
		cpu_set_t set;

		assert_int_equal(cpus_parse(good[i].text, &set, &err), 0);
		assert_int_equal(CPU_COUNT(&set), good[i].n);
		assert_true(CPU_ISSET(good[i].one, &set) && CPU_ISSET(good[i].other, &set));
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = { 0 };
		cpu_set_t set;

		if (cpus_parse(bad[i], &set, &err) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
		assert_non_null(strstr(err.text, "list of CPUs"));
	}
}

static void within_the_affinity(void **state)
{
	cpu_set_t before, after, one;
	struct err err = { 0 };
	char text[32];
	int last = -1, other = -1;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		*(CPU_ISSET(cpu, &before) ? &last : &other) = cpu;
	assert_int_equal(cpus_keep_to("all", &err), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	assert_true(CPU_EQUAL(&before, &after));
	/* one that is allowed, and one that is not */
	snprintf(text, sizeof(text), "%d,%d", last, other < 0 ? last : other);
	assert_int_equal(cpus_keep_to(text, &err), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	CPU_ZERO(&one);
	CPU_SET(last, &one);
	assert_true(CPU_EQUAL(&one, &after));
	if (other >= 0) {
		snprintf(text, sizeof(text), "%d", other);
		assert_int_equal(cpus_keep_to(text, &err), -EINVAL);
		assert_non_null(strstr(err.text, "none of the CPUs"));
	}
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists),
		cmocka_unit_test(within_the_affinity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
