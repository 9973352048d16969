/* SPDX-License-Identifier: MIT */
/*
 * tools/telemetry.h: a telemetry snapshot as JSON and as text. Used by `sluice telemetry` and by
 * other verbs that show a part of it. One thread.
 */
#ifndef SLUICE_TOOLS_TELEMETRY_H
#define SLUICE_TOOLS_TELEMETRY_H

#include <jansson.h>
#include <stdio.h>

#include "telemetry/telemetry.h"

/* The object that `sluice telemetry --json` prints, owned by the caller; unknown values are null.
 * @t gives the notes, may be NULL. NULL: out of memory. */
json_t *telemetry_to_json(const struct telemetry_snapshot *s, const struct telemetry *t);

/* The snapshot for people: tables with units; '?' is an unknown value. */
void telemetry_print(FILE *out, const struct telemetry_snapshot *s);

#endif
