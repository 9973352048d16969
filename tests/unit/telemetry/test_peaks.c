/* SPDX-License-Identifier: MIT */
/* Description: peaks are read from what doctor prints; anything else is refused with the file's name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "telemetry/peaks.h"

static char path[64];

static int load(const char *text, struct telemetry_peak *ret, unsigned max, struct err *err)
{
	FILE *f;
	int fd, rc;

	snprintf(path, sizeof(path), "/tmp/sluice-peaks-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	f = fdopen(fd, "w");
	fputs(text, f);
	fclose(f);
	rc = telemetry_load_peaks(path, ret, max, err);
	unlink(path);
	return rc;
}

static void test_good(void **state)
{
	struct telemetry_peak p[4];

	(void)state;
	assert_int_equal(load("{\"nodes\":[{\"id\":0,\"read_bytes_per_s\":100000000000},"
			      "{\"id\":2,\"read_bytes_per_s\":5e10},{\"id\":3,\"read_bytes_per_s\":"
			      "null}],\"mem_read_gbs\":150}",
			      p, 4, NULL),
			 2);
	assert_int_equal(p[0].bytes_per_s, 100000000000);
	assert_int_equal(p[1].node, 2);
	assert_int_equal(p[1].bytes_per_s, 50000000000);
	assert_int_equal(load("{\"nodes\":[{\"id\":1,\"read_bytes_per_s\":null}],"
			      "\"mem_read_gbs\":18.5}",
			      p, 4, NULL),
			 1);
	assert_int_equal(p[0].node, 1);
	assert_int_equal(p[0].bytes_per_s, 18500000000);
	assert_int_equal(load("{\"nodes\":[{\"id\":0,\"read_bytes_per_s\":1},{\"id\":1,"
			      "\"read_bytes_per_s\":2}]}",
			      p, 1, NULL),
			 1);
}

static void test_bad(void **state)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{}",
		"{\"nodes\":7}",
		"{\"nodes\":[]}",
		"{\"nodes\":[3,\"x\",{}]}",
		"{\"nodes\":[{\"id\":-1,\"read_bytes_per_s\":5}]}",
		"{\"nodes\":[{\"id\":64,\"read_bytes_per_s\":5}]}",
		"{\"nodes\":[{\"id\":0,\"read_bytes_per_s\":-5}]}",
		"{\"nodes\":[{\"id\":0,\"read_bytes_per_s\":1e300}]}",
		"{\"nodes\":[",
	};
	struct telemetry_peak p[4];
	struct err err = { { 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		err_clear(&err);
		assert_int_equal(load(texts[i], p, 4, &err), -EINVAL);
		assert_non_null(strstr(err.text, path));
	}
	err_clear(&err);
	assert_int_equal(telemetry_load_peaks("/nonexistent/peaks.json", p, 4, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/nonexistent/peaks.json"));
	assert_null(strstr(err.text, "line")); /* there is none */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_good),
					    cmocka_unit_test(test_bad) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
