/* SPDX-License-Identifier: MIT */
/*
 * tools/batch.c: `sluice batch`: asks the daemon every line of a file, several at once, and appends
 * what it answers to another file, so that it can be killed at any time and go on. Here are its options,
 * its files and how it ends; connections and lines are batch_run.c's. One thread.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/opts.h"
#include "tools/batch_run.h"
#include "tools/http_client.h"
#include "tools/input.h"
#include "tools/json_input.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	struct http_args http;
	const char *output;
	uint32_t parallel;
	bool ordered, quiet, help;
};

static const struct opt options[] = {
	{ "--output", "-o", OPT_TEXT, offsetof(struct args, output), "FILE",
	  .help = "Where results go, and which are there already; else FILE.results.jsonl beside "
		  "FILE.jsonl." },
	{ "--parallel", "-p", OPT_U32, offsetof(struct args, parallel), "N", 0, BATCH_MAX_PARALLEL,
	  .def = "0", .help = "Requests at once; 0: as many as the daemon has places for." },
	{ "--ordered", NULL, OPT_FLAG, offsetof(struct args, ordered),
	  .help = "Results in the order of the requests, not as they are there." },
	{ "--quiet", "-q", OPT_FLAG, offsetof(struct args, quiet),
	  .help = "No progress and no figures." },
	CLIENT_OPTIONS(struct args, "30"),
	HTTP_OPTIONS(struct args),
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "This text." },
};

/* As many as the daemon computes at once. */
static int ask_slots(struct batch_run *r, uint32_t *ret)
{
	struct json_object *o = NULL;
	struct err err = { 0 };
	struct http_conn c;
	int64_t n = 0;
	int rc;

	http_conn_init(&c, &r->target);
	rc = http_conn_get(&c, "/props", NULL, 0, &err);
	if (!rc && c.reply.status != 200)
		http_reply_error(&c.reply, &err);
	else if (!rc && !input_json_object(c.reply.body.data, c.reply.body.n, &o, &err))
		n = json_object_get_int64(jsonc_member(o, "total_slots"));
	json_object_put(o);
	http_conn_done(&c);
	*ret = n < 1 ? 1 : n > BATCH_MAX_PARALLEL ? BATCH_MAX_PARALLEL : (uint32_t)n;
	if (!err.text[0])
		return 0;
	fprintf(stderr, "sluice batch: %s\n", err.text);
	return EXIT_FAILED;
}

static int make_workers(struct batch_run *r, uint32_t n)
{
	int rc = n ? 0 : ask_slots(r, &n);

	if (rc)
		return rc;
	if (n > r->batch.n_lines)
		n = (uint32_t)r->batch.n_lines;
	r->workers = calloc(n, sizeof(*r->workers));
	r->again = calloc((size_t)n * 2, sizeof(struct batch_line *));
	if (!r->workers || !r->again) {
		fprintf(stderr, "sluice batch: out of memory\n");
		return EXIT_FAILED;
	}
	r->n_workers = n;
	for (uint32_t i = 0; i < n; i++)
		http_conn_init(&r->workers[i].conn, &r->target);
	return 0;
}

/* How it ended; the exit status. */
static int report(struct batch_run *r, int rc)
{
	const struct batch *b = &r->batch;
	double spent = (double)(now_ns() - r->progress.began_ns) / 1e9;
	char time[32];

	if (b->n_done < b->n_lines) {
		fprintf(stderr,
			"sluice batch: %zu of %zu lines are in %s; the same command goes on with "
			"the others\n",
			b->n_done, b->n_lines, b->out_path);
		return rc ? rc : EXIT_INTERRUPTED;
	}
	if (!r->quiet)
		fprintf(stderr,
			"%zu line%s in %s, %zu failed; this run %s, %llu prompt tokens, %llu of "
			"answers\n",
			b->n_lines, b->n_lines == 1 ? "" : "s", b->out_path, b->n_failed,
			batch_duration(spent, time, sizeof(time)), (unsigned long long)r->tokens[0],
			(unsigned long long)r->tokens[1]);
	return rc ? rc : b->n_failed ? EXIT_FAILED : EXIT_OK;
}

/* FILE.jsonl -> FILE.results.jsonl, malloc'd. */
static char *default_output(const char *path)
{
	size_t n = strlen(path);
	char *text = malloc(n + 20);

	if (n > 6 && !strcmp(path + n - 6, ".jsonl"))
		n -= 6;
	if (text) {
		memcpy(text, path, n);
		memcpy(text + n, ".results.jsonl", 15);
	}
	return text;
}

static int open_files(struct batch_run *r, const char *path, const char *output)
{
	size_t cut = 0;
	int rc = batch_open(&r->batch, path, &r->err);

	if (!rc)
		rc = batch_resume(&r->batch, output, &cut, &r->err);
	if (rc) {
		fprintf(stderr, "sluice batch: %s\n", r->err.text);
		return EXIT_FAILED;
	}
	if (cut)
		fprintf(stderr,
			"sluice batch: %s: its last line was cut, %zu bytes of it are removed\n",
			output, cut);
	if (r->batch.n_done && !r->quiet)
		fprintf(stderr, "sluice batch: %zu of %zu lines are in %s already\n",
			r->batch.n_done, r->batch.n_lines, output);
	return 0;
}

static int run_batch(struct batch_run *r, const struct args *args, const char *path,
		     const char *output)
{
	int rc = open_files(r, path, output);

	if (rc)
		return rc;
	if (r->batch.n_done == r->batch.n_lines) {
		r->progress.began_ns = now_ns();
		return report(r, 0);
	}
	rc = http_target_open("batch", r->client, &args->http, &r->target);
	if (rc)
		return rc;
	client_note_interrupt();
	rc = make_workers(r, args->parallel);
	if (!rc) {
		r->progress.began_ns = r->shown_ns = r->synced_ns = now_ns();
		r->progress.bytes_before = r->batch.bytes_done;
		rc = batch_work(r);
		batch_clear(r);
		if (batch_sync(&r->batch, &r->err)) {
			fprintf(stderr, "sluice batch: %s\n", r->err.text);
			rc = EXIT_FAILED;
		}
		rc = report(r, rc);
	}
	return rc;
}

int verb_batch(int argc, char **argv)
{
	struct args args = { 0 };
	struct batch_run r = { .client = &args.client,
			       .terminal = isatty(STDERR_FILENO),
			       .batch = { .in = -1, .out = -1 } };
	const char *path;
	char *own = NULL;
	int rc = input_args("FILE.jsonl [options]", options, ARRAY_LEN(options), argc, argv, &args,
			    &args.help, &path);

	if (rc >= 0)
		return rc;
	r.ordered = args.ordered;
	r.quiet = args.quiet;
	if (!path) {
		fprintf(stderr, "sluice batch: a file of requests is needed; sluice help batch\n");
		return EXIT_USAGE;
	}
	if (!args.output)
		own = default_output(path);
	rc = args.output || own ? run_batch(&r, &args, path, args.output ? args.output : own)
				: EXIT_FAILED;
	for (unsigned i = 0; i < r.n_workers; i++)
		http_conn_done(&r.workers[i].conn);
	free(r.workers);
	free(r.again);
	batch_close(&r.batch);
	http_target_close(&r.target);
	free(own);
	return rc;
}
