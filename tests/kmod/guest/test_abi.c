/* SPDX-License-Identifier: MIT */
/*
 * Description: the five ioctls, read and mmap answer with the errno that the header promises.
 * Sizes exact, short, too short, longer with zeros and longer with something else; numbers that are
 * no ioctl; reserved fields and flags; slots of another file and quotas; mappings that are larger,
 * smaller, elsewhere or writable. Needs a module just loadable, root.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

union any {
	unsigned char bytes[8192];
	__u32 size;
	struct sluice_get_info info;
	struct sluice_watch_pci pci;
	struct sluice_watch_pmu pmu;
	struct sluice_unwatch unwatch;
	struct sluice_set_period period;
};

static int call(int fd, unsigned long number, void *arg)
{
	return ioctl(fd, number, arg) ? -errno : 0;
}

/* GET_INFO with a size and one byte set at `mark` (0: none). */
static int info_sized(int fd, __u32 size, size_t mark)
{
	union any arg = { .size = 0 };

	arg.info.size = size;
	if (mark)
		arg.bytes[mark] = 1;
	return call(fd, SLUICE_GET_INFO, &arg);
}

static void test_info(int fd)
{
	const __u32 whole = sizeof(struct sluice_get_info);
	struct sluice_get_info info;
	union any arg;

	guest_info(fd, &info);
	tap_is(info.abi_version, SLUICE_ABI_VERSION, "the module's ABI version");
	tap_ok(info.abi_oldest <= info.abi_version && info.abi_oldest, "oldest ABI served");
	tap_ok(info.page_bytes && info.page_bytes % 4096 == 0, "page_bytes %u", info.page_bytes);
	tap_is(info.period_default_ms, 100, "default period");
	tap_ok(info.pci_free == info.pci_nr && info.pmu_free == info.pmu_nr, "all slots free");
	tap_ok(info.module_version[0] && !info.module_version[31], "module version is text");

	tap_is(info_sized(fd, whole, 0), 0, "exact size");
	tap_is(info_sized(fd, 28, 0), 0, "first version's size");
	tap_is(info_sized(fd, 27, 0), -EINVAL, "below the first version's size");
	tap_is(info_sized(fd, 0, 0), -EINVAL, "size zero");
	tap_is(info_sized(fd, whole + 64, 0), 0, "longer with a tail of zeros");
	tap_is(info_sized(fd, whole + 64, whole), -E2BIG, "longer with the first byte set");
	tap_is(info_sized(fd, whole + 64, whole + 63), -E2BIG, "longer with the last byte set");
	tap_is(info_sized(fd, 4096, 0), 0, "the longest");
	tap_is(info_sized(fd, 4097, 0), -E2BIG, "longer than the longest");
	tap_is(info_sized(fd, 0xffffffffu, 0), -E2BIG, "size 2^32 - 1");
	tap_is(info_sized(fd, whole, 4), -EOPNOTSUPP, "an unknown flag");
	tap_is(call(fd, SLUICE_GET_INFO, NULL), -EFAULT, "no structure at all");

	memset(&arg, 0xaa, sizeof(arg));
	memset(&arg.info, 0, 28);
	arg.size = 28;
	tap_is(call(fd, SLUICE_GET_INFO, &arg), 0, "short structure");
	tap_ok(arg.bytes[28] == 0xaa && arg.bytes[whole - 1] == 0xaa,
	       "nothing written behind a short structure");
	memset(&arg, 0, sizeof(arg));
	arg.info.size = whole;
	arg.info.caller_abi = SLUICE_ABI_VERSION + 1;
	tap_is(call(fd, SLUICE_GET_INFO, &arg), 0, "a newer caller is served");
}

static void test_numbers(int fd)
{
	union any arg = { .size = sizeof(struct sluice_get_info) };

	tap_is(call(fd, _IO(SLUICE_IOC_TYPE, 5), &arg), -ENOTTY, "number 5");
	tap_is(call(fd, _IO(SLUICE_IOC_TYPE, 255), &arg), -ENOTTY, "number 255");
	tap_is(call(fd, _IO(0xEE, 0), &arg), -ENOTTY, "another driver's type");
	tap_is(call(fd, _IOR(SLUICE_IOC_TYPE, 0, int), &arg), -ENOTTY, "number with a direction");
	tap_is(call(fd, 0x5401, &arg), -ENOTTY, "TCGETS");
}

static void test_reserved(int fd)
{
	union any arg = { .size = sizeof(arg.pci) };

	arg.pci.reserved = 1;
	tap_is(call(fd, SLUICE_WATCH_PCI, &arg), -EINVAL, "WATCH_PCI: reserved");
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.pmu);
	arg.pmu.reserved = 1;
	tap_is(call(fd, SLUICE_WATCH_PMU, &arg), -EINVAL, "WATCH_PMU: reserved");
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.period);
	arg.period.reserved = 1;
	tap_is(call(fd, SLUICE_SET_PERIOD, &arg), -EINVAL, "SET_PERIOD: reserved");
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.unwatch);
	arg.unwatch.what = 3;
	tap_is(call(fd, SLUICE_UNWATCH, &arg), -EINVAL, "UNWATCH: of what?");
	arg.unwatch.what = SLUICE_UNWATCH_PCI;
	arg.unwatch.slot = SLUICE_MAX_PCI;
	tap_is(call(fd, SLUICE_UNWATCH, &arg), -EINVAL, "UNWATCH: slot out of range");
	arg.unwatch.slot = 0xffffffffu;
	tap_is(call(fd, SLUICE_UNWATCH, &arg), -EINVAL, "UNWATCH: slot 2^32 - 1");
	arg.unwatch.slot = 0;
	tap_is(call(fd, SLUICE_UNWATCH, &arg), -ENOENT, "UNWATCH: free slot");
	arg.size = sizeof(arg.unwatch) - 1;
	tap_is(call(fd, SLUICE_UNWATCH, &arg), -EINVAL, "UNWATCH: too short");
}

static void test_slots(int fd)
{
	const struct pci_address nowhere = { .domain = 0, .bus = 0xfe, .devfn = 0xff };
	const struct pci_address far = { .domain = 0xffffffff, .bus = 0, .devfn = 0 };
	struct pci_address at;
	int other = guest_open(), slot, i, taken = 0, rc = 0;
	struct sluice_get_info info;

	tap_is(guest_watch_pci(fd, &nowhere), -ENODEV, "WATCH_PCI: no such function");
	tap_is(guest_watch_pci(fd, &far), -ENODEV, "WATCH_PCI: no such domain");
	if (!guest_pci_list(&at, 1, GUEST_RNG_VENDOR, GUEST_RNG_DEVICE))
		tap_bail("the guest has no virtio-rng function");
	slot = guest_watch_pci(fd, &at);
	tap_ok(slot >= 0, "WATCH_PCI %s: slot %d", at.name, slot);
	tap_is(guest_unwatch(other, SLUICE_UNWATCH_PCI, (__u32)slot), -EPERM, "foreign slot");
	tap_is(guest_unwatch(fd, SLUICE_UNWATCH_PCI, (__u32)slot), 0, "own slot");
	tap_is(guest_unwatch(fd, SLUICE_UNWATCH_PCI, (__u32)slot), -ENOENT, "twice");

	for (i = 0; i <= (int)SLUICE_QUOTA_PCI && !rc; i++) {
		slot = guest_watch_pci(fd, &at);
		taken += slot >= 0;
		rc = slot < 0 ? slot : 0;
	}
	tap_ok(taken == SLUICE_QUOTA_PCI && rc == -EDQUOT, "quota: %d slots, then %d", taken, rc);
	for (i = 0; i < (int)SLUICE_QUOTA_PCI; i++)
		if (guest_watch_pci(other, &at) < 0)
			break;
	tap_is(i, SLUICE_QUOTA_PCI, "another file has its own quota");
	rc = guest_open();
	tap_is(guest_watch_pci(rc, &at), -ENOSPC, "no slot left for a third file");
	close(rc);
	close(other);
	guest_info(fd, &info);
	tap_is(info.pci_free, SLUICE_MAX_PCI - SLUICE_QUOTA_PCI, "close() gives slots back");
}

static void test_mmap(int fd)
{
	struct sluice_get_info info;
	size_t bytes;
	void *at;

	guest_info(fd, &info);
	bytes = info.page_bytes;
	at = mmap(NULL, bytes * 2, PROT_READ, MAP_SHARED, fd, 0);
	tap_ok(at == MAP_FAILED && errno == EINVAL, "mapping of twice the length: EINVAL");
	at = mmap(NULL, bytes - 4096, PROT_READ, MAP_SHARED, fd, 0);
	tap_ok(at == MAP_FAILED && errno == EINVAL, "mapping of a page less: EINVAL");
	at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 4096);
	tap_ok(at == MAP_FAILED && errno == EINVAL, "mapping at offset 4096: EINVAL");
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	tap_ok(at == MAP_FAILED && errno == EACCES, "shared writable mapping: EACCES");
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	tap_ok(at == MAP_FAILED && errno == EPERM, "private writable mapping: EPERM");

	at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (!tap_ok(at != MAP_FAILED, "read-only mapping"))
		return;
	tap_ok(mprotect(at, bytes, PROT_READ | PROT_WRITE) && errno == EACCES,
	       "mprotect(PROT_WRITE): EACCES");
	tap_ok(mremap(at, bytes, bytes * 2, MREMAP_MAYMOVE) == MAP_FAILED, "mremap cannot grow it");
	munmap(at, bytes);
	at = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (tap_ok(at != MAP_FAILED, "private read-only mapping")) {
		tap_ok(mprotect(at, bytes, PROT_READ | PROT_WRITE) && errno == EACCES,
		       "private mprotect(PROT_WRITE): EACCES");
		munmap(at, bytes);
	}
}

static void test_read(int fd)
{
	struct sluice_get_info info;
	void *volatile nowhere = (void *)8; /* volatile: compilers warn of what they see through */
	struct sluice_page *copy;
	char small[64];

	guest_info(fd, &info);
	copy = guest_copy_new(&info);
	tap_is(read(fd, copy, info.page_bytes), info.page_bytes, "read of the whole page");
	tap_ok(copy->magic == SLUICE_PAGE_MAGIC && copy->abi_version == SLUICE_ABI_VERSION,
	       "magic and version");
	tap_is(copy->seq & 1, 0, "seq is even");
	tap_is(copy->page_bytes, info.page_bytes, "page_bytes in the head");
	tap_ok(copy->head_bytes >= sizeof(*copy) && copy->node_nr == info.node_nr &&
		       copy->pci_nr == info.pci_nr && copy->pmu_nr == info.pmu_nr,
	       "counts in the head");
	tap_is(read(fd, copy, info.page_bytes), 0, "end of file");
	tap_ok(pread(fd, small, sizeof(small), 0) < 0 && errno == EINVAL, "short read: EINVAL");
	tap_ok(pread(fd, copy, info.page_bytes, 8) < 0 && errno == EINVAL,
	       "read in the middle: EINVAL");
	tap_is(pread(fd, copy, info.page_bytes, info.page_bytes), 0, "pread at the end");
	tap_ok(pread(fd, nowhere, info.page_bytes, 0) < 0 && errno == EFAULT,
	       "read to nowhere: EFAULT");
	tap_ok(write(fd, small, 1) < 0 && (errno == EBADF || errno == EINVAL), "write fails");
	free(copy);
}

static int open_as_nobody(void *arg)
{
	return open(SLUICE_DEVICE_PATH, O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

int main(void)
{
	int fd;

	guest_need("");
	fd = guest_open();
	test_info(fd);
	test_numbers(fd);
	test_reserved(fd);
	test_slots(fd);
	test_mmap(fd);
	test_read(fd);
	tap_is(guest_as_nobody(open_as_nobody, NULL), EACCES, "nobody may not open it");
	tap_ok(open(SLUICE_DEVICE_PATH, O_RDWR | O_CLOEXEC) < 0 && errno == EACCES,
	       "open for writing: EACCES");
	close(fd);
	guest_drop();
	return tap_done();
}
