/* SPDX-License-Identifier: MIT */
/* tools/memread.c: see memread.h. */
#include "tools/memread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "base/futex.h"
#include "kernels/cpu/cpu.h"

#define ROUNDS	     5
#define STRIDE	     256	/* bytes of one turn of the loops below */
#define CACHED_BYTES (16 << 10) /* in the first cache level */

enum { GO = 1, GO_HOME = 2 }; /* all threads are there; not all could be had */

static uint64_t read_scalar(const uint8_t *p, size_t bytes)
{
	uint64_t a = 0, b = 0, c = 0, d = 0, v[4];

	for (size_t i = 0; i < bytes; i += sizeof(v)) {
		memcpy(v, p + i, sizeof(v));
		a ^= v[0];
		b ^= v[1];
		c ^= v[2];
		d ^= v[3];
	}
	return a ^ b ^ c ^ d;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *p, size_t bytes)
{
	__m256i x[8];

	for (int k = 0; k < 8; k++)
		x[k] = _mm256_setzero_si256();
	for (size_t i = 0; i < bytes; i += STRIDE)
		for (int k = 0; k < 8; k++)
			x[k] = _mm256_xor_si256(
				x[k], _mm256_load_si256((const __m256i *)(p + i + 32 * k)));
	for (int k = 1; k < 8; k++)
		x[0] = _mm256_xor_si256(x[0], x[k]);
	return (uint64_t)_mm256_extract_epi64(x[0], 0) ^ (uint64_t)_mm256_extract_epi64(x[0], 3);
}

__attribute__((target("avx512f"))) static uint64_t read_avx512(const uint8_t *p, size_t bytes)
{
	__m512i x[4];

	for (int k = 0; k < 4; k++)
		x[k] = _mm512_setzero_si512();
	for (size_t i = 0; i < bytes; i += STRIDE)
		for (int k = 0; k < 4; k++)
			x[k] = _mm512_xor_si512(x[k], _mm512_load_si512(p + i + 64 * k));
	for (int k = 1; k < 4; k++)
		x[0] = _mm512_xor_si512(x[0], x[k]);
	return (uint64_t)_mm512_reduce_or_epi64(x[0]);
}

/* A multiply-add for every byte, by the instructions that the products of these levels are made of. */
__attribute__((target("avx2"))) static uint64_t multiply_avx2(const uint8_t *p, size_t bytes)
{
	const __m256i ones = _mm256_set1_epi16(1), by = _mm256_set1_epi8(3);
	__m256i x[8];

	for (int k = 0; k < 8; k++)
		x[k] = _mm256_setzero_si256();
	for (size_t i = 0; i < bytes; i += STRIDE)
		for (int k = 0; k < 8; k++) {
			__m256i w = _mm256_load_si256((const __m256i *)(p + i + 32 * k));

			w = _mm256_madd_epi16(_mm256_maddubs_epi16(w, by), ones);
			x[k] = _mm256_add_epi32(x[k], w);
		}
	for (int k = 1; k < 8; k++)
		x[0] = _mm256_xor_si256(x[0], x[k]);
	return (uint64_t)_mm256_extract_epi64(x[0], 0) ^ (uint64_t)_mm256_extract_epi64(x[0], 3);
}

__attribute__((target("avx512f,avx512vnni"))) static uint64_t multiply_avx512(const uint8_t *p,
									      size_t bytes)
{
	const __m512i by = _mm512_set1_epi32(0x03030303);
	__m512i x[8];

	for (int k = 0; k < 8; k++)
		x[k] = _mm512_setzero_si512();
	for (size_t i = 0; i < bytes; i += 2 * STRIDE)
		for (int k = 0; k < 8; k++)
			x[k] = _mm512_dpbusd_epi32(x[k], _mm512_load_si512(p + i + 64 * k), by);
	for (int k = 1; k < 8; k++)
		x[0] = _mm512_xor_si512(x[0], x[k]);
	return (uint64_t)_mm512_reduce_or_epi64(x[0]);
}
#endif

static uint64_t multiply_scalar(const uint8_t *p, size_t bytes)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum += (uint64_t)p[i] * p[bytes - 1 - i];
	return sum;
}

typedef uint64_t (*read_fn)(const uint8_t *p, size_t bytes);

static read_fn pick(void)
{
#if defined(__x86_64__)
	if (cpu_level_available(CPU_AVX512))
		return read_avx512;
	if (cpu_level_available(CPU_AVX2))
		return read_avx2;
#endif
	return read_scalar;
}

static read_fn pick_multiply(void)
{
#if defined(__x86_64__)
	if (cpu_level_available(CPU_AVX512))
		return multiply_avx512;
	if (cpu_level_available(CPU_AVX2))
		return multiply_avx2;
#endif
	return multiply_scalar;
}

struct shared {
	pthread_barrier_t barrier;
	read_fn read;
	size_t bytes;
	unsigned passes;
	uint64_t round_ns[ROUNDS];
	_Atomic int failed;
	_Atomic uint32_t go; /* 0, GO or GO_HOME; futex word */
};

struct worker {
	pthread_t thread;
	struct shared *shared;
	unsigned cpu, index;
	uint64_t sum; /* keeps the loads alive */
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct shared *s = w->shared;
	cpu_set_t set;
	uint8_t *p;

	while (!atomic_load_explicit(&s->go, memory_order_acquire))
		futex_wait(&s->go, 0, 0);
	if (s->go == GO_HOME)
		return NULL;
	CPU_ZERO(&set);
	CPU_SET(w->cpu, &set);
	sched_setaffinity(0, sizeof(set),
			  &set); /* a hint; without it the figure is a lower bound */
	p = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		s->failed = 1;
	} else {
		madvise(p, s->bytes, MADV_HUGEPAGE);
		memset(p, (int)w->index + 1,
		       s->bytes); /* touched here: it lies on this core's node */
	}
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t begin;

		pthread_barrier_wait(&s->barrier);
		begin = now_ns();
		for (unsigned k = 0; k < s->passes && !s->failed; k++)
			w->sum ^= s->read(p, s->bytes);
		pthread_barrier_wait(&s->barrier);
		if (!w->index)
			s->round_ns[round] = now_ns() - begin;
	}
	if (p != MAP_FAILED)
		munmap(p, s->bytes);
	return NULL;
}

/* @guess: bytes per second of a slow core, for the number of passes. */
static int measure(read_fn fn, const unsigned *cpus, unsigned n, uint64_t bytes_per_core,
		   double guess, double seconds, double *ret_gbs, struct err *err)
{
	struct shared s = { .read = fn, .bytes = bytes_per_core / STRIDE * STRIDE };
	struct worker *workers = calloc(n, sizeof(*workers));
	uint64_t best = UINT64_MAX;
	unsigned started = 0;

	if (!workers || !n || !s.bytes) {
		free(workers);
		return err_set(err, -ENOMEM, "no memory to measure with");
	}
	s.passes = (unsigned)(seconds / ROUNDS * guess / (double)s.bytes) + 1;
	pthread_barrier_init(&s.barrier, NULL, n);
	for (; started < n; started++) {
		struct worker *w = &workers[started];

		*w = (struct worker){ .shared = &s, .cpu = cpus[started], .index = started };
		if (pthread_create(&w->thread, NULL, work, w))
			break;
	}
	s.failed = started < n;
	atomic_store_explicit(&s.go, s.failed ? GO_HOME : GO, memory_order_release);
	futex_wake_all(&s.go);
	for (unsigned i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	pthread_barrier_destroy(&s.barrier);
	free(workers);
	if (s.failed)
		return err_set(err, -ENOMEM, "no memory or threads to measure with");
	for (int i = 0; i < ROUNDS; i++)
		best = s.round_ns[i] < best ? s.round_ns[i] : best;
	*ret_gbs = (double)s.bytes * s.passes * n / (double)best;
	return 0;
}

int memread_measure(const unsigned *cpus, unsigned n, uint64_t bytes_per_core, double seconds,
		    double *ret_gbs, struct err *err)
{
	/* enough passes, and never a long wait */
	return measure(pick(), cpus, n, bytes_per_core, 5e9, seconds, ret_gbs, err);
}

int memread_multiply(const unsigned *cpus, unsigned n, double seconds, double *ret_gmadds,
		     struct err *err)
{
	return measure(pick_multiply(), cpus, n, CACHED_BYTES,
		       cpu_level_available(CPU_AVX2) ? 1e11 : 1e9, seconds, ret_gmadds, err);
}

/* What identifies a core: package and core number; each CPU its own where the kernel does not say. */
static uint64_t core_key(unsigned cpu)
{
	static const char *const names[] = { "physical_package_id", "core_id" };
	uint64_t key = 0;

	for (int i = 0; i < 2; i++) {
		char path[128];
		long value = -1;
		FILE *f;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/topology/%s", cpu,
			 names[i]);
		f = fopen(path, "re");
		if (f && fscanf(f, "%ld", &value) != 1)
			value = -1;
		if (f)
			fclose(f);
		if (value < 0)
			return UINT64_MAX - cpu;
		key = key << 32 | (uint32_t)value;
	}
	return key;
}

void memread_cpu_name(char *buf, size_t len)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(buf, len, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		const char *name = strchr(line, ':');

		if (strncmp(line, "model name", 10) || !name)
			continue;
		name += 1 + strspn(name + 1, " ");
		snprintf(buf, len, "%.*s", (int)strcspn(name, "\n"), name);
		break;
	}
	if (f)
		fclose(f);
}

unsigned memread_cores(unsigned *ret_cpus, unsigned room)
{
	uint64_t keys[MEMREAD_MAX_CORES];
	cpu_set_t set;
	unsigned n = 0;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set))
		CPU_SET(0, &set);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && n < room && n < MEMREAD_MAX_CORES; cpu++) {
		uint64_t key;
		unsigned k = 0;

		if (!CPU_ISSET(cpu, &set))
			continue;
		key = core_key(cpu);
		while (k < n && keys[k] != key)
			k++;
		if (k < n)
			continue;
		keys[n] = key;
		ret_cpus[n++] = cpu;
	}
	return n;
}
