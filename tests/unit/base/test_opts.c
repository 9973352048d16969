/* SPDX-License-Identifier: MIT */
/* Description: the option parser on every type, with words, aliases and help. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "base/opts.h"

struct args {
	bool flag, help, count_given;
	const char *text, *name;
	uint32_t small, choice, custom, count;
	uint64_t large, size;
	float share;
};

#define AT(field) offsetof(struct args, field)

static int parse_even(const char *text, void *field, struct err *err)
{
	uint32_t value = (uint32_t)atoi(text);

	if (value % 2)
		return err_set(err, -EINVAL, "%s is odd", text);
	*(uint32_t *)field = value;
	return 0;
}

static const struct opt table[] = {
	{ "--flag", "-f", OPT_FLAG, AT(flag), .help = "A flag." },
	{ "--text", NULL, OPT_TEXT, AT(text), "TEXT", .help = "A text." },
	{ "--small", "-s", OPT_U32, AT(small), "N", 1, 9, .def = "3", .help = "A digit." },
	{ "--large", NULL, OPT_U64, AT(large), "N", .help = "Any number." },
	{ "--size", NULL, OPT_SIZE, AT(size), "SIZE", .help = "Bytes." },
	{ "--share", NULL, OPT_FLOAT, AT(share), "X", 0.02, 1, .def = "0.5", .help = "A share." },
	{ "--choice", NULL, OPT_CHOICE, AT(choice), .choices = "red|green", .help = "A colour." },
	{ "--even", NULL, OPT_CUSTOM, AT(custom), "N", .parse = parse_even, .help = "Even." },
	{ "--name", "-n", OPT_TEXT, AT(name), "TEXT", .needs = "--flag|--help", .help = "Of it." },
	{ "--count", "-c", OPT_U32, AT(count), "N", .excludes = "--small|--name", .def = "7",
	  .given = AT(count_given), .help = "Many." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This." },
};

static struct args args;
static struct err err;
static char *argv[16];
static int n_words;

static int parse(bool with_words, const char *line)
{
	static char text[256];
	int argc = 1;

	memset(&args, 0, sizeof(args));
	err_clear(&err);
	strcpy(text, line);
	argv[0] = text;
	for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	return opts_parse(table, ARRAY_LEN(table), argc, argv, &args, with_words ? &n_words : NULL,
			  &err);
}

static void every_type(void **state)
{
	assert_int_equal(parse(false, "-f --text=a=b -s 9 --large 18446744073709551615 --size 2K "
				      "--share 1 --choice green --even 4"),
			 0);
	assert_true(args.flag);
	assert_string_equal(args.text, "a=b");
	assert_int_equal(args.small, 9);
	assert_true(args.large == UINT64_MAX);
	assert_int_equal(args.size, 2048);
	assert_true(args.share == 1.0f);
	assert_int_equal(args.choice, 1);
	assert_int_equal(args.custom, 4);
	assert_int_equal(parse(false, "--share 0.02"), 0); /* the bound itself, as a float */
	assert_int_equal(parse(false, ""), 0);
	assert_int_equal(args.small, 3);
	assert_true(args.share == 0.5f);
}

static void words(void **state)
{
	assert_int_equal(parse(true, "one -s 4 two - -- --flag"), 0);
	assert_int_equal(n_words, 4);
	assert_string_equal(argv[1], "one");
	assert_string_equal(argv[2], "two");
	assert_string_equal(argv[3], "-");
	assert_string_equal(argv[4], "--flag");
	assert_int_equal(args.small, 4);
	assert_false(args.flag);
	assert_int_equal(parse(false, "one"), -EINVAL);
}

static void attached_values(void **state)
{
	assert_int_equal(parse(true, "-s9 -f -nlong=name word"), 0);
	assert_int_equal(args.small, 9);
	assert_string_equal(args.name, "long=name");
	assert_int_equal(n_words, 1);
	assert_int_equal(parse(false, "-f -n-3"), 0);
	assert_string_equal(args.name, "-3");
	assert_int_equal(parse(false, "-s=8"), 0);
	assert_int_equal(args.small, 8);
	assert_int_equal(parse(false, "-s10"), -EINVAL);
	assert_string_equal(err.text, "--small: 10 is not a number from 1 to 9");
	assert_int_equal(parse(false, "-f1"), -EINVAL);
	assert_string_equal(err.text, "unknown option -f1");
	assert_int_equal(parse(false, "--large 18446744073709551616"), -EINVAL);
	assert_string_equal(err.text, "--large: 18446744073709551616 is too large");
}

/* The option that was meant is named, and none where none is near. */
static void unknown(void **state)
{
	static const char *const all[][2] = {
		{ "--coutn 3", "--coutn; there is --count" },
		{ "--chioce red", "--chioce; there is --choice" },
		{ "--count-all=3", "--count-all; there is --count" },
		{ "--cho red", "--cho; there is --choice" },
		{ "--flags", "--flags; there is --flag" },
		{ "--lrage 3", "--lrage; there is --large" },
		{ "--port 3", "--port" },
		{ "--no", "--no" },
		{ "-x", "-x" },
		{ "--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		  "--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		assert_int_equal(parse(false, all[i][0]), -EINVAL);
		assert_true(!strncmp(err.text, "unknown option ", 15));
		assert_string_equal(err.text + 15, all[i][1]);
	}
}

/* What would do nothing is refused; a default is not given by anybody. */
static void pairs(void **state)
{
	assert_int_equal(parse(false, "--name x"), -EINVAL);
	assert_string_equal(err.text, "--name has no effect without --flag|--help");
	assert_int_equal(parse(false, "--name x --flag"), 0);
	assert_int_equal(parse(false, "-h --name x -c1"), 0);
	assert_true(args.help);
	assert_int_equal(parse(false, "-c1 -s1"), -EINVAL);
	assert_string_equal(err.text, "--count and --small exclude each other");
	assert_int_equal(parse(false, "-s1"), 0);
	assert_int_equal(args.count, 7);
	assert_false(args.count_given);
	assert_int_equal(parse(false, "-c7"), 0);
	assert_true(args.count_given);
}

static void refusals(void **state)
{
	static const char *const lines[] = {
		"--none",	"-x",
		"--fla",	"--text",
		"--flag=1",	"--small 0",
		"--small 10",	"--small +4",
		"--small 4.0",	"--small 4294967297",
		"--large -1",	"--size 5X",
		"--share nan",	"--share inf",
		"--share 1.01", "--share 0.019",
		"--choice re",	"--choice red|green",
		"--even 3",	"--small=",
		"--share=",	"--large 18446744073709551616",
	};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(false, lines[i]), -EINVAL);
		assert_true(err.text[0]);
	}
	assert_int_equal(parse(false, "--even 3"), -EINVAL);
	assert_string_equal(err.text, "--even: 3 is odd");
}

static void help(void **state)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	opts_help(f, table, ARRAY_LEN(table));
	fclose(f);
	assert_non_null(strstr(text, "  -s, --small N                   A digit. (default 3)\n"));
	assert_non_null(strstr(text, "  --choice red|green              A colour.\n"));
	free(text);
}

/* ---- settings: what files say ---- */

static struct opts_said said[ARRAY_LEN(table)];

static int settle(const char *line, const struct opts_setting *list, size_t n)
{
	char text[128], *arguments[8] = { (char *)(uintptr_t) "x" };
	int argc = 1, rc;

	snprintf(text, sizeof(text), "%s", line);
	for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
		arguments[argc++] = w;
	memset(&args, 0, sizeof(args));
	err_clear(&err);
	rc = opts_arguments(table, ARRAY_LEN(table), argc, arguments, &args, said, NULL, &err);
	if (!rc)
		rc = opts_settings(table, ARRAY_LEN(table), list, n, &args, said, &err);
	return rc ? rc : opts_check(table, ARRAY_LEN(table), said, &err);
}

/* The arguments go before the files, a later line before an earlier one. */
static void settings_order(void **state)
{
	static const struct opts_setting list[] = { { "small", "4", "a.conf", 1 },
						    { "small", "5", "a.conf", 2 },
						    { "large", "70", "b.conf", 1 },
						    { "flag", "yes", "b.conf", 2 } };

	assert_int_equal(settle("--large 9", list, ARRAY_LEN(list)), 0);
	assert_int_equal(args.small, 5);
	assert_int_equal(args.large, 9);
	assert_true(args.flag);
	assert_int_equal(said[2].by, SAID_SETTING);
	assert_int_equal(said[2].setting->line, 2);
	assert_int_equal(said[3].by, SAID_ARGUMENT);
	assert_int_equal(said[4].by, SAID_NOT);
}

/* An empty value takes back, "no" turns a flag off: neither counts as given. */
static void settings_taken_back(void **state)
{
	static const struct opts_setting list[] = {
		{ "small", "x", "a.conf", 1 }, { "small", "", "a.conf", 2 },
		{ "flag", "on", "a.conf", 3 }, { "flag", "no", "a.conf", 4 },
		{ "count", "3", "a.conf", 5 },
	};

	assert_int_equal(settle("", list, ARRAY_LEN(list)), 0);
	assert_int_equal(args.small, 3);
	assert_false(args.flag);
	assert_int_equal(args.count, 3);
}

static void settings_faults(void **state)
{
	static const struct {
		struct opts_setting s;
		const char *why;
	} all[] = {
		{ { "smal", "4", "a.conf", 7 }, "a.conf:7: unknown option smal; there is small" },
		{ { "s", "4", "a.conf", 7 }, "a.conf:7: unknown option s" },
		{ { "small", "10", "a.conf", 7 }, "a.conf:7: --small: 10 is not" },
		{ { "flag", "maybe", "a.conf", 7 }, "a.conf:7: flag: maybe is neither yes nor no" },
		{ { "even", "3", "a.conf", 7 }, "a.conf:7: --even: 3 is odd" },
		{ { "name", "n", "a.conf", 7 }, "--name has no effect without --flag|--help" },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		assert_int_equal(settle("", &all[i].s, 1), -EINVAL);
		assert_non_null(strstr(err.text, all[i].why));
	}
}

/* What opts_dump() writes has every option, and values where something was said. */
static void dump(void **state)
{
	static const struct opts_setting list[] = { { "small", "4", "a.conf", 3 },
						    { "flag", "no", "a.conf", 4 } };
	char *text;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_int_equal(settle("--text words", list, ARRAY_LEN(list)), 0);
	opts_dump(f, table, ARRAY_LEN(table), said);
	fclose(f);
	assert_non_null(strstr(text, "# from a.conf, line 3\nsmall = 4\n"));
	assert_non_null(strstr(text, "# from the command line\ntext = words\n"));
	assert_non_null(strstr(text, "\nflag = no\n"));
	assert_non_null(strstr(text, "\n#share = 0.5\n"));
	assert_non_null(strstr(text, "\n# choice: red|green\n# A colour.\n#choice = red|green\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_order),
		cmocka_unit_test(settings_taken_back),
		cmocka_unit_test(settings_faults),
		cmocka_unit_test(dump),
		cmocka_unit_test(every_type),
		cmocka_unit_test(words),
		cmocka_unit_test(unknown),
		cmocka_unit_test(attached_values),
		cmocka_unit_test(pairs),
		cmocka_unit_test(refusals),
		cmocka_unit_test(help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
