/* SPDX-License-Identifier: MIT */
/* tools/diskread.c: see diskread.h. */
#include "tools/diskread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"
#include "base/write_all.h"
#include "model/gguf.h"
#include "store/reader.h"

#define REQUEST_BYTES (1u << 20)
#define IN_FLIGHT     48 /* above the reader's depth: it always has the next at hand */
#define SCRATCH_BYTES ((uint64_t)512 << 20)

struct slot {
	struct reader_request request; /* first */
	struct run *run;
	uint8_t *room;
	_Atomic bool done;
};

struct run {
	struct reader *reader;
	const struct gguf *gguf;
	struct slot slots[IN_FLIGHT];
	_Atomic uint32_t events; /* futex word: requests completed */
	_Atomic int failure;
	uint64_t random;
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void on_done(struct reader_request *r, int result)
{
	struct slot *s = (struct slot *)r;
	struct run *run = s->run;

	if (result)
		atomic_store_explicit(&run->failure, result, memory_order_relaxed);
	/* pairs with the acquire in drive() */
	atomic_store_explicit(&s->done, true, memory_order_release);
	atomic_fetch_add_explicit(&run->events, 1, memory_order_release);
	futex_wake_all(&run->events);
}

/* Sends a slot to a random aligned place of a random shard that is large enough. */
static void submit(struct run *run, struct slot *s)
{
	uint32_t file = (uint32_t)(next_random(&run->random) % gguf_n_files(run->gguf));
	struct reader_request *r = &s->request;
	uint64_t places = gguf_file(run->gguf, file)->bytes / REQUEST_BYTES;

	memset(r, 0, sizeof(*r));
	r->file = file;
	r->offset = places ? next_random(&run->random) % places * REQUEST_BYTES : 0;
	r->bytes = places ? REQUEST_BYTES : gguf_file(run->gguf, file)->bytes;
	r->dest = s->room;
	r->done = on_done;
	atomic_store_explicit(&s->done, false, memory_order_relaxed);
	reader_submit(run->reader, (struct reader_request *const[]){ r }, 1);
}

/* Keeps all slots busy until @end, then waits for the last. Bytes that came. */
static uint64_t drive(struct run *run, uint64_t end)
{
	unsigned open = IN_FLIGHT;
	uint64_t bytes = 0;
	bool idle[IN_FLIGHT] = { false };

	for (unsigned i = 0; i < IN_FLIGHT; i++)
		submit(run, &run->slots[i]);
	while (open) {
		uint32_t seen = atomic_load_explicit(&run->events, memory_order_acquire);
		bool moved = false;

		for (unsigned i = 0; i < IN_FLIGHT; i++) {
			struct slot *s = &run->slots[i];

			if (idle[i] || !atomic_load_explicit(&s->done, memory_order_acquire))
				continue;
			moved = true;
			bytes += s->request.bytes;
			if (now_ns() < end && !run->failure) {
				submit(run, s);
				continue;
			}
			idle[i] = true;
			open--;
		}
		if (!moved)
			futex_wait(&run->events, seen, 0);
	}
	return bytes;
}

static int measure(struct gguf *g, const char *name, double seconds, struct diskread *ret,
		   struct err *err)
{
	struct reader_config config = { .kind = READER_AUTO };
	struct run *run = calloc(1, sizeof(*run));
	uint64_t begin, room;
	uint8_t *memory;
	int rc;

	if (!run)
		return err_set(err, -ENOMEM, "out of memory");
	run->gguf = g;
	run->random = 88172645463325252u;
	rc = reader_create(g, &config, &run->reader, err);
	if (rc)
		goto out_run;
	ret->align = reader_align(run->reader);
	room = align_up(REQUEST_BYTES, ret->align);
	memory = mmap(NULL, room * IN_FLIGHT, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED) {
		rc = err_set(err, -ENOMEM, "out of memory");
		goto out_reader;
	}
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		run->slots[i].run = run;
		run->slots[i].room = memory + i * room;
	}
	begin = now_ns();
	ret->bytes = drive(run, begin + (uint64_t)(seconds * 1e9));
	ret->gbs = (double)ret->bytes / (double)(now_ns() - begin);
	rc = run->failure;
	if (rc)
		err_set(err, rc, "%s: %s", name, strerror(-rc));
	snprintf(ret->io, sizeof(ret->io), "%s", reader_name(run->reader));
	snprintf(ret->fallback, sizeof(ret->fallback), "%s", reader_fallback(run->reader));
	munmap(memory, room * IN_FLIGHT);
out_reader:
	reader_destroy(run->reader);
out_run:
	free(run);
	return rc;
}

/* The smallest GGUF around one large tensor, so that the reader can be pointed at it. */
static size_t scratch_header(uint8_t *buf)
{
	static const char name[] = "scratch";
	const uint64_t counts[] = { 1, 0, sizeof(name) - 1 }; /* tensors, keys, name length */
	const uint64_t elements = SCRATCH_BYTES / sizeof(float), offset = 0;
	const uint32_t version = 3, n_dims = 1, type = 0;
	uint8_t *p = buf;

	memset(buf, 0, 4096);
	p = mempcpy(p, "GGUF", 4);
	p = mempcpy(p, &version, sizeof(version));
	p = mempcpy(p, counts, sizeof(counts));
	p = mempcpy(p, name, sizeof(name) - 1);
	p = mempcpy(p, &n_dims, sizeof(n_dims));
	p = mempcpy(p, &elements, sizeof(elements));
	p = mempcpy(p, &type, sizeof(type));
	p = mempcpy(p, &offset, sizeof(offset));
	return align_up((uint64_t)(p - buf), 32);
}

/* Data that no disk can shorten, out of the page cache when this returns. */
static int write_scratch(int fd)
{
	uint8_t *block = malloc(REQUEST_BYTES);
	uint64_t random = 0x123456789abcdefu;
	int rc;

	if (!block)
		return -ENOMEM;
	rc = write_all(fd, block, scratch_header(block));
	for (uint64_t done = 0; !rc && done < SCRATCH_BYTES; done += REQUEST_BYTES) {
		for (size_t i = 0; i < REQUEST_BYTES; i += sizeof(random)) {
			next_random(&random);
			memcpy(block + i, &random, sizeof(random));
		}
		rc = write_all(fd, block, REQUEST_BYTES);
	}
	free(block);
	if (!rc && fsync(fd))
		rc = -errno;
	if (!rc)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* direct reads do without; a hint */
	return rc;
}

/*
 * A file without a name: whatever ends this program, nothing stays. Where the file system cannot
 * make one, a name lives for the moment between two calls, with all signals held back.
 */
static int create_scratch(const char *dir)
{
	char path[PATH_MAX];
	sigset_t all, before;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), error;

	if (fd >= 0)
		return fd;
	if (snprintf(path, sizeof(path), "%s/.sluice-doctor-XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	fd = mkostemp(path, O_CLOEXEC);
	error = errno;
	if (fd >= 0)
		unlink(path);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return fd < 0 ? -error : fd;
}

static int open_scratch(const char *dir, struct gguf **ret, struct err *err)
{
	char path[64];
	int fd = create_scratch(dir), rc;

	if (fd < 0)
		return err_set(err, fd, "%s: cannot write a test file: %s", dir, strerror(-fd));
	rc = write_scratch(fd);
	if (rc) {
		close(fd);
		return err_set(err, rc, "%s: cannot write a test file: %s", dir, strerror(-rc));
	}
	/* the reader opens it a second time, past the page cache, and keeps it */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = gguf_open(path, ret, err);
	close(fd);
	return rc ? err_prefix(err, rc, "%s: the test file", dir) : 0;
}

int diskread_measure(const char *path, double seconds, struct diskread *ret, struct err *err)
{
	struct gguf *g = NULL;
	struct stat st;
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (stat(path, &st))
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = S_ISDIR(st.st_mode) ? open_scratch(path, &g, err) : gguf_open(path, &g, err);
	if (!rc)
		rc = measure(g, path, seconds, ret, err);
	gguf_destroy(g);
	return rc;
}
