/* SPDX-License-Identifier: MIT */
/*
 * tests/data.h: where a test written in C or C++ finds a file that it needs. tests/data lies in the
 * repository; the wide matrix of fixtures and the published traces lie in SHARED (default ../shared),
 * which a clone need not have. Paths are relative to the root of the project, where tests run.
 */
#ifndef SLUICE_TESTS_DATA_H
#define SLUICE_TESTS_DATA_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DATA_PATH 4096

/* The path of @name below SHARED, there or not, in @buf; returns @buf. */
static inline const char *data_shared(const char *name, char buf[DATA_PATH])
{
	const char *shared = getenv("SHARED");

	snprintf(buf, DATA_PATH, "%s/%s", shared && *shared ? shared : "../shared", name);
	return buf;
}

/*
 * The path of the fixture @name ("dense/dense-q4_k_m.gguf"): tests/data if it is there, else
 * SHARED/fixtures. @buf, or NULL if it is in neither place.
 */
static inline const char *data_find(const char *name, char buf[DATA_PATH])
{
	char below[512];

	snprintf(buf, DATA_PATH, "tests/data/%s", name);
	if (!access(buf, R_OK))
		return buf;
	snprintf(below, sizeof(below), "fixtures/%s", name);
	return access(data_shared(below, buf), R_OK) ? NULL : buf;
}

#endif
