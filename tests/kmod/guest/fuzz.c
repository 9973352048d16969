/* SPDX-License-Identifier: MIT */
/*
 * Description: random use of the device by several processes, while devices, CPUs and the module go.
 * usage: fuzz SECONDS [SEED]. Four workers open, map, read, poll, fork and call every ioctl with right
 * and wrong arguments; now and then the kernel fails their n-th allocation (fail-nth). One more
 * process removes PCI functions, takes a CPU and memory offline, and loads and unloads the
 * module. Judges only that the module still works at the end: the rest is the business of KASAN,
 * lockdep and kmemleak, whose words the rig looks for in the kernel's log.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define WORKERS	 4
#define FILES	 12
#define MAPPINGS 4
#define PCI_MAX	 8

/* Shared by all processes. */
struct board {
	unsigned long done[16]; /* operations, by kind */
	unsigned long good[16]; /* those that succeeded */
	unsigned long injected; /* allocations that were made to fail */
	unsigned long loads, load_failures, unloads, removals, cpus, blocks;
};

/* One worker process, and its second thread: that one only calls ioctls on the same files. */
struct worker {
	int files[FILES];
	void *maps[MAPPINGS];
	uint64_t random;
	union {
		unsigned char bytes[4352];
		__u32 words[1088];
		struct sluice_watch_pci pci;
		struct sluice_watch_pmu pmu;
		struct sluice_unwatch unwatch;
		struct sluice_set_period period;
	} arg;
};

static struct board *board;
static struct pci_address functions[PCI_MAX];
static unsigned int function_nr, cpu_nr;
static size_t page_bytes;
static time_t deadline;

static uint32_t next(struct worker *w, uint32_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t)(w->random >> 20) % below;
}

static time_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static bool op_open(struct worker *w)
{
	static const int flags[] = { O_RDONLY, O_RDONLY, O_RDONLY,
				     O_RDWR,   O_WRONLY, O_RDONLY | O_NONBLOCK };
	int *file = &w->files[next(w, FILES)];

	if (*file >= 0)
		close(*file);
	*file = open(SLUICE_DEVICE_PATH, flags[next(w, 6)] | O_CLOEXEC);
	return *file >= 0;
}

static bool op_close(struct worker *w)
{
	int *file = &w->files[next(w, FILES)];
	int rc = close(*file);

	*file = -1;
	return !rc;
}

static bool op_map(struct worker *w)
{
	static const int prots[] = { PROT_READ,	 PROT_READ,
				     PROT_NONE,	 PROT_READ | PROT_WRITE,
				     PROT_WRITE, PROT_READ | PROT_EXEC };
	static const int kinds[] = { MAP_SHARED, MAP_SHARED, MAP_PRIVATE,
				     MAP_SHARED | MAP_POPULATE };
	unsigned int slot = next(w, MAPPINGS);
	size_t bytes = page_bytes;

	if (!next(w, 6))
		bytes = 4096 * next(w, 6);
	if (w->maps[slot])
		munmap(w->maps[slot], page_bytes);
	w->maps[slot] = mmap(NULL, bytes, prots[next(w, 6)], kinds[next(w, 4)],
			     w->files[next(w, FILES)], next(w, 8) ? 0 : 4096 * next(w, 4));
	if (w->maps[slot] == MAP_FAILED)
		w->maps[slot] = NULL;
	return w->maps[slot];
}

static bool op_unmap(struct worker *w)
{
	unsigned int slot = next(w, MAPPINGS);
	char *at = w->maps[slot];

	if (!at)
		return false;
	if (!next(w, 3)) /* a hole; the rest goes later */
		return !munmap(at + 4096 * next(w, (uint32_t)(page_bytes / 4096)), 4096);
	w->maps[slot] = NULL;
	return !munmap(at, page_bytes);
}

static bool op_advise(struct worker *w)
{
	static const int advice[] = { MADV_NORMAL,   MADV_RANDOM,	 MADV_WILLNEED,
				      MADV_DONTNEED, MADV_DONTFORK,	 MADV_DOFORK,
				      MADV_REMOVE,   MADV_HUGEPAGE,	 MADV_COLD,
				      MADV_PAGEOUT,  MADV_POPULATE_READ, MADV_POPULATE_WRITE,
				      MADV_FREE };
	char *at = w->maps[next(w, MAPPINGS)];

	if (!at)
		return false;
	switch (next(w, 4)) {
	case 0:
		return !mprotect(at, page_bytes, next(w, 8));
	case 1:
		return !mlock(at, page_bytes) && !munlock(at, page_bytes);
	default:
		return !madvise(at, page_bytes, advice[next(w, 13)]);
	}
}

/* The kernel reads the mapping for us: a hole in it gives EFAULT, not a signal. */
static bool op_look(struct worker *w)
{
	char *at = w->maps[next(w, MAPPINGS)];
	int pipes[2];
	bool good;

	if (!at || pipe2(pipes, O_CLOEXEC | O_NONBLOCK))
		return false;
	good = write(pipes[1], at, page_bytes) == (ssize_t)page_bytes;
	close(pipes[0]);
	close(pipes[1]);
	return good;
}

static bool op_read(struct worker *w)
{
	static char buf[65536];
	int fd = w->files[next(w, FILES)];
	size_t bytes = next(w, 4) ? page_bytes : next(w, sizeof(buf));

	switch (next(w, 4)) {
	case 0:
		return read(fd, next(w, 4) ? buf : (void *)16, bytes) > 0;
	case 1:
		return lseek(fd, next(w, 65536), (int)next(w, 5)) >= 0;
	default:
		return pread(fd, buf, bytes, next(w, 6) ? 0 : next(w, 32768)) > 0;
	}
}

static bool op_poll(struct worker *w)
{
	struct pollfd p[3];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		p[i].fd = w->files[next(w, FILES)];
		p[i].events = (short)next(w, 0x4000);
	}
	return poll(p, 3, (int)next(w, 20)) > 0;
}

/* Arguments that are mostly right. */
static unsigned long fill_sane(struct worker *w)
{
	memset(&w->arg, 0, sizeof(w->arg));
	switch (next(w, 10)) {
	case 0:
	case 5:
		w->arg.pci.size = sizeof(w->arg.pci);
		if (function_nr) {
			const struct pci_address *at = &functions[next(w, function_nr)];

			w->arg.pci.domain = at->domain;
			w->arg.pci.bus = (__u8)at->bus;
			w->arg.pci.devfn = (__u8)at->devfn;
		}
		return SLUICE_WATCH_PCI;
	case 1:
		/* few: each costs every sample two interrupts of another CPU */
		if (next(w, 4))
			break;
		w->arg.pmu.size = sizeof(w->arg.pmu);
		w->arg.pmu.type = next(w, 8) ? 1 : next(w, 12);
		w->arg.pmu.config = next(w, 8) ? 0 : next(w, 256);
		w->arg.pmu.cpu = next(w, cpu_nr + 1);
		w->arg.pmu.kind = next(w, 4);
		return SLUICE_WATCH_PMU;
	case 2:
	case 6:
	case 7:
		w->arg.unwatch.size = sizeof(w->arg.unwatch);
		w->arg.unwatch.what = 1 + next(w, 2);
		w->arg.unwatch.slot = next(w, 33);
		return SLUICE_UNWATCH;
	case 3:
		w->arg.period.size = sizeof(w->arg.period);
		w->arg.period.period_ms = next(w, 3) ? next(w, 60) : next(w, 0x7fffffff);
		return SLUICE_SET_PERIOD;
	default:
		break;
	}
	w->arg.words[0] = sizeof(struct sluice_get_info);
	return SLUICE_GET_INFO;
}

static bool op_ioctl(struct worker *w)
{
	unsigned long number = fill_sane(w);
	unsigned int i, changes = next(w, 3) ? 0 : next(w, 6);
	void *arg = &w->arg;

	if (!next(w, 8)) { /* another size, with or without something in the tail */
		w->arg.words[0] = next(w, 2) ? next(w, 200) : next(w, 5000);
		if (next(w, 2))
			w->arg.bytes[next(w, sizeof(w->arg))] = 1;
	}
	for (i = 0; i < changes; i++)
		w->arg.bytes[next(w, 64)] = (unsigned char)next(w, 256);
	if (!next(w, 10))
		number = (unsigned long)_IO(SLUICE_IOC_TYPE, next(w, 16));
	if (!next(w, 40))
		number = next(w, 0x7fffffff);
	if (!next(w, 30))
		arg = next(w, 2) ? (void *)4096 : w->maps[next(w, MAPPINGS)];
	return !ioctl(w->files[next(w, FILES)], number, arg);
}

/* A child with all files and mappings of this worker ends at some moment. */
static bool op_fork(struct worker *w)
{
	unsigned int i, closes = next(w, FILES);
	pid_t pid = fork();

	if (pid < 0)
		return false;
	if (!pid) {
		for (i = 0; i < closes; i++)
			op_close(w);
		for (i = 0; i < MAPPINGS; i++)
			op_look(w);
		op_ioctl(w);
		_exit(0);
	}
	return waitpid(pid, NULL, 0) == pid;
}

struct op {
	const char *name;
	bool (*run)(struct worker *w);
	unsigned int weight;
};

static const struct op ops[] = {
	{ "open", op_open, 6 },	  { "close", op_close, 3 },   { "map", op_map, 5 },
	{ "unmap", op_unmap, 2 }, { "advise", op_advise, 4 }, { "look", op_look, 6 },
	{ "read", op_read, 6 },	  { "poll", op_poll, 2 },     { "ioctl", op_ioctl, 20 },
	{ "fork", op_fork, 1 },
};

#define OP_NR (sizeof(ops) / sizeof(ops[0]))

/* The n-th allocation of this thread from here on fails; 0 takes it back. Returns what was
 * left (0: it failed), or -1 in a kernel that cannot do this. */
static int fail_nth(int nth)
{
	static __thread int fd = -1;
	static __thread pid_t owner;
	char text[16] = "";
	int left = -1;

	if (owner != getpid()) {
		fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
		owner = getpid();
	}
	if (fd < 0)
		return -1;
	if (pread(fd, text, sizeof(text) - 1, 0) > 0)
		left = atoi(text);
	snprintf(text, sizeof(text), "%d", nth);
	if (pwrite(fd, text, strlen(text), 0) < 0)
		return -1;
	return left;
}

static void one_op(struct worker *w)
{
	unsigned int sum = 0, i, pick;
	int nth = next(w, 6) ? 0 : 1 + (int)next(w, 12);

	for (i = 0; i < OP_NR; i++)
		sum += ops[i].weight;
	pick = next(w, sum);
	for (i = 0; pick >= ops[i].weight; i++)
		pick -= ops[i].weight;
	/* a fork that fails tells nothing of the device, and the kernel is loud about it */
	if (ops[i].run == op_fork)
		nth = 0;
	if (nth)
		fail_nth(nth);
	if (ops[i].run(w))
		__atomic_fetch_add(&board->good[i], 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&board->done[i], 1, __ATOMIC_RELAXED);
	if (nth && !fail_nth(0))
		__atomic_fetch_add(&board->injected, 1, __ATOMIC_RELAXED);
}

static void drop_all(struct worker *w)
{
	unsigned int i;

	for (i = 0; i < FILES; i++) {
		if (w->files[i] >= 0)
			close(w->files[i]);
		w->files[i] = -1;
	}
	for (i = 0; i < MAPPINGS; i++) {
		if (w->maps[i])
			munmap(w->maps[i], page_bytes);
		w->maps[i] = NULL;
	}
}

/* The worker's second thread: ioctls on its files, and its arguments change under the first. */
static void *second(void *arg)
{
	struct worker *w = arg, own = *w;

	own.random ^= 0x9e3779b97f4a7c15ull;
	while (now_s() < deadline) {
		memcpy(own.files, w->files, sizeof(own.files));
		op_ioctl(&own);
		if (!next(&own, 4))
			ioctl(own.files[next(&own, FILES)], fill_sane(&own), &w->arg);
		if (!next(&own, 16))
			w->arg.words[0] = next(&own, 300);
		if (!next(&own, 64))
			usleep(next(&own, 3000));
	}
	return NULL;
}

static void work(uint64_t seed)
{
	static struct worker w;
	pthread_t thread;
	unsigned int i;

	w.random = seed;
	for (i = 0; i < FILES; i++)
		w.files[i] = -1;
	if (pthread_create(&thread, NULL, second, &w))
		_exit(2);
	while (now_s() < deadline) {
		/* two of ten seconds belong to rmmod: hold nothing for long */
		if (now_s() % 10 >= 8) {
			if (!next(&w, 3)) {
				op_open(&w);
				op_ioctl(&w);
			}
			drop_all(&w);
			usleep(next(&w, 300000));
			continue;
		}
		one_op(&w);
	}
	pthread_join(thread, NULL);
	drop_all(&w);
	_exit(0);
}

static void disturb_module(struct worker *w)
{
	static const char *const parameters[] = { "", "period_ms=10", "stress=1",
						  "period_ms=1000" };
	int i, rc, nth;

	for (i = 0; i < 40; i++) {
		rc = guest_unload();
		board->unloads += !rc;
		if (!rc || rc == -ENOENT) {
			nth = next(w, 2) ? 1 + (int)next(w, 80) : 0;
			if (nth)
				fail_nth(nth);
			rc = guest_load(parameters[next(w, 4)]);
			if (nth && !fail_nth(0))
				board->injected++;
			board->loads += !rc;
			board->load_failures += !!rc;
		}
		usleep(next(w, 30000));
	}
	guest_load("");
}

static void disturb_memory(struct worker *w)
{
	unsigned int number = next(w, 32);

	if (!file_write("offline", "/sys/devices/system/memory/memory%u/state", number)) {
		board->blocks++;
		usleep(next(w, 50000));
		if (file_write("online_movable", "/sys/devices/system/memory/memory%u/state",
			       number))
			file_write("online", "/sys/devices/system/memory/memory%u/state", number);
	}
}

static void disturb(uint64_t seed)
{
	static struct worker w;
	unsigned int cpu;

	w.random = seed;
	while (now_s() < deadline) {
		if (now_s() % 10 >= 8) {
			disturb_module(&w);
			continue;
		}
		switch (next(&w, 8)) {
		case 0:
		case 1:
			if (!function_nr)
				break;
			board->removals += !file_write("1", "/sys/bus/pci/devices/%s/remove",
						       functions[next(&w, function_nr)].name);
			usleep(next(&w, 20000));
			file_write("1", "/sys/bus/pci/rescan");
			break;
		case 2:
			cpu = 1 + next(&w, cpu_nr > 1 ? cpu_nr - 1 : 1);
			board->cpus +=
				!file_write("0", "/sys/devices/system/cpu/cpu%u/online", cpu);
			usleep(next(&w, 50000));
			file_write("1", "/sys/devices/system/cpu/cpu%u/online", cpu);
			break;
		case 3:
			disturb_memory(&w);
			break;
		default:
			usleep(next(&w, 200000));
		}
	}
	file_write("1", "/sys/bus/pci/rescan");
	for (cpu = 1; cpu < cpu_nr; cpu++)
		file_write("1", "/sys/devices/system/cpu/cpu%u/online", cpu);
	_exit(0);
}

/* Let fail-nth reach every allocation, and keep the kernel quiet about it. */
static void allow_failures(void)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	unsigned int i;

	for (i = 0; i < 3; i++) {
		file_write("0", "/sys/kernel/debug/%s/verbose", kinds[i]);
		file_write("N", "/sys/kernel/debug/%s/ignore-gfp-wait", kinds[i]);
		file_write("N", "/sys/kernel/debug/%s/ignore-gfp-highmem", kinds[i]);
		file_write("0", "/sys/kernel/debug/%s/min-order", kinds[i]);
	}
}

static void report(void)
{
	unsigned int i;

	for (i = 0; i < OP_NR; i++)
		tap_note("%-7s %9lu, %lu good", ops[i].name, board->done[i], board->good[i]);
	tap_note("%lu failures injected, %lu loads (%lu failed), %lu unloads", board->injected,
		 board->loads, board->load_failures, board->unloads);
	tap_note("%lu functions removed, CPUs taken %lu times, memory blocks %lu times",
		 board->removals, board->cpus, board->blocks);
}

static void test_after(void)
{
	struct sluice_get_info info;
	const struct sluice_page *page;
	int fd;

	guest_need("");
	fd = guest_open();
	guest_info(fd, &info);
	page = guest_map(fd, &info);
	tap_ok(guest_wait_sample(page, page->sample_nr + 2, 5000), "still samples");
	tap_ok(info.pci_free == info.pci_nr && info.pmu_free == info.pmu_nr, "no slot is lost");
}

int main(int argc, char **argv)
{
	unsigned int seconds = argc > 1 ? (unsigned int)atoi(argv[1]) : 10;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	struct sluice_get_info info;
	int i, fd, status, broken = 0;

	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED)
		tap_bail("no memory");
	guest_need("");
	fd = guest_open();
	guest_info(fd, &info);
	page_bytes = info.page_bytes;
	close(fd);
	function_nr = guest_pci_list(functions, PCI_MAX, GUEST_RNG_VENDOR, GUEST_RNG_DEVICE);
	cpu_nr = (unsigned int)sysconf(_SC_NPROCESSORS_CONF);
	allow_failures();
	deadline = now_s() + seconds;
	for (i = 0; i <= WORKERS; i++) {
		uint64_t own =
			(seed + 1) * 0x9e3779b97f4a7c15ull + (uint64_t)i * 0xd1342543de82ef95ull;

		fflush(stdout);
		if (fork())
			continue;
		if (i == WORKERS)
			disturb(own);
		work(own);
	}
	for (i = 0; i <= WORKERS; i++) {
		if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status)) {
			broken++;
			tap_note("a process ended with status 0x%x", status);
		}
	}
	report();
	tap_is(broken, 0, "%u s of fuzz with seed %llu", seconds, (unsigned long long)seed);
	tap_ok(board->done[8] > 10UL * seconds, "enough calls for the time");
	test_after();
	return tap_done();
}
