/* SPDX-License-Identifier: MIT */
/*
 * Description: nothing runs while the device is closed; with it open, only the sampler does.
 * Seen from the number of samples before and after a pause. The bounds leave room for a guest that
 * gets little processor time: a look that takes longer than a period costs a sample more.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

static __u64 samples(void)
{
	struct sluice_get_info info;
	struct sluice_page *copy;
	int fd = guest_open();
	__u64 nr;

	guest_info(fd, &info);
	copy = guest_copy_new(&info);
	if (pread(fd, copy, info.page_bytes, 0) != (ssize_t)info.page_bytes)
		tap_bail("read failed");
	nr = copy->sample_nr;
	free(copy);
	close(fd);
	return nr;
}

int main(void)
{
	struct sluice_get_info info;
	const struct sluice_page *page;
	__u64 before, after;
	int fd, i;

	guest_need("period_ms=200");
	before = samples();
	usleep(2000000);
	after = samples();
	/* a few more: the two looks take them; ten if the sampler had run on */
	tap_ok(after - before <= 4, "%llu samples in two seconds with the device closed",
	       (unsigned long long)(after - before));

	/* a mapping keeps the page and the module, not the sampler */
	fd = guest_open();
	guest_info(fd, &info);
	page = guest_map(fd, &info);
	tap_ok(guest_wait_sample(page, page->sample_nr + 3, 2000), "samples while it is open");
	close(fd);
	usleep(100000);
	before = __atomic_load_n(&page->sample_nr, __ATOMIC_ACQUIRE);
	usleep(1000000);
	after = __atomic_load_n(&page->sample_nr, __ATOMIC_ACQUIRE);
	/* the mapping holds its file: the device counts as open until it is gone */
	tap_ok(after > before + 1, "a mapping counts as an open device: %llu samples",
	       (unsigned long long)(after - before));
	munmap((void *)(size_t)page, info.page_bytes);

	before = samples();
	for (i = 0; i < 5; i++)
		samples();
	after = samples();
	tap_ok(after - before <= 12, "an open costs one sample: %llu for six",
	       (unsigned long long)(after - before));
	usleep(2000000);
	tap_ok(samples() - after <= 4, "and then it is quiet again");
	guest_drop();
	return tap_done();
}
