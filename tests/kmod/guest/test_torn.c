/* SPDX-License-Identifier: MIT */
/*
 * Description: no torn copy in 10^6 samples of a module that samples without pause.
 * Several processes copy the mapped page while the module writes; one more reads the file. Within
 * one copy all that belongs to one sample must agree: the time in the head and in each online
 * node's entry, and neither time nor number may go back. Argument: samples (default 1000000).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define READERS 3

/* Shared with the children. */
struct tally {
	unsigned long copies, torn, backwards, retried, seen;
};

static bool is_whole(const struct sluice_page *copy)
{
	unsigned int i;

	if (copy->magic != SLUICE_PAGE_MAGIC || copy->seq & 1)
		return false;
	for (i = 0; i < copy->node_nr; i++) {
		const struct sluice_node *n = sluice_page_node(copy, i);

		if (n->flags & SLUICE_NODE_ONLINE && n->updated_ns != copy->updated_ns)
			return false;
	}
	return true;
}

static void look(struct tally *t, const struct sluice_page *copy, __u64 *last_nr, __u64 *last_ns)
{
	t->copies++;
	t->torn += !is_whole(copy);
	t->backwards += copy->sample_nr < *last_nr || copy->updated_ns < *last_ns;
	t->seen += copy->sample_nr != *last_nr;
	*last_nr = copy->sample_nr;
	*last_ns = copy->updated_ns;
}

/* A child: copies until the module has taken `target` samples. By read() when `by_read`. */
static void reader(struct tally *t, __u64 target, bool by_read)
{
	int fd = guest_open();
	struct sluice_get_info info;
	struct sluice_page *copy;
	__u64 last_nr = 0, last_ns = 0;
	const void *page;

	guest_info(fd, &info);
	page = guest_map(fd, &info);
	copy = guest_copy_new(&info);
	while (last_nr < target) {
		if (by_read) {
			if (pread(fd, copy, info.page_bytes, 0) != (ssize_t)info.page_bytes)
				_exit(2);
			usleep(1000);
		} else if (sluice_page_copy(page, copy, info.page_bytes, 100)) {
			t->retried++;
			continue;
		}
		look(t, copy, &last_nr, &last_ns);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	const __u64 target = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	struct tally *t =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sluice_get_info info;
	int i, fd, status, broken = 0;
	struct timespec start, end;

	if (t == MAP_FAILED)
		tap_bail("no memory");
	guest_need("stress=1");
	fd = guest_open();
	guest_info(fd, &info);
	tap_ok(info.features & SLUICE_FEATURE_STRESS, "the module says that it is under stress");
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < READERS; i++)
		if (!fork())
			reader(&t[i], target, i == READERS - 1);
	for (i = 0; i < READERS; i++) {
		wait(&status);
		broken += !WIFEXITED(status) || WEXITSTATUS(status);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	tap_is(broken, 0, "%d readers came to the end of %llu samples in %ld s", READERS,
	       (unsigned long long)target, (long)(end.tv_sec - start.tv_sec));
	for (i = 0; i < READERS; i++) {
		tap_note("reader %d: %lu copies, %lu samples seen, %lu times too busy", i,
			 t[i].copies, t[i].seen, t[i].retried);
		tap_is((long long)t[i].torn, 0, "reader %d: torn copies", i);
		tap_is((long long)t[i].backwards, 0, "reader %d: steps back", i);
		tap_ok(t[i].seen > 10, "reader %d saw samples change", i);
	}
	close(fd);
	guest_drop();
	return tap_done();
}
