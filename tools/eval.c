/* SPDX-License-Identifier: MIT */
/*
 * tools/eval.c: `sluice eval`: how probable the model finds a text (loss, perplexity), and all its
 * logits in a .npy file. The text must fit one context. One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tools/client.h"
#include "tools/input.h"
#include "tools/npy.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	const char *prompt, *text, *tokens, *dump;
	bool special, perplexity, json, help;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	CLIENT_OPTIONS(struct args, "30"),
	{ "--prompt", "-p", OPT_TEXT, AT(prompt), "TEXT", .excludes = "--text|--tokens",
	  .help = "The text itself; - reads standard input." },
	{ "--text", "-f", OPT_TEXT, AT(text), "FILE", .excludes = "--tokens",
	  .help = "The file that holds the text (the text itself: --prompt); - reads standard "
		  "input." },
	{ "--tokens", NULL, OPT_TEXT, AT(tokens), "FILE", .excludes = "--special",
	  .help = "The file that holds it as a JSON array of token ids; - reads standard input." },
	{ "--special", NULL, OPT_FLAG, AT(special),
	  .help = "Control tokens written in the text count as such." },
	{ "--perplexity", NULL, OPT_FLAG, AT(perplexity),
	  .help = "Print loss and perplexity (this is also what happens without an option)." },
	{ "--dump-logits", NULL, OPT_TEXT, AT(dump), "OUT.npy",
	  .help = "Write the logits: float32, row i is the distribution after token i." },
	{ "--json", NULL, OPT_FLAG, AT(json), .help = "One JSON object." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

struct dump {
	struct npy file;
	struct err err;
	uint64_t next;
};

static int on_logits(void *arg, uint32_t first, uint32_t n_rows, uint32_t n_vocab,
		     const float *logits)
{
	struct dump *d = arg;

	if (first != d->next || n_vocab != d->file.columns)
		return err_set(&d->err, 1, "the daemon sent logits out of order");
	d->next += n_rows;
	return npy_append(&d->file, logits, n_rows, &d->err);
}

static int take_prompt(const struct args *args, struct sluice_prompt *ret, void **owned)
{
	struct err err = { 0 };
	uint32_t *ids;
	size_t bytes;
	char *text;
	int rc;

	if (!args->prompt && !args->text && !args->tokens) {
		fprintf(stderr, "sluice eval: one of --prompt TEXT, --text FILE and --tokens FILE "
				"is needed\n");
		return EXIT_USAGE;
	}
	if (args->prompt)
		rc = input_text(args->prompt, &text, &bytes, &err);
	else
		rc = input_file(args->text ? args->text : args->tokens, &text, &bytes, &err);
	if (!rc && !args->tokens) {
		ret->text = *owned = text;
		ret->text_bytes = bytes;
		ret->flags = args->special ? SLUICE_SPECIAL : 0;
		return 0;
	}
	if (!rc) {
		rc = input_tokens(text, bytes, args->tokens, &ids, &ret->n_tokens, &err);
		free(text);
	}
	if (!rc) {
		ret->tokens = *owned = ids;
		return 0;
	}
	fprintf(stderr, "sluice eval: %s\n", err.text);
	return EXIT_FAILED;
}

/* Mean loss of the tokens 1..n-1; NAN where there is none. */
static double mean_loss(const double *logprobs, uint32_t n_tokens)
{
	double sum = 0;

	if (n_tokens < 2)
		return NAN;
	for (uint32_t i = 0; i + 1 < n_tokens; i++)
		sum -= logprobs[i];
	return sum / (n_tokens - 1);
}

static int report(const struct args *args, uint32_t n_tokens, double nll)
{
	if (n_tokens > 1 &&
	    !isfinite(nll)) { /* the daemon refuses that itself; older ones do not */
		fprintf(stderr, "sluice eval: the loss is not a number: the model's weights or its "
				"state are broken\n");
		return EXIT_FAILED;
	}
	if (args->json) {
		json_t *o = json_pack("{s:I}", "tokens", (json_int_t)n_tokens);

		/* JSON knows no infinity and no NaN: then null, as for a single token */
		json_object_set_new(o, "nll", isfinite(nll) ? json_real(nll) : json_null());
		json_object_set_new(o, "perplexity",
				    isfinite(exp(nll)) ? json_real(exp(nll)) : json_null());
		return input_print_json(o, false) ? EXIT_FAILED : EXIT_OK;
	}
	if (n_tokens < 2)
		printf("tokens %u: a loss needs at least 2\n", n_tokens);
	else
		printf("tokens %u, nll %.6f, perplexity %.4f\n", n_tokens, nll, exp(nll));
	return EXIT_OK;
}

static int score(const struct args *args, struct sluice *s, const struct sluice_prompt *prompt)
{
	struct dump *dump = NULL;
	struct client_progress progress;
	struct sluice_model_info model = { .struct_size = sizeof(model) };
	struct sluice_fault fault = { 0 };
	struct sluice_done done = { .struct_size = sizeof(done) };
	double *logprobs = NULL;
	struct err err = { 0 };
	int rc = sluice_get_model(s, &model, NULL, 0, &fault);

	if (rc)
		return client_fail("eval", &fault);
	if (args->dump) {
		dump = calloc(1, sizeof(*dump));
		if (!dump || npy_open(&dump->file, args->dump, model.n_vocab, &err)) {
			fprintf(stderr, "sluice eval: %s\n", dump ? err.text : "out of memory");
			free(dump);
			return EXIT_FAILED;
		}
	}
	client_on_interrupt(s);
	client_show_progress(&progress, "eval", s);
	rc = sluice_score(s, prompt, dump ? on_logits : NULL, dump, &logprobs, &done, &fault);
	client_clear_progress(&progress);
	client_on_interrupt(NULL);
	if (dump && (rc || done.stop == SLUICE_STOP_CANCELLED))
		npy_abandon(&dump->file);
	else if (dump)
		npy_close(&dump->file, &dump->err);
	if (rc) {
		rc = client_fail("eval", &fault);
	} else if (dump && dump->err.text[0]) {
		fprintf(stderr, "sluice eval: %s\n", dump->err.text);
		rc = EXIT_FAILED;
	} else if (done.stop == SLUICE_STOP_CANCELLED) {
		fprintf(stderr, "sluice eval: cancelled: %u tokens were read\n", done.n_prompt);
		rc = client_ending("eval", &done);
	} else {
		rc = report(args, done.n_prompt, mean_loss(logprobs, done.n_prompt));
	}
	free(logprobs);
	free(dump);
	return rc;
}

int verb_eval(int argc, char **argv)
{
	struct args args = { 0 };
	struct sluice_prompt prompt = { .struct_size = sizeof(prompt) };
	struct sluice *s = NULL;
	void *owned = NULL;
	int rc = input_args("--prompt TEXT | --text FILE | --tokens FILE [options]", options,
			    ARRAY_LEN(options), argc, argv, &args, &args.help, NULL);

	if (rc >= 0)
		return rc;
	rc = take_prompt(&args, &prompt, &owned);
	if (!rc)
		rc = client_open("eval", &args.client, &s);
	if (!rc)
		rc = client_ready("eval", s);
	if (!rc)
		rc = score(&args, s, &prompt);
	sluice_close(s);
	free(owned);
	return rc;
}
