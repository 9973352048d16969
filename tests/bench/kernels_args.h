/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/kernels_args.h: what tests/bench/kernels.c was asked for, and the lists among it. Included by
 * kernels.c alone.
 */
#ifndef SLUICE_TESTS_BENCH_KERNELS_ARGS_H
#define SLUICE_TESTS_BENCH_KERNELS_ARGS_H

#include "tests/bench/kernels_run.h"

#define FEW_MAX	   8 /* columns that are measured against memory */
#define REPS_MAX   99
#define LISTED_MAX 64

enum output { TEXT, MARKDOWN, JSON };

static struct {
	unsigned reps;
	enum output output;
	bool anyway, disturbed;
	struct shape shape;
	const struct quant_format *format[LISTED_MAX];
	const struct cpu_ops *level[CPU_LEVEL_NR];
	void *against; /* dlopen()ed */
	size_t formats, levels, few[LISTED_MAX], n_few, many[LISTED_MAX], n_many;
} args = { .reps = 7, .shape = { 2048, 768 } };

static bool parse_formats(const char *list)
{
	for (uint32_t id = 0; id < 64 && !strcmp(list, "all"); id++) {
		const struct quant_format *f = quant_format(id);

		if (f && f->act != ACT_NONE)
			args.format[args.formats++] = f;
	}
	if (args.formats)
		return true;
	for (char *copy = strdup(list), *save = NULL, *name = strtok_r(copy, ",", &save); name;
	     name = strtok_r(NULL, ",", &save)) {
		const struct quant_format *found = format_named(name);

		if (!found || args.formats == LISTED_MAX) {
			fprintf(stderr, "kernels: unknown format %s\n", name);
			return false;
		}
		args.format[args.formats++] = found;
	}
	return args.formats > 0;
}

static bool parse_columns(const char *text)
{
	while (*text && args.n_few < LISTED_MAX && args.n_many < LISTED_MAX) {
		char *end;
		const size_t cols = strtoul(text, &end, 10);

		if (end == text || !cols || cols > COLS_MAX)
			return false;
		if (cols <= FEW_MAX)
			args.few[args.n_few++] = cols;
		else
			args.many[args.n_many++] = cols;
		text = *end ? end + 1 : end;
	}
	return args.n_few + args.n_many > 0;
}

static bool parse_levels(const char *name)
{
	if (strcmp(name, "all")) {
		args.levels = 1;
		if (!cpu_ops_parse(name, &args.level[0]))
			return true;
		fprintf(stderr, "kernels: level %s is not available here\n", name);
		return false;
	}
	for (int level = CPU_LEVEL_NR - 1; level > CPU_SCALAR; level--)
		if (cpu_ops_get((enum cpu_level)level))
			args.level[args.levels++] = cpu_ops_get((enum cpu_level)level);
	return true;
}

/* Bytes of the largest cache of a processor, as the kernel tells it (sysconf adds up all of a socket). */
static size_t last_cache(void)
{
	size_t most = 0;

	for (int i = 0; i < 8; i++) {
		char path[80];
		size_t kib;
		FILE *f;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
		f = fopen(path, "re");
		if (!f)
			break;
		if (fscanf(f, "%zuK", &kib) == 1)
			most = u64_max(most, kib << 10);
		fclose(f);
	}
	return most ? most : 32 << 20;
}

#endif
