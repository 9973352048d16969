/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/record.h: writes the routing trace that --trace asks for (format: docs/trace.md).
 *
 * The engine thread puts rows into a ring taken at start; a thread of its own turns them into text
 * and writes. Nothing on the token path waits for the disk: where the ring is full rows are counted
 * as lost, and the trace says so. A full disk or any other error ends the trace, not the daemon:
 * the file is cut back to its last whole row, trace_error() says it once, and rows are dropped.
 */
#ifndef SLUICE_TRACE_RECORD_H
#define SLUICE_TRACE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/divide.h"
#include "base/err.h"
#include "model/model.h"

struct trace;

/* The size classes of slots, so that a simulation cuts a budget as the daemon did. */
struct trace_slots {
	const struct slot_share *classes;
	uint32_t n_classes;
	const uint32_t *class_of_layer; /* >= n_classes: a layer without experts */
};

/*
 * Creates @path and takes all memory; writes nothing yet, so that a daemon that cannot start spoils no
 * trace. A file that exists is refused (-EEXIST) unless @overwrite; a pipe or a device is not. The
 * model must have experts (-EINVAL) and outlive the trace. @slots, borrowed until the trace is started,
 * tells the slots of each layer; NULL: not said. 0, or -errno and a sentence.
 */
int trace_open(const char *path, bool overwrite, const struct model *m,
	       const struct trace_slots *slots, struct trace **ret, struct err *err);

/* Empties the file, writes the header, starts the thread. Once. 0, or -errno and a sentence. */
int trace_start(struct trace *t, struct err *err);

/* Writes what is left, joins the thread, frees. Where it was never started the file that trace_open()
 * made goes. NULL is fine. */
void trace_close(struct trace *t);

/*
 * The experts that one token of a layer used, in rank order, with their weights; @k of them, at
 * most the model's n_expert_used. Rows of one step and layer are given one after the other, a
 * sequence's positions in rising order. Engine thread; never blocks, never allocates.
 */
void trace_layer(struct trace *t, uint64_t step, uint32_t seq, uint32_t pos, uint32_t layer,
		 const uint32_t *ids, const float *weights, uint32_t k);

/* The same for a generated token: several of a sequence in one step were drafted and stayed. */
void trace_decoded(struct trace *t, uint64_t step, uint32_t seq, uint32_t pos, uint32_t layer,
		   const uint32_t *ids, const float *weights, uint32_t k);

/* 0, or once after writing has ended: -errno and a sentence for the log. NULL @t: 0. Any one
 * thread. */
int trace_error(struct trace *t, struct err *err);

#endif
