/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/trace.h: writes the routing trace that --trace asks for (format: docs/trace.md).
 * Engine thread; nothing blocks on the disk on the token path, and a full disk only ends the trace.
 */
#ifndef SLUICE_ENGINE_TRACE_H
#define SLUICE_ENGINE_TRACE_H

#include <stdint.h>

#include "base/err.h"
#include "model/model.h"

struct trace;

/* Creates @path and writes the header. 0 or -errno and a sentence. */
int trace_open(const char *path, const struct model *m, struct trace **ret, struct err *err);
void trace_close(struct trace *t); /* flushes; NULL is fine */

/* The experts that one token of a layer used, in rank order, with their weights. */
void trace_layer(struct trace *t, uint64_t step, uint32_t seq, uint32_t pos, uint32_t layer,
		 const uint32_t *ids, const float *weights, uint32_t k);

#endif
