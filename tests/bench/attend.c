/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/attend.c: how fast rows of queries pass over one KV head of the cache, on one thread.
 *
 * --mib of keys and values are walked block by block, as decode and prompts do (daemon/engine/block/attend.c);
 * 0: sixteen blocks, again and again, which stay in the second cache. Time is the thread's own, the best of
 * --reps passes, so that other programs cost little: GB/s of keys and values, multiply-adds of a row with a
 * number of them, and how often the processor's clock (of rdtsc) ticked for a thousand of these.
 *
 * --against FILE: a shared object with the kernels of another commit (tests/bench/kernels.c says how to make
 * it), in turn with ours, A-B-B-A, every pass; its rate and the ratio of ours to it are printed, too.
 *
 * Exit status 0: measured; 1: cannot; 2: usage.
 */
#include <dlfcn.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <x86intrin.h>

#include "base/num.h"
#include "kernels/cpu/fops.h"

#define LISTED_MAX   16
#define CACHE_BLOCKS 16

typedef const struct float_ops *(*ops_getter)(enum cpu_level level);

static struct {
	const char *level;
	size_t dims[LISTED_MAX], n_dims, rows[LISTED_MAX], n_rows, mib, reps;
	ops_getter against;
} args = { .dims = { 64, 128, 256 },
	   .n_dims = 3,
	   .rows = { 1, 8, 128 },
	   .n_rows = 3,
	   .mib = 128,
	   .reps = 11 };

/* What is walked: @n blocks of keys and values. */
struct cache {
	enum kv_type type;
	size_t dims, block, n; /* bytes of K, and of V, of a block; blocks */
	uint8_t *at;
};

struct pass {
	double seconds, ticks; /* the fewest so far */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float random_float(void)
{
	static uint32_t state = 1;

	state = state * 1664525 + 1013904223;
	return (float)(state >> 8) / (1 << 23) - 1.0f;
}

static bool cache_init(struct cache *c, enum kv_type type, size_t dims, const struct float_ops *f)
{
	float k[KV_MAX_HEAD_DIM], v[KV_MAX_HEAD_DIM];

	*c = (struct cache){ .type = type, .dims = dims, .block = kv_block_bytes(type, dims) };
	c->n = args.mib ? (args.mib << 20) / (2 * c->block) : CACHE_BLOCKS;
	c->at = mmap(NULL, c->n * 2 * c->block, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	if (c->at == MAP_FAILED)
		return false;
	madvise(c->at, c->n * 2 * c->block, MADV_HUGEPAGE);
	for (unsigned slot = 0; slot < KV_BLOCK; slot++) {
		for (size_t d = 0; d < dims; d++) {
			k[d] = random_float();
			v[d] = random_float();
		}
		f->kv_store(type, dims, slot, k, v, c->at, c->at + c->block);
	}
	for (size_t i = 1; i < c->n; i++)
		memcpy(c->at + i * 2 * c->block, c->at, 2 * c->block);
	return true;
}

static void walk(const struct cache *c, const struct float_ops *f, size_t rows, const float *q,
		 float *state, struct pass *best)
{
	struct attend_args a = { .type = c->type,
				 .head_dim = c->dims,
				 .n_valid = KV_BLOCK,
				 .rows = rows,
				 .q = q,
				 .m = state,
				 .l = state + rows,
				 .acc = state + 2 * rows };
	const size_t times = args.mib ? 1 : u64_max(1, 65536 / rows / CACHE_BLOCKS);
	double start, seconds, ticks;
	uint64_t tick;

	for (size_t r = 0; r < rows; r++)
		a.m[r] = -INFINITY;
	memset(a.l, 0, (rows + rows * c->dims) * sizeof(float));
	start = now();
	tick = __rdtsc();
	for (size_t t = 0; t < times; t++)
		for (size_t i = 0; i < c->n; i++) {
			a.k = c->at + i * 2 * c->block;
			a.v = (const uint8_t *)a.k + c->block;
			a.next_k = i + 1 < c->n ? (const uint8_t *)a.v + c->block : NULL;
			f->attend(&a);
		}
	ticks = (double)(__rdtsc() - tick) / (double)times;
	seconds = (now() - start) / (double)times;
	best->seconds = best->seconds > 0 ? fmin(best->seconds, seconds) : seconds;
	best->ticks = best->ticks > 0 ? fmin(best->ticks, ticks) : ticks;
}

static bool measure(const struct cache *c, const struct float_ops *f, size_t rows)
{
	const struct float_ops *their = args.against ? args.against(f->level) : NULL;
	const double products = 2.0 * (double)(KV_BLOCK * c->n * rows * c->dims);
	const size_t floats = rows * c->dims;
	float *q = aligned_alloc(64, 3 * align_up(floats * sizeof(float), 64));
	float *state = malloc((floats + 2 * rows) * sizeof(*state));
	float *turned = q ? q + align_up(floats, 16) : NULL,
	      *theirs = q ? q + 2 * align_up(floats, 16) : NULL;
	struct pass ours = { 0 }, other = { 0 };

	if (!q || !state) {
		free(q);
		free(state);
		return false;
	}
	for (size_t i = 0; i < floats; i++)
		turned[i] = theirs[i] = random_float() / 8;
	f->attend_query(turned, rows, c->dims);
	if (their)
		their->attend_query(theirs, rows, c->dims);
	for (size_t r = 0; r < args.reps; r++)
		for (int i = 0; i < 4; i++)
			if (i == 0 || i == 3)
				walk(c, f, rows, turned, state, &ours);
			else if (their)
				walk(c, their, rows, theirs, state, &other);
	printf("%-7s %-5s %4zu dims %4zu rows: %6.1f GB/s %7.1f 10^9 multiply-adds/s %6.1f ticks a 1000",
	       cpu_ops_get(f->level)->name, c->type == KV_F16 ? "f16" : "q8_0", c->dims, rows,
	       (double)(c->n * 2 * c->block) / ours.seconds / 1e9, products / ours.seconds / 1e9,
	       ours.ticks / products * 1000);
	if (their)
		printf("; theirs %7.1f, ours %.3f times as fast", products / other.seconds / 1e9,
		       other.seconds / ours.seconds);
	printf("\n");
	fflush(stdout);
	free(q);
	free(state);
	return true;
}

static bool parse_list(const char *text, size_t *list, size_t *n, size_t most)
{
	for (*n = 0; *text && *n < LISTED_MAX;) {
		char *end;
		const size_t x = strtoul(text, &end, 10);

		if (end == text || !x || x > most)
			return false;
		list[(*n)++] = x;
		text = *end ? end + 1 : end;
	}
	return *n > 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: attend [--level NAME] [--dims 64,...] [--rows 1,...] [--mib N] [--reps N] [--against FILE]\n");
	return 2;
}

static int measure_level(const struct float_ops *f)
{
	for (int type = KV_F16; type <= KV_Q8_0; type++)
		for (size_t d = 0; d < args.n_dims; d++) {
			struct cache c;

			if (args.dims[d] % kv_granule((enum kv_type)type))
				return usage();
			if (!cache_init(&c, (enum kv_type)type, args.dims[d], f)) {
				perror("attend: memory");
				return 1;
			}
			for (size_t r = 0; r < args.n_rows; r++)
				if (!measure(&c, f, args.rows[r]))
					return 1;
			munmap(c.at, c.n * 2 * c.block);
		}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "level", 1, NULL, 'l' },
		{ "dims", 1, NULL, 'd' },
		{ "rows", 1, NULL, 'r' },
		{ "mib", 1, NULL, 'm' },
		{ "against", 1, NULL, 'a' },
		{ "reps", 1, NULL, 'n' },
		{ 0 },
	};
	int err = 0;

	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
		void *other = o == 'a' ? dlopen(optarg, RTLD_NOW | RTLD_LOCAL) : NULL;

		if (o == 'a')
			args.against = other ? (ops_getter)dlsym(other, "float_ops_get") : NULL;
		if (o == 'l')
			args.level = optarg;
		else if (o == 'm')
			args.mib = strtoul(optarg, NULL, 10);
		else if (o == 'n')
			args.reps = strtoul(optarg, NULL, 10);
		else if ((o == 'a' && !args.against) ||
			 (o == 'd' &&
			  !parse_list(optarg, args.dims, &args.n_dims, KV_MAX_HEAD_DIM)) ||
			 (o == 'r' && !parse_list(optarg, args.rows, &args.n_rows, 4096)) ||
			 o == '?')
			return usage();
	}
	for (int level = CPU_LEVEL_NR - 1; level > CPU_SCALAR && !err; level--) {
		const struct float_ops *f = float_ops_get((enum cpu_level)level);

		if (f && (!args.level || !strcmp(args.level, cpu_ops_get(f->level)->name)))
			err = measure_level(f);
	}
	return err;
}
