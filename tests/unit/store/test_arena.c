/* SPDX-License-Identifier: MIT */
/*
 * Description: the arena gives memory of the best kind there is, says why it is not better, and
 * prefaults without changing a byte. Grows the pool of huge pages for a moment (needs root).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/num.h"
#include "store/arena.h"

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define MIB  (1ull << 20)

static struct arena *make(uint64_t bytes, enum arena_pages best)
{
	struct arena_config c = { .bytes = bytes, .best = best, .interleave = true };
	struct err err = { { 0 } };
	struct arena *a;

	if (arena_create(&c, &a, &err))
		fail_msg("%s", err.text);
	assert_true(arena_bytes(a) >= bytes);
	assert_int_equal((uintptr_t)arena_base(a) % LIMITS_HUGE_PAGE, 0);
	assert_int_equal(arena_bytes(a) % arena_page_bytes(a), 0);
	return a;
}

static uint64_t resident_bytes(const struct arena *a)
{
	uint64_t n = arena_bytes(a) / 4096, present = 0;
	unsigned char *map = malloc(n);

	assert_non_null(map);
	assert_int_equal(mincore(arena_base(a), arena_bytes(a), map), 0);
	for (uint64_t i = 0; i < n; i++)
		present += map[i] & 1;
	free(map);
	return present * 4096;
}

/* What was written before and while pages are made present stays; all are present in the end. */
static void check_prefault(struct arena *a)
{
	uint8_t *base = arena_base(a);
	uint64_t seen = 0;

	for (uint64_t at = 0; at < arena_bytes(a); at += 3 * MIB + 4097)
		base[at] = (uint8_t)(at >> 12 | 1);
	assert_int_equal(arena_prefaulted_bytes(a), 0);
	assert_int_equal(arena_prefault_start(a), 0);
	while (seen < arena_bytes(a)) {
		uint64_t now = arena_prefaulted_bytes(a);

		assert_true(now >= seen && now <= arena_bytes(a));
		seen = now;
		usleep(1000);
	}
	arena_prefault_wait(a);
	assert_int_equal(resident_bytes(a), arena_bytes(a));
	for (uint64_t at = 0; at < arena_bytes(a); at += 3 * MIB + 4097)
		assert_int_equal(base[at], (uint8_t)(at >> 12 | 1));
	assert_int_equal(base[arena_bytes(a) - 1], 0);
}

static void test_forced_kinds(void **state)
{
	static const char *const names[] = { "hugetlb", "thp", "4k" };

	for (int best = ARENA_THP; best <= ARENA_4K; best++) {
		struct arena *a = make(70 * MIB + 5, (enum arena_pages)best);

		assert_true(arena_pages(a) >= (enum arena_pages)best);
		if (arena_pages(a) == (enum arena_pages)best)
			assert_string_equal(arena_fallback(a), "");
		else
			assert_non_null(strstr(arena_fallback(a), "transparent"));
		assert_string_equal(arena_pages_name(arena_pages(a)), names[arena_pages(a)]);
		assert_int_equal(arena_page_bytes(a),
				 arena_pages(a) == ARENA_4K ? 4096 : LIMITS_HUGE_PAGE);
		check_prefault(a);
		arena_destroy(a);
	}
}

/* More than the pool can hold, whatever is in it: a fallback with the numbers and the command. */
static void test_pool_too_small(void **state)
{
	struct limits pool;
	char needed[64], command[64];
	struct arena *a;
	uint64_t pages;

	limits_read(NULL, &pool);
	pages = pool.huge_free + 100000;
	a = make(pages * LIMITS_HUGE_PAGE, ARENA_HUGETLB);
	assert_int_not_equal(arena_pages(a), ARENA_HUGETLB);
	snprintf(needed, sizeof(needed), "%llu of 2 MiB needed", (unsigned long long)pages);
	snprintf(command, sizeof(command), "echo %llu >",
		 (unsigned long long)(pool.huge_total + 100000));
	assert_non_null(strstr(arena_fallback(a), needed));
	assert_non_null(strstr(arena_fallback(a), command));
	((uint8_t *)arena_base(a))[arena_bytes(a) - 1] = 1; /* no SIGBUS */
	arena_destroy(a);
}

/* Grows the pool by @n pages; false where that is not permitted. Fails where it has no effect. */
static bool grow_pool(unsigned n, unsigned *ret_before)
{
	FILE *f = fopen(POOL, "r+");
	unsigned now;

	if (!f)
		return false;
	assert_int_equal(fscanf(f, "%u", ret_before), 1);
	rewind(f);
	fprintf(f, "%u", *ret_before + n);
	rewind(f);
	if (fscanf(f, "%u", &now) != 1 || now < *ret_before + n)
		fail_msg("the kernel gave no %u huge pages", n);
	fclose(f);
	return true;
}

static void restore_pool(unsigned before)
{
	FILE *f = fopen(POOL, "w");

	assert_non_null(f);
	fprintf(f, "%u", before);
	fclose(f);
}

/* With the pool as it is, which may not be changed: 40 MiB are huge pages, all or none. */
static void check_pool_as_it_is(void)
{
	struct limits pool;
	struct arena *a;

	print_message("%s cannot be written (no root): the pool is tested as it is\n", POOL);
	limits_read(NULL, &pool);
	a = make(40 * MIB, ARENA_HUGETLB);
	assert_int_equal(arena_pages(a) == ARENA_HUGETLB, pool.huge_free >= 20);
	assert_int_equal(!arena_fallback(a)[0], pool.huge_free >= 20);
	check_prefault(a);
	arena_destroy(a);
}

static void test_hugetlb(void **state)
{
	struct limits at_first, meanwhile;
	struct arena *a, *b;
	unsigned before;

	if (!grow_pool(40, &before)) {
		check_pool_as_it_is();
		return;
	}
	limits_read(NULL, &at_first);
	a = make(39 * MIB, ARENA_HUGETLB);
	b = make(21 * MIB + 1, ARENA_HUGETLB);
	limits_read(NULL, &meanwhile);
	restore_pool(before); /* what is in use stays */
	assert_int_equal(arena_pages(a), ARENA_HUGETLB);
	assert_string_equal(arena_fallback(a), "");
	assert_int_equal(arena_bytes(a), 40 * MIB);
	assert_int_equal(arena_bytes(b), 22 * MIB);
	assert_true(at_first.huge_free >= 40);
	assert_true(at_first.huge_free >= meanwhile.huge_free + 31); /* promised to us */
	check_prefault(a);
	arena_destroy(b); /* never touched */
	arena_destroy(a);
}

static bool write_text(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	if (!f)
		return false;
	ok = fputs(text, f) >= 0;
	return !fclose(f) && ok;
}

static bool mentions(const char *dir, const char *name, const char *word)
{
	char path[256], line[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	return strstr(line, word);
}

/* Where control groups of version 2 with the hugetlb controller are, or NULL. */
static const char *cgroup_root(void)
{
	static const char *const roots[] = { "/sys/fs/cgroup/unified", "/sys/fs/cgroup" };

	for (unsigned i = 0; i < ARRAY_LEN(roots); i++)
		if (mentions(roots[i], "cgroup.controllers", "hugetlb"))
			return roots[i];
	return NULL;
}

/* In a child that may have 4 MiB of huge pages while the pool has plenty: 0 as it should be. */
static int under_limit(const char *group)
{
	struct arena_config c = { .bytes = 16 * MIB };
	struct arena *a, *small;
	struct limits limits;
	char text[32];

	snprintf(text, sizeof(text), "%d", getpid());
	if (!write_text(group, "cgroup.procs", text))
		return 1;
	limits_read(NULL, &limits);
	if (limits.huge_room_bytes != 4 * MIB)
		return 2;
	if (arena_create(&c, &a, NULL) || arena_pages(a) == ARENA_HUGETLB ||
	    !strstr(arena_fallback(a), "control group"))
		return 3;
	c.bytes = 4 * MIB;
	if (arena_create(&c, &small, NULL) || arena_pages(small) != ARENA_HUGETLB)
		return 4;
	memset(arena_base(a), 1, arena_bytes(a)); /* SIGBUS would be a signal, not a status */
	memset(arena_base(small), 1, arena_bytes(small));
	arena_destroy(a);
	arena_destroy(small);
	return 0;
}

/* A group's limit refuses reserved pages when they are touched: it has to be met at creation. */
static void test_cgroup_limit(void **state)
{
	const char *root = cgroup_root();
	bool enabled = root && mentions(root, "cgroup.subtree_control", "hugetlb");
	char group[128];
	unsigned before;
	int status;
	pid_t pid;

	snprintf(group, sizeof(group), "%s/sluice-arena-%d", root ? root : "", getpid());
	if (!root || !write_text(root, "cgroup.subtree_control", "+hugetlb") ||
	    mkdir(group, 0755)) {
		print_message("no hugetlb control group can be made here\n");
		skip();
	}
	assert_true(write_text(group, "hugetlb.2MB.max", "4194304"));
	assert_true(grow_pool(16, &before));
	pid = fork();
	if (!pid)
		_exit(under_limit(group));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	restore_pool(before);
	rmdir(group);
	if (!enabled)
		write_text(root, "cgroup.subtree_control", "-hugetlb");
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Pages that were given back are zeros, or new ones; their neighbours stay as they were. */
static void test_release(void **state)
{
	const struct arena_config config = { .bytes = 8 << 20, .best = ARENA_4K };
	struct err err = { { 0 } };
	struct arena *a;
	uint8_t *base;

	assert_int_equal(arena_create(&config, &a, &err), 0);
	base = arena_base(a);
	memset(base, 7, 8 << 20);
	assert_int_equal(arena_release(a, 100, 4000), 0); /* no whole page */
	assert_int_equal(arena_release(a, 4096 + 1, 3 * 4096), 2 * 4096);
	for (size_t i = 0; i < 6 * 4096; i++)
		assert_int_equal(base[i], i / 4096 == 2 || i / 4096 == 3 ? 0 : 7);
	assert_int_equal(arena_release(a, 0, 16 << 20), 0); /* not all of it is there */
	arena_destroy(a);
}

static void test_refused(void **state)
{
	struct arena_config c = { .bytes = 1ull << 60 };
	struct arena *a, *large[4];
	struct err err = { { 0 } };
	unsigned n = 0;
	int rc = 0;

	assert_int_equal(arena_create(&c, &a, &err), -ENOMEM);
	assert_true(err.text[0]);
	/* each of these is within our bound, four of them are beyond a process's addresses */
	c.bytes = 1ull << 46;
	c.best = ARENA_4K;
	err.text[0] = '\0';
	while (n < ARRAY_LEN(large) && !rc) {
		rc = arena_create(&c, &large[n], &err);
		n += !rc;
	}
	assert_int_equal(rc, -ENOMEM);
	assert_non_null(strstr(err.text, "address space"));
	while (n)
		arena_destroy(large[--n]);
	arena_destroy(NULL);
}

/* Destroyed in the middle of a prefault, and with none at all. */
static void test_destroyed_early(void **state)
{
	struct arena *a = make(512 * MIB, ARENA_THP);

	arena_prefault_wait(a); /* none was started */
	assert_int_equal(arena_prefault_start(a), 0);
	arena_destroy(a);
	arena_destroy(make(1, ARENA_4K));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forced_kinds),	cmocka_unit_test(test_pool_too_small),
		cmocka_unit_test(test_hugetlb),		cmocka_unit_test(test_cgroup_limit),
		cmocka_unit_test(test_release),		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_destroyed_early),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
