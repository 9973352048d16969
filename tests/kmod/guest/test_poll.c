/* SPDX-License-Identifier: MIT */
/*
 * Description: poll() tells of each new sample once, and read() takes it.
 * Level-triggered for who reads, edge-triggered for who only maps; two files do not take each
 * other's samples.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "guest.h"

static int wait_in(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1 ? p.revents : 0;
}

static __u64 take(int fd, struct sluice_page *copy, __u32 bytes)
{
	if (pread(fd, copy, bytes, 0) != (ssize_t)bytes)
		tap_bail("read failed");
	return copy->sample_nr;
}

static void test_read(int fd, int other, const struct sluice_get_info *info)
{
	struct sluice_page *copy = guest_copy_new(info);
	unsigned int i, late = 0;
	__u64 last, now;

	tap_is(wait_in(fd, 0), POLLIN, "readable at once after open()");
	tap_is(wait_in(other, 0), POLLIN, "the other file too");
	/* at 500 ms a period the next sample is far; a starved guest gets five tries */
	for (i = 0; i < 5; i++) {
		last = take(fd, copy, info->page_bytes);
		if (!wait_in(fd, 20))
			break;
	}
	tap_ok(i < 5, "not readable after read()");
	tap_is(wait_in(other, 0), POLLIN, "the other file still is");
	tap_is(wait_in(fd, 5000), POLLIN, "readable with the next sample");
	tap_is(wait_in(fd, 0), POLLIN, "until it is read");
	tap_is(guest_period(fd, 10), 10, "10 ms from here on");
	for (i = 0; i < 50; i++) {
		if (wait_in(fd, 5000) != POLLIN)
			late++;
		now = take(fd, copy, info->page_bytes);
		late += now <= last;
		last = now;
	}
	tap_is(late, 0, "fifty times a new sample after poll()");
	free(copy);
}

static void test_edge(int fd, const struct sluice_get_info *info)
{
	const struct sluice_page *page = guest_map(fd, info);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC), i, woken = 0;
	__u64 last = 0, now;

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event))
		tap_bail("epoll");
	for (i = 0; i < 20; i++) {
		if (epoll_wait(ep, &event, 1, 5000) != 1)
			continue;
		now = __atomic_load_n(&page->sample_nr, __ATOMIC_ACQUIRE);
		woken += now > last;
		last = now;
	}
	tap_ok(woken >= 12, "a mapping's reader is woken by each sample (%d of 20)", woken);
	close(ep);
}

int main(void)
{
	struct sluice_get_info info;
	int fd, other;

	guest_need("period_ms=500");
	fd = guest_open();
	other = guest_open();
	guest_info(fd, &info);
	tap_is(info.period_default_ms, 500, "module parameter period_ms");
	test_read(fd, other, &info);
	test_edge(fd, &info);
	close(fd);
	close(other);
	/* test_edge left the page mapped: the module goes only with the mapping */
	tap_is(guest_unload(), -EBUSY, "busy while the page is mapped, though no file is open");
	return tap_done();
}
