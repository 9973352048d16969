/* SPDX-License-Identifier: MIT */
/* tools/bench_figures.c: see bench_figures.h. */
#include "tools/bench_figures.h"

#include <math.h>
#include <stdlib.h>

#include "base/num.h"

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

const char *bench_file_type(uint32_t id)
{
	for (size_t i = 0; i < ARRAY_LEN(file_types); i++)
		if (file_types[i].id == id)
			return file_types[i].name;
	return "";
}

uint32_t bench_tokens(const struct bench_row *r)
{
	return r->n_prompt + r->n_gen;
}

double bench_sample_ts(const struct bench_row *r, uint32_t i)
{
	return r->samples_ns[i] ? 1e9 * bench_tokens(r) / (double)r->samples_ns[i] : 0;
}

static double sample_value(const struct bench_row *r, uint32_t i, bool ns)
{
	return ns ? (double)r->samples_ns[i] : bench_sample_ts(r, i);
}

double bench_mean(const struct bench_row *r, bool ns)
{
	double sum = 0;

	for (uint32_t i = 0; i < r->n_samples; i++)
		sum += sample_value(r, i, ns);
	return r->n_samples ? sum / r->n_samples : 0;
}

double bench_deviation(const struct bench_row *r, bool ns)
{
	double m = bench_mean(r, ns), sum = 0;

	if (r->n_samples < 2)
		return 0;
	for (uint32_t i = 0; i < r->n_samples; i++)
		sum += (sample_value(r, i, ns) - m) * (sample_value(r, i, ns) - m);
	return sqrt(sum / (r->n_samples - 1));
}

double bench_hit_ratio(const struct bench_row *r)
{
	uint64_t uses = r->hits + r->misses;

	return uses ? (double)r->hits / (double)uses : 1;
}

double bench_miss_bytes(const struct bench_row *r)
{
	uint64_t n = (uint64_t)bench_tokens(r) * r->n_samples;

	return n ? (double)r->bytes_read / (double)n : 0;
}

double bench_read_gbs(const struct bench_row *r)
{
	return r->span_ns ? (double)r->bytes_read / (double)r->span_ns : 0;
}

double bench_sequence_bytes(const struct bench_report *b, const struct bench_row *r)
{
	double room = (double)b->status.n_ctx * b->status.n_parallel;

	if (!r->n_gen || room <= 0)
		return 0;
	return (double)b->status.kv_bytes / room * (r->n_depth + r->n_gen / 2.0) +
	       (double)b->status.state_bytes / b->status.n_parallel;
}

double bench_memory_gbs(const struct bench_report *b, const struct bench_row *r)
{
	return r->n_gen ? bench_mean(r, false) *
				  ((double)b->model.active_bytes_per_token +
				   bench_sequence_bytes(b, r)) /
				  1e9
			: 0;
}

double bench_gmadds(const struct bench_report *b, const struct bench_row *r)
{
	const struct sluice_model_info *m = &b->model;
	double bytes = (double)m->dense_bytes + (double)m->expert_bytes_total;
	double weights;

	if (!r->n_prompt || bytes <= 0)
		return 0;
	weights = (double)m->active_bytes_per_token * (double)m->n_params / bytes -
		  (double)m->n_vocab * m->n_embd;
	return weights > 0 ? bench_mean(r, false) * weights / 1e9 : 0;
}

double bench_share(double value, double peak)
{
	return peak > 0 ? value / peak : 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bench_reached(const struct bench_row *r)
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

const char *bench_backend(const struct bench_row *r)
{
	return r->device.device.launches ? "CUDA" : "CPU";
}
