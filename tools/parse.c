/* SPDX-License-Identifier: MIT */
/*
 * tools/parse.c: `sluice parse`: reasoning, content and tool calls in a model's text, as the daemon
 * finds them.
 *
 * The input is one JSON object {text, tools, thinking_start}. The text is fed in pieces of --chunk
 * bytes, and what is printed is put together from the deltas, as a client of a stream would. One
 * thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "base/num.h"
#include "base/opts.h"
#include "chat/calls.h"
#include "model/gguf.h"
#include "tools/input.h"
#include "tools/json_input.h"
#include "tools/verbs.h"

struct args {
	const char *template, *model, *input;
	uint32_t format, chunk;
	bool json, help;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	{ "--format", "-f", OPT_CHOICE, AT(format), .choices = CALLS_FORMAT_CHOICES, .def = "auto",
	  .help = "The form of calls; auto: by the chat template of --template or --model." },
	{ "--template", "-t", OPT_TEXT, AT(template), "FILE", .excludes = "--model",
	  .help = "A chat template, a text file." },
	{ "--model", "-m", OPT_TEXT, AT(model), "FILE",
	  .help = "GGUF file whose chat template is looked at." },
	{ "--input", "-i", OPT_TEXT, AT(input), "FILE",
	  .help = "JSON: {\"text\", \"tools\", \"thinking_start\"}; - reads standard input." },
	{ "--chunk", NULL, OPT_U32, AT(chunk), "N", .def = "0", .max = 1u << 30,
	  .help = "Feed the text in pieces of N bytes; 0: in one. The result is the same." },
	{ "--json", NULL, OPT_FLAG, AT(json),
	  .help = "One JSON object {\"reasoning_content\", \"content\", \"tool_calls\"}; without "
		  "this option a line for each delta." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

static int failed(const char *what, const char *why)
{
	fprintf(stderr, "sluice parse: %s: %s\n", what, why);
	return EXIT_FAILED;
}

/* ---- deltas put together ---- */

struct text {
	char *p;
	size_t n;
};

struct found {
	struct text reasoning, content;
	struct json_object *calls; /* an array of {id, name, arguments: text} */
	struct text arguments;	   /* of the call that is being read */
	bool no_memory;
};

static void append(struct found *f, struct text *t, const char *p, size_t n)
{
	char *more = realloc(t->p, t->n + n + 1);

	if (!more) {
		f->no_memory = true;
		return;
	}
	t->p = more;
	memcpy(t->p + t->n, p, n);
	t->n += n;
	t->p[t->n] = '\0';
}

static struct json_object *string_of(const char *p, size_t n)
{
	return json_object_new_string_len(n ? p : "", (int)n);
}

/* Prints as it was written: numbers keep their digits. */
static struct json_object *raw_json(const struct text *t)
{
	struct json_object *o = json_object_new_object();

	json_object_set_serializer(o, json_object_userdata_to_json_string, strdup(t->p),
				   json_object_free_userdata);
	return o;
}

static void take(struct found *f, const struct calls_delta *d)
{
	struct json_object *call;

	switch (d->kind) {
	case CALLS_REASONING:
		append(f, &f->reasoning, d->text, d->n);
		break;
	case CALLS_CONTENT:
		append(f, &f->content, d->text, d->n);
		break;
	case CALLS_BEGIN:
		call = json_object_new_object();
		json_object_object_add(call, "id", json_object_new_string(d->id));
		json_object_object_add(call, "name", string_of(d->name, d->name_n));
		json_object_array_add(f->calls, call);
		f->arguments.n = 0;
		break;
	case CALLS_ARGUMENTS:
		append(f, &f->arguments, d->text, d->n);
		break;
	case CALLS_END:
		call = json_object_array_get_idx(f->calls, d->call);
		json_object_object_add(call, "arguments", raw_json(&f->arguments));
		break;
	}
}

static void print_delta(const struct calls_delta *d)
{
	static const char *const kinds[] = { "reasoning", "content", "call", "arguments", "end" };
	struct json_object *o = json_object_new_object();

	if (d->kind >= CALLS_BEGIN)
		json_object_object_add(o, "index", json_object_new_int((int)d->call));
	if (d->kind == CALLS_BEGIN) {
		json_object_object_add(o, "id", json_object_new_string(d->id));
		json_object_object_add(o, "name", string_of(d->name, d->name_n));
	} else if (d->kind != CALLS_END) {
		json_object_object_add(o, "text", string_of(d->text, d->n));
	}
	printf("%s %s\n", kinds[d->kind],
	       json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							 JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static int print_found(struct found *f)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "reasoning_content", string_of(f->reasoning.p, f->reasoning.n));
	json_object_object_add(o, "content", string_of(f->content.p, f->content.n));
	json_object_object_add(o, "tool_calls", f->calls);
	f->calls = NULL;
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return EXIT_OK;
}

static int run(const struct args *args, struct calls *c, const char *text, size_t n,
	       struct found *f)
{
	size_t step = args->chunk ? args->chunk : n, at = 0;
	const struct calls_delta *d;
	bool final = false;
	size_t n_d;
	int rc;

	while (!final) {
		size_t len = n - at < step ? n - at : step;

		final = at == n;
		rc = final ? calls_finish(c, &d, &n_d) : calls_feed(c, text + at, len, &d, &n_d);
		if (rc)
			return failed(args->input, strerror(-rc));
		for (size_t i = 0; i < n_d; i++) {
			if (args->json)
				take(f, &d[i]);
			else
				print_delta(&d[i]);
		}
		at += len;
	}
	if (f->no_memory)
		return failed(args->input, strerror(ENOMEM));
	return args->json ? print_found(f) : EXIT_OK;
}

/* ---- input ---- */

/* The form by name, or by the template of a file. */
static int find_format(const struct args *args, enum calls_format *ret, struct err *err)
{
	struct gguf_str s = { 0 };
	struct gguf *g = NULL;
	char *text = NULL;
	size_t n = 0;
	bool told;
	int rc = 0;

	*ret = (enum calls_format)args->format;
	if (args->format != CALLS_FORMATS)
		return 0;
	if (args->template) {
		rc = input_file(args->template, &text, &n, err);
	} else if (args->model) {
		rc = gguf_open(args->model, &g, err);
		rc = rc ? rc : gguf_bytes(g, "tokenizer.chat_template", &s, NULL);
		if (rc == -ENOENT)
			rc = 0; /* none: hermes */
	}
	if (!rc)
		*ret = calls_format_of(text ? text : s.data, text ? n : (size_t)s.len, &told);
	free(text);
	gguf_destroy(g);
	return rc;
}

static int work(const struct args *args, struct json_object *input)
{
	struct json_object *text = jsonc_member(input, "text");
	struct calls_options o = { .tools = jsonc_member(input, "tools"), .id_seed = 1 };
	struct found f = { 0 };
	struct calls *c = NULL;
	struct err err = { 0 };
	int rc;

	if (!json_object_is_type(text, json_type_string))
		return failed(args->input, "no text");
	o.thinking_start = json_object_get_boolean(jsonc_member(input, "thinking_start"));
	rc = find_format(args, &o.format, &err);
	if (rc)
		return failed(args->template ? args->template : args->model,
			      err.text[0] ? err.text : strerror(-rc));
	rc = calls_create(&o, &c, &err);
	if (rc)
		return failed(args->input, err.text[0] ? err.text : strerror(-rc));
	f.calls = json_object_new_array();
	rc = run(args, c, json_object_get_string(text), (size_t)json_object_get_string_len(text),
		 &f);
	calls_destroy(c);
	json_object_put(f.calls);
	free(f.reasoning.p);
	free(f.content.p);
	free(f.arguments.p);
	return rc;
}

int verb_parse(int argc, char **argv)
{
	struct json_object *input = NULL;
	struct args args = { 0 };
	struct err err = { 0 };
	size_t n;
	char *text;
	int rc =
		input_args("--format FORMAT | --template FILE | --model FILE --input FILE [--json]",
			   options, ARRAY_LEN(options), argc, argv, &args, &args.help, NULL);

	if (rc >= 0)
		return rc;
	if (!args.input) {
		fprintf(stderr, "sluice parse: give --input\n");
		return EXIT_USAGE;
	}
	if (args.format == CALLS_FORMATS && !args.template && !args.model) {
		fprintf(stderr, "sluice parse: give --format, --template or --model\n");
		return EXIT_USAGE;
	}
	if (input_file(args.input, &text, &n, &err))
		return failed("--input", err.text);
	rc = input_json_object(text, n, &input, &err) ? failed(args.input, err.text)
						      : work(&args, input);
	json_object_put(input);
	free(text);
	return rc;
}
