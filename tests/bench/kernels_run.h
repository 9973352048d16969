/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/kernels_run.h: what tests/bench/kernels.c runs and how it is timed: pinned threads that
 * read, multiply or spin, each its share of the rows of every matrix, as the engine does. Included by
 * kernels.c alone.
 *
 * The guard: a run counts only if none of its threads lost its processor meanwhile, which the kernel
 * says (involuntary switches, and time in which the thread did not run); otherwise it is run again, so
 * many times and no more. What others had meanwhile, by the hypervisor or on processors without a thread of
 * ours, is asked of /proc/stat.
 */
#ifndef SLUICE_TESTS_BENCH_KERNELS_RUN_H
#define SLUICE_TESTS_BENCH_KERNELS_RUN_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "base/num.h"
#include "tests/bench/kernels_side.h"

#define TRIES	   20	/* runs until one is undisturbed */
#define SLICES	   8	/* of the working set: a run takes one, the next run the next */
#define LOST_SHARE 0.01 /* of a run's time that a thread may be without its processor */

struct shape {
	size_t n, rows;
};

enum job { JOB_READ, JOB_PEAK, JOB_MULTIPLY, JOB_EXIT };

/* What a thread says of its part of a run. One cache line each. */
struct part {
	double seconds, lost; /* @lost: of them, without a processor */
	long switches;
	uint64_t sink;
	char pad[32];
};

static struct bench {
	unsigned threads;
	uint8_t *weights;
	size_t bytes; /* of the working set */

	/* the job at hand: written by main before the start barrier, read by workers after it */
	enum job job;
	const struct side *side;
	const struct quant_format *format;
	struct shape shape;
	size_t cols, first, matrices; /* matrices [first, first + matrices) */
	unsigned slice;
	_Atomic unsigned arrived;
	uint64_t peak_rounds;
	pthread_barrier_t start, end;
	struct part part[THREADS_MAX];
	pthread_t thread[THREADS_MAX];

	unsigned runs, disturbed; /* since guard_start() */
	double others_before, start_time;
} bench;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static uint64_t read_avx512(const uint8_t *p, size_t bytes)
{
	__m512i a = _mm512_setzero_si512(), b = a;

	for (size_t i = 0; i + 256 <= bytes; i += 256) {
		for (size_t j = 0; j < 256; j += 64)
			_mm_prefetch((const char *)p + i + j + 4096, _MM_HINT_T0);
		a = _mm512_xor_si512(a, _mm512_loadu_si512(p + i));
		b = _mm512_xor_si512(b, _mm512_loadu_si512(p + i + 64));
		a = _mm512_xor_si512(a, _mm512_loadu_si512(p + i + 128));
		b = _mm512_xor_si512(b, _mm512_loadu_si512(p + i + 192));
	}
	return (uint64_t)_mm512_reduce_add_epi64(_mm512_xor_si512(a, b));
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *p, size_t bytes)
{
	__m256i a = _mm256_setzero_si256(), b = a;
	uint64_t v[4];

	for (size_t i = 0; i + 128 <= bytes; i += 128) {
		for (size_t j = 0; j < 128; j += 64)
			_mm_prefetch((const char *)p + i + j + 4096, _MM_HINT_T0);
		for (size_t j = 0; j < 128; j += 64) {
			a = _mm256_xor_si256(a, _mm256_loadu_si256((const void *)(p + i + j)));
			b = _mm256_xor_si256(b, _mm256_loadu_si256((const void *)(p + i + j + 32)));
		}
	}
	_mm256_storeu_si256((void *)v, _mm256_xor_si256(a, b));
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* 16 independent chains; returns multiply-adds */
__attribute__((target("avx512f"))) static uint64_t peak_vnni(uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++) {
#define D(r) "vpdpbusd %%zmm16, %%zmm17, %%zmm" #r "\n\t"
		__asm__ volatile(D(0) D(1) D(2) D(3) D(4) D(5) D(6) D(7) D(8) D(9) D(10) D(11) D(12)
					 D(13) D(14) D(15)::
						 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
						   "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
						   "xmm12", "xmm13", "xmm14", "xmm15");
#undef D
	}
	return rounds * 16 * 64;
}
#endif

static uint64_t read_plain(const uint8_t *p, size_t bytes)
{
	uint64_t sum[8] = { 0 };

	for (size_t i = 0; i + 64 <= bytes; i += 64) {
		uint64_t v[8];

		memcpy(v, p + i, 64);
		for (int j = 0; j < 8; j++)
			sum[j] ^= v[j];
	}
	return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

static bool has_peak(void)
{
	return cpu_level_available(CPU_AVX512);
}

static uint64_t read_stream(const uint8_t *p, size_t bytes)
{
#if defined(__x86_64__)
	if (cpu_level_available(CPU_AVX512))
		return read_avx512(p, bytes);
	if (cpu_level_available(CPU_AVX2))
		return read_avx2(p, bytes);
#endif
	return read_plain(p, bytes);
}

/* bytes that JOB_READ reads, of one slice */
static size_t read_bytes(void)
{
	return (bench.bytes / SLICES / bench.threads & ~(size_t)4095) * bench.threads;
}

/* this thread's rows of every matrix */
static void multiply(unsigned id)
{
	const struct side *s = bench.side;
	const size_t row_bytes = quant_row_bytes(bench.format->id, bench.shape.n);
	const size_t tile = s->ops->row_tile, tiles = div_ceil(bench.shape.rows, tile);
	struct matmul m = {
		.type = bench.format->id,
		.row_bytes = row_bytes,
		.n = bench.shape.n,
		.row0 = tiles * id / bench.threads * tile,
		.row1 = u64_min(tiles * (id + 1) / bench.threads * tile, bench.shape.rows),
		.x = s->x,
		.y = s->y,
		.cols = bench.cols,
		.scratch = s->scratch[id],
	};

	if (m.row0 >= m.row1)
		return;
	for (size_t i = bench.first; i < bench.first + bench.matrices; i++) {
		m.w = bench.weights + i * row_bytes * bench.shape.rows;
		/* this thread's share of the next one: between the two lies what another reads */
		m.next = i + 1 < bench.first + bench.matrices
				 ? (const uint8_t *)m.w + (bench.shape.rows + m.row0) * row_bytes
				 : NULL;
		s->ops->matmul(&m);
	}
}

static double thread_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static long switches(void)
{
	struct rusage r;

	getrusage(RUSAGE_THREAD, &r);
	return r.ru_nivcsw;
}

static void do_job(unsigned id)
{
	struct part *p = &bench.part[id];
	const size_t part = read_bytes() / bench.threads;
	const uint8_t *from = bench.weights + bench.slice * read_bytes() + id * part;
	const long before = switches();
	double cpu;
	uint64_t start;

	/* all begin together, or the first has the memory for itself */
	atomic_fetch_add(&bench.arrived, 1);
	while (atomic_load(&bench.arrived) < bench.threads)
		;
	cpu = thread_seconds();
	start = now_ns();
	if (bench.job == JOB_READ)
		p->sink += read_stream(from, part);
#if defined(__x86_64__)
	if (bench.job == JOB_PEAK)
		p->sink += peak_vnni(bench.peak_rounds);
#endif
	if (bench.job == JOB_MULTIPLY)
		multiply(id);
	p->seconds = (double)(now_ns() - start) * 1e-9;
	p->lost = p->seconds - (thread_seconds() - cpu);
	p->switches = switches() - before;
}

static void *worker(void *arg)
{
	const unsigned id = (unsigned)(uintptr_t)arg;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(id, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	for (;;) {
		pthread_barrier_wait(&bench.start);
		if (bench.job == JOB_EXIT)
			return NULL;
		do_job(id);
		pthread_barrier_wait(&bench.end);
	}
}

static int workers_start(void)
{
	pthread_barrier_init(&bench.start, NULL, bench.threads + 1);
	pthread_barrier_init(&bench.end, NULL, bench.threads + 1);
	for (uintptr_t i = 0; i < bench.threads; i++)
		if (pthread_create(&bench.thread[i], NULL, worker, (void *)i))
			return -1;
	return 0;
}

static void workers_stop(void)
{
	bench.job = JOB_EXIT;
	pthread_barrier_wait(&bench.start);
	for (unsigned i = 0; i < bench.threads; i++)
		pthread_join(bench.thread[i], NULL);
}

/* Seconds of the slowest thread; *ret_quiet: none lost its processor. */
static double run_once(enum job job, bool *ret_quiet)
{
	double longest = 0;

	bench.job = job;
	bench.slice = (bench.slice + 1) % SLICES;
	bench.first = bench.slice * bench.matrices;
	atomic_store(&bench.arrived, 0);
	pthread_barrier_wait(&bench.start);
	pthread_barrier_wait(&bench.end);
	*ret_quiet = true;
	for (unsigned i = 0; i < bench.threads; i++) {
		const struct part *p = &bench.part[i];

		longest = p->seconds > longest ? p->seconds : longest;
		if (p->switches || p->lost > LOST_SHARE * p->seconds + 20e-6)
			*ret_quiet = false;
	}
	return longest;
}

/* Seconds of an undisturbed run; of the last one where there was none, which is counted. */
static double run(enum job job)
{
	double seconds = 0;
	bool quiet = false;

	for (int i = 0; i < TRIES && !quiet; i++)
		seconds = run_once(job, &quiet);
	bench.runs++;
	bench.disturbed += !quiet;
	return seconds;
}

/* Processor time of the machine in seconds that was not ours; of @stolen: by the hypervisor alone. */
static double others_seconds(bool stolen)
{
	unsigned long long v[8] = { 0 };
	struct timespec own;
	double all;
	FILE *f = fopen("/proc/stat", "re");

	if (f) {
		if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
			   &v[3], &v[4], &v[5], &v[6], &v[7]) != 8)
			memset(v, 0, sizeof(v));
		fclose(f);
	}
	if (stolen)
		return (double)v[7] / (double)sysconf(_SC_CLK_TCK);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
	all = (double)(v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / (double)sysconf(_SC_CLK_TCK);
	return all - (double)own.tv_sec - (double)own.tv_nsec * 1e-9;
}

/* Where threads stand on all processors, whoever else ran has made a run disturbed; else he may not. */
static bool only_stolen(void)
{
	return bench.threads >= (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

static void guard_start(void)
{
	bench.runs = bench.disturbed = 0;
	bench.others_before = others_seconds(only_stolen());
	bench.start_time = (double)now_ns() * 1e-9;
}

/* Of a processor, what others had since guard_start(). */
static double guard_others(void)
{
	const double wall = (double)now_ns() * 1e-9 - bench.start_time;
	const double others = others_seconds(only_stolen()) - bench.others_before;

	return others <= 0 ? 0 : others / (wall > 1e-3 ? wall : 1e-3);
}

#endif
