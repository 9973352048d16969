/* SPDX-License-Identifier: MIT */
/*
 * tools/bench.h: rows of `sluice bench` between what measures (bench_run.c) and what prints
 * (bench_report.c, bench_json.c).
 */
#ifndef SLUICE_TOOLS_BENCH_H
#define SLUICE_TOOLS_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/device_shown.h"
#include "uapi/sluice.h"

#define BENCH_MAX_REPS 1000

/* One test: n_prompt or n_gen tokens behind n_depth others, and its repetitions. */
struct bench_row {
	uint32_t n_prompt, n_gen, n_depth;
	uint32_t n_samples;
	uint64_t samples_ns[BENCH_MAX_REPS];
	char test_time[32]; /* UTC, when it began */
	/* sums over the repetitions, timed parts only */
	uint64_t hits, misses, bytes_read, stall_ns, span_ns;
	double oracle; /* share of drafts that are right; < 0: no drafts were handed in */
	/* of a row with oracle: the same without drafts, beside each repetition; else 0 */
	uint64_t plain_ns[BENCH_MAX_REPS];
	const struct bench_columns *columns; /* measured for it; NULL: not */
	struct sluice_spec_counts spec;
	struct sluice_predict_counts ahead; /* sums over the repetitions; mode as it was last */
	struct device_seen device;	    /* the same */
};

/* What the formula for the most that drafts can give is made of, by columns of a step; [n - 1]. */
struct bench_columns {
	double routed_share;		/* of a token's bytes: routed experts */
	double cost[SLUICE_COLUMNS];	/* of all but them, in one column's; 0: not measured */
	double experts[SLUICE_COLUMNS]; /* distinct ones, in one column's; 1 without experts */
	double step[SLUICE_COLUMNS];	/* of all, in one column's; 0: not measured */
};

/* Of what the daemon counted, as means by columns in those of one. */
void bench_columns_tell(const struct sluice_model_info *m,
			const struct sluice_column_cost sum[SLUICE_COLUMNS],
			struct bench_columns *ret);

/*
 * The most that drafts of which the share @right is right can give, and the length that gives it: the
 * greatest over k of ((1 - R^(k+1)) / (1 - R)) / ((1 - s) c(k+1) + s u(k+1)). 1 (length 0) where nothing
 * was measured.
 */
double bench_most(const struct bench_columns *c, double right, unsigned *ret_length);

/* Rates of this machine, 0 where not known (sluice doctor --json measures them). */
struct bench_peaks {
	double memory_gbs, disk_gbs;
	double gmadds; /* 10^9 multiply-adds of bytes per second */
};

struct bench_report {
	struct sluice_model_info model;
	struct sluice_status_info status;
	char path[4096];
	char cpu[128];
	bool text;   /* real text, not random tokens */
	bool drafts; /* speculation was asked for: more columns */
	struct bench_peaks peaks;
	struct bench_row **rows;
	unsigned n_rows;
};

enum bench_format { BENCH_MD, BENCH_CSV, BENCH_JSON };

/* Prints all rows on stdout. 0 or -errno. bench_json.c has the last two. */
int bench_print_json(const struct bench_report *b);
int bench_print_csv(const struct bench_report *b);
int bench_print(const struct bench_report *r, enum bench_format format);

#endif
