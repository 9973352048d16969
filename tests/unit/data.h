/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/data.h: files of tests/data and of SHARED for unit tests. A file that is in neither
 * place ends the calling test as skipped, by name and with the reason; with NEED_SHARED=1 (where
 * SHARED must be there, as in continuous integration) it fails the test instead.
 * Include it after cmocka.h.
 */
#ifndef SLUICE_TESTS_UNIT_DATA_H
#define SLUICE_TESTS_UNIT_DATA_H

#include "tests/data.h"

static inline void data_missing(const char *what)
{
	const char *need = getenv("NEED_SHARED");

	if (need && *need && *need != '0')
		fail_msg("%s is missing: set SHARED to the folder that holds it", what);
	print_message("needs %s of SHARED, which is not here\n", what);
	skip();
}

/* The fixture @name, from tests/data or SHARED/fixtures; skips the test where it is missing. */
static inline const char *fixture(const char *name, char buf[DATA_PATH])
{
	if (!data_find(name, buf))
		data_missing(name);
	return buf;
}

/* The published trace @name, which only SHARED has. */
static inline const char *shared_trace(const char *name, char buf[DATA_PATH])
{
	char below[256];

	snprintf(below, sizeof(below), "traces/%s", name);
	if (access(data_shared(below, buf), R_OK))
		data_missing(below);
	return buf;
}

#endif
