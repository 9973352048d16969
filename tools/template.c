/* SPDX-License-Identifier: MIT */
/*
 * tools/template.c: `sluice template`: a chat template rendered, as the daemon would or, with --raw,
 * as transformers would.
 *
 * The input is one JSON object: a conversation {messages, tools, add_generation_prompt,
 * chat_template_kwargs}, or {vars} for any template. What the template writes goes to stdout as it
 * is; a template that raises is exit status 1 and its sentence on stderr. One thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/jsonc.h"
#include "base/num.h"
#include "base/opts.h"
#include "chat/template.h"
#include "model/gguf.h"
#include "tools/input.h"
#include "tools/json_input.h"
#include "tools/verbs.h"

struct args {
	const char *template, *model, *input, *now;
	bool raw, caps, help;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	{ "--template", "-t", OPT_TEXT, AT(template), "FILE",
	  .help = "The template, a text file; with --model instead of the model's own." },
	{ "--model", "-m", OPT_TEXT, AT(model), "FILE",
	  .help = "GGUF file whose chat template and special tokens are used; its vocabulary is "
		  "enough." },
	{ "--input", "-i", OPT_TEXT, AT(input), "FILE",
	  .help = "JSON: {\"messages\", \"tools\", \"add_generation_prompt\", "
		  "\"chat_template_kwargs\"}, or {\"vars\"} for any template; - reads standard "
		  "input." },
	{ "--raw", NULL, OPT_FLAG, AT(raw),
	  .help = "Without the normaliser, as transformers renders: members that are null are "
		  "kept, reasoning is copied to both of its names." },
	{ "--now", NULL, OPT_TEXT, AT(now), "ISO",
	  .help = "The clock of strftime_now(), YYYY-MM-DDTHH:MM:SS (now)." },
	{ "--caps", NULL, OPT_FLAG, AT(caps), .excludes = "--input|--raw|--now",
	  .help = "Print what the template can do, found by rendering, as JSON." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

static int failed(const char *what, const char *why)
{
	fprintf(stderr, "sluice template: %s: %s\n", what, why);
	return EXIT_FAILED;
}

/* YYYY-MM-DDTHH:MM:SS as broken down time; what follows the seconds is left out. */
static bool parse_now(const char *text, struct tm *ret)
{
	struct tm t = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);

	if (!end)
		return false;
	timegm(&t); /* fills in the days of week and year */
	*ret = t;
	return true;
}

static int print(struct rendered *r)
{
	fwrite(r->text, 1, r->n, stdout);
	rendered_done(r);
	return EXIT_OK;
}

static int refused(const char *name, const struct template_error *err)
{
	return failed(err->raised ? "the template refuses" : name, err->err.text);
}

/* {vars}: any template. */
static int render_vars(const struct args *args, const char *source, size_t len,
		       struct json_object *vars, const struct template_options *o)
{
	struct template_error err = { 0 };
	struct template *t = NULL;
	struct rendered r;
	int rc = template_compile(source, len, &t, &err.err);

	if (!rc)
		rc = template_render(t, vars, o, &r, &err);
	template_destroy(t);
	return rc ? refused(args->template ? args->template : args->model, &err) : print(&r);
}

static int render_chat(const struct args *args, const struct chat_template *c,
		       struct json_object *input, const struct template_options *o)
{
	struct json_object *prompt = jsonc_member(input, "add_generation_prompt"), *kwargs = NULL;
	struct template_error err = { 0 };
	struct chat_input in = {
		.messages = jsonc_member(input, "messages"),
		.tools = jsonc_member(input, "tools"),
		.add_generation_prompt = prompt && json_object_get_boolean(prompt),
		.raw = args->raw,
	};
	struct rendered r;
	int rc = 0;

	if (!json_object_is_type(in.messages, json_type_array))
		return failed(args->input, "no list of messages, and no vars");
	if (args->raw)
		kwargs = json_object_get(jsonc_member(input, "chat_template_kwargs"));
	else
		rc = chat_kwargs(NULL, input, &kwargs, NULL, &err.err);
	if (rc)
		return failed(args->input, err.err.text);
	in.kwargs = kwargs;
	rc = chat_render(c, &in, o, &r, &err);
	json_object_put(kwargs);
	return rc ? refused(args->template ? args->template : args->model, &err) : print(&r);
}

static int print_caps(const struct chat_template *c)
{
	const struct chat_caps *caps = chat_template_caps(c);
	const struct {
		const char *name;
		bool can;
	} rows[] = {
		{ "supports_system_role", caps->system },
		{ "supports_tools", caps->tools },
		{ "supports_tool_calls", caps->tool_calls },
		{ "supports_parallel_tool_calls", caps->parallel_tool_calls },
		{ "supports_tool_responses", caps->tool_responses },
		{ "supports_string_content", caps->string_content },
		{ "supports_typed_content", caps->typed_content },
		{ "supports_object_arguments", caps->object_arguments },
		{ "supports_enable_thinking", caps->thinking_switch },
		{ "supports_reasoning_effort", caps->reasoning_effort },
		{ "supports_preserve_reasoning", caps->preserve_reasoning },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		printf("%s\"%s\": %s", i ? ", " : "{", rows[i].name,
		       rows[i].can ? "true" : "false");
	puts("}");
	return EXIT_OK;
}

/* Everything that has to be freed, whatever happens. */
struct work {
	char *source, *text;
	size_t source_bytes, text_bytes;
	struct gguf *g;
	struct tokenizer *t;
	struct chat_template *c;
	struct json_object *input;
};

static int open_model(const struct args *args, struct work *w, struct err *err)
{
	int rc = gguf_open(args->model, &w->g, err);

	if (!rc)
		rc = tokenizer_create(w->g, NULL, &w->t, err);
	if (!rc)
		rc = chat_template_load(w->g, w->t, w->source, w->source_bytes, &w->c, err);
	if (rc == -ENOENT && !err->text[0])
		err_set(err, rc, "it has no chat template (tokenizer.chat_template)");
	return rc;
}

static int work(const struct args *args, struct work *w)
{
	struct template_options o = { 0 };
	struct json_object *vars;
	struct err err = { 0 };
	struct tm now;

	if (args->now && !parse_now(args->now, &now))
		return failed("--now", "no time like 2026-03-05T14:07:09");
	o.now = args->now ? &now : NULL;
	if (args->template && input_file(args->template, &w->source, &w->source_bytes, &err))
		return failed("--template", err.text);
	if (!args->caps) {
		if (input_file(args->input, &w->text, &w->text_bytes, &err))
			return failed("--input", err.text);
		if (input_json_object(w->text, w->text_bytes, &w->input, &err))
			return failed(args->input, err.text);
		vars = jsonc_member(w->input, "vars");
		if (vars && !json_object_is_type(vars, json_type_object))
			return failed(args->input, "vars is no object");
		if (vars && w->source)
			return render_vars(args, w->source, w->source_bytes, vars, &o);
	}
	if (args->model ? open_model(args, w, &err)
			: chat_template_make(w->source, w->source_bytes, NULL, NULL, &w->c, &err))
		return failed(args->model ? args->model : args->template, err.text);
	if (args->caps)
		return print_caps(w->c);
	vars = jsonc_member(w->input, "vars");
	if (vars) {
		size_t n;
		const char *source = chat_template_source(w->c, &n);

		return render_vars(args, source, n, vars, &o);
	}
	return render_chat(args, w->c, w->input, &o);
}

int verb_template(int argc, char **argv)
{
	struct args args = { 0 };
	struct work w = { 0 };
	int rc = input_args("--template FILE | --model FILE --input FILE [--raw] [--now ISO]",
			    options, ARRAY_LEN(options), argc, argv, &args, &args.help, NULL);

	if (rc >= 0)
		return rc;
	if (!args.template && !args.model) {
		fprintf(stderr, "sluice template: give --template or --model\n");
		return EXIT_USAGE;
	}
	if (!args.input && !args.caps) {
		fprintf(stderr, "sluice template: give --input, or --caps\n");
		return EXIT_USAGE;
	}
	rc = work(&args, &w);
	json_object_put(w.input);
	chat_template_destroy(w.c);
	tokenizer_destroy(w.t);
	gguf_destroy(w.g);
	free(w.source);
	free(w.text);
	return rc;
}
