/* SPDX-License-Identifier: MIT */
/* Description: where the socket is when nobody says, and which directories are refused for it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "uapi/sluice.h"

static struct sluice_fault fault;
static char path[108], dir[64], scratch[64];
static uid_t
	other; /* a user that nobody is, where we may become it: the tests' own /tmp directory */

static int where(uint32_t flags)
{
	memset(&fault, 0, sizeof(fault));
	memset(path, 0, sizeof(path));
	return sluice_socket_path(flags, path, sizeof(path), &fault);
}

/* Every test starts without the variables, as a user of whom /tmp holds nothing. */
static int setup(void **state)
{
	unsetenv("SLUICE_SOCKET");
	unsetenv("XDG_RUNTIME_DIR");
	if (getuid())
		return 0;
	other = 3000000 + (uid_t)getpid();
	snprintf(dir, sizeof(dir), "/tmp/sluice-%u", (unsigned)other);
	snprintf(scratch, sizeof(scratch), "/tmp/sluice-test-%u", (unsigned)getpid());
	return seteuid(other);
}

static int teardown(void **state)
{
	if (getuid())
		return 0;
	if (seteuid(0))
		return -1;
	unlink(dir);
	rmdir(dir);
	unlink(scratch);
	rmdir(scratch);
	return 0;
}

static void needs_root(void)
{
	if (!getuid())
		return;
	print_message("skipped: only root can be a user of whom /tmp holds nothing\n");
	skip();
}

static void variables(void **state)
{
	setenv("XDG_RUNTIME_DIR", "/run/user/77", 1);
	assert_int_equal(where(0), 0);
	assert_string_equal(path, "/run/user/77/sluice.sock");
	/* the daemon makes no directory of others': it is there or binding says that it is not */
	assert_int_equal(where(SLUICE_MAKE_DIRECTORY), 0);
	assert_string_equal(path, "/run/user/77/sluice.sock");
	setenv("SLUICE_SOCKET", "here", 1);
	assert_int_equal(where(0), 0);
	assert_string_equal(path, "here");
	setenv("SLUICE_SOCKET", "", 1); /* as good as unset */
	assert_int_equal(where(0), 0);
	assert_string_equal(path, "/run/user/77/sluice.sock");
	assert_int_equal(where(2), -EOPNOTSUPP);
}

static void too_long(void **state)
{
	char name[200];

	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	setenv("XDG_RUNTIME_DIR", name, 1);
	assert_int_equal(where(0), -ENAMETOOLONG);
	assert_non_null(strstr(fault.text, "xxx"));
	setenv("SLUICE_SOCKET", name, 1);
	assert_int_equal(where(0), -ENAMETOOLONG);
	assert_non_null(strstr(fault.text, "SLUICE_SOCKET"));
	assert_int_equal(sluice_socket_path(0, path, sizeof(path), NULL), -ENAMETOOLONG);
}

static void root(void **state)
{
	needs_root();
	assert_int_equal(seteuid(0), 0);
	setenv("XDG_RUNTIME_DIR", "/run/user/0", 1); /* one place, however root came to be root */
	assert_int_equal(where(0), 0);
	assert_string_equal(path, SLUICE_SYSTEM_SOCKET);
}

static void own_directory(void **state)
{
	char expected[96];
	struct stat st;
	mode_t mask;

	needs_root();
	snprintf(expected, sizeof(expected), "%s/sluice.sock", dir);
	assert_int_equal(where(0), 0); /* nobody listens: connecting says so */
	assert_string_equal(path, expected);
	assert_int_equal(lstat(dir, &st), -1);
	setenv("XDG_RUNTIME_DIR", "relative", 1); /* its specification: counts as unset */
	mask = umask(0777);
	assert_int_equal(where(SLUICE_MAKE_DIRECTORY), 0);
	umask(mask);
	assert_string_equal(path, expected);
	assert_int_equal(lstat(dir, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	assert_int_equal(st.st_uid, other);
	assert_int_equal(where(SLUICE_MAKE_DIRECTORY), 0); /* it is there already */
	assert_int_equal(where(0), 0);
}

/* Both sides refuse what another user could have made or could write to. */
static void expect_refused(const char *why)
{
	for (uint32_t flags = 0; flags <= SLUICE_MAKE_DIRECTORY; flags++) {
		assert_int_equal(where(flags), -EPERM);
		assert_non_null(strstr(fault.text, dir));
		assert_non_null(strstr(fault.text, why));
		assert_non_null(strstr(fault.text, "--socket"));
	}
}

static void unsafe_directories(void **state)
{
	FILE *f;

	needs_root();
	assert_int_equal(mkdir(dir, 0700), 0);
	for (mode_t bit = 1; bit <= 040; bit <<= 1) {
		assert_int_equal(chmod(dir, 0700 | bit), 0);
		expect_refused("other users");
	}
	assert_int_equal(rmdir(dir), 0);

	assert_int_equal(mkdir(scratch, 0700), 0); /* even to a directory that would do */
	assert_int_equal(symlink(scratch, dir), 0);
	expect_refused("a link or a file");
	assert_int_equal(unlink(dir), 0);
	assert_int_equal(symlink("/nonexistent", dir), 0);
	expect_refused("a link or a file");
	assert_int_equal(unlink(dir), 0);

	f = fopen(dir, "we");
	assert_non_null(f);
	fclose(f);
	expect_refused("a link or a file");
	assert_int_equal(unlink(dir), 0);

	assert_int_equal(seteuid(0), 0);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(seteuid(other), 0);
	expect_refused("another user's");
}

int main(void)
{
#define WITH_USER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_USER(variables),	  WITH_USER(too_long),		 WITH_USER(root),
		WITH_USER(own_directory), WITH_USER(unsafe_directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
