/* SPDX-License-Identifier: MIT */
/*
 * tools/tokenize.c: `sluice tokenize`: text to ids and ids to text with a file's own tokenizer.
 *
 * Reads only the header of the model file, so a vocabulary without weights will do. --text names a
 * file ("-": standard input), --ids is a JSON array. Without --json ids come out on one line and
 * text as its bytes; with it as one object, in which bytes that are no UTF-8 become U+FFFD.
 * One thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "base/opts.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tools/verbs.h"

#define READ_STEP 65536

struct args {
	const char *model, *text, *ids;
	uint32_t pre; /* index into pre_names + 1; 0: the file's own */
	bool special, json, help;
};

#define PRE_CHOICES "file|gpt-2|qwen2|qwen35"
static const char *const pre_names[] = { NULL, "gpt-2", "qwen2", "qwen35" };

static const struct opt options[] = {
	{ "--model", "-m", OPT_TEXT, offsetof(struct args, model), "FILE",
	  .help = "GGUF file; its vocabulary is enough" },
	{ "--text", "-f", OPT_TEXT, offsetof(struct args, text), "FILE",
	  .help = "file that holds the text to encode; - is standard input" },
	{ "--ids", NULL, OPT_TEXT, offsetof(struct args, ids), "JSON",
	  .help = "ids to decode, as a JSON array: '[1,2]'" },
	{ "--special", NULL, OPT_FLAG, offsetof(struct args, special),
	  .help = "parse control tokens in the text, or write those among the ids" },
	{ "--pre", NULL, OPT_CHOICE, offsetof(struct args, pre), .choices = PRE_CHOICES,
	  .def = "file", .help = "use this pre-tokenizer instead of the file's own" },
	{ "--json", NULL, OPT_FLAG, offsetof(struct args, json), .help = "one JSON object" },
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "this text" },
};

static int failed(const char *what, const char *why)
{
	fprintf(stderr, "sluice tokenize: %s: %s\n", what, why);
	return EXIT_FAILED;
}

/* All that @fd gives, malloc'd. The number of bytes or -errno. */
static ssize_t read_all(int fd, char **ret)
{
	size_t n = 0, cap = READ_STEP;
	char *data = malloc(cap), *more;
	ssize_t got = data ? 1 : -1;

	if (!data)
		return -ENOMEM;
	while (got) {
		if (n == cap) {
			more = cap > SIZE_MAX / 4 ? NULL : realloc(data, 2 * cap);
			if (!more)
				goto out_no_memory;
			data = more;
			cap *= 2;
		}
		got = read(fd, data + n, cap - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			got = -errno;
			free(data);
			return got;
		}
		n += (size_t)got;
	}
	*ret = data;
	return (ssize_t)n;

out_no_memory:
	free(data);
	return -ENOMEM;
}

static ssize_t read_file(const char *path, char **ret)
{
	int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read_all(fd, ret);
	if (fd != STDIN_FILENO)
		close(fd);
	return n;
}

static int written(int rc)
{
	if (!rc && !fflush(stdout))
		return EXIT_OK;
	return failed("standard output", "the result cannot be written");
}

static int print_ids(const uint32_t *ids, size_t n, bool json)
{
	fputs(json ? "{\"tokens\":[" : "", stdout);
	for (size_t i = 0; i < n; i++)
		printf("%s%" PRIu32, !i ? "" : json ? "," : " ", ids[i]);
	puts(json ? "]}" : "");
	return written(ferror(stdout));
}

static int encode(const struct args *args, const struct tokenizer *t)
{
	uint32_t *ids = NULL;
	char *text = NULL;
	ssize_t len = read_file(args->text, &text), n;
	int rc;

	if (len < 0)
		return failed(args->text, strerror((int)-len));
	n = tokenizer_encode_prompt(t, text, (size_t)len, args->special, &ids);
	free(text);
	if (n == -EILSEQ)
		return failed(args->text, "the vocabulary has no token for a byte of this text");
	if (n < 0)
		return failed(args->text, strerror((int)-n));
	rc = print_ids(ids, (size_t)n, args->json);
	free(ids);
	return rc;
}

/* Writes the bytes of the tokens as they are. */
static int print_bytes(const struct args *args, const struct tokenizer *t, const json_t *ids)
{
	for (size_t i = 0; i < json_array_size(ids); i++) {
		const char *bytes;
		uint32_t id = (uint32_t)json_integer_value(json_array_get(ids, i));
		size_t n = tokenizer_piece(t, id, args->special, &bytes);

		fwrite(bytes, 1, n, stdout);
	}
	return written(ferror(stdout));
}

/* Writes {"text": ...}, made of whole characters. */
static int print_text(const struct args *args, const struct tokenizer *t, const json_t *ids)
{
	size_t cap = detok_bound(t), n = 0;
	char *text = malloc(cap), *more;
	struct detok d;
	ssize_t got;
	json_t *j;
	int rc = -1;

	detok_init(&d, t, args->special);
	for (size_t i = 0; text && i <= json_array_size(ids); i++) {
		if (cap - n < detok_bound(t)) {
			more = realloc(text, 2 * cap + detok_bound(t));
			if (!more)
				goto out;
			text = more;
			cap = 2 * cap + detok_bound(t);
		}
		got = i == json_array_size(ids)
			      ? detok_flush(&d, text + n, cap - n)
			      : detok_push(&d, (uint32_t)json_integer_value(json_array_get(ids, i)),
					   text + n, cap - n);
		if (got < 0)
			goto out;
		n += (size_t)got;
	}
	if (text) {
		j = json_pack("{s:s%}", "text", text, n);
		rc = j ? json_dumpf(j, stdout, JSON_COMPACT) : -1;
		putchar('\n');
		json_decref(j);
	}
out:
	free(text);
	return written(rc);
}

static int decode(const struct args *args, const struct tokenizer *t)
{
	json_error_t error;
	json_t *ids = json_loads(args->ids, 0, &error), *id;
	size_t i;
	int rc = EXIT_USAGE;

	if (!json_is_array(ids)) {
		fprintf(stderr, "sluice tokenize: --ids: not a JSON array of ids: %s\n",
			ids ? "it is something else" : error.text);
		goto out;
	}
	json_array_foreach(ids, i, id)
	{
		if (json_is_integer(id) && json_integer_value(id) >= 0 &&
		    json_integer_value(id) < tokenizer_n_vocab(t))
			continue;
		fprintf(stderr,
			"sluice tokenize: --ids: element %zu is not an id below %" PRIu32 "\n", i,
			tokenizer_n_vocab(t));
		rc = EXIT_FAILED;
		goto out;
	}
	rc = args->json ? print_text(args, t, ids) : print_bytes(args, t, ids);
out:
	json_decref(ids);
	return rc;
}

static int tokenize(const struct args *args)
{
	struct tokenizer *t = NULL;
	struct err err = { 0 };
	struct gguf *g = NULL;
	int rc = gguf_open(args->model, &g, &err);

	if (!rc)
		rc = tokenizer_create(g, pre_names[args->pre], &t, &err);
	if (rc)
		fprintf(stderr, "sluice tokenize: %s\n", err.text);
	gguf_destroy(g);
	if (rc)
		return EXIT_FAILED;
	rc = args->text ? encode(args, t) : decode(args, t);
	tokenizer_destroy(t);
	return rc;
}

int verb_tokenize(int argc, char **argv)
{
	struct args args = { 0 };
	struct err err = { 0 };

	if (opts_parse(options, ARRAY_LEN(options), argc, argv, &args, NULL, &err)) {
		fprintf(stderr, "sluice tokenize: %s\n", err.text);
		return EXIT_USAGE;
	}
	if (args.help) {
		puts("usage: sluice tokenize --model FILE --text FILE | --ids JSON [options]\n");
		opts_help(stdout, options, ARRAY_LEN(options));
		return EXIT_OK;
	}
	if (!args.model || !args.text == !args.ids) {
		fprintf(stderr,
			"sluice tokenize: --model FILE and one of --text, --ids are needed\n");
		return EXIT_USAGE;
	}
	return tokenize(&args);
}
