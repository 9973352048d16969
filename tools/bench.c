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
 * than finding the best. Tests run in bench_run.c. One thread.
 */
#include "tools/bench.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "tools/bench_run.h"
#include "tools/client.h"
#include "tools/input.h"
#include "tools/drafts.h"
#include "tools/memread.h"
#include "tools/verbs.h"

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
	uint32_t n[BENCH_MAX_LIST];
	unsigned count;
};

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
		b->pool[i] = (uint32_t)(bench_random(&state) % n_tokens);
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
			b->pool[i--] = (uint32_t)(bench_random(&state) % n_tokens);
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

static int run_all(struct bench *b, const struct list *prompts, const struct list *gens,
		   const struct list *depths)
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
				rc = bench_test(b, prompts->n[i], 0, depths->n[d]);
		for (unsigned i = 0; i < gens->count && !rc; i++)
			if (gens->n[i])
				rc = bench_test(b, 0, gens->n[i], depths->n[d]);
	}
	return rc;
}

static int measure(struct bench *b, const struct args *args, const struct list *prompts,
		   const struct list *gens, const struct list *depths)
{
	size_t need = (size_t)largest(depths) + largest(prompts) + BENCH_TEXT_LEAD;
	uint32_t generating = largest(gens) + BENCH_TEXT_LEAD + 1;
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
	rc = run_all(b, prompts, gens, depths);
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
	int n = input_list(text, 1u << 24, ret->n, BENCH_MAX_LIST, err);

	ret->count = n < 0 ? 0 : (unsigned)n;
	return n < 0 ? err_prefix(err, n, "%s", option) : 0;
}

/* "0.5,0.7" */
static int take_shares(const char *text, struct bench *b, struct err *err)
{
	char *end;

	while (text && b->n_oracle < BENCH_MAX_LIST) {
		double share = strtod(text, &end);

		if (end == text || !(share >= 0 && share <= 1) || (*end && *end != ','))
			break;
		b->oracle[b->n_oracle++] = share;
		if (!*end)
			return 0;
		text = end + 1;
	}
	return text ? err_set(err, -EINVAL, "--spec-oracle: \"%s\": at most %d shares from 0 to 1",
			      text, BENCH_MAX_LIST)
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
	b.reps = args.reps;
	b.no_warmup = args.no_warmup;
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
