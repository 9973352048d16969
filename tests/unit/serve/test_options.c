/* SPDX-License-Identifier: MIT */
/* Description: sluiced's option table: defaults, ranges, sizes, refusals, help. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "serve/options.h"

static struct options o;
static struct err err;

/* "a b c" -> options_parse() */
static int parse(const char *line)
{
	static char text[512];
	char *argv[32] = { (char *)(uintptr_t) "sluiced" };
	int argc = 1;

	snprintf(text, sizeof(text), "%s", line);
	for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	err_clear(&err);
	return options_parse(argc, argv, &o, &err);
}

#define BASE "--model m.gguf --socket /tmp/s "

static void defaults(void **state)
{
	assert_int_equal(parse(BASE), 0);
	assert_string_equal(o.model, "m.gguf");
	assert_string_equal(o.socket, "/tmp/s");
	assert_string_equal(o.policy, "lfu");
	assert_string_equal(o.cpu, "auto");
	assert_int_equal(o.host_budget.bytes, 0);
	assert_int_equal(o.host_budget.percent, 0);
	assert_int_equal(o.threads, 0);
	assert_int_equal(o.kv_type, 0);
	assert_int_equal(o.log_level, 3);
	assert_false(o.no_fill);
	assert_null(o.trace);
}

/* The socket is main()'s to choose then. */
static void model_alone(void **state)
{
	assert_int_equal(parse("-m m.gguf"), 0);
	assert_string_equal(o.model, "m.gguf");
	assert_null(o.socket);
}

static void values(void **state)
{
	assert_int_equal(
		parse(BASE
		      "--threads 2 --ctx=4096 --parallel 8 --kv-type q8_0 --io pread "
		      "--cpu avx2 --policy static:x --trace t --overwrite --batch 64 --io-depth 8 "
		      "--io-request 512K --no-fill --log-level debug"),
		0);
	assert_int_equal(o.threads, 2);
	assert_int_equal(o.ctx, 4096);
	assert_int_equal(o.parallel, 8);
	assert_int_equal(o.kv_type, 1);
	assert_int_equal(o.io, 2);
	assert_int_equal(o.batch, 64);
	assert_int_equal(o.io_depth, 8);
	assert_int_equal(o.io_request, 512 << 10);
	assert_true(o.no_fill);
	assert_int_equal(o.log_level, 4);
	assert_string_equal(o.trace, "t");
	assert_true(o.overwrite);
	assert_string_equal(o.policy, "static:x");
	assert_int_equal(parse(BASE "--overwrite"), -EINVAL); /* of what? */
}

static void budgets(void **state)
{
	assert_int_equal(parse(BASE "--host-budget 1.5GiB"), 0);
	assert_int_equal(o.host_budget.bytes, 3ull << 29);
	assert_int_equal(parse(BASE "--host-budget 50%"), 0);
	assert_int_equal(o.host_budget.percent, 50);
	assert_int_equal(o.host_budget.bytes, 0);
	assert_int_equal(parse(BASE "--host-budget 50% --host-budget 4K"), 0);
	assert_int_equal(o.host_budget.percent, 0);
	assert_int_equal(o.host_budget.bytes, 4096);
}

static void refusals(void **state)
{
	static const char *const lines[] = {
		"",
		"--socket s",
		BASE "--nonsense",
		BASE "word",
		BASE "--threads",
		BASE "--cpus 3-1",
		BASE "--threads -1",
		BASE "--threads 2x",
		BASE "--threads 1025",
		BASE "--threads 18446744073709551616",
		BASE "--ctx 99999999999",
		BASE "--kv-type f32",
		BASE "--io mmap",
		BASE "--host-budget 0",
		BASE "--host-budget -1G",
		BASE "--host-budget 101%",
		BASE "--host-budget 0%",
		BASE "--host-budget %",
		BASE "--host-budget 5.5%",
		BASE "--host-budget 99999999T",
		BASE "--io-request 1000",
		BASE "--io-request 1T",
		BASE "--no-fill=yes",
		BASE "--log-level loud",
	};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(lines[i]), -EINVAL);
		assert_true(err.text[0]);
	}
	assert_int_equal(parse(BASE "--no-fill --fill-rate 5M"), -EINVAL);
	assert_string_equal(err.text, "--fill-rate and --no-fill exclude each other");
	assert_int_equal(parse(BASE "-s 42"), -EINVAL);
	assert_non_null(strstr(err.text, "--socket 42: a path is wanted"));
	assert_int_equal(parse(BASE "-s ./42"), 0);
	assert_int_equal(parse(BASE "-s 42s"), 0);
	assert_int_equal(parse(BASE "--threads 2000"), -EINVAL);
	assert_string_equal(err.text, "--threads: 2000 is not a number from 0 to 1024");
}

static void help_and_version(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(parse("--help"), 0);
	assert_true(o.help);
	assert_int_equal(parse("--version"), 0);
	assert_true(o.version);
	options_help(f);
	fclose(f);
	assert_non_null(strstr(text, "--host-budget SIZE|PERCENT%"));
	assert_non_null(strstr(text, "--kv-type f16|q8_0"));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		assert_true(strlen(line) <= 100);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults), cmocka_unit_test(model_alone),
		cmocka_unit_test(values),   cmocka_unit_test(budgets),
		cmocka_unit_test(refusals), cmocka_unit_test(help_and_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
