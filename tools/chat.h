/* SPDX-License-Identifier: MIT */
/*
 * tools/chat.h: the parts of `sluice chat`: the conversation and its settings (chat_talk.c), the
 * commands that begin with "/" (chat_commands.c), a stream of answer events (chat_stream.c), lines that
 * a person types (chat_line.c). The loop is chat.c's. What the daemon and saved files say is untrusted.
 * One thread.
 */
#ifndef SLUICE_TOOLS_CHAT_H
#define SLUICE_TOOLS_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/jsonc.h"
#include "tools/http_reply.h"

/* ---- the conversation ---- */

enum talk_thinking { TALK_THINK_AS_USUAL, TALK_THINK, TALK_NO_THINK };

struct talk {
	struct json_object *messages; /* turns: roles user and assistant */
	struct json_object *params;   /* name -> number */
	char *system;		      /* NULL: none */
	enum talk_thinking thinking;
};

int talk_init(struct talk *t); /* 0 or -ENOMEM */
void talk_done(struct talk *t);
void talk_clear(struct talk *t); /* forgets the turns */

int talk_set_system(struct talk *t, const char *text); /* "" or NULL: none. 0 or -ENOMEM */

/* "temperature=0.7"; "temperature=": as the model has it. 0, or -EINVAL and a sentence. */
int talk_set_param(struct talk *t, const char *text, struct err *err);
/* Names of all parameters, with commas; static. */
const char *talk_param_names(void);

void talk_add(struct talk *t, const char *role, const char *content, const char *reasoning);
void talk_drop_last(struct talk *t);
size_t talk_turns(const struct talk *t); /* messages without the system's */

/* The body of a request for the next answer: JSON, malloc'd. NULL: out of memory. */
char *talk_request(const struct talk *t);

/* To a file and back, whole or not at all. 0, or -errno and a sentence. */
int talk_save(const struct talk *t, const char *path, struct err *err);
int talk_load(struct talk *t, const char *path, struct err *err);

/* ---- commands ---- */

enum command_result { COMMAND_NONE, COMMAND_DONE, COMMAND_QUIT };

/*
 * COMMAND_NONE: @line is no command but a message (*ret_message: without the first of two slashes). Else
 * what it says goes to @out.
 */
enum command_result command_run(struct talk *t, const char *line, FILE *out,
				const char **ret_message);

/* ---- what is answered ---- */

struct stream_event {
	enum {
		STREAM_REASONING,
		STREAM_CONTENT,
		STREAM_CALL,
		STREAM_PROGRESS,
		STREAM_ERROR,
		STREAM_END
	} kind;
	const char *text;	   /* REASONING, CONTENT, CALL, ERROR; valid during the call */
	uint32_t n_read, n_prompt; /* PROGRESS */
};

/* What the daemon counted; zeros where it did not say. */
struct stream_figures {
	uint32_t n_prompt, n_cached, n_answer;
	double rate, prompt_ms;
	char finish[16];
};

typedef void (*stream_fn)(void *arg, const struct stream_event *e);

/*
 * Takes the events that are whole out of @body and hands them on; those that make no sense are passed
 * by. @last: nothing follows. Returns whether the stream has ended.
 */
bool stream_take(struct bytes *body, struct stream_figures *f, stream_fn fn, void *arg);

/* ---- what is typed ---- */

struct line_reader;

/* @terminal: edited, with a history that is kept in the user's state directory. NULL: out of memory. */
struct line_reader *line_open(bool terminal);
void line_close(struct line_reader *l);

/*
 * One message, of several lines where the first ends in a backslash or begins with three quotes: malloc'd.
 * NULL with *ret_cancelled: Ctrl-C; else the end.
 */
char *line_read(struct line_reader *l, bool *ret_cancelled);

#endif
