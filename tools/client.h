/* SPDX-License-Identifier: MIT */
/*
 * tools/client.h: what every verb that talks to the daemon shares: connecting with advice where
 * that fails, waiting while a model loads (with a progress bar on a terminal), and the exit status
 * of a failure. Says everything on stderr. One thread.
 */
#ifndef SLUICE_TOOLS_CLIENT_H
#define SLUICE_TOOLS_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "uapi/sluice.h"

/* Options that these verbs share; embedded in their args. */
struct client_args {
	const char *socket;    /* NULL: where sluice_connect(NULL) looks */
	uint32_t wait_seconds; /* for a daemon that is just starting */
	bool wait_given;
};

/* @wait: the default. Verbs that work for their user wait; those that look at the daemon do not. */
#define CLIENT_OPTIONS(type, wait)                                                                 \
	{ "--socket",                                                                              \
	  "-s",                                                                                    \
	  OPT_TEXT,                                                                                \
	  offsetof(type, client.socket),                                                           \
	  "PATH",                                                                                  \
	  .help = "The daemon's socket; else SLUICE_SOCKET, else where sluiced "                   \
		  "listens by itself (sluice(1) says where)." },                                   \
	{                                                                                          \
		"--wait", NULL, OPT_U32, offsetof(type, client.wait_seconds), "SECONDS", 0, 86400, \
			.def = wait, .given = offsetof(type, client.wait_given),                   \
			.help = "How long to wait for the daemon to appear; 0: not at all."        \
	}

/*
 * Connects, waiting as long as @args say. 0 and *ret, or the exit status after a sentence on stderr.
 * @verb is for messages.
 */
int client_open(const char *verb, const struct client_args *args, struct sluice **ret);

/* Waits until the model is loaded. 0 or the exit status after a sentence. */
int client_ready(const char *verb, struct sluice *s);

/* Prints a failure with what to do about it and returns the exit status for it. */
int client_fail(const char *verb, const struct sluice_fault *fault);

/* Makes Ctrl-C cancel the running request of @s instead of ending the program; NULL: undoes it. */
void client_on_interrupt(struct sluice *s);

/* Makes Ctrl-C only heard of (client_interrupted()); the second one ends the program. */
void client_note_interrupt(void);

bool client_interrupted(void); /* true once Ctrl-C was pressed since client_on_interrupt() */

/*
 * How a request without a fault ended: 0, EXIT_INTERRUPTED after Ctrl-C, or EXIT_FAILED after a
 * sentence where the daemon cancelled it, which nobody here asked for.
 */
int client_ending(const char *verb, const struct sluice_done *done);

/* Progress of a prompt that is read in, on stderr: a bar on a terminal, else a line now and then. */
struct client_progress {
	const char *verb;
	uint64_t next_ns; /* when to show it again */
	uint32_t n_prompt;
	bool drawn;
};

/* Shows the progress of the requests of @s from here on. @p lives as long as they do. */
void client_show_progress(struct client_progress *p, const char *verb, struct sluice *s);

/* Clears the bar, so that other text may be written. */
void client_clear_progress(struct client_progress *p);

#endif
