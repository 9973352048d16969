/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/kernels.c: how fast weights are multiplied, against what this machine can do.
 *
 * One column (decode): GB of weights per second from memory, beside a plain vector read of the same
 * memory by the same threads. Many columns (prefill): multiply-adds per second, beside the rate of
 * vpdpbusd in a loop of nothing else. Every measurement runs reference, kernel, kernel, reference;
 * the share is the median over repetitions of (kernel / reference of the same repetition), for the
 * machine may be busy with other things. Threads are pinned; each takes its share of the rows of
 * every matrix, as the engine does. Exit status 0: measured; 1: cannot; 2: usage.
 */
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "base/limits.h"
#include "base/num.h"
#include "kernels/cpu/cpu.h"
#include "kernels/quant.h"

#define THREADS_MAX 64
#define COLS_MAX    512
#define REPS_MAX    99

struct shape {
	size_t n, rows;
};

enum job { JOB_READ, JOB_PEAK, JOB_MULTIPLY, JOB_EXIT };

static struct bench {
	const struct cpu_ops *ops;
	unsigned threads, reps;
	bool json;
	uint8_t *weights;
	size_t bytes; /* of the working set */

	/* the job at hand: written by main before the start barrier, read by workers after it */
	enum job job;
	const struct quant_format *format;
	struct shape shape;
	size_t cols, matrices;
	const void *x[COLS_MAX];
	float *y[COLS_MAX];
	uint64_t peak_rounds;
	pthread_barrier_t start, end;
	uint64_t sink[THREADS_MAX * 8]; /* one cache line each */
} bench = { .reps = 5 };

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
#endif
	return read_plain(p, bytes);
}

/* this thread's rows of every matrix */
static void multiply(unsigned id, void *scratch)
{
	const size_t row_bytes = quant_row_bytes(bench.format->id, bench.shape.n);
	const size_t tile = bench.ops->row_tile, tiles = div_ceil(bench.shape.rows, tile);
	struct matmul m = {
		.type = bench.format->id,
		.row_bytes = row_bytes,
		.n = bench.shape.n,
		.row0 = tiles * id / bench.threads * tile,
		.row1 = u64_min(tiles * (id + 1) / bench.threads * tile, bench.shape.rows),
		.x = bench.x,
		.y = bench.y,
		.cols = bench.cols,
		.scratch = scratch,
	};

	if (m.row0 >= m.row1)
		return;
	for (size_t i = 0; i < bench.matrices; i++) {
		m.w = bench.weights + i * row_bytes * bench.shape.rows;
		bench.ops->matmul(&m);
	}
}

static void *worker(void *arg)
{
	const unsigned id = (unsigned)(uintptr_t)arg;
	void *scratch = aligned_alloc(64, align_up(bench.ops->matmul_scratch_bytes(1 << 16), 64));
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(id, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	for (;;) {
		const size_t part = bench.bytes / bench.threads & ~(size_t)4095;

		pthread_barrier_wait(&bench.start);
		if (bench.job == JOB_EXIT || !scratch)
			break;
		if (bench.job == JOB_READ)
			bench.sink[id * 8] += read_stream(bench.weights + id * part, part);
#if defined(__x86_64__)
		if (bench.job == JOB_PEAK)
			bench.sink[id * 8] += peak_vnni(bench.peak_rounds);
#endif
		if (bench.job == JOB_MULTIPLY)
			multiply(id, scratch);
		pthread_barrier_wait(&bench.end);
	}
	free(scratch);
	return NULL;
}

static double run(enum job job)
{
	uint64_t start;

	bench.job = job;
	start = now_ns();
	pthread_barrier_wait(&bench.start);
	pthread_barrier_wait(&bench.end);
	return (double)(now_ns() - start) * 1e-9;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), compare);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Medians of the rates (@work per run) of the kernel, the reference and their ratio. */
static void measure(enum job reference, double reference_work, double work, double ret[3])
{
	double kernel[REPS_MAX], ref[REPS_MAX], share[REPS_MAX];

	run(JOB_MULTIPLY);
	for (unsigned i = 0; i < bench.reps; i++) {
		double a = run(reference), b = run(JOB_MULTIPLY) + run(JOB_MULTIPLY);

		a += run(reference);
		kernel[i] = 2 * work / b;
		ref[i] = 2 * reference_work / a;
		share[i] = kernel[i] / ref[i];
	}
	ret[0] = median(kernel, bench.reps);
	ret[1] = median(ref, bench.reps);
	ret[2] = median(share, bench.reps);
}

/* Random weights with scales near one thousandth: no NaN, nothing subnormal. */
static void fill(const struct quant_format *f)
{
	uint64_t r = 88172645463325252u;
	const uint16_t one = 0x1400;

	for (size_t i = 0; i + 8 <= bench.bytes; i += 8) {
		r ^= r << 13, r ^= r >> 7, r ^= r << 17;
		memcpy(bench.weights + i, &r, 8);
	}
	for (size_t i = 0; i + f->bytes <= bench.bytes; i += f->bytes) {
		uint8_t *b = bench.weights + i;

		switch (f->id) {
		case QUANT_F32:
			b[3] = 0x3c;
			break;
		case QUANT_F16:
		case QUANT_BF16:
			b[1] = 0x3c;
			break;
		case QUANT_MXFP4:
			b[0] = 120;
			break;
		case QUANT_Q2_K:
			memcpy(b + 80, &one, 2);
			memcpy(b + 82, &one, 2);
			break;
		case QUANT_Q3_K:
		case QUANT_Q6_K:
			memcpy(b + f->bytes - 2, &one, 2);
			break;
		default:
			memcpy(b, &one, 2);
			memcpy(b + 2, &one, 2);
		}
	}
}

static int vectors_create(const struct quant_format *f, struct shape s, size_t cols)
{
	float *x = aligned_alloc(64, align_up(s.n * sizeof(*x), 64));

	if (!x)
		return -1;
	for (size_t c = 0; c < cols; c++) {
		void *act = aligned_alloc(64, bench.ops->act_bytes(f->act, s.n));

		bench.x[c] = act;
		bench.y[c] = aligned_alloc(64, align_up(s.rows * sizeof(float), 64));
		if (!act || !bench.y[c])
			return -1;
		for (size_t i = 0; i < s.n; i++)
			x[i] = (float)((i * 2654435761u + c * 40503u) % 2001) * 1e-3f - 1;
		bench.ops->act_quantize(f->act, x, s.n, act);
	}
	free(x);
	return 0;
}

static void vectors_destroy(size_t cols)
{
	for (size_t c = 0; c < cols; c++) {
		free((void *)(uintptr_t)bench.x[c]);
		free(bench.y[c]);
		bench.x[c] = NULL;
		bench.y[c] = NULL;
	}
}

static void report(const char *kind, const double v[3])
{
	static bool first = true;
	const char *unit = *kind == 'd' ? "GB/s" : "GMAC/s";

	if (bench.json) {
		printf("%s\n {\"kind\":\"%s\",\"level\":\"%s\",\"format\":\"%s\",\"n\":%zu,\"rows\":%zu,"
		       "\"cols\":%zu,\"threads\":%u,\"unit\":\"%s\",\"rate\":%.4g,"
		       "\"reference\":%.4g,\"share\":%.4f}",
		       first ? "[" : ",", kind, bench.ops->name, bench.format->name, bench.shape.n,
		       bench.shape.rows, bench.cols, bench.threads, unit, v[0] * 1e-9, v[1] * 1e-9,
		       v[2]);
	} else {
		if (first)
			printf("%-7s %-7s %11s %5s %9s %9s %7s\n", "", "format", "n x rows", "cols",
			       "rate", "machine", "share");
		printf("%-7s %-7s %5zu x%5zu %5zu %9.1f %9.1f %6.1f%%  %s\n", kind,
		       bench.format->name, bench.shape.n, bench.shape.rows, bench.cols, v[0] * 1e-9,
		       v[1] * 1e-9, v[2] * 100, unit);
	}
	first = false;
	fflush(stdout);
}

static int measure_shape(const struct quant_format *f, struct shape s, const size_t *cols,
			 size_t n_cols)
{
	const size_t matrix = quant_row_bytes(f->id, s.n) * s.rows, macs = s.n * s.rows;
	size_t most = 1;
	double v[3];

	if (!matrix || matrix > bench.bytes)
		return -1;
	for (size_t i = 0; i < n_cols; i++)
		most = u64_max(most, cols[i]);
	bench.format = f;
	bench.shape = s;
	if (vectors_create(f, s, most)) {
		vectors_destroy(most);
		return -1;
	}
	for (size_t i = 0; i < n_cols; i++) {
		const size_t all = bench.bytes / matrix;

		bench.cols = cols[i];
		bench.matrices = all;
		if (bench.cols == 1) {
			measure(JOB_READ,
				(double)((bench.bytes / bench.threads & ~(size_t)4095) *
					 bench.threads),
				(double)(matrix * all), v);
			report("decode", v);
		}
		if (!has_peak())
			continue;
		/* about a tenth of a second each */
		bench.peak_rounds = 20000000 / 2;
		bench.matrices = u64_min(
			all, u64_max(4, (uint64_t)bench.threads * 15000000000u / (macs * cols[i])));
		measure(JOB_PEAK, (double)bench.threads * (double)bench.peak_rounds * 16 * 64,
			(double)macs * (double)cols[i] * (double)bench.matrices, v);
		report("prefill", v);
	}
	vectors_destroy(most);
	return 0;
}

static const struct quant_format *format_named(const char *name)
{
	for (uint32_t id = 0; id < 64; id++) {
		const struct quant_format *f = quant_format(id);

		if (f && f->act != ACT_NONE && !strcmp(f->name, name))
			return f;
	}
	return NULL;
}

static size_t parse_list(const char *text, size_t *out, size_t most)
{
	size_t n = 0;

	while (n < most && *text) {
		char *end;

		out[n] = strtoul(text, &end, 10);
		if (end == text || !out[n] || out[n] > COLS_MAX)
			return 0;
		n++;
		text = *end ? end + 1 : end;
	}
	return n;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: kernels [--threads N] [--level auto|scalar|avx2|avx512] [--format Q4_K,...]\n"
		"               [--shape NxROWS] [--cols 1,2,...] [--mib N] [--reps N] [--json]\n");
	return 2;
}

static int run_formats(char *formats, struct shape shape, const size_t *cols, size_t n_cols)
{
	static const struct shape shapes[] = {
		{ 2048, 768 }, { 768, 2048 }, { 2048, 512 }, { 4096, 1024 }
	};
	pthread_t thread[THREADS_MAX];
	char *save = NULL;
	int status = 0;

	for (uintptr_t i = 0; i < bench.threads; i++)
		if (pthread_create(&thread[i], NULL, worker, (void *)i))
			return 1;
	for (char *name = strtok_r(formats, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		const struct quant_format *f = format_named(name);

		if (!f) {
			fprintf(stderr, "kernels: unknown format %s\n", name);
			status = 2;
			break;
		}
		fill(f);
		for (size_t i = 0; i < (shape.n ? 1 : ARRAY_LEN(shapes)); i++)
			if (measure_shape(f, shape.n ? shape : shapes[i], cols, n_cols)) {
				fprintf(stderr, "kernels: %s: shape does not fit\n", name);
				status = 1;
			}
	}
	bench.job = JOB_EXIT;
	pthread_barrier_wait(&bench.start);
	for (unsigned i = 0; i < bench.threads; i++)
		pthread_join(thread[i], NULL);
	return status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "threads", 1, NULL, 't' }, { "level", 1, NULL, 'l' }, { "format", 1, NULL, 'f' },
		{ "shape", 1, NULL, 's' },   { "cols", 1, NULL, 'c' },	{ "mib", 1, NULL, 'm' },
		{ "reps", 1, NULL, 'r' },    { "json", 0, NULL, 'j' },	{ 0 }
	};
	const char *level = "auto", *column_list = "1,2,4,8,16,32,64,512";
	char formats[256] = "Q4_K,Q6_K";
	struct shape shape = { 0 };
	size_t cols[32], n_cols, mib = 1024;
	struct limits limits;
	int o, status;

	limits_read(NULL, &limits);
	bench.threads = limits.cpus;
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 't')
			bench.threads = (unsigned)atoi(optarg);
		else if (o == 'l')
			level = optarg;
		else if (o == 'f')
			snprintf(formats, sizeof(formats), "%s", optarg);
		else if (o == 's' && sscanf(optarg, "%zux%zu", &shape.n, &shape.rows) == 2)
			continue;
		else if (o == 'c')
			column_list = optarg;
		else if (o == 'm')
			mib = strtoul(optarg, NULL, 10);
		else if (o == 'r')
			bench.reps = (unsigned)atoi(optarg);
		else if (o == 'j')
			bench.json = true;
		else
			return usage();
	}
	n_cols = parse_list(column_list, cols, ARRAY_LEN(cols));
	if (!n_cols || !bench.threads || bench.threads > THREADS_MAX || !bench.reps ||
	    bench.reps > REPS_MAX || !mib || mib > 1 << 20 || optind != argc)
		return usage();
	if (cpu_ops_parse(level, &bench.ops)) {
		fprintf(stderr, "kernels: level %s is not available here\n", level);
		return 1;
	}
	bench.bytes = mib << 20;
	/* the read stream prefetches a little beyond its end */
	bench.weights = mmap(NULL, bench.bytes + (2 << 20), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bench.weights == MAP_FAILED) {
		perror("kernels: mmap");
		return 1;
	}
	madvise(bench.weights, bench.bytes + (2 << 20), MADV_HUGEPAGE);
	pthread_barrier_init(&bench.start, NULL, bench.threads + 1);
	pthread_barrier_init(&bench.end, NULL, bench.threads + 1);
	status = run_formats(formats, shape, cols, n_cols);
	if (bench.json)
		printf("\n]\n");
	munmap(bench.weights, bench.bytes + (2 << 20));
	return status;
}
