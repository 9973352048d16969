/* SPDX-License-Identifier: MIT */
/*
 * tools/bench_run.c: one test of `sluice bench`, its warm-up and repetitions; with drafts of which a share is
 * right, also the same without and what steps of each number of columns cost. See bench_run.h.
 */
#include "tools/bench_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/client.h"
#include "tools/drafts.h"
#include "tools/verbs.h"

#define TOP_K 64 /* generated tokens are drawn from so many */

static int on_token(void *arg, const struct sluice_piece *piece)
{
	struct bench *b = arg;

	if (piece->token != SLUICE_NO_TOKEN && b->n_record < b->room)
		b->record[b->n_record++] = piece->token;
	return 0;
}

/*
 * What was read ahead since b->before, and what the device did: the daemon has nobody else to serve, or it is
 * theirs too.
 */
static int add_status(struct bench *b, struct bench_row *row, struct sluice_fault *fault)
{
	struct sluice_status_info now = { .struct_size = sizeof(now) };
	const struct sluice_predict_counts *was = &b->before.predict, *is = &now.predict;
	int rc = sluice_get_status(b->s, &now, NULL, 0, fault);

	if (rc)
		return rc;
	row->ahead.mode = is->mode;
	row->ahead.gain_ppm = is->gain_ppm;
	row->ahead.steps += is->steps - was->steps;
	row->ahead.uses += is->uses - was->uses;
	row->ahead.foreseen += is->foreseen - was->foreseen;
	row->ahead.reads += is->reads - was->reads;
	row->ahead.useful += is->useful - was->useful;
	row->ahead.late += is->late - was->late;
	row->ahead.wasted += is->wasted - was->wasted;
	row->ahead.wasted_bytes += is->wasted_bytes - was->wasted_bytes;
	device_seen_add(&row->device, &b->before, &now);
	return 0;
}

/* Runs one test once and adds it to @row (NULL: warm-up). */
static int run_once(struct bench *b, uint32_t n_prompt, uint32_t n_gen, uint32_t depth,
		    uint32_t rep, struct bench_row *row, struct sluice_fault *fault)
{
	uint32_t lead = n_gen ? (b->report.text ? BENCH_TEXT_LEAD : 1) : 0;
	struct sluice_settings how = {
		.struct_size = sizeof(how),
		.max_tokens = n_gen ? n_gen + 1 : 0,
		.n_untimed = depth + lead,
		.flags = SLUICE_IGNORE_EOG | (depth ? 0 : SLUICE_NO_REUSE),
		.temperature = 1,
		.top_k = TOP_K,
		.seed = b->seed + rep,
		.spec = b->record ? SLUICE_SPEC_OFF : b->spec,
		.draft_length = b->forced ? b->forced : b->draft_length,
		.draft = b->draft,
		.n_draft = b->draft ? n_gen + 1 : 0,
	};
	struct sluice_prompt p = { .struct_size = sizeof(p), .n_tokens = depth + n_prompt + lead };
	size_t spare = b->n_pool - p.n_tokens;
	struct sluice_done d = { .struct_size = sizeof(d) };
	int rc;

	/* every repetition reads another piece where there is one, behind the same others */
	memcpy(b->prompt, b->pool, depth * sizeof(*b->prompt));
	memcpy(b->prompt + depth, b->pool + depth + (spare ? (size_t)rep * 997 % (spare + 1) : 0),
	       (p.n_tokens - depth) * sizeof(*b->prompt));
	p.tokens = b->prompt;
	b->n_record = 0;
	rc = row ? sluice_get_status(b->s, &b->before, NULL, 0, fault) : 0;
	if (!rc)
		rc = sluice_generate(b->s, &p, &how, b->record ? on_token : NULL, b, &d, fault);
	if (rc)
		return rc;
	if (client_interrupted())
		return -EINTR;
	b->last_ns = d.predict_ns;
	if (!row)
		return 0;
	if (d.stop != SLUICE_STOP_LENGTH || (n_gen && d.n_generated != n_gen + 1)) {
		snprintf(fault->text, sizeof(fault->text), "a test ended early (%s)",
			 sluice_stop_name(d.stop));
		return -ECANCELED;
	}
	row->samples_ns[row->n_samples++] = n_gen ? d.predict_ns : d.prompt_ns;
	row->hits += d.hits;
	row->misses += d.misses;
	row->bytes_read += d.bytes_read;
	row->stall_ns += d.stall_ns;
	row->span_ns += d.span_ns;
	drafts_add(&row->spec, &d.spec);
	return add_status(b, row, fault);
}

static struct bench_row *new_row(struct bench *b, uint32_t n_prompt, uint32_t n_gen, uint32_t depth,
				 double oracle)
{
	struct bench_row *row = calloc(1, sizeof(*row));
	time_t now = time(NULL);
	struct tm tm;

	if (!row)
		return NULL;
	row->n_prompt = n_prompt;
	row->n_gen = n_gen;
	row->n_depth = depth;
	row->oracle = oracle;
	gmtime_r(&now, &tm);
	strftime(row->test_time, sizeof(row->test_time), "%Y-%m-%dT%H:%M:%SZ", &tm);
	b->report.rows[b->report.n_rows++] = row;
	return row;
}

/* The recorded answer, each token right with probability @share, else another id. */
static void make_draft(struct bench *b, double share, uint32_t n, uint64_t seed)
{
	uint32_t n_vocab = b->report.model.n_vocab;

	for (uint32_t i = 0; i < n; i++) {
		double u = (double)(bench_random(&seed) >> 11) * 0x1p-53;
		uint32_t other = n_vocab > 1 ? (uint32_t)(bench_random(&seed) % (n_vocab - 1)) : 0;

		b->spoilt[i] = b->answer[i];
		if (u >= share && n_vocab > 1)
			b->spoilt[i] = other + (other >= b->answer[i]);
	}
}

/* A run with the @k-th share of right drafts. */
static int run_share(struct bench *b, uint32_t n_gen, uint32_t depth, uint32_t rep, unsigned k,
		     struct bench_row *row, struct sluice_fault *fault)
{
	int rc;

	make_draft(b, b->oracle[k - 1], n_gen + 1, b->seed + rep * 131 + k);
	b->draft = b->spoilt;
	b->spec = SLUICE_SPEC_AUTO;
	rc = run_once(b, 0, n_gen, depth, rep, row, fault);
	b->draft = NULL;
	b->spec = SLUICE_SPEC_OFF;
	return rc;
}

/*
 * One repetition of generation with each share of right drafts, after a run that records the answer, every
 * other one from the last share to the first. Each has a run without drafts right before it or right behind
 * it, which it is compared with: plain, R1, R2, plain, R3, R4, plain.
 */
static int run_oracle(struct bench *b, uint32_t n_gen, uint32_t depth, uint32_t rep,
		      struct bench_row **rows, struct sluice_fault *fault)
{
	uint64_t plain_ns = 0;
	int rc;

	b->record = b->answer;
	rc = run_once(b, 0, n_gen, depth, rep, NULL, fault);
	b->record = NULL;
	b->spec = SLUICE_SPEC_OFF;
	for (unsigned i = 0; i < b->n_oracle && !rc; i++) {
		unsigned k = rep % 2 ? b->n_oracle - i : i + 1;
		bool before = i % 2 == 0;

		if (!i) {
			rc = run_once(b, 0, n_gen, depth, rep, rows[0], fault);
			plain_ns = b->last_ns;
		}
		if (!rc)
			rc = run_share(b, n_gen, depth, rep, k, rows[k], fault);
		if (!before && !rc) {
			rc = run_once(b, 0, n_gen, depth, rep, NULL, fault);
			plain_ns = b->last_ns;
		}
		if (!rc)
			rows[k]->plain_ns[rows[k]->n_samples - 1] = plain_ns;
	}
	return rc;
}

/*
 * Adds to @sum what steps of each number of columns cost: the recorded answer as its own draft, in every
 * length, the shortest first and last in turn. The daemon should have nobody else to serve.
 */
static int measure_columns(struct bench *b, uint32_t n_gen, uint32_t depth, uint32_t rep,
			   struct sluice_column_cost sum[SLUICE_COLUMNS],
			   struct sluice_fault *fault)
{
	struct sluice_status_info before = { .struct_size = sizeof(before) },
				  after = { .struct_size = sizeof(after) };
	int rc = sluice_get_status(b->s, &before, NULL, 0, fault);

	make_draft(b, 1, n_gen + 1, 0);
	for (uint32_t i = 0; i <= SLUICE_DRAFT_LENGTH_MAX && !rc; i++) {
		uint32_t length = rep % 2 ? SLUICE_DRAFT_LENGTH_MAX - i : i;

		b->draft = length ? b->spoilt : NULL;
		b->spec = length ? SLUICE_SPEC_AUTO : SLUICE_SPEC_OFF;
		b->forced = length;
		rc = run_once(b, 0, n_gen, depth, rep, NULL, fault);
	}
	b->draft = NULL;
	b->spec = SLUICE_SPEC_OFF;
	b->forced = 0;
	if (!rc)
		rc = sluice_get_status(b->s, &after, NULL, 0, fault);
	for (unsigned i = 0; i < SLUICE_COLUMNS && !rc; i++) {
		sum[i].steps += after.columns[i].steps - before.columns[i].steps;
		sum[i].step_ns += after.columns[i].step_ns - before.columns[i].step_ns;
		sum[i].expert_ns += after.columns[i].expert_ns - before.columns[i].expert_ns;
		sum[i].experts += after.columns[i].experts - before.columns[i].experts;
	}
	return rc;
}

/* 0, or the exit status after a sentence. */
static int end_test(int rc, const struct sluice_fault *fault)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
	if (rc == -EINTR) {
		fprintf(stderr, "sluice bench: interrupted: nothing is printed\n");
		return EXIT_INTERRUPTED;
	}
	return rc ? client_fail("bench", fault) : 0;
}

int bench_test(struct bench *b, uint32_t n_prompt, uint32_t n_gen, uint32_t depth)
{
	unsigned n_rows = n_gen ? 1 + b->n_oracle : 1;
	struct sluice_column_cost sum[SLUICE_COLUMNS] = { { 0 } };
	struct bench_row *rows[BENCH_MAX_LIST + 1];
	struct sluice_fault fault = { 0 };
	int rc = 0;

	for (unsigned i = 0; i < n_rows; i++) {
		rows[i] = new_row(b, n_prompt, n_gen, depth, i ? b->oracle[i - 1] : -1);
		if (!rows[i]) {
			fprintf(stderr, "sluice bench: out of memory\n");
			return EXIT_FAILED;
		}
	}
	if (!b->no_warmup)
		rc = run_once(b, n_prompt, n_gen ? 1 : 0, n_gen ? 0 : depth, 0, NULL, &fault);
	for (uint32_t i = 0; !rc && i < b->reps; i++) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r%s%u @ d%u: %u of %u ", n_prompt ? "pp" : "tg",
				n_prompt + n_gen, depth, i + 1, b->reps);
		rc = n_rows > 1 ? run_oracle(b, n_gen, depth, i, rows, &fault)
				: run_once(b, n_prompt, n_gen, depth, i, rows[0], &fault);
		/* the answer of this repetition is still there; half of it, as there are many runs */
		if (n_rows > 1 && !rc)
			rc = measure_columns(b, (n_gen + 1) / 2, depth, i, sum, &fault);
	}
	if (n_rows > 1 && !rc) {
		struct bench_columns *c = &b->columns[b->n_columns++];

		bench_columns_tell(&b->report.model, sum, c);
		for (unsigned i = 1; i < n_rows; i++)
			rows[i]->columns = c;
	}
	return end_test(rc, &fault);
}
