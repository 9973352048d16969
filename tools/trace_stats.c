/* SPDX-License-Identifier: MIT */
/*
 * tools/trace_stats.c: `sluice trace stats`: how much a cache could gain from this routing.
 *
 * Two figures say most: the share of uses that falls on the most used experts (what a fixed list
 * could serve) and the share of a token's experts that the token before used too (what the shortest
 * memory serves). One thread.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tools/trace.h"
#include "tools/verbs.h"
#include "trace/sim.h"

static const double shares[] = { 0.05, 0.10, 0.25, 0.50 };

struct stats {
	uint64_t steps, tokens, prefill_tokens, decode_tokens;
	uint64_t experts_seen;
	uint32_t experts;	       /* in all layers that have any */
	double top[ARRAY_LEN(shares)]; /* share of uses on the most used experts */
	double repeated;	       /* share of decode uses that the token before used too */
	uint64_t bytes_per_token;      /* of experts; 0: the trace does not say sizes */
	uint64_t dense_bytes;	       /* of all weights but the experts; 0: likewise */
	uint64_t dense_bytes_per_token;
};

static int falling(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x < y) - (x > y);
}

/* Sorts @uses. */
/* @n ids, of which @n_experts are experts (a layer may have none). */
static void count_top(struct stats *s, double *uses, size_t n, size_t n_experts)
{
	double all = 0, sum = 0;
	size_t i = 0;

	qsort(uses, n, sizeof(*uses), falling);
	for (size_t k = 0; k < n; k++) {
		all += uses[k];
		s->experts_seen += uses[k] > 0;
	}
	for (size_t k = 0; k < ARRAY_LEN(shares); k++) {
		for (; i < (size_t)(shares[k] * (double)n_experts); i++)
			sum += uses[i];
		s->top[k] = all > 0 ? sum / all : 0;
	}
}

static bool uses_expert(const struct route_trace *t, const struct trace_row *row, uint32_t expert)
{
	for (uint32_t k = 0; k < row->n; k++)
		if (t->uses[row->first + k].expert == expert)
			return true;
	return false;
}

/* Decode rows against the row of the same sequence and layer one position earlier. */
static double repeated_share(const struct route_trace *t)
{
	size_t last[TRACE_MAX_LAYERS]; /* index + 1 of a layer's last row */
	uint64_t again = 0, all = 0;

	memset(last, 0, sizeof(last));
	for (size_t i = 0; i < t->n_rows; i++) {
		const struct trace_row *row = &t->rows[i], *before;

		before = last[row->layer] ? &t->rows[last[row->layer] - 1] : NULL;
		last[row->layer] = i + 1;
		if (!before || row->phase != TRACE_DECODE || before->seq != row->seq ||
		    before->pos + 1 != row->pos)
			continue;
		all += row->n;
		for (uint32_t k = 0; k < row->n; k++)
			again += uses_expert(t, before, t->uses[row->first + k].expert);
	}
	return all ? (double)again / (double)all : 0;
}

static void count_rows(const struct route_trace *t, struct stats *s)
{
	uint64_t last_step = 0;

	for (size_t i = 0; i < t->n_rows; i++) {
		const struct trace_row *row = &t->rows[i];

		s->steps += !i || row->step != last_step;
		last_step = row->step;
		if (row->layer)
			continue;
		s->tokens++;
		s->prefill_tokens += row->phase == TRACE_PREFILL;
		s->decode_tokens += row->phase == TRACE_DECODE;
	}
	for (uint32_t l = 0; l < t->n_layers; l++) {
		s->bytes_per_token += t->layers[l].expert_bytes * t->n_expert_used;
		s->dense_bytes += t->layers[l].dense_bytes;
	}
	s->dense_bytes_per_token = s->dense_bytes + t->outside.token_bytes;
	s->dense_bytes += t->outside.dense_bytes;
}

static int print_json(const struct route_trace *t, const struct stats *s)
{
	json_t *top = json_array(), *root;

	for (size_t k = 0; k < ARRAY_LEN(shares); k++)
		json_array_append_new(
			top, json_pack("{s:f,s:f}", "experts", shares[k], "uses", s->top[k]));
	root = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:o}",
			 "model", t->model, "arch", t->arch, "layers", (json_int_t)t->n_layers,
			 "experts", (json_int_t)t->n_expert, "experts_used",
			 (json_int_t)t->n_expert_used, "steps", (json_int_t)s->steps,
			 "prefill_tokens", (json_int_t)s->prefill_tokens, "decode_tokens",
			 (json_int_t)s->decode_tokens, "uses", (json_int_t)t->n_uses, "frequencies",
			 (json_int_t)t->n_frequencies, "experts_seen", (json_int_t)s->experts_seen,
			 "lost", (json_int_t)t->lost, "bytes_per_token",
			 (json_int_t)s->bytes_per_token, "dense_bytes", (json_int_t)s->dense_bytes,
			 "dense_bytes_per_token", (json_int_t)s->dense_bytes_per_token, "repeated",
			 s->repeated, "top", top);
	if (!root) {
		fprintf(stderr, "sluice trace: the names in the trace are not UTF-8\n");
		json_decref(top);
		return EXIT_FAILED;
	}
	json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(root);
	return EXIT_OK;
}

static void print_text(const struct route_trace *t, const struct stats *s)
{
	printf("%s%s%s: %u layers of %u experts, %u used\n", *t->model ? t->model : "(no name)",
	       *t->arch ? ", " : "", t->arch, t->n_layers, t->n_expert, t->n_expert_used);
	if (t->n_rows)
		printf("%llu steps, %llu prompt tokens, %llu generated, %zu uses\n",
		       (unsigned long long)s->steps, (unsigned long long)s->prefill_tokens,
		       (unsigned long long)s->decode_tokens, t->n_uses);
	if (t->n_frequencies)
		printf("%zu frequencies\n", t->n_frequencies);
	if (t->lost)
		printf("%llu rows were lost while recording\n", (unsigned long long)t->lost);
	printf("%llu of %u experts are used at all\n", (unsigned long long)s->experts_seen,
	       s->experts);
	for (size_t k = 0; k < ARRAY_LEN(shares); k++)
		printf("the most used %2.0f %% of experts take %4.1f %% of uses\n", shares[k] * 100,
		       s->top[k] * 100);
	if (s->decode_tokens > 1)
		printf("%4.1f %% of a token's experts were used by the token before\n",
		       s->repeated * 100);
	if (s->bytes_per_token)
		printf("%.1f MiB of expert weights per token\n",
		       (double)s->bytes_per_token / 1048576.0);
	if (s->dense_bytes)
		printf("%.1f MiB of other weights, %.1f MiB of them per token\n",
		       (double)s->dense_bytes / 1048576.0,
		       (double)s->dense_bytes_per_token / 1048576.0);
}

int trace_stats(const struct route_trace *t, const char *path, const struct trace_args *args)
{
	double *uses = trace_count_uses(t);
	struct stats s = { 0 };
	uint32_t least;

	if (!uses) {
		fprintf(stderr, "sluice trace: %s: out of memory\n", path);
		return EXIT_FAILED;
	}
	count_rows(t, &s);
	sim_slots(t, &least, &s.experts);
	count_top(&s, uses, (size_t)t->n_layers * t->n_expert, s.experts);
	s.repeated = repeated_share(t);
	free(uses);
	if (args->json)
		return print_json(t, &s);
	print_text(t, &s);
	return EXIT_OK;
}
