/* SPDX-License-Identifier: MIT */
/*
 * Description: SET_PERIOD: one wish a file, the smallest wins, below the parameter only by root.
 * The samples really come at about the period in force; parameters out of range are clamped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

/* Samples taken in `ms`, as the mapping shows them. */
static unsigned int samples_in(const struct sluice_page *page, unsigned int ms)
{
	__u64 start = __atomic_load_n(&page->sample_nr, __ATOMIC_ACQUIRE);

	usleep(ms * 1000);
	return (unsigned int)(__atomic_load_n(&page->sample_nr, __ATOMIC_ACQUIRE) - start);
}

/* As nobody: exit status 0 as expected, else the number of the step that was not. */
static int unprivileged(void *arg)
{
	int fd = open(SLUICE_DEVICE_PATH, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 1;
	if (guest_period(fd, 99) != -EPERM)
		return 2;
	if (guest_period(fd, 10) != -EPERM)
		return 3;
	if (guest_period(fd, 100) != 100)
		return 4;
	/* the file of root beside this one wishes 100 by default */
	if (guest_period(fd, 5000) != 100)
		return 5;
	if (guest_period(fd, 0) != 100)
		return 6;
	return 0;
}

static void test_wishes(void)
{
	int a = guest_open(), b = guest_open();

	tap_is(guest_period(a, 400), 100, "b never asked: the parameter counts for it");
	tap_is(guest_period(b, 300), 300, "the smaller of two wishes");
	tap_is(guest_period(a, 50), 50, "root may go below the parameter");
	tap_is(guest_period(a, 1), 10, "clamped to the floor");
	tap_is(guest_period(a, 0xffffffffu), 300, "clamped to the ceiling: b's wish counts");
	tap_is(guest_period(b, 0xffffffffu), 10000, "both at the ceiling");
	tap_is(guest_period(b, 20), 20, "b again");
	close(b);
	tap_is(guest_period(a, 10000), 10000, "a wish goes with its file");
	tap_is(guest_period(a, 0), 100, "taken back");
	close(a);
}

/* The number of samples in a second lies in the range in one of five tries: a guest may be starved. */
static void pace(int fd, const struct sluice_page *page, int ms, unsigned int low,
		 unsigned int high)
{
	unsigned int n = 0, tries;

	guest_period(fd, (uint32_t)ms);
	for (tries = 0; tries < 5 && (n < low || n > high); tries++)
		n = samples_in(page, 1000);
	tap_ok(n >= low && n <= high, "%u samples in a second at %d ms (try %u)", n, ms, tries);
}

static void test_pace(int fd, const struct sluice_get_info *info)
{
	const struct sluice_page *page = guest_map(fd, info);
	unsigned int n;

	pace(fd, page, 100, 5, 12);
	pace(fd, page, 20, 15, 55);
	guest_period(fd, 2000);
	usleep(50000);
	n = samples_in(page, 800);
	tap_ok(n <= 1, "%u samples in 0.8 s at 2 s", n);
	guest_period(fd, 10);
	tap_ok(guest_wait_sample(page, page->sample_nr, 1500), "a shorter wish acts at once");
	tap_note("overruns: %llu", (unsigned long long)page->overrun_nr);
}

static void test_parameter(const char *parameter, int want)
{
	struct sluice_get_info info;
	int fd;

	guest_need(parameter);
	fd = guest_open();
	guest_info(fd, &info);
	tap_is(info.period_default_ms, want, "%s", parameter);
	close(fd);
	guest_drop();
}

int main(void)
{
	struct sluice_get_info info;
	int fd;

	test_parameter("period_ms=0", 10);
	test_parameter("period_ms=1", 10);
	test_parameter("period_ms=4000000000", 10000);
	tap_is(guest_load("period_ms=x"), -EINVAL, "period_ms=x is refused");
	guest_need("");
	test_wishes();
	fd = guest_open();
	guest_info(fd, &info);
	if (chmod(SLUICE_DEVICE_PATH, 0444))
		tap_bail("chmod");
	tap_is(guest_as_nobody(unprivileged, NULL), 0, "nobody may slow down, not speed up");
	test_pace(fd, &info);
	return tap_done();
}
