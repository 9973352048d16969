/* SPDX-License-Identifier: MIT */
/*
 * tools/grammar.c: `sluice grammar`: a text put to the automaton that masks a model's tokens.
 *
 * Exit status: 0 the text is accepted, 1 it is rejected or incomplete (at which byte), 2 the grammar
 * cannot be held (why). The text is taken as it is, byte by byte; with --model the tokens that are
 * allowed at each byte are counted, and hashed so that two programs can be compared. One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "base/num.h"
#include "base/opts.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "grammar/program.h"
#include "grammar/vocab.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tools/input.h"
#include "tools/verbs.h"

enum { EXIT_CANNOT_HOLD = 2 };

struct args {
	const char *schema, *gbnf, *regex, *text, *model;
	bool loose, help;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	{ "--schema", "-s", OPT_TEXT, AT(schema), "FILE", .excludes = "--gbnf|--regex",
	  .help = "A JSON schema." },
	{ "--gbnf", "-g", OPT_TEXT, AT(gbnf), "FILE", .excludes = "--regex",
	  .help = "A grammar in llama.cpp's notation; its rule root is the start." },
	{ "--regex", "-r", OPT_TEXT, AT(regex), "FILE",
	  .help = "A regular expression for the whole text, without the file's last line end." },
	{ "--text", "-t", OPT_TEXT, AT(text), "FILE",
	  .help = "The text, every byte of it; - reads standard input." },
	{ "--model", "-m", OPT_TEXT, AT(model), "FILE",
	  .help = "GGUF file. For each byte of the text, and for its end, a line: the byte's number, "
		  "how many tokens may come there, and FNV-1a (64 bits) of their ids, ascending, "
		  "each as four bytes, the lowest first." },
	{ "--loose", NULL, OPT_FLAG, AT(loose), .needs = "--schema",
	  .help = "Leave out of the schema what cannot be held, instead of refusing it." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

static int failed(int status, const char *what, const char *why)
{
	fprintf(stderr, "sluice grammar: %s: %s\n", what, why);
	return status;
}

#define SCHEMA_DEPTH 1000 /* of arrays and objects within each other */

static int compile_schema(const struct args *args, const char *text, size_t n, struct program **ret,
			  struct err *err)
{
	const struct schema_options o = { .strict = !args->loose };
	struct json_object *schema;
	const char *why;
	size_t at;
	int rc;

	if (n >= INT32_MAX)
		return err_set(err, -ENOMEM, "out of memory");
	rc = jsonc_parse(text, n, SCHEMA_DEPTH, &schema, &at, &why);
	if (rc)
		return err_set(err, rc, "no JSON: %s, near byte %zu", why, at);
	rc = grammar_schema(schema, &o, ret, err);
	json_object_put(schema);
	return rc;
}

static int compile(const struct args *args, struct program **ret)
{
	const char *path = args->schema ? args->schema : args->gbnf ? args->gbnf : args->regex;
	struct err err = { 0 };
	char *text = NULL;
	size_t n = 0;
	int rc;

	if (input_file(path, &text, &n, &err))
		return failed(EXIT_FAILED, path, err.text);
	if (args->schema) {
		rc = compile_schema(args, text, n, ret, &err);
	} else if (args->gbnf) {
		rc = grammar_gbnf(text, n, ret, &err);
	} else {
		n -= n && text[n - 1] == '\n';
		rc = grammar_regex(text, n, ret, &err);
	}
	free(text);
	return rc ? failed(EXIT_CANNOT_HOLD, path, err.text) : EXIT_OK;
}

static int read_vocab(const char *path, struct vocab **ret)
{
	struct tokenizer *t = NULL;
	struct err err = { 0 };
	struct gguf *g = NULL;
	int rc = gguf_open(path, &g, &err);

	rc = rc ? rc : tokenizer_create(g, NULL, &t, &err);
	if (!rc) {
		rc = vocab_of_tokenizer(t, NULL, ret);
		if (rc)
			err_set(&err, rc, "out of memory");
	}
	tokenizer_destroy(t);
	gguf_destroy(g);
	return rc ? failed(EXIT_FAILED, path, err.text) : EXIT_OK;
}

static int print_mask(struct matcher *m, const struct vocab *v, size_t at)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */
	const uint64_t *bits;
	uint32_t n = 0;

	if (matcher_mask(m, &bits))
		return -E2BIG;
	for (uint32_t id = 0; id < vocab_n(v); id++) {
		if (!(bits[id / 64] >> id % 64 & 1))
			continue;
		n++;
		for (unsigned k = 0; k < 4; k++)
			hash = (hash ^ (id >> 8 * k & 255)) * 1099511628211u;
	}
	printf("%zu %" PRIu32 " %016" PRIx64 "\n", at, n, hash);
	return 0;
}

/* The text from its first byte to the one that does not fit. */
static int put_text(struct matcher *m, const struct vocab *v, const char *text, size_t n)
{
	size_t at = 0;
	long taken = 1;

	for (; at < n && taken == 1; at += (size_t)taken) {
		if (v && print_mask(m, v, at))
			taken = -1;
		else
			taken = matcher_bytes(m, text + at, 1);
		if (taken < 0)
			return failed(EXIT_CANNOT_HOLD, "the text",
				      "the grammar is too ambiguous for it");
	}
	if (taken != 1) {
		printf("rejected at byte %zu\n", at);
		return EXIT_FAILED;
	}
	if (v && print_mask(m, v, at))
		return failed(EXIT_CANNOT_HOLD, "the text", "the grammar is too ambiguous for it");
	if (!matcher_accepts(m)) {
		printf("incomplete at byte %zu\n", n);
		return EXIT_FAILED;
	}
	puts("accepted");
	return EXIT_OK;
}

static int run(const struct args *args, const struct program *p)
{
	struct matcher *m = NULL;
	struct vocab *v = NULL;
	struct err err = { 0 };
	char *text = NULL;
	size_t n = 0;
	int rc = EXIT_OK;

	if (input_file(args->text, &text, &n, &err))
		return failed(EXIT_FAILED, args->text, err.text);
	if (args->model)
		rc = read_vocab(args->model, &v);
	if (rc == EXIT_OK && matcher_create(p, v, &m))
		rc = failed(EXIT_FAILED, args->text, strerror(ENOMEM));
	if (rc == EXIT_OK)
		rc = put_text(m, v, text, n);
	matcher_destroy(m);
	vocab_destroy(v);
	free(text);
	return rc;
}

int verb_grammar(int argc, char **argv)
{
	struct program *p = NULL;
	struct args args = { 0 };
	int rc = input_args("--schema FILE | --gbnf FILE | --regex FILE --text FILE [--model FILE]",
			    options, ARRAY_LEN(options), argc, argv, &args, &args.help, NULL);

	if (rc >= 0)
		return rc;
	if (!args.schema && !args.gbnf && !args.regex) {
		fprintf(stderr, "sluice grammar: give --schema, --gbnf or --regex\n");
		return EXIT_USAGE;
	}
	if (!args.text) {
		fprintf(stderr, "sluice grammar: give --text\n");
		return EXIT_USAGE;
	}
	rc = compile(&args, &p);
	if (rc == EXIT_OK)
		rc = run(&args, p);
	program_destroy(p);
	return rc;
}
