/* SPDX-License-Identifier: MIT */
/*
 * Description: rmmod is refused while the module is used and leaves nothing behind.
 * Loaded and unloaded many times, with watches open until a moment before, with a mapping alone,
 * and by two at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

static bool is_there(void)
{
	struct stat st;

	return !stat(SLUICE_DEVICE_PATH, &st);
}

static int unload_soon(void)
{
	int rc = -EBUSY, tries = 100;

	while (tries-- && (rc = guest_unload()) == -EBUSY)
		usleep(10000);
	return rc;
}

static void test_busy(void)
{
	struct sluice_get_info info;
	const void *page;
	int fd;

	guest_need("");
	tap_ok(is_there(), "the device is there");
	tap_is(guest_load(""), -EEXIST, "not twice");
	fd = guest_open();
	guest_info(fd, &info);
	tap_is(guest_unload(), -EBUSY, "busy while open");
	page = guest_map(fd, &info);
	close(fd);
	tap_is(guest_unload(), -EBUSY, "busy while mapped");
	munmap((void *)(size_t)page, info.page_bytes);
	tap_is(unload_soon(), 0, "gone when nothing is mapped");
	tap_ok(!is_there(), "and the device with it");
	tap_is(open(SLUICE_DEVICE_PATH, O_RDONLY | O_CLOEXEC), -1, "cannot be opened any more");
}

static void test_loops(void)
{
	struct pci_address at;
	int i, fd, wrong = 0;

	if (!guest_pci_list(&at, 1, GUEST_RNG_VENDOR, GUEST_RNG_DEVICE))
		tap_bail("no function to watch");
	for (i = 0; i < 20; i++) {
		guest_need("period_ms=10");
		fd = guest_open();
		wrong += guest_watch_pci(fd, &at) < 0;
		wrong += guest_watch_clock(fd, 0) < 0;
		usleep(i * 2000);
		close(fd);
		/* the work may be running just now */
		wrong += unload_soon() != 0;
	}
	tap_is(wrong, 0, "twenty times loaded, watched and unloaded");
	for (i = 0; i < 20; i++) {
		guest_need("");
		wrong += guest_unload() != 0;
	}
	tap_is(wrong, 0, "twenty times loaded and never opened");
}

/* One opens and closes without pause while the other loads and unloads. */
static void test_race(void)
{
	int i, fd, status, unloaded = 0, strange = 0, rc;
	pid_t pid = fork();

	if (!pid) {
		for (;;) {
			fd = open(SLUICE_DEVICE_PATH, O_RDONLY | O_CLOEXEC);
			if (fd >= 0)
				close(fd);
		}
	}
	for (i = 0; i < 60; i++) {
		rc = guest_load("");
		strange += rc && rc != -EEXIST;
		usleep(i * 100);
		rc = guest_unload();
		unloaded += !rc;
		strange += rc && rc != -EBUSY;
	}
	kill(pid, 9);
	waitpid(pid, &status, 0);
	tap_is(strange, 0, "only EEXIST and EBUSY in the race");
	tap_note("unloaded %d times of 60 under an opener", unloaded);
	rc = unload_soon();
	tap_ok(!rc || rc == -ENOENT, "unloaded after it");
}

int main(void)
{
	test_busy();
	test_loops();
	test_race();
	return tap_done();
}
