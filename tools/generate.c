/* SPDX-License-Identifier: MIT */
/*
 * tools/generate.c: `sluice generate`: a prompt goes to the daemon, text streams to stdout, then a
 * line with the figures goes to stderr. --json prints one object at the end instead. Ctrl-C cancels
 * the request, keeps what came, and the exit status is 130. One thread.
 */
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/num.h"
#include "base/size.h"
#include "tools/client.h"
#include "tools/input.h"
#include "tools/drafts.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	const char *prompt, *prompt_file, *prompt_tokens, *system;
	const char *schema, *gbnf, *regex;
	bool loose;
	bool chat, think, no_think, special, raw, ignore_eog, json, quiet, help;
	bool top_k_given, top_p_given, min_p_given, seed_given;
	uint32_t max_tokens, top_k, spec, draft_length;
	float temperature, top_p, min_p;
	float repeat_penalty, frequency_penalty, presence_penalty, typical_p, top_n_sigma;
	float xtc_probability, xtc_threshold, dry_multiplier;
	uint32_t penalty_last_n, min_tokens;
	uint64_t seed;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	CLIENT_OPTIONS(struct args, "30"),
	{ "--prompt", "-p", OPT_TEXT, AT(prompt), "TEXT",
	  .excludes = "--prompt-file|--prompt-tokens",
	  .help = "The text to go on from; - reads standard input. Without this option the argument "
		  "that is no option is the text." },
	{ "--prompt-file", "-f", OPT_TEXT, AT(prompt_file), "FILE", .excludes = "--prompt-tokens",
	  .help = "The same from a file; - reads standard input." },
	{ "--prompt-tokens", NULL, OPT_TEXT, AT(prompt_tokens), "'[1,2,3]'",
	  .excludes = "--chat|--special",
	  .help = "The same as token ids in JSON; - reads them from standard input." },
	{ "--chat", "-c", OPT_FLAG, AT(chat),
	  .help = "Ask it as a user would, in the model's chat form." },
	{ "--system", NULL, OPT_TEXT, AT(system), "TEXT", .needs = "--chat",
	  .help = "With --chat: what the model is told before." },
	{ "--think", NULL, OPT_FLAG, AT(think), .needs = "--chat", .excludes = "--no-think",
	  .help = "With --chat: the model thinks before it answers, where its template can." },
	{ "--no-think", NULL, OPT_FLAG, AT(no_think), .needs = "--chat",
	  .help = "With --chat: it does not (the default where its template can leave it out)." },
	{ "--special", NULL, OPT_FLAG, AT(special),
	  .help = "Control tokens written in the text count as such." },
	{ "--raw", NULL, OPT_FLAG, AT(raw), .help = "Show control tokens in the answer." },
	{ "--max-tokens", "-n", OPT_U32, AT(max_tokens), "N", 0, 16777216, .def = "256",
	  .help = "Stop after N tokens; 0 only reads the prompt." },
	{ "--ignore-eog", NULL, OPT_FLAG, AT(ignore_eog),
	  .help = "Go on after an end-of-generation token." },
	{ "--temperature", "-t", OPT_FLOAT, AT(temperature), "X", 0, 100, .def = "0",
	  .help = "0 takes the most probable token, more varies." },
	{ "--top-k", NULL, OPT_U32, AT(top_k), "N", 0, 16777216, .def = "0",
	  .given = AT(top_k_given), .help = "Only the N most probable tokens; 0: all." },
	{ "--top-p", NULL, OPT_FLOAT, AT(top_p), "X", 0, 1, .def = "1", .given = AT(top_p_given),
	  .help = "Only the most probable tokens that together have this share; 0: the best one." },
	{ "--min-p", NULL, OPT_FLOAT, AT(min_p), "X", 0, 1, .def = "0", .given = AT(min_p_given),
	  .help = "Only tokens that are at least X times as probable as the best; 0: all." },
	{ "--repeat-penalty", NULL, OPT_FLOAT, AT(repeat_penalty), "X", 0, 100, .def = "1",
	  .help = "Tokens of the last --penalty-last-n are less probable by this factor of their "
		  "logit; 1: no less." },
	{ "--frequency-penalty", NULL, OPT_FLOAT, AT(frequency_penalty), "X", -100, 100, .def = "0",
	  .help = "... by X for each time that they stand there." },
	{ "--presence-penalty", NULL, OPT_FLOAT, AT(presence_penalty), "X", -100, 100, .def = "0",
	  .help = "... by X where they stand there at all." },
	{ "--penalty-last-n", NULL, OPT_U32, AT(penalty_last_n), "N", 0, 16777216, .def = "64",
	  .help = "Tokens of prompt and answer that the penalties look at; 0: all." },
	{ "--min-tokens", NULL, OPT_U32, AT(min_tokens), "N", 0, 16777216, .def = "0",
	  .help = "The model cannot end its answer before N tokens." },
	{ "--typical-p", NULL, OPT_FLOAT, AT(typical_p), "X", 0, 1, .def = "1",
	  .help = "Only the most typical tokens that together have this share; 1: all." },
	{ "--top-n-sigma", NULL, OPT_FLOAT, AT(top_n_sigma), "X", 0, 100, .def = "0",
	  .help = "Only tokens within X standard deviations of the best logit; 0: all." },
	{ "--xtc-probability", NULL, OPT_FLOAT, AT(xtc_probability), "X", 0, 1, .def = "0",
	  .help = "How often the most probable tokens are left out (XTC)." },
	{ "--xtc-threshold", NULL, OPT_FLOAT, AT(xtc_threshold), "X", 0, 1, .def = "0.1",
	  .help = "... all but the least probable of those with at least this probability." },
	{ "--dry-multiplier", NULL, OPT_FLOAT, AT(dry_multiplier), "X", 0, 100, .def = "0",
	  .help = "Tokens that would go on a repetition are less probable (DRY); 0: no less." },
	{ "--seed", NULL, OPT_U64, AT(seed), "N", .given = AT(seed_given),
	  .help = "Of the random choices: the same seed, the same answer. Default: a fresh one, "
		  "which is printed." },
	{ "--schema", NULL, OPT_TEXT, AT(schema), "FILE", .excludes = "--gbnf|--regex",
	  .help = "Hold the answer to the JSON schema in FILE; - reads standard input." },
	{ "--loose", NULL, OPT_FLAG, AT(loose), .needs = "--schema",
	  .help = "Leave out of the schema what cannot be held, instead of refusing it." },
	{ "--gbnf", NULL, OPT_TEXT, AT(gbnf), "FILE", .excludes = "--regex",
	  .help = "Hold it to the grammar in FILE, in llama.cpp's notation; - reads standard "
		  "input." },
	{ "--regex", NULL, OPT_TEXT, AT(regex), "TEXT",
	  .help = "Hold it to a regular expression, which the whole answer matches." },
	{ "--spec", NULL, OPT_CHOICE, AT(spec), "KIND", .choices = DRAFTS_CHOICES, .def = "default",
	  .help = "What drafts tokens that are checked several in one step; the answer does not "
		  "depend on it. default: as the daemon was started." },
	{ "--draft-length", NULL, OPT_U32, AT(draft_length), "N", 0, SLUICE_DRAFT_LENGTH_MAX,
	  .def = "0",
	  .help = "So many drafts in every step whatever it costs (experiments); 0: as it pays." },
	{ "--quiet", "-q", OPT_FLAG, AT(quiet), .help = "No figures and notes on stderr." },
	{ "--json", NULL, OPT_FLAG, AT(json), .help = "One JSON object instead of text." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

/* What came. */
struct answer {
	struct client_progress progress;
	bool json, broken; /* broken: stdout takes no more */
	char *text;
	size_t bytes, room;
	uint32_t *tokens;
	size_t n_tokens, tokens_room;
	uint32_t n_pieces; /* tokens that came, printed or kept */
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

	client_clear_progress(&a->progress);
	a->n_pieces += piece->token != SLUICE_NO_TOKEN;
	if (!a->json) {
		if (bytes && (fwrite(text, 1, bytes, stdout) != bytes || input_flush()))
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

static int take_ids(const char *json, struct sluice_prompt *ret, void **owned, struct err *err)
{
	uint32_t *ids;
	size_t bytes;
	char *text;
	int rc = input_text(json, &text, &bytes, err);

	if (rc)
		return rc;
	rc = input_tokens(text, bytes, "--prompt-tokens", &ids, &ret->n_tokens, err);
	free(text);
	if (!rc)
		ret->tokens = *owned = ids;
	return rc;
}

/* The prompt from whichever option named it, or from the @word beside them; *owned is to be freed. */
static int take_prompt(const struct args *args, const char *word, struct sluice_prompt *ret,
		       void **owned)
{
	struct err err = { 0 };
	char *text;
	int rc;

	ret->flags = (args->chat ? SLUICE_CHAT : 0) | (args->special ? SLUICE_SPECIAL : 0) |
		     (args->think ? SLUICE_THINK : 0) | (args->no_think ? SLUICE_NO_THINK : 0);
	ret->system = args->system;
	if (!word + !args->prompt + !args->prompt_file + !args->prompt_tokens != 3)
		rc = err_set(&err, -EINVAL,
			     "one prompt is needed: TEXT, --prompt, --prompt-file or "
			     "--prompt-tokens");
	else if (args->prompt_tokens)
		rc = take_ids(args->prompt_tokens, ret, owned, &err);
	else if (args->prompt_file)
		rc = input_file(args->prompt_file, &text, &ret->text_bytes, &err);
	else
		rc = input_text(word ? word : args->prompt, &text, &ret->text_bytes, &err);
	if (!rc && !args->prompt_tokens)
		ret->text = *owned = text;
	if (!rc)
		return 0;
	fprintf(stderr, "sluice generate: %s\n", err.text);
	return rc == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
}

/* Greedy choice has no use for these: not wrong, but who gave them may expect something else. */
static void note_unused(const struct args *args)
{
	const struct {
		bool given;
		const char *name;
	} unused[] = { { args->top_k_given, "--top-k" },
		       { args->top_p_given, "--top-p" },
		       { args->min_p_given, "--min-p" },
		       { args->seed_given, "--seed" } };

	for (size_t i = 0; i < ARRAY_LEN(unused) && args->temperature <= 0; i++)
		if (unused[i].given)
			fprintf(stderr,
				"sluice generate: at --temperature 0 the most probable token is "
				"taken: %s changes nothing\n",
				unused[i].name);
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

/* How it ended, where that is not the model's own end. */
static void print_ending(const struct args *args, const struct sluice_model_info *m,
			 const struct sluice_done *d)
{
	if (d->stop == SLUICE_STOP_CANCELLED)
		fputs(d->n_generated ? "; cancelled" : "; cancelled while the prompt was read",
		      stderr);
	else if (d->stop == SLUICE_STOP_LENGTH && d->n_generated &&
		 d->n_generated >= args->max_tokens)
		fprintf(stderr, "; cut at --max-tokens %u", args->max_tokens);
	else if (d->stop == SLUICE_STOP_LENGTH && args->max_tokens)
		fprintf(stderr, "; cut because the context of %u tokens is full", m->n_ctx);
}

/* Of the prompt, not taken from earlier requests. */
static uint32_t read_tokens(const struct sluice_done *d)
{
	return d->n_prompt > d->n_cached ? d->n_prompt - d->n_cached : 0;
}

static void print_figures(const struct args *args, const struct sluice_model_info *m,
			  const struct sluice_done *d)
{
	char disk[32], memory[32];

	fprintf(stderr,
		"%.1f tok/s (%u tokens), prompt %.1f tok/s (%u tokens), first token %.0f ms",
		predicted_rate(d), d->n_generated, rate(read_tokens(d), d->prompt_ns), d->n_prompt,
		(double)d->ttft_ns / 1e6);
	if (d->n_cached)
		fprintf(stderr, "; %u tokens of the prompt were known", d->n_cached);
	if (m->n_expert)
		fprintf(stderr, "; expert hit rate %.1f %%, from memory %s, from disk %s",
			hit_ratio(d) * 100, size_format(memory, sizeof(memory), memory_bytes(m, d)),
			size_format(disk, sizeof(disk), d->bytes_read));
	if (drafts_drafted(&d->spec))
		fprintf(stderr, "; %" PRIu64 " of %" PRIu64 " drafted tokens were right",
			drafts_accepted(&d->spec), drafts_drafted(&d->spec));
	if (args->temperature > 0)
		fprintf(stderr, "; seed %" PRIu64, args->seed);
	print_ending(args, m, d);
	fputc('\n', stderr);
}

static json_t *tokens_json(const struct answer *a)
{
	json_t *array = json_array();

	for (size_t i = 0; i < a->n_tokens; i++)
		json_array_append_new(array, json_integer(a->tokens[i]));
	return array;
}

/* JSON's integers are signed here: what is beyond them goes as text. */
static json_t *seed_json(uint64_t seed)
{
	return seed > INT64_MAX ? json_sprintf("%" PRIu64, seed) : json_integer((json_int_t)seed);
}

static int print_json(const struct args *args, const struct answer *a,
		      const struct sluice_model_info *m, const struct sluice_done *d,
		      const char *error)
{
	const char *stop = error ? "error" : sluice_stop_name(d->stop);
	json_t *o = json_pack("{s:o, s:o, s:s, s:{s:I, s:I}, s:{s:f, s:f, s:f}}", "text",
			      input_json_text(a->text ? a->text : "", a->bytes), "tokens",
			      tokens_json(a), "stop_reason", stop, "usage", "prompt_tokens",
			      (json_int_t)d->n_prompt, "completion_tokens", (json_int_t)a->n_tokens,
			      "timings", "prompt_per_second", rate(read_tokens(d), d->prompt_ns),
			      "predicted_per_second", predicted_rate(d), "ttft_ms",
			      (double)d->ttft_ns / 1e6);
	json_t *experts = json_pack("{s:I, s:I, s:f, s:I, s:I, s:f}", "hits", (json_int_t)d->hits,
				    "misses", (json_int_t)d->misses, "hit_ratio", hit_ratio(d),
				    "bytes_from_memory", (json_int_t)memory_bytes(m, d),
				    "bytes_from_disk", (json_int_t)d->bytes_read, "stall_seconds",
				    (double)d->stall_ns / 1e9);

	json_object_set_new(o, "cached_tokens", json_integer(d->n_cached)); /* of the prompt */
	json_object_set_new(o, "experts", experts);
	json_object_set_new(o, "speculation", drafts_json(&d->spec));
	json_object_set_new(o, "seed", seed_json(args->seed));
	if (error)
		input_put_text(o, "error", error);
	return input_print_json(o, false);
}

/* What the answer is to be held to; *owned is to be freed. */
static int take_form(const struct args *args, struct sluice_settings *ret, char **owned)
{
	const char *path = args->schema ? args->schema : args->gbnf;
	struct err err = { 0 };
	int rc = 0;

	if (args->regex) {
		ret->form = SLUICE_FORM_REGEX;
		ret->form_text = args->regex;
		ret->form_bytes = strlen(args->regex);
	} else if (path) {
		ret->form = args->gbnf	  ? SLUICE_FORM_GBNF
			    : args->loose ? SLUICE_FORM_SCHEMA_LOOSE
					  : SLUICE_FORM_SCHEMA;
		rc = input_file(path, owned, &ret->form_bytes, &err);
		ret->form_text = *owned;
	}
	if (!rc && ret->form_text && !ret->form_bytes)
		rc = err_set(&err, -EINVAL, "%s is empty", path ? path : "--regex");
	if (rc)
		fprintf(stderr, "sluice generate: %s\n", err.text);
	return rc ? EXIT_FAILED : 0;
}

static struct sluice_settings take_settings(const struct args *args)
{
	return (struct sluice_settings){
		.struct_size = sizeof(struct sluice_settings),
		.max_tokens = args->max_tokens,
		.flags = (args->raw ? SLUICE_RAW : 0) | (args->ignore_eog ? SLUICE_IGNORE_EOG : 0),
		.temperature = args->temperature,
		.top_k = args->top_k,
		/* there 0 is "off"; who writes 0 here wants no share beyond the first token's */
		.top_p = args->top_p > 0 ? args->top_p : FLT_MIN,
		.min_p = args->min_p,
		.seed = args->seed,
		.spec = args->spec,
		.draft_length = args->draft_length,
		/* what is off is 0: daemons that do not know these fields take that */
		.repeat_penalty = args->repeat_penalty != 1 ? args->repeat_penalty : 0,
		.frequency_penalty = args->frequency_penalty,
		.presence_penalty = args->presence_penalty,
		.penalty_last_n = args->penalty_last_n == 64 ? 0
				  : args->penalty_last_n     ? (int32_t)args->penalty_last_n
							     : -1,
		.min_tokens = args->min_tokens,
		.typical_p = args->typical_p < 1 ? args->typical_p : 0,
		.top_n_sigma = args->top_n_sigma,
		.xtc_probability = args->xtc_probability,
		.xtc_threshold = args->xtc_probability > 0 ? args->xtc_threshold : 0,
		.dry_multiplier = args->dry_multiplier,
	};
}

/* A failure in the middle of an answer says so: what stands above it looks like a whole one. */
static int fail_cut(const struct answer *a, const struct sluice_fault *fault)
{
	int rc = client_fail("generate", fault);

	if (a->n_pieces)
		fprintf(stderr, "sluice generate: the answer is cut there, after %u tokens\n",
			a->n_pieces);
	return rc;
}

static int report(const struct args *args, const struct answer *a,
		  const struct sluice_model_info *m, const struct sluice_done *d, int rc,
		  const struct sluice_fault *fault)
{
	/* Refused before it began: there is no answer to print. */
	bool began = !rc || d->stop == SLUICE_STOP_ERROR || a->n_pieces;

	if (!args->json && a->last && a->last != '\n')
		putchar('\n');
	if (args->json && began && print_json(args, a, m, d, rc ? fault->text : NULL))
		return EXIT_FAILED;
	if (a->no_memory)
		fprintf(stderr, "sluice generate: out of memory\n");
	if (a->no_memory || a->broken)
		return EXIT_FAILED;
	if (rc)
		return fail_cut(a, fault);
	/* the answer stands before its figures, in a pipe as well */
	if (!input_flush() && !args->json && !args->quiet)
		print_figures(args, m, d);
	return client_ending("generate", d);
}

static int run(const struct args *args, const struct sluice_prompt *prompt)
{
	struct sluice_settings settings = take_settings(args);
	struct answer answer = { .json = args->json };
	struct sluice_fault fault = { 0 };
	struct sluice_model_info model = { .struct_size = sizeof(model) };
	struct sluice_done done = { .struct_size = sizeof(done) };
	char *form = NULL;
	struct sluice *s;
	int rc = take_form(args, &settings, &form);

	rc = rc ? rc : client_open("generate", &args->client, &s);
	if (rc) {
		free(form);
		return rc;
	}
	rc = client_ready("generate", s);
	if (rc)
		goto out;
	if (sluice_get_model(s, &model, NULL, 0, &fault)) {
		rc = client_fail("generate", &fault);
		goto out;
	}
	client_on_interrupt(s);
	if (!args->quiet)
		client_show_progress(&answer.progress, "generate", s);
	rc = sluice_generate(s, prompt, &settings, on_token, &answer, &done, &fault);
	client_clear_progress(&answer.progress);
	client_on_interrupt(NULL);
	rc = report(args, &answer, &model, &done, rc, &fault);
out:
	free(answer.tokens);
	free(answer.text);
	free(form);
	sluice_close(s);
	return rc;
}

/* 32 bits: enough, and short to type again. */
static int fresh_seed(uint64_t *ret)
{
	uint32_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
		fprintf(stderr, "sluice generate: no random seed can be had; give one by --seed\n");
		return EXIT_FAILED;
	}
	*ret = seed;
	return 0;
}

int verb_generate(int argc, char **argv)
{
	struct args args = { 0 };
	struct sluice_prompt prompt = { .struct_size = sizeof(prompt) };
	void *owned = NULL;
	const char *word;
	int rc = input_args("TEXT | --prompt-file FILE | --prompt-tokens JSON [options]", options,
			    ARRAY_LEN(options), argc, argv, &args, &args.help, &word);

	if (rc >= 0)
		return rc;
	rc = take_prompt(&args, word, &prompt, &owned);
	if (!rc && !args.seed_given)
		rc = fresh_seed(&args.seed);
	if (!rc && !args.quiet)
		note_unused(&args);
	if (!rc)
		rc = run(&args, &prompt);
	free(owned);
	return rc;
}
