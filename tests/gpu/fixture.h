/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/fixture.h: where the programs of this folder find a fixture (tests/data.h). One that is
 * missing ends the program with a sentence and status 1.
 */
#ifndef SLUICE_TESTS_GPU_FIXTURE_H
#define SLUICE_TESTS_GPU_FIXTURE_H

#include <string>

#include "tests/data.h"

/* In tests/data, else in SHARED/fixtures; @whole: the other way round, for references that tests/data has cut */
static inline std::string gpu_fixture(const std::string &name, bool whole = false)
{
	char path[DATA_PATH];

	if (whole && !access(data_shared(("fixtures/" + name).c_str(), path), R_OK))
		return path;
	if (!data_find(name.c_str(), path)) {
		fprintf(stderr,
			"%s is missing: run this in the root of the project or set SHARED\n",
			name.c_str());
		exit(1);
	}
	return path;
}

#endif
