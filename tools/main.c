/* SPDX-License-Identifier: MIT */
/*
 * tools/main.c: the sluice command: finds the verb, hands it its arguments. See verbs.h.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/near.h"
#include "base/num.h"
#include "base/opts.h"
#include "base/stdfd.h"
#include "base/version.h"
#include "tools/input.h"
#include "tools/verbs.h"

struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};

static int verb_help(int argc, char **argv);
static int verb_version(int argc, char **argv);

static const struct verb verbs[] = {
	{ "generate", verb_generate, "let the model write: text streams as it comes" },
	{ "status", verb_status, "what the daemon does and has" },
	{ "top", verb_top, "what the daemon does, live" },
	{ "chat", verb_chat, "a conversation with the model" },
	{ "batch", verb_batch, "a file of requests, OpenAI's batch lines, answered into another" },
	{ "heat", verb_heat, "which experts are used, by layer" },
	{ "slots", verb_slots, "places for sequences; one to a file and back" },
	{ "eval", verb_eval, "perplexity of a text, or its logits in a file" },
	{ "bench", verb_bench, "prompt and generation speed, like llama-bench" },
	{ "doctor", verb_doctor, "measures this machine and says what to change" },
	{ "telemetry", verb_telemetry, "show the load of memory, nodes, links and disks" },
	{ "metrics", verb_metrics, "daemon and machine as Prometheus text" },
	{ "inspect", verb_inspect, "what a model file holds" },
	{ "plan", verb_plan, "what sluiced would take of memory, before anything is loaded" },
	{ "template", verb_template, "a chat template rendered" },
	{ "parse", verb_parse, "reasoning, content and tool calls in a model's text" },
	{ "grammar", verb_grammar, "a text against a JSON schema, GBNF or a regular expression" },
	{ "tokenize", verb_tokenize, "text to tokens and back" },
	{ "trace", verb_trace, "routing traces: convert, describe, replay" },
	{ "help", verb_help, "this list; sluice help VERB: one verb's options" },
	{ "version", verb_version, "the version" },
};

static const struct verb *find(const char *name)
{
	const char *meant = NULL;
	unsigned best = NEAR_NOT;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (!strcmp(name, verbs[i].name))
			return &verbs[i];
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		unsigned distance = near_distance(name, strlen(name), verbs[i].name);

		if (distance < best) {
			best = distance;
			meant = verbs[i].name;
		}
	}
	if (meant)
		fprintf(stderr, "sluice: there is no verb %s, but %s; sluice help lists them\n",
			name, meant);
	else
		fprintf(stderr, "sluice: there is no verb %s; sluice help lists them\n", name);
	return NULL;
}

static int no_arguments(const char *verb, int argc, char **argv, int most)
{
	if (argc <= most + 1)
		return EXIT_OK;
	fprintf(stderr, "sluice %s: unexpected argument %s\n", verb, argv[most + 1]);
	return EXIT_USAGE;
}

static bool asks_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h");
}

/* "help VERB" is "VERB --help". */
static int help_of(const char *name)
{
	char option[] = "--help", *argv[] = { (char *)(uintptr_t)name, option, NULL };
	const struct verb *v = find(name);

	return v ? v->run(2, argv) : EXIT_USAGE;
}

static int verb_help(int argc, char **argv)
{
	int rc = no_arguments("help", argc, argv, 1);

	if (rc)
		return rc;
	if (argc > 1 && !asks_help(argv[1]) && strcmp(argv[1], "help"))
		return help_of(argv[1]);
	printf("usage: sluice VERB [options]\n\n");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		printf("  %-10s  %s\n", verbs[i].name, verbs[i].help);
	printf("\nExit status: 0 ok, 1 failed, 2 usage, 3 daemon not reachable, 130 after Ctrl-C.\n");
	return EXIT_OK;
}

static int verb_version(int argc, char **argv)
{
	if (argc > 1 && !asks_help(argv[1]))
		return no_arguments("version", argc, argv, 0);
	if (argc > 1)
		puts("usage: sluice version");
	else
		printf("sluice %s\n", sluice_version);
	return EXIT_OK;
}

/* sluice --list-options: every verb's table, for completions and tests; not in the help. */
static int list_options(void)
{
	static char help[] = "--help";

	opts_help_as_rows();
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		char *argv[] = { (char *)(uintptr_t)verbs[i].name, help, NULL };

		printf("verb\t%s\t%s\n", verbs[i].name, verbs[i].help);
		if (verbs[i].run != verb_help && verbs[i].run != verb_version)
			verbs[i].run(2, argv);
	}
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	const struct verb *v;

	if (stdfd_open()) /* before anything is opened: nothing can be said where it fails */
		return EXIT_FAILED;
	if (!name) {
		fprintf(stderr, "usage: sluice VERB [options]; sluice help lists the verbs\n");
		return EXIT_USAGE;
	}
	if (asks_help(name))
		name = "help";
	else if (!strcmp(name, "--version"))
		name = "version";
	else if (!strcmp(name, "--list-options"))
		return input_finish(name, list_options());
	v = find(name);
	return v ? input_finish(name, v->run(argc - 1, argv + 1)) : EXIT_USAGE;
}
