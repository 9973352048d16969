/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/cycles.c: what kernels cost when nothing waits for memory: ticks of the time stamp counter
 * for a block of weights, one thread, all in the first caches. The least of many runs, so that it tells
 * beside other work too where every time in tests/bench/kernels.c would be disturbed.
 *
 *   cycles [--level auto|scalar|avx2|avx512] [--format Q4_K,...] [--cols 1,2,4,8] [--shape NxROWS]
 *          [--runs N] [--clock RATIO] [--against FILE]
 *
 * For each format a line: ticks for 256 weights of one row with each number of columns (all of them
 * together), and with --against, as in kernels.c, its quotient by the other object's. A tick is not one of
 * the core's cycles: --clock says how many of them (the core's frequency by the counter's).
 */
#include <getopt.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "tests/bench/kernels_side.h"

static struct {
	const char *formats;
	const struct cpu_ops *ops;
	void *against;
	size_t n, rows, cols[8], n_cols;
	unsigned runs;
	double clock;
} args = { .formats = "Q4_K,Q6_K", .n = 2048, .rows = 16, .runs = 20000, .clock = 1 };

static uint64_t ticks(void)
{
#if defined(__x86_64__)
	unsigned unused;

	return __rdtscp(&unused);
#else
	return 0;
#endif
}

static uint64_t time_once(const struct side *s, const struct matmul *m)
{
	const uint64_t start = ticks();

	s->ops->matmul(m);
	return ticks() - start;
}

/* Least ticks of a product, of ours and theirs in turn. */
static void least(const struct side *side[2], const struct quant_format *f, const void *w,
		  size_t cols, uint64_t ret_least[2])
{
	ret_least[0] = ret_least[1] = UINT64_MAX;
	for (unsigned i = 0; i < args.runs; i++)
		for (int k = 0; k < 2 && side[k]; k++) {
			const struct matmul m = {
				.type = f->id,
				.w = w,
				.row_bytes = quant_row_bytes(f->id, args.n),
				.n = args.n,
				.row1 = args.rows,
				.x = side[k]->x,
				.y = side[k]->y,
				.cols = cols,
				.scratch = side[k]->scratch[0],
			};

			ret_least[k] = u64_min(ret_least[k], time_once(side[k], &m));
		}
}

static int measure(const struct quant_format *f)
{
	const size_t bytes = quant_row_bytes(f->id, args.n) * args.rows;
	const struct cpu_ops *other = ops_of_object(args.against, args.ops);
	static struct side ours, theirs;
	const struct side *side[2] = { &ours, args.against ? &theirs : NULL };
	uint8_t *w = aligned_alloc(64, align_up(bytes + (64 << 10), 64));
	int err = w && bytes && (other || !args.against) ? 0 : -1;

	err = err ?: side_init(&ours, args.ops, f, args.n, args.rows, 8, 1);
	if (!err && other)
		err = side_init(&theirs, other, f, args.n, args.rows, 8, 1);
	if (!err) {
		random_weights(f, w, bytes);
		printf("%-8s %-7s %zux%zu", f->name, args.ops->name, args.n, args.rows);
	}
	for (size_t c = 0; c < args.n_cols && !err; c++) {
		const double parts = (double)(args.n * args.rows) / 256;
		uint64_t t[2];

		least(side, f, w, args.cols[c], t);
		printf("  %zu: %7.2f", args.cols[c], args.clock * (double)t[0] / parts);
		if (other)
			printf(" (%.3f)", (double)t[0] / (double)t[1]);
	}
	printf(err ? "cycles: %s: no memory, no such shape, or not in that object\n" : "\n",
	       f->name);
	side_fini(&ours);
	side_fini(&theirs);
	free(w);
	return err;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: cycles [--level auto|scalar|avx2|avx512] [--format Q4_K,...] [--cols 1,2,4,8]\n"
		"              [--shape NxROWS] [--runs N] [--clock RATIO] [--against FILE]\n");
	return 2;
}

static bool parse_columns(const char *text)
{
	for (char *end; *text && args.n_cols < 8; text = *end ? end + 1 : end) {
		args.cols[args.n_cols] = strtoul(text, &end, 10);
		if (end == text || !args.cols[args.n_cols] || args.cols[args.n_cols] > 8)
			return false;
		args.n_cols++;
	}
	return args.n_cols > 0;
}

/* 0; 1: not here; 2: usage */
static int parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "level", 1, NULL, 'l' }, { "format", 1, NULL, 'f' },
		{ "cols", 1, NULL, 'c' },  { "shape", 1, NULL, 's' },
		{ "runs", 1, NULL, 'r' },  { "against", 1, NULL, 'a' },
		{ "clock", 1, NULL, 'k' }, { 0 }
	};
	const char *level = "auto", *columns = "1,2,4,8";
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'l')
			level = optarg;
		else if (o == 'f')
			args.formats = optarg;
		else if (o == 'c')
			columns = optarg;
		else if (o == 'r')
			args.runs = (unsigned)atoi(optarg);
		else if (o == 'k')
			args.clock = atof(optarg);
		else if (o == 'a')
			args.against = dlopen(optarg, RTLD_NOW | RTLD_LOCAL);
		else if (o != 's' || sscanf(optarg, "%zux%zu", &args.n, &args.rows) != 2)
			return 2;
		if (o == 'a' && !args.against) {
			fprintf(stderr, "cycles: %s\n", dlerror());
			return 1;
		}
	}
	if (!parse_columns(columns) || !args.runs || !args.n || !args.rows || optind != argc)
		return 2;
	if (!cpu_ops_parse(level, &args.ops))
		return 0;
	fprintf(stderr, "cycles: level %s is not available here\n", level);
	return 1;
}

int main(int argc, char **argv)
{
	const int err = parse(argc, argv);
	char *save = NULL;

	if (err)
		return err == 2 ? usage() : err;
	for (char *list = strdup(args.formats), *name = strtok_r(list, ",", &save); name;
	     name = strtok_r(NULL, ",", &save)) {
		const struct quant_format *f = format_named(name);

		if (!f) {
			fprintf(stderr, "cycles: unknown format %s\n", name);
			return 1;
		}
		if (measure(f))
			return 1;
	}
	return 0;
}
