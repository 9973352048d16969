/* SPDX-License-Identifier: MIT */
/*
 * tools/bench_report.c: rows of `sluice bench` as markdown, with what the table does not say below it. JSON
 * and CSV are in bench_json.c. Names and order follow llama-bench where it has the field. One thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "base/size.h"
#include "tools/bench.h"
#include "tools/bench_figures.h"
#include "tools/drafts.h"

static void test_label(const struct bench_row *r, char *buf, size_t len)
{
	char depth[24] = "", oracle[24];

	if (r->n_depth)
		snprintf(depth, sizeof(depth), " @ d%u", r->n_depth);
	snprintf(oracle, sizeof(oracle), " R=%.2f", r->oracle);
	snprintf(buf, len, "%s%u%s%s", r->n_prompt ? "pp" : "tg", bench_tokens(r), depth,
		 r->oracle < 0 ? "" : oracle);
}

static void print_md_row(const struct bench_report *b, const struct bench_row *r)
{
	uint64_t size = b->model.dense_bytes + b->model.expert_bytes_total;
	bool small = size < 1u << 30;
	char model[96], bytes[24], params[24], test[48], rate[48], disk[48], memory[48];
	char drafts[64] = "";
	double gbs = bench_memory_gbs(b, r);

	snprintf(model, sizeof(model), "%s %s", b->model.arch, bench_file_type(b->model.file_type));
	snprintf(bytes, sizeof(bytes), "%.2f %s", (double)size / (small ? 1 << 20 : 1 << 30),
		 small ? "MiB" : "GiB");
	if (b->model.n_params >= 1000000000)
		snprintf(params, sizeof(params), "%.2f B", (double)b->model.n_params / 1e9);
	else
		snprintf(params, sizeof(params), "%.2f M", (double)b->model.n_params / 1e6);
	test_label(r, test, sizeof(test));
	snprintf(rate, sizeof(rate), "%.2f ± %.2f", bench_mean(r, false),
		 bench_deviation(r, false));
	snprintf(disk, sizeof(disk), "%.2f", bench_read_gbs(r));
	if (b->peaks.disk_gbs > 0)
		snprintf(disk, sizeof(disk), "%.2f (%.0f %%)", bench_read_gbs(r),
			 100 * bench_share(bench_read_gbs(r), b->peaks.disk_gbs));
	snprintf(memory, sizeof(memory), "%.1f", gbs);
	if (b->peaks.memory_gbs > 0 && gbs > 0)
		snprintf(memory, sizeof(memory), "%.1f (%.0f %%)", gbs,
			 100 * bench_share(gbs, b->peaks.memory_gbs));
	/* "±" has two bytes and one column */
	if (b->drafts)
		snprintf(drafts, sizeof(drafts), " %12.2f | %12.2f | %8.2f |",
			 r->spec.steps ? (double)r->spec.columns / (double)r->spec.steps : 1,
			 r->spec.steps ? (double)r->spec.tokens / (double)r->spec.steps : 1,
			 drafts_gain(&r->spec));
	printf("| %-30s | %10s | %10s | %-8s | %7u | %15s | %21s | %6.2f %% | %10.3f | %8.2f | %14s "
	       "| %14s |%s\n",
	       model, bytes, params, bench_backend(r), b->status.threads, test, rate,
	       100 * bench_hit_ratio(r), bench_miss_bytes(r) / 1e6, (double)r->stall_ns / 1e9, disk,
	       r->n_gen ? memory : "", drafts);
}

/* A number of columns that no step had: -. */
static void print_columns(const double values[SLUICE_COLUMNS])
{
	for (unsigned k = 0; k < SLUICE_COLUMNS; k++)
		if (values[k] > 0)
			printf(" %.2f", values[k]);
		else
			fputs(" -", stdout);
}

/* What drafts could give at most on these costs, and what was reached of it. */
static void print_oracle(const struct bench_report *b)
{
	const struct bench_columns *c = NULL;
	unsigned length;

	for (unsigned i = 0; i < b->n_rows; i++) {
		const struct bench_row *r = b->rows[i];
		char test[48];
		double most;

		if (!r->columns)
			continue;
		if (r->columns != c) {
			c = r->columns;
			printf("\ns (routed share of a token's bytes) %.3f; for 1 to %d columns, c (cost of "
			       "all else)",
			       c->routed_share, SLUICE_COLUMNS);
			print_columns(c->cost);
			printf(", u (distinct experts)");
			print_columns(c->experts);
			printf("; whole steps took");
			print_columns(c->step);
			printf("\n");
		}
		most = bench_most(c, r->oracle, &length);
		test_label(r, test, sizeof(test));
		printf("%s: %.3f times the speed without drafts; possible %.3f (%u draft%s); share "
		       "reached %.1f %%\n",
		       test, bench_reached(r), most, length, length == 1 ? "" : "s",
		       100 * bench_reached(r) / most);
	}
}

/* Where prompts were read: how much of what the cores can multiply, where that is known. */
static void print_products(const struct bench_report *b)
{
	for (unsigned i = 0; i < b->n_rows; i++) {
		const struct bench_row *r = b->rows[i];
		char test[48], of[48] = "";

		if (bench_gmadds(b, r) <= 0)
			continue;
		test_label(r, test, sizeof(test));
		if (b->peaks.gmadds > 0)
			snprintf(of, sizeof(of), ", %.0f %% of %.0f",
				 100 * bench_share(bench_gmadds(b, r), b->peaks.gmadds),
				 b->peaks.gmadds);
		printf("%s: %.1f billion multiply-adds with weights a second%s\n", test,
		       bench_gmadds(b, r), of);
	}
}

static void print_ahead(const struct bench_report *b)
{
	for (unsigned i = 0; i < b->n_rows; i++) {
		const struct sluice_predict_counts *p = &b->rows[i]->ahead;
		char test[48];

		if (!p->reads)
			continue;
		test_label(b->rows[i], test, sizeof(test));
		printf("%s: %" PRIu64 " experts read ahead, %" PRIu64 " in time, %" PRIu64
		       " late, %" PRIu64 " not needed (%.1f MB); recall %.1f %%\n",
		       test, p->reads, p->useful, p->late, p->wasted, (double)p->wasted_bytes / 1e6,
		       p->uses ? 100 * (double)p->foreseen / (double)p->uses : 0.0);
	}
}

/* Of whole requests: tokens before the timed ones count too. */
static void print_device(const struct bench_report *b)
{
	for (unsigned i = 0; i < b->n_rows; i++) {
		char test[48];

		test_label(b->rows[i], test, sizeof(test));
		device_seen_print(test, &b->rows[i]->device);
	}
}

static void print_md(const struct bench_report *b)
{
	char budget[32];
	static const struct {
		const char *name;
		int width;
		bool right;
	} columns[] = {
		{ "model", 30, false },	      { "size", 10, true },
		{ "params", 10, true },	      { "backend", 8, false },
		{ "threads", 7, true },	      { "test", 15, true },
		{ "t/s", 20, true },	      { "hit rate", 8, true },
		{ "miss MB/t", 10, true },    { "stall s", 8, true },
		{ "disk GB/s", 14, true },    { "memory GB/s", 14, true },
		{ "columns/step", 12, true }, { "tokens/step", 12, true },
		{ "gain", 8, true },
	};
	size_t n = ARRAY_LEN(columns) - (b->drafts ? 0 : 3);

	for (size_t i = 0; i < n; i++)
		printf(columns[i].right ? "| %*s " : "| %-*s ", columns[i].width, columns[i].name);
	puts("|");
	for (size_t i = 0; i < n; i++) {
		printf("| ");
		for (int k = 1; k < columns[i].width; k++)
			putchar('-');
		printf("%c ", columns[i].right ? ':' : '-');
	}
	puts("|");
	for (unsigned i = 0; i < b->n_rows; i++)
		print_md_row(b, b->rows[i]);
	printf("\nbuild: %s; %s tokens; cpu %s, io %s, arena %s, kv %s, policy %s; budget %s, "
	       "%" PRIu64 " of %" PRIu64 " experts in memory\n",
	       b->status.version, b->text ? "text" : "random", b->status.cpu, b->status.io,
	       b->status.arena, b->status.kv, b->status.policy,
	       size_format(budget, sizeof(budget), b->status.budget_bytes),
	       b->status.experts_resident, b->status.experts_total);
	print_products(b);
	print_ahead(b);
	print_device(b);
	print_oracle(b);
}

int bench_print(const struct bench_report *r, enum bench_format format)
{
	if (format == BENCH_JSON)
		return bench_print_json(r);
	if (format == BENCH_CSV)
		return bench_print_csv(r);
	print_md(r);
	return 0;
}
