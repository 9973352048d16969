/* SPDX-License-Identifier: MIT */
/*
 * tools/generate.c: `sluice generate`: a prompt goes to the daemon, text streams to stdout, then a
 * line with the figures goes to stderr. --json prints one object at the end instead. Ctrl-C cancels
 * the request and keeps what came. One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/size.h"
#include "tools/client.h"
#include "tools/input.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	const char *prompt, *prompt_file, *prompt_tokens, *system;
	bool chat, special, raw, ignore_eog, json, quiet, help;
	uint32_t max_tokens, top_k;
	float temperature, top_p, min_p;
	uint64_t seed;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	CLIENT_OPTIONS(struct args, "30"),
	{ "--prompt", "-p", OPT_TEXT, AT(prompt), "TEXT", .help = "The text to go on from." },
	{ "--prompt-file", "-f", OPT_TEXT, AT(prompt_file), "FILE",
	  .help = "The same from a file; - reads stdin." },
	{ "--prompt-tokens", NULL, OPT_TEXT, AT(prompt_tokens), "'[1,2,3]'",
	  .help = "The same as token ids." },
	{ "--chat", "-c", OPT_FLAG, AT(chat),
	  .help = "Ask it as a user would, in the model's chat form." },
	{ "--system", NULL, OPT_TEXT, AT(system), "TEXT",
	  .help = "With --chat: what the model is told before." },
	{ "--special", NULL, OPT_FLAG, AT(special),
	  .help = "Control tokens written in the text count as such." },
	{ "--raw", NULL, OPT_FLAG, AT(raw), .help = "Show control tokens in the answer." },
	{ "--max-tokens", "-n", OPT_U32, AT(max_tokens), "N", 0, 16777216, .def = "256",
	  .help = "Stop after this number of tokens." },
	{ "--ignore-eog", NULL, OPT_FLAG, AT(ignore_eog),
	  .help = "Go on after an end-of-generation token." },
	{ "--temperature", "-t", OPT_FLOAT, AT(temperature), "X", 0, 100, .def = "0",
	  .help = "0 takes the most probable token, more varies." },
	{ "--top-k", NULL, OPT_U32, AT(top_k), "N", 0, 16777216, .def = "0",
	  .help = "Only the N most probable tokens; 0: all." },
	{ "--top-p", NULL, OPT_FLOAT, AT(top_p), "X", 0, 1, .def = "1",
	  .help = "Only the most probable tokens that together have this share." },
	{ "--min-p", NULL, OPT_FLOAT, AT(min_p), "X", 0, 1, .def = "0",
	  .help = "Only tokens at least so probable as X times the best." },
	{ "--seed", NULL, OPT_U64, AT(seed), "N", .def = "0", .help = "Of the random choices." },
	{ "--quiet", "-q", OPT_FLAG, AT(quiet), .help = "No figures on stderr." },
	{ "--json", NULL, OPT_FLAG, AT(json), .help = "One JSON object instead of text." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

/* What came. */
struct answer {
	bool json, broken; /* broken: stdout is closed */
	char *text;
	size_t bytes, room;
	uint32_t *tokens;
	size_t n_tokens, tokens_room;
	bool no_memory;
	char last;
};

static bool grow(void **buf, size_t *room, size_t need, size_t size)
{
	size_t more = *room ? *room : 256;
	void *bigger;

	if (need <= *room)
		return true;
	while (more < need)
		more *= 2;
	bigger = realloc(*buf, more * size);
	if (!bigger)
		return false;
	*buf = bigger;
	*room = more;
	return true;
}

static int on_token(void *arg, const struct sluice_piece *piece)
{
	const char *text = piece->text;
	size_t bytes = piece->bytes;
	struct answer *a = arg;

	if (!a->json) {
		if (bytes && (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout)))
			a->broken = true;
		if (bytes)
			a->last = text[bytes - 1];
		return a->broken;
	}
	a->no_memory |=
		!grow((void **)&a->text, &a->room, a->bytes + bytes + 1, 1) ||
		!grow((void **)&a->tokens, &a->tokens_room, a->n_tokens + 1, sizeof(*a->tokens));
	if (a->no_memory)
		return 1;
	memcpy(a->text + a->bytes, text, bytes);
	a->bytes += bytes;
	if (piece->token != SLUICE_NO_TOKEN)
		a->tokens[a->n_tokens++] = piece->token;
	return 0;
}

/* The prompt from whichever option named it; *owned is to be freed. */
static int take_prompt(const struct args *args, struct sluice_prompt *ret, void **owned)
{
	int given = !!args->prompt + !!args->prompt_file + !!args->prompt_tokens;
	struct err err = { 0 };
	uint32_t *ids;
	char *text;
	int rc = 0;

	if (given != 1)
		rc = err_set(&err, -EINVAL,
			     "one of --prompt, --prompt-file and --prompt-tokens is needed");
	else if (args->prompt_tokens && (args->chat || args->special))
		rc = err_set(&err, -EINVAL, "--chat and --special are for text, not for tokens");
	else if (args->system && !args->chat)
		rc = err_set(&err, -EINVAL, "--system needs --chat");
	if (rc)
		goto fail;
	ret->flags = (args->chat ? SLUICE_CHAT : 0) | (args->special ? SLUICE_SPECIAL : 0);
	ret->system = args->system;
	ret->text = args->prompt;
	ret->text_bytes = args->prompt ? strlen(args->prompt) : 0;
	if (args->prompt_file) {
		rc = input_file(args->prompt_file, &text, &ret->text_bytes, &err);
		if (!rc)
			ret->text = *owned = text;
	} else if (args->prompt_tokens) {
		rc = input_tokens(args->prompt_tokens, strlen(args->prompt_tokens),
				  "--prompt-tokens", &ids, &ret->n_tokens, &err);
		if (!rc)
			ret->tokens = *owned = ids;
	}
	if (!rc)
		return 0;
fail:
	fprintf(stderr, "sluice generate: %s\n", err.text);
	return rc == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
}

static double rate(double count, uint64_t ns)
{
	return ns ? count * 1e9 / (double)ns : 0;
}

static double predicted_rate(const struct sluice_done *d)
{
	/* the clock runs from the first token, so that one is not counted */
	return d->n_generated > 1 ? rate(d->n_generated - 1, d->predict_ns) : 0;
}

static double hit_ratio(const struct sluice_done *d)
{
	uint64_t uses = d->hits + d->misses;

	return uses ? (double)d->hits / (double)uses : 1;
}

/* Expert bytes of these uses that were in memory: uses times the mean size of an expert. */
static uint64_t memory_bytes(const struct sluice_model_info *m, const struct sluice_done *d)
{
	uint64_t experts = (uint64_t)m->n_expert * m->n_expert_layers;

	return experts ? (uint64_t)((double)m->expert_bytes_total / (double)experts *
				    (double)d->hits)
		       : 0;
}

static void print_figures(const struct sluice_model_info *m, const struct sluice_done *d)
{
	char disk[32], memory[32];

	fprintf(stderr,
		"%.1f tok/s (%u tokens), prompt %.1f tok/s (%u tokens), first token %.0f ms",
		predicted_rate(d), d->n_generated, rate(d->n_prompt, d->prompt_ns), d->n_prompt,
		(double)d->ttft_ns / 1e6);
	if (m->n_expert)
		fprintf(stderr, "; expert hit rate %.1f %%, from memory %s, from disk %s",
			hit_ratio(d) * 100, size_format(memory, sizeof(memory), memory_bytes(m, d)),
			size_format(disk, sizeof(disk), d->bytes_read));
	if (d->stop == SLUICE_STOP_CANCELLED)
		fprintf(stderr, "; cancelled");
	fputc('\n', stderr);
}

static json_t *tokens_json(const struct answer *a)
{
	json_t *array = json_array();

	for (size_t i = 0; i < a->n_tokens; i++)
		json_array_append_new(array, json_integer(a->tokens[i]));
	return array;
}

static int print_json(const struct answer *a, const struct sluice_model_info *m,
		      const struct sluice_done *d, const char *error)
{
	json_t *o = json_pack("{s:o, s:o, s:s, s:{s:I, s:I}, s:{s:f, s:f, s:f}}", "text",
			      input_json_text(a->text ? a->text : "", a->bytes), "tokens",
			      tokens_json(a), "stop_reason", sluice_stop_name(d->stop), "usage",
			      "prompt_tokens", (json_int_t)d->n_prompt, "completion_tokens",
			      (json_int_t)a->n_tokens, "timings", "prompt_per_second",
			      rate(d->n_prompt, d->prompt_ns), "predicted_per_second",
			      predicted_rate(d), "ttft_ms", (double)d->ttft_ns / 1e6);
	json_t *experts = json_pack("{s:I, s:I, s:f, s:I, s:I, s:f}", "hits", (json_int_t)d->hits,
				    "misses", (json_int_t)d->misses, "hit_ratio", hit_ratio(d),
				    "bytes_from_memory", (json_int_t)memory_bytes(m, d),
				    "bytes_from_disk", (json_int_t)d->bytes_read, "stall_seconds",
				    (double)d->stall_ns / 1e9);

	json_object_set_new(o, "experts", experts);
	if (error)
		json_object_set_new(o, "error", input_json_text(error, strlen(error)));
	return input_print_json(o, false);
}

static struct sluice_settings take_settings(const struct args *args)
{
	return (struct sluice_settings){
		.struct_size = sizeof(struct sluice_settings),
		.max_tokens = args->max_tokens,
		.flags = (args->raw ? SLUICE_RAW : 0) | (args->ignore_eog ? SLUICE_IGNORE_EOG : 0),
		.temperature = args->temperature,
		.top_k = args->top_k,
		.top_p = args->top_p,
		.min_p = args->min_p,
		.seed = args->seed,
	};
}

static int report(const struct args *args, const struct answer *a,
		  const struct sluice_model_info *m, const struct sluice_done *d, int rc,
		  const struct sluice_fault *fault)
{
	/* Refused before it began: there is no answer to print. */
	bool began = !rc || d->stop == SLUICE_STOP_ERROR;

	if (!args->json && a->last && a->last != '\n')
		putchar('\n');
	if (args->json && began && print_json(a, m, d, rc ? fault->text : NULL))
		return EXIT_FAILED;
	if (a->no_memory || a->broken) {
		fprintf(stderr, "sluice generate: %s\n",
			a->broken ? "cannot write to stdout" : "out of memory");
		return EXIT_FAILED;
	}
	if (rc)
		return client_fail("generate", fault);
	fflush(stdout); /* the answer stands before its figures, in a pipe as well */
	if (!args->json && !args->quiet)
		print_figures(m, d);
	return EXIT_OK;
}

static int run(const struct args *args, const struct sluice_prompt *prompt)
{
	struct sluice_settings settings = take_settings(args);
	struct answer answer = { .json = args->json };
	struct sluice_fault fault = { 0 };
	struct sluice_model_info model = { .struct_size = sizeof(model) };
	struct sluice_done done = { .struct_size = sizeof(done) };
	struct sluice *s;
	int rc = client_open("generate", &args->client, &s);

	if (rc)
		return rc;
	rc = client_ready("generate", s);
	if (rc)
		goto out;
	if (sluice_get_model(s, &model, NULL, 0, &fault)) {
		rc = client_fail("generate", &fault);
		goto out;
	}
	client_on_interrupt(s);
	rc = sluice_generate(s, prompt, &settings, on_token, &answer, &done, &fault);
	client_on_interrupt(NULL);
	rc = report(args, &answer, &model, &done, rc, &fault);
out:
	free(answer.tokens);
	free(answer.text);
	sluice_close(s);
	return rc;
}

int verb_generate(int argc, char **argv)
{
	struct args args = { 0 };
	struct sluice_prompt prompt = { .struct_size = sizeof(prompt) };
	void *owned = NULL;
	int rc = input_args("--prompt TEXT [options]", options, ARRAY_LEN(options), argc, argv,
			    &args, &args.help);

	if (rc >= 0)
		return rc;
	rc = take_prompt(&args, &prompt, &owned);
	if (!rc)
		rc = run(&args, &prompt);
	free(owned);
	return rc;
}
