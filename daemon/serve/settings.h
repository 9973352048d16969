/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/settings.h: configuration files as a list of settings; base/opts.h checks and applies
 * them. Read by inih: "name = value" lines, comments with # or ; at the beginning of a line (and " ;"
 * behind a value), an optional [sluiced] heading. Main thread.
 */
#ifndef SLUICE_SERVE_SETTINGS_H
#define SLUICE_SERVE_SETTINGS_H

#include <stddef.h>

#include "base/err.h"
#include "base/opts.h"

#define SETTINGS_FILE "/etc/sluice/sluiced.conf" /* unless an option names another */

enum {
	SETTINGS_MAX = 1024,	       /* of all files together */
	SETTINGS_FILE_BYTES = 1 << 18, /* of one file */
};

struct settings;

/*
 * @path, then conf.d/NAME.conf beside it in the order of their names: what comes later wins. 0, or -errno
 * and a sentence that names file and line: no such file, a line without "=", another section, a line
 * that is too long (199 bytes are held), too many of them. *ret is the caller's, for settings_free().
 */
int settings_read(const char *path, struct settings **ret, struct err *err);

/* In the order of reading; they and their texts live as long as @s. */
const struct opts_setting *settings_list(const struct settings *s, size_t *ret_n);

/* NULL is fine. */
void settings_free(struct settings *s);

#endif
