/* SPDX-License-Identifier: MIT */
/* tools/chat_commands.c: see chat.h: one row for each command. What they print is not the model's. */
#include <string.h>

#include "base/num.h"
#include "tools/chat.h"

struct command {
	const char *name, *arg, *help;
	void (*run)(struct talk *t, const char *arg, FILE *out); /* NULL: ends the program */
};

static void help(struct talk *t, const char *arg, FILE *out);

static void set_system(struct talk *t, const char *arg, FILE *out)
{
	if (talk_set_system(t, arg))
		fputs("out of memory\n", out);
	else
		fputs(*arg ? "from now on, for the whole conversation\n" : "no system text\n", out);
}

static void show_param(const struct talk *t, FILE *out)
{
	if (!json_object_object_length(t->params))
		fprintf(out, "none set: the daemon's defaults; there are %s\n", talk_param_names());
	json_object_object_foreach(t->params, name, value)
	{
		fprintf(out, "%s=%s\n", name, json_object_to_json_string(value));
	}
}

/* "temperature=0 seed=7" */
static void set_params(struct talk *t, const char *arg, FILE *out)
{
	struct err err = { 0 };
	char one[128];
	size_t n;

	for (arg += strspn(arg, " "); *arg; arg += n, arg += strspn(arg, " ")) {
		n = strcspn(arg, " ");
		snprintf(one, sizeof(one), "%.*s", (int)(n < 127 ? n : 127), arg);
		if (talk_set_param(t, one, &err)) {
			fprintf(out, "%s\n", err.text);
			return;
		}
	}
	show_param(t, out);
}

static void set_thinking(struct talk *t, const char *arg, FILE *out)
{
	if (!strcmp(arg, "on"))
		t->thinking = TALK_THINK;
	else if (!strcmp(arg, "off"))
		t->thinking = TALK_NO_THINK;
	else if (!strcmp(arg, "auto"))
		t->thinking = TALK_THINK_AS_USUAL;
	else if (*arg)
		fputs("/think on, off or auto\n", out);
	fprintf(out, "thinking: %s\n",
		t->thinking == TALK_THINK      ? "on"
		: t->thinking == TALK_NO_THINK ? "off"
					       : "as the model does by itself");
}

static void save(struct talk *t, const char *arg, FILE *out)
{
	struct err err = { 0 };

	if (!*arg)
		fputs("/save FILE\n", out);
	else if (talk_save(t, arg, &err))
		fprintf(out, "%s\n", err.text);
	else
		fprintf(out, "%zu messages are in %s\n", talk_turns(t), arg);
}

static void load(struct talk *t, const char *arg, FILE *out)
{
	struct err err = { 0 };

	if (!*arg)
		fputs("/load FILE\n", out);
	else if (talk_load(t, arg, &err))
		fprintf(out, "%s\n", err.text);
	else
		fprintf(out, "%zu messages of %s: the conversation goes on there\n", talk_turns(t),
			arg);
}

static void clear(struct talk *t, const char *arg, FILE *out)
{
	talk_clear(t);
	fputs("a new conversation\n", out);
}

static const struct command commands[] = {
	{ "system", "TEXT", "what the model is told beforehand", set_system },
	{ "params", "NAME=VALUE..", "sampling: sets, shows; NAME= unsets", set_params },
	{ "think", "on|off|auto", "whether the model thinks before it answers", set_thinking },
	{ "save", "FILE", "the conversation and its settings, as JSON", save },
	{ "load", "FILE", "goes on with a saved one", load },
	{ "clear", "", "forgets the conversation; settings stay", clear },
	{ "help", "", "this list", help },
	{ "quit", "", "ends, as Ctrl-D does", NULL },
};

static void help(struct talk *t, const char *arg, FILE *out)
{
	char call[64];

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		snprintf(call, sizeof(call), "/%s %s", commands[i].name, commands[i].arg);
		fprintf(out, "  %-22s %s\n", call, commands[i].help);
	}
	fputs("  a line that ends in \\, or a text between \"\"\" and \"\"\": several lines\n"
	      "  // begins a message that begins with /; Ctrl-C cancels an answer\n",
	      out);
}

enum command_result command_run(struct talk *t, const char *line, FILE *out,
				const char **ret_message)
{
	size_t n = strcspn(line, " \t\n");
	char arg[4096];
	size_t len;

	*ret_message = line;
	if (line[0] != '/')
		return COMMAND_NONE;
	if (line[1] == '/') {
		*ret_message = line + 1;
		return COMMAND_NONE;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strlen(commands[i].name) != n - 1 || strncmp(commands[i].name, line + 1, n - 1))
			continue;
		if (!commands[i].run)
			return COMMAND_QUIT;
		line += n + strspn(line + n, " \t\n");
		len = strlen(line);
		while (len && strchr(" \t\n", line[len - 1]))
			len--;
		if (len >= sizeof(arg)) {
			fputs("that is too long for a command\n", out);
			return COMMAND_DONE;
		}
		memcpy(arg, line, len);
		arg[len] = '\0';
		commands[i].run(t, arg, out);
		return COMMAND_DONE;
	}
	fprintf(out, "there is no %.*s; /help lists what there is\n", (int)(n < 40 ? n : 40), line);
	return COMMAND_DONE;
}
