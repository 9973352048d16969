/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/read.c: how fast the reader reads, against fio with the same request size, depth and
 * kind of buffer (registered, in huge pages or in 4 KiB pages), at random places of one file.
 *
 * Every round runs ours, fio, fio, ours, for the disk may be shared or bounded by credits; the ratio
 * is of the medians. --extent asks for larger ranges than one request, as experts are; --burst waits
 * for so many bytes before it asks for the next, as a layer that is being decoded does, and has no
 * peer in fio. --spin adds pinned threads that keep every core busy, as the compute threads do.
 * The file is the caller's: larger than the disk's own cache, written in full. Grows the pool of
 * huge pages while it runs (needs root; --pages 4k does not).
 * Exit status 0: measured; 1: cannot; 2: usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/limits.h"
#include "base/num.h"
#include "base/opts.h"
#include "model/gguf.h"
#include "store/arena.h"
#include "store/reader.h"

#define POOL	   "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define MAX_ROUNDS 50
#define MAX_SPIN   64
#define PLACE	   4096 /* offsets are multiples of this, in fio too */

struct options {
	const char *file;
	uint64_t request, extent, burst;
	uint32_t depth, rounds, spin;
	uint32_t pages; /* 0 hugetlb, 1 4k */
	uint32_t io;	/* enum reader_kind */
	float seconds;
	bool buffered, no_fio, json;
};

static const struct opt table[] = {
	{ "--file", NULL, OPT_TEXT, offsetof(struct options, file), .arg = "F",
	  .help = "the file to read; its caller made it" },
	{ "--request", NULL, OPT_SIZE, offsetof(struct options, request), .min = 4096,
	  .max = 1 << 30, .def = "1M", .help = "bytes of one read" },
	{ "--depth", NULL, OPT_U32, offsetof(struct options, depth), .min = 1, .max = 1024,
	  .def = "16", .help = "reads in flight" },
	{ "--extent", NULL, OPT_SIZE, offsetof(struct options, extent), .min = 0, .max = 1 << 30,
	  .def = "0", .help = "bytes that are asked for at once; 0: as --request" },
	{ "--burst", NULL, OPT_SIZE, offsetof(struct options, burst), .min = 0, .max = 1 << 30,
	  .def = "0", .help = "wait for so many bytes before asking for more; 0: never idle" },
	{ "--pages", NULL, OPT_CHOICE, offsetof(struct options, pages), .choices = "hugetlb|4k",
	  .def = "hugetlb", .help = "what the buffers are made of" },
	{ "--io", NULL, OPT_CHOICE, offsetof(struct options, io), .choices = "auto|uring|pread",
	  .def = "uring", .help = "the reader's backend; fio always uses io_uring" },
	{ "--buffered", NULL, OPT_FLAG, offsetof(struct options, buffered),
	  .help = "through the page cache" },
	{ "--spin", NULL, OPT_U32, offsetof(struct options, spin), .min = 0, .max = MAX_SPIN,
	  .def = "0", .help = "threads that keep a core busy each, beside both" },
	{ "--seconds", NULL, OPT_FLOAT, offsetof(struct options, seconds), .min = 0.2, .max = 60,
	  .def = "2", .help = "of one measurement" },
	{ "--rounds", NULL, OPT_U32, offsetof(struct options, rounds), .min = 1, .max = MAX_ROUNDS,
	  .def = "3", .help = "of four measurements" },
	{ "--no-fio", NULL, OPT_FLAG, offsetof(struct options, no_fio), .help = "ours alone" },
	{ "--json", NULL, OPT_FLAG, offsetof(struct options, json), .help = "print JSON" },
};

struct slot {
	struct reader_request request; /* first */
	struct bench *bench;
	uint8_t *room;
	_Atomic bool landed;
};

struct bench {
	const struct options *o;
	struct gguf_file file;
	struct arena *arena;
	struct reader *reader;
	struct slot *slots;
	unsigned n_slots;
	uint64_t random;
	_Atomic uint32_t events;
	_Atomic int failure;
};

static _Atomic bool spinning;
static unsigned pool_before;
static bool pool_grown;

static void *spin_main(void *arg)
{
	while (atomic_load_explicit(&spinning, memory_order_relaxed))
		cpu_relax();
	return NULL;
}

static void start_spinning(pthread_t *threads, unsigned n)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	atomic_store(&spinning, true);
	for (unsigned i = 0; i < n; i++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(i % (unsigned)cores, &set);
		if (pthread_create(&threads[i], NULL, spin_main, NULL))
			abort();
		pthread_setaffinity_np(threads[i], sizeof(set), &set);
	}
}

static void stop_spinning(pthread_t *threads, unsigned n)
{
	atomic_store(&spinning, false);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static int write_pool(unsigned n)
{
	FILE *f = fopen(POOL, "w");

	if (!f)
		return -errno;
	fprintf(f, "%u", n);
	return fclose(f) ? -errno : 0;
}

static void restore_pool(void)
{
	if (pool_grown)
		write_pool(pool_before);
}

static int grow_pool(uint64_t bytes, struct err *err)
{
	uint64_t pages = div_ceil(bytes, LIMITS_HUGE_PAGE) + 8;
	struct limits pool;
	int rc;

	limits_read(NULL, &pool);
	if (pool.huge_free >= pages)
		return 0;
	pool_before = (unsigned)pool.huge_total;
	rc = write_pool((unsigned)(pool.huge_total + pages));
	pool_grown = !rc;
	limits_read(NULL, &pool);
	if (rc || pool.huge_free < pages)
		return err_set(err, -ENOMEM, "%s: no %llu huge pages (--pages 4k needs none)", POOL,
			       (unsigned long long)pages);
	return 0;
}

static void on_done(struct reader_request *r, int result)
{
	struct slot *s = (struct slot *)r;
	struct bench *b = s->bench;

	if (result)
		atomic_store(&b->failure, result);
	/* release: drive() sees what has landed */
	atomic_store_explicit(&s->landed, true, memory_order_release);
	atomic_fetch_add_explicit(&b->events, 1, memory_order_release);
	futex_wake_all(&b->events);
}

static uint64_t random_place(struct bench *b)
{
	b->random ^= b->random << 13;
	b->random ^= b->random >> 7;
	b->random ^= b->random << 17;
	return b->random % ((b->file.bytes - b->o->extent) / PLACE + 1) * PLACE;
}

static void submit(struct bench *b, struct slot *s)
{
	struct reader_request *r = &s->request;

	r->offset = random_place(b);
	r->bytes = b->o->extent;
	r->dest = s->room;
	r->done = on_done;
	atomic_store_explicit(&s->landed, false, memory_order_relaxed);
	reader_submit(b->reader, &r, 1);
}

/* Each slot asks again as soon as it has landed, or all together once all have. Bytes read. */
static uint64_t drive(struct bench *b, uint64_t end)
{
	bool *open = calloc(b->n_slots, sizeof(*open));
	unsigned n_open = 0;
	uint64_t bytes = 0;

	if (!open)
		abort();
	do {
		bool more = now_ns() < end && !atomic_load(&b->failure);
		bool start = more && (!b->o->burst || !n_open);
		uint32_t seen;

		for (unsigned i = 0; start && i < b->n_slots; i++)
			if (!open[i]) {
				submit(b, &b->slots[i]);
				open[i] = true;
				n_open++;
			}
		seen = atomic_load_explicit(&b->events, memory_order_acquire);
		start = false;
		for (unsigned i = 0; i < b->n_slots; i++)
			if (open[i] &&
			    atomic_load_explicit(&b->slots[i].landed, memory_order_acquire)) {
				open[i] = false;
				n_open--;
				bytes += b->o->extent;
				start = true;
			}
		if (!start && n_open)
			futex_wait(&b->events, seen, 0);
	} while (n_open || (now_ns() < end && !atomic_load(&b->failure)));
	free(open);
	return bytes;
}

static int measure_ours(struct bench *b, double *ret_gbs, struct err *err)
{
	uint64_t begin = now_ns(), bytes;

	bytes = drive(b, begin + (uint64_t)((double)b->o->seconds * 1e9));
	*ret_gbs = (double)bytes / (double)(now_ns() - begin);
	if (atomic_load(&b->failure))
		return err_set(err, atomic_load(&b->failure), "%s: %s", b->o->file,
			       strerror(-atomic_load(&b->failure)));
	return 0;
}

static void run_fio(const struct options *o, int out)
{
	char file[4096], bs[32], depth[32], runtime[32], ba[32];

	snprintf(file, sizeof(file), "--filename=%s", o->file);
	snprintf(bs, sizeof(bs), "--bs=%llu", (unsigned long long)o->request);
	snprintf(ba, sizeof(ba), "--blockalign=%d", PLACE);
	snprintf(depth, sizeof(depth), "--iodepth=%u", o->depth);
	snprintf(runtime, sizeof(runtime), "--runtime=%.0fms", (double)o->seconds * 1e3);
	dup2(out, STDOUT_FILENO);
	execlp("fio", "fio", "--name=read", file, "--readonly", "--rw=randread", "--norandommap",
	       "--randrepeat=0", bs, ba, depth, runtime, "--time_based", "--ioengine=io_uring",
	       "--fixedbufs", "--registerfiles", o->buffered ? "--direct=0" : "--direct=1",
	       "--output-format=json", o->pages ? "--iomem=malloc" : "--iomem=mmaphuge",
	       o->pages ? NULL : "--hugepage-size=2m", NULL);
	_exit(127);
}

static int measure_fio(struct bench *b, double *ret_gbs, struct err *err)
{
	static char text[1 << 17];
	size_t used = 0;
	int fds[2], status;
	const char *at;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return err_set(err, -errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (!pid)
		run_fio(b->o, fds[1]);
	close(fds[1]);
	while (pid > 0 && (n = read(fds[0], text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return err_set(err, -EIO, "fio failed (is it installed?)");
	at = strstr(text, "\"read\"");
	at = at ? strstr(at, "\"bw_bytes\"") : NULL;
	at = at ? strchr(at, ':') : NULL;
	if (!at)
		return err_set(err, -EIO, "fio says nothing that can be read");
	*ret_gbs = strtod(at + 1, NULL) / 1e9;
	return 0;
}

static int open_bench(struct bench *b, struct err *err)
{
	const struct options *o = b->o;
	struct arena_config ac = { .best = o->pages ? ARENA_4K : ARENA_HUGETLB };
	struct reader_config rc = { .kind = (enum reader_kind)o->io,
				    .depth = o->depth,
				    .request_bytes = (uint32_t)o->request,
				    .buffered = o->buffered };
	uint64_t room = align_up(o->extent, PLACE);
	struct stat st;
	int fd, status;

	fd = open(o->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return err_set(err, -errno, "%s: %s", o->file, strerror(errno));
	if ((uint64_t)st.st_size < o->extent + PLACE)
		return err_set(err, -EINVAL, "%s is too short", o->file);
	b->file = (struct gguf_file){ .path = o->file, .fd = fd, .bytes = (uint64_t)st.st_size };
	b->n_slots = (unsigned)(o->burst ? div_ceil(o->burst, o->extent)
					 : 2 * div_ceil(o->depth * o->request, o->extent));
	b->slots = calloc(b->n_slots, sizeof(*b->slots));
	ac.bytes = room * b->n_slots;
	if (!b->slots)
		return err_set(err, -ENOMEM, "no memory");
	status = o->pages ? 0 : grow_pool(ac.bytes + o->depth * o->request, err);
	if (!status)
		status = arena_create(&ac, &b->arena, err);
	if (!status)
		status = arena_prefault_start(b->arena);
	if (status)
		return err_set(err, status, "memory: %s", strerror(-status));
	arena_prefault_wait(b->arena);
	status = reader_create_files(&b->file, 1, &rc, &b->reader, err);
	if (status)
		return status;
	for (unsigned i = 0; i < b->n_slots; i++) {
		b->slots[i].bench = b;
		b->slots[i].room = (uint8_t *)arena_base(b->arena) + i * room;
	}
	return reader_register_memory(b->reader, arena_base(b->arena), arena_bytes(b->arena), err);
}

static void close_bench(struct bench *b)
{
	reader_destroy(b->reader);
	arena_destroy(b->arena);
	free(b->slots);
	if (b->file.fd > 0)
		close(b->file.fd);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void report(const struct bench *b, double *ours, double *fio, unsigned n)
{
	const struct options *o = b->o;
	double m = median(ours, n), f = o->no_fio ? 0 : median(fio, n);

	if (o->json) {
		printf("{\"ours_gbs\": %.3f, \"fio_gbs\": %.3f, \"ratio\": %.3f, \"io\": \"%s\", "
		       "\"pages\": \"%s\", \"request\": %llu, \"depth\": %u, \"extent\": %llu, "
		       "\"samples\": %u}\n",
		       m, f, f > 0 ? m / f : 0, reader_name(b->reader),
		       arena_pages_name(arena_pages(b->arena)), (unsigned long long)o->request,
		       o->depth, (unsigned long long)o->extent, n);
		return;
	}
	printf("%s, %s pages, %llu KiB x %u: ours %.3f GB/s (%.3f to %.3f)", reader_name(b->reader),
	       arena_pages_name(arena_pages(b->arena)), (unsigned long long)o->request >> 10,
	       o->depth, m, ours[0], ours[n - 1]);
	if (!o->no_fio)
		printf(", fio %.3f GB/s (%.3f to %.3f), ratio %.3f", f, fio[0], fio[n - 1], m / f);
	printf("\n");
}

static int run(struct bench *b, struct err *err)
{
	static double ours[2 * MAX_ROUNDS], fio[2 * MAX_ROUNDS];
	unsigned n = 0;
	int rc;

	for (unsigned i = 0; i < b->o->rounds; i++, n += 2) {
		rc = measure_ours(b, &ours[n], err);
		if (!rc && !b->o->no_fio)
			rc = measure_fio(b, &fio[n], err);
		if (!rc && !b->o->no_fio)
			rc = measure_fio(b, &fio[n + 1], err);
		if (!rc)
			rc = measure_ours(b, &ours[n + 1], err);
		if (rc)
			return rc;
	}
	report(b, ours, fio, n);
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	struct bench b = { .o = &o, .random = 88172645463325252u };
	struct err err = { { 0 } };
	pthread_t threads[MAX_SPIN];
	int rc = opts_parse(table, ARRAY_LEN(table), argc, argv, &o, NULL, &err);

	if (rc || !o.file) {
		fprintf(stderr, "bench/read: %s\n", rc ? err.text : "--file is missing");
		opts_help(stderr, table, ARRAY_LEN(table));
		return 2;
	}
	if (!o.extent)
		o.extent = o.request;
	if (o.burst && !o.no_fio) {
		fprintf(stderr, "bench/read: --burst has no peer in fio: give --no-fio\n");
		return 2;
	}
	atexit(restore_pool);
	rc = open_bench(&b, &err);
	if (!rc) {
		start_spinning(threads, o.spin);
		rc = run(&b, &err);
		stop_spinning(threads, o.spin);
	}
	close_bench(&b);
	if (rc)
		fprintf(stderr, "bench/read: %s\n", err.text);
	return rc ? 1 : 0;
}
