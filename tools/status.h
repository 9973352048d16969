/* SPDX-License-Identifier: MIT */
/*
 * tools/status.h: a daemon's status as JSON. Used by `sluice status` and by other verbs that show it.
 * One thread.
 */
#ifndef SLUICE_TOOLS_STATUS_H
#define SLUICE_TOOLS_STATUS_H

#include <jansson.h>

#include "uapi/sluice.h"

/*
 * The object that `sluice status --json` prints, owned by the caller. @fallbacks: one sentence a
 * line; @path: the model's. NULL: out of memory.
 */
json_t *status_to_json(const struct sluice_status_info *s, const char *fallbacks, const char *path);

#endif
