/* SPDX-License-Identifier: MIT */
/* Description: policies that take a file: what it may hold, what is refused, what they do with it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/policy/policy_rig.h"
#include "trace/policy_input.h"

static void open_policy(const char *spec)
{
	struct err err = { 0 };
	int rc = policy_open(spec, &geometry, &ops, &policy, &err);

	if (rc)
		fail_msg("%s: %s", spec, err.text);
	step = 0;
}

static void expect_refused(const char *spec, const char *text)
{
	struct err err = { 0 };

	assert_true(policy_open(spec, &geometry, &ops, &policy, &err) < 0);
	if (!strstr(err.text, text))
		fail_msg("%s: '%s' lacks '%s'", spec, err.text, text);
}

static void write_file(char *path, const char *text)
{
	int fd;

	strcpy(path, "/tmp/sluice-test-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void test_static(void **state)
{
	char path[64], spec[80];

	write_file(path, "# worth most first\n1 2\n\n0 3  # a comment\n3 7\n");
	snprintf(spec, sizeof(spec), "static:%s", path);
	open_policy(spec);
	unlink(path);
	assert_int_equal(fill(), EXPERTS + 2);
	assert_int_equal(fill(), 3);
	assert_int_equal(fill(), 3 * EXPERTS + 7);
	assert_int_equal(fill(), 0); /* then layer order */
	assert_int_equal(fill(), 1);
	use(0, 2);
	ops->inserted(policy, 2);
	use(0, 3); /* a use changes nothing for a listed one */
	assert_int_equal(evict(), 1);
	assert_int_equal(evict(), 2);
	assert_int_equal(evict(), 0);
	assert_int_equal(evict(), 3 * EXPERTS + 7);
	assert_int_equal(evict(), 3);
	assert_int_equal(evict(), EXPERTS + 2);
	close_policy();
}

static void test_static_refused(void **state)
{
	static const char *const bad[][2] = {
		{ "0 1\n4 0\n", "line 2 is not" },
		{ "0 8\n", "line 1 is not" },
		{ "0\n", "line 1 is not" },
		{ "0 1 2\n", "line 1 is not" },
		{ "0 -1\n", "line 1 is not" },
		{ "a 1\n", "line 1 is not" },
		{ "0 1\n#\n0 1\n", "line 3 repeats" },
		{ "4294967296 1\n", "line 1 is not" },
		{ "0 99999999999999999\n", "line 1 is not" },
	};
	char path[64], spec[80];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		write_file(path, bad[i][0]);
		snprintf(spec, sizeof(spec), "static:%s", path);
		expect_refused(spec, bad[i][1]);
		unlink(path);
	}
	expect_refused(spec, "cannot open");
	expect_refused("static", "needs a file");
}

static void test_belady(void **state)
{
	char path[64], spec[80];

	write_file(path, "route_trace v1\ngeometry 4 8 2\norder rank\ndata\n"
			 "step 1\nd 0 0 0 0 1\nstep 2\nd 0 0 1 2 3\nstep 3\nd 0 0 2 0 2\n"
			 "step 4\nd 0 0 3 1 4\n");
	snprintf(spec, sizeof(spec), "belady:%s", path);
	open_policy(spec);
	unlink(path);
	use(0, 1);
	ops->inserted(policy, 0);
	ops->inserted(policy, 1);
	use(2, 3);
	ops->inserted(policy, 2);
	ops->inserted(policy, 3);
	assert_int_equal(evict(), 3); /* never again */
	assert_int_equal(evict(), 1); /* in step 4 */
	assert_int_equal(evict(), 2); /* both in step 3: the lower is worth more */
	assert_int_equal(evict(), 0);
	assert_int_equal(fill(), 0);
	close_policy();
}

static void test_belady_refused(void **state)
{
	char path[64], spec[80];

	write_file(path, "route_trace v1\ngeometry 4 16 2\norder rank\ndata\n");
	snprintf(spec, sizeof(spec), "belady:%s", path);
	expect_refused(spec, "is of 4 layers of 16 experts, the model has 4 of 8");
	unlink(path);
	expect_refused(spec, "cannot open");
	expect_refused("belady", "needs a recorded trace");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_static_refused),
		cmocka_unit_test(test_belady),
		cmocka_unit_test(test_belady_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
