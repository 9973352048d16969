/* SPDX-License-Identifier: MIT */
/*
 * Description: a WATCH_* whose result cannot be delivered gives its slot back, and no other: not what
 * another thread with the same file has got there meanwhile. Two threads: userfaultfd holds the
 * delivery up, so that the other's turn is certain.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define PAGE 4096ul

struct ask {
	int fd, rc;
	unsigned long request;
	void *arg; /* of its own page */
};

static void *run(void *p)
{
	struct ask *a = p;

	a->rc = ioctl(a->fd, a->request, a->arg) ? -errno : 0;
	return NULL;
}

/* Whoever writes to the page waits from here on. The descriptor, or -errno. */
static int hold(void *page)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register area = { .range = { (unsigned long)page, PAGE },
					.mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect protect = { .range = area.range,
					       .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &area) ||
	    ioctl(fd, UFFDIO_WRITEPROTECT, &protect)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static void let_go(int held, void *page)
{
	struct uffdio_writeprotect protect = { .range = { (unsigned long)page, PAGE } };

	if (ioctl(held, UFFDIO_WRITEPROTECT, &protect))
		tap_bail("UFFDIO_WRITEPROTECT: %s", strerror(errno));
	close(held);
}

static void *page_with(const void *arg, size_t bytes)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		tap_bail("mmap");
	memcpy(page, arg, bytes);
	return page;
}

/* @again gets a slot as the request does, for the same file. */
static void test(int fd, unsigned long request, uint32_t what, const void *arg, size_t bytes,
		 int (*again)(int fd))
{
	struct ask a = { .fd = fd, .request = request };
	struct pollfd wait = { .events = POLLIN };
	pthread_t thread;

	a.arg = page_with(arg, bytes);
	mprotect(a.arg, PAGE, PROT_READ);
	run(&a);
	tap_is(a.rc, -EFAULT, "%u: a result that cannot be written", what);
	tap_is(guest_unwatch(fd, what, 0), -ENOENT, "%u: its slot was given back", what);

	mprotect(a.arg, PAGE, PROT_READ | PROT_WRITE);
	wait.fd = hold(a.arg);
	if (wait.fd < 0) {
		tap_skip("%u: no userfaultfd: %s", what, strerror(-wait.fd));
		return;
	}
	if (pthread_create(&thread, NULL, run, &a))
		tap_bail("pthread_create");
	if (poll(&wait, 1, 20000) != 1 || wait.revents != POLLIN)
		tap_bail("nothing was delivered");
	tap_is(guest_unwatch(fd, what, 0), 0, "%u: another thread gives the slot back", what);
	tap_is(again(fd), 0, "%u: and gets it anew", what);
	mprotect(a.arg, PAGE, PROT_READ);
	let_go(wait.fd, a.arg);
	pthread_join(thread, NULL);
	tap_is(a.rc, -EFAULT, "%u: the first cannot be delivered", what);
	tap_is(guest_unwatch(fd, what, 0), 0, "%u: the other's is still there", what);
}

static struct pci_address address;

static int watch_pci(int fd)
{
	return guest_watch_pci(fd, &address);
}

static int watch_clock(int fd)
{
	return guest_watch_clock(fd, 0);
}

int main(void)
{
	struct sluice_watch_pmu clock = { .size = sizeof(clock), .type = 1 /* software */ };
	struct sluice_watch_pci pci = { .size = sizeof(pci) };
	int fd;

	guest_need("");
	fd = guest_open();
	if (!guest_pci_list(&address, 1, GUEST_RNG_VENDOR, GUEST_RNG_DEVICE))
		tap_bail("no function to watch");
	pci.domain = address.domain;
	pci.bus = (uint8_t)address.bus;
	pci.devfn = (uint8_t)address.devfn;
	test(fd, SLUICE_WATCH_PCI, SLUICE_UNWATCH_PCI, &pci, sizeof(pci), watch_pci);
	test(fd, SLUICE_WATCH_PMU, SLUICE_UNWATCH_PMU, &clock, sizeof(clock), watch_clock);
	close(fd);
	return tap_done();
}
