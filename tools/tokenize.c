/* SPDX-License-Identifier: MIT */
/*
 * tools/tokenize.c: `sluice tokenize`: text to ids and ids to text.
 *
 * With --model by that file's own tokenizer, of which only the header is read, so a vocabulary
 * without weights will do; without it by the daemon, for the model that it serves. Without --json
 * ids come out on one line and text as its bytes; with it as one object, in which bytes that are no
 * UTF-8 become U+FFFD. One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/opts.h"
#include "chat/template.h"
#include "model/gguf.h"
#include "model/pretok.h"
#include "model/tokenizer.h"
#include "tools/client.h"
#include "tools/input.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	const char *model, *prompt, *text, *ids, *system;
	uint32_t pre; /* index into PRE_CHOICES; 0: the file's own */
	bool chat, think, no_think, special, json, help;
};

#define AT(field) offsetof(struct args, field)

#define PRE_CHOICES "file|" PRETOK_CHOICES

static const struct opt options[] = {
	{ "--model", "-m", OPT_TEXT, AT(model), "FILE", .excludes = "--socket|--wait",
	  .help = "GGUF file whose tokenizer is used; its vocabulary is enough. Without this option "
		  "the daemon is asked." },
	{ "--prompt", "-p", OPT_TEXT, AT(prompt), "TEXT", .excludes = "--text|--ids",
	  .help = "The text to encode; - reads standard input. Without this option the argument "
		  "that is no option is the text." },
	{ "--text", "-f", OPT_TEXT, AT(text), "FILE", .excludes = "--ids",
	  .help = "The file that holds it (the text itself: --prompt); - reads standard input." },
	{ "--ids", NULL, OPT_TEXT, AT(ids), "JSON",
	  .help = "Ids to decode, as a JSON array: '[1,2]'; - reads it from standard input." },
	{ "--chat", "-c", OPT_FLAG, AT(chat), .excludes = "--ids",
	  .help = "The text as a user's turn in the model's chat form, as generate --chat sends it." },
	{ "--system", NULL, OPT_TEXT, AT(system), "TEXT", .needs = "--chat",
	  .help = "With --chat: what the model is told before." },
	{ "--think", NULL, OPT_FLAG, AT(think), .needs = "--chat", .excludes = "--no-think",
	  .help = "With --chat: the answer begins with a thought, where the template can." },
	{ "--no-think", NULL, OPT_FLAG, AT(no_think), .needs = "--chat",
	  .help = "With --chat: it does not (the default where the template can leave it out)." },
	{ "--special", NULL, OPT_FLAG, AT(special),
	  .help = "Parse control tokens in the text, or write those among the ids." },
	{ "--pre", NULL, OPT_CHOICE, AT(pre), .choices = PRE_CHOICES, .def = "file",
	  .needs = "--model", .excludes = "--ids",
	  .help = "Use this pre-tokenizer instead of the file's own." },
	{ "--json", NULL, OPT_FLAG, AT(json), .help = "One JSON object." },
	CLIENT_OPTIONS(struct args, "30"),
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

/* What is converted: text, or ids. */
struct input {
	const char *name; /* in messages: the file, or where the text was given */
	char *text;
	size_t bytes;
	uint32_t *ids; /* NULL: text */
	size_t n_ids;
};

static int failed(const char *what, const char *why)
{
	fprintf(stderr, "sluice tokenize: %s: %s\n", what, why);
	return EXIT_FAILED;
}

static int print_ids(const uint32_t *ids, size_t n, bool json)
{
	fputs(json ? "{\"tokens\":[" : "", stdout);
	for (size_t i = 0; i < n; i++)
		printf("%s%" PRIu32, !i ? "" : json ? "," : " ", ids[i]);
	puts(json ? "]}" : "");
	return EXIT_OK;
}

/* {"text": ...} */
static int print_text(const char *text, size_t bytes)
{
	json_t *o = json_pack("{s:o}", "text", input_json_text(text, bytes));

	return input_print_json(o, false) ? EXIT_FAILED : EXIT_OK;
}

/* ---- by a file's tokenizer ---- */

static int encode(const struct args *args, const struct input *in, const struct gguf *g,
		  const struct tokenizer *t)
{
	const struct chat_turn turn = {
		.system = args->system,
		.system_len = args->system ? strlen(args->system) : 0,
		.user = in->text,
		.user_len = in->bytes,
		.special = args->special,
		.thinking = args->think	     ? CHAT_THINK
			    : args->no_think ? CHAT_NO_THINK
					     : CHAT_THINK_AS_USUAL,
	};
	struct chat_template *c = NULL;
	struct err err = { 0 };
	uint32_t *ids = NULL;
	ssize_t n;
	int rc;

	/* the fixed forms stand in for a template that is not there or cannot be read */
	if (args->chat && chat_template_load(g, t, NULL, 0, &c, &err))
		err_clear(&err);
	n = args->chat ? chat_turn_encode(c, NULL, g, t, &turn, &ids, &err)
		       : tokenizer_encode_prompt(t, in->text, in->bytes, args->special, &ids);
	chat_template_destroy(c);
	if (n < 0 && err.text[0])
		return failed("--chat", err.text);
	if (n == -EILSEQ)
		return failed(in->name, "the vocabulary has no token for a byte of this text");
	if (n < 0)
		return failed(in->name, strerror((int)-n));
	rc = print_ids(ids, (size_t)n, args->json);
	free(ids);
	return rc;
}

/* Whole characters of all ids, or NULL: no memory. */
static char *join(const struct tokenizer *t, const struct input *in, bool special, size_t *ret_n)
{
	size_t cap = detok_bound(t), n = 0;
	char *text = malloc(cap), *more;
	struct detok d;
	ssize_t got;

	detok_init(&d, t, special);
	for (size_t i = 0; text && i <= in->n_ids; i++) {
		if (cap - n < detok_bound(t)) {
			more = realloc(text, 2 * cap + detok_bound(t));
			if (!more)
				break;
			text = more;
			cap = 2 * cap + detok_bound(t);
		}
		got = i == in->n_ids ? detok_flush(&d, text + n, cap - n)
				     : detok_push(&d, in->ids[i], text + n, cap - n);
		if (got < 0)
			break;
		n += (size_t)got;
		if (i == in->n_ids) {
			*ret_n = n;
			return text;
		}
	}
	free(text);
	return NULL;
}

static int decode(const struct args *args, const struct input *in, const struct tokenizer *t)
{
	size_t n;
	char *text;
	int rc;

	for (size_t i = 0; i < in->n_ids; i++)
		if (in->ids[i] >= tokenizer_n_vocab(t)) {
			fprintf(stderr,
				"sluice tokenize: --ids: element %zu is not an id below %" PRIu32
				"\n",
				i, tokenizer_n_vocab(t));
			return EXIT_FAILED;
		}
	if (args->json) {
		text = join(t, in, args->special, &n);
		rc = text ? print_text(text, n) : failed("--ids", "out of memory");
		free(text);
		return rc;
	}
	for (size_t i = 0; i < in->n_ids; i++) { /* the bytes as they are */
		const char *bytes;

		n = tokenizer_piece(t, in->ids[i], args->special, &bytes);
		fwrite(bytes, 1, n, stdout);
	}
	return EXIT_OK;
}

static int by_file(const struct args *args, const struct input *in)
{
	struct tokenizer *t = NULL;
	struct err err = { 0 };
	struct gguf *g = NULL;
	char pre[32];
	int rc = gguf_open(args->model, &g, &err);

	opts_choice_text(PRE_CHOICES, args->pre, pre, sizeof(pre));
	if (!rc)
		rc = tokenizer_create(g, args->pre ? pre : NULL, &t, &err);
	if (!rc) {
		rc = in->ids ? decode(args, in, t) : encode(args, in, g, t);
	} else {
		fprintf(stderr, "sluice tokenize: %s\n", err.text);
		rc = EXIT_FAILED;
	}
	tokenizer_destroy(t);
	gguf_destroy(g);
	return rc;
}

/* ---- by the daemon ---- */

static int by_daemon(const struct args *args, const struct input *in)
{
	struct sluice_prompt prompt = {
		.struct_size = sizeof(prompt),
		.flags = (args->special ? SLUICE_SPECIAL : 0) | (args->chat ? SLUICE_CHAT : 0) |
			 (args->think ? SLUICE_THINK : 0) | (args->no_think ? SLUICE_NO_THINK : 0),
		.text = in->text,
		.text_bytes = in->bytes,
		.system = args->system,
	};
	struct sluice_fault fault = { 0 };
	uint32_t *ids = NULL;
	char *text = NULL;
	struct sluice *s;
	size_t n;
	int rc = client_open("tokenize", &args->client, &s);

	if (rc)
		return rc;
	if (in->ids)
		rc = sluice_detokenize(s, in->ids, in->n_ids, args->special ? SLUICE_RAW : 0, &text,
				       &n, &fault);
	else
		rc = sluice_tokenize(s, &prompt, &ids, &n, &fault);
	if (rc)
		rc = client_fail("tokenize", &fault);
	else if (!in->ids)
		rc = print_ids(ids, n, args->json);
	else if (args->json)
		rc = print_text(text, n);
	else
		fwrite(text, 1, n, stdout);
	free(ids);
	free(text);
	sluice_close(s);
	return rc;
}

/* ---- the verb ---- */

static int take_input(const struct args *args, const char *word, struct input *ret, struct err *err)
{
	const char *given = word ? word : args->prompt;
	char *json;
	size_t bytes;
	int rc;

	if (!word + !args->prompt + !args->text + !args->ids != 3)
		return err_set(err, -EINVAL, "one of TEXT, --prompt, --text and --ids is needed");
	if (args->text) {
		ret->name = args->text;
		return input_file(args->text, &ret->text, &ret->bytes, err);
	}
	if (given) {
		ret->name = strcmp(given, "-") ? "the text" : "-";
		return input_text(given, &ret->text, &ret->bytes, err);
	}
	rc = input_text(args->ids, &json, &bytes, err);
	if (rc)
		return rc;
	rc = input_tokens(json, bytes, "--ids", &ret->ids, &ret->n_ids, err);
	free(json);
	return rc;
}

int verb_tokenize(int argc, char **argv)
{
	struct input in = { 0 };
	struct args args = { 0 };
	struct err err = { 0 };
	const char *word;
	int rc = input_args("[--model FILE] TEXT | --text FILE | --ids JSON [options]", options,
			    ARRAY_LEN(options), argc, argv, &args, &args.help, &word);

	if (rc >= 0)
		return rc;
	rc = take_input(&args, word, &in, &err);
	if (rc) {
		fprintf(stderr, "sluice tokenize: %s\n", err.text);
		rc = rc == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	} else {
		rc = args.model ? by_file(&args, &in) : by_daemon(&args, &in);
	}
	free(in.text);
	free(in.ids);
	return rc;
}
