/* SPDX-License-Identifier: MIT */
/*
 * tools/batch.c: `sluice batch`: asks the daemon every line of a file, several at once, and appends
 * what it answers to another file, so that it can be killed at any time and go on. What a line gets
 * does not depend on the others: the daemon promises that, and nothing of one goes into another here.
 * One thread, which polls its connections.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/opts.h"
#include "tools/batch.h"
#include "tools/http_client.h"
#include "tools/input.h"
#include "tools/json_input.h"
#include "tools/verbs.h"

#define MAX_PARALLEL 256
#define TURN_MS	     200 /* the longest time without a look at Ctrl-C and the clock */
#define SYNC_NS	     1000000000ull
#define BAR_NS	     250000000ull
#define LINE_NS	     10000000000ull
#define LOST_MAX     3 /* times that a line may take the connection with it */
/* so long a line is told to come again, then that is its result; and all go without connections */
#define REFUSED_NS   600000000000ull
#define FULL_NS	     1000000000ull /* between two looks for a connection where none is to be had */
#define WINDOW	     4 /* --ordered: results that wait for an earlier line, for each connection */

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
	{ "--parallel", "-p", OPT_U32, offsetof(struct args, parallel), "N", 0, MAX_PARALLEL,
	  .def = "0", .help = "Requests at once; 0: as many as the daemon has places for." },
	{ "--ordered", NULL, OPT_FLAG, offsetof(struct args, ordered),
	  .help = "Results in the order of the requests, not as they are there." },
	{ "--quiet", "-q", OPT_FLAG, offsetof(struct args, quiet),
	  .help = "No progress and no figures." },
	CLIENT_OPTIONS(struct args, "30"),
	HTTP_OPTIONS(struct args),
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "This text." },
};

struct worker {
	struct http_conn conn;
	struct batch_line *line; /* NULL: idle */
	uint64_t not_before_ns;	 /* no connection was to be had: the next look for one */
};

struct run {
	const struct args *args;
	struct http_target target;
	struct batch batch;
	struct batch_progress progress;
	struct worker *workers;
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

/* ---- results ---- */

static int write_result(struct run *r, struct batch_line *l, const char *result, bool failed)
{
	int rc = batch_write(&r->batch, l, result, failed, &r->err);

	if (!rc && now_ns() - r->synced_ns > SYNC_NS) {
		rc = batch_sync(&r->batch, &r->err);
		r->synced_ns = now_ns();
	}
	return rc;
}

/* Takes @result (malloc'd) over; with --ordered what it kept waiting goes too. */
static int take_result(struct run *r, struct batch_line *l, char *result, bool failed)
{
	struct batch *b = &r->batch;
	int rc = 0;

	l->running = false;
	if (!result)
		return err_set(&r->err, -ENOMEM, "out of memory");
	if (!r->args->ordered) {
		rc = write_result(r, l, result, failed);
		free(result);
		return rc;
	}
	l->result = result;
	l->failed = failed;
	for (; !rc && r->next_write < b->n_lines; r->next_write++) {
		l = &b->lines[r->next_write];
		if (l->done)
			continue;
		if (!l->result)
			break;
		rc = write_result(r, l, l->result, l->failed);
		free(l->result);
		l->result = NULL;
	}
	return rc;
}

/* ---- what is asked ---- */

static void try_again(struct run *r, struct batch_line *l, uint64_t after_ns)
{
	l->not_before_ns = now_ns() + after_ns;
	r->again[r->n_again++] = l; /* room for all that can run */
}

/* A line that nobody works at; NULL: none now. */
static struct batch_line *next_line(struct run *r)
{
	size_t most = r->batch.n_lines;
	uint64_t now = now_ns();

	for (size_t i = 0; i < r->n_again; i++)
		if (r->again[i]->not_before_ns <= now) {
			struct batch_line *l = r->again[i];

			r->again[i] = r->again[--r->n_again];
			return l;
		}
	if (r->n_again >= r->n_workers) /* the daemon has no room: no more of them */
		return NULL;
	if (r->args->ordered && r->next_write + (size_t)r->n_workers * WINDOW < most)
		most = r->next_write + (size_t)r->n_workers * WINDOW;
	while (r->next < most && r->batch.lines[r->next].done)
		r->next++;
	return r->next < most ? &r->batch.lines[r->next++] : NULL;
}

/* The connection went under a request: once is chance, again and again may be the line's doing. */
static int lose(struct run *r, struct worker *w, const struct err *err)
{
	struct batch_line *l = w->line;
	struct batch_fault f = { .code = "connection_lost" };

	http_conn_close(&w->conn);
	w->line = NULL;
	if (++l->lost < LOST_MAX) {
		try_again(r, l, 0);
		return 0;
	}
	err_set(&f.err, 0, "%s", err->text);
	return take_result(r, l, batch_result_fault(l, &f), true);
}

static bool is_running(const struct run *r)
{
	for (unsigned i = 0; i < r->n_workers; i++)
		if (r->workers[i].line)
			return true;
	return false;
}

/* The daemon has no room for a connection, or this program no descriptor: there will be one. */
static bool is_full(int error)
{
	return error == -EBUSY || error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* There is no connection for it, in which the line has no part. */
static void put_back(struct run *r, struct worker *w, int error, const struct err *err)
{
	uint64_t now = now_ns();

	try_again(r, w->line, 0);
	w->line = NULL;
	if (is_full(error)) {
		w->not_before_ns = now + FULL_NS;
		if (is_running(r))
			r->full_ns = 0;
		else if (!r->full_ns)
			r->full_ns = now;
		if (!r->full_ns || now - r->full_ns < REFUSED_NS)
			return;
	}
	snprintf(r->lost_why, sizeof(r->lost_why), "%s", err->text);
	r->lost = true;
}

/* Sends a line; one that cannot be asked has its result at once. */
static int start(struct run *r, struct worker *w, struct batch_line *l)
{
	bool too_long = l->bytes > BATCH_LINE_MAX;
	struct batch_fault f;
	struct batch_ask ask;
	struct err err = { 0 };
	char *text = NULL;
	int rc = too_long ? 0 : batch_text(&r->batch, l, &text, &r->err);

	if (rc)
		return rc;
	l->running = true;
	if (batch_ask_parse(text, l->bytes, &ask, &f)) {
		w->line = l;
		rc = http_conn_ask(&w->conn, ask.url, ask.body, strlen(ask.body), &err);
		if (rc)
			put_back(r, w, rc, &err);
		else
			r->full_ns = 0;
		rc = 0;
	} else {
		rc = take_result(r, l, batch_result_fault(l, &f), true);
	}
	json_object_put(ask.object);
	free(text);
	return rc;
}

/* ---- what is answered ---- */

/* Come again later: the daemon has too much to do, loads its model or stops. */
static bool is_later(const struct http_reply *reply)
{
	return reply->status == 429 || reply->status == 503;
}

static int finish(struct run *r, struct worker *w)
{
	const struct http_reply *reply = &w->conn.reply;
	struct batch_line *l = w->line;
	uint64_t now = now_ns();
	unsigned wait_s = reply->retry_after_s ? reply->retry_after_s : 1;
	bool failed;
	char *result;

	r->n_lost = 0;
	w->line = NULL;
	if (is_later(reply)) {
		if (!l->refused_ns)
			l->refused_ns = now;
		if (now - l->refused_ns < REFUSED_NS) {
			try_again(r, l, (wait_s > 60 ? 60 : wait_s) * 1000000000ull);
			return 0;
		}
	}
	result = batch_result_answer(l, reply, r->tokens, &failed);
	return take_result(r, l, result, failed);
}

static int step(struct run *r, struct worker *w)
{
	struct err err = { 0 };
	int rc = http_conn_step(&w->conn, &err);

	if (!rc)
		return 0;
	if (rc != -ENOMEM &&
	    is_full(rc)) { /* the connection had ended unused, and there is no other */
		put_back(r, w, rc, &err);
		return 0;
	}
	return rc > 0 ? finish(r, w) : lose(r, w, &err);
}

/* ---- the loop ---- */

static unsigned columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 40 ? 80 : size.ws_col;
}

static void clear(struct run *r)
{
	if (r->drawn)
		fputs("\r\033[K", stderr);
	r->drawn = false;
}

static void show(struct run *r)
{
	uint64_t now = now_ns();
	char text[320];

	if (r->args->quiet || now - r->shown_ns < (r->terminal ? BAR_NS : LINE_NS))
		return;
	r->shown_ns = now;
	batch_progress_text(&r->progress, &r->batch, now, r->terminal, columns() - 1, text,
			    sizeof(text));
	fprintf(stderr, r->terminal ? "\r%s\033[K" : "sluice batch: %s\n", text);
	r->drawn = r->terminal;
}

static bool is_idle(const struct worker *w)
{
	return !w->line && w->not_before_ns <= now_ns();
}

/* Hands lines to those who are idle. */
static int fill(struct run *r)
{
	int rc = 0;

	for (unsigned i = 0; !rc && !r->lost && i < r->n_workers; i++)
		while (!rc && !r->lost && is_idle(&r->workers[i]) && !client_interrupted()) {
			struct batch_line *l = next_line(r);

			if (!l)
				return 0;
			rc = start(r, &r->workers[i], l);
			show(r);
		}
	return rc;
}

static int turn(struct run *r)
{
	struct pollfd fds[MAX_PARALLEL] = { 0 };
	struct worker *who[MAX_PARALLEL];
	nfds_t n = 0;
	int rc = 0;

	for (unsigned i = 0; i < r->n_workers; i++) {
		struct worker *w = &r->workers[i];

		if (!w->line)
			continue;
		who[n] = w;
		fds[n].fd = w->conn.fd;
		fds[n++].events = http_conn_events(&w->conn);
	}
	if (poll(fds, n, TURN_MS) < 0)
		return 0; /* a signal */
	for (nfds_t i = 0; !rc && i < n; i++)
		if (fds[i].revents)
			rc = step(r, who[i]);
	show(r);
	return rc;
}

/*
 * The daemon went. Those who still wait for an answer of it hear so in their turn; then the next one is
 * waited for. 0, or the exit status.
 */
static int find_daemon(struct run *r)
{
	for (unsigned i = 0; i < r->n_workers; i++) {
		struct worker *w = &r->workers[i];

		if (w->line) { /* not its fault */
			try_again(r, w->line, 0);
			w->line = NULL;
		}
		http_conn_close(&w->conn);
	}
	r->lost = false;
	clear(r);
	fprintf(stderr, "sluice batch: %s\n", r->lost_why);
	if (++r->n_lost > LOST_MAX)
		return EXIT_UNREACHABLE;
	return http_target_wait("batch", &r->args->client, &r->target);
}

/* 0: all lines have their results, or Ctrl-C; else the exit status after a sentence. */
static int work(struct run *r)
{
	int rc = 0;

	while (r->batch.n_done < r->batch.n_lines && !client_interrupted()) {
		if (r->lost) {
			rc = find_daemon(r);
			if (rc)
				return rc;
		}
		rc = fill(r);
		if (!rc && r->batch.n_done < r->batch.n_lines && !r->lost)
			rc = turn(r);
		if (rc) {
			clear(r);
			fprintf(stderr, "sluice batch: %s\n", r->err.text);
			return EXIT_FAILED;
		}
	}
	return 0;
}

/* ---- around it ---- */

/* As many as the daemon computes at once. */
static int ask_slots(struct run *r, uint32_t *ret)
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
	*ret = n < 1 ? 1 : n > MAX_PARALLEL ? MAX_PARALLEL : (uint32_t)n;
	if (!err.text[0])
		return 0;
	fprintf(stderr, "sluice batch: %s\n", err.text);
	return EXIT_FAILED;
}

static int make_workers(struct run *r)
{
	uint32_t n = r->args->parallel;
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
static int report(struct run *r, int rc)
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
	if (!r->args->quiet)
		fprintf(stderr,
			"%zu lines in %s, %zu failed; this run %s, %llu prompt tokens, %llu of "
			"answers\n",
			b->n_lines, b->out_path, b->n_failed,
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

static int open_files(struct run *r, const char *path, const char *output)
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
	if (r->batch.n_done && !r->args->quiet)
		fprintf(stderr, "sluice batch: %zu of %zu lines are in %s already\n",
			r->batch.n_done, r->batch.n_lines, output);
	return 0;
}

static int run_batch(struct run *r, const char *path, const char *output)
{
	int rc = open_files(r, path, output);

	if (rc)
		return rc;
	if (r->batch.n_done == r->batch.n_lines) {
		r->progress.began_ns = now_ns();
		return report(r, 0);
	}
	rc = http_target_open("batch", &r->args->client, &r->args->http, &r->target);
	if (rc)
		return rc;
	client_note_interrupt();
	rc = make_workers(r);
	if (!rc) {
		r->progress.began_ns = r->shown_ns = r->synced_ns = now_ns();
		r->progress.bytes_before = r->batch.bytes_done;
		rc = work(r);
		clear(r);
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
	struct run r = { .args = &args,
			 .terminal = isatty(STDERR_FILENO),
			 .batch = { .in = -1, .out = -1 } };
	const char *path;
	char *own = NULL;
	int rc = input_args("FILE.jsonl [options]", options, ARRAY_LEN(options), argc, argv, &args,
			    &args.help, &path);

	if (rc >= 0)
		return rc;
	if (!path) {
		fprintf(stderr, "sluice batch: a file of requests is needed; sluice help batch\n");
		return EXIT_USAGE;
	}
	if (!args.output)
		own = default_output(path);
	rc = args.output || own ? run_batch(&r, path, args.output ? args.output : own)
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
