/* SPDX-License-Identifier: MIT */
/* Description: what a log line looks like on a terminal or in a file, and in the journal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static int saved = -1, reader = -1;

/* Standard error becomes a pipe that the test reads. */
static void catch (void)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	saved = dup(STDERR_FILENO);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	close(fds[1]);
	reader = fds[0];
}

/* What was written since, NUL-terminated. */
static const char *caught(void)
{
	static char text[65536];
	size_t used = 0;
	ssize_t n;

	dup2(saved, STDERR_FILENO);
	close(saved);
	while ((n = read(reader, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	close(reader);
	text[used] = '\0';
	return text;
}

static void assert_matches(const char *text, const char *pattern)
{
	regex_t re;

	assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&re, text, 0, NULL, 0))
		fail_msg("%s\ndoes not match\n%s", text, pattern);
	regfree(&re);
}

static void date_and_zone(void **state)
{
	setenv("TZ", "Asia/Kolkata", 1);
	tzset();
	unsetenv("JOURNAL_STREAM");
	log_init(LOG_INF);
	catch ();
	log_line(LOG_NOTICE, "ready", "socket=%s n=%u", "/run/s", 3u);
	assert_matches(caught(),
		       "^time=20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
		       "\\.[0-9]{3}\\+05:30 level=notice msg=\"ready\" socket=/run/s n=3\n$");
	setenv("TZ", "America/St_Johns", 1);
	tzset();
	catch ();
	log_line(LOG_ERROR, "no", NULL);
	assert_matches(caught(), "\\.[0-9]{3}-0[23]:30 level=error msg=\"no\"\n$");
	setenv("TZ", "UTC", 1);
	tzset();
	catch ();
	log_line(LOG_WARN, "no", NULL);
	assert_matches(caught(), "\\.[0-9]{3}\\+00:00 level=warn msg=\"no\"\n$");
}

static void journal(void **state)
{
	char stream[64];
	struct stat st;

	catch ();
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_init(LOG_NOTICE);
	log_line(LOG_INF, "not so urgent", NULL);
	log_line(LOG_WARN, "two\nlines", "cause=%s", "a\nlevel=error msg=\"forged\"");
	assert_string_equal(caught(), "<4>level=warn msg=\"two\\nlines\" "
				      "cause=\"a\\nlevel=error msg=\\\"forged\\\"\"\n");
	unsetenv("JOURNAL_STREAM");
}

/* However long a value is, a line is one write of at most 4 KiB with its end. */
static void long_lines(void **state)
{
	char *text = malloc(10000);
	const char *got;

	memset(text, '\n', 9999);
	text[9999] = '\0';
	log_init(LOG_INF);
	catch ();
	log_line(LOG_ERROR, text, "cause=%s", text);
	log_line(LOG_ERROR, "next", NULL);
	got = caught();
	assert_int_equal(strchr(got, '\n') - got, strstr(got, "...\"\n") - got + 4);
	assert_true(strchr(got, '\n') - got < 4096);
	assert_non_null(strstr(got, "\ntime="));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(date_and_zone),
		cmocka_unit_test(journal),
		cmocka_unit_test(long_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
