/* SPDX-License-Identifier: MIT */
/*
 * tools/client.h: what every verb that talks to the daemon shares: connecting with advice where
 * that fails, waiting while a model loads (with a progress bar on a terminal), and the exit status
 * of a failure. Says everything on stderr. One thread.
 */
#ifndef SLUICE_TOOLS_CLIENT_H
#define SLUICE_TOOLS_CLIENT_H

#include <stdint.h>

#include "uapi/sluice.h"

/* Options that these verbs share; embedded in their args. */
struct client_args {
	const char *socket;
	uint32_t wait_seconds; /* for a daemon that is just starting */
};

#define CLIENT_OPTIONS(type)                                                                       \
	{ "--socket", "-s",                                                                        \
	  OPT_TEXT,   offsetof(type, client.socket),                                               \
	  "PATH",     .help = "The daemon's socket." },                                            \
	{                                                                                          \
		"--wait", NULL, OPT_U32, offsetof(type, client.wait_seconds), "SECONDS", 0, 86400, \
			.def = "0", .help = "Wait so long for the daemon to appear."               \
	}

/* Connects. 0 and *ret, or the exit status after a sentence on stderr. @verb is for messages. */
int client_open(const char *verb, const struct client_args *args, struct sluice **ret);

/* Waits until the model is loaded. 0 or the exit status after a sentence. */
int client_ready(const char *verb, struct sluice *s);

/* Prints a failure with what to do about it and returns the exit status for it. */
int client_fail(const char *verb, const struct sluice_fault *fault);

/* Makes Ctrl-C cancel the running request of @s instead of ending the program; NULL: undoes it. */
void client_on_interrupt(struct sluice *s);

#endif
