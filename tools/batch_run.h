/* SPDX-License-Identifier: MIT */
/* tools/batch_run.h: a run of `sluice batch` over its connections. One thread. */
#ifndef SLUICE_TOOLS_BATCH_RUN_H
#define SLUICE_TOOLS_BATCH_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tools/batch.h"
#include "tools/client.h"
#include "tools/http_client.h"

#define BATCH_MAX_PARALLEL 256

struct batch_worker {
	struct http_conn conn;
	struct batch_line *line; /* NULL: idle */
	uint64_t not_before_ns;	 /* no connection was to be had: the next look for one */
};

struct batch_run {
	const struct client_args *client;
	bool ordered, quiet; /* results in order of lines; nothing is told */
	struct http_target target;
	struct batch batch;
	struct batch_progress progress;
	struct batch_worker *workers;
	unsigned n_workers;
	size_t next;	   /* lines before it are done, or a worker's, or wait for another try */
	size_t next_write; /* --ordered: the first whose result is not written */
	struct batch_line **again; /* those that wait for another try */
	size_t n_again;
	uint64_t synced_ns, shown_ns, tokens[2];
	bool terminal, drawn;
	uint64_t full_ns; /* since when there is no connection for want of room; 0: there is one */
	bool lost;	  /* the daemon went */
	char lost_why[512];
	unsigned n_lost; /* times since an answer came */
	struct err err;	 /* why the job ends */
};

/*
 * Asks what is not done, until all lines have their results or Ctrl-C. 0, else the exit status after a sentence.
 * The caller made files, target and workers, @again with room for two of each worker.
 */
int batch_work(struct batch_run *r);
/* The line of progress is away from the terminal, for a sentence. */
void batch_clear(struct batch_run *r);

#endif
