/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/kernels.c: how fast weights are multiplied, against what this machine can do.
 *
 * Up to eight columns (decode, drafts, a few sequences): GB of weights per second from memory, beside a
 * plain read of the same memory by the same threads, and the time of each number of columns beside that
 * of one. A repetition runs the read and every number of columns, and all again backwards; ratios are
 * medians over repetitions of the ratio within one. More columns (prefill): multiply-adds per second,
 * beside the rate of vpdpbusd in a loop of nothing else (AVX-512 VNNI alone).
 *
 * The working set is at least four times the last cache. Runs in which a thread lost its processor are
 * done again; where too few are left, where others had processors, or where the read itself scatters,
 * no ratio is printed but "disturbed" (--anyway prints it marked by "~").
 *
 * --against FILE: a shared object with the kernels of another commit, for time / its time, in turn
 * A-B-B-A within this program. To make one in that tree, built as usual:
 *   gcc -shared -Wl,-Bsymbolic -o FILE build/obj/kernels/cpu/(all).o build/obj/kernels/quant.o
 *
 * Exit status 0: measured; 1: cannot; 2: usage; 3: disturbed.
 */
#include <getopt.h>
#include <sys/mman.h>

#include "base/limits.h"
#include "tests/bench/kernels_args.h"
#include "tests/bench/kernels_run.h"

#define OTHERS_MOST  0.05 /* of a processor */
#define SCATTER_MOST 0.10 /* of the read rate: between its quartiles */

static struct side ours, theirs;

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double quantile(const double *values, unsigned n, double at)
{
	double v[REPS_MAX];
	unsigned i = (unsigned)(at * (n - 1));

	memcpy(v, values, n * sizeof(*v));
	qsort(v, n, sizeof(*v), compare);
	return i + 1 < n ? v[i] + (at * (n - 1) - i) * (v[i + 1] - v[i]) : v[n - 1];
}

static double median(const double *v, unsigned n)
{
	return quantile(v, n, 0.5);
}

/* What a number of columns took in each repetition: ratios within it. */
struct times {
	size_t cols;
	double rate[REPS_MAX], share[REPS_MAX], times[REPS_MAX], against[REPS_MAX];
};

/* Seconds of @cols columns: all matrices, and of the other object beside it. */
static double run_columns(size_t cols, double *ret_theirs)
{
	double s;

	bench.cols = cols;
	bench.side = &ours;
	s = run(JOB_MULTIPLY);
	if (args.against) {
		bench.side = &theirs;
		*ret_theirs = run(JOB_MULTIPLY) + run(JOB_MULTIPLY);
		bench.side = &ours;
		s += run(JOB_MULTIPLY);
	}
	return s;
}

/* One repetition; false: disturbed. */
static bool repeat_few(struct times *t, unsigned i, double bytes, double *ret_read)
{
	double seconds[LISTED_MAX] = { 0 }, other[LISTED_MAX] = { 0 };
	const double runs = args.against ? 4 : 2;
	const unsigned before = bench.disturbed;
	double one = 0, read = run(JOB_READ);

	for (size_t k = 0; k < 2 * args.n_few; k++) {
		const size_t at = k < args.n_few ? k : 2 * args.n_few - 1 - k;
		double theirs_seconds = 0;

		seconds[at] += run_columns(args.few[at], &theirs_seconds);
		other[at] += theirs_seconds;
	}
	read += run(JOB_READ);
	*ret_read = 2 * (double)read_bytes() / read;
	for (size_t k = 0; k < args.n_few; k++)
		if (args.few[k] == 1)
			one = seconds[k];
	for (size_t k = 0; k < args.n_few; k++) {
		t[k].rate[i] = runs * bytes / seconds[k];
		t[k].share[i] = t[k].rate[i] / *ret_read;
		t[k].times[i] = one > 0 ? seconds[k] / one : 0;
		t[k].against[i] = other[k] > 0 ? seconds[k] / other[k] : 0;
	}
	return bench.disturbed == before;
}

/* Repetitions into @t and @read, undisturbed ones if there are so many; returns whether there are. */
static bool measure_few(struct times *t, double *read)
{
	const size_t matrix = quant_row_bytes(bench.format->id, bench.shape.n) * bench.shape.rows;
	double unused;
	bool quiet = true;
	unsigned n = 0;

	bench.matrices = bench.bytes / matrix / SLICES;
	guard_start();
	run_columns(args.few[0], &unused);
	/* as many disturbed repetitions as there may be undisturbed ones are thrown away */
	for (unsigned bad = 0; n < args.reps;)
		if (repeat_few(t, n, (double)(matrix * bench.matrices), &read[n]) ||
		    bad++ >= args.reps)
			n++;
	if (bench.disturbed > bench.runs / 4)
		quiet = false;
	if (quantile(read, args.reps, 0.75) - quantile(read, args.reps, 0.25) >
	    SCATTER_MOST * median(read, args.reps))
		quiet = false;
	return quiet && guard_others() <= OTHERS_MOST;
}

static void cell(const char *text)
{
	static const char *const form[] = { [TEXT] = "%-13s", [MARKDOWN] = " %s |" };

	printf(form[args.output], text);
}

static void line_begin(void)
{
	if (args.output == MARKDOWN)
		putchar('|');
}

static void heading(const char *const *names, size_t n)
{
	if (args.output == JSON)
		return;
	line_begin();
	for (size_t i = 0; i < n; i++)
		cell(names[i]);
	putchar('\n');
	if (args.output == MARKDOWN) {
		putchar('|');
		for (size_t i = 0; i < n; i++)
			printf("---|");
		putchar('\n');
	}
}

static void heading_few(void)
{
	char text[LISTED_MAX][32];
	const char *names[5 + 2 * LISTED_MAX] = { "format", "level", "n x rows", "read, GB/s" };
	size_t n = 4;

	for (size_t k = 0; k < args.n_few; k++) {
		snprintf(text[k], sizeof(text[k]), "%zu col%s", args.few[k],
			 args.few[k] == 1 ? "umn" : "s");
		names[n++] = text[k];
		if (args.against)
			names[n++] = "/ theirs";
	}
	heading(names, n);
}

static void name_cells(void)
{
	char text[48];

	line_begin();
	cell(bench.format->name);
	cell(ours.ops->name);
	snprintf(text, sizeof(text), "%zux%zu", bench.shape.n, bench.shape.rows);
	cell(text);
}

static void json_begin(const char *kind, size_t cols)
{
	static bool later;

	printf("%s\n {\"kind\":\"%s\",\"level\":\"%s\",\"format\":\"%s\",\"n\":%zu,\"rows\":%zu,"
	       "\"cols\":%zu,\"threads\":%u,\"mib\":%zu",
	       later ? "," : "[", kind, ours.ops->name, bench.format->name, bench.shape.n,
	       bench.shape.rows, cols, bench.threads, bench.bytes >> 20);
	later = true;
}

static void report_few_json(const struct times *t, const double *read, bool quiet)
{
	for (size_t k = 0; k < args.n_few; k++) {
		json_begin("columns", t[k].cols);
		printf(",\"unit\":\"GB/s\",\"rate\":%.4g,\"read\":%.4g,\"disturbed\":%s",
		       median(t[k].rate, args.reps) * 1e-9, median(read, args.reps) * 1e-9,
		       quiet ? "false" : "true");
		if (quiet || args.anyway) {
			printf(",\"share\":%.4f", median(t[k].share, args.reps));
			if (t[k].times[0] > 0)
				printf(",\"times_one\":%.4f", median(t[k].times, args.reps));
			if (args.against)
				printf(",\"times_theirs\":%.4f", median(t[k].against, args.reps));
		}
		putchar('}');
	}
}

static void report_few(const struct times *t, const double *read, bool quiet)
{
	const char *mark = quiet ? "" : "~";
	char text[48];

	if (args.output == JSON) {
		report_few_json(t, read, quiet);
		return;
	}
	name_cells();
	snprintf(text, sizeof(text), "%.1f", median(read, args.reps) * 1e-9);
	cell(text);
	for (size_t k = 0; k < args.n_few; k++) {
		const double share = median(t[k].share, args.reps) * 100;

		if (t[k].times[0] > 0 && t[k].cols > 1)
			snprintf(text, sizeof(text), "%s%.2f (%.0f %%)", mark,
				 median(t[k].times, args.reps), share);
		else
			snprintf(text, sizeof(text), "%s%.0f %%", mark, share);
		cell(quiet || args.anyway ? text : "disturbed");
		if (!args.against)
			continue;
		snprintf(text, sizeof(text), "%s%.3f", mark, median(t[k].against, args.reps));
		cell(quiet || args.anyway ? text : "disturbed");
	}
	putchar('\n');
	fflush(stdout);
}

/* Columns past FEW_MAX: the rate of multiply-adds beside the peak's. */
static void measure_many(size_t cols)
{
	const size_t matrix = quant_row_bytes(bench.format->id, bench.shape.n) * bench.shape.rows;
	const double macs = (double)bench.shape.n * (double)bench.shape.rows * (double)cols;
	double rate[REPS_MAX], share[REPS_MAX], peak_work, per_run;
	char text[48];
	bool quiet;

	/* about a tenth of a second each */
	bench.peak_rounds = 20000000 / 2;
	peak_work = (double)bench.threads * (double)bench.peak_rounds * 16 * 64;
	bench.matrices = u64_min(bench.bytes / matrix / SLICES,
				 u64_max(4, (uint64_t)(bench.threads * 15e9 / macs)));
	per_run = macs * (double)bench.matrices;
	bench.side = &ours;
	bench.cols = cols;
	guard_start();
	run(JOB_MULTIPLY);
	for (unsigned i = 0; i < args.reps; i++) {
		double peak = run(JOB_PEAK), s = run(JOB_MULTIPLY) + run(JOB_MULTIPLY);

		peak += run(JOB_PEAK);
		rate[i] = 2 * per_run / s;
		share[i] = rate[i] / (2 * peak_work / peak);
	}
	quiet = bench.disturbed <= bench.runs / 4 && guard_others() <= OTHERS_MOST;
	args.disturbed |= !quiet;
	if (args.output == JSON) {
		json_begin("many", cols);
		printf(",\"unit\":\"GMAC/s\",\"rate\":%.4g,\"disturbed\":%s",
		       median(rate, args.reps) * 1e-9, quiet ? "false" : "true");
		if (quiet || args.anyway)
			printf(",\"share\":%.4f", median(share, args.reps));
		putchar('}');
		return;
	}
	name_cells();
	snprintf(text, sizeof(text), "%zu", cols);
	cell(text);
	snprintf(text, sizeof(text), "%.1f", median(rate, args.reps) * 1e-9);
	cell(text);
	snprintf(text, sizeof(text), "%s%.0f %%", quiet ? "" : "~", median(share, args.reps) * 100);
	cell(quiet || args.anyway ? text : "disturbed");
	putchar('\n');
	fflush(stdout);
}

static int measure_level(const struct cpu_ops *ops, bool few)
{
	static struct times t[LISTED_MAX];
	const struct cpu_ops *other = few ? ops_of_object(args.against, ops) : NULL;
	size_t most = FEW_MAX;
	double read[REPS_MAX];
	int err = 0;

	for (size_t k = 0; k < args.n_many && !few; k++)
		most = u64_max(most, args.many[k]);
	err = side_init(&ours, ops, bench.format, args.shape.n, args.shape.rows, most,
			bench.threads);
	if (!err && few && args.against)
		err = other ? side_init(&theirs, other, bench.format, args.shape.n, args.shape.rows,
					most, bench.threads)
			    : -1;
	for (size_t k = 0; k < args.n_few; k++)
		t[k].cols = args.few[k];
	if (!err && few) {
		const bool quiet = measure_few(t, read);

		args.disturbed |= !quiet;
		report_few(t, read, quiet);
	}
	for (size_t k = 0; k < args.n_many && !few && !err; k++)
		measure_many(args.many[k]);
	side_fini(&ours);
	side_fini(&theirs);
	return err;
}

static int measure_formats(bool few)
{
	for (size_t i = 0; i < args.formats; i++) {
		const struct quant_format *f = args.format[i];
		const uint64_t row = quant_row_bytes(f->id, args.shape.n);

		if (!row || row * args.shape.rows > bench.bytes / SLICES) {
			fprintf(stderr, "kernels: %s: shape does not fit\n", f->name);
			continue;
		}
		bench.format = f;
		bench.shape = args.shape;
		random_weights(f, bench.weights, bench.bytes);
		for (size_t l = 0; l < args.levels; l++)
			if (measure_level(args.level[l], few)) {
				fprintf(stderr, "kernels: %s: no memory, or not in that object\n",
					f->name);
				return 1;
			}
	}
	return 0;
}

static int measure(void)
{
	static const char *const many[] = { "format", "level",	"n x rows",
					    "cols",   "GMAC/s", "of the peak" };
	int err = 0;

	if (args.n_few) {
		heading_few();
		err = measure_formats(true);
	}
	if (!err && args.n_many && !has_peak())
		fprintf(stderr,
			"kernels: no AVX-512 VNNI here: nothing to hold many columns against\n");
	if (!err && args.n_many && has_peak()) {
		heading(many, ARRAY_LEN(many));
		err = measure_formats(false);
	}
	if (args.output == JSON)
		printf("\n]\n");
	if (args.disturbed)
		fprintf(stderr, "kernels: the machine was disturbed%s\n",
			args.anyway ? ": ratios marked ~ are worth little"
				    : ": ratios are left out (--anyway prints them)");
	return err ? err : args.disturbed ? 3 : 0;
}

static int map_weights(void)
{
	/* what reads ahead reads a little beyond the end */
	bench.weights = mmap(NULL, bench.bytes + (2 << 20), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bench.weights == MAP_FAILED) {
		perror("kernels: mmap");
		return -1;
	}
	madvise(bench.weights, bench.bytes + (2 << 20), MADV_HUGEPAGE);
	return 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: kernels [--threads N] [--level auto|all|scalar|avx2|avx512] [--format all|Q4_K,...]\n"
		"               [--shape NxROWS] [--cols 1,2,...] [--mib N] [--reps N] [--against FILE]\n"
		"               [--markdown | --json] [--anyway]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "threads", 1, NULL, 't' },  { "level", 1, NULL, 'l' },
		{ "format", 1, NULL, 'f' },   { "shape", 1, NULL, 's' },
		{ "cols", 1, NULL, 'c' },     { "mib", 1, NULL, 'm' },
		{ "reps", 1, NULL, 'r' },     { "json", 0, NULL, 'j' },
		{ "markdown", 0, NULL, 'd' }, { "against", 1, NULL, 'a' },
		{ "anyway", 0, NULL, 'w' },   { 0 }
	};
	const char *level = "auto", *columns = "1,2,3,4,5,6,7,8", *formats = "Q4_K,Q6_K";
	size_t mib = align_up(4 * last_cache(), 1 << 20) >> 20;
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
			formats = optarg;
		else if (o == 's' &&
			 sscanf(optarg, "%zux%zu", &args.shape.n, &args.shape.rows) == 2)
			continue;
		else if (o == 'c')
			columns = optarg;
		else if (o == 'm')
			mib = strtoul(optarg, NULL, 10);
		else if (o == 'r')
			args.reps = (unsigned)atoi(optarg);
		else if (o == 'j' || o == 'd')
			args.output = o == 'j' ? JSON : MARKDOWN;
		else if (o == 'a')
			args.against = dlopen(optarg, RTLD_NOW | RTLD_LOCAL);
		else if (o == 'w')
			args.anyway = true;
		else
			return usage();
		if (o == 'a' && !args.against) {
			fprintf(stderr, "kernels: %s\n", dlerror());
			return 1;
		}
	}
	if (!parse_columns(columns) || !parse_formats(formats) || !bench.threads ||
	    bench.threads > THREADS_MAX || !args.reps || args.reps > REPS_MAX || !mib ||
	    mib > 1 << 20 || !args.shape.n || !args.shape.rows || optind != argc)
		return usage();
	if (!parse_levels(level))
		return 1;
	bench.bytes = mib << 20;
	if (bench.bytes < 4 * last_cache() && !args.anyway) {
		fprintf(stderr,
			"kernels: less than four times the last cache of %zu MiB (--anyway)\n",
			last_cache() >> 20);
		return 1;
	}
	if (map_weights() || workers_start())
		return 1;
	status = measure();
	workers_stop();
	munmap(bench.weights, bench.bytes + (2 << 20));
	return status;
}
