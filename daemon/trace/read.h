/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/read.h: a routing trace in memory, and reading and writing one.
 *
 * A trace says which experts each token of each layer was routed to; docs/trace.md defines the
 * format `route_trace v1` and what the other formats turn into. trace_read() recognises a file by
 * its first bytes: our own, the .route.csv of BigMoeOnEdge, warp's .jsonl, fomoe's .freq. Files are
 * untrusted: every number is checked against the header and a refusal names the line.
 * For tools, the simulator and belady; nothing here is called while tokens flow. Any one thread.
 */
#ifndef SLUICE_TRACE_READ_H
#define SLUICE_TRACE_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define TRACE_MAGIC	  "route_trace v1"
#define TRACE_MAX_LAYERS  1024
#define TRACE_MAX_EXPERTS 65536

enum trace_phase { TRACE_PREFILL, TRACE_DECODE };

struct trace_use {
	uint32_t expert;
	float weight;	     /* where has_weights */
	bool was_present;    /* where has_reads: the recorder had it in memory... */
	uint32_t read_bytes; /* ...and read so many bytes for this use */
};

/* What one token used in one layer. Rows of one step and layer stand together. */
struct trace_row {
	uint64_t step; /* counts passes over the layers, not falling */
	uint32_t seq, pos;
	uint16_t layer;
	uint8_t phase; /* enum trace_phase */
	uint32_t n;
	size_t first; /* into uses */
};

struct trace_frequency {
	uint32_t layer, expert;
	float uses_per_token;
};

struct trace_layer_bytes {
	uint64_t expert_bytes, dense_bytes; /* 0: not said */
	uint64_t slot_bytes;		    /* of one expert with padding, 0: not said */
	uint64_t slot_class;		    /* with slot_bytes: layers of one class share slots */
};

/* Of the weights that belong to no layer (embedding, output): all, and what a token reads. */
struct trace_outside_bytes {
	uint64_t dense_bytes, token_bytes; /* 0: not said */
};

struct route_trace {
	char model[128], arch[32]; /* empty: not said */
	uint32_t n_layers, n_expert, n_expert_used;
	bool by_rank; /* experts of a row in the router's order; else the order means nothing */
	bool has_weights, has_reads;
	uint64_t lost;			  /* rows that the recorder could not keep */
	struct trace_layer_bytes *layers; /* n_layers */
	struct trace_outside_bytes outside;

	struct trace_row *rows;
	struct trace_use *uses;
	struct trace_frequency *frequencies; /* a table instead of rows, or beside them */
	size_t n_rows, n_uses, n_frequencies;

	size_t cap_rows, cap_uses, cap_frequencies; /* private */
};

/* The whole file. 0 or -errno and a sentence. The caller destroys *ret. */
int trace_read(const char *path, struct route_trace **ret, struct err *err);
void route_trace_destroy(struct route_trace *t); /* NULL is fine */

/* As `route_trace v1`. 0 or -errno (of the stream, -EIO where it does not say). */
int trace_write(const struct route_trace *t, FILE *f);

#endif
