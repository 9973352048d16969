/* SPDX-License-Identifier: MIT */
/*
 * tools/bench_report.c: rows of `sluice bench` as markdown, CSV or JSON. Names and order follow
 * llama-bench where it has the field, so that its readers work; ours come behind. One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/size.h"
#include "tools/bench.h"
#include "tools/input.h"
#include "tools/drafts.h"

/* general.file_type of GGUF (llama_ftype) in llama-bench's words; others are a number. */
static const struct {
	uint32_t id;
	const char *name;
} file_types[] = {
	{ 0, "all F32" },	 { 1, "F16" },
	{ 2, "Q4_0" },		 { 3, "Q4_1" },
	{ 7, "Q8_0" },		 { 8, "Q5_0" },
	{ 9, "Q5_1" },		 { 10, "Q2_K - Medium" },
	{ 11, "Q3_K - Small" },	 { 12, "Q3_K - Medium" },
	{ 13, "Q3_K - Large" },	 { 14, "Q4_K - Small" },
	{ 15, "Q4_K - Medium" }, { 16, "Q5_K - Small" },
	{ 17, "Q5_K - Medium" }, { 18, "Q6_K" },
	{ 19, "IQ2_XXS" },	 { 20, "IQ2_XS" },
	{ 21, "Q2_K - Small" },	 { 22, "IQ3_XS" },
	{ 23, "IQ3_XXS" },	 { 24, "IQ1_S" },
	{ 25, "IQ4_NL" },	 { 26, "IQ3_S" },
	{ 27, "IQ3_S mix" },	 { 28, "IQ2_S" },
	{ 29, "IQ2_M" },	 { 30, "IQ4_XS" },
	{ 31, "IQ1_M" },	 { 32, "BF16" },
	{ 36, "TQ1_0" },	 { 37, "TQ2_0" },
	{ 38, "MXFP4 MoE" },
};

static const char *file_type_name(uint32_t id)
{
	for (size_t i = 0; i < ARRAY_LEN(file_types); i++)
		if (file_types[i].id == id)
			return file_types[i].name;
	return "";
}

static uint32_t tokens(const struct bench_row *r)
{
	return r->n_prompt + r->n_gen;
}

static double sample_ts(const struct bench_row *r, uint32_t i)
{
	return r->samples_ns[i] ? 1e9 * tokens(r) / (double)r->samples_ns[i] : 0;
}

static double sample_value(const struct bench_row *r, uint32_t i, bool ns)
{
	return ns ? (double)r->samples_ns[i] : sample_ts(r, i);
}

static double mean(const struct bench_row *r, bool ns)
{
	double sum = 0;

	for (uint32_t i = 0; i < r->n_samples; i++)
		sum += sample_value(r, i, ns);
	return r->n_samples ? sum / r->n_samples : 0;
}

/* Of the sample (n - 1), 0 for one. */
static double deviation(const struct bench_row *r, bool ns)
{
	double m = mean(r, ns), sum = 0;

	if (r->n_samples < 2)
		return 0;
	for (uint32_t i = 0; i < r->n_samples; i++)
		sum += (sample_value(r, i, ns) - m) * (sample_value(r, i, ns) - m);
	return sqrt(sum / (r->n_samples - 1));
}

/* ---- what is ours ---- */

static double hit_ratio(const struct bench_row *r)
{
	uint64_t uses = r->hits + r->misses;

	return uses ? (double)r->hits / (double)uses : 1;
}

static double miss_bytes(const struct bench_row *r)
{
	uint64_t n = (uint64_t)tokens(r) * r->n_samples;

	return n ? (double)r->bytes_read / (double)n : 0;
}

static double read_gbs(const struct bench_row *r)
{
	return r->span_ns ? (double)r->bytes_read / (double)r->span_ns : 0;
}

/*
 * What a token in the middle of a test of generation reads of the sequence's own memory: keys and
 * values of all positions before it, and recurrent state. (Layers that look at a window read less.)
 */
static double sequence_bytes(const struct bench_report *b, const struct bench_row *r)
{
	double room = (double)b->status.n_ctx * b->status.n_parallel;

	if (!r->n_gen || room <= 0)
		return 0;
	return (double)b->status.kv_bytes / room * (r->n_depth + r->n_gen / 2.0) +
	       (double)b->status.state_bytes / b->status.n_parallel;
}

/* Read from memory per second while generating: every token reads all its weights once. */
static double memory_gbs(const struct bench_report *b, const struct bench_row *r)
{
	return r->n_gen ? mean(r, false) *
				  ((double)b->model.active_bytes_per_token + sequence_bytes(b, r)) /
				  1e9
			: 0;
}

/*
 * Multiply-adds with weights per second while a prompt is read: of a token's bytes as many weights as
 * they hold on an average of the file, without the output matrix, which few tokens meet.
 */
static double gmadds(const struct bench_report *b, const struct bench_row *r)
{
	const struct sluice_model_info *m = &b->model;
	double bytes = (double)m->dense_bytes + (double)m->expert_bytes_total;
	double weights;

	if (!r->n_prompt || bytes <= 0)
		return 0;
	weights = (double)m->active_bytes_per_token * (double)m->n_params / bytes -
		  (double)m->n_vocab * m->n_embd;
	return weights > 0 ? mean(r, false) * weights / 1e9 : 0;
}

static double share(double value, double peak)
{
	return peak > 0 ? value / peak : 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Speed with drafts over that without, the median of the repetitions, each with its own neighbour. */
static double reached(const struct bench_row *r)
{
	double ratios[BENCH_MAX_REPS];
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n_samples; i++)
		if (r->samples_ns[i] && r->plain_ns[i])
			ratios[n++] = (double)r->plain_ns[i] / (double)r->samples_ns[i];
	if (!n)
		return 1;
	qsort(ratios, n, sizeof(ratios[0]), by_value);
	return n % 2 ? ratios[n / 2] : (ratios[n / 2 - 1] + ratios[n / 2]) / 2;
}

/* As llama-bench names it: a device that launches kernels computes all but some experts. */
static const char *backend(const struct bench_row *r)
{
	return r->device.device.launches ? "CUDA" : "CPU";
}

/* ---- markdown ---- */

static void test_label(const struct bench_row *r, char *buf, size_t len)
{
	char depth[24] = "", oracle[24];

	if (r->n_depth)
		snprintf(depth, sizeof(depth), " @ d%u", r->n_depth);
	snprintf(oracle, sizeof(oracle), " R=%.2f", r->oracle);
	snprintf(buf, len, "%s%u%s%s", r->n_prompt ? "pp" : "tg", tokens(r), depth,
		 r->oracle < 0 ? "" : oracle);
}

static void print_md_row(const struct bench_report *b, const struct bench_row *r)
{
	uint64_t size = b->model.dense_bytes + b->model.expert_bytes_total;
	bool small = size < 1u << 30;
	char model[96], bytes[24], params[24], test[48], rate[48], disk[48], memory[48];
	char drafts[64] = "";
	double gbs = memory_gbs(b, r);

	snprintf(model, sizeof(model), "%s %s", b->model.arch, file_type_name(b->model.file_type));
	snprintf(bytes, sizeof(bytes), "%.2f %s", (double)size / (small ? 1 << 20 : 1 << 30),
		 small ? "MiB" : "GiB");
	if (b->model.n_params >= 1000000000)
		snprintf(params, sizeof(params), "%.2f B", (double)b->model.n_params / 1e9);
	else
		snprintf(params, sizeof(params), "%.2f M", (double)b->model.n_params / 1e6);
	test_label(r, test, sizeof(test));
	snprintf(rate, sizeof(rate), "%.2f ± %.2f", mean(r, false), deviation(r, false));
	snprintf(disk, sizeof(disk), "%.2f", read_gbs(r));
	if (b->peaks.disk_gbs > 0)
		snprintf(disk, sizeof(disk), "%.2f (%.0f %%)", read_gbs(r),
			 100 * share(read_gbs(r), b->peaks.disk_gbs));
	snprintf(memory, sizeof(memory), "%.1f", gbs);
	if (b->peaks.memory_gbs > 0 && gbs > 0)
		snprintf(memory, sizeof(memory), "%.1f (%.0f %%)", gbs,
			 100 * share(gbs, b->peaks.memory_gbs));
	/* "±" has two bytes and one column */
	if (b->drafts)
		snprintf(drafts, sizeof(drafts), " %12.2f | %12.2f | %8.2f |",
			 r->spec.steps ? (double)r->spec.columns / (double)r->spec.steps : 1,
			 r->spec.steps ? (double)r->spec.tokens / (double)r->spec.steps : 1,
			 drafts_gain(&r->spec));
	printf("| %-30s | %10s | %10s | %-8s | %7u | %15s | %21s | %6.2f %% | %10.3f | %8.2f | %14s "
	       "| %14s |%s\n",
	       model, bytes, params, backend(r), b->status.threads, test, rate, 100 * hit_ratio(r),
	       miss_bytes(r) / 1e6, (double)r->stall_ns / 1e9, disk, r->n_gen ? memory : "",
	       drafts);
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
			for (unsigned k = 0; k < SLUICE_COLUMNS; k++)
				printf(" %.2f", c->cost[k]);
			printf(", u (distinct experts)");
			for (unsigned k = 0; k < SLUICE_COLUMNS; k++)
				printf(" %.2f", c->experts[k]);
			printf("; whole steps took");
			for (unsigned k = 0; k < SLUICE_COLUMNS; k++)
				printf(" %.2f", c->step[k]);
			printf("\n");
		}
		most = bench_most(c, r->oracle, &length);
		test_label(r, test, sizeof(test));
		printf("%s: %.3f times the speed without drafts; possible %.3f (%u drafts); share "
		       "reached %.1f %%\n",
		       test, reached(r), most, length, 100 * reached(r) / most);
	}
}

/* Where prompts were read: how much of what the cores can multiply, where that is known. */
static void print_products(const struct bench_report *b)
{
	for (unsigned i = 0; i < b->n_rows; i++) {
		const struct bench_row *r = b->rows[i];
		char test[48], of[48] = "";

		if (gmadds(b, r) <= 0)
			continue;
		test_label(r, test, sizeof(test));
		if (b->peaks.gmadds > 0)
			snprintf(of, sizeof(of), ", %.0f %% of %.0f",
				 100 * share(gmadds(b, r), b->peaks.gmadds), b->peaks.gmadds);
		printf("%s: %.1f billion multiply-adds with weights a second%s\n", test,
		       gmadds(b, r), of);
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

/* ---- JSON and CSV ---- */

static json_t *samples(const struct bench_row *r, bool ns)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < r->n_samples; i++)
		json_array_append_new(array, ns ? json_integer((json_int_t)r->samples_ns[i])
						: json_real(sample_ts(r, i)));
	return array;
}

static void put_text(json_t *o, const char *name, const char *text)
{
	json_object_set_new(o, name, input_json_text(text, strlen(text)));
}

static void put_int(json_t *o, const char *name, uint64_t value)
{
	json_object_set_new(o, name, json_integer((json_int_t)value));
}

static void put_real(json_t *o, const char *name, double value)
{
	json_object_set_new(o, name, json_real(value));
}

/* In every row, so that a table of them has one width; null where there is no such share. */
static void put_share(json_t *o, const char *name, double value, double peak)
{
	json_object_set_new(o, name, peak > 0 ? json_real(value / peak) : json_null());
}

static json_t *reals(const double *values, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, json_real(values[i]));
	return array;
}

/* In every row; null where no drafts were handed in. */
static void put_oracle(json_t *o, const struct bench_row *r)
{
	const struct bench_columns *c = r->columns;
	unsigned length = 0;
	double most = c ? bench_most(c, r->oracle, &length) : 1;

	json_object_set_new(o, "speedup", c ? json_real(reached(r)) : json_null());
	json_object_set_new(o, "speedup_possible", c ? json_real(most) : json_null());
	json_object_set_new(o, "speedup_share", c ? json_real(reached(r) / most) : json_null());
	json_object_set_new(o, "best_length", c ? json_integer(length) : json_null());
	json_object_set_new(o, "routed_share", c ? json_real(c->routed_share) : json_null());
	json_object_set_new(o, "column_cost", reals(c ? c->cost : NULL, c ? SLUICE_COLUMNS : 0));
	json_object_set_new(o, "column_experts",
			    reals(c ? c->experts : NULL, c ? SLUICE_COLUMNS : 0));
}

/* Scalars, as CSV takes them too. */
static void put_spec(json_t *o, const struct bench_row *r)
{
	const struct sluice_spec_counts *c = &r->spec;

	json_object_set_new(o, "spec_oracle", r->oracle < 0 ? json_null() : json_real(r->oracle));
	put_int(o, "drafted", drafts_drafted(c));
	put_int(o, "accepted", drafts_accepted(c));
	put_real(o, "columns_per_step", c->steps ? (double)c->columns / (double)c->steps : 1);
	put_real(o, "tokens_per_step", c->steps ? (double)c->tokens / (double)c->steps : 1);
	put_real(o, "drafts_gain", drafts_gain(c));
	put_oracle(o, r);
}

/* Reads ahead of layers: null where no layer was guessed at. */
static void put_ahead(json_t *o, const struct bench_row *r)
{
	const struct sluice_predict_counts *p = &r->ahead;

	put_int(o, "predicted_reads", p->reads);
	put_int(o, "predicted_useful", p->useful);
	put_int(o, "predicted_late", p->late);
	put_int(o, "predicted_wasted", p->wasted);
	put_int(o, "predicted_wasted_bytes", p->wasted_bytes);
	json_object_set_new(o, "predicted_recall",
			    p->uses ? json_real((double)p->foreseen / (double)p->uses)
				    : json_null());
}

static void put_known(json_t *o, const char *name, double value)
{
	json_object_set_new(o, name, value >= 0 ? json_real(value) : json_null());
}

/* In every row; null where there is no device, or nothing to tell. */
static void put_device(json_t *o, const struct device_seen *d)
{
	const struct sluice_status_device *v = &d->device;
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {
		{ "device_vram_bytes", v->vram_bytes },	 { "device_slots", v->slots },
		{ "device_resident", v->resident },	 { "device_hits", v->hits },
		{ "device_misses", v->misses },		 { "device_fills", v->fills },
		{ "device_fill_bytes", v->fill_bytes },	 { "device_launches", v->launches },
		{ "device_fill_stops", d->fills.stops },
	};

	json_object_set_new(o, "device",
			    v->name[0] ? input_json_text(v->name, strlen(v->name)) : json_null());
	json_object_set_new(o, "device_state",
			    v->name[0] ? input_json_text(v->state, strlen(v->state)) : json_null());
	for (unsigned i = 0; i < ARRAY_LEN(counts); i++)
		json_object_set_new(o, counts[i].name,
				    v->name[0] ? json_integer((json_int_t)counts[i].value)
					       : json_null());
	put_known(o, "device_hit_rate", device_seen_hit_rate(d));
	put_known(o, "device_link_gbs", device_seen_link_gbs(d));
	put_known(o, "device_handoff_us", device_seen_handoff_us(d));
	put_known(o, "device_overlap", device_seen_overlap(d));
}

static json_t *row_json(const struct bench_report *b, const struct bench_row *r)
{
	json_t *o = json_object();
	char type[96];

	snprintf(type, sizeof(type), "%s %s", b->model.arch, file_type_name(b->model.file_type));
	put_text(o, "build_commit", b->status.version);
	put_text(o, "cpu_info", b->cpu);
	put_text(o, "backends", backend(r));
	put_text(o, "model_filename", b->path);
	put_text(o, "model_type", type);
	put_int(o, "model_size", b->model.dense_bytes + b->model.expert_bytes_total);
	put_int(o, "model_n_params", b->model.n_params);
	put_int(o, "n_batch", b->status.n_batch);
	put_int(o, "n_threads", b->status.threads);
	put_text(o, "type_k", b->status.kv);
	put_text(o, "type_v", b->status.kv);
	put_int(o, "n_prompt", r->n_prompt);
	put_int(o, "n_gen", r->n_gen);
	put_int(o, "n_depth", r->n_depth);
	put_text(o, "test_time", r->test_time);
	put_int(o, "avg_ns", (uint64_t)mean(r, true));
	put_int(o, "stddev_ns", (uint64_t)deviation(r, true));
	put_real(o, "avg_ts", mean(r, false));
	put_real(o, "stddev_ts", deviation(r, false));
	json_object_set_new(o, "samples_ns", samples(r, true));
	json_object_set_new(o, "samples_ts", samples(r, false));
	put_text(o, "tokens", b->text ? "text" : "random");
	put_text(o, "cpu", b->status.cpu);
	put_text(o, "io", b->status.io);
	put_text(o, "arena", b->status.arena);
	put_text(o, "policy", b->status.policy);
	put_int(o, "budget_bytes", b->status.budget_bytes);
	put_real(o, "hit_ratio", hit_ratio(r));
	put_real(o, "miss_bytes_per_token", miss_bytes(r));
	put_real(o, "memory_bytes_per_token", (double)b->model.active_bytes_per_token);
	put_real(o, "stall_seconds", (double)r->stall_ns / 1e9);
	put_real(o, "read_gbs", read_gbs(r));
	put_real(o, "memory_gbs", memory_gbs(b, r));
	put_real(o, "sequence_bytes_per_token", sequence_bytes(b, r));
	put_real(o, "gmadds", gmadds(b, r));
	put_share(o, "gmadds_share_of_peak", gmadds(b, r), b->peaks.gmadds);
	put_share(o, "read_share_of_peak", read_gbs(r), b->peaks.disk_gbs);
	put_share(o, "memory_share_of_peak", memory_gbs(b, r), r->n_gen ? b->peaks.memory_gbs : 0);
	put_spec(o, r);
	put_ahead(o, r);
	put_device(o, &r->device);
	return o;
}

static int print_json(const struct bench_report *b)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < b->n_rows; i++)
		json_array_append_new(array, row_json(b, b->rows[i]));
	return input_print_json(array, true);
}

static void print_quoted(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"')
			putchar('"');
		putchar(*text);
	}
	putchar('"');
}

/* The scalars of the JSON rows: one list of fields for both. */
static int print_csv(const struct bench_report *b)
{
	for (unsigned i = 0; i < b->n_rows; i++) {
		json_t *o = row_json(b, b->rows[i]), *v;
		const char *key, *comma = "";
		char number[64];

		if (!o)
			return -ENOMEM;
		for (int line = i ? 1 : 0; line < 2; line++, comma = "") {
			json_object_foreach(o, key, v)
			{
				if (json_is_array(v))
					continue;
				number[0] = '\0'; /* null: an empty cell */
				if (json_is_integer(v))
					snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
						 json_integer_value(v));
				else if (json_is_real(v))
					snprintf(number, sizeof(number), "%.9g",
						 json_real_value(v));
				fputs(comma, stdout);
				print_quoted(!line		 ? key
					     : json_is_string(v) ? json_string_value(v)
								 : number);
				comma = ",";
			}
			putchar('\n');
		}
		json_decref(o);
	}
	return 0;
}

int bench_print(const struct bench_report *r, enum bench_format format)
{
	if (format == BENCH_JSON)
		return print_json(r);
	if (format == BENCH_CSV)
		return print_csv(r);
	print_md(r);
	return 0;
}
