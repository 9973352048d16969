/* SPDX-License-Identifier: MIT */
/*
 * tools/bench.c: `sluice bench`: how fast the daemon reads prompts (pp) and generates (tg), asked as
 * llama-bench asks: one warm-up, then repetitions, mean and deviation.
 *
 * pp N: N tokens are read in, nothing is generated. tg N: N decode steps; the first token, which
 * belongs to the prompt, is not timed. Behind a depth of D other tokens that are not timed, the same in
 * every run, so that the daemon keeps them where it keeps prompts. Random
 * tokens (the default) route almost evenly over the experts, which is the worst case for a cache of
 * them: --text measures what real text gives. Greedy text soon repeats itself and would hit always,
 * so generated tokens are drawn, with a fixed seed, from the most probable ones; that costs no more
 * than finding the best. One thread.
 */
#include "tools/bench.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "tools/client.h"
#include "tools/input.h"
#include "tools/drafts.h"
#include "tools/memread.h"
#include "tools/verbs.h"

#define MAX_LIST  16
#define TOP_K	  64 /* generated tokens are drawn from so many */
#define TEXT_LEAD 32 /* tokens of text before tg, so that it starts in the middle of something */

struct args {
	struct client_args client;
	const char *prompts, *gens, *depths, *text, *peaks;
	const char *oracle;
	uint32_t reps, format, seed, spec, draft_length;
	bool json, no_warmup, help;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	CLIENT_OPTIONS(struct args, "30"),
	{ "--n-prompt", "-p", OPT_TEXT, AT(prompts), "N,..", .def = "512",
	  .help = "Prompt lengths; 0: none." },
	{ "--n-gen", "-n", OPT_TEXT, AT(gens), "N,..", .def = "128",
	  .help = "Tokens to generate; 0: none." },
	{ "--n-depth", "-d", OPT_TEXT, AT(depths), "N,..", .def = "0",
	  .help = "Tokens already in the context." },
	{ "--repetitions", "-r", OPT_U32, AT(reps), "N", 1, BENCH_MAX_REPS, .def = "5",
	  .help = "Of each test." },
	{ "--text", "-f", OPT_TEXT, AT(text), "FILE",
	  .help = "Take tokens from the text in this file instead of random ones; - reads standard "
		  "input." },
	{ "--output", "-o", OPT_CHOICE, AT(format), "FORMAT", .choices = "md|csv|json", .def = "md",
	  .help = "How to print." },
	{ "--json", NULL, OPT_FLAG, AT(json), .excludes = "--output",
	  .help = "The same as -o json." },
	{ "--peaks", NULL, OPT_TEXT, AT(peaks), "FILE",
	  .help = "What sluice doctor --json printed here: rates are shown as shares of it too." },
	{ "--seed", NULL, OPT_U32, AT(seed), "N", 0, 4294967295, .def = "1",
	  .help = "Of the random tokens." },
	{ "--spec", NULL, OPT_CHOICE, AT(spec), "KIND", .choices = DRAFTS_CHOICES, .def = "off",
	  .help = "Speculation while generating; off here, so that the model's own speed is shown." },
	{ "--spec-oracle", NULL, OPT_TEXT, AT(oracle), "R,..", .excludes = "--spec",
	  .help = "Each test of generation also with drafts of which the share R is right: what "
		  "checking them gains. Bench records its own answer first and hands it in." },
	{ "--draft-length", NULL, OPT_U32, AT(draft_length), "N", 0, SLUICE_DRAFT_LENGTH_MAX,
	  .def = "0",
	  .help = "With these: so many drafts in every step, whatever it costs; 0: as it pays." },
	{ "--no-warmup", NULL, OPT_FLAG, AT(no_warmup), .help = "Time the first run too." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

struct list {
	uint32_t n[MAX_LIST];
	unsigned count;
};

struct bench {
	struct sluice *s;
	struct bench_report report;
	uint32_t *pool;	  /* tokens of the text, or random ones */
	uint32_t *prompt; /* of one run */
	size_t n_pool;
	uint64_t seed;
	uint32_t spec, draft_length;
	double oracle[MAX_LIST]; /* shares of right drafts */
	unsigned n_oracle;
	uint32_t *answer, *spoilt, room;  /* what was recorded, and with wrong tokens in it */
	struct sluice_status_info before; /* a timed run */
	/* of one run: where it records its answer, the draft it hands in; NULL: neither */
	uint32_t *record, n_record;
	uint64_t last_ns; /* what generating took in the last one */
	const uint32_t *draft;
	uint32_t forced; /* length of all its drafts; 0: as asked for */
	struct bench_columns columns[MAX_LIST * MAX_LIST]; /* of each test of generation */
	unsigned n_columns;
};

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* Uniform over the vocabulary's tokens that have a text of their own: control tokens have none. */
static int fill_random(struct bench *b, size_t n, struct sluice_fault *fault)
{
	uint32_t n_tokens = b->report.model.n_tokens;
	uint64_t state = b->seed;

	if (n_tokens > b->report.model.n_vocab)
		n_tokens = b->report.model.n_vocab;
	b->pool = malloc(n * sizeof(*b->pool));
	if (!b->pool || !n_tokens)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		b->pool[i] = (uint32_t)(next_random(&state) % n_tokens);
	b->n_pool = n;
	for (size_t i = 0; i < n; i++) {
		char *text;
		size_t bytes;
		int rc;

		/* control tokens lie at the end of these vocabularies: ask for those only */
		if (b->pool[i] < n_tokens - n_tokens / 64)
			continue;
		rc = sluice_detokenize(b->s, &b->pool[i], 1, 0, &text, &bytes, fault);
		if (rc)
			return rc;
		free(text);
		if (!bytes)
			b->pool[i--] = (uint32_t)(next_random(&state) % n_tokens);
	}
	return 0;
}

static int fill_text(struct bench *b, const char *path, size_t need, struct err *err)
{
	struct sluice_prompt p = { .struct_size = sizeof(p) };
	struct sluice_fault fault;
	uint32_t *ids;
	char *text;
	int rc = input_file(path, &text, &p.text_bytes, err);

	if (rc)
		return rc;
	p.text = text;
	/* what the context could not hold is not needed, and would be refused */
	if (p.text_bytes > need * 16)
		p.text_bytes = need * 16;
	rc = sluice_tokenize(b->s, &p, &ids, &b->n_pool, &fault);
	free(text);
	if (rc)
		return err_set(err, rc, "%s", fault.text);
	b->pool = ids;
	if (b->n_pool < need)
		return err_set(err, -EINVAL, "%s: %zu tokens; these tests need %zu", path,
			       b->n_pool, need);
	return 0;
}

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
	uint32_t lead = n_gen ? (b->report.text ? TEXT_LEAD : 1) : 0;
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
		double u = (double)(next_random(&seed) >> 11) * 0x1p-53;
		uint32_t other = n_vocab > 1 ? (uint32_t)(next_random(&seed) % (n_vocab - 1)) : 0;

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

static int run_test(struct bench *b, const struct args *args, uint32_t n_prompt, uint32_t n_gen,
		    uint32_t depth)
{
	unsigned n_rows = n_gen ? 1 + b->n_oracle : 1;
	struct sluice_column_cost sum[SLUICE_COLUMNS] = { { 0 } };
	struct bench_row *rows[MAX_LIST + 1];
	struct sluice_fault fault = { 0 };
	int rc = 0;

	for (unsigned i = 0; i < n_rows; i++) {
		rows[i] = new_row(b, n_prompt, n_gen, depth, i ? b->oracle[i - 1] : -1);
		if (!rows[i]) {
			fprintf(stderr, "sluice bench: out of memory\n");
			return EXIT_FAILED;
		}
	}
	if (!args->no_warmup)
		rc = run_once(b, n_prompt, n_gen ? 1 : 0, n_gen ? 0 : depth, 0, NULL, &fault);
	for (uint32_t i = 0; !rc && i < args->reps; i++) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r%s%u @ d%u: %u of %u ", n_prompt ? "pp" : "tg",
				n_prompt + n_gen, depth, i + 1, args->reps);
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

/* "mem_read_gbs", "disk_read_gbs" and "byte_gmadds" of what doctor printed. */
static int read_peaks(const char *path, struct bench_peaks *ret, struct err *err)
{
	json_error_t where;
	json_t *o = json_load_file(path, 0, &where);

	if (!o)
		return err_set(err, -EINVAL, "%s: %s", path, where.text);
	ret->memory_gbs = json_number_value(json_object_get(o, "mem_read_gbs"));
	ret->disk_gbs = json_number_value(json_object_get(o, "disk_read_gbs"));
	ret->gmadds = json_number_value(json_object_get(o, "byte_gmadds"));
	json_decref(o);
	return 0;
}

static uint32_t largest(const struct list *l)
{
	uint32_t most = 0;

	for (unsigned i = 0; i < l->count; i++)
		most = l->n[i] > most ? l->n[i] : most;
	return most;
}

static int run_all(struct bench *b, const struct args *args, const struct list *prompts,
		   const struct list *gens, const struct list *depths)
{
	unsigned most = depths->count * (prompts->count + gens->count * (1 + b->n_oracle));
	int rc = 0;

	b->report.rows = calloc(most, sizeof(*b->report.rows));
	b->room = largest(gens) + 1;
	if (b->n_oracle) {
		b->answer = calloc(b->room, sizeof(*b->answer));
		b->spoilt = calloc(b->room, sizeof(*b->spoilt));
	}
	if (!b->report.rows || (b->n_oracle && (!b->answer || !b->spoilt))) {
		fprintf(stderr, "sluice bench: out of memory\n");
		return EXIT_FAILED;
	}
	for (unsigned d = 0; d < depths->count && !rc; d++) {
		for (unsigned i = 0; i < prompts->count && !rc; i++)
			if (prompts->n[i])
				rc = run_test(b, args, prompts->n[i], 0, depths->n[d]);
		for (unsigned i = 0; i < gens->count && !rc; i++)
			if (gens->n[i])
				rc = run_test(b, args, 0, gens->n[i], depths->n[d]);
	}
	return rc;
}

static int measure(struct bench *b, const struct args *args, const struct list *prompts,
		   const struct list *gens, const struct list *depths)
{
	size_t need = (size_t)largest(depths) + largest(prompts) + TEXT_LEAD;
	uint32_t generating = largest(gens) + TEXT_LEAD + 1;
	uint32_t most = largest(prompts) > generating ? largest(prompts) : generating;
	struct sluice_fault fault = { 0 };
	struct err err = { 0 };
	int rc = sluice_get_model(b->s, &b->report.model, b->report.path, sizeof(b->report.path),
				  &fault);

	if (!rc && largest(depths) + most > b->report.model.n_ctx) {
		fprintf(stderr,
			"sluice bench: these tests need a context of %u tokens, the daemon has %u "
			"(sluiced --ctx)\n",
			largest(depths) + most, b->report.model.n_ctx);
		return EXIT_FAILED;
	}
	if (!rc && args->text) {
		if (fill_text(b, args->text, need, &err)) {
			fprintf(stderr, "sluice bench: %s\n", err.text);
			return EXIT_FAILED;
		}
	} else if (!rc) {
		rc = fill_random(b, need * 2, &fault);
	}
	if (!rc && !(b->prompt = calloc(need, sizeof(*b->prompt))))
		rc = -ENOMEM;
	if (rc == -ENOMEM && !fault.text[0])
		snprintf(fault.text, sizeof(fault.text), "out of memory");
	if (rc)
		return client_fail("bench", &fault);
	client_on_interrupt(b->s);
	rc = run_all(b, args, prompts, gens, depths);
	client_on_interrupt(NULL);
	if (rc)
		return rc;
	memread_cpu_name(b->report.cpu, sizeof(b->report.cpu));
	if (sluice_get_status(b->s, &b->report.status, NULL, 0, &fault))
		return client_fail("bench", &fault);
	return bench_print(&b->report, args->json ? BENCH_JSON : (enum bench_format)args->format)
		       ? EXIT_FAILED
		       : EXIT_OK;
}

static int take_list(const char *option, const char *text, struct list *ret, struct err *err)
{
	int n = input_list(text, 1u << 24, ret->n, MAX_LIST, err);

	ret->count = n < 0 ? 0 : (unsigned)n;
	return n < 0 ? err_prefix(err, n, "%s", option) : 0;
}

/* "0.5,0.7" */
static int take_shares(const char *text, struct bench *b, struct err *err)
{
	char *end;

	while (text && b->n_oracle < MAX_LIST) {
		double share = strtod(text, &end);

		if (end == text || !(share >= 0 && share <= 1) || (*end && *end != ','))
			break;
		b->oracle[b->n_oracle++] = share;
		if (!*end)
			return 0;
		text = end + 1;
	}
	return text ? err_set(err, -EINVAL, "--spec-oracle: \"%s\": at most %d shares from 0 to 1",
			      text, MAX_LIST)
		    : 0;
}

int verb_bench(int argc, char **argv)
{
	struct list prompts, gens, depths;
	struct args args = { 0 };
	struct bench b = { .report.model.struct_size = sizeof(b.report.model),
			   .report.status.struct_size = sizeof(b.report.status),
			   .before.struct_size = sizeof(b.before) };
	struct err err = { 0 };
	int rc = input_args("[-p N,..] [-n N,..] [-d N,..] [-r N] [--text FILE]", options,
			    ARRAY_LEN(options), argc, argv, &args, &args.help, NULL);

	if (rc >= 0)
		return rc;
	rc = take_list("--n-prompt", args.prompts, &prompts, &err);
	if (!rc)
		rc = take_list("--n-gen", args.gens, &gens, &err);
	if (!rc)
		rc = take_list("--n-depth", args.depths, &depths, &err);
	if (!rc && !largest(&prompts) && !largest(&gens))
		rc = err_set(&err, -EINVAL, "with -p 0 and -n 0 there is nothing to measure");
	if (!rc)
		rc = take_shares(args.oracle, &b, &err);
	if (!rc && args.peaks)
		rc = read_peaks(args.peaks, &b.report.peaks, &err);
	if (rc) {
		fprintf(stderr, "sluice bench: %s\n", err.text);
		return EXIT_USAGE;
	}
	b.report.text = args.text != NULL;
	b.seed = args.seed;
	b.spec = args.spec;
	b.draft_length = args.draft_length;
	b.report.drafts = b.n_oracle || args.spec != SLUICE_SPEC_OFF;
	rc = client_open("bench", &args.client, &b.s);
	if (!rc)
		rc = client_ready("bench", b.s);
	if (!rc)
		rc = measure(&b, &args, &prompts, &gens, &depths);
	for (unsigned i = 0; i < b.report.n_rows; i++)
		free(b.report.rows[i]);
	free(b.report.rows);
	free(b.pool);
	free(b.prompt);
	free(b.answer);
	free(b.spoilt);
	sluice_close(b.s);
	return rc;
}
